"""IGMP and MLD on the ports of a bridge, below the bridge: heard where they arrive, sent where they belong.

One packet socket hears all ports.  It is asked before the bridge and before its packet filter, so a message that the
filter keeps from the other ports (`bridge_filter.py`) still arrives here; what is sent leaves by the port itself and
passes neither.  A small program in the kernel lets through only membership messages, untagged, on our ports.  IP has
not looked at what arrives, so headers and checksums are checked here; what a message says is the engine's business.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterable

from igmpconf.engine.effects import SendPacket
from igmpconf.engine.events import PacketReceived
from igmpconf.engine.family import Family
from igmpconf.engine.wire.checksum import is_intact
from igmpconf.engine.wire.ip import build_ipv4, build_mld, parse_ipv4
from igmpconf.errors import WireError
from igmpconf.ids import IfIndex
from igmpconf.linux.netlink import index_of
from igmpconf.linux.rawsock import RECEIVE_BUFFER_BYTES

_SO_RCVBUFFORCE, _SO_ATTACH_FILTER = 33, 26  # asm-generic/socket.h
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23  # linux/if_packet.h
_PACKET_OUTGOING = 4
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
_IGMP, _ICMPV6, _HOP_BY_HOP = 2, 58, 0
_MAX_BYTES = 65_536
_LOWEST_LINK_LOCAL = b"\xfe\x80" + bytes(14)

# Classic BPF (linux/filter.h): operation codes, and the ancillary data that a load far below zero means
_LD, _LDB, _LDB_X, _ADD, _LSH, _TAX, _JEQ, _RET = 0x20, 0x30, 0x50, 0x04, 0x64, 0x07, 0x15, 0x06
_AD_PROTOCOL, _AD_IFINDEX, _AD_VLAN_TAG_PRESENT = (0xFFFFF000 + offset for offset in (0, 8, 48))
_INSTRUCTION = struct.Struct("=HBBI")

_Jump = tuple[int, int, str, str]  # code, operand, label if true, label if not; "" is the next instruction


def _program(family: Family, ports: Iterable[IfIndex]) -> bytes:
    """What lets through membership messages of the family that arrive on one of `ports`; data begins at the IP header."""
    is_ipv4 = family.address_bytes == 4
    code: list[_Jump | str] = [(_LD, _AD_VLAN_TAG_PRESENT, "", ""), (_JEQ, 0, "", "drop"), (_LD, _AD_IFINDEX, "", "")]
    code += [(_JEQ, port, "ours", "") for port in ports]
    code += [(_RET, 0, "", ""), "ours", (_LD, _AD_PROTOCOL, "", ""), (_JEQ, _ETH_P_IP if is_ipv4 else _ETH_P_IPV6, "", "drop")]
    if is_ipv4:
        code += [(_LDB, 9, "", ""), (_JEQ, _IGMP, "take", "drop")]
    else:
        code += [(_LDB, 6, "", ""), (_JEQ, _HOP_BY_HOP, "", "drop"), (_LDB, 40, "", ""), (_JEQ, _ICMPV6, "", "drop")]
        code += [(_LDB, 41, "", ""), (_ADD, 1, "", ""), (_LSH, 3, "", ""), (_TAX, 0, "", ""), (_LDB_X, 40, "", "")]
        code += [(_JEQ, kind, "take", "") for kind in (130, 131, 132, 143)]  # query, version 1 report, done, version 2 report
    code += ["drop", (_RET, 0, "", ""), "take", (_RET, _MAX_BYTES, "", "")]
    places: dict[str, int] = {}
    instructions: list[_Jump] = []
    for one in code:
        if isinstance(one, str):
            places[one] = len(instructions)
        else:
            instructions.append(one)
    return b"".join(
        _INSTRUCTION.pack(operation, *(places[label] - at - 1 if label else 0 for label in (true, false)), operand)
        for at, (operation, operand, true, false) in enumerate(instructions)
    )


class PortPackets:
    """One family's messages on the ports of one bridge; `held` is a socket of an earlier process that went on listening."""

    def __init__(self, family: Family, bridge: str, held: socket.socket | None = None) -> None:
        self._family = family
        self._bridge = bridge
        self._ethertype = _ETH_P_IP if family.address_bytes == 4 else _ETH_P_IPV6
        self._ports: frozenset[IfIndex] = frozenset()
        self._indexes: dict[str, IfIndex] = {}  # of ports by name, as far as they were heard
        self._parse = self._parsed_ipv4 if family.address_bytes == 4 else self._parsed_ipv6
        self.socket = held or socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.htons(_ETH_P_ALL))
        try:
            self._prepare(is_new=held is None)
        except OSError:
            if held is None:
                self.socket.close()
            raise

    def _prepare(self, *, is_new: bool) -> None:
        self.socket.setblocking(False)
        with contextlib.suppress(OSError):  # Linux 4.20; `receive` looks as well
            self.socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        except PermissionError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if is_new:
            self._attach()
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.socket.recv(1)  # what came before the filter

    def listen(self, ports: Iterable[IfIndex]) -> None:
        """Hear these ports and no others."""
        wanted = frozenset(ports)
        self._indexes.clear()
        if wanted != self._ports:
            self._ports = wanted
            self._attach()

    def _attach(self) -> None:
        program = array.array("B", _program(self._family, sorted(self._ports)))
        address, length = program.buffer_info()
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", length // _INSTRUCTION.size, address))  # struct sock_fprog

    # arrivals

    def receive(self, limit: int) -> list[PacketReceived]:
        """At most `limit` messages that are whole; never blocks."""
        found: list[PacketReceived] = []
        for _ in range(limit):
            try:
                data, (ifname, _, kind, *_) = self.socket.recvfrom(_MAX_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENETDOWN:
                    continue  # said once by an interface that went down
                raise
            if kind == _PACKET_OUTGOING:
                continue
            with contextlib.suppress(OSError, WireError):  # OSError: the port has gone meanwhile
                ifindex = self._indexes.get(ifname)
                if ifindex is None:
                    ifindex = self._indexes[ifname] = index_of(ifname)
                packet = self._parse(ifindex, data)
                if packet is not None and ifindex in self._ports:
                    found.append(packet)
        return found

    @staticmethod
    def _parsed_ipv4(ifindex: IfIndex, data: bytes) -> PacketReceived | None:
        datagram = parse_ipv4(data)
        if not is_intact(data[: (data[0] & 0x0F) * 4]):
            return None
        return PacketReceived(ifindex, datagram.sender, datagram.destination, datagram.payload, datagram.ttl, datagram.router_alert)

    @staticmethod
    def _parsed_ipv6(ifindex: IfIndex, data: bytes) -> PacketReceived | None:
        end = 40 + int.from_bytes(data[4:6])
        if len(data) < max(end, 48) or data[0] >> 4 != 6:
            return None
        begin = 40 + (data[41] + 1) * 8
        sender, destination, options, payload = data[8:24], data[24:40], data[42:begin], data[begin:end]
        if len(payload) < 4 or not is_intact(_pseudo(sender, destination, len(payload)) + payload):
            return None
        return PacketReceived(ifindex, sender, destination, payload, data[7], b"\x05\x02\x00\x00" in options)

    # departures

    def send(self, packet: SendPacket) -> None:
        """By the port itself.  Raises OSError."""
        try:
            name = socket.if_indextoname(packet.ifindex)
        except OSError:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None
        self._put(name, packet, packet.source or self._family.unspecified)

    def tell_bridge(self, packet: SendPacket) -> None:
        """Let the bridge itself hear a query of ours, so that it knows of a querier and obeys its entries; it goes no further.

        From the lowest address there is: nobody who asked the bridge before has a better one.  Raises OSError.
        """
        self._put(self._bridge, packet, self._family.unspecified if self._family.address_bytes == 4 else _LOWEST_LINK_LOCAL)

    def _put(self, name: str, packet: SendPacket, source: bytes) -> None:
        destination = packet.destination
        if len(destination) == 4:
            datagram = build_ipv4(source, destination, packet.payload)
            mac = b"\x01\x00\x5e" + bytes((destination[1] & 0x7F,)) + destination[2:]  # RFC 1112 6.4
        else:
            datagram = build_mld(source, destination, packet.payload)
            mac = b"\x33\x33" + destination[-4:]  # RFC 2464 7
        self.socket.sendto(datagram, (name, self._ethertype, 0, 0, mac))

    def close(self) -> None:
        self.socket.close()


def _pseudo(source: bytes, destination: bytes, length: int) -> bytes:
    """RFC 8200 8.1."""
    return source + destination + struct.pack("!II", length, _ICMPV6)
