"""Section 4 of the requirements: membership tables, older hosts, leaves (RFC 3376 6.4, 6.2, 7.3)."""

from __future__ import annotations

import pytest

from igmpconf.engine.groupstate import GroupState
from tests.kit.builders import ALLOW, BLOCK, G2, IS_EX, IS_IN, S1, S2, S3, S4, TO_EX, TO_IN, G, asks, packed, record, route, says, unroute
from tests.kit.conformance import covers
from tests.kit.playbook import Play, a_proxy

GMI, GT, OLD = 270_000, 100_000, 50_000  # membership interval; what the group timer and source timers have left


def a_state(mode: str, wanted: str, blocked: str = "") -> GroupState:
    """Sources are letters; those wanted run until OLD, the group until GT."""
    state = GroupState(packed(G), 0)
    state.exclude, state.exclude_until_ms = mode == "EX", GT if mode == "EX" else 0
    state.wanted = {letter.encode(): OLD for letter in wanted}
    state.blocked = {letter.encode() for letter in blocked}
    return state


def shown(state: GroupState) -> tuple[str, dict[str, int], str, int | None]:
    wanted = {one.decode(): at_ms for one, at_ms in sorted(state.wanted.items())}
    return ("EX" if state.exclude else "IN", wanted, "".join(sorted(one.decode() for one in state.blocked)), state.exclude_until_ms if state.exclude else None)


def letters(text: str) -> frozenset[bytes]:
    return frozenset(letter.encode() for letter in text)


ROWS = [
    # id, (mode, wanted, blocked), kind, listed, expected state, group asked, sources asked
    ("MEM-01 T1", ("IN", "ab"), IS_IN, "bc", ("IN", {"a": OLD, "b": GMI, "c": GMI}, "", None), False, ""),
    ("MEM-02 T2", ("IN", "ab"), IS_EX, "bc", ("EX", {"b": OLD}, "c", GMI), False, ""),
    ("MEM-03 T3", ("EX", "ab", "cd"), IS_IN, "bce", ("EX", {"a": OLD, "b": GMI, "c": GMI, "e": GMI}, "d", GT), False, ""),
    ("MEM-04 T4", ("EX", "ab", "cd"), IS_EX, "bce", ("EX", {"b": OLD, "e": GMI}, "c", GMI), False, ""),
    ("MEM-05 T5", ("IN", "ab"), ALLOW, "bc", ("IN", {"a": OLD, "b": GMI, "c": GMI}, "", None), False, ""),
    ("MEM-06 T6", ("IN", "ab"), BLOCK, "bc", ("IN", {"a": OLD, "b": OLD}, "", None), False, "b"),
    ("MEM-07 T7", ("IN", "ab"), TO_EX, "bc", ("EX", {"b": OLD}, "c", GMI), False, "b"),
    ("MEM-08 T8", ("IN", "ab"), TO_IN, "bc", ("IN", {"a": OLD, "b": GMI, "c": GMI}, "", None), False, "a"),
    ("MEM-09 T9", ("EX", "ab", "cd"), ALLOW, "bce", ("EX", {"a": OLD, "b": GMI, "c": GMI, "e": GMI}, "d", GT), False, ""),
    ("MEM-10 T10", ("EX", "ab", "cd"), BLOCK, "bce", ("EX", {"a": OLD, "b": OLD, "e": GT}, "cd", GT), False, "be"),
    ("MEM-11 T11", ("EX", "ab", "cd"), TO_EX, "bce", ("EX", {"b": OLD, "e": GT}, "c", GMI), False, "be"),
    ("MEM-12 T12", ("EX", "ab", "cd"), TO_IN, "bce", ("EX", {"a": OLD, "b": GMI, "c": GMI, "e": GMI}, "d", GT), True, "a"),
]


@covers("MLD-13")
@pytest.mark.parametrize(("before", "kind", "listed", "after", "asked"), [pytest.param(*row[1:5], row[5:], id=row[0]) for row in ROWS])
def test_a_record_changes_the_state_as_the_table_says(before, kind, listed, after, asked):
    state = a_state(*before)
    was = state.membership()
    outcome = state.apply(kind, letters(listed), GMI)
    assert shown(state) == after
    assert (outcome.group, outcome.sources) == (asked[0], letters(asked[1]))
    assert outcome.changed is (state.membership() != was)


