"""Facts that the engine is told.  Past tense, never changed, no behaviour.

The one that a listener waits for is not made frozen: that would make it take three times as long to be made.
"""

from __future__ import annotations

from dataclasses import dataclass

from igmpconf.engine.effects import Effect
from igmpconf.ids import IfIndex
from igmpconf.model.config import ProxyConfig


@dataclass(slots=True, unsafe_hash=True)
class PacketReceived:
    """An IGMP or ICMPv6 message as it arrived; `payload` begins at its type octet.

    `destination` is None when the socket cannot tell; `ttl` is the TTL or hop limit on arrival.
    """

    ifindex: IfIndex
    sender: bytes
    destination: bytes | None
    payload: bytes
    ttl: int
    router_alert: bool


@dataclass(frozen=True, slots=True)
class PacketsReceived:
    """Messages that waited together, in the order they arrived: what they change leaves in as few packets as possible."""

    packets: tuple[PacketReceived, ...]


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    address: bytes  # packed, of the engine's family
    prefix_length: int


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """An interface exists, with everything we need to know of it; repeated facts do no harm.

    `addresses` holds the addresses of the engine's family, primary first; for IPv6 the link-local ones too, and
    only those that may be used (not tentative).
    """

    ifindex: IfIndex
    name: str
    is_up: bool  # administratively up, with carrier
    mtu: int
    addresses: tuple[InterfaceAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkRemoved:
    ifindex: IfIndex


@dataclass(frozen=True, slots=True)
class ConfigReplaced:
    """The instance's whole configuration; None: the instance is gone (leave upstream, clear the kernel)."""

    config: ProxyConfig | None


@dataclass(frozen=True, slots=True)
class RouteFound:
    """A forwarding entry that the kernel already held when we started (source and group None: any).

    `thresholds` are those of the kernel, as in SetRoute; interfaces that are not in it are taken to have the configured ones.
    """

    source: bytes | None
    group: bytes | None
    iif: IfIndex
    oifs: frozenset[IfIndex]
    thresholds: tuple[tuple[IfIndex, int], ...] = ()


@dataclass(frozen=True, slots=True)
class RoutesFound:
    """The kernel's entries at start, told exactly once, possibly empty: they are adopted, not flushed.

    Order at start: `ConfigReplaced`, `LinkChanged` for every link, `RoutesFound`, then packets.  Until it is told the
    engine holds every route effect back, so no entry is cleared before it could be adopted.  What hosts have not
    reported again within a query response interval is asked for once more and then removed.
    """

    routes: tuple[RouteFound, ...]


@dataclass(frozen=True, slots=True)
class EffectFailed:
    """The performer was refused; `errno` as the kernel gave it."""

    effect: Effect
    errno: int


@dataclass(frozen=True, slots=True)
class CacheMissed:
    """The kernel had no entry for a datagram (IGMPMSG_NOCACHE)."""

    ifindex: IfIndex
    source: bytes
    group: bytes


@dataclass(frozen=True, slots=True)
class WrongInterface:
    """A datagram of a known entry arrived elsewhere (IGMPMSG_WRONGVIF)."""

    ifindex: IfIndex
    source: bytes
    group: bytes


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline may have been reached."""


Event = PacketReceived | PacketsReceived | LinkChanged | LinkRemoved | ConfigReplaced | RoutesFound | EffectFailed | CacheMissed | WrongInterface | TimePassed
