"""Bounds on what strangers can make us remember, and the less travelled paths of leaving, adopting and switching."""

from __future__ import annotations

import pytest

from igmpconf.engine import admission, interface, listeners
from igmpconf.engine.effects import SendPacket
from igmpconf.engine.family import MLD
from igmpconf.engine.messages import Record
from igmpconf.errors import WireError
from tests.kit.builders import ALLOW, BLOCK, G2, IS_EX, IS_IN, S1, S2, TO_EX, TO_IN, G, a_query, asks, config, packed, record, route, says, unroute, vif
from tests.kit.conformance import covers
from tests.kit.playbook import Play, a_proxy

SSM = "232.5.5.5"


@pytest.fixture
def play() -> Play:
    return a_proxy("wan", "lan0", "lan1").at(s=300).forget()


# -- bounds ----------------------------------------------------------------------------------------------------------------


@covers("ROB-02")
def test_what_strangers_send_does_not_grow_our_memory(monkeypatch):
    monkeypatch.setattr(admission, "_CACHED", 10)
    monkeypatch.setattr(interface, "_QUIET_KEYS", 10)
    play = a_proxy("wan", "lan0", groups=[{"action": "deny", "group": "239.0.0.0/8"}])
    for n in range(1, 60):
        play.on("lan0", record(TO_EX, f"239.0.0.{n}"), host=f"10.2.0.{n + 1}").on("lan0", record(TO_EX, G), host=f"192.168.0.{n}")
    downstream = play.engine.downstreams[play.names["lan0"]]
    assert len(downstream.admission._senders) <= 10
    assert len(downstream.admission._group_rules) <= 10
    assert len(downstream.interface._quiet_until_ms) <= 10
    assert play.counter("lan0", "rejected-denied") == 59


def test_beyond_the_hosts_we_can_track_leaves_take_the_ordinary_way(monkeypatch):
    monkeypatch.setattr(listeners, "_MOST_HOSTS", 2)
    play = a_proxy("wan", "lan0").at(s=300)
    for host in (100, 101, 102):
        play.on("lan0", record(TO_EX, G), host=host)
    play.advance(s=5).forget()
    for host in (100, 101):
        play.on("lan0", record(TO_IN, G), host=host)
    play.expect(asks("lan0", G))
    assert play.group("lan0", G) is not None, "the third host is not known, but may be there"


def test_hosts_without_address_are_never_told_apart(play):
    play.on("lan0", record(TO_EX, G), host="0.0.0.0").advance(s=5).forget()
    play.on("lan0", record(TO_IN, G), host="0.0.0.0").expect(asks("lan0", G))
    assert play.group("lan0", G) is not None


def test_a_host_that_vanished_does_not_count_after_its_time():
    play = a_proxy("wan", "lan0", quick_leave="auto").at(s=300)
    play.on("lan0", record(TO_EX, G), host=100).advance(s=200).on("lan0", record(TO_EX, G), host=101).advance(s=100).forget()
    assert play.group("lan0", G).hosts == 1
    play.on("lan0", record(TO_IN, G), host=101).expect(asks("lan0", G), unroute("*", G), says("wan", (TO_IN, G)))


# -- leaving ---------------------------------------------------------------------------------------------------------------


def test_the_last_exclude_host_leaves_and_includes_stay(play):
    play.on("lan0", record(TO_EX, G)).on("lan0", record(ALLOW, G, S1), host=101).advance(s=5).forget()
    play.on("lan0", record(TO_IN, G))
    play.expect(asks("lan0", G), route(S1, G, "wan", "lan0"), unroute("*", G), says("wan", (TO_IN, G, S1)))
    row = play.group("lan0", G)
    assert (row.mode, [str(one.address) for one in row.sources]) == ("include", [S1])


def test_a_host_that_narrows_its_filter_while_another_wants_everything_interrupts_nothing(play):
    play.on("lan0", record(TO_EX, G)).on("lan0", record(TO_EX, G), host=101).advance(s=5).forget()
    play.on("lan0", record(TO_EX, G, S1)).on("lan0", record(BLOCK, G, S2), host=100).expect()
    assert play.group("lan0", G).excluded == ()


def test_a_denied_join_of_an_unknown_group_leaves_no_trace():
    play = a_proxy("wan", "lan0", groups=[{"action": "deny", "source": f"{S1}/32"}]).forget()
    play.on("lan0", record(TO_IN, G, S1), record(IS_IN, G, S1)).expect()
    assert play.group("lan0", G) is None


