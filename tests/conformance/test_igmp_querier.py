"""Sections 2 and 3 of the requirements: queries, election, adoption (RFC 3376 6.6, 8; RFC 2236 3)."""

from __future__ import annotations

import pytest

from igmpconf.engine.effects import SendPacket, SetVif
from igmpconf.engine.family import MLD
from tests.kit.builders import ALLOW, BLOCK, IS_EX, IS_IN, S1, S2, S3, TO_EX, TO_IN, G, a_query, asks, config, packed, record, route, says, unroute
from tests.kit.conformance import covers
from tests.kit.playbook import Play, a_proxy

SSM = "232.5.5.5"
LOWER, LOWEST, HIGHER = "10.2.0.0", "10.1.255.255", "10.2.0.200"  # than lan0's own 10.2.0.1


@pytest.fixture
def play() -> Play:
    return a_proxy("wan", "lan0", quick_leave="off").at(s=300).forget()


def query_times(play: Play, interface: str) -> list[int]:
    ifindex = play.names[interface]
    return [at_ms for at_ms, effect in play.effects if isinstance(effect, SendPacket) and effect.ifindex == ifindex and effect.payload[0] == 0x11]


@covers("QRY-01", "QRY-02", "R024")
def test_the_upstream_is_never_asked_and_its_reports_are_no_state(play):
    play.on("wan", record(TO_EX, G), host=9).on("wan", record(IS_EX, G), host=9, version=2).advance(s=400)
    assert query_times(play, "wan") == []
    assert play.seen(containing="route") == []


@covers("QRY-03", "QRY-04", "R036", "R061")
def test_startup_queries_then_the_query_interval():
    assert query_times(a_proxy("wan", "lan0").at(s=300), "lan0") == [0, 31_250, 156_250, 281_250]


@covers("QRY-04", "QRY-24")
def test_startup_follows_robustness_and_interval():
    play = a_proxy("wan", {"interface": "lan0", "robustness": 3, "query-interval": "40s"}).at(s=61)
    assert query_times(play, "lan0") == [0, 10_000, 20_000, 60_000]


@covers("QRY-05", "QRY-24", "R061", "R062", "R064")
def test_queries_carry_the_configured_numbers():
    play = a_proxy(
        "wan",
        {"interface": "lan0", "robustness": 3, "query-interval": "60s", "query-response-interval": "5s", "last-member-interval": "500ms", "quick-leave": "off"},
    )
    play.on("lan0", record(TO_EX, G)).on("lan0", record(TO_IN, G))
    sent = [
        play.family.decode(effect.payload, packed("10.2.0.1"), None, 1, True)
        for _, effect in play.effects
        if isinstance(effect, SendPacket) and effect.ifindex == 2
    ]
    general, specific = sent
    assert (general.max_response_ms, general.robustness, general.interval_ms, general.suppress) == (5_000, 3, 60_000, False)
    assert (specific.max_response_ms, specific.robustness, specific.interval_ms, specific.suppress) == (500, 3, 60_000, False)
    start_ms = play.now_ms
    play.advance(s=2)
    assert [at_ms - start_ms for at_ms in query_times(play, "lan0")[1:]] == [0, 500, 1_000]


@covers("QRY-08")
def test_queries_come_from_the_address_of_the_interface_or_not_at_all():
    play = a_proxy("wan", "lan0")
    assert [effect.source for _, effect in play.effects if isinstance(effect, SendPacket)] == [packed("10.2.0.1")]
    play = Play()
    play.configure(config("wan", "lan0")).plug("wan").plug("lan0", "").found().at(s=400)
    assert query_times(play, "lan0") == []
    play.plug("lan0", "10.2.0.1/24")
    assert query_times(play, "lan0") == [400_000]


@covers("QRY-08")
def test_a_configured_source_address_is_used():
    play = a_proxy("wan", {"interface": "lan0", "source-address": "10.2.0.7"})
    assert [effect.source for _, effect in play.effects if isinstance(effect, SendPacket)] == [packed("10.2.0.7")]


def test_a_new_address_starts_the_queries_again(play):
    play.plug("lan0", "10.2.0.5/24").expect(asks("lan0"))
    play.advance(ms=31_250).expect(asks("lan0"))


@covers("QRY-09", "QRY-14")
def test_a_repeated_leave_does_not_double_the_questions(play):
    play.on("lan0", record(TO_EX, G)).advance(s=2).forget()
    play.on("lan0", record(TO_IN, G)).advance(ms=300).on("lan0", record(TO_IN, G)).expect(asks("lan0", G))
    play.advance(ms=700).expect(asks("lan0", G))
    play.advance(s=1).expect(unroute("*", G), says("wan", (TO_IN, G)))


