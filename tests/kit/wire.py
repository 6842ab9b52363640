"""What people plug into a multicast router: applications with source filters, senders, strangers, and taps on the cable.

The family is that of the group's address, nothing else.  Every socket lives in a namespace of `netns.py`, and a tap sees
what passes on the cable, not what a kernel host lets through to its applications.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from igmpconf.engine.family import IGMP, MLD, Family
from igmpconf.engine.messages import Query, RecordKind, Report
from igmpconf.engine.wire.checksum import internet_checksum
from igmpconf.engine.wire.ip import build_ipv4
from igmpconf.errors import WireError
from tests.kit.netns import Namespace, Net

PORT = 5000
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 3, 0x0800, 0x86DD
_PACKET_OUTGOING = 4  # linux/if_packet.h
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_IP_MULTICAST_IF = 32
_UDP, _ICMPV6 = 17, 58
_MLD_TYPES = frozenset({130, 131, 132, 143})
_ALERT_6 = bytes((0, 5, 2, 0, 0, 1, 0))  # after the next-header octet: Router Alert "MLD" in a hop-by-hop header (RFC 2711)


@functools.cache
def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def family_of(address: str) -> Family:
    return MLD if ":" in address else IGMP


def ifindex_of(inside: Namespace, ifname: str) -> int:
    return int(inside.call(socket.if_nametoindex, ifname))


# -- applications ------------------------------------------------------------------------------------------------------

_JOIN, _BLOCK, _UNBLOCK, _LEAVE, _JOIN_SOURCE, _LEAVE_SOURCE, _FILTER = 42, 43, 44, 45, 46, 47, 48  # MCAST_*, linux/in.h


def _sockaddr(address: str) -> bytes:
    """A struct sockaddr_storage."""
    if ":" in address:
        return struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, packed(address), 0).ljust(128, b"\0")
    return struct.pack("=HH4s", socket.AF_INET, 0, packed(address)).ljust(128, b"\0")


class Member:
    """An application on a host of the kernel, with one socket for one group (RFC 3678 7)."""

    def __init__(self, net: Net, inside: Namespace, ifname: str, group: str) -> None:
        self.group = group
        is_ipv6 = ":" in group
        self._level = socket.IPPROTO_IPV6 if is_ipv6 else socket.IPPROTO_IP
        self._ifindex = ifindex_of(inside, ifname)
        self._socket = net.socket(inside, socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((group, PORT, 0, self._ifindex) if is_ipv6 else (group, PORT))  # groups of the link need their link
        self._socket.setblocking(False)
        with contextlib.suppress(PermissionError):  # 277 datagrams without it, so tests read on while they wait
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
        self.payloads: list[bytes] = []

    def close(self) -> None:
        """The application ends, and with it the membership."""
        self._socket.close()

    def _say(self, option: int, *addresses: str) -> None:
        self._socket.setsockopt(self._level, option, struct.pack("=I4x", self._ifindex) + b"".join(map(_sockaddr, addresses)))

    def join(self) -> None:
        """Any source: EXCLUDE {}."""
        self._say(_JOIN, self.group)

    def leave(self) -> None:
        self._say(_LEAVE, self.group)

    def allow(self, source: str) -> None:
        """INCLUDE one more."""
        self._say(_JOIN_SOURCE, self.group, source)

    def disallow(self, source: str) -> None:
        """INCLUDE one less."""
        self._say(_LEAVE_SOURCE, self.group, source)

    def block(self, source: str) -> None:
        """EXCLUDE one more."""
        self._say(_BLOCK, self.group, source)

    def unblock(self, source: str) -> None:
        self._say(_UNBLOCK, self.group, source)

    def filter(self, mode: str, *sources: str) -> None:
        """The whole filter at once; mode "include" or "exclude"."""
        head = struct.pack("=I4x128sII", self._ifindex, _sockaddr(self.group), {"include": 1, "exclude": 0}[mode], len(sources))
        self._socket.setsockopt(self._level, _FILTER, head + b"".join(map(_sockaddr, sources)))

    @property
    def received(self) -> int:
        """Datagrams that the application got so far."""
        while True:
            try:
                self.payloads.append(self._socket.recv(2_048))
            except BlockingIOError:
                return len(self.payloads)


class Source:
    """Somebody who sends streams."""

    def __init__(self, net: Net, inside: Namespace, ifname: str, address: str, *, ttl: int = 16) -> None:
        self.address = address
        index = ifindex_of(inside, ifname)
        if ":" in address:
            self._socket = net.socket(inside, socket.AF_INET6, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            self._socket.bind((address, 0, 0, index if address.startswith("fe80") else 0))
        else:
            self._socket = net.socket(inside, socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_IF, bytes(8) + index.to_bytes(4, sys.byteorder))
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            self._socket.bind((address, 0))

    def ttl(self, ttl: int) -> None:
        """Of what is sent from now on."""
        if ":" in self.address:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)

    def send(self, group: str, payload: bytes = b"frame") -> None:
        """Raises nothing while there is no way out: a sender on a cable that is down goes on sending."""
        with contextlib.suppress(OSError):
            self._socket.sendto(payload, (group, PORT))


# -- strangers ---------------------------------------------------------------------------------------------------------


class Stranger:
    """Writes whole packets on a cable: other routers, and hosts that lie."""

    def __init__(self, net: Net, inside: Namespace, ifname: str) -> None:
        self._ifname = ifname
        self._socket = net.socket(inside, socket.AF_PACKET, socket.SOCK_DGRAM)

    def send(self, source: str, destination: str, payload: bytes, *, ttl: int = 1, protocol: int | None = None) -> None:
        """IGMP or MLD with Router Alert and a right checksum, unless `protocol` says that the payload is something else."""
        where = packed(destination)
        if ":" in destination:
            packet = _ipv6(packed(source), where, payload, ttl, protocol)
            mac, ethertype = b"\x33\x33" + where[-4:], _ETH_P_IPV6
        else:
            packet = build_ipv4(packed(source), where, payload, ttl=ttl, protocol=2 if protocol is None else protocol)
            mac, ethertype = b"\x01\x00\x5e" + bytes((where[1] & 0x7F,)) + where[2:], _ETH_P_IP
        self._socket.sendto(packet, (self._ifname, ethertype, 0, 0, mac))

    def query(self, source: str, query: Query) -> None:
        """As a router at `source` would ask it."""
        family = family_of(source)
        destination = family.text(query.group if query.group is not None else family.all_hosts)
        for payload in family.encode_query(query, 1_500):
            self.send(source, destination, payload)

    def report(self, source: str, version: int, *records: object) -> None:
        """As a host at `source` would say it."""
        family = family_of(source)
        for destination, payload in family.encode_report(version, records, 1_500):  # type: ignore[arg-type]
            self.send(source, family.text(destination), payload)


def _ipv6(source: bytes, destination: bytes, payload: bytes, ttl: int, protocol: int | None) -> bytes:
    if protocol is None:
        pseudo = source + destination + struct.pack("!II", len(payload), _ICMPV6)
        payload = payload[:2] + internet_checksum(pseudo + payload[:2] + b"\0\0" + payload[4:]).to_bytes(2, "big") + payload[4:]
        payload = bytes((_ICMPV6,)) + _ALERT_6 + payload
        protocol = 0
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl) + source + destination + payload


# -- taps --------------------------------------------------------------------------------------------------------------


class Packet(NamedTuple):
    """One IP packet on the cable."""

    at_s: float
    ifname: str
    is_outgoing: bool  # sent by the namespace that the tap is in
    source: str
    destination: str
    ttl: int
    protocol: int
    payload: bytes
    router_alert: bool

    @property
    def message(self) -> Query | Report | None:
        """The IGMP or MLD message in it, checked and decoded; None if it is something else."""
        family = family_of(self.destination)
        if self.protocol != (2 if family is IGMP else _ICMPV6) or (family is MLD and self.payload[0] not in _MLD_TYPES):
            return None
        return family.decode(self.payload, packed(self.source), packed(self.destination), self.ttl, self.router_alert)


class Tap:
    """Every frame on an interface, or on all of a namespace."""

    def __init__(self, net: Net, inside: Namespace, ifname: str | None = None) -> None:
        self._socket = net.socket(inside, socket.AF_PACKET, socket.SOCK_RAW, 0 if ifname else socket.htons(_ETH_P_ALL))
        with contextlib.suppress(PermissionError):  # without root the default has to do
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        if ifname:
            self._socket.bind((ifname, _ETH_P_ALL))
        self._socket.setblocking(False)
        self.frames: list[tuple[float, str, bool, bytes]] = []
        self._packets: list[Packet] = []

    def _read(self) -> None:
        while True:
            try:
                data, ancillary, _, (ifname, _, kind, *_) = self._socket.recvmsg(65_536, 64)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # said once by an interface that is down; it comes back with it
                    raise
                continue
            seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
            frame = (seconds + nanoseconds / 1e9, ifname, kind == _PACKET_OUTGOING, data)
            self.frames.append(frame)
            packet = _parsed(*frame)
            if packet is not None:
                self._packets.append(packet)

    @property
    def packets(self) -> list[Packet]:
        """Those so far, without IP fragments."""
        self._read()
        return self._packets

    def arrivals(self, group: str) -> Iterator[tuple[str, bytes]]:
        """(source, payload) of every datagram to `group` that came out of the cable."""
        return ((one.source, one.payload[8:]) for one in self.packets if one.protocol == _UDP and not one.is_outgoing and one.destination == group)

    def messages(self, source: str | None = None, *, ifname: str | None = None) -> list[Query | Report]:
        """The membership messages of one sender (all senders) on the tap (on one of its interfaces), decoded."""
        found = []
        for one in self.packets:
            if source in {None, one.source} and ifname in {None, one.ifname}:
                with contextlib.suppress(WireError):
                    message = one.message
                    if message is not None:
                        found.append(message)
        return found

    def reports(self, group: str, source: str | None = None) -> list[str]:
        """What was reported of `group`, as text in the order of the cable: `v3 TO_EX {}`, `v3 ALLOW {10.1.0.2}`."""
        return [
            said(message.version, one.kind, one.sources)
            for message in self.messages(source)
            if isinstance(message, Report)
            for one in message.records
            if one.group == packed(group)
        ]

    def queries(self, source: str | None = None) -> list[Query]:
        return [one for one in self.messages(source) if isinstance(one, Query)]

    def sent(self) -> list[bytes]:
        """Frames with IGMP or MLD that left this namespace."""
        self._read()
        return [data for at_s, ifname, is_outgoing, data in self.frames if is_outgoing and _is_membership(_parsed(at_s, ifname, is_outgoing, data))]


def said(version: int, kind: RecordKind, sources: Iterable[bytes] = ()) -> str:
    return f"v{version} {kind.name} {{{' '.join(str(ipaddress.ip_address(one)) for one in sorted(sources))}}}"


def _is_membership(packet: Packet | None) -> bool:
    return packet is not None and (packet.protocol == 2 or (packet.protocol == _ICMPV6 and packet.payload[0] in _MLD_TYPES))


def _parsed(at_s: float, ifname: str, is_outgoing: bool, frame: bytes) -> Packet | None:
    ethertype, ip = int.from_bytes(frame[12:14], "big"), frame[14:]
    if ethertype == _ETH_P_IP and not int.from_bytes(ip[6:8], "big") & 0x3FFF:
        header = (ip[0] & 15) * 4
        payload = ip[header : int.from_bytes(ip[2:4], "big")]
        source, destination = socket.inet_ntoa(ip[12:16]), socket.inet_ntoa(ip[16:20])
        return Packet(at_s, ifname, is_outgoing, source, destination, ip[8], ip[9], payload, b"\x94\x04" in ip[20:header])
    if ethertype == _ETH_P_IPV6:
        protocol, payload, alert = ip[6], ip[40 : 40 + int.from_bytes(ip[4:6], "big")], False
        if protocol == 0:  # hop-by-hop
            header = (payload[1] + 1) * 8
            alert = b"\x05\x02\x00\x00" in payload[2:header]
            protocol, payload = payload[0], payload[header:]
        source, destination = (socket.inet_ntop(socket.AF_INET6, part) for part in (ip[8:24], ip[24:40]))
        return Packet(at_s, ifname, is_outgoing, source, destination, ip[7], protocol, payload, alert)
    return None


def write_pcap(path: Path, frames: Iterable[bytes]) -> None:
    """Ethernet frames as a capture file that every tool reads."""
    with path.open("wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
        for number, frame in enumerate(frames):
            file.write(struct.pack("=IIII", number, 0, len(frame), len(frame)) + frame)