EXPIRIES = [
    ("MEM-13 E1", ("IN", "ab"), {"a": 10}, None, ("IN", {"b": OLD}, "", None)),
    ("MEM-13 E1 last source", ("IN", "a"), {"a": 10}, None, ("IN", {}, "", None)),
    ("MEM-14 E2", ("EX", "ab", "c"), {"a": 10}, None, ("EX", {"b": OLD}, "ac", GT)),
    ("MEM-15 E3", ("EX", "ab", "c"), {}, 10, ("IN", {"a": OLD, "b": OLD}, "", None)),
    ("MEM-16 E4", ("EX", "", "c"), {}, 10, ("IN", {}, "", None)),
]


@pytest.mark.parametrize(("before", "ends", "group_ends", "after"), [pytest.param(*row[1:], id=row[0]) for row in EXPIRIES])
def test_a_timer_that_runs_out_changes_the_state_as_the_table_says(before, ends, group_ends, after):
    state = a_state(*before)
    for source, at_ms in ends.items():
        state.wanted[source.encode()] = at_ms
    if group_ends is not None:
        state.exclude_until_ms = group_ends
    assert not state.expire(9)
    assert state.expire(10)
    assert shown(state) == after


@pytest.fixture
def play() -> Play:
    """Querier on lan0 and lan1, startup long over, quick-leave off: the plain RFC."""
    return a_proxy("wan", "lan0", "lan1", quick_leave="off").at(s=300).forget()


@covers("MEM-17", "MEM-29")
def test_silence_for_the_membership_interval_ends_a_group(play):
    play.on("lan0", record(IS_EX, G)).at(ms=300_000 + 269_999)
    assert play.group("lan0", G) is not None
    play.forget().advance(ms=1)
    assert sorted(line for line in play.seen() if "query" not in line) == sorted([says("wan", (TO_IN, G)), unroute("*", G)])
    assert play.group("lan0", G) is None


@covers("MEM-17")
def test_the_membership_interval_follows_the_configured_numbers():
    play = a_proxy("wan", {"interface": "lan0", "query-interval": "60s", "query-response-interval": "5s", "robustness": 3})
    play.on("lan0", record(IS_EX, G))
    assert play.group("lan0", G).expires_s == 3 * 60 + 2 * 5


@covers("MEM-18")
def test_include_mode_has_no_group_timer(play):
    play.on("lan0", record(IS_IN, G, S1))
    assert play.group("lan0", G).expires_s is None


@covers("MEM-19", "MEM-20", "UP-11", "FWD-08")
@pytest.mark.parametrize("group", ["224.0.0.1", "224.0.0.22", "224.0.0.251"])
def test_groups_of_the_link_are_never_proxied(play, group):
    play.on("lan0", record(TO_EX, group), record(IS_IN, group, S1)).on("lan0", record(IS_EX, group), version=2).expect()
    assert play.group("lan0", group) is None


@covers("MEM-21")
@pytest.mark.parametrize("version", [1, 2])
def test_an_older_report_is_a_membership_of_every_source(play, version):
    play.on("lan0", record(IS_EX, G), version=version)
    row = play.group("lan0", G)
    assert (row.mode, row.sources, row.excluded, row.expires_s) == ("exclude", (), (), 270)


@covers("MEM-22")
def test_a_v2_leave_in_v3_mode_is_a_leave(play):
    play.on("lan0", record(TO_EX, G)).forget().on("lan0", record(TO_IN, G), version=2).expect(asks("lan0", G))


@covers("MEM-23")
def test_a_leave_of_what_nobody_holds_is_ignored(play):
    play.on("lan0", record(TO_IN, G), record(BLOCK, G2, S1)).on("lan0", record(TO_IN, G), version=2).expect()


@covers("MEM-24", "MEM-25")
@pytest.mark.parametrize("kind", [ALLOW, BLOCK, IS_IN])
def test_records_without_sources_say_nothing(play, kind):
    play.on("lan0", record(kind, G)).expect()
    assert play.group("lan0", G) is None
    play.on("lan0", record(TO_EX, G, S1)).forget()
    before = play.group("lan0", G)
    play.on("lan0", record(kind, G)).expect()
    assert play.group("lan0", G) == before


@covers("MEM-26")
def test_records_of_one_group_apply_in_order(play):
    play.on("lan0", record(IS_IN, G, S1), record(TO_EX, G, S2), record(ALLOW, G, S2))
    row = play.group("lan0", G)
    assert (row.mode, [str(one.address) for one in row.sources], row.excluded) == ("exclude", [S2], ())


