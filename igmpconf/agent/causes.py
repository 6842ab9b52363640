"""What led to a line of the log: the last event an engine was told, in words; and forwarding entries as lines."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import assert_never

from igmpconf.engine.effects import ClearRoute, Effect, Note, SendPacket, SetRoute
from igmpconf.engine.events import (
    CacheMissed,
    ConfigReplaced,
    EffectFailed,
    Event,
    LinkChanged,
    LinkRemoved,
    PacketReceived,
    PacketsReceived,
    RoutesFound,
    TimePassed,
    WrongInterface,
)
from igmpconf.engine.family import Family
from igmpconf.engine.spoken import spoken
from igmpconf.engine.wire import igmp
from igmpconf.errors import WireError
from igmpconf.ids import IfIndex
from igmpconf.machine import Machine

NOTES: dict[str, str] = {
    "mfc/set": "a forwarding entry was made or changed: who sends, where it arrives, where it leaves (topic debug)",
    "mfc/removed": "a forwarding entry was removed (topic debug)",
    "message/received": "an IGMP or MLD message, in words (topic packet)",
    "message/sent": "an IGMP or MLD message of ours, in words (topic packet)",
}
PACKETS = logging.getLogger("igmpconf.engine.packets")  # its level says whether anybody wants to read every message
_MLD_QUERY = 130


class Causes:
    """Stands before a machine and remembers what it was told last; the words are made only when somebody asks."""

    def __init__(self, family: Family, log: Callable[[Note], None], name_of: Callable[[IfIndex], str]) -> None:
        self._family = family
        self._name_of = name_of
        self._log = log
        self._event: Event = TimePassed()
        self._text: str | None = None
        self._machine: Machine[Event, Effect] | None = None

    def around(self, machine: Machine[Event, Effect]) -> Machine[Event, Effect]:
        self._machine = machine
        return self

    def handle(self, event: Event, now_ms: int) -> Sequence[Effect]:
        assert self._machine is not None
        self._event, self._text = event, None
        if isinstance(event, PacketReceived | PacketsReceived) and PACKETS.isEnabledFor(logging.INFO):
            for packet in (event,) if isinstance(event, PacketReceived) else event.packets:
                fields = {"interface": _name(packet.ifindex), "sender": self._family.text(packet.sender), "message": _message(packet, self._family)}
                self._log(Note("info", "message/received", fields))
        return self._machine.handle(event, now_ms)

    def next_deadline_ms(self) -> int | None:
        assert self._machine is not None
        return self._machine.next_deadline_ms()

    def text(self) -> str:
        """The last event in a few words."""
        if self._text is None:
            self._text = self._said()
        return self._text

    def _said(self) -> str:
        match self._event:
            case PacketReceived(ifindex, sender, _, payload):
                kind = "query" if payload[:1] in {bytes((igmp.QUERY,)), bytes((_MLD_QUERY,))} else "report"
                return f"{kind} of {self._family.text(sender)} on {self._name_of(ifindex)}"
            case PacketsReceived(packets):
                return f"{len(packets)} messages on {', '.join(sorted({self._name_of(packet.ifindex) for packet in packets}))}"
            case LinkChanged(_, name, is_up):
                return f"{name} is {'up' if is_up else 'down'}"
            case LinkRemoved():
                return "an interface is gone"
            case ConfigReplaced(config):
                return "configuration" if config is not None else "the instance ends"
            case RoutesFound():
                return "entries found at start"
            case EffectFailed(effect, errno):
                return f"{type(effect).__name__} was refused, errno {errno}"
            case CacheMissed(ifindex, source) | WrongInterface(ifindex, source):
                return f"datagram of {self._family.text(source)} on {self._name_of(ifindex)}"
            case TimePassed():
                return "a timer"
            case _:
                assert_never(self._event)


def route_notes(effects: Sequence[Effect], family: Family) -> Iterator[Note]:
    """A line for each forwarding entry that is made, changed or removed."""
    for effect in effects:
        if isinstance(effect, SetRoute):
            yield Note(
                "debug",
                "mfc/set",
                {
                    "source": _or_any(effect.source, family),
                    "group": _or_any(effect.group, family),
                    "upstream": _name(effect.iif),
                    "downstreams": ",".join(_name(ifindex) for ifindex, _ in effect.oifs if ifindex != effect.iif) or "none",
                },
            )
        elif isinstance(effect, ClearRoute):
            yield Note("debug", "mfc/removed", {"source": _or_any(effect.source, family), "group": _or_any(effect.group, family)})


def sent_notes(effects: Sequence[Effect], family: Family) -> Iterator[Note]:
    """A line for each message that leaves."""
    for effect in effects:
        if isinstance(effect, SendPacket):
            sent = PacketReceived(effect.ifindex, effect.source or family.unspecified, effect.destination, effect.payload, 1, router_alert=True)
            yield Note("info", "message/sent", {"interface": _name(effect.ifindex), "message": _message(sent, family)})


def _message(packet: PacketReceived, family: Family) -> str:
    try:
        return spoken(family.decode(packet.payload, packet.sender, packet.destination, packet.ttl, packet.router_alert), family)
    except WireError as error:
        return f"not understood: {error.reason}, {len(packet.payload)} octets"


def _or_any(address: bytes | None, family: Family) -> str:
    return "*" if address is None else family.text(address)


def _name(ifindex: IfIndex) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return f"interface {ifindex}"
