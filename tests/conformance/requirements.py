"""What RFC 4605, 3376, 3810 (with their revisions 9776 and 9777), 2236, 2710, 4604 and practice ask of a proxy, by id.

`docs/reference/conformance.md` is printed from here and from the tests that `covers` an id; every id has one.
"""

from __future__ import annotations

SECTIONS = {
    "PKT": "Packets and their validation (IGMP)",
    "QRY": "Queries on the downstreams",
    "ELE": "Querier election and adoption of its numbers",
    "MEM": "Membership tables",
    "OLD": "Older hosts",
    "LEA": "Leaves",
    "DB": "The membership database",
    "UP": "The host side, upstream",
    "FWD": "Forwarding",
    "SSM": "Source-specific groups",
    "MLD": "Where MLD differs",
    "ROB": "Robustness",
}

_TEXT = """
PKT-01 sent as IP protocol 2 with TTL 1 | RFC 3376 4
PKT-02 Router Alert on everything sent | RFC 3376 4, RFC 2113
PKT-03 precedence Internetwork Control on queries and reports | RFC 3376 4
PKT-04 checksum verified before anything else | RFC 3376 4.1.2
PKT-05 unknown types ignored | RFC 3376 4
PKT-06 fewer than 8 octets dropped | RFC 2236
PKT-07 query version told by its length | RFC 3376 7.1
PKT-08 Max Resp Code of 128 and more is a float | RFC 3376 4.1.1
PKT-09 in an 8-octet query the code is linear | RFC 3376 7.2.1
PKT-10 QQIC is the same float, in seconds | RFC 3376 4.1.7
PKT-11 times without code written as the next lower one | RFC 3376 8.8
PKT-12 QRV carries robustness, 0 above 7 | RFC 3376 4.1.6
PKT-13 reserved bits sent 0 and ignored | RFC 3376 4.1.4
PKT-14 octets after the sources of a query summed and ignored | RFC 3376 4.1.10
PKT-15 a source count beyond the packet discards the query | RFC 3376 4.1.8
PKT-16 queries split at the MTU | RFC 3376 4.1.8
PKT-17 general queries to 224.0.0.1, specific ones to the group | RFC 3376 4.1.12
PKT-18 queries to any of our addresses accepted | RFC 3376 4.1.12
PKT-19 general queries to another group not answered | RFC 3376 9.1
PKT-20 Router Alert may be required on receipt | RFC 3376 9.1
PKT-21 auxiliary data skipped | RFC 3376 4.2.10
PKT-22 octets after the last record summed and ignored | RFC 3376 4.2.11
PKT-23 unknown record types skipped | RFC 3376 4.2.12
PKT-24 records beyond the packet discard all of it | decided here
PKT-25 a report without records is legal | RFC 3376 4.2.3
PKT-26 records of no group, or with no source, skipped | decided here
PKT-27 reports from 0.0.0.0 accepted | RFC 3376 4.2.13
PKT-28 reports from foreign subnets refused | RFC 3376 9.2
PKT-29 where reports and leaves go | RFC 3376 4.2.14
PKT-30 reports split at the MTU, EXCLUDE lists cut | RFC 3376 4.2.16
PKT-31 octets after a v2 message ignored | RFC 2236 2.5
PKT-32 queries from 0.0.0.0 elect nobody | RFC 4541 2.1.1
PKT-33 our own packets ignored | decided here
PKT-34 a TTL above 1 accepted and counted | decided here
QRY-01 router part on every downstream | RFC 4605 3
QRY-02 and never upstream | RFC 4605 3
QRY-03 begins as querier with a query at once | RFC 2236 3
QRY-04 startup queries, then the query interval | RFC 3376 8.6, 8.7
QRY-05 contents of a general query | RFC 3376 4.1
QRY-06 response interval below the query interval | RFC 3376 8.3
QRY-07 robustness 0 refused, 1 warned about | RFC 3376 8.1
QRY-08 queries come from the interface's address, or not at all | RFC 2236 3
QRY-09 Q(G) lowers the group timer and is repeated | RFC 3376 6.6.3.1
QRY-10 S flag of Q(G) from the timer at transmission | RFC 3376 6.6.3.1
QRY-11 Q(G,S) lowers source timers and is repeated | RFC 3376 6.6.3.2
QRY-12 each round tells refreshed sources from others | RFC 3376 6.6.3.2
QRY-13 an answer does not cancel retransmissions | RFC 3376 6.6.3
QRY-14 new questions merge with pending ones | RFC 3376 6.4.2
QRY-15 Q(G) makes the S variant of Q(G,S) superfluous | RFC 3376 6.6.3.2
QRY-16 current-state records ask nothing | RFC 3376 6.1
QRY-17 forwarding goes on while asking | RFC 3376 6.4.2
QRY-18 queries without S lower our timers | RFC 3376 6.6.1
QRY-19 a v2 group query lowers by its own response time | RFC 2236 3
QRY-20 a sequence begun is finished | RFC 2236 3
QRY-21 S suppresses neither election nor answers | RFC 3376 4.1.5
QRY-22 the interface receives what routers are sent | RFC 3376 6
QRY-23 presence decides, not hosts | RFC 3376 6.2
QRY-24 every interval and count configurable | RFC 6636 4
QRY-25 group queries to all hosts, for sleeping ones | RFC 6636 5
ELE-01 a lower address takes over | RFC 3376 6.6.2
ELE-02 a higher one does not | RFC 2236 3
ELE-03 further queries restart the timer | RFC 3376 6.6.2
ELE-04 silence gives the role back | RFC 3376 6.6.2
ELE-05 only general queries elect | RFC 9776 6.6.2
ELE-06 robustness of the elected querier adopted | RFC 3376 4.1.6
ELE-07 interval of the elected querier adopted | RFC 3376 4.1.7
ELE-08 not those of one that lost | decided here
ELE-09 older queries carry no numbers | decided here
ELE-10 a non-querier asks nothing | RFC 2236 3
ELE-11 a non-querier does not forward there, but learns | RFC 4605 3
ELE-12 older versions configured: their queries | RFC 3376 7.3.1
ELE-13 an older query is worth a line | RFC 3376 7.3.1
ELE-14 so is a newer one | RFC 3376 7.3.1
ELE-15 a lost election is reported | RFC 4605 5
MEM-01 row 1: INCLUDE hears IS_IN | RFC 3376 6.4.1
MEM-02 row 2: INCLUDE hears IS_EX | RFC 3376 6.4.1
MEM-03 row 3: EXCLUDE hears IS_IN | RFC 3376 6.4.1
MEM-04 row 4: EXCLUDE hears IS_EX | RFC 3376 6.4.1
MEM-05 row 5: INCLUDE hears ALLOW | RFC 3376 6.4.2
MEM-06 row 6: INCLUDE hears BLOCK | RFC 3376 6.4.2
MEM-07 row 7: INCLUDE hears TO_EX | RFC 3376 6.4.2
MEM-08 row 8: INCLUDE hears TO_IN | RFC 3376 6.4.2
MEM-09 row 9: EXCLUDE hears ALLOW | RFC 3376 6.4.2
MEM-10 row 10: EXCLUDE hears BLOCK | RFC 3376 6.4.2
MEM-11 row 11: EXCLUDE hears TO_EX | RFC 3376 6.4.2
MEM-12 row 12: EXCLUDE hears TO_IN | RFC 3376 6.4.2
MEM-13 a source of INCLUDE runs out | RFC 3376 6.3
MEM-14 a requested source of EXCLUDE runs out | RFC 3376 6.3
MEM-15 EXCLUDE runs out with sources left | RFC 3376 6.5
MEM-16 EXCLUDE runs out without | RFC 3376 6.5
MEM-17 refreshes use the interval in force | RFC 9776 8.4
MEM-18 no group timer in INCLUDE mode | RFC 3376 6.2.2
MEM-19 224.0.0.1 never stored | RFC 3376 5
MEM-20 224.0.0.0/24 never proxied | RFC 5771 4
MEM-21 older reports are IS_EX without sources | RFC 3376 7.3.2
MEM-22 a v2 leave is TO_IN without sources | RFC 3376 7.3.2
MEM-23 a leave without state is ignored | RFC 2236 3
MEM-24 ALLOW and BLOCK without sources say nothing | RFC 3376 6.4.2
MEM-25 IS_IN without sources says nothing | RFC 3376 6.4.1
MEM-26 records of one group apply in order | decided here
MEM-27 limits refuse only what is new | decided here
MEM-28 a link that goes down takes its memberships along | decided here
MEM-29 silence ends a group | RFC 2236 8.4
OLD-01 older host present timers | RFC 3376 7.3.2
OLD-02 the group speaks the oldest version heard | RFC 3376 7.3.2
OLD-03 and returns when the timers end | RFC 3376 7.3.2
OLD-04 v2: BLOCK and the list of TO_EX ignored | RFC 3376 7.3.2
OLD-05 v1: leaves ignored | RFC 3376 7.3.2
OLD-06 v2: IS_IN, IS_EX, ALLOW count | RFC 3376 7.3.2
OLD-07 a v1 host makes leaves ignored for a v2 router | RFC 2236 5
OLD-08 queries keep the configured version | RFC 3376 7.3.1
OLD-09 switches to ignore older reports | RFC 3376 9.2
OLD-10 switch against compatibility modes | RFC 9776 7.3.1
LEA-01 a last leave takes the last member query time | RFC 3376 6.4.2
LEA-02 an answer keeps the group | RFC 2236 3
LEA-03 quick-leave on: at once, and one query all the same | RFC 8652
LEA-04 tracking: at once when the last host left | RFC 6636 3
LEA-05 the same for sources | decided here
LEA-06 lightweight hosts understood | RFC 5790 4.4
LEA-07 lightweight router mode | RFC 5790 5
DB-01 kept per downstream and merged | RFC 4605 4.1
DB-02 older members are EXCLUDE without sources | RFC 4605 4.1
DB-03 requested sources of EXCLUDE do not count | RFC 4605 4.1
DB-04 EXCLUDE lists intersect, INCLUDE lists punch holes | RFC 3376 3.2
DB-05 INCLUDE lists unite | RFC 3376 3.2
DB-06 never EXCLUDE when all are INCLUDE | RFC 3376 3.2
DB-07 merged again on every change | RFC 4605 4.1
DB-08 nothing wanted is no record | RFC 4605 4.1
DB-09 downstreams with another querier contribute | RFC 4605 4.1
DB-10 permanent memberships contribute and never end | decided here
UP-01 exactly one upstream | RFC 4605 3
UP-02 changes said at once | RFC 3376 5.1
UP-03 empty records left out | RFC 3376 5.1
UP-04 copies at random times, as many as robustness says | RFC 3376 5.1
UP-05 further changes merge with pending ones | RFC 3376 5.1
UP-06 mode changes carry the current list | RFC 3376 5.1
UP-07 answers after a random delay | RFC 3376 5.2
UP-08 the five scheduling rules | RFC 3376 5.2
UP-09 general answers in few packets | RFC 3376 5.2
UP-10 specific answers | RFC 3376 5.2
UP-11 nothing about 224.0.0.1, no empty IS_IN | RFC 3376 5
UP-12 older queriers spoken to in their version | RFC 3376 7.2.1
UP-13 older specific queries change nothing | RFC 9776 7.2.1
UP-14 a switch of version cancels what is pending | RFC 3376 7.2.1
UP-15 how long an older querier is remembered | RFC 9776 8.12
UP-16 older versions: presence only | RFC 4605 4.1
UP-17 a v2 join is repeated | RFC 2236 3
UP-18 v2 answers, each after its own delay | RFC 2236 3
UP-19 suppressed by another's report | RFC 2236 3
UP-20 v2 leave when we reported last | RFC 2236 3
UP-21 v1 reports | RFC 1112
UP-22 v3 is never suppressed | RFC 3376 7.2.2
UP-23 the latest version by default | RFC 4605 4.1
UP-24 the source of our reports | RFC 3376 4.2.13
UP-25 everything said again to a new or returning upstream | RFC 4605 1.1
UP-26 everything left on the way out | decided here
UP-27 recorded sources bounded | RFC 3376 9.1
UP-28 only one speaker | decided here
FWD-01 from upstream to subscribed downstreams | RFC 4605 4.2
FWD-02 from a downstream to upstream unasked, and to the others subscribed | RFC 4605 4.2
FWD-03 never back where it came from | RFC 4605 3
FWD-04 nothing where another router is querier | RFC 4605 3
FWD-05 entries follow every change | RFC 4605 4.2
FWD-06 source filters per downstream | RFC 3376 6.3
FWD-07 TTL thresholds | Linux ip_mroute
FWD-08 224.0.0.0/24 never forwarded | RFC 5771 4
FWD-09 nor narrow IPv6 scopes | RFC 4291 2.7
FWD-10 older members get no source-specific traffic | RFC 4605 4.3
FWD-11 loops by configuration refused | RFC 4605 3.1
FWD-12 one router part per network | RFC 3376 6
FWD-13 sources belong to the interface they arrive on | decided here
FWD-14 unwanted traffic costs no upcalls | decided here
FWD-15 permanent entries win and stay | decided here
FWD-16 IGMP and MLD never forwarded | RFC 3376 9.1
SSM-01 the range is configurable | RFC 4604 2
SSM-02 EXCLUDE records ignored | RFC 4604 3.1
SSM-03 older reports ignored | RFC 4604 3.5
SSM-04 older leaves ignored | RFC 4604 3.7
SSM-05 TO_IN as usual | RFC 4604 3.1
SSM-06 upstream hears no EXCLUDE | RFC 4604 2.2.2
SSM-07 older queries for such groups worth a line | RFC 4604 2.2.3
SSM-08 BLOCK asks as usual | RFC 4604 3.3
SSM-09 an older querier worth a line | RFC 4604 3.6
SSM-10 both host and router rules hold | RFC 4605 4.3
MLD-01 ICMPv6 types, link-local source | RFC 3810 5
MLD-02 checksum with pseudo-header | RFC 3810 5.1.2
MLD-03 the three checks on receipt | RFC 3810 6.2
MLD-04 queries from elsewhere dropped | RFC 3810 5.1.14
MLD-05 reports from :: dropped | RFC 3810 5.2.13
MLD-06 reports from :: said again later | RFC 3590
MLD-07 16-bit response code | RFC 3810 5.1.3
MLD-08 query version told by its length | RFC 3810 8.1
MLD-09 MLDv1 delay is linear | RFC 2710 3.4
MLD-10 where messages go | RFC 3810 5.1.15
MLD-11 queries split at the MTU | RFC 3810 5.1.10
MLD-12 lower address is querier | RFC 3810 7.6.2
MLD-13 the same tables | RFC 3810 7.4
MLD-14 MLDv1 hosts | RFC 3810 8.3.2
MLD-15 MLDv1 configured: its queries | RFC 3810 8.3.1
MLD-16 MLDv1 querier upstream | RFC 3810 8.2.1
MLD-17 groups of the link never proxied | RFC 3810 6
MLD-18 an MLDv1 answer may come at once | RFC 2710 4
MLD-19 MLDv1 done | RFC 2710 4
MLD-20 a non-querier and done | RFC 2710 4
MLD-21 all multicast frames received | RFC 3810 7
MLD-22 switch to ignore MLDv1 | RFC 3810 10
MLD-23 the same scheduling rules | RFC 3810 6.2
MLD-24 ff3x::/32 of every scope | RFC 4607
MLD-25 reserved fields and surplus octets | RFC 2710 3
ROB-01 any single loss heals | RFC 3376 8.1
ROB-02 malformed input ends nothing | decided here
ROB-03 access rules on the downstreams | RFC 4605 5
ROB-04 after a restart, what is there is adopted | decided here
ROB-05 time from a monotonic clock | decided here
ROB-06 counters | RFC 8652
"""

TITLES: dict[str, str] = {}
SOURCES: dict[str, str] = {}
for _line in _TEXT.strip().splitlines():
    _id, _, _rest = _line.partition(" ")
    TITLES[_id], SOURCES[_id] = _rest.split(" | ")