@covers("MEM-27")
def test_limits_refuse_what_is_new_and_keep_what_is_there():
    play = a_proxy("wan", {"interface": "lan0", "max-groups": 1, "max-sources-per-group": 2}).at(s=300)
    play.on("lan0", record(IS_IN, G, S1, S2)).forget()
    play.on("lan0", record(IS_IN, G2, S1)).expect()
    assert play.group("lan0", G2) is None
    assert play.counter("lan0", "rejected-group-limit") == 1
    play.on("lan0", record(ALLOW, G, S3)).expect()
    assert play.counter("lan0", "rejected-source-limit") == 1
    play.advance(s=100).on("lan0", record(IS_IN, G, S1, S2, S3))
    assert {str(one.address): one.expires_s for one in play.group("lan0", G).sources} == {S1: 270, S2: 270}
    assert len(play.noted("limit/groups")) == 1
    assert len(play.noted("limit/sources")) >= 1


@covers("MEM-28")
def test_a_link_that_goes_down_takes_its_memberships_along(play):
    play.on("lan0", record(IS_EX, G)).on("lan1", record(IS_EX, G2)).advance(s=5).forget()
    play.plug("lan0", up=False).expect(route("*", "*", "wan", "lan1", "wan"), unroute("*", G), says("wan", (TO_IN, G)))
    play.plug("lan0").expect(route("*", "*", "wan", "lan0", "lan1", "wan"), asks("lan0"))
    assert play.group("lan0", G) is None
    assert play.group("lan1", G2) is not None


# -- older hosts -------------------------------------------------------------------------------------------------------


@covers("OLD-01", "OLD-02", "OLD-03")
def test_the_group_speaks_the_oldest_version_heard_lately(play):
    play.on("lan0", record(IS_EX, G), version=2)
    assert play.group("lan0", G).version == 2
    play.advance(s=100).on("lan0", record(IS_EX, G), version=1, host=101)
    assert play.group("lan0", G).version == 1
    play.advance(s=100).on("lan0", record(IS_EX, G), version=2)
    play.advance(s=100).on("lan0", record(IS_EX, G), host=102)
    play.advance(ms=59_999)
    assert play.group("lan0", G).version == 1
    play.advance(ms=1)
    assert play.group("lan0", G).version == 2, "the v1 timer has run out after 260 s, the v2 timer has 100 s left"
    play.advance(s=100)
    assert play.group("lan0", G).version == 3


@covers("OLD-04", "DB-02")
def test_in_v2_mode_block_and_the_list_of_to_ex_are_ignored(play):
    play.on("lan0", record(IS_EX, G), version=2).forget()
    play.on("lan0", record(BLOCK, G, S1), host=101).expect()
    play.on("lan0", record(TO_EX, G, S1, S2), host=101).expect()
    assert play.group("lan0", G).excluded == ()
    assert play.group("lan0", G).sources == ()


@covers("OLD-05", "OLD-07")
@pytest.mark.parametrize("version", [2, 3])
def test_in_v1_mode_leaves_are_ignored(play, version):
    play.on("lan0", record(IS_EX, G), version=1).forget()
    play.on("lan0", record(TO_IN, G), version=version, host=101).expect()
    assert play.group("lan0", G).expires_s == 270


@covers("OLD-06")
def test_in_v2_mode_allow_and_is_in_still_count(play):
    play.on("lan0", record(IS_EX, G, S1), host=101).on("lan0", record(IS_EX, G, S1, S2), host=102)
    play.on("lan0", record(TO_EX, G2, S1, S2), host=102)
    play.on("lan0", record(IS_EX, G2), version=2)
    assert play.group("lan0", G2).excluded == ()
    play.on("lan0", record(IS_EX, G2, S1), host=103)
    assert [str(one.address) for one in play.group("lan0", G2).sources] == [S1], "the list of IS_EX is not stripped"
    play.on("lan0", record(ALLOW, G2, S3), host=103).on("lan0", record(IS_IN, G2, S4), host=103)
    assert {str(one.address) for one in play.group("lan0", G2).sources} == {S1, S3, S4}


@covers("OLD-08")
def test_queries_keep_the_configured_version_whatever_hosts_speak(play):
    play.on("lan0", record(IS_EX, G), version=2).forget()
    play.on("lan0", record(TO_IN, G), version=2).expect(asks("lan0", G, version=3))


# -- leaves ------------------------------------------------------------------------------------------------------------


@covers("LEA-01", "QRY-09", "QRY-17", "R063")
def test_the_last_leave_takes_the_last_member_query_time(play):
    play.on("lan0", record(TO_EX, G)).advance(s=5).forget()
    play.on("lan0", record(TO_IN, G)).expect(asks("lan0", G))
    play.advance(ms=999).expect()
    play.advance(ms=1).expect(asks("lan0", G))
    play.advance(ms=999).expect()
    play.advance(ms=1).expect(unroute("*", G), says("wan", (TO_IN, G)))


