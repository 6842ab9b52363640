"""Sections 5 and 6 of the requirements: the merged database and the host side (RFC 4605 4.1, RFC 3376 5, 7.2)."""

from __future__ import annotations

import itertools

import pytest

from igmpconf.engine.effects import SendPacket
from igmpconf.engine.messages import Record
from tests.kit.builders import ALLOW, BLOCK, G2, IS_EX, IS_IN, S1, S2, S3, S4, TO_EX, TO_IN, G, a_query, asks, config, leaves, packed, record, route, says, vif
from tests.kit.conformance import covers
from tests.kit.playbook import Play, a_proxy


@pytest.fixture
def play() -> Play:
    return a_proxy("wan", "lan0", "lan1", "lan2", quick_leave="on").at(s=300).forget()


def upstream(play: Play) -> list[str]:
    return play.seen(containing="wan> ")


def times(play: Play, interface: str = "wan") -> list[int]:
    return [at_ms for at_ms, effect in play.effects if isinstance(effect, SendPacket) and effect.ifindex == play.names[interface]]


def database(play: Play) -> dict[str, tuple[str, list[str]]]:
    return {str(row.group): (row.mode, [str(one) for one in row.sources]) for row in play.engine.snapshot(play.now_ms).upstream}


# -- the database --------------------------------------------------------------------------------------------------------


@covers("DB-01", "DB-02", "R026")
def test_a_v2_member_and_an_include_make_everything(play):
    play.on("lan0", record(IS_EX, G), version=2).on("lan1", record(IS_IN, G, S1, S2))
    assert database(play) == {G: ("exclude", [])}


@covers("DB-03", "DB-07")
def test_requested_sources_of_exclude_mode_do_not_count_until_they_run_out(play):
    play.on("lan0", record(TO_EX, G, S1)).on("lan0", record(ALLOW, G, S1))
    assert database(play) == {G: ("exclude", [])}
    play.advance(s=2).forget().on("lan0", record(BLOCK, G, S1))
    assert upstream(play) == [says("wan", (BLOCK, G, S1))]
    assert database(play) == {G: ("exclude", [S1])}


@covers("DB-04")
def test_excludes_intersect_and_includes_punch_holes(play):
    a, b, c, d, e, f = (f"192.0.2.{n}" for n in range(1, 7))
    play.on("lan0", record(IS_EX, G, a, b, c, d)).on("lan1", record(IS_EX, G, b, c, d, e)).on("lan2", record(IS_IN, G, d, e, f))
    assert database(play) == {G: ("exclude", [b, c])}


@covers("DB-05", "DB-06")
def test_includes_unite(play):
    play.on("lan0", record(IS_IN, G, S1, S2, S3)).on("lan1", record(IS_IN, G, S2, S3, S4))
    assert database(play) == {G: ("include", [S1, S2, S3, S4])}


@covers("DB-08")
def test_nothing_wanted_is_no_record(play):
    play.on("lan0", record(IS_IN, G, S1)).on("lan0", record(BLOCK, G, S1))
    assert database(play) == {}


@covers("DB-10", "FWD-15")
def test_permanent_memberships_need_no_host_and_never_end():
    play = Play()
    play.configure(
        config(
            "wan",
            {"interface": "lan0", "static-groups": [G, {"group": "232.1.1.1", "source": S1}]},
            mfc=[
                {"source": "192.168.100.5", "group": "239.255.1.1", "downstream-interface": "lan0"},
                {"source": S2, "group": "239.255.1.2", "downstream-interface": "lan0", "join": False},
            ],
        )
    )
    play.plug("wan").plug("lan0").found().at(s=3_000)
    assert database(play) == {G: ("exclude", []), "232.1.1.1": ("include", [S1]), "239.255.1.1": ("include", ["192.168.100.5"])}
    routes = play.seen(containing="route")
    assert route("*", G, "wan", "lan0", "wan") in routes
    assert route("192.168.100.5", "239.255.1.1", "wan", "lan0") in routes
    assert route(S2, "239.255.1.2", "wan", "lan0") in routes


# -- changes -------------------------------------------------------------------------------------------------------------


