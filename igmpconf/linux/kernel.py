"""What we ask of the kernel: a dozen verbs, so that everything above can be tested against another kernel.

`system.py` answers with the real one, `tests/kit/fake_kernel.py` with a model of it.  Interfaces are named by index,
vifs by their number in one table; nothing here knows the engine's rules.  Every verb may raise OSError with the
kernel's errno; `refusal.py` turns the ones a person has to read into KernelError.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from igmpconf.engine.effects import Note, SendPacket
from igmpconf.engine.events import CacheMissed, InterfaceAddress, PacketReceived, WrongInterface
from igmpconf.engine.family import Family
from igmpconf.ids import IfIndex, TableId, VifIndex

MAX_VIFS = 32  # MAXVIFS of linux/mroute.h, MAXMIFS of linux/mroute6.h
NOT_AN_OIF = 255  # ttls[] value of a vif that an entry does not forward to (linux/mroute.h: 0 and 255)

Arrival = PacketReceived | CacheMissed | WrongInterface


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface as it is now; addresses that may be used, primary first; `master` is the bridge (or bond) it is a port of."""

    ifindex: IfIndex
    name: str
    is_up: bool
    mtu: int
    ipv4: tuple[InterfaceAddress, ...] = ()
    ipv6: tuple[InterfaceAddress, ...] = ()
    master: IfIndex | None = None
    mac: bytes = b""


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One forwarding entry and its counters since it was made; source and group None: any.

    `iif` is None while the parent vif has no interface (it was deleted under the entry).  Counters are None where the
    kernel does not count.
    """

    source: bytes | None
    group: bytes | None
    iif: IfIndex | None
    oifs: tuple[tuple[IfIndex, int], ...]
    packets: int | None
    octets: int | None
    wrong_if: int | None


@dataclass(frozen=True, slots=True)
class LinkNews:
    """What changed since the last reading: interfaces in their new state, and those that are gone."""

    changed: tuple[Interface, ...] = ()
    removed: tuple[IfIndex, ...] = ()


class LinkWatch(Protocol):
    """All interfaces of the network namespace, and word of every change."""

    def fileno(self) -> int:
        """Readable when `read` has something to say."""
        ...

    def current(self) -> Sequence[Interface]: ...

    def read(self) -> LinkNews:
        """Everything that happened since the last call; never blocks."""
        ...

    def close(self) -> None: ...


class MulticastTable(Protocol):
    """One multicast routing table of one family: its vifs, its entries, and the IGMP or MLD messages of its interfaces."""

    @property
    def family(self) -> Family: ...

    @property
    def table(self) -> TableId: ...

    @property
    def socket(self) -> socket.socket:
        """The descriptor that keeps vifs and entries alive: what the keeper holds."""
        ...

    def fileno(self) -> int:
        """Readable when `receive` has something."""
        ...

    def vifs(self) -> dict[IfIndex, VifIndex]:
        """The vifs of the table: those that were found when it was opened, and what was added and removed since."""
        ...

    def add_vif(self, vif: VifIndex, ifindex: IfIndex) -> None:
        """Also steers what arrives on the interface to this table, unless it is table 0."""
        ...

    def del_vif(self, vif: VifIndex) -> None: ...

    def lost_rules(self) -> list[str]:
        """Interfaces that are not steered to this table any more, because somebody took the rule away.  Raises OSError."""
        ...

    def steer_again(self) -> None:
        """Make the rules of `lost_rules` anew.  Raises OSError."""
        ...

    def join_routers(self, ifindex: IfIndex) -> None:
        """Receive what is sent to the router groups on this interface; twice is harmless."""
        ...

    def leave_routers(self, ifindex: IfIndex) -> None: ...

    def set_route(self, source: bytes | None, group: bytes | None, parent: VifIndex, ttls: bytes) -> None:
        """Make the entry, or make the existing one so, keeping its counters; `ttls` are MAX_VIFS thresholds."""
        ...

    def clear_route(self, source: bytes | None, group: bytes | None) -> None: ...

    def routes(self) -> list[RouteEntry]:
        """Every entry of this table with its counters, read from the kernel."""
        ...

    def traffic(self) -> dict[IfIndex, dict[str, int]]:
        """What was forwarded in by and out of each interface, by the names of `vifcount.NAMES`.  Raises OSError."""
        ...

    def receive(self, limit: int) -> list[Arrival]:
        """At most `limit` arrivals on interfaces that have a vif here; empty when there are none.  Never blocks."""
        ...

    def send(self, packet: SendPacket) -> None: ...

    def close(self) -> None:
        """Let go of the table; its entries vanish with the last holder of `socket`."""
        ...


class Kernel(Protocol):
    """One network namespace."""

    def watch_links(self) -> LinkWatch: ...

    def open_table(self, family: Family, table: TableId, held: socket.socket | None = None) -> MulticastTable:
        """Become the router of `table`, or go on as it through a descriptor that was `held`.  Raises KernelError."""
        ...

    def open_bridge(self, family: Family, bridge: str, log: Callable[[Note], None], held: socket.socket | None = None) -> MulticastTable:
        """Forward among the ports of `bridge`, which need not be there yet; `held` has heard what arrived meanwhile.  Raises KernelError."""
        ...
