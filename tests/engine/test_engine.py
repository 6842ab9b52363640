"""The engine's own promises: links come and go, configurations differ by what differs, nothing a wire brings raises."""

from __future__ import annotations

import errno
import ipaddress

import pytest

from igmpconf.engine.effects import SendPacket, SetRoute, SetVif
from igmpconf.engine.engine import Engine
from igmpconf.engine.events import CacheMissed, EffectFailed, PacketReceived, RoutesFound, TimePassed, WrongInterface
from igmpconf.engine.family import IGMP
from igmpconf.ids import IfIndex
from igmpconf.model.canon import from_plain, to_plain
from igmpconf.model.state import DeviceState
from tests.kit.builders import (
    ALLOW,
    BLOCK,
    G2,
    IS_EX,
    IS_IN,
    LOCAL,
    S1,
    S2,
    TO_EX,
    TO_IN,
    G,
    a_query,
    asks,
    config,
    packed,
    record,
    route,
    says,
    unroute,
    unvif,
    vif,
)
from tests.kit.conformance import covers
from tests.kit.playbook import Play, a_proxy


@pytest.fixture
def play() -> Play:
    return a_proxy("wan", "lan0", "lan1", quick_leave="on").at(s=300).forget()


def test_an_idle_engine_wants_nothing():
    engine = Engine(IGMP, draw=lambda n: n)
    assert engine.next_deadline_ms() is None
    assert list(engine.handle(TimePassed(), 0)) == []
    assert list(engine.handle(RoutesFound(()), 0)) == []
    assert engine.snapshot(0).interfaces == ()


def test_what_starts_an_instance():
    play = Play().configure(config("wan", "lan0")).expect()
    play.plug("wan").expect(vif("wan"))
    play.plug("lan0").expect(vif("lan0"), asks("lan0"))
    play.found().expect(route("*", "*", "wan", "lan0", "wan"), route("*", LOCAL, "wan"))


def test_links_before_the_configuration_do_as_well():
    play = Play().plug("wan").plug("lan0").plug("stranger").expect()
    play.configure(config("wan", "lan0")).expect(vif("wan"), vif("lan0"), asks("lan0"))


def test_an_interface_of_another_family_only_is_left_alone():
    Play().configure(config("wan", "lan0", family=["ipv6"])).plug("wan").plug("lan0").found().expect()


def test_a_repeated_fact_changes_nothing(play):
    play.plug("lan0").configure(play.engine.config).expect()


def test_patterns_follow_links_that_appear_and_vanish():
    play = Play().configure(config("ppp*", "br-*", {"interface": "br-guest", "enabled": False})).found().expect()
    play.plug("br-lan").plug("br-guest").plug("eth7").expect(vif("br-lan"), asks("br-lan"))
    play.on("br-lan", record(IS_EX, G)).expect()
    play.plug("ppp0").expect(
        vif("ppp0"), route("*", "*", "ppp0", "br-lan", "ppp0"), route("*", G, "ppp0", "br-lan", "ppp0"), route("*", LOCAL, "ppp0"), says("ppp0", (TO_EX, G))
    )
    play.plug("ppp1").expect()
    play.unplug("ppp0")
    seen = play.seen()
    assert {vif("ppp1"), says("ppp1", (TO_EX, G)), route("*", G, "ppp1", "br-lan", "ppp1"), unvif("ppp0")} <= set(seen)
    assert seen.index(unvif("ppp0")) > seen.index(route("*", G, "ppp1", "br-lan", "ppp1"))
    play.unplug("ppp1")
    assert {unroute("*", "*"), unroute("*", G), unroute("*", LOCAL), unvif("ppp1")} == set(play.seen())
    play.unplug("br-lan").expect(unvif("br-lan"))


def test_a_downstream_that_is_recreated_starts_again(play):
    play.on("lan0", record(IS_EX, G)).advance(s=5).forget()
    play.plug("lan0", "10.2.0.1/24", index=42)
    seen = play.seen()
    assert {vif("lan0"), asks("lan0"), says("wan", (TO_IN, G)), unroute("*", G)} <= set(seen)
    assert play.group("lan0", G) is None


