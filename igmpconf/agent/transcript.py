"""An engine's events and effects as lines for people: interfaces by name, packets decoded.

`>>` is what happened, `<<` what the engine asked for, `..` what it had to say about it.
"""

from __future__ import annotations

from igmpconf.engine.effects import ClearRoute, ClearVif, Effect, Note, SendPacket, SetRoute, SetVif
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
from igmpconf.engine.messages import Query, Report
from igmpconf.errors import WireError
from igmpconf.ids import IfIndex


class Transcript:
    """Knows the names that the links of one engine had lately."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._names: dict[IfIndex, str] = {}

    def event(self, event: Event) -> str:
        """What happened, without the marker; the names it brings are remembered."""
        match event:
            case PacketReceived():
                return f"{self._name(event.ifindex)} < {self._address(event.sender)}: {self._message(event.payload, event.sender)}"
            case PacketsReceived(packets):
                return " | ".join(self.event(packet) for packet in packets)
            case LinkChanged():
                self._names[event.ifindex] = event.name
                addresses = " ".join(f"{self._address(one.address)}/{one.prefix_length}" for one in event.addresses)
                return f"link {event.name} is {'up' if event.is_up else 'down'}, MTU {event.mtu}, {addresses or 'no address'}"
            case LinkRemoved():
                return f"link {self._name(event.ifindex)} is gone"
            case ConfigReplaced(None):
                return "the configuration is gone"
            case ConfigReplaced(config):
                assert config is not None
                entries = ", ".join(f"{one.interface}{' (upstream)' if one.upstream else ''}" for one in config.interfaces)
                return f"configured {config.name}: {entries or 'no interfaces'}"
            case RoutesFound(routes):
                found = "; ".join(
                    self._route(route.source, route.group, route.iif, tuple((oif, 1) for oif in sorted(route.oifs)), thresholds=False) for route in routes
                )
                return f"the kernel holds {found or 'no entries'}"
            case EffectFailed(effect, code):
                return f"refused with errno {code}: {self.effect(effect)}"
            case CacheMissed(ifindex, source, group):
                return f"no entry for ({self._address(source)}, {self._address(group)}) on {self._name(ifindex)}"
            case WrongInterface(ifindex, source, group):
                return f"({self._address(source)}, {self._address(group)}) arrived on {self._name(ifindex)}, which is not its upstream"
            case TimePassed():
                return "time passed"

    def effect(self, effect: Effect) -> str:
        """What was asked for, without the marker."""
        match effect:
            case SendPacket():
                source = effect.source if effect.source is not None else self._family.unspecified
                return f"{self._name(effect.ifindex)} > {self._address(effect.destination)}: {self._message(effect.payload, source)}"
            case SetVif(ifindex, is_upstream=is_upstream):
                return f"vif {self._name(ifindex)}{' (upstream)' if is_upstream else ''}"
            case ClearVif(ifindex):
                return f"no vif {self._name(ifindex)}"
            case SetRoute(source, group, iif, oifs):
                return f"route {self._route(source, group, iif, oifs)}"
            case ClearRoute(source, group):
                return f"no route ({self._address(source)}, {self._address(group)})"
            case Note():
                return " ".join((effect.event, *(f"{name}={value}" for name, value in effect.fields.items())))

    def _name(self, ifindex: IfIndex) -> str:
        return self._names.get(ifindex, f"interface {ifindex}")

    def _address(self, address: bytes | None) -> str:
        if address is None:
            return "*"
        return self._family.text(address) if len(address) == self._family.address_bytes else address.hex() or "-"

    def _route(self, source: bytes | None, group: bytes | None, iif: IfIndex, oifs: tuple[tuple[IfIndex, int], ...], *, thresholds: bool = True) -> str:
        leaving = " ".join(self._name(oif) + (f"(ttl>{ttl})" if thresholds and ttl > 1 else "") for oif, ttl in oifs)
        return f"({self._address(source)}, {self._address(group)}) {self._name(iif)} -> {leaving or 'nowhere'}"

    def _message(self, payload: bytes, sender: bytes) -> str:
        family = self._family
        asker = sender if family.may_send(sender) else b"\xfe\x80".ljust(family.address_bytes, b"\1")  # so that only the message is judged
        try:
            message = family.decode(payload, asker, None, 1, True)
        except WireError as error:
            return f"{payload.hex()} ({error})"
        return _query(message, family) if isinstance(message, Query) else _report(message, family)


def _listed(sources: tuple[bytes, ...] | frozenset[bytes], family: Family) -> str:
    return "{" + " ".join(family.text(source) for source in sorted(sources)) + "}"


def _query(query: Query, family: Family) -> str:
    asked = "all groups" if query.group is None else family.text(query.group)
    listed = f" {_listed(query.sources, family)}" if query.sources else ""
    return f"v{query.version} query {asked}{listed}{' S' if query.suppress else ''} within {query.max_response_ms} ms"


def _report(report: Report, family: Family) -> str:
    records = "; ".join(f"{record.kind.name} {family.text(record.group)} {_listed(record.sources, family)}" for record in report.records)
    return f"v{report.version} report {records or 'of nothing'}"
