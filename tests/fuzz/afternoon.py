"""An afternoon of one engine, made from octets: whoever makes the octets (Hypothesis, a fuzzer, a file) decides what happens.

`spend(data)` lets anything happen that the world can do to an engine: messages that are right, bent or noise, links that
come, change and go, other configurations, refused effects, time.  After every event the kernel that the effects describe
must be possible, and the engine's own tables must agree with one another; at the end silence empties everything.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar
from xml.etree.ElementTree import fromstring, tostring

from igmpconf.engine.effects import ClearRoute, ClearVif, Effect, Note, SendPacket, SetRoute, SetVif
from igmpconf.engine.engine import Engine
from igmpconf.engine.events import (
    CacheMissed,
    ConfigReplaced,
    EffectFailed,
    Event,
    InterfaceAddress,
    LinkChanged,
    LinkRemoved,
    PacketReceived,
    RouteFound,
    RoutesFound,
    TimePassed,
    WrongInterface,
)
from igmpconf.engine.family import IGMP, MLD, Family
from igmpconf.engine.messages import Query, Record, RecordKind
from igmpconf.engine.sources import EVERYTHING, NOTHING, SourceSet
from igmpconf.engine.wire.checksum import internet_checksum
from igmpconf.engine.wire.ip import parse_ipv4
from igmpconf.errors import WireError
from igmpconf.ids import IfIndex
from igmpconf.model.canon import canonical, from_plain
from igmpconf.model.config import ProxyConfig
from igmpconf.schema.xml import state_to_xml, xml_to_state

T = TypeVar("T")

NAMES = ("wan", "lan0", "lan1", "ppp0")
MTUS = (1500, 1500, 576, 68, 1280, 9000)
MOST_EVENTS = 60
_MESSAGES = Path(__file__).parents[1] / "conformance" / "data" / "messages.json"


def _packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


class World:
    """What one family calls its things."""

    def __init__(self, family: Family, groups: str, sources: str, hosts: str, routers: str, configs: Sequence[dict[str, Any] | None]) -> None:
        self.family = family
        self.groups = [_packed(one) for one in groups.split()]
        self.sources = [_packed(one) for one in sources.split()]
        self.hosts = [_packed(one) for one in hosts.split()]
        self.routers = [_packed(one) for one in routers.split()]
        self.configs = [None if one is None else from_plain(ProxyConfig, {"name": "default", "family": [family.name], **one}) for one in configs]

    def addresses(self, ifindex: int) -> tuple[InterfaceAddress, ...]:
        if self.family is IGMP:
            return (InterfaceAddress(bytes((10, ifindex, 0, 5)), 24),)
        return (InterfaceAddress(_packed(f"fe80::{ifindex}:5"), 64), InterfaceAddress(_packed(f"2001:db8:{ifindex}::5"), 64))


UP = {"interface": "wan", "upstream": True}
PLAIN: list[dict[str, Any] | None] = [
    {"interfaces": [UP, "lan0", "lan1"]},
    {"interfaces": [UP, "lan0", "lan1"], "quick-leave": "on"},
    {
        "interfaces": [
            UP,
            {"interface": "lan0", "lite-exclude-filter": True},
            {"interface": "lan1", "lite-exclude-filter": True, "max-sources-per-group": 1, "query-destination": "all-hosts"},
        ]
    },
    {"interfaces": [UP, {"interface": "lan0", "max-groups": 2, "max-sources-per-group": 2, "robustness": 3}, "lan1"], "quick-leave": "off"},
    {"interfaces": [{"interface": "lan0", "upstream": True}, "wan", "lan1"], "forward-when-non-querier": True},
    {"interfaces": [{"interface": "ppp*", "upstream": True}, "lan?", {"interface": "wan", "enabled": False}]},
    {
        "interfaces": [UP, {"interface": "lan0", "require-router-alert": True, "threshold": 64}],
        "robustness": 1,
        "query-interval": "1s",
        "query-response-interval": "500ms",
    },
    {"enabled": False, "interfaces": [UP, "lan0"]},
    None,
]
IPV4 = World(
    IGMP,
    "239.1.1.1 239.1.1.2 232.1.1.1 239.255.255.250 224.0.0.251 224.0.1.1",
    "192.0.2.1 192.0.2.2 10.2.0.9 10.3.0.9",
    "10.2.0.11 10.2.0.12 10.3.0.13 10.4.0.14 203.0.113.1",
    "10.1.0.1 10.2.0.1 10.3.0.1 10.2.0.200 0.0.0.0 10.2.0.5",
    [
        *PLAIN,
        {"interfaces": [UP, {"interface": "lan0", "version": 2}, {"interface": "lan1", "version": 1}]},
        {"interfaces": [UP | {"minimum-version": 3}, {"interface": "lan0", "minimum-version": 2}, {"interface": "lan1", "minimum-version": 3}]},
        {
            "interfaces": [UP, {"interface": "lan0", "static-groups": [{"group": "239.1.1.1"}, {"group": "239.1.1.2", "source": "192.0.2.1"}]}, "lan1"],
            "mfc": [
                {"source": "192.0.2.1", "group": "239.1.1.1", "downstream-interface": ["lan0"]},
                {"source": "*", "group": "239.1.1.2", "downstream-interface": ["lan0", "lan1"], "join": False},
                {"source": "10.2.0.9", "group": "239.1.1.2", "downstream-interface": ["lan1"], "upstream-interface": "lan0"},
            ],
            "local-groups": ["239.255.255.250", "239.1.1.2"],
        },
        {
            "interfaces": [
                UP,
                {
                    "interface": "lan0",
                    "alternative-subnets": ["203.0.113.0/24"],
                    "groups": [{"action": "deny", "group": "239.1.1.2"}, {"action": "deny", "source": "192.0.2.2"}],
                },
                "lan1",
            ],
            "ssm-range": ["232.0.0.0/8", "239.1.1.1/32"],
        },
    ],
)
IPV6 = World(
    MLD,
    "ff05::1 ff05::2 ff3e::8000:1 ff02::c ff02::fb ff0e::9",
    "2001:db8::1 2001:db8::2 2001:db8:2::9 2001:db8:3::9",
    "fe80::2:11 fe80::2:12 fe80::3:13 fe80::4:14 2001:db8:2::11",
    "fe80::1:1 fe80::1 fe80::2 fe80::2:200 :: fe80::2:5",
    [
        *PLAIN,
        {"interfaces": [UP, {"interface": "lan0", "mld-version": 1}, "lan1"]},
        {"interfaces": [UP | {"minimum-mld-version": 2}, {"interface": "lan0", "minimum-mld-version": 2}, "lan1"]},
        {
            "interfaces": [UP, {"interface": "lan0", "static-groups": [{"group": "ff05::1"}, {"group": "ff05::2", "source": "2001:db8::1"}]}, "lan1"],
            "mfc": [
                {"source": "2001:db8::1", "group": "ff05::1", "downstream-interface": ["lan0"]},
                {"source": "*", "group": "ff05::2", "downstream-interface": ["lan0", "lan1"], "join": False},
            ],
            "local-groups": ["ff05::2"],
        },
        {"interfaces": [UP, {"interface": "lan0", "groups": [{"action": "deny", "group": "ff05::2"}, {"action": "deny", "source": "2001:db8::2"}]}, "lan1"]},
    ],
)


class Choices:
    """Decisions from octets; when they run out, always the first possibility."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def octet(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def number(self, limit: int) -> int:
        """0..limit-1"""
        wide = self.octet() if limit <= 256 else self.octet() << 16 | self.octet() << 8 | self.octet()
        return wide % limit

    def one(self, of: Sequence[T]) -> T:
        return of[self.number(len(of))]

    def octets(self, most: int) -> bytes:
        return bytes(self.octet() for _ in range(self.number(most + 1)))