def test_a_renamed_link_takes_the_part_of_its_new_name(play):
    play.names["spare"] = play.names.pop("lan0")
    play.plug("spare", "10.2.0.1/24")
    assert unvif("spare") in play.seen()
    assert [row.interface for row in play.engine.snapshot(play.now_ms).interfaces if row.up] == ["wan", "lan1"]


# -- configuration -------------------------------------------------------------------------------------------------------


def test_changing_timers_keeps_memberships_and_asks_sooner(play):
    play.on("lan0", record(IS_EX, G)).advance(s=5).forget()
    play.configure(config("wan", {"interface": "lan0", "query-interval": "20s"}, "lan1", quick_leave="on")).expect()
    assert play.group("lan0", G) is not None
    play.advance(s=20).expect(asks("lan0"))
    play.on("lan0", record(IS_EX, G))
    assert play.group("lan0", G).expires_s == 2 * 20 + 20


def test_a_change_elsewhere_is_not_noticed(play):
    play.on("lan0", record(IS_EX, G)).on("lan1", record(IS_EX, G2)).advance(s=5).forget()
    play.configure(config("wan", "lan0", quick_leave="on"))
    play.expect(route("*", "*", "wan", "lan0", "wan"), unroute("*", G2), says("wan", (TO_IN, G2)), unvif("lan1"))
    play.configure(config("wan", "lan0", "lan1", quick_leave="on"))
    play.expect(vif("lan1"), asks("lan1"), route("*", "*", "wan", "lan0", "lan1", "wan"))
    assert play.group("lan0", G) is not None


def test_a_disabled_interface_takes_no_part(play):
    play.configure(config("wan", "lan0", {"interface": "lan1", "enabled": False}, quick_leave="on"))
    play.expect(route("*", "*", "wan", "lan0", "wan"), unvif("lan1"))
    row = play.interface("lan1")
    assert (row.enabled, row.up) == (False, True)


def test_rules_that_become_stricter_drop_what_they_deny(play):
    play.on("lan0", record(IS_EX, G), record(IS_EX, G2)).on("lan0", record(IS_IN, "239.3.3.3", S1, S2)).advance(s=5).forget()
    rules = [{"action": "deny", "group": f"{G}/32"}, {"action": "deny", "group": "239.3.3.3/32", "source": f"{S1}/32"}]
    play.configure(config("wan", "lan0", "lan1", quick_leave="on", groups=rules))
    play.expect(unroute("*", G), unroute(S1, "239.3.3.3"), says("wan", (TO_IN, G), (BLOCK, "239.3.3.3", S1)))
    assert play.group("lan0", G2) is not None


def test_swapping_the_roles_of_two_interfaces(play):
    play.on("lan0", record(IS_EX, G)).on("lan1", record(IS_EX, G2)).advance(s=5).forget()
    swapped = config("lan1", "lan0", {"interface": "wan", "upstream": False}, quick_leave="on")
    play.configure(swapped)
    seen = play.seen()
    assert says("lan1", (TO_EX, G)) in seen
    assert asks("wan") in seen
    assert {row.interface: row.role for row in play.engine.snapshot(play.now_ms).interfaces} == {"lan1": "upstream", "lan0": "downstream", "wan": "downstream"}
    assert seen.count(vif("wan")) == 1


# -- policy ---------------------------------------------------------------------------------------------------------------


