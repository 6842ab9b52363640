"""A kernel that can be told to refuse: links, tables and forwarding as net/ipv4/ipmr.c has them.

kernel = FakeKernel()
wan = kernel.link("wan", "10.1.0.1/24")
kernel.deliver("lan0", sender, payload)              # a message arrives on every table that has the interface
kernel.forwarded("wan", source, group) == {"lan0"}   # where a datagram goes that arrives on wan
kernel.refuse["add_vif"] = errno.ENFILE              # every such verb fails until it is deleted
"""

from __future__ import annotations

import dataclasses
import errno
import ipaddress
import os
import socket
from collections import deque
from dataclasses import dataclass, field

from igmpconf.engine.effects import SendPacket
from igmpconf.engine.events import CacheMissed, InterfaceAddress, PacketReceived
from igmpconf.engine.family import Family
from igmpconf.ids import IfIndex, TableId, VifIndex
from igmpconf.linux.kernel import MAX_VIFS, NOT_AN_OIF, Arrival, Interface, LinkNews, RouteEntry
from igmpconf.linux.refusal import refused

Key = tuple[bytes | None, bytes | None]


@dataclass
class Entry:
    parent: VifIndex
    ttls: bytes
    packets: int = 0
    octets: int = 0
    wrong_if: int = 0