@covers("UP-02", "UP-03", "R022", "R023")
@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (record(IS_IN, G, S1, S2), record(IS_IN, G, S1, S2, S3), (ALLOW, G, S3)),
        (record(IS_IN, G, S1), record(IS_EX, G, S2), (TO_EX, G, S2)),
        (record(IS_EX, G, S1), record(IS_IN, G, S1), (ALLOW, G, S1)),
        (record(IS_EX, G, S1, S2), record(TO_EX, G, S2), (ALLOW, G, S1)),
        (record(IS_EX, G), record(BLOCK, G, S1), (BLOCK, G, S1)),
        (record(IS_EX, G, S1), record(TO_IN, G, S2), (TO_IN, G, S2)),
        (record(IS_IN, G, S1, S2), record(TO_IN, G, S1), (BLOCK, G, S2)),
        (record(IS_IN, G, S1), record(BLOCK, G, S1), (BLOCK, G, S1)),
    ],
)
def test_every_change_is_said_at_once(play, before, after, said):
    play.on("lan0", before).advance(s=5).forget()
    play.on("lan0", after)
    assert upstream(play) == [says("wan", said)]


@covers("UP-03")
def test_allow_and_block_share_a_report(play):
    play.on("lan0", record(IS_IN, G, S1)).advance(s=5).forget()
    play.on("lan0", record(TO_IN, G, S2))
    assert upstream(play) == [says("wan", (ALLOW, G, S2), (BLOCK, G, S1))]