@covers("ROB-03")
@pytest.mark.parametrize(
    ("rules", "said", "held"),
    [
        ([{"action": "deny", "group": "239.0.0.0/8"}], record(TO_EX, G), None),
        ([{"action": "deny", "group": "239.0.0.0/8", "interface": "lan1"}], record(TO_EX, G), ("exclude", [], [])),
        ([{"action": "allow", "group": f"{G}/32"}, {"action": "deny"}], record(TO_EX, G), ("exclude", [], [])),
        ([{"action": "allow", "group": f"{G}/32"}, {"action": "deny"}], record(TO_EX, G2), None),
        ([{"action": "deny", "source": f"{S1}/32"}], record(IS_IN, G, S1, S2), ("include", [S2], [])),
        ([{"action": "deny", "source": f"{S1}/32"}], record(IS_IN, G, S1), None),
        ([{"action": "deny", "source": f"{S1}/32"}], record(TO_EX, G), ("exclude", [], [S1])),
        ([{"action": "allow", "source": f"{S1}/32"}, {"action": "deny"}], record(TO_EX, G), None),
        ([{"action": "allow", "source": f"{S1}/32"}, {"action": "deny"}], record(ALLOW, G, S1, S2), ("include", [S1], [])),
        ([{"action": "deny", "group": "ff3e::/32"}], record(TO_EX, G), ("exclude", [], [])),
    ],
)
def test_group_rules(rules, said, held):
    play = a_proxy("wan", "lan0", groups=rules).on("lan0", said)
    group = IGMP.text(said.group)
    row = play.group("lan0", group)
    assert (row and (row.mode, [str(one.address) for one in row.sources], [str(one) for one in row.excluded])) == held


def test_rules_of_the_interface_come_before_those_of_the_instance():
    play = a_proxy("wan", {"interface": "lan0", "groups": [{"action": "allow", "group": f"{G}/32"}]}, "lan1", groups=[{"action": "deny"}])
    play.on("lan0", record(TO_EX, G)).on("lan1", record(TO_EX, G))
    assert play.group("lan0", G) is not None
    assert play.group("lan1", G) is None
    assert play.counter("lan1", "rejected-denied") == 1


def test_a_leave_is_heard_even_where_every_source_is_denied():
    play = a_proxy("wan", "lan0", quick_leave="on", groups=[{"action": "deny", "source": f"{S1}/32"}])
    play.on("lan0", record(TO_EX, G)).on("lan0", record(TO_IN, G, S1))
    assert play.group("lan0", G) is None


# -- the kernel -----------------------------------------------------------------------------------------------------------


def adopted(*routes: tuple[str, str, str, tuple[str, ...]]) -> Play:
    play = Play().configure(config("wan", "lan0", "lan1")).plug("wan").plug("lan0").plug("lan1").forget()
    return play.found(("*", "*", "wan", ("wan", "lan0", "lan1")), ("*", LOCAL, "wan", ()), *routes)


@covers("ROB-04")
def test_found_entries_are_adopted_and_nothing_is_touched():
    play = adopted(("*", G, "wan", ("wan", "lan0")), (S1, G2, "wan", ("lan1",)))
    play.expect(says("wan", (TO_EX, G), (ALLOW, G2, S1)))
    assert play.group("lan0", G).mode == "exclude"
    assert [str(one.address) for one in play.group("lan1", G2).sources] == [S1]


@covers("ROB-04")
def test_what_is_confirmed_stays_and_what_is_not_is_asked_for_once_more_and_removed():
    play = adopted(("*", G, "wan", ("wan", "lan0")), ("*", G2, "wan", ("wan", "lan0")), (S1, "239.7.7.7", "wan", ("lan1",)))
    play.advance(s=4).on("lan0", record(IS_EX, G)).forget()
    play.at(ms=9_999).expect()
    play.at(s=10).expect(asks("lan0", G2), asks("lan1", "239.7.7.7", S1))
    play.at(s=11).expect(asks("lan0", G2), asks("lan1", "239.7.7.7", S1))
    play.at(ms=11_999).expect()
    play.at(s=12).expect(unroute("*", G2), unroute(S1, "239.7.7.7"), says("wan", (TO_IN, G2), (BLOCK, "239.7.7.7", S1)))
    play.at(s=13).expect(says("wan", (TO_IN, G2), (BLOCK, "239.7.7.7", S1)))
    play.at(s=30).expect()
    assert play.group("lan0", G).expires_s > 200


def test_an_answer_to_the_second_question_is_early_enough():
    play = adopted(("*", G, "wan", ("wan", "lan0"))).at(s=10).forget()
    play.advance(s=0.5).on("lan0", record(IS_EX, G)).advance(s=10).expect(asks("lan0", G, suppress=True))
    assert play.group("lan0", G) is not None