@covers("LEA-02", "QRY-13", "QRY-10")
def test_an_answer_keeps_the_group_and_the_second_query_says_so(play):
    play.on("lan0", record(TO_EX, G)).advance(s=5).forget()
    play.on("lan0", record(TO_IN, G)).expect(asks("lan0", G))
    play.advance(ms=500).on("lan0", record(IS_EX, G), host=101).expect()
    play.advance(ms=500).expect(asks("lan0", G, suppress=True))
    assert play.group("lan0", G).expires_s == 270
    play.advance(s=10).expect()


@covers("LEA-03")
def test_quick_leave_ends_the_stream_at_once_and_still_asks_once():
    play = a_proxy("wan", {"interface": "lan0", "quick-leave": "on"}).at(s=300)
    play.on("lan0", record(TO_EX, G)).on("lan0", record(IS_EX, G), host=101).advance(s=5).forget()
    play.on("lan0", record(TO_IN, G)).expect(asks("lan0", G), unroute("*", G), says("wan", (TO_IN, G)))
    play.on("lan0", record(IS_EX, G), host=101).expect(route("*", G, "wan", "lan0", "wan"), says("wan", (TO_EX, G)))


@covers("LEA-03", "LEA-05")
def test_quick_leave_of_a_source_ends_it_at_once():
    play = a_proxy("wan", {"interface": "lan0", "quick-leave": "on"}).at(s=300)
    play.on("lan0", record(ALLOW, SSM_G, S1, S2)).advance(s=5).forget()
    play.on("lan0", record(BLOCK, SSM_G, S1)).expect(asks("lan0", SSM_G, S1), unroute(S1, SSM_G), says("wan", (BLOCK, SSM_G, S1)))


SSM_G = "232.5.5.5"


@covers("LEA-04")
def test_tracked_hosts_leave_at_once_when_nobody_else_is_left():
    play = a_proxy("wan", "lan0").at(s=300)
    play.on("lan0", record(TO_EX, G)).on("lan0", record(TO_EX, G), host=101).advance(s=5).forget()
    play.on("lan0", record(TO_IN, G)).expect()
    assert play.group("lan0", G).hosts == 1
    play.on("lan0", record(TO_IN, G), host=101).expect(asks("lan0", G), unroute("*", G), says("wan", (TO_IN, G)))


@covers("LEA-04")
def test_tracking_is_not_trusted_where_an_older_host_may_hide():
    play = a_proxy("wan", "lan0").at(s=300)
    play.on("lan0", record(IS_EX, G), version=2).on("lan0", record(TO_EX, G), host=101).advance(s=5).forget()
    play.on("lan0", record(TO_IN, G), host=101).expect(asks("lan0", G))
    play.advance(s=1).expect(asks("lan0", G))


@covers("LEA-04")
def test_tracking_is_not_trusted_before_hosts_had_time_to_answer():
    play = a_proxy("wan", "lan0")
    play.on("lan0", record(TO_EX, G)).advance(s=5).forget()
    play.on("lan0", record(TO_IN, G)).expect(asks("lan0", G))


@covers("LEA-05")
@pytest.mark.parametrize("other_wants", [True, False])
def test_tracked_sources_end_at_once_when_nobody_else_wants_them(other_wants):
    play = a_proxy("wan", "lan0").at(s=300)
    play.on("lan0", record(ALLOW, SSM_G, S1, S2)).on("lan0", record(ALLOW, SSM_G, *([S1, S2] if other_wants else [S2])), host=101).advance(s=5).forget()
    play.on("lan0", record(BLOCK, SSM_G, S1))
    play.expect(*([] if other_wants else [asks("lan0", SSM_G, S1), unroute(S1, SSM_G), says("wan", (BLOCK, SSM_G, S1))]))


@covers("LEA-06")
def test_lightweight_hosts_answer_with_change_records(play):
    play.on("lan0", record(TO_EX, G), record(ALLOW, SSM_G, S1)).advance(s=100).on("lan0", record(TO_EX, G), record(ALLOW, SSM_G, S1))
    assert play.group("lan0", G).expires_s == 270
    assert [one.expires_s for one in play.group("lan0", SSM_G).sources] == [270]


def test_leaving_one_of_several_sources_keeps_the_group(play):
    play.on("lan0", record(TO_IN, G, S1, S2)).advance(s=5).forget()
    play.on("lan0", record(TO_IN, G, S2)).expect(asks("lan0", G, S1))
    play.advance(s=1).expect(asks("lan0", G, S1))
    play.advance(s=1).expect(unroute(S1, G), says("wan", (BLOCK, G, S1)))
    assert [str(one.address) for one in play.group("lan0", G).sources] == [S2]
