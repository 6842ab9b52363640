"""The kernel's multicast routing table: vifs, (*,*), (*,G) and (S,G) entries, for both families.

Source of numbers and layouts: linux/mroute.h, linux/mroute6.h, linux/rtnetlink.h.  A table lives as long as the
last holder of its socket, whoever that is; opening one that was held finds vifs and entries as they were.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import socket
import struct
from dataclasses import dataclass

from igmpconf.engine.effects import SendPacket
from igmpconf.engine.family import Family
from igmpconf.ids import IfIndex, TableId, VifIndex
from igmpconf.linux.kernel import MAX_VIFS, NOT_AN_OIF, Arrival, RouteEntry
from igmpconf.linux.netlink import RTM_GETLINK, RTM_GETROUTE, RTM_NEWROUTE, RTNL_FAMILY_IP6MR, RTNL_FAMILY_IPMR, Requests, attribute, attributes
from igmpconf.linux.rawsock import Packets, packets_for
from igmpconf.linux.refusal import refused
from igmpconf.linux.steering import steer, steered, unsteer
from igmpconf.linux.vifcount import stream_counters

# MRT_BASE is 200 in both families, and so are the offsets
_INIT, _DONE, _ADD_VIF, _DEL_VIF, _ADD_MFC, _DEL_MFC, _TABLE, _ADD_MFC_PROXY = 200, 201, 202, 203, 204, 205, 209, 210
_VIFF_USE_IFINDEX = 0x8

_VIFCTL = struct.Struct("=HBBIi4s")  # struct vifctl: vif, flags, threshold, rate limit, ifindex, remote address
_MFCCTL = struct.Struct("=4s4sH32s2xIIIi")  # struct mfcctl: origin, group, parent, ttls, three counters, expire
_MIF6CTL = struct.Struct("=HBBH2xI")  # struct mif6ctl: mif, flags, threshold, ifindex, rate limit
_MF6CCTL = struct.Struct("=HHI16sIHHI16sIH2x32s")  # struct mf6cctl: origin and group as sockaddr_in6, parent, set of mifs
_SOCKADDR_IN6 = struct.Struct("=HHI16sI")
_ANY4, _ANY6 = bytes(4), bytes(16)
_SIOCGETMIFCNT_IN6 = 0x89E0  # SIOCPROTOPRIVATE

_RTMSG = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, lengths, tos, table, protocol, scope, type, flags
_NEXTHOP = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, hops, ifindex
_MFC_STATS = struct.Struct("=QQQ")  # struct rta_mfc_stats: packets, bytes, wrong_if
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_MULTIPATH, _RTA_TABLE, _RTA_MFC_STATS = 1, 2, 3, 9, 15, 17
_RTN_MULTICAST = 5
_RTNH_F_UNRESOLVED = 32
_IFINFOMSG = struct.Struct("=BxHiII")
_IFLA_AF_SPEC = 26
_IPMRA_TABLE_ID, _IPMRA_TABLE_VIFS = 1, 6
_IPMRA_VIFA_IFINDEX, _IPMRA_VIFA_VIF_ID = 1, 2

_MCAST_JOIN_GROUP, _MCAST_LEAVE_GROUP = 42, 45  # linux/in.h: works by interface index in both families
_GROUP_REQ = struct.Struct("=I4x128s")  # struct group_req: ifindex, sockaddr_storage


@dataclass(frozen=True, slots=True)
class _Words:
    """What differs between the families on the socket."""

    domain: int
    protocol: int
    level: int
    rtnl_family: int
    default_table: int  # what table 0 stands for: RT_TABLE_DEFAULT, RT6_TABLE_MAIN


_WORDS = {
    4: _Words(socket.AF_INET, socket.IPPROTO_IGMP, socket.IPPROTO_IP, RTNL_FAMILY_IPMR, 253),
    16: _Words(socket.AF_INET6, socket.IPPROTO_ICMPV6, socket.IPPROTO_IPV6, RTNL_FAMILY_IP6MR, 254),
}


class Table:
    """The kernel's `MulticastTable`."""

    def __init__(self, family: Family, table: TableId, requests: Requests, held: socket.socket | None = None) -> None:
        """Become the router of `table`, or go on as it through `held`.  Raises KernelError."""
        self.family = family
        self.table = table
        self._requests = requests
        self._words = _WORDS[family.address_bytes]
        self._vifs: dict[IfIndex, VifIndex] = {}
        self._interfaces: dict[VifIndex, IfIndex] = {}
        self._parents: dict[bytes | None, VifIndex] = {}  # of the entries for any source, by group
        self._memberships: dict[IfIndex, socket.socket] = {}
        self._steered: dict[IfIndex, str] = {}
        name = {4: "IPv4", 16: "IPv6"}[family.address_bytes]
        try:
            self.socket = held if held is not None else self._opened()
            self._packets: Packets = packets_for(family.address_bytes)(self.socket)
            self._packets.prepare()
            if held is not None:
                self._adopt()
        except OSError as error:
            if held is None and hasattr(self, "socket"):
                self.socket.close()
            raise refused(f"become the {name} multicast router" + (f" of table {table}" if table else ""), error, family, table) from error

    def _opened(self) -> socket.socket:
        sock = socket.socket(self._words.domain, socket.SOCK_RAW | socket.SOCK_CLOEXEC, self._words.protocol)
        try:
            if self.table:
                sock.setsockopt(self._words.level, _TABLE, struct.pack("=I", self.table))
            sock.setsockopt(self._words.level, _INIT, 1)
        except OSError:
            sock.close()
            raise
        return sock

    def _adopt(self) -> None:
        self._vifs, entries = (self._vifs_by_dump(), self.routes()) if self.family.address_bytes == 4 else self._mifs_by_probe()
        self._interfaces = {vif: ifindex for ifindex, vif in self._vifs.items()}
        for ifindex in self._vifs:
            self._steer(ifindex)
        for entry in entries:
            parent = self._vifs.get(entry.iif) if entry.iif is not None else None
            if parent is not None and entry.source is None:
                self._parents[entry.group] = parent

    def fileno(self) -> int:
        return self.socket.fileno()

    # vifs

    def vifs(self) -> dict[IfIndex, VifIndex]:
        return dict(self._vifs)

    def _vifs_by_dump(self) -> dict[IfIndex, VifIndex]:
        """RTM_GETLINK of RTNL_FAMILY_IPMR, which names every vif of every table (Linux 4.13)."""
        found: dict[IfIndex, VifIndex] = {}
        for _, body in self._requests.dump(RTM_GETLINK, _IFINFOMSG.pack(RTNL_FAMILY_IPMR, 0, 0, 0, 0)):
            for kind, spec in attributes(body, _IFINFOMSG.size):
                if kind != _IFLA_AF_SPEC:
                    continue
                parts = dict(attributes(spec))
                if _number(parts.get(_IPMRA_TABLE_ID, b"")) != (self.table or self._words.default_table):
                    continue
                for _, one in attributes(parts.get(_IPMRA_TABLE_VIFS, b"")):
                    vif = dict(attributes(one))
                    if _IPMRA_VIFA_IFINDEX in vif:
                        found[IfIndex(_number(vif[_IPMRA_VIFA_IFINDEX]))] = VifIndex(_number(vif[_IPMRA_VIFA_VIF_ID]))
        return found

    def _mifs_by_probe(self) -> tuple[dict[IfIndex, VifIndex], list[RouteEntry]]:
        """The mifs, and the entries: one dump tells both, and there may be ten thousand.

        The kernel lists IPv6 mifs only for its default table, so ask each number, and let an entry name them all.
        An entry for a source that cannot send (`::1` to an interface-local group) carries every mif as oif; its dump
        lists the interfaces in the order of the numbers.
        """
        numbers = [VifIndex(vif) for vif in range(MAX_VIFS) if self._mif_exists(vif)]
        if not numbers:
            return {}, self.routes()
        source, group = bytes(15) + b"\1", b"\xff\x01" + bytes(13) + b"\x7f"
        self.set_route(source, group, numbers[0], bytes(1 if vif in numbers else NOT_AN_OIF for vif in range(MAX_VIFS)))
        try:
            entries = self.routes()
        finally:
            self.clear_route(source, group)
        (probe,) = [entry for entry in entries if entry.source == source and entry.group == group]
        entries.remove(probe)
        return {ifindex: vif for (ifindex, _), vif in zip(probe.oifs, numbers, strict=True)}, entries

    def _mif_exists(self, mif: int) -> bool:
        request = bytearray(struct.pack("@H4L", mif, 0, 0, 0, 0))  # struct sioc_mif_req6
        try:
            fcntl.ioctl(self.socket, _SIOCGETMIFCNT_IN6, request)
        except OSError as error:
            if error.errno in {errno.EADDRNOTAVAIL, errno.EINVAL}:  # EINVAL: beyond the highest number in use
                return False
            raise
        return True

    def add_vif(self, vif: VifIndex, ifindex: IfIndex) -> None:
        record = _VIFCTL.pack(vif, _VIFF_USE_IFINDEX, 1, 0, ifindex, bytes(4)) if self.family.address_bytes == 4 else _MIF6CTL.pack(vif, 0, 1, ifindex, 0)
        self.socket.setsockopt(self._words.level, _ADD_VIF, record)
        self._vifs[ifindex] = vif
        self._interfaces[vif] = ifindex
        self._steer(ifindex)

    def _steer(self, ifindex: IfIndex) -> None:
        if self.table:
            self._steered[ifindex] = socket.if_indextoname(ifindex)
            steer(self._requests, self._words.rtnl_family, self._steered[ifindex], self.table)

    def lost_rules(self) -> list[str]:
        there = steered(self._requests, self._words.rtnl_family) if self._steered else set()
        return sorted(name for name in self._steered.values() if (name, self.table) not in there)

    def steer_again(self) -> None:
        for name in self.lost_rules():
            steer(self._requests, self._words.rtnl_family, name, self.table)

    def del_vif(self, vif: VifIndex) -> None:
        """Raises OSError EADDRNOTAVAIL if the kernel removed it already, with its interface."""
        ifindex = self._interfaces.pop(vif, None)
        if ifindex is not None:
            del self._vifs[ifindex]
            if ifindex in self._steered:
                unsteer(self._requests, self._words.rtnl_family, self._steered.pop(ifindex), self.table)
        record = _VIFCTL.pack(vif, 0, 0, 0, 0, bytes(4)) if self.family.address_bytes == 4 else struct.pack("=H", vif)
        self.socket.setsockopt(self._words.level, _DEL_VIF, record)

    def traffic(self) -> dict[IfIndex, dict[str, int]]:
        counted = {ifindex: stream_counters(self.socket, vif) for ifindex, vif in self._vifs.items()}
        return {ifindex: one for ifindex, one in counted.items() if one is not None}

    # router groups

    def join_routers(self, ifindex: IfIndex) -> None:
        if ifindex in self._memberships:
            return
        # One socket per interface: net.ipv4.igmp_max_memberships (20) counts per socket.
        sock = socket.socket(self._words.domain, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            for group in (self.family.all_routers, self.family.all_report_routers):
                sock.setsockopt(self._words.level, _MCAST_JOIN_GROUP, _GROUP_REQ.pack(ifindex, _sockaddr(group)))
        except OSError:
            sock.close()
            raise
        self._memberships[ifindex] = sock

    def leave_routers(self, ifindex: IfIndex) -> None:
        sock = self._memberships.pop(ifindex, None)
        if sock is not None:
            sock.close()

    # entries

    def set_route(self, source: bytes | None, group: bytes | None, parent: VifIndex, ttls: bytes) -> None:
        # MRT_ADD_MFC_PROXY tells entries apart by their parent too, so it would leave the old one beside the new;
        # MRT_ADD_MFC moves an existing entry to its new parent in one step (net/ipv4/ipmr.c ipmr_mfc_add).
        wildcard = source is None and self._parents.get(group, parent) == parent
        self.socket.setsockopt(self._words.level, _ADD_MFC_PROXY if wildcard else _ADD_MFC, self._entry(source, group, parent, ttls))
        if source is None:
            self._parents[group] = parent

    def clear_route(self, source: bytes | None, group: bytes | None) -> None:
        """Raises OSError ENOENT if there is none."""
        if source is None:
            self._parents.pop(group, None)
        self.socket.setsockopt(self._words.level, _DEL_MFC, self._entry(source, group, VifIndex(0), bytes(MAX_VIFS)))

    def _entry(self, source: bytes | None, group: bytes | None, parent: VifIndex, ttls: bytes) -> bytes:
        if self.family.address_bytes == 4:
            return _MFCCTL.pack(source or _ANY4, group or _ANY4, parent, ttls, 0, 0, 0, 0)
        return _MF6CCTL.pack(socket.AF_INET6, 0, 0, source or _ANY6, 0, socket.AF_INET6, 0, 0, group or _ANY6, 0, parent, _mifs(ttls))

    def routes(self) -> list[RouteEntry]:
        table = self.table or self._words.default_table
        header = _RTMSG.pack(self._words.rtnl_family, 0, 0, 0, 0, 0, 0, _RTN_MULTICAST, 0)
        found = []
        for kind, body in self._requests.dump(RTM_GETROUTE, header + attribute(_RTA_TABLE, struct.pack("=I", table))):
            if kind == RTM_NEWROUTE and (entry := self._route(body, table)) is not None:
                found.append(entry)
        return found

    def _route(self, body: bytes, table: int) -> RouteEntry | None:
        parts = dict(attributes(body, _RTMSG.size))
        if _RTMSG.unpack_from(body)[8] & _RTNH_F_UNRESOLVED or _number(parts.get(_RTA_TABLE, b"")) != table:
            return None
        oifs: list[tuple[IfIndex, int]] = []
        hops = parts.get(_RTA_MULTIPATH, b"")
        at = 0
        while at + _NEXTHOP.size <= len(hops):
            length, _, ttl, ifindex = _NEXTHOP.unpack_from(hops, at)
            if ttl:
                oifs.append((IfIndex(ifindex), ttl))
            at += (max(length, _NEXTHOP.size) + 3) & ~3
        packets, octets, wrong_if = _MFC_STATS.unpack(parts.get(_RTA_MFC_STATS, bytes(24)))
        iif = IfIndex(_number(parts[_RTA_IIF])) if _RTA_IIF in parts else None
        return RouteEntry(_some(parts.get(_RTA_SRC)), _some(parts.get(_RTA_DST)), iif, tuple(oifs), packets, octets, wrong_if)

    # messages

    def receive(self, limit: int) -> list[Arrival]:
        return self._packets.receive(limit, self._vifs, self._interfaces)

    def send(self, packet: SendPacket) -> None:
        self._packets.send(packet)

    def close(self) -> None:
        for ifindex in list(self._memberships):
            self.leave_routers(ifindex)
        self._packets.close()
        self.socket.close()


def _number(value: bytes) -> int:
    return int.from_bytes(value[:4], "little" if struct.pack("=H", 1)[0] else "big")


def _some(address: bytes | None) -> bytes | None:
    return address if address is not None and any(address) else None


@functools.lru_cache(maxsize=256)
def _mifs(ttls: bytes) -> bytes:
    """struct if_set: IPv6 has no thresholds, an oif is a bit (net/ipv6/ip6mr.c sets ttls to 1).  Entries that leave alike are many."""
    return sum(1 << vif for vif, ttl in enumerate(ttls) if 0 < ttl < NOT_AN_OIF).to_bytes(32, "little")


def _sockaddr(address: bytes) -> bytes:
    if len(address) == 4:
        return struct.pack("=H2x4s", socket.AF_INET, address)
    return _SOCKADDR_IN6.pack(socket.AF_INET6, 0, 0, address, 0)
