"""The ports of a bridge as the engine sees links, and only those: what belongs to no bridge, or to another, is not there.

A port has no address of its own, so it speaks with the bridge's.  A bridge without addresses still asks: in IPv4 from
0.0.0.0 as a snooping switch does (RFC 4541 2.1.1), in IPv6, where a query must come from a link-local address, from
the one that its MAC makes (RFC 4291 appendix A).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from igmpconf.engine.events import InterfaceAddress, LinkChanged, LinkRemoved
from igmpconf.engine.family import IGMP, Family
from igmpconf.ids import IfIndex
from igmpconf.linux.flows import Flow
from igmpconf.linux.kernel import Interface, RouteEntry


def link_changed(interface: Interface, family: Family) -> LinkChanged:
    """An interface as a link of the engine's family."""
    return LinkChanged(interface.ifindex, interface.name, interface.is_up, interface.mtu, _addresses(interface, family))


def _addresses(interface: Interface, family: Family) -> tuple[InterfaceAddress, ...]:
    return interface.ipv4 if family is IGMP else interface.ipv6


class BridgeLinks:
    """Tells what changed among the ports of `bridge` since the last call."""

    def __init__(self, bridge: str, family: Family) -> None:
        self._bridge = bridge
        self._family = family
        self._told: dict[IfIndex, LinkChanged] = {}

    def news(self, interfaces: Mapping[IfIndex, Interface]) -> list[LinkChanged | LinkRemoved]:
        """`interfaces` are all that exist now."""
        bridge = next((one for one in interfaces.values() if one.name == self._bridge), None)
        now = {} if bridge is None else {one.ifindex: self._port(one, bridge) for one in interfaces.values() if one.master == bridge.ifindex}
        before, self._told = self._told, now
        gone = [LinkRemoved(ifindex) for ifindex in before if ifindex not in now]
        return [*gone, *(link for ifindex, link in now.items() if before.get(ifindex) != link)]

    def _port(self, port: Interface, bridge: Interface) -> LinkChanged:
        addresses = _addresses(bridge, self._family)
        if not any(self._family.may_send(one.address) for one in addresses) and self._family is not IGMP:
            addresses = (*addresses, *_made_of(bridge.mac))
        return LinkChanged(port.ifindex, port.name, port.is_up and bridge.is_up, port.mtu, addresses)


def with_flows(entries: Sequence[RouteEntry], flows: Iterable[Flow], stays_on_link: Callable[[bytes], bool]) -> list[RouteEntry]:
    """The entries with what arrived for them, as a bridge itself does not count: a sender by its exact entry, else by that of its group."""
    streams = [entry for entry in entries if entry.group is not None and not stays_on_link(entry.group)]  # what stays on its link is not watched
    counted: dict[tuple[bytes | None, bytes | None], tuple[int, int]] = {(entry.source, entry.group): (0, 0) for entry in streams}
    for flow in flows:
        key = (flow.source, flow.group) if (flow.source, flow.group) in counted else (None, flow.group)
        if key in counted:
            packets, octets = counted[key]
            counted[key] = packets + flow.packets, octets + flow.octets
    return [replace(entry, packets=counted[entry.source, entry.group][0], octets=counted[entry.source, entry.group][1]) for entry in streams]


def _made_of(mac: bytes) -> tuple[InterfaceAddress, ...]:
    if len(mac) != 6:
        return ()
    interface_id = bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return (InterfaceAddress(b"\xfe\x80" + bytes(6) + interface_id, 64),)