@covers("QRY-11", "QRY-17")
def test_blocked_sources_are_asked_for_and_run_out(play):
    play.on("lan0", record(ALLOW, SSM, S1, S2, S3)).advance(s=2).forget()
    play.on("lan0", record(BLOCK, SSM, S1, S2)).expect(asks("lan0", SSM, S1, S2))
    assert {str(one.address): one.expires_s for one in play.group("lan0", SSM).sources} == {S1: 2, S2: 2, S3: 268}
    play.advance(s=1).expect(asks("lan0", SSM, S1, S2))
    play.advance(ms=999).expect()
    play.advance(ms=1).expect(unroute(S1, SSM), unroute(S2, SSM), says("wan", (BLOCK, SSM, S1, S2)))


@covers("QRY-12", "QRY-13", "QRY-10")
def test_each_round_tells_refreshed_sources_from_doubtful_ones(play):
    play.on("lan0", record(ALLOW, SSM, S1, S2)).advance(s=2).forget()
    play.on("lan0", record(BLOCK, SSM, S1, S2)).expect(asks("lan0", SSM, S1, S2))
    play.advance(ms=500).on("lan0", record(IS_IN, SSM, S1), host=101)
    play.advance(ms=500).expect(asks("lan0", SSM, S1, suppress=True), asks("lan0", SSM, S2))


@covers("QRY-14")
def test_two_blocks_within_a_round_share_the_next_one(play):
    play.on("lan0", record(ALLOW, SSM, S1, S2, S3)).advance(s=2).forget()
    play.on("lan0", record(BLOCK, SSM, S1)).expect(asks("lan0", SSM, S1))
    play.advance(ms=400).on("lan0", record(BLOCK, SSM, S2)).expect(asks("lan0", SSM, S2))
    play.advance(ms=600).expect(asks("lan0", SSM, S1, S2))
    play.advance(s=10)
    assert [str(one.address) for one in play.group("lan0", SSM).sources] == [S3]


@covers("QRY-15")
def test_a_group_query_makes_the_refreshed_source_query_superfluous(play):
    play.on("lan0", record(TO_EX, G)).advance(s=5).on("lan0", record(BLOCK, G, S1)).forget()
    play.advance(ms=100).on("lan0", record(TO_IN, G, S1)).expect(asks("lan0", G))
    play.advance(ms=900).expect(asks("lan0", G))


@covers("QRY-16")
def test_current_state_records_cause_no_query(play):
    play.on("lan0", record(IS_EX, G, S1)).on("lan0", record(IS_IN, G, S2)).on("lan0", record(IS_EX, G, S2)).on("lan0", record(IS_IN, G, S1))
    assert play.seen(containing="query") == []


@covers("QRY-18", "ELE-10")
def test_a_query_of_the_querier_lowers_our_timers_unless_it_suppresses(play):
    play.on("lan0", record(TO_EX, G)).on("lan0", record(ALLOW, SSM, S1, S2)).on("lan0", a_query(robustness=2, interval_ms=125_000), host=LOWER).advance(
        s=5
    ).forget()
    asked = a_query(G, max_response_ms=1_000, robustness=2, interval_ms=125_000, suppress=True)
    play.on("lan0", asked, host=LOWER)
    assert play.group("lan0", G).expires_s == 265
    play.on("lan0", a_query(G, max_response_ms=1_000, robustness=2, interval_ms=125_000), host=LOWER)
    assert play.group("lan0", G).expires_s == 2
    play.on("lan0", a_query(SSM, S1, max_response_ms=1_000, robustness=2, interval_ms=125_000), host=LOWER)
    assert {str(one.address): one.expires_s for one in play.group("lan0", SSM).sources} == {S1: 2, S2: 265}


@covers("QRY-19")
def test_a_v2_group_query_lowers_by_its_own_response_time(play):
    play.on("lan0", record(IS_EX, G), version=2).on("lan0", a_query(version=2), host=LOWER)
    play.on("lan0", a_query(G, version=2, max_response_ms=2_000), host=LOWER)
    assert play.group("lan0", G).expires_s == 4


@covers("QRY-20")
def test_a_sequence_once_begun_is_finished_by_a_router_that_lost(play):
    play.on("lan0", record(TO_EX, G)).advance(s=2).on("lan0", record(TO_IN, G)).forget()
    play.advance(ms=500).on("lan0", a_query(), host=LOWER).forget()
    play.advance(ms=500).expect(asks("lan0", G))


@covers("QRY-21")
def test_the_s_flag_suppresses_neither_election_nor_answers(play):
    play.on("lan0", record(TO_EX, G)).advance(s=2).forget()
    play.on("lan0", a_query(suppress=True), host=LOWER)
    assert not play.interface("lan0").querier.self_
    play.forget().on("wan", a_query(suppress=True), host=2).advance(s=10).expect(says("wan", (IS_EX, G)))


