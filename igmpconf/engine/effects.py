"""Requests that the engine makes.  Imperative, never changed; each states the wanted truth, so twice is harmless.

The one that a listener waits for is not made frozen (events.py says why).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from igmpconf.ids import IfIndex

_NO_FIELDS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SendPacket:
    """Send `payload` (from its type octet on, checksum filled in for IGMP, zero for ICMPv6) with Router Alert and TTL 1.

    `source` None: the performer lets the kernel choose the interface's address; b"\\0\\0\\0\\0" is meant literally
    (unnumbered upstream, RFC 3376 4.2.13).
    """

    ifindex: IfIndex
    destination: bytes
    payload: bytes
    source: bytes | None = None


@dataclass(frozen=True, slots=True)
class SetVif:
    """The interface takes part: it has a vif (mif) in our table, and we receive its IGMP or MLD messages.

    `is_upstream` False: also join the all-routers and all-v3-routers groups there (RFC 3376 6, QRY-22).
    """

    ifindex: IfIndex
    is_upstream: bool


@dataclass(frozen=True, slots=True)
class ClearVif:
    ifindex: IfIndex


@dataclass(slots=True, unsafe_hash=True)
class SetRoute:
    """The kernel forwards like this: datagrams of (source, group) that arrive on `iif` leave by `oifs`.

    `source` None: any source, a (*,G) proxy entry; `group` None too: the (*,*) entry.  `oifs` are sorted pairs of
    interface and the kernel's TTL threshold, 1..254 (a datagram leaves if its TTL on arrival is greater).
    """

    source: bytes | None
    group: bytes | None
    iif: IfIndex
    oifs: tuple[tuple[IfIndex, int], ...]


@dataclass(frozen=True, slots=True)
class ClearRoute:
    source: bytes | None
    group: bytes | None


Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Note:
    """A log line; `event` is a stable name such as "membership/joined", `fields` its facts, already printable."""

    level: Level
    event: str
    fields: Mapping[str, object] = field(default_factory=lambda: _NO_FIELDS)  # a mappingproxy is unhashable, so not a plain default


Effect = SendPacket | SetVif | ClearVif | SetRoute | ClearRoute | Note