class Afternoon:
    def __init__(self, data: bytes) -> None:
        self.choices = Choices(data)
        self.world = self.choices.one((IPV4, IPV6))
        self.family = self.world.family
        self.engine = Engine(self.family, draw=self._draw)
        self.now_ms = 0
        self.vifs: dict[IfIndex, bool] = {}
        self.former: set[IfIndex] = set()  # upstreams when the event in hand came
        self.routes: dict[tuple[bytes | None, bytes | None], SetRoute] = {}
        self.found: set[tuple[bytes | None, bytes | None]] = set()  # adopted, not stated anew
        self.links: dict[IfIndex, LinkChanged] = {}
        self.asked: list[Effect] = []  # the latest
        self.happened: Counter[str] = Counter()
        self._serial = 0

    def _draw(self, limit: int) -> int:
        self._serial += 7919
        return self._serial % limit + 1

    # -- what happens ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.tell(ConfigReplaced(self.choices.one(self.world.configs)))
        for number, name in enumerate(NAMES, 1):
            self.tell(self._link(name, IfIndex(number)))
        found = [RouteFound(None, None, IfIndex(1), frozenset({IfIndex(1), IfIndex(2)}))] if self.choices.octet() & 1 else []
        for _ in range(self.choices.number(4)):
            source, group = self.choices.one([None, *self.world.sources]), self.choices.one(self.world.groups)
            iif = IfIndex(self.choices.number(4) + 1)
            oifs = frozenset(IfIndex(1 + at) for at in range(4) if self.choices.octet() & 1 and (source is None or at + 1 != iif))
            if (source, group) not in {(route.source, route.group) for route in found}:
                found.append(RouteFound(source, group, iif, oifs))
        for route in found:
            self.found.add((route.source, route.group))
            self.routes[route.source, route.group] = SetRoute(route.source, route.group, route.iif, tuple((oif, 1) for oif in sorted(route.oifs)))
        self.tell(RoutesFound(tuple(found)))

    def _link(self, name: str, ifindex: IfIndex) -> LinkChanged:
        is_up = self.choices.octet() % 8 != 7
        addresses = self.world.addresses(ifindex) if self.choices.octet() % 8 != 7 else ()
        return LinkChanged(ifindex, name, is_up, self.choices.one(MTUS), addresses)

    def something(self) -> None:
        choices, world = self.choices, self.world
        match choices.number(64):
            case number if number < 36:
                self.tell(self._packet(self._right()))
            case number if number < 44:
                self.tell(self._packet(self._bent(self._right())))
            case 44 | 45 | 46:
                self.tell(self._packet(self._summed(choices.octets(60))))
            case number if number < 58:
                self._pass(choices.one((10, 100, 1_000, 1_500, 10_000, 130_000, 300_000)))
            case 58 | 59:
                ifindex = IfIndex(choices.number(8) + 1)
                self.links.pop(ifindex, None) if choices.octet() & 1 else None
                self.tell(self._link(choices.one(NAMES), ifindex))
            case 60:
                self.tell(LinkRemoved(IfIndex(choices.number(8) + 1)))
            case 61:
                self.tell(ConfigReplaced(choices.one(world.configs)))
            case _:
                refusable = [effect for effect in self.asked[-20:] if not isinstance(effect, Note)]
                if refusable and choices.octet() & 1:
                    self.tell(EffectFailed(choices.one(refusable), choices.one((1, 12, 19, 105, 200))))
                else:
                    kind = choices.one((CacheMissed, WrongInterface))
                    self.tell(kind(IfIndex(choices.number(8) + 1), choices.one(world.sources), choices.one(world.groups)))

    def _packet(self, payload: bytes) -> PacketReceived:
        choices, world = self.choices, self.world
        ifindex = IfIndex(choices.one((2, 2, 2, 3, 3, 1, 1, 4, 9)))
        is_host = choices.octet() % 4 != 3
        sender = choices.one(world.hosts) if is_host else choices.one(world.routers)
        destination = (
            None if self.family is MLD or choices.octet() & 1 else choices.one((world.family.all_hosts, world.family.all_report_routers, *world.groups))
        )
        return PacketReceived(ifindex, sender, destination, payload, choices.one((1, 1, 1, 2, 255)), router_alert=choices.octet() % 8 != 7)

    def _right(self) -> bytes:
        choices, world, family = self.choices, self.world, self.family
        version = choices.one((family.latest_version, family.latest_version, *range(1, family.latest_version)))
        if choices.octet() % 3 == 2:
            group = choices.one([None, *world.groups])
            sources = tuple(dict.fromkeys(choices.one(world.sources) for _ in range(choices.number(3)))) if group is not None else ()
            response_ms, robustness, interval_ms = choices.one((100, 1_000, 10_000)), choices.one((None, 2, 7)), choices.one((None, 2_000, 125_000))
            return family.encode_query(Query(b"", version, group, sources, response_ms, robustness, interval_ms, suppress=choices.octet() & 1 == 1), 1500)[0]
        records = [
            Record(choices.one(tuple(RecordKind)), choices.one(world.groups), frozenset(choices.one(world.sources) for _ in range(choices.number(4))))
            for _ in range(choices.number(3) + 1)
        ]
        packets = family.encode_report(version, records, 1500)
        return packets[0][1] if packets else family.encode_report(version, [Record(RecordKind.IS_EX, world.groups[0])], 1500)[0][1]

    def _bent(self, payload: bytes) -> bytes:
        bent = bytearray(payload)
        for _ in range(self.choices.number(3) + 1):
            bent[self.choices.number(len(bent))] = self.choices.octet()
        cut = self.choices.octet()
        return self._summed(bytes(bent[:cut] if cut < len(bent) // 2 else bent))

    def _summed(self, payload: bytes) -> bytes:
        """With the checksum in order, mostly; or nothing would get past it."""
        if len(payload) < 4 or self.family is MLD or self.choices.octet() % 8 == 7:
            return payload
        return payload[:2] + internet_checksum(payload[:2] + b"\0\0" + payload[4:]).to_bytes(2) + payload[4:]

    def _pass(self, ms: int) -> None:
        until_ms = self.now_ms + ms
        for _ in range(30):
            deadline_ms = self.engine.next_deadline_ms()
            if deadline_ms is None or deadline_ms > until_ms:
                break
            self.now_ms = max(self.now_ms, deadline_ms)
            self.tell(TimePassed())
        self.now_ms = until_ms  # beyond thirty deadlines all others come late, as on a busy machine
        self.tell(TimePassed())

    # -- what must hold --------------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        if isinstance(event, LinkChanged):
            for other in [one for one in self.links.values() if one.name == event.name and one.ifindex != event.ifindex]:
                del self.links[other.ifindex]
            self.links[event.ifindex] = event
        elif isinstance(event, LinkRemoved):
            self.links.pop(event.ifindex, None)
        self.former = {ifindex for ifindex, is_upstream in self.vifs.items() if is_upstream}
        foreseen = self.engine.foreseen(event) if isinstance(event, PacketReceived) else None
        effects = self.engine.handle(event, self.now_ms)
        assert foreseen is None or foreseen in effects, f"foreseen and not stated: {foreseen}"
        for effect in effects:
            self._happens(effect)
            self.asked.append(effect)
            self.happened[effect.event if isinstance(effect, Note) else type(effect).__name__] += 1
        del self.asked[:-20]
        self._agrees()

    def _happens(self, effect: Effect) -> None:
        match effect:
            case SetVif(ifindex, is_upstream=is_upstream):
                self.vifs[ifindex] = is_upstream
            case ClearVif(ifindex):
                self.vifs.pop(ifindex, None)
            case SetRoute(source, group, iif, oifs):
                named = {iif, *(oif for oif, _ in oifs)}
                assert named <= self.vifs.keys(), f"{effect} names an interface that has no vif"
                assert source is None or iif not in dict(oifs), f"{effect} would send datagrams back"
                assert list(oifs) == sorted(oifs)
                assert all(1 <= ttl <= 254 for _, ttl in oifs)
                assert group is not None or source is None
                assert group is None or not self.family.stays_on_link(group)
                self.routes[source, group] = effect
                self.found.discard((source, group))
            case ClearRoute(source, group):
                self.routes.pop((source, group), None)
            case SendPacket():
                self._sendable(effect)
            case Note():
                assert all("\n" not in str(value) for value in effect.fields.values())
                json.dumps(dict(effect.fields), default=str)

    def _sendable(self, packet: SendPacket) -> None:
        assert packet.ifindex in self.vifs, f"{packet} leaves by an interface that has no vif"
        assert packet.source is not None
        assert len(packet.destination) == self.family.address_bytes
        asker = packet.source if self.family.may_send(packet.source) else self.world.hosts[0]
        message = self.family.decode(packet.payload, asker, None, 1, True)
        is_upstream = self.vifs[packet.ifindex]
        if isinstance(message, Query) is is_upstream:
            assert not isinstance(message, Query), "queries go down"
            assert packet.ifindex in self.former, "reports go up"
            assert all(one.kind in {RecordKind.TO_IN, RecordKind.BLOCK} for one in message.records), "a former upstream is only left"
        link = self.links.get(packet.ifindex)
        if link is not None and link.mtu >= 576:
            assert len(packet.payload) + self.family.header_bytes <= link.mtu

    def _agrees(self) -> None:
        engine = self.engine
        live = {ifindex for ifindex, port in [(one.interface.ifindex, one) for one in engine.downstreams.values()]}
        if engine.upstream is not None:
            live.add(engine.upstream.interface.ifindex)
        assert live == self.vifs.keys()
        assert live <= self.links.keys()
        if not engine.routes.is_held_back:
            assert self.routes.keys() == engine.routes.installed.keys()
            for key, route in self.routes.items():
                iif, leaving = engine.routes.installed[key]
                assert route.iif == iif
                # of an entry that was found, the engine believes that its thresholds are those of today
                assert dict(route.oifs).keys() == dict(leaving).keys() if key in self.found else route.oifs == leaving
            for route in self.routes.values():
                assert {route.iif, *(oif for oif, _ in route.oifs)} <= live, f"{route} names an interface that is gone"
        union = self._union()
        assert engine.proxy.database == union
        if engine.upstream is not None and engine.upstream.interface.link.is_up:
            assert {group: held.wanted for group, held in engine.upstream.host.groups.items() if held.wanted} == union
        for downstream in engine.downstreams.values():
            assert downstream.is_running or not downstream.listeners.groups
            limit = downstream.interface.params.max_sources_per_group
            for state in downstream.listeners.groups.values():
                assert state
                assert not state.blocked or state.exclude
                assert not state.blocked & state.wanted.keys()
                assert not self.family.stays_on_link(state.group)
                assert limit is None or state.adopted_until_ms or len(state.wanted) + len(state.blocked) <= max(limit, len(self.world.sources))

    def _union(self) -> dict[bytes, SourceSet]:
        """RFC 4605 4.1, computed from the downstreams alone."""
        engine, merged = self.engine, dict[bytes, SourceSet]()
        for downstream in engine.downstreams.values():
            for group in {*downstream.listeners.groups, *downstream.listeners.static}:
                merged[group] = merged.get(group, NOTHING) | downstream.listeners.membership(group)
        for entry in engine.instance.static_entries if engine.instance is not None else ():
            if entry.joins and entry.iif is None and not (entry.source is None and entry.group in engine.instance.ssm_range):
                wanted = EVERYTHING if entry.source is None else SourceSet(frozenset({entry.source}))
                merged[entry.group] = merged.get(entry.group, NOTHING) | wanted
        local = engine.instance.local_groups if engine.instance is not None else ()
        return {group: wanted for group, wanted in merged.items() if wanted and group not in local and not self.family.stays_on_link(group)}

    def speak(self) -> None:
        """`<get>` can always be answered, and what is answered can be read."""
        state = self.engine.snapshot(self.now_ms)
        assert xml_to_state(fromstring(tostring(state_to_xml(state)))) == canonical(state)

    def end(self) -> None:
        """Silence empties everything, and leaving leaves nothing."""
        for _ in range(12):  # more than any interval that a querier can talk us into (RFC 3376 4.1.7)
            self.now_ms += 300_000_000
            self.tell(TimePassed())
            self._pass(30_000)
        held = [state.group for downstream in self.engine.downstreams.values() for state in downstream.listeners.groups.values()]
        assert not held, "somebody is remembered who has been silent for a month"
        state = self.engine.snapshot(self.now_ms)
        assert not state.hosts
        self.speak()
        self.tell(ConfigReplaced(None))
        assert not self.vifs
        assert not self.routes
        assert not self.engine.proxy.database
        self._pass(1_000_000)
        assert self.engine.next_deadline_ms() is None


def spend(data: bytes, most_events: int = MOST_EVENTS) -> Afternoon:
    """The whole afternoon that `data` describes; AssertionError, or whatever the engine raised, if something went wrong."""
    afternoon = Afternoon(data)
    afternoon.begin()
    for at in range(most_events):
        if not afternoon.choices:
            break
        afternoon.something()
        if at % 16 == 7:
            afternoon.speak()
    afternoon.end()
    return afternoon


def decode(data: bytes) -> None:
    """Octets to every decoder: a message or WireError, nothing else, and what was understood can be said again."""
    summed = data[:2] + internet_checksum(data[:2] + b"\0\0" + data[4:]).to_bytes(2) + data[4:] if len(data) >= 4 else data
    for family, sender, payload in ((IGMP, _packed("10.0.0.1"), data), (IGMP, _packed("10.0.0.1"), summed), (MLD, _packed("fe80::1"), data)):
        try:
            message = family.decode(payload, sender, None, 1, True)
        except WireError as error:
            if not error.reason:
                raise AssertionError("a refusal without a reason") from error
            continue
        if isinstance(message, Query):
            queries = [family.decode(one, sender, None, 1, True) for one in family.encode_query(message, 65_535)]
            assert all(isinstance(one, Query) and (one.version, one.group) == (message.version, message.group) for one in queries)
        elif message.version == family.latest_version:
            reports = [family.decode(one, sender, None, 1, True) for _, one in family.encode_report(message.version, message.records, 65_535)]
            assert {record.group for report in reports for record in report.records} == {record.group for record in message.records}
    with contextlib.suppress(WireError):
        parse_ipv4(data)


def seeds() -> list[bytes]:
    """Real messages: those of the conformance tests."""
    return [bytes.fromhex(one["hex"]) for one in json.loads(_MESSAGES.read_text("utf-8")) if "hex" in one]