def test_excluded_sources_are_recognised():
    play = adopted(("*", G, "wan", ("wan", "lan0", "lan1")), (S1, G, "wan", ("lan1",)), (S2, G, "wan", ())).forget()
    assert [str(one) for one in play.group("lan0", G).excluded] == [S1, S2]
    assert [str(one) for one in play.group("lan1", G).excluded] == [S2]


def test_entries_of_gone_interfaces_are_corrected():
    play = Play().configure(config("wan", "lan0")).plug("wan").plug("lan0").plug("old").forget()
    play.found(("*", "*", "wan", ("wan", "lan0", "old")), ("*", G, "wan", ("wan", "lan0", "old")), ("*", G2, "old", ("lan0",)))
    play.expect(
        route("*", "*", "wan", "lan0", "wan"),
        route("*", G, "wan", "lan0", "wan"),
        route("*", G2, "wan", "lan0", "wan"),
        route("*", LOCAL, "wan"),
        says("wan", (TO_EX, G), (TO_EX, G2)),
    )


def test_permanent_entries_are_not_taken_for_memberships():
    mfc = [{"source": S1, "group": G, "downstream-interface": "lan0", "join": False}]
    play = Play().configure(config("wan", "lan0", mfc=mfc)).plug("wan").plug("lan0").forget()
    play.found(("*", "*", "wan", ("wan", "lan0")), ("*", LOCAL, "wan", ()), (S1, G, "wan", ("lan0",))).expect()
    assert play.group("lan0", G) is None


def test_before_the_kernel_was_told_no_route_is_touched():
    play = Play().configure(config("wan", "lan0")).plug("wan").plug("lan0").on("lan0", record(IS_EX, G)).configure(None)
    assert play.seen(containing="route") == []


def test_a_refused_entry_is_tried_again_with_patience(play):
    play.on("lan0", record(IS_EX, G)).advance(s=5).forget()
    refused = next(effect for _, effect in play.effects if isinstance(effect, SetRoute) and effect.group == packed(G))
    wanted = route("*", G, "wan", "lan0", "wan")
    for wait_ms in (1_000, 2_000, 4_000, 8_000, 16_000, 32_000):
        play.tell(EffectFailed(refused, errno.ENOMEM)).advance(ms=wait_ms - 1).expect()
        play.advance(ms=1).expect(wanted)
    assert len(play.noted("kernel/refused")) == 1
    play.advance(s=10).forget()
    play.tell(EffectFailed(refused, errno.ENOMEM)).advance(s=1)
    assert wanted in play.seen()
    assert len(play.noted("kernel/refused")) == 2, "it had worked in between"


def test_what_is_tried_again_is_the_present_truth(play):
    play.on("lan0", record(IS_EX, G)).advance(s=5)
    refused = next(effect for _, effect in play.effects if isinstance(effect, SetRoute) and effect.group == packed(G))
    play.tell(EffectFailed(refused, errno.ENOMEM)).on("lan0", record(TO_IN, G)).forget().advance(s=1).expect(unroute("*", G), says("wan", (TO_IN, G)))
    play.tell(EffectFailed(SetVif(IfIndex(2), is_upstream=False), errno.ENODEV)).advance(s=1).expect(vif("lan0"), asks("lan0"))
    play.tell(EffectFailed(SetVif(IfIndex(77), is_upstream=False), errno.ENODEV)).advance(s=1).expect()


def test_a_packet_that_was_not_sent_is_counted_and_said_once(play):
    sent = next(effect for _, effect in play.effects if isinstance(effect, SendPacket))
    play.tell(EffectFailed(sent, errno.ENETDOWN)).tell(EffectFailed(sent, errno.ENETDOWN)).expect()
    assert play.counter("lan0", "send-failed") == 2
    assert len(play.noted("packet/not-sent")) == 1