@covers("UP-04", "UP-11")
def test_a_change_is_said_robustness_times_within_the_unsolicited_interval():
    play = a_proxy({"interface": "wan", "robustness": 3}, "lan0", draw=lambda n: n // 3).at(s=300).forget()
    play.on("lan0", record(TO_EX, G)).advance(s=20)
    assert upstream(play) == [says("wan", (TO_EX, G))] * 3
    assert [at_ms - 300_000 for at_ms in times(play)] == [0, 300, 600]  # 333 drawn each time; copies gather at shared moments, never later


@covers("UP-04")
def test_the_robustness_of_the_upstream_querier_counts(play):
    play.on("wan", a_query(robustness=4), host=2).forget()
    play.on("lan0", record(TO_EX, G)).advance(s=5)
    assert upstream(play).count(says("wan", (TO_EX, G))) == 4


@covers("UP-05")
def test_a_change_while_copies_are_pending_is_merged_and_said_at_once(play):
    play.on("lan0", record(ALLOW, G, S1)).advance(ms=300).forget()
    play.on("lan0", record(ALLOW, G, S2))
    assert upstream(play) == [says("wan", (ALLOW, G, S1, S2))]
    play.advance(s=5)
    assert upstream(play) == [says("wan", (ALLOW, G, S2))]


@covers("UP-06")
def test_mode_changes_carry_the_current_list_then_source_changes_go_on(play):
    play.on("lan0", record(TO_EX, G, S1)).advance(ms=300)
    assert upstream(play) == [says("wan", (TO_EX, G, S1))]
    play.on("lan0", record(ALLOW, G, S1))
    assert upstream(play) == [says("wan", (TO_EX, G))]
    play.advance(s=5)
    assert upstream(play) == [says("wan", (ALLOW, G, S1))]


# -- answers ---------------------------------------------------------------------------------------------------------------


@covers("UP-07")
def test_answers_wait_for_the_drawn_delay_and_never_come_at_once():
    drawn = []

    def draw(n: int) -> int:
        drawn.append(n)
        return 1

    play = a_proxy("wan", "lan0", draw=draw).at(s=300)
    play.on("lan0", record(TO_EX, G)).advance(s=5).forget()
    drawn.clear()
    play.on("wan", a_query(max_response_ms=10_000), host=2).expect()
    assert drawn == [10_000]
    play.advance(ms=1).expect(says("wan", (IS_EX, G)))


@covers("UP-08", "MLD-23")
def test_the_five_rules_of_scheduling():
    delays: list[int] = []
    play = a_proxy("wan", "lan0", draw=lambda n: delays.pop(0) if delays else n).at(s=300)
    play.on("lan0", record(ALLOW, G, S1, S2), record(TO_EX, G2)).advance(s=5).forget()

    # 3: a specific query is scheduled; 5: another's sources are united with it, at the earlier time
    delays[:] = [500, 300]
    play.on("wan", a_query(G, S1, max_response_ms=1_000), host=2).on("wan", a_query(G, S2, max_response_ms=1_000), host=2)
    play.advance(ms=299).expect()
    play.advance(ms=1).expect(says("wan", (IS_IN, G, S1, S2)))
    play.advance(s=2).expect()

    # 4: the whole group is asked for while sources are pending; the answer is whole, at the earlier time
    delays[:] = [200, 900]
    play.on("wan", a_query(G, S1, max_response_ms=1_000), host=2).on("wan", a_query(G, max_response_ms=1_000), host=2)
    play.advance(ms=200).expect(says("wan", (IS_IN, G, S1, S2)))
    play.advance(s=2).expect()

    # 2: a general query is scheduled; 1: a specific one later than it needs no answer of its own
    delays[:] = [400, 700]
    play.on("wan", a_query(max_response_ms=1_000), host=2).on("wan", a_query(G, max_response_ms=1_000), host=2)
    play.advance(ms=400).expect(says("wan", (IS_IN, G, S1, S2), (IS_EX, G2)))
    play.advance(s=2).expect()


@covers("UP-09", "R025", "R026")
def test_a_general_query_is_answered_with_few_packets(play):
    groups = [(0xEF010000 + n).to_bytes(4) for n in range(500)]
    play.on("lan0", *[Record(IS_EX, group) for group in groups]).advance(s=5).forget()
    play.on("wan", a_query(), host=2).advance(s=10)
    answers = [effect for at_ms, effect in play.effects if isinstance(effect, SendPacket) and at_ms == play.now_ms and effect.ifindex == 1]
    assert len(answers) == 3
    records = [one for effect in answers for one in play.family.decode(effect.payload, packed("10.1.0.1"), None, 1, True).records]
    assert sorted(one.group for one in records) == groups


@covers("UP-10", "UP-11", "R025")
@pytest.mark.parametrize(
    ("held", "asked", "answer"),
    [
        (record(IS_IN, G, S1, S2), a_query(G), (IS_IN, G, S1, S2)),
        (record(IS_EX, G, S1), a_query(G), (IS_EX, G, S1)),
        (record(IS_IN, G, S1, S2), a_query(G, S2, S3), (IS_IN, G, S2)),
        (record(IS_EX, G, S1), a_query(G, S1, S2), (IS_IN, G, S2)),
        (record(IS_IN, G, S1), a_query(G, S2), None),
        (record(IS_EX, G, S1), a_query(G, S1), None),
        (record(IS_EX, G2), a_query(G), None),
    ],
)
def test_a_specific_query_is_answered_about_what_it_asks(play, held, asked, answer):
    play.on("lan0", held).advance(s=5).forget()
    play.on("wan", asked, host=2).advance(s=11)
    assert upstream(play) == ([says("wan", answer)] if answer else [])


@covers("UP-27")
def test_recorded_sources_are_bounded(play):
    play.on("lan0", record(IS_IN, G, S1, S2)).advance(s=5).forget()
    for n in range(5):
        play.on("wan", a_query(G, *[f"10.7.{n}.{i}" for i in range(1, 251)], S2, max_response_ms=10_000), host=2)
    assert len(play.engine.upstream.host.groups[packed(G)].asked_sources or ()) <= 1_000
    play.advance(s=11)
    assert upstream(play) == [says("wan", (IS_IN, G, S1, S2))]


# -- older queriers --------------------------------------------------------------------------------------------------------


@covers("UP-12", "UP-14", "UP-15", "UP-17", "UP-20")
def test_a_v2_querier_is_spoken_to_in_v2_until_it_has_been_silent(play):
    play.on("lan0", record(TO_EX, G)).forget()
    play.on("wan", a_query(version=2), host=2).advance(ms=1_500)
    assert upstream(play) == [], "no v3 copy after the v2 query"
    play.advance(ms=8_500)
    assert upstream(play) == [says("wan", (IS_EX, G), version=2)]
    play.on("lan1", record(TO_EX, G2))
    assert upstream(play) == [says("wan", (IS_EX, G2), version=2)]
    play.advance(s=10)
    assert upstream(play) == [says("wan", (IS_EX, G2), version=2)]
    play.advance(s=10)
    assert upstream(play) == []
    play.on("lan1", record(TO_IN, G2))
    assert upstream(play) == [leaves("wan", G2)]
    play.at(ms=300_000 + 349_999)
    assert play.interface("wan").version == 2
    play.advance(ms=1)
    assert play.interface("wan").version == 3
    play.on("lan1", record(TO_EX, G2))
    assert upstream(play)[-1] == says("wan", (TO_EX, G2))


@covers("UP-12", "UP-21", "UP-20")
def test_a_v1_querier_wins_over_a_v2_one_and_gets_no_leaves(play):
    play.on("wan", a_query(version=2), a_query(version=1), host=2)
    play.on("lan0", record(TO_EX, G))
    assert upstream(play) == [says("wan", (IS_EX, G), version=1)]
    play.on("lan0", record(TO_IN, G))
    assert upstream(play) == []


@covers("UP-13")
def test_an_older_specific_query_does_not_change_the_version(play):
    play.on("lan0", record(TO_EX, G)).advance(s=5).forget()
    play.on("wan", a_query(G, version=2, max_response_ms=1_000), host=2).advance(s=1)
    assert upstream(play) == [says("wan", (IS_EX, G))]
    assert play.interface("wan").version == 3


@covers("SSM-07")
def test_an_older_query_for_a_source_specific_group_is_worth_a_line(play):
    for _ in range(3):
        play.on("wan", a_query("232.1.1.1", version=2), host=2)
    assert len(play.noted("upstream/older-query-for-ssm")) == 1


@covers("UP-16")
def test_to_an_older_querier_only_presence_is_reported(play):
    play.on("wan", a_query(version=2), host=2).on("lan0", record(IS_IN, G, S1)).advance(s=30).forget()
    play.on("lan0", record(ALLOW, G, S2)).on("lan0", record(BLOCK, G, S1)).on("lan0", record(TO_EX, G)).on("lan0", record(BLOCK, G, S1)).advance(s=30)
    assert upstream(play) == []


@covers("UP-18")
def test_a_running_v2_answer_is_only_brought_forward():
    delays: list[int] = []
    play = a_proxy("wan", "lan0", draw=lambda n: delays.pop(0) if delays else n).at(s=300)
    play.on("wan", a_query(version=2), host=2).on("lan0", record(IS_EX, G)).advance(s=30).forget()
    delays[:] = [4_000]
    play.on("wan", a_query(version=2, max_response_ms=10_000), host=2)
    delays[:] = [9_999]
    play.on("wan", a_query(version=2, max_response_ms=10_000), host=2)
    delays[:] = [700]
    play.on("wan", a_query(G, version=2, max_response_ms=1_000), host=2)
    play.advance(ms=700)
    assert upstream(play) == [says("wan", (IS_EX, G), version=2)]
    play.advance(s=20)
    assert upstream(play) == []


@covers("UP-19", "UP-20")
def test_another_hosts_v2_report_saves_ours_and_the_leave(play):
    play.on("wan", a_query(version=2), host=2).on("lan0", record(IS_EX, G)).advance(s=30).forget()
    play.on("wan", a_query(version=2), host=2).on("wan", record(IS_EX, G), host=9, version=2).advance(s=20)
    assert upstream(play) == []
    play.on("lan0", record(TO_IN, G))
    assert upstream(play) == []


@covers("UP-22")
def test_in_v3_nothing_is_suppressed(play):
    play.on("lan0", record(TO_EX, G)).advance(s=5).forget()
    play.on("wan", a_query(), host=2).on("wan", record(IS_EX, G), host=9, version=2).advance(s=10)
    assert upstream(play) == [says("wan", (IS_EX, G))]


@covers("UP-23")
def test_the_latest_version_is_the_default_and_older_ones_can_be_configured():
    assert a_proxy("wan", "lan0").interface("wan").version == 3
    play = a_proxy({"interface": "wan", "version": 2}, "lan0").forget()
    play.on("lan0", record(TO_EX, G, S1))
    assert upstream(play) == [says("wan", (IS_EX, G), version=2)]


@covers("UP-24")
def test_reports_come_from_the_upstream_address_or_the_configured_one_or_none():
    for extra, address, expected in (({}, "10.1.0.1/24", "10.1.0.1"), ({"source-address": "10.1.0.77"}, "10.1.0.1/24", "10.1.0.77"), ({}, "", "0.0.0.0")):
        play = a_proxy({"interface": "wan", **extra}, "lan0").plug("wan", address).forget()
        play.on("lan0", record(TO_EX, G))
        sent = [effect for _, effect in play.effects if isinstance(effect, SendPacket) and effect.ifindex == 1]
        assert [effect.source for effect in sent] == [packed(expected)]


# -- coming and going ------------------------------------------------------------------------------------------------------


@covers("UP-25", "UP-01")
def test_a_new_upstream_is_told_everything_and_the_old_one_goodbye():
    play = a_proxy("wan", "lan0").plug("wan2").at(s=300)
    play.on("lan0", record(TO_EX, G), record(ALLOW, G2, S1)).advance(s=5).forget()
    play.configure(config("wan2", "lan0"))
    seen = play.seen()
    assert says("wan", (TO_IN, G), (BLOCK, G2, S1)) in seen
    assert says("wan2", (TO_EX, G), (ALLOW, G2, S1)) in seen
    assert vif("wan2") in seen
    assert not [line for line in seen if line.startswith("lan0>")], "the downstream does not notice"


@covers("UP-25")
@pytest.mark.parametrize("change", ["flap", "address", "recreated"])
def test_an_upstream_that_comes_back_is_told_everything(play, change):
    play.on("lan0", record(TO_EX, G)).advance(s=5).forget()
    if change == "flap":
        play.plug("wan", up=False).forget().plug("wan")
    elif change == "address":
        play.plug("wan", "10.1.0.50/24")
    else:
        play.unplug("wan").forget().plug("wan", "10.99.0.1/24", index=99)
    assert says("wan", (TO_EX, G)) in play.seen()


@covers("UP-26")
@pytest.mark.parametrize("how", ["none", "disabled"])
def test_switching_off_leaves_everything_and_clears_the_kernel(play, how):
    play.on("lan0", record(TO_EX, G)).advance(s=5).forget()
    play.configure(None if how == "none" else config("wan", "lan0", enabled=False))
    seen = play.seen()
    assert seen[0] == says("wan", (TO_IN, G))
    assert {line for line in seen if line.startswith("unroute")} == {f"unroute (*, {group})" for group in ("*", G, "239.255.255.250")}
    assert seen[-4:] == ["unvif wan", "unvif lan0", "unvif lan1", "unvif lan2"]
    play.advance(s=1_000).expect()
    assert play.engine.next_deadline_ms() is None


@covers("UP-26")
def test_leaving_a_v2_upstream_says_leave(play):
    play.on("wan", a_query(version=2), host=2).on("lan0", record(TO_EX, G)).advance(s=30).forget()
    play.configure(None)
    assert leaves("wan", G) in play.seen()


def test_a_join_and_leave_within_one_packet_says_nothing_upstream(play):
    play.on("lan0", record(TO_EX, G), record(TO_IN, G))
    assert upstream(play) == []


def test_thousands_of_groups_reach_a_new_upstream_in_a_few_packets():
    play = a_proxy("wan", "lan0").at(s=300)
    for n in range(20):
        play.on("lan0", *[Record(IS_EX, (0xEF020000 + n * 100 + i).to_bytes(4)) for i in range(100)])
    play.advance(s=5).forget().plug("wan", "10.1.0.50/24")
    assert len(upstream(play)) == 11
    play.advance(s=1)
    assert len(upstream(play)) == 11, "the copies share packets too"


def test_every_pair_of_states_says_the_difference_and_nothing_else():
    """Exhaustive over a universe of two sources: whatever was, after the copies the upstream has what is."""
    sets = [(kind, listed) for kind in (IS_IN, IS_EX) for n in range(3) for listed in itertools.combinations((S1, S2), n)]
    for (kind_a, listed_a), (kind_b, listed_b) in itertools.product(sets, sets):
        play = a_proxy("wan", "lan0", "lan1", quick_leave="on").at(s=300)
        play.on("lan0", record(kind_a, G, *listed_a)).advance(s=5).forget()
        play.on("lan1", record(kind_b, G, *listed_b)).on(
            "lan0", record(TO_IN, G), *([record(BLOCK, G, *listed_a)] if kind_a is IS_IN and listed_a else [])
        ).advance(s=5)
        expected = {} if kind_b is IS_IN and not listed_b else {G: ("exclude" if kind_b is IS_EX else "include", list(listed_b))}
        assert database(play) == expected, (kind_a, listed_a, kind_b, listed_b)
        assert asks("wan") not in play.transcript()