@covers("QRY-22")
def test_a_downstream_vif_says_that_routers_are_addressed_there():
    play = a_proxy("wan", "lan0")
    assert [effect for _, effect in play.effects if isinstance(effect, SetVif)] == [SetVif(play.names["wan"], True), SetVif(play.names["lan0"], False)]


@covers("QRY-23")
def test_presence_decides_and_hosts_are_only_counted(play):
    play.on("lan0", record(IS_EX, G)).on("lan0", record(IS_EX, G), host=101).forget()
    assert play.group("lan0", G).hosts == 2


# -- election ------------------------------------------------------------------------------------------------------------


@covers("QRY-25")
@pytest.mark.parametrize(("leaf", "where"), [({}, G), ({"query-destination": "group"}, G), ({"query-destination": "all-hosts"}, "224.0.0.1")])
def test_queries_about_a_group_go_to_it_or_to_all_hosts(leaf, where):
    play = a_proxy("wan", {"interface": "lan0"} | leaf, quick_leave="off").at(s=300)
    play.on("lan0", record(TO_EX, G)).on("lan0", record(ALLOW, SSM, S1), host=101).advance(s=5).forget()
    play.on("lan0", record(TO_IN, G)).expect(asks("lan0", G))
    play.on("lan0", record(BLOCK, SSM, S1), host=101).expect(asks("lan0", SSM, S1))
    assert destinations(play)[-2:] == [where, where if leaf.get("query-destination") == "all-hosts" else SSM]
    play.advance(ms=500).on("lan0", record(IS_EX, G), host=102)  # the group is asked about, whatever the destination
    play.advance(s=5).forget()
    assert play.group("lan0", G) is not None
    play.advance(s=125)
    assert destinations(play)[-1] == "224.0.0.1", "a general query"


@covers("QRY-25")
def test_the_same_for_mld_and_changed_while_running():
    group = "ff0e::1:1"
    play = a_proxy("wan", {"interface": "lan0", "query-destination": "all-hosts"}, family=MLD, quick_leave="off").at(s=300)
    play.on("lan0", record(TO_EX, group)).advance(s=5).forget()
    play.on("lan0", record(TO_IN, group)).expect(asks("lan0", group, version=2))
    assert destinations(play)[-1] == "ff02::1"
    play.configure(config("wan", "lan0", family=["ipv6"], quick_leave="off")).expect()
    play.advance(s=1).expect(asks("lan0", group, version=2))
    assert destinations(play)[-1] == group


def destinations(play: Play) -> list[str]:
    """Where everything that left by lan0 was sent."""
    return [play.family.text(one.destination) for _, one in play.effects if isinstance(one, SendPacket) and one.ifindex == play.names["lan0"]]


@covers("ELE-01", "ELE-03", "ELE-04", "ELE-15", "R020", "R034", "R035", "R038")
def test_a_lower_address_takes_over_until_it_falls_silent(play):
    play.on("lan0", a_query(robustness=2, interval_ms=125_000), host=LOWER).expect(route("*", "*", "wan", "wan"))
    row = play.interface("lan0").querier
    assert (str(row.address), row.self_) == (LOWER, False)
    assert [note.level for note in play.noted("querier/lost")] == ["warning"]
    play.advance(s=200).on("lan0", a_query(robustness=2, interval_ms=125_000), host=LOWER)
    play.advance(ms=254_999).expect()
    play.advance(ms=1).expect(asks("lan0"), route("*", "*", "wan", "lan0", "wan"))
    assert play.interface("lan0").querier.self_
    play.advance(ms=125_000).expect(asks("lan0"))


@covers("ELE-02")
def test_a_higher_address_changes_nothing(play):
    play.on("lan0", a_query(robustness=7, interval_ms=10_000), host=HIGHER).expect()
    assert play.interface("lan0").querier.self_
    play.on("lan0", record(IS_EX, G))
    assert play.group("lan0", G).expires_s == 270


@covers("ELE-05")
def test_only_general_queries_elect(play):
    play.on("lan0", a_query(G), host=LOWER).expect()
    assert play.interface("lan0").querier.self_