def test_a_downstream_that_gets_its_vif_late_is_asked_as_at_the_start(play):
    play.tell(EffectFailed(SetVif(IfIndex(2), is_upstream=False), errno.ENFILE)).advance(s=1).expect(vif("lan0"), asks("lan0"))
    play.advance(ms=31_249).expect()
    play.advance(ms=1).expect(asks("lan0"))  # startup query interval: a quarter of 125 s
    play.on("lan0", a_query(), host="10.1.0.9").forget()  # somebody with a lower address: it is not ours to ask
    play.tell(EffectFailed(SetVif(IfIndex(2), is_upstream=False), errno.ENFILE)).advance(s=2).expect(vif("lan0"))


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EAGAIN])
def test_an_answer_that_found_no_room_is_given_a_moment_later(play, number):
    play.on("lan0", record(IS_EX, G)).advance(s=10).forget()
    play.on("wan", a_query(max_response_ms=1_000), host=1).advance(s=1)
    refused = play.effects[-1][1]
    play.forget().tell(EffectFailed(refused, number)).advance(ms=49).expect()
    play.advance(ms=1).expect(says("wan", (IS_EX, G)))
    play.tell(EffectFailed(refused, number)).advance(ms=99).expect()
    play.advance(ms=1).expect(says("wan", (IS_EX, G)))
    for _ in range(20):  # no passing shortage: the attempts come to an end
        play.tell(EffectFailed(refused, number)).advance(ms=1)
    play.advance(s=10).forget().advance(s=60).expect()
    play.tell(EffectFailed(refused, number)).advance(ms=50).expect(says("wan", (IS_EX, G)))


def test_what_is_said_again_is_the_present_truth(play):
    play.on("lan0", record(IS_EX, G)).advance(s=10)
    play.on("wan", a_query(max_response_ms=1_000), host=1).advance(s=1)
    refused = play.effects[-1][1]
    play.on("lan0", record(TO_IN, G)).advance(s=10).forget()
    play.tell(EffectFailed(refused, errno.ENOBUFS)).advance(s=10).expect()


def test_a_general_query_that_found_no_room_is_asked_again_soon(play):
    play.advance(s=120).forget()
    refused = next(effect for _, effect in reversed(play.effects) if isinstance(effect, SendPacket) and effect.ifindex == play.names["lan0"])
    play.tell(EffectFailed(refused, errno.ENOBUFS)).advance(ms=999).expect()
    play.advance(ms=1).expect(asks("lan0"))
    play.advance(s=120)
    assert play.seen().count(asks("lan0")) == 0


def test_a_query_about_a_group_that_found_no_room_is_no_general_query_though_all_hosts_should_get_it():
    play = a_proxy("wan", {"interface": "lan0", "query-destination": "all-hosts", "robustness": 1}, quick_leave="off").at(s=300)
    play.on("lan0", record(IS_EX, G)).advance(s=5).on("lan0", record(TO_IN, G)).forget()
    refused = next(effect for _, effect in reversed(play.effects) if isinstance(effect, SendPacket) and effect.ifindex == play.names["lan0"])
    assert refused.destination == packed("224.0.0.1")
    play.tell(EffectFailed(refused, errno.ENOBUFS)).advance(s=20)
    assert asks("lan0") not in play.seen()


def test_a_threshold_that_the_kernel_has_otherwise_is_mended_when_adopted():
    for threshold_ttl, mended in ((1, ()), (9, (route("*", G, "wan", "lan0", "wan"),))):
        play = Play().configure(config("wan", "lan0")).plug("wan").plug("lan0").forget()
        play.found(("*", G, "wan", ("wan", "lan0")), threshold_ttl=threshold_ttl)
        assert tuple(line for line in play.seen() if f"(*, {G})" in line) == mended


def test_upcalls_are_counted(play):
    for event in (
        CacheMissed(IfIndex(2), packed(S1), packed(G)),
        WrongInterface(IfIndex(2), packed(S1), packed(G)),
        CacheMissed(IfIndex(99), packed(S1), packed(G)),
    ):
        play.tell(event)
    play.expect()
    assert play.counter("lan0", "cache-missed") == 1
    assert play.counter("lan0", "wrong-interface") == 1


# -- what is shown ----------------------------------------------------------------------------------------------------------