class _Signal:
    """A descriptor that is readable while there is news."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)

    def raise_(self) -> None:
        self.theirs.send(b"x")

    def is_held(self) -> bool:
        """Some copy of our end is still open."""
        try:
            return self.theirs.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False


def _lower(sock: socket.socket) -> None:
    try:
        while sock.recv(4096):
            pass
    except BlockingIOError:
        pass


@dataclass
class State:
    """What the kernel keeps of one table as long as its socket is held."""

    signal: _Signal = field(default_factory=_Signal)
    vifs: dict[VifIndex, IfIndex] = field(default_factory=dict)
    entries: dict[Key, Entry] = field(default_factory=dict)
    arrivals: deque[Arrival] = field(default_factory=deque)
    joined: set[IfIndex] = field(default_factory=set)
    sent: list[SendPacket] = field(default_factory=list)


def refuse(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class FakeKernel:
    def __init__(self) -> None:
        self.refuse: dict[str, int] = {}
        self.calls: list[str] = []
        self.states: dict[tuple[str, int], State] = {}
        self.interfaces: dict[IfIndex, Interface] = {}
        self._watches: list[FakeLinks] = []
        self._next_index = 2

    # what tests do

    def link(self, name: str, *addresses: str, is_up: bool = True) -> IfIndex:
        ifindex = IfIndex(self._next_index)
        self._next_index += 1
        faces = [ipaddress.ip_interface(address) for address in addresses]
        told = [(face.version, InterfaceAddress(face.ip.packed, face.network.prefixlen)) for face in faces]
        ipv4, ipv6 = (tuple(address for of, address in told if of == version) for version in (4, 6))
        self._tell(Interface(ifindex, name, is_up, 1500, ipv4, ipv6))
        return ifindex

    def set_up(self, name: str, *, is_up: bool) -> None:
        self._tell(dataclasses.replace(self.interfaces[self.index(name)], is_up=is_up))

    def _tell(self, interface: Interface) -> None:
        self.interfaces[interface.ifindex] = interface
        for watch in self._watches:
            watch.tell(LinkNews(changed=(interface,)))

    def unlink(self, name: str) -> None:
        """As unregister_netdevice: the vif goes with it, entries keep their numbers."""
        ifindex = self.index(name)
        del self.interfaces[ifindex]
        for state in self.states.values():
            state.vifs = {vif: of for vif, of in state.vifs.items() if of != ifindex}
            state.joined.discard(ifindex)
        for watch in self._watches:
            watch.tell(LinkNews(removed=(ifindex,)))

    def index(self, name: str) -> IfIndex:
        (found,) = [one.ifindex for one in self.interfaces.values() if one.name == name]
        return found

    def deliver(self, name: str, sender: str, payload: bytes, *, destination: str = "224.0.0.22", ttl: int = 1, router_alert: bool = True) -> None:
        ifindex = self.index(name)
        packet = PacketReceived(ifindex, ipaddress.ip_address(sender).packed, ipaddress.ip_address(destination).packed, payload, ttl, router_alert)
        for state in self.states.values():
            if ifindex in state.vifs.values():
                state.arrivals.append(packet)
                state.signal.raise_()

    def forwarded(self, name: str, source: str, group: str, *, ttl: int = 16, table: int = 0, family: str = "ipv4", octets: int = 100) -> set[str]:
        """ip_mr_input and ip_mr_forward."""
        state = self.states[family, table]
        arrived = self.index(name)
        vif = next((vif for vif, of in state.vifs.items() if of == arrived), None)
        src, dst = ipaddress.ip_address(source).packed, ipaddress.ip_address(group).packed
        key, entry = self._found(state, src, dst, vif)
        if entry is None:
            if vif is not None:
                state.arrivals.append(CacheMissed(arrived, src, dst))
                state.signal.raise_()
            return set()
        entry.packets += 1
        entry.octets += octets
        any_any = state.entries.get((None, None))
        # the (*,*) entry that has the parent among its oifs must have the arrival vif there too
        is_proxied = key[0] is None and vif is not None and any_any is not None and max(any_any.ttls[entry.parent], any_any.ttls[vif]) < NOT_AN_OIF
        if not is_proxied and state.vifs.get(entry.parent) != arrived:
            entry.wrong_if += 1
            return set()
        if key == (None, None):
            is_up = vif is not None and vif != entry.parent and ttl > entry.ttls[entry.parent]
            return self._names(state, [entry.parent] if is_up else [])
        return self._names(state, [VifIndex(to) for to in range(MAX_VIFS) if ttl > entry.ttls[to] and (key[0] is not None or to != vif)])

    @staticmethod
    def _found(state: State, source: bytes, group: bytes, vif: VifIndex | None) -> tuple[Key, Entry | None]:
        """(S,G), else (*,G) whose oifs, or whose (*,*), take datagrams from this vif, else (*,*) (ipmr_cache_find_any)."""
        exact = state.entries.get((source, group))
        if exact is not None or vif is None:
            return (source, group), exact
        any_any = state.entries.get((None, None))
        takes = any_any is not None and any_any.ttls[vif] < NOT_AN_OIF
        shared = state.entries.get((None, group))
        if shared is not None and (shared.ttls[vif] < NOT_AN_OIF or (takes and any_any is not None and any_any.ttls[shared.parent] < NOT_AN_OIF)):
            return (None, group), shared
        return (None, None), any_any if takes else None

    def _names(self, state: State, vifs: list[VifIndex]) -> set[str]:
        return {self.interfaces[state.vifs[vif]].name for vif in vifs if vif in state.vifs}

    def sent(self, table: int = 0, family: str = "ipv4") -> list[SendPacket]:
        return self.states[family, table].sent

    # the Kernel protocol

    def watch_links(self) -> FakeLinks:
        watch = FakeLinks(self)
        self._watches.append(watch)
        return watch

    def open_table(self, family: Family, table: TableId, held: socket.socket | None = None) -> FakeTable:
        key = family.name, int(table)
        state = self.states.get(key)
        if state is not None and not state.signal.is_held():
            state.signal.theirs.close()
            state = None
        try:
            self._may("open_table")
            if held is None and state is not None:
                raise refuse(errno.EADDRINUSE)
        except OSError as error:
            raise refused("become the multicast router", error, family, table) from error
        if held is not None:
            assert state is not None, "the held socket kept nothing alive"
            return FakeTable(self, family, table, state, held)
        state = self.states[key] = State()
        return FakeTable(self, family, table, state)

    def open_bridge(self, family: Family, bridge: str, log: object, held: socket.socket | None = None) -> FakeTable:
        """As a table by the name of the bridge: what differs is below the `Kernel` protocol."""
        self._may("open_bridge")
        state = self.states[f"{family.name} on {bridge}", 0] = State()
        return FakeTable(self, family, TableId(0), state, held)

    def _may(self, verb: str) -> None:
        self.calls.append(verb)
        if verb in self.refuse:
            raise refuse(self.refuse[verb])

    def close(self) -> None:
        for state in self.states.values():
            state.signal.theirs.close()
            state.signal.ours.close()


class FakeLinks:
    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel
        self._signal = _Signal()
        self._news: list[LinkNews] = []

    def tell(self, news: LinkNews) -> None:
        self._news.append(news)
        self._signal.raise_()

    def fileno(self) -> int:
        return self._signal.ours.fileno()

    def current(self) -> list[Interface]:
        return list(self._kernel.interfaces.values())

    def read(self) -> LinkNews:
        _lower(self._signal.ours)
        told, self._news = self._news, []
        return LinkNews(tuple(one for news in told for one in news.changed), tuple(one for news in told for one in news.removed))

    def close(self) -> None:
        self._kernel._watches.remove(self)
        self._signal.ours.close()
        self._signal.theirs.close()


class FakeTable:
    def __init__(self, kernel: FakeKernel, family: Family, table: TableId, state: State, held: socket.socket | None = None) -> None:
        self._kernel = kernel
        self._state = state
        self.family = family
        self.table = table
        self.socket = held or state.signal.ours
        self.socket.setblocking(False)

    def fileno(self) -> int:
        return self.socket.fileno()

    def vifs(self) -> dict[IfIndex, VifIndex]:
        return {ifindex: vif for vif, ifindex in self._state.vifs.items()}

    def add_vif(self, vif: VifIndex, ifindex: IfIndex) -> None:
        self._kernel._may("add_vif")
        if not 0 <= vif < MAX_VIFS:
            raise refuse(errno.ENFILE)
        if vif in self._state.vifs:
            raise refuse(errno.EADDRINUSE)
        if ifindex not in self._kernel.interfaces:
            raise refuse(errno.EADDRNOTAVAIL)
        self._state.vifs[vif] = ifindex

    def del_vif(self, vif: VifIndex) -> None:
        self._kernel._may("del_vif")
        if self._state.vifs.pop(vif, None) is None:
            raise refuse(errno.EADDRNOTAVAIL)

    def lost_rules(self) -> list[str]:
        return []

    def steer_again(self) -> None:
        pass

    def join_routers(self, ifindex: IfIndex) -> None:
        self._kernel._may("join_routers")
        self._state.joined.add(ifindex)

    def leave_routers(self, ifindex: IfIndex) -> None:
        self._state.joined.discard(ifindex)

    def set_route(self, source: bytes | None, group: bytes | None, parent: VifIndex, ttls: bytes) -> None:
        self._kernel._may("set_route")
        if not 0 <= parent < MAX_VIFS:
            raise refuse(errno.ENFILE)
        ttls = bytes(ttl or NOT_AN_OIF for ttl in ttls)  # ipmr_update_thresholds: 0 is not an oif either
        entry = self._state.entries.get((source, group))
        if entry is None:
            self._state.entries[source, group] = Entry(parent, ttls)
        else:
            entry.parent, entry.ttls = parent, ttls

    def clear_route(self, source: bytes | None, group: bytes | None) -> None:
        self._kernel._may("clear_route")
        if self._state.entries.pop((source, group), None) is None:
            raise refuse(errno.ENOENT)

    def routes(self) -> list[RouteEntry]:
        self._kernel._may("routes")
        vifs = self._state.vifs
        return [
            RouteEntry(
                source,
                group,
                vifs.get(entry.parent),
                tuple((vifs[VifIndex(to)], ttl) for to, ttl in enumerate(entry.ttls) if ttl < NOT_AN_OIF and VifIndex(to) in vifs),
                entry.packets,
                entry.octets,
                entry.wrong_if,
            )
            for (source, group), entry in self._state.entries.items()
        ]

    def traffic(self) -> dict[IfIndex, dict[str, int]]:
        return {}

    def receive(self, limit: int) -> list[Arrival]:
        _lower(self.socket)
        arrived = [self._state.arrivals.popleft() for _ in range(min(limit, len(self._state.arrivals)))]
        if self._state.arrivals:
            self._state.signal.raise_()
        return arrived

    def send(self, packet: SendPacket) -> None:
        self._kernel._may("send")
        self._state.sent.append(packet)

    def close(self) -> None:
        self.socket.close()
        if not self._state.signal.is_held():
            self._state.vifs.clear()
            self._state.entries.clear()


def v3_report(kind: int, group: str, *sources: str) -> bytes:
    """An IGMPv3 report of one record, checksum included (RFC 3376 4.2)."""
    packed = [ipaddress.ip_address(source).packed for source in sources]
    record = bytes((kind, 0)) + len(packed).to_bytes(2, "big") + ipaddress.ip_address(group).packed + b"".join(packed)
    body = bytes((0x22, 0, 0, 0, 0, 0, 0, 1)) + record
    total = sum(int.from_bytes(body[at : at + 2], "big") for at in range(0, len(body), 2))
    total = (total & 0xFFFF) + (total >> 16)
    return body[:2] + (~(total + (total >> 16)) & 0xFFFF).to_bytes(2, "big") + body[4:]
