"""What RFC 6241 and its companions ask of a NETCONF server, by id; docs/reference/conformance-netconf.md is printed from here.

A test claims an id with `covers("NC-055")` or by beginning its name with it (`test_nc_055_...`).  `ELSEWHERE` says of what is
not offered that it is not.
"""

from __future__ import annotations

SECTIONS = {
    "Transport and session start": (1, 22),
    "Messages": (30, 41),
    "Reading and filters": (50, 66),
    "Editing": (80, 100),
    "Locks": (110, 118),
    "Confirmed commit": (120, 132),
    "Sessions, notifications, monitoring, library, access": (140, 167),
}

_TEXT = """
NC-001 an SSH subsystem called netconf, on any port | RFC 6242 3
NC-002 the SSH user is the NETCONF user, and nobody is let in unknown | RFC 6242 3
NC-003 the server says hello without waiting for the client | RFC 6241 8.1
NC-004 its hello lists base:1.1 and base:1.0 | RFC 6241 8.1
NC-005 a session-id that no other live session has | RFC 6241 8.1
NC-006 a client that sends a session-id is disconnected | RFC 6241 8.1
NC-007 so is one without a common version | RFC 6241 8.1
NC-008 the highest common version is used | RFC 6241 8.1
NC-009 hellos end with the mark of 1.0 | RFC 6242 4.1
NC-010 chunks afterwards, both ways | RFC 6242 4.2
NC-011 chunks count octets and may split anything | RFC 6242 4.2
NC-012 wrong framing closes the channel | RFC 6242 4.2
NC-013 sizes announced cost nothing | RFC 6242 4.2
NC-014 the mark of 1.0 with clients of 1.0 | RFC 6242 4.3
NC-015 UTF-8 and whatever well-formed XML allows | RFC 6241 3
NC-016 no document types and no entities | RFC 6241 3.2
NC-017 what is not well-formed is answered as its version allows | RFC 6241 A
NC-018 no rpc before hello, no second hello | decided here
NC-019 a hello in time; no limit on idle sessions | decided here
NC-020 close-session ends the session, and nothing behind it is done | RFC 6242 5
NC-021 NETCONF over TLS | RFC 7589
NC-022 answers in the order of requests, which may be pipelined | RFC 6241 4.5
NC-030 message-id comes back unchanged | RFC 6241 4.1
NC-031 so do all attributes and declarations of rpc | RFC 6241 4.2
NC-032 without message-id: missing-attribute | RFC 6241 A
NC-033 a reply is ok, data or errors | RFC 6241 4.2
NC-034 order and content of rpc-error | RFC 6241 4.3
NC-035 the four error types | RFC 6241 4.3
NC-036 tags with their types and mandatory info | RFC 6241 A
NC-037 unknown operations | RFC 6241 A
NC-038 unknown and missing parameters | RFC 6241 A
NC-039 partial-operation is never sent | RFC 6241 A
NC-040 operations of YANG modules | RFC 7950 7.14
NC-041 several errors in one reply | RFC 6241 4.3
NC-050 get-config of running and candidate | RFC 6241 7.1
NC-051 get is configuration and state | RFC 6241 7.7
NC-052 nothing found is empty data | RFC 6241 7.1
NC-053 namespaces in filters, none is any | RFC 6241 6.2.1
NC-054 attributes in filters | RFC 6241 6.2.2
NC-055 containment, selection, content | RFC 6241 6.2.5
NC-056 content with siblings gives those and the key | RFC 6241 6.2.5
NC-057 an empty filter selects nothing | RFC 6241 6.4.2
NC-058 several subtrees are united | RFC 6241 6.4.7
NC-059 other types of filter are refused | RFC 6241 6.1
NC-060 XPath filters | RFC 6241 8.9
NC-061 the four modes of with-defaults | RFC 6243 3
NC-062 another mode is an invalid value | RFC 6243 4.5.1
NC-063 a default in use can be created and not deleted | RFC 6243 2.3
NC-064 get-data of each datastore, with its filters | RFC 8526 3.1.1
NC-065 operational is configuration in use, with origins, and state | RFC 8342 5.3
NC-066 edit-data of what is writable | RFC 8526 3.1.2
NC-080 merge, replace, create, delete, remove | RFC 6241 7.2
NC-081 data-exists and data-missing | RFC 6241 7.2
NC-082 default operations | RFC 6241 7.2
NC-083 keys of lists, order of lists | RFC 6241 7.2, RFC 7950 7.8.6
NC-084 an operation that there is not | RFC 6241 7.2
NC-085 running is not edited, and that is said | RFC 6241 8.2
NC-086 one candidate for all | RFC 6241 8.3
NC-087 a commit is done wholly or not at all | RFC 6241 8.3.4.1
NC-088 no commit past the lock of another | RFC 6241 8.3.4.1
NC-089 test options | RFC 6241 7.2
NC-090 error options | RFC 6241 7.2
NC-091 validate of datastores and of configuration sent along | RFC 6241 8.6
NC-092 constraints wait for validate and commit | RFC 7950 8.3
NC-093 payload errors at once, with their place | RFC 7950 8.3.1
NC-094 copy-config | RFC 6241 7.3
NC-095 delete-config has nothing to delete | RFC 6241 7.4
NC-096 a commit is there after a restart, without startup | RFC 6241 8.7
NC-097 no URLs | RFC 6241 8.8
NC-098 discard-changes, unless another holds the lock | RFC 6241 8.3.4.2
NC-099 a commit without changes is nothing | decided here
NC-100 the kernel is part of the transaction | decided here
NC-110 a lock keeps others from writing, not from reading | RFC 6241 7.5
NC-111 a second lock is refused with the holder | RFC 6241 7.5
NC-112 a changed candidate is not locked | RFC 6241 7.5
NC-113 nor running while another's commit waits | RFC 6241 7.5
NC-114 a lock ends with its session, however that ends | RFC 6241 7.5
NC-115 and takes the uncommitted changes with it | RFC 6241 8.3.5.2
NC-116 only the holder unlocks | RFC 6241 7.6
NC-117 there is no way in beside the sessions | RFC 6241 7.5
NC-118 locks on parts | RFC 5717
NC-120 a confirmed commit reverts after 600 s | RFC 6241 8.4
NC-121 or after the time that it names | RFC 6241 8.4
NC-122 confirmed, it stays | RFC 6241 8.4
NC-123 a follow-up has its own time and the first rollback | RFC 6241 8.4
NC-124 without persist only its session goes on | RFC 6241 8.4
NC-125 and losing the session reverts | RFC 6241 8.4
NC-126 with persist any session goes on that knows the token | RFC 6241 8.4
NC-127 a token that nobody waits for | RFC 6241 8.4
NC-128 cancel-commit | RFC 6241 8.4
NC-129 killing the owner reverts | RFC 6241 7.9
NC-130 so does a restart, in every case | RFC 6241 8.4
NC-131 the candidate after a revert; who is told | decided here
NC-132 confirmed commits are offered with the candidate | RFC 6241 8.4
NC-140 kill-session | RFC 6241 7.9
NC-141 create-subscription | RFC 5277 2.1.1
NC-142 subscriptions that are refused | RFC 5277 2.1.1
NC-143 what a notification looks like | RFC 5277 2.2.1
NC-144 replay and its end | RFC 5277 3.3
NC-145 operations go on beside a subscription | RFC 5277 6
NC-146 the list of streams | RFC 5277 3.2.5.1
NC-147 sessions, changes, confirmed commits and capabilities are told | RFC 6470
NC-148 subscriptions to single nodes | RFC 8641
NC-150 /netconf-state | RFC 6022 2.1
NC-151 get-schema | RFC 6022 3.1
NC-152 modules that are only imported are there too | RFC 6022
NC-155 the older form of the YANG library | RFC 7950 5.6.4
NC-156 the YANG library | RFC 8525
NC-157 modules of YANG 1.0 in the hello | RFC 7950 5.6.4
NC-160 what applies without rules | RFC 8341 3.5.1
NC-161 kill-session and delete-config need a rule | RFC 8341 3.2.7
NC-162 what may not be read is not there | RFC 8341 3.2.4
NC-163 an edit that is denied changes nothing and gives nothing away | RFC 8341 3.2.5
NC-164 a commit is judged by what differs | RFC 8341 3.2.8
NC-165 rules in order, the first that matches | RFC 8341 3.4
NC-166 root repairs what the rules broke | RFC 8341 3.3.3
NC-167 refusals are counted | RFC 8341 3.5.1
"""

TITLES: dict[str, str] = {}
SOURCES: dict[str, str] = {}
for _line in _TEXT.strip().splitlines():
    _id, _, _rest = _line.partition(" ")
    TITLES[_id], SOURCES[_id] = _rest.split(" | ")

ELSEWHERE = {
    "NC-021": "not offered: OpenSSH is the door",
    "NC-060": "not offered, and not announced",
    "NC-118": "not offered, and not announced",
    "NC-148": "not offered: the stream NETCONF is all there is",
}