def test_the_snapshot_says_who_listens_where_and_why(play):
    play.on("lan0", record(IS_EX, G, S1)).on("lan0", record(IS_IN, G2, S2), host=101).advance(s=7)
    state = play.engine.snapshot(play.now_ms)
    rows = {(row.interface, str(row.group)): row for row in state.groups}
    assert rows["lan0", G].excluded == (ipaddress.ip_address(S1),)
    assert (rows["lan0", G].expires_s, rows["lan0", G].uptime_s, str(rows["lan0", G].last_reporter)) == (263, 7, "10.2.0.100")
    assert [(str(one.address), one.expires_s) for one in rows["lan0", G2].sources] == [(S2, 263)]
    assert {(str(row.group), str(row.host)) for row in state.hosts} == {(G, "10.2.0.100"), (G2, "10.2.0.101")}
    assert {(str(row.group), row.mode) for row in state.upstream} == {(G, "exclude"), (G2, "include")}
    mfc = {(str(row.source), str(row.group)): (row.upstream, row.downstreams) for row in state.mfc}
    assert mfc["*", G] == ("wan", ("lan0",))
    assert mfc[S1, G] == ("wan", ())
    assert {(str(row.source), str(row.group)) for row in state.mfc if row.state == "withheld"} == {(S1, G), ("*", LOCAL)}
    lan0 = play.interface("lan0")
    assert (lan0.role, lan0.up, lan0.addresses, lan0.querier.self_, lan0.querier.reason) == ("downstream", True, ("10.2.0.1/24",), True, "started")


def test_withheld_groups_are_shown(play):
    play.on("lan0", a_query(), host="10.2.0.0").on("lan0", record(IS_EX, G))
    (row,) = [row for row in play.engine.snapshot(play.now_ms).mfc if str(row.group) == G]
    assert (row.state, row.downstreams) == ("withheld", ("lan0",))


def test_interfaces_that_do_not_exist_are_shown():
    play = Play().configure(config("wan", "lan0")).plug("wan")
    rows = {row.interface: (row.role, row.up, row.enabled) for row in play.engine.snapshot(0).interfaces}
    assert rows == {"wan": ("upstream", True, True), "lan0": ("downstream", False, True)}


def test_the_state_is_printable_as_the_model_says(play):
    play.on("lan0", record(IS_EX, G, S1)).on("lan0", a_query(), host="10.2.0.0")
    state = play.engine.snapshot(play.now_ms)
    again = from_plain(DeviceState, to_plain(state))
    assert set(again.groups) == set(state.groups)
    assert set(again.mfc) == set(state.mfc)
    assert set(again.interfaces) == set(state.interfaces)


@covers("ROB-06")
def test_counters_by_kind_and_version(play):
    play.on("lan0", record(IS_EX, G)).on("lan0", record(IS_EX, G), version=2).on("lan0", record(TO_IN, G), version=2).on("lan0", a_query(), host=200)
    play.on("wan", a_query(version=2), host=9).advance(s=20)
    lan0 = {one.name: one.value for one in play.interface("lan0").counters}
    assert {name: lan0[name] for name in lan0 if name.startswith("received")} == {
        "received-report-v3": 1,
        "received-report-v2": 1,
        "received-leave-v2": 1,
        "received-query-v3": 1,
    }
    assert lan0["sent-query-v3"] >= 3
    wan = {one.name: one.value for one in play.interface("wan").counters}
    assert wan["sent-report-v3"] >= 1
    assert wan["received-query-v2"] == 1


@covers("ROB-02")
@pytest.mark.parametrize("payload", [b"", b"\0", b"\x11", b"\xff" * 9, bytes(2_000)])
def test_rubbish_is_counted_on_every_interface(play, payload):
    for name in ("wan", "lan0"):
        play.raw(name, payload)
        assert sum(one.value for one in play.interface(name).counters if one.name.startswith("rejected-")) == 1
    play.expect()
    assert list(play.engine.handle(PacketReceived(IfIndex(77), bytes(4), None, payload, 1, True), play.now_ms)) == []