def test_limits_on_exclude_lists_count_what_the_list_replaces():
    play = a_proxy("wan", {"interface": "lan0", "max-sources-per-group": 2})
    play.on("lan0", record(IS_EX, G, "192.0.2.7", "192.0.2.8")).on("lan0", record(IS_EX, G, "192.0.2.8", "192.0.2.9"))
    row = play.group("lan0", G)
    assert ([str(one) for one in row.excluded], [str(one.address) for one in row.sources]) == (["192.0.2.8"], ["192.0.2.9"])


# -- adopting --------------------------------------------------------------------------------------------------------------


def test_a_router_of_version_1_cannot_ask_and_lets_adopted_groups_time_out():
    play = Play().configure(config("wan", {"interface": "lan0", "version": 1})).plug("wan").plug("lan0").forget()
    play.found(("*", "*", "wan", ("wan", "lan0")), ("*", "239.255.255.250", "wan", ()), ("*", G, "wan", ("wan", "lan0"))).forget()
    play.at(ms=11_999)
    assert play.seen(containing="query") == []
    play.advance(ms=1)
    assert play.group("lan0", G) is None


def test_a_non_querier_leaves_the_doubt_about_adopted_groups_to_the_querier():
    play = Play().configure(config("wan", "lan0")).plug("wan").plug("lan0")
    play.found(("*", "*", "wan", ("wan", "lan0")), ("*", G, "wan", ("wan", "lan0"))).on("lan0", a_query(), host="10.2.0.0").forget()
    play.at(s=11)
    assert play.seen(containing="query") == []
    play.at(s=12)
    assert play.group("lan0", G) is None


def test_what_hosts_reported_before_the_kernel_was_told_is_not_adopted_again():
    play = Play().configure(config("wan", "lan0")).plug("wan").plug("lan0").on("lan0", record(IS_IN, G, S1))
    play.found(("*", G, "wan", ("wan", "lan0")), ("*", "224.0.0.99", "wan", ("lan0",)), (S1, G2, "wan", ("lan0",)), (S2, G2, "wan", ("lan0",)))
    assert play.group("lan0", G).mode == "include"
    assert play.group("lan0", "224.0.0.99") is None
    assert [str(one.address) for one in play.group("lan0", G2).sources] == [S1, S2]
    assert unroute("*", G) in play.seen()


# -- switching -------------------------------------------------------------------------------------------------------------


def test_another_configured_version_is_spoken_at_once(play):
    play.on("lan0", record(IS_EX, G)).advance(s=5).forget()
    play.configure(config({"interface": "wan", "version": 2}, {"interface": "lan0", "version": 2}, "lan1"))
    play.expect(asks("lan0", version=2))
    assert play.group("lan0", G) is not None
    play.on("lan1", record(IS_EX, G2))
    assert says("wan", (IS_EX, G2), version=2) in play.seen()


def test_a_source_behind_a_downstream_where_another_router_asks_is_that_routers_business(play):
    inner = "10.2.0.66"
    play.on("lan0", a_query(), host="10.2.0.0").forget()
    play.on("lan1", record(IS_IN, G, inner))
    assert route(inner, G, "lan0") in play.seen(), "an entry that leaves nowhere: the other router forwards it"


def test_a_static_group_of_any_source_in_the_source_specific_range_is_refused_aloud():
    play = a_proxy("wan", {"interface": "lan0", "static-groups": [SSM, G]})
    assert [note.fields["group"] for note in play.noted("static/refused")] == [SSM]
    assert play.group("lan0", G) is not None
    assert play.group("lan0", SSM) is None


def test_static_groups_come_and_go_with_the_configuration_and_the_link():
    play = a_proxy("wan", {"interface": "lan0", "static-groups": [G]}).at(s=300).forget()
    play.on("lan0", record(IS_IN, G, S1)).expect()
    play.configure(config("wan", {"interface": "lan0", "static-groups": [G2]}))
    play.expect(unroute("*", G), route(S1, G, "wan", "lan0"), route("*", G2, "wan", "lan0", "wan"), says("wan", (TO_IN, G, S1), (TO_EX, G2)))
    play.advance(s=5).forget().plug("lan0", up=False)
    assert unroute("*", G2) in play.seen()
    play.plug("lan0")
    assert route("*", G2, "wan", "lan0", "wan") in play.seen()


