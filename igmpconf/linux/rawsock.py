"""IGMP and MLD messages on raw sockets: read in batches with their interface, sent with Router Alert.

The socket is the one that does multicast routing (`mroute.py`), which also carries the kernel's upcalls.  Nothing
here interprets a message; the kernel has already checked the IP header of what arrives.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from igmpconf.engine.effects import SendPacket
from igmpconf.engine.events import CacheMissed, PacketReceived, WrongInterface
from igmpconf.engine.wire.ip import build_mld
from igmpconf.ids import IfIndex, VifIndex
from igmpconf.linux.kernel import Arrival

# The kernel doubles it, so 20,000 small messages wait, 832 octets each with the kernel's overhead: a general query's answers of a large LAN.
# A network card's driver may take twice as much for each.
RECEIVE_BUFFER_BYTES = 8 << 20
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; needs CAP_NET_ADMIN
_MAX_DATAGRAM_BYTES = 65_536
_MOST_AT_ONCE_BYTES = 8_192  # of messages given together: a thousand records, or the memory they take in passing would stay ours

# linux/in.h
_IP_PKTINFO, _IP_HDRINCL, _IP_MULTICAST_LOOP = 8, 3, 34
_PKTINFO = struct.Struct("=i4s4s")  # ifindex, specific destination, address
_PKTINFO_ANCILLARY = socket.CMSG_SPACE(_PKTINFO.size)
_TTL_ONE = 1
_TOS_INTERNETWORK_CONTROL = 0xC0  # RFC 3376 4: IP Precedence of Internetwork Control
_ROUTER_ALERT_OPTION = 148  # RFC 2113
_HEADER_WITH_ALERT = struct.Struct("!BBHHHBBH4s4sI")
_UNSPECIFIED = b"\0\0\0\0"
_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD

# linux/mroute.h: IGMPMSG_*, also MRT6MSG_* of linux/mroute6.h
_NOCACHE, _WRONGVIF = 1, 2

# linux/in6.h, linux/icmpv6.h
_IPV6_MULTICAST_HOPS, _IPV6_MULTICAST_LOOP, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 18, 19, 49, 50
_IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT, _IPV6_RECVHOPOPTS, _IPV6_HOPOPTS, _IPV6_TCLASS = 51, 52, 53, 54, 67
_ICMP6_FILTER = 1
_MLD_TYPES = (130, 131, 132, 143)  # query, v1 report, v1 done, v2 report
_PKTINFO6 = struct.Struct("=16si")
_INT = struct.Struct("=i")
_HOP_LIMIT_ONE = _INT.pack(1)
_NO_INTERFACE = IfIndex(0)
_MOST_SENDERS = 1_000
_HOP_BY_HOP_ALERT = bytes((0, 0, 5, 2, 0, 0, 1, 0))  # RFC 2711: option 5, value 0 "MLD", then PadN to 8 octets
_ALERT6 = bytes((5, 2, 0, 0))
_ANY6 = bytes(16)


class Packets(Protocol):
    """How one family's messages come and go on the routing socket."""

    def prepare(self) -> None: ...

    def receive(self, limit: int, vifs: Mapping[IfIndex, VifIndex], interfaces: Mapping[VifIndex, IfIndex]) -> list[Arrival]: ...

    def send(self, packet: SendPacket) -> None: ...

    def close(self) -> None: ...


def _grow_buffer(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)  # as much as net.core.rmem_max allows


def _upcall(kind: int, ifindex: IfIndex | None, source: bytes, group: bytes) -> CacheMissed | WrongInterface | None:
    if ifindex is None:
        return None
    if kind == _NOCACHE:
        return CacheMissed(ifindex, source, group)
    if kind == _WRONGVIF:
        return WrongInterface(ifindex, source, group)
    return None  # IGMPMSG_WHOLEPKT belongs to PIM


