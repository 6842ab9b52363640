"""What the engine's routes mean for each port of a bridge, and what arrives on a port from strangers."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from igmpconf.engine.sources import EVERYTHING, SourceSet
from igmpconf.engine.wire.ip import build_ipv4
from igmpconf.errors import WireError
from igmpconf.ids import IfIndex
from igmpconf.linux.bridge_filter import wanted_rules
from igmpconf.linux.bridge_mdb import PlainEntries, SourceLists
from igmpconf.linux.bridge_packets import PortPackets
from igmpconf.linux.bridge_settings import bridged, interface_of, wanted_settings
from igmpconf.linux.vlan import Link
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig

SOURCES = [bytes((10, 0, 0, number)) for number in range(1, 5)]
PORTS = st.dictionaries(
    st.integers(2, 6).map(IfIndex),
    st.builds(SourceSet, st.frozensets(st.sampled_from(SOURCES)), st.booleans()).filter(bool),
)
LINKS = {
    one.name: one
    for one in (
        Link(2, "br0", "bridge", True),
        Link(3, "ont0", None, True, master="br0"),
        Link(4, "lan1", None, True, master="br0"),
        Link(5, "lan2", None, True, master="br0"),
        Link(6, "wlan0", None, True, master="br0"),
        Link(7, "lan9", None, True),
    )
}


def desired(**leaves) -> DeviceConfig:
    interfaces = [{"interface": "ont0", "upstream": True}, "lan*"]
    return from_plain(DeviceConfig, {"igmp-proxy": [{"name": "tv", "mode": "bridged", "bridge": "br0", "interfaces": interfaces} | leaves]})


LISTS, PLAIN = SourceLists(None), PlainEntries(None)
ROUTES = st.dictionaries(st.one_of(st.none(), st.sampled_from(SOURCES)), st.frozensets(st.integers(2, 6).map(IfIndex), min_size=1))


@given(PORTS)
def test_routes_and_what_ports_get_are_the_same_thing_said_twice(ports):
    assert LISTS.of_routes(LISTS.to_routes(ports)) == ports


@given(PORTS)
def test_each_port_gets_a_source_by_its_exact_route_or_by_that_of_the_group(ports):
    routes = LISTS.to_routes(ports)
    for port, wanted in ports.items():
        for source in SOURCES:
            assert (source in wanted) is (port in routes.get(source, routes.get(None, frozenset())))


@given(ROUTES)
def test_plain_entries_are_the_routes_by_port(routes):
    assert PLAIN.to_routes(PLAIN.of_routes(routes)) == routes


def test_beyond_what_the_kernel_holds_a_port_gets_the_whole_group():
    port = IfIndex(2)
    many: dict[bytes | None, frozenset[IfIndex]] = {number.to_bytes(4): frozenset((port,)) for number in range(32)}
    assert LISTS.of_routes(many) == {port: EVERYTHING}
    del many[bytes(4)]
    assert LISTS.of_routes(many) == {port: SourceSet(frozenset(many))}


@given(st.binary(max_size=120))
def test_garbage_on_a_port_is_no_message(data):
    for parse in (PortPackets._parsed_ipv4, PortPackets._parsed_ipv6):
        with contextlib.suppress(WireError):
            parse(IfIndex(2), data)
    ipv6 = b"\x60" + data.ljust(80, b"\0")[1:]
    assert PortPackets._parsed_ipv6(IfIndex(2), ipv6[:4] + b"\xff\xff" + ipv6[6:]) is None, "longer than what arrived"


def test_a_datagram_with_a_damaged_header_is_no_message_and_padding_is_none_of_it():
    whole = build_ipv4(bytes(4), bytes((224, 0, 0, 1)), b"\x11\x00\xee\xff" + bytes(4))
    packet = PortPackets._parsed_ipv4(IfIndex(2), whole + bytes(14))
    assert packet is not None
    assert (packet.payload, packet.router_alert, packet.ttl) == (b"\x11\x00\xee\xff" + bytes(4), True, 1)
    assert PortPackets._parsed_ipv4(IfIndex(2), whole[:12] + b"\x01" + whole[13:]) is None


def test_ports_are_those_of_the_bridge_that_an_entry_names():
    (found,) = bridged(desired(), LINKS)
    assert (found.upstream, found.downstreams, found.families) == (("ont0",), ("lan1", "lan2"), ("ipv4",))
    assert list(bridged(desired(enabled=False), LINKS)) == []
    assert list(bridged(desired(bridge="lan9"), LINKS)) == [], "not a bridge"
    assert list(bridged(desired(mode="routed"), LINKS)) == []


def test_settings_are_made_before_the_bridge_begins_to_snoop():
    wanted = wanted_settings(desired(family=["ipv4", "ipv6"]), LINKS)
    names = list(wanted)
    assert names.index("bridge br0 mcast_hash_max") < names.index("bridge br0 mcast_snooping")
    assert names.index("bridge br0 mcast_querier_interval") < names.index("bridge br0 mcast_snooping")
    assert {name: value for name, value in wanted.items() if name.startswith("port")} == {
        "port ont0 mcast_router": 2,
        "port lan1 mcast_router": 0,
        "port lan2 mcast_router": 0,
    }
    assert "bridge br0 mcast_mld_version" not in wanted_settings(desired(), LINKS), "the other family is not ours"
    assert interface_of("port lan1 mcast_router") == "lan1"
    assert interface_of("net.ipv4.conf.wan.rp_filter") is None


def test_rules_speak_of_the_families_in_use_and_of_nothing_without_ports():
    def said(config: DeviceConfig) -> list[tuple[str, str]]:
        return [(rule.hook, rule.what) for rule in wanted_rules(config, LINKS)]

    assert said(desired()) == [
        ("prerouting", "IGMP of br0"),
        ("forward", "IGMP of br0"),
        ("output", "IGMP of br0"),
        ("forward", "local groups of br0"),
        ("forward", "local groups of br0"),
    ]
    assert {what for _, what in said(desired(family="ipv6"))} == {"MLD of br0", "local groups of br0"}
    assert said(desired(interfaces=[{"interface": "x", "upstream": True}])) == []