def test_an_upstream_that_was_away_hears_no_goodbye_for_what_ended_meanwhile():
    play = a_proxy("wan", "lan0", quick_leave="on").at(s=300)
    play.on("lan0", record(TO_EX, G), record(TO_EX, G2)).advance(s=5)
    play.plug("wan", up=False).on("lan0", record(TO_IN, G)).forget()
    play.plug("wan")
    assert play.seen() == [says("wan", (TO_EX, G2))]


def test_an_upstream_that_returns_under_another_index_gets_a_vif_and_the_routes(play):
    play.on("lan0", record(TO_EX, G)).advance(s=5).forget()
    play.plug("wan", "10.1.0.1/24", index=50)
    seen = play.seen()
    assert seen.index(vif("wan")) < seen.index(route("*", G, "wan", "lan0", "wan"))
    assert seen[-1] == "unvif 1"


def test_queries_about_groups_that_nobody_holds_change_nothing(play):
    play.on("lan0", a_query(G, max_response_ms=1_000), host="10.2.0.0").expect()
    assert play.group("lan0", G) is None


def test_a_mute_interface_starts_to_ask_when_another_querier_was_heard_before_it_had_an_address():
    play = Play().configure(config("wan", "lan0")).plug("wan").plug("lan0", "").found()
    play.on("lan0", a_query(), host="10.2.0.200")
    row = play.interface("lan0").querier
    assert (row.self_, row.reason) == (False, "no address to ask from")
    play.plug("lan0", "10.2.0.1/24")
    assert play.interface("lan0").querier.self_
    play.plug("lan0", "")
    assert not play.interface("lan0").querier.self_
    before = len([effect for _, effect in play.effects if isinstance(effect, SendPacket)])
    play.advance(s=1_000)
    assert len([effect for _, effect in play.effects if isinstance(effect, SendPacket)]) == before


def test_an_answer_that_waited_in_the_socket_counts_after_a_pause(play):
    """The process stood still for ten seconds in the middle of the last-member procedure, but the host had answered."""
    play.on("lan0", record(IS_EX, G), version=2).advance(s=5).on("lan0", record(TO_IN, G), version=2).forget()
    play.now_ms += 10_000
    play.on("lan0", record(IS_EX, G), host=101, version=2).expect()
    play.advance(s=1)
    assert play.seen(containing="route") == []
    assert play.group("lan0", G) is not None


def test_an_interface_that_lost_its_address_does_not_finish_asking():
    play = a_proxy("wan", "lan0", quick_leave="off").at(s=300)
    play.on("lan0", record(TO_EX, G)).on("lan0", record(TO_IN, G)).plug("lan0", "").forget().advance(s=3)
    assert play.seen(containing="query") == []
    assert play.group("lan0", G) is None


@pytest.mark.parametrize("mtu", [65_536, 576])
def test_packets_fit_the_link_whatever_its_mtu(mtu):
    play = a_proxy("wan", "lan0").plug("wan", mtu=mtu)
    groups = [(0xEF010000 + n).to_bytes(4) for n in range(10_000)]
    for start in range(0, len(groups), 100):
        play.on("lan0", *[Record(IS_EX, group) for group in groups[start : start + 100]])
    play.plug("wan", "10.1.0.9/24", mtu=mtu)
    sizes = [24 + len(effect.payload) for _, effect in play.effects if isinstance(effect, SendPacket) and effect.ifindex == 1]
    assert max(sizes) <= min(mtu, 65_535)


def test_what_could_not_be_sent_is_not_counted_as_sent():
    play = a_proxy("wan", "lan0").plug("wan", up=False).forget()
    play.on("lan0", record(TO_EX, G)).advance(s=5)
    assert play.seen(containing="wan>") == []
    assert play.counter("wan", "sent-report-v3") == 0


@pytest.mark.parametrize("payload", ["8200000003e8000020010db8000000000000000000000001", "830000000000000020010db8000000000000000000000001"])
def test_mld_messages_about_no_group_are_refused(payload):
    with pytest.raises(WireError) as refused:
        MLD.decode(bytes.fromhex(payload), packed("fe80::1"), None, 1, True)
    assert refused.value.reason == "bad-group"
