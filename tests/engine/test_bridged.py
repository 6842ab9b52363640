"""What is different for an instance among the ports of a bridge: no addresses, no subnets, and IPv6 lives on groups of the link."""

from __future__ import annotations

import pytest

from igmpconf.engine.effects import SendPacket
from igmpconf.engine.family import IGMP, MLD, Family
from tests.kit.builders import TO_EX, TO_IN, G, a_query, asks, config, packed, record, route, says, unroute
from tests.kit.conformance import covers
from tests.kit.playbook import Play

NEIGHBOUR = "ff02::1:ff00:2"


def a_bridge(*ports: object, family: Family = IGMP, address: str = "", **instance: object) -> Play:
    """The upstream first; all ports have the address of the bridge, or none."""
    play = Play(family)
    play.configure(config(*ports, mode="bridged", bridge="br0", family=family.name, **instance))
    for port in ports:
        play.plug(port["interface"] if isinstance(port, dict) else str(port), address)
    return play.found().forget()


@covers("PKT-32")
def test_a_bridge_without_address_asks_from_0_0_0_0_and_yields_to_whoever_has_one():
    play = a_bridge("wan", "lan0")
    (query,) = [effect for _, effect in play.effects if isinstance(effect, SendPacket)]
    assert query.source == bytes(4)
    play.advance(s=32).expect(asks("lan0"))
    play.on("lan0", a_query(), host="0.0.0.0").expect()
    assert play.interface("lan0").querier.self_ is True, "two bridges without addresses do not silence each other"
    play.on("lan0", a_query(), host="192.168.7.1").advance(s=200).expect()
    assert play.interface("lan0").querier.self_ is False
    play.advance(s=60).expect(asks("lan0"))
    assert play.interface("lan0").querier.self_ is True


def test_mld_is_not_asked_without_a_link_local_address():
    play = a_bridge("wan", "lan0", family=MLD)
    assert play.interface("lan0").querier.address is None
    play.advance(s=300).expect()


def test_a_port_whose_querier_is_another_gets_its_streams_all_the_same():
    play = a_bridge("wan", "lan0", address="10.9.0.2/24")
    play.on("lan0", a_query(), host="10.9.0.1").forget()
    play.on("lan0", record(TO_EX, G), host="10.9.0.77").expect(says("wan", (TO_EX, G)), route("*", G, "wan", "lan0", "wan"))


def test_hosts_of_all_subnets_are_heard():
    play = a_bridge("wan", "lan0", address="10.9.0.2/24")
    play.on("lan0", record(TO_EX, G), host="172.16.3.4").expect(says("wan", (TO_EX, G)), route("*", G, "wan", "lan0", "wan"))


def test_groups_of_the_link_are_switched_by_membership_and_never_told_upstream():
    play = a_bridge("wan", "lan0", "lan1", family=MLD, address="fe80::9/64")
    play.on("lan0", record(TO_EX, NEIGHBOUR), host="fe80::77").expect(route("*", NEIGHBOUR, "wan", "lan0", "wan"))
    play.on("lan1", record(TO_EX, "ff02::1"), host="fe80::78").expect()
    play.advance(s=20).forget()
    play.on("lan0", record(TO_IN, NEIGHBOUR), host="fe80::77").expect(unroute("*", NEIGHBOUR), asks("lan0", NEIGHBOUR, version=2))


@pytest.mark.parametrize("port", [{"interface": "lan0", "max-groups": 1}, {"interface": "lan0", "groups": [{"action": "deny"}]}])
def test_policy_speaks_of_streams_and_not_of_groups_of_the_link(port):
    play = a_bridge("wan", port, family=MLD, address="fe80::9/64")
    play.on("lan0", record(TO_EX, "ff0e::1"), host="fe80::77").forget()
    play.on("lan0", record(TO_EX, NEIGHBOUR), host="fe80::77").expect(route("*", NEIGHBOUR, "wan", "lan0", "wan"))
    play.configure(config("wan", port, mode="bridged", bridge="br0", family="ipv6", groups=[{"action": "deny"}]))
    assert play.group("lan0", NEIGHBOUR) is not None, "a review of the policy leaves it"


def test_a_local_group_without_listeners_needs_no_entry():
    play = a_bridge("wan", "lan0", address="10.9.0.2/24")
    assert {str(row.group) for row in play.engine.snapshot(play.now_ms).mfc} == {"*"}
    play.on("lan0", record(TO_EX, "239.255.255.250"), host="10.9.0.77").expect(route("*", "239.255.255.250", "wan", "lan0"))


def test_a_group_of_the_link_is_adopted_after_a_restart():
    play = Play(MLD)
    play.configure(config("wan", "lan0", mode="bridged", bridge="br0", family="ipv6"))
    for name in ("wan", "lan0"):
        play.plug(name, "fe80::9/64")
    play.found(("*", NEIGHBOUR, "wan", ("lan0",)))
    assert play.group("lan0", NEIGHBOUR) is not None
    play.forget().advance(s=60)
    assert play.group("lan0", NEIGHBOUR) is None, "nobody reported it again"


def test_a_routed_instance_switches_no_group_of_the_link():
    play = Play(MLD)
    play.configure(config("wan", "lan0", family="ipv6"))
    for name in ("wan", "lan0"):
        play.plug(name)
    play.found().forget()
    play.on("lan0", record(TO_EX, NEIGHBOUR)).expect()
    assert packed(NEIGHBOUR) not in play.engine.downstreams[play.names["lan0"]].listeners.groups