class IgmpPackets:
    """IGMP on a raw IPv4 socket; what we send has a header of our own (IP_HDRINCL)."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._link_layer: socket.socket | None = None
        self._identification = int.from_bytes(os.urandom(2), "big")

    def prepare(self) -> None:
        """Set the options; twice is harmless."""
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_HDRINCL, 1)
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_LOOP, 0)
        _grow_buffer(self._socket)

    def receive(self, limit: int, vifs: Mapping[IfIndex, VifIndex], interfaces: Mapping[VifIndex, IfIndex]) -> list[Arrival]:
        arrivals: list[Arrival] = []
        receive = self._socket.recvmsg
        left_bytes = _MOST_AT_ONCE_BYTES
        for _ in range(limit):
            try:
                data, ancillary, _, _ = receive(_MAX_DATAGRAM_BYTES, _PKTINFO_ANCILLARY)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENETDOWN:
                    continue  # the error of a vanished interface, reported once; the socket is fine
                raise
            if len(data) < 20:
                continue
            left_bytes -= len(data)
            if data[9] == 0:  # im_mbz of struct igmpmsg lies where the protocol number of a packet is
                upcall = _upcall(data[8], interfaces.get(VifIndex(data[10] | data[11] << 8)), data[12:16], data[16:20])
                if upcall is not None:
                    arrivals.append(upcall)
                continue
            ifindex: IfIndex | None = _PKTINFO.unpack_from(ancillary[0][2])[0] if ancillary else None
            if ifindex is None or ifindex not in vifs:
                continue
            header_bytes = (data[0] & 0x0F) << 2
            router_alert = header_bytes > 20 and (data[20] == _ROUTER_ALERT_OPTION or _has_router_alert(data, header_bytes))
            arrivals.append(PacketReceived(ifindex, data[12:16], data[16:20], data[header_bytes:], data[8], router_alert))
            if left_bytes < 0:
                break
        return arrivals

    def send(self, packet: SendPacket) -> None:
        source = packet.source
        header = _HEADER_WITH_ALERT.pack(
            0x46,  # version 4, six words
            _TOS_INTERNETWORK_CONTROL,
            _HEADER_WITH_ALERT.size + len(packet.payload),
            self._next_identification(),
            0,
            _TTL_ONE,
            socket.IPPROTO_IGMP,
            0,  # the kernel fills the checksum in, and the source when it is 0.0.0.0
            source or _UNSPECIFIED,
            packet.destination,
            _ROUTER_ALERT_OPTION << 24 | 4 << 16,
        )
        if source == _UNSPECIFIED:
            self._send_on_link(packet, header)
            return
        where = [(socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(packet.ifindex, _UNSPECIFIED, _UNSPECIFIED))]
        self._socket.sendmsg([header, packet.payload], where, 0, (socket.inet_ntoa(packet.destination), 0))

    def _next_identification(self) -> int:
        self._identification = self._identification % 65_535 + 1  # never 0: the kernel would choose one per flow
        return self._identification

    def _send_on_link(self, packet: SendPacket, header: bytes) -> None:
        """Below IP, where a source of 0.0.0.0 stays what it is (raw(7): IP_HDRINCL fills it in)."""
        if self._link_layer is None:
            self._link_layer = _link_layer()
        checksum = _internet_checksum(header)
        header = header[:10] + checksum.to_bytes(2, "big") + header[12:]
        low = int.from_bytes(packet.destination, "big") & 0x7FFFFF
        mac = b"\x01\x00\x5e" + low.to_bytes(3, "big")  # RFC 1112 6.4
        self._link_layer.sendto(header + packet.payload, (socket.if_indextoname(packet.ifindex), _ETH_P_IP, 0, 0, mac))

    def close(self) -> None:
        if self._link_layer is not None:
            self._link_layer.close()


def _internet_checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _has_router_alert(buffer: bytes, header_bytes: int) -> bool:
    at = 20
    while at < header_bytes:
        kind = buffer[at]
        if kind == _ROUTER_ALERT_OPTION:
            return True
        if kind == 0:  # end of the list
            return False
        if kind == 1:  # no operation
            at += 1
            continue
        step = buffer[at + 1] if at + 1 < header_bytes else 0
        if step < 2:
            return False
        at += step
    return False


class MldPackets:
    """MLD on a raw ICMPv6 socket; the kernel builds header and checksum."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._senders: dict[str, bytes] = {}
        self._link_layer: socket.socket | None = None
        self._ancillary_bytes = socket.CMSG_SPACE(_PKTINFO6.size) + socket.CMSG_SPACE(4) + socket.CMSG_SPACE(256)

    def prepare(self) -> None:
        self._socket.setblocking(False)
        for option in (_IPV6_RECVPKTINFO, _IPV6_RECVHOPLIMIT, _IPV6_RECVHOPOPTS):
            self._socket.setsockopt(socket.IPPROTO_IPV6, option, 1)
        self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_LOOP, 0)
        # once, and not with each message: that takes the kernel and us longer
        self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_HOPS, _TTL_ONE)
        self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_TCLASS, _TOS_INTERNETWORK_CONTROL)
        self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_HOPOPTS, _HOP_BY_HOP_ALERT)
        blocked = (1 << 256) - 1
        for kind in _MLD_TYPES:
            blocked &= ~(1 << (32 * (kind >> 5) + (kind & 31)))
        self._socket.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *(blocked >> (32 * word) & 0xFFFFFFFF for word in range(8))))
        _grow_buffer(self._socket)

    def receive(self, limit: int, vifs: Mapping[IfIndex, VifIndex], interfaces: Mapping[VifIndex, IfIndex]) -> list[Arrival]:
        arrivals: list[Arrival] = []
        receive, ancillary_bytes, senders = self._socket.recvmsg, self._ancillary_bytes, self._senders
        left_bytes = _MOST_AT_ONCE_BYTES
        for _ in range(limit):
            try:
                data, ancillary, _, sender = receive(_MAX_DATAGRAM_BYTES, ancillary_bytes)
            except BlockingIOError:
                break
            length = len(data)
            if length < 4:
                continue
            if data[0] == 0:  # struct mrt6msg; ICMPv6 has no type 0
                if length >= 40:
                    mif = VifIndex(data[2] | data[3] << 8)
                    upcall = _upcall(data[1], interfaces.get(mif), data[8:24], data[24:40])
                    if upcall is not None:
                        arrivals.append(upcall)
                continue
            destination, ifindex, hop_limit, router_alert = None, _NO_INTERFACE, 0, False
            for _, kind, value in ancillary:
                if kind == _IPV6_PKTINFO:
                    destination, ifindex = _PKTINFO6.unpack_from(value)
                elif kind == _IPV6_HOPLIMIT:
                    hop_limit = 1 if value == _HOP_LIMIT_ONE else _INT.unpack_from(value)[0]
                elif kind == _IPV6_HOPOPTS:
                    router_alert = _ALERT6 in value
            if ifindex in vifs:
                packed = senders.get(sender[0]) or self._learn_sender(sender[0])
                arrivals.append(PacketReceived(ifindex, packed, destination, data, hop_limit, router_alert))
            left_bytes -= length
            if left_bytes < 0:
                break
        return arrivals

    def _learn_sender(self, text: str) -> bytes:
        """The address that the socket module has made a text of; hosts repeat themselves."""
        packed = socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
        if len(self._senders) >= _MOST_SENDERS:
            self._senders.clear()
        return self._senders.setdefault(text, packed)

    def send(self, packet: SendPacket) -> None:
        source = packet.source
        if source == _ANY6:
            self._send_on_link(packet)
            return
        where = [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, _PKTINFO6.pack(source or _ANY6, packet.ifindex))]
        self._socket.sendmsg([packet.payload], where, 0, (socket.inet_ntop(socket.AF_INET6, packet.destination), 0, 0, packet.ifindex))

    def _send_on_link(self, packet: SendPacket) -> None:
        """Below IP, for a source of `::` (RFC 3810 5.2.13), which the kernel does not send from a raw socket."""
        if self._link_layer is None:
            self._link_layer = _link_layer()
        datagram = build_mld(bytes(16), packet.destination, packet.payload)
        mac = b"\x33\x33" + packet.destination[-4:]  # RFC 2464 7
        self._link_layer.sendto(datagram, (socket.if_indextoname(packet.ifindex), _ETH_P_IPV6, 0, 0, mac))

    def close(self) -> None:
        if self._link_layer is not None:
            self._link_layer.close()


def _link_layer() -> socket.socket:
    return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)  # protocol 0: receives nothing


def packets_for(family_bytes: int) -> Callable[[socket.socket], Packets]:
    """The messages of the family whose addresses have `family_bytes` octets."""
    return IgmpPackets if family_bytes == 4 else MldPackets
