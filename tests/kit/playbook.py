"""A play: events in at virtual times, effects out, a transcript of both when they differ from what was expected.

    play = a_proxy("wan", "lan0", "lan1")
    play.at(s=5).on("lan0", record(TO_EX, G)).expect(says("wan", (TO_EX, G)), route("*", G, "wan", "lan0", "wan"))
    play.advance(s=2).expect()

`expect` compares everything but notes since the last `expect`, in any order within the same instant, and stops the
test at the first difference.  Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from igmpconf.engine.effects import ClearRoute, ClearVif, Effect, Note, SendPacket, SetRoute, SetVif
from igmpconf.engine.engine import Engine
from igmpconf.engine.events import ConfigReplaced, Event, InterfaceAddress, LinkChanged, LinkRemoved, PacketReceived, RouteFound, RoutesFound, TimePassed
from igmpconf.engine.family import IGMP, Family
from igmpconf.engine.messages import Query, Record
from igmpconf.errors import WireError
from igmpconf.ids import IfIndex
from igmpconf.model.canon import to_plain
from igmpconf.model.config import ProxyConfig
from igmpconf.model.state import GroupRow, InterfaceRow
from tests.kit.builders import config as make_config
from tests.kit.builders import packed, route, sent_text, unroute, unvif, vif


class Play:
    """Interfaces get indices 1, 2, ... in the order in which they are plugged in; their addresses are 10.<index>.0.1/24."""

    def __init__(self, family: Family = IGMP, draw: Callable[[int], int] = lambda n: n) -> None:
        self.family = family
        self.engine = Engine(family, draw=draw)
        self.now_ms = 0
        self.names: dict[str, IfIndex] = {}
        self.notes: list[Note] = []
        self.effects: list[tuple[int, Effect]] = []
        self.foreseen = 0  # entries that were told before their message was handled
        self._pending: list[str] = []
        self._transcript: list[str] = []
        self._next_index = 1

    # -- what happens ------------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> Play:
        self._transcript.append(f"{self.now_ms:>9} >> {self._told(event)}")
        foreseen = self.engine.foreseen(event) if isinstance(event, PacketReceived) else None
        effects = self.engine.handle(event, self.now_ms)
        assert foreseen is None or foreseen in effects, f"foreseen and not stated: {foreseen}"  # a law, for whatever a play brings
        self.foreseen += foreseen is not None
        for effect in effects:
            self.effects.append((self.now_ms, effect))
            if isinstance(effect, Note):
                self.notes.append(effect)
                self._transcript.append(f"{self.now_ms:>9} .. {effect.event} {dict(effect.fields)}")
                continue
            line = self._line(effect)
            self._pending.append(line)
            self._transcript.append(f"{self.now_ms:>9} << {line}")
        return self

    def configure(self, config: ProxyConfig | None) -> Play:
        return self.tell(ConfigReplaced(config))

    def plug(self, name: str, *addresses: str, up: bool = True, mtu: int = 1500, index: int | None = None) -> Play:
        """The link exists, or changed; without addresses it keeps the one of its index, `plug(name, "")` has none."""
        if name not in self.names or index is not None:
            self.names[name] = IfIndex(index if index is not None else self._next_index)
            self._next_index = max(self._next_index, self.names[name]) + 1
        ifindex = self.names[name]
        wanted = addresses or (f"10.{ifindex}.0.1/24" if self.family.address_bytes == 4 else f"fe80::{ifindex}/64",)
        held = tuple(InterfaceAddress(packed(one.split("/")[0]), int(one.split("/")[1])) for one in wanted if one)
        return self.tell(LinkChanged(ifindex, name, up, mtu, held))

    def unplug(self, name: str) -> Play:
        return self.tell(LinkRemoved(self.names[name]))

    def found(self, *routes: tuple[str, str, str, tuple[str, ...]], threshold_ttl: int | None = None) -> Play:
        """The kernel held these at start: (source or *, group or *, parent, leaving by), with this threshold if one is known."""
        return self.tell(
            RoutesFound(
                tuple(
                    RouteFound(
                        None if source == "*" else packed(source),
                        None if group == "*" else packed(group),
                        self.names[iif],
                        frozenset(self.names[oif] for oif in oifs),
                        tuple((self.names[oif], threshold_ttl) for oif in oifs) if threshold_ttl is not None else (),
                    )
                    for source, group, iif, oifs in routes
                )
            )
        )

    def at(self, s: float = 0, ms: int = 0) -> Play:
        """Go to an absolute time, with every deadline before and at it."""
        until_ms = round(s * 1000) + ms
        assert until_ms >= self.now_ms, f"time does not run backwards: now {self.now_ms}"
        steps = 0
        while (deadline_ms := self.engine.next_deadline_ms()) is not None and deadline_ms <= until_ms:
            self.now_ms = max(self.now_ms, deadline_ms)
            self.tell(TimePassed())
            steps += 1
            assert steps < 1_000_000, "the engine asks for the same time again and again"
        self.now_ms = until_ms
        return self

    def advance(self, s: float = 0, ms: int = 0) -> Play:
        return self.at(ms=self.now_ms + round(s * 1000) + ms)

    def on(
        self, name: str, *messages: Record | Query, host: str | int = 100, version: int | None = None, ttl: int = 1, alert: bool = True, to: str | None = None
    ) -> Play:
        """Messages arrive: records make one report, a query is itself.  `host` is a number in the link's subnet, or an address."""
        ifindex = self.names[name]
        sender = packed(host) if isinstance(host, str) else packed(f"10.{ifindex}.0.{host}" if self.family.address_bytes == 4 else f"fe80::{ifindex}:{host:x}")
        packets: list[tuple[bytes, bytes]] = []
        records = [one for one in messages if isinstance(one, Record)]
        if records:
            packets += self.family.encode_report(version or self.family.latest_version, records, 1500)
        for one in messages:
            if isinstance(one, Query):
                packets += [(one.group or self.family.all_hosts, payload) for payload in self.family.encode_query(one, 1500)]
        for destination, payload in packets:
            self.raw(name, payload, sender, destination=packed(to) if to else destination, ttl=ttl, alert=alert)
        return self

    def raw(self, name: str, payload: bytes, sender: bytes | None = None, *, destination: bytes | None = None, ttl: int = 1, alert: bool = True) -> Play:
        if self.family.address_bytes == 16:
            destination = None  # the encoders leave the ICMPv6 checksum to the kernel, so nothing could verify it
        return self.tell(PacketReceived(self.names[name], sender or packed("10.9.9.9"), destination, payload, ttl, alert))

    # -- what came of it ---------------------------------------------------------------------------------------------

    def expect(self, *wanted: str) -> Play:
        """Exactly these effects since the last look, notes aside."""
        seen, self._pending = self._pending, []
        if sorted(seen) != sorted(wanted):
            missing, surplus = _minus(wanted, seen), _minus(seen, wanted)
            raise AssertionError(
                "\n".join(
                    [
                        f"at {self.now_ms} ms",
                        *(f"  missing: {line}" for line in missing),
                        *(f"  surplus: {line}" for line in surplus),
                        "transcript:",
                        *self._transcript,
                    ]
                )
            )
        return self

    def seen(self, *, containing: str = "") -> list[str]:
        """The effects since the last look, without judging them."""
        seen, self._pending = self._pending, []
        return [line for line in seen if containing in line]

    def forget(self) -> Play:
        """The effects so far are somebody else's subject."""
        self._pending = []
        return self

    def group(self, interface: str, group: str) -> GroupRow | None:
        rows = self.engine.snapshot(self.now_ms).groups
        return next((row for row in rows if row.interface == interface and str(row.group) == group), None)

    def interface(self, name: str) -> InterfaceRow:
        return next(row for row in self.engine.snapshot(self.now_ms).interfaces if row.interface == name)

    def counter(self, interface: str, name: str) -> int:
        return next((one.value for one in self.interface(interface).counters if one.name == name), 0)

    def noted(self, event: str) -> list[Note]:
        return [note for note in self.notes if note.event == event]

    def transcript(self) -> str:
        return "\n".join(self._transcript)

    def _told(self, event: Event) -> str:
        if isinstance(event, ConfigReplaced):
            return f"ConfigReplaced({to_plain(event.config) if event.config is not None else None})"
        if isinstance(event, PacketReceived):
            try:
                said = sent_text(self.family, self._name(event.ifindex), event.payload, event.sender)
            except WireError as error:
                said = f"{self._name(event.ifindex)}: {event.payload.hex()} ({error})"
            return f"{said.replace('>', ' from ' + self.family.text(event.sender) + ':', 1)}"
        return str(event)

    def _name(self, ifindex: IfIndex) -> str:
        return next((name for name, known in self.names.items() if known == ifindex), str(ifindex))

    def _line(self, effect: Effect) -> str:
        def shown(address: bytes | None) -> str:
            return "*" if address is None else self.family.text(address)

        match effect:
            case SendPacket():
                sender = (
                    effect.source
                    if effect.source not in {None, self.family.unspecified}
                    else packed("fe80::1" if self.family.address_bytes == 16 else "10.0.0.1")
                )
                return sent_text(self.family, self._name(effect.ifindex), effect.payload, sender)
            case SetRoute():
                return route(shown(effect.source), shown(effect.group), self._name(effect.iif), *(self._name(oif) for oif, _ in effect.oifs))
            case ClearRoute():
                return unroute(shown(effect.source), shown(effect.group))
            case SetVif():
                return vif(self._name(effect.ifindex))
            case ClearVif():
                return unvif(self._name(effect.ifindex))
            case _:
                raise AssertionError(effect)


def _minus(left: Iterable[str], right: Iterable[str]) -> list[str]:
    rest = list(right)
    surplus = []
    for line in left:
        if line in rest:
            rest.remove(line)
        else:
            surplus.append(line)
    return surplus


def a_proxy(*interfaces: object, family: Family = IGMP, draw: Callable[[int], int] = lambda n: n, **instance: object) -> Play:
    """A running instance: configured, every link plugged in, no entries found; what that caused is forgotten."""
    play = Play(family, draw)
    if family.address_bytes == 16:
        instance.setdefault("family", ["ipv6"])
    play.configure(make_config(*interfaces, **instance))
    for one in interfaces:
        play.plug(one["interface"] if isinstance(one, dict) else str(one))
    play.found()
    return play.forget()