@covers("ELE-06", "ELE-07", "ELE-08")
def test_a_non_querier_takes_robustness_and_interval_of_the_elected_one(play):
    play.on("lan0", a_query(robustness=3, interval_ms=125_000), host=LOWER).on("lan0", record(IS_EX, G))
    assert play.group("lan0", G).expires_s == 3 * 125 + 20
    play.on("lan0", a_query(robustness=5, interval_ms=10_000), host="10.2.0.0").on("lan0", record(IS_EX, G))
    assert play.group("lan0", G).expires_s == 5 * 10 + 20
    play.on("lan0", a_query(robustness=4, interval_ms=100_000), host=LOWEST).on("lan0", record(IS_EX, G))
    assert play.group("lan0", G).expires_s == 4 * 100 + 20
    play.on("lan0", a_query(robustness=7, interval_ms=100_000), host=LOWER).on("lan0", record(IS_EX, G))
    assert play.group("lan0", G).expires_s == 4 * 100 + 20, "not from one that lost against the elected"
    play.advance(s=4 * 100 + 5).on("lan0", record(IS_EX, G))
    assert play.interface("lan0").querier.self_
    assert play.group("lan0", G).expires_s == 270, "our own numbers again"


@covers("ELE-06", "ELE-07", "ELE-09")
@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_query_that_says_no_numbers_leaves_the_configured_ones(play, version):
    play.on("lan0", a_query(version=version), host=LOWER).on("lan0", record(IS_EX, G))
    assert play.group("lan0", G).expires_s == 270


@covers("ELE-10", "ELE-11", "DB-09", "FWD-04", "R037")
def test_a_non_querier_learns_and_reports_but_neither_asks_nor_forwards(play):
    play.on("lan0", a_query(robustness=2, interval_ms=125_000), host=LOWER).forget()
    play.on("lan0", record(TO_EX, G)).expect(says("wan", (TO_EX, G)))
    play.advance(s=5).forget()
    play.on("lan0", record(TO_IN, G)).on("lan0", record(TO_IN, G), version=2).expect()
    assert play.group("lan0", G).expires_s == 265


@covers("ELE-12")
@pytest.mark.parametrize(("version", "general", "specific"), [(1, "1100eeff00000000", None), (2, "1164ee9b00000000", "110afef2ef010101")])
def test_a_router_of_an_older_version_asks_in_it(version, general, specific):
    play = a_proxy("wan", {"interface": "lan0", "version": version, "quick-leave": "off"})
    play.on("lan0", record(IS_EX, G), version=version).on("lan0", record(TO_IN, G), version=2)
    sent = [effect.payload.hex() for _, effect in play.effects if isinstance(effect, SendPacket) and effect.ifindex == 2]
    assert sent == [general, *([specific] if specific else [])]


@covers("ELE-12")
def test_a_v2_router_does_not_know_v3_reports():
    play = a_proxy("wan", {"interface": "lan0", "version": 2}).forget()
    play.on("lan0", record(TO_EX, G)).expect()
    assert play.counter("lan0", "rejected-newer-version") == 1


@covers("ELE-13", "ELE-14", "SSM-09")
@pytest.mark.parametrize(("ours", "theirs"), [(3, 2), (3, 1), (2, 3)])
def test_another_version_is_worth_a_line_a_minute(ours, theirs):
    play = a_proxy("wan", {"interface": "lan0", "version": ours})
    for _ in range(5):
        play.on("lan0", a_query(version=theirs), host=LOWER)
    assert len(play.noted("querier/other-version")) == 1
    play.advance(s=61).on("lan0", a_query(version=theirs), host=LOWER)
    assert len(play.noted("querier/other-version")) == 2


@covers("FWD-12")
@pytest.mark.parametrize("order", [("lan0", "lan1"), ("lan1", "lan0")])
def test_of_two_interfaces_to_one_network_the_lower_address_is_its_router_at_once_and_for_good(order):
    """IPv4 alone: Linux keeps packets from an address of our own from us, so the two cannot hear each other."""
    addresses = {"lan0": "10.7.0.1/24", "lan1": "10.7.0.9/24"}
    play = Play().configure(config("wan", "lan0", "lan1")).plug("wan")
    for name in order:
        play.plug(name, addresses[name])
    play.found()
    for _ in range(4):
        assert [play.interface(name).querier.self_ for name in ("lan0", "lan1")] == [True, False]
        assert {ifindex for ifindex, _ in play.engine.routes.installed[None, None][1]} == {play.names["wan"], play.names["lan0"]}
        play.advance(s=200)
    play.unplug("lan0").advance(s=300)
    assert play.interface("lan1").querier.self_


@covers("FWD-12")
@pytest.mark.parametrize("addresses", [("10.7.0.1/32", "10.7.0.1/32"), ("10.7.0.0/31", "10.7.0.1/31"), ("10.7.0.1/24", "10.8.0.1/24")])
def test_interfaces_to_different_networks_and_unnumbered_ones_all_have_their_router(addresses):
    play = Play().configure(config("wan", "lan0", "lan1")).plug("wan")
    for name, address in zip(("lan0", "lan1"), addresses, strict=True):
        play.plug(name, address)
    play.advance(s=300)
    assert [play.interface(name).querier.self_ for name in ("lan0", "lan1")] == [True, True]
