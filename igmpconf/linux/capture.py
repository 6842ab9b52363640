"""IGMP and MLD as they pass on an interface, both directions: an AF_PACKET socket behind a filter that the kernel runs.

Only membership messages reach us, so that a stream on the same interface costs nothing.  What is kept between two
readings is bounded in number, in octets (each packet is cut) and in rate; the rest is counted.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections import deque
from typing import NamedTuple

SNAP_BYTES = 1_600  # of a packet: a whole message at the usual MTU
MOST_KEPT = 1_000
MOST_PER_S = 500

_ETH_P_ALL = 3
_OUTGOING = 4  # linux/if_packet.h PACKET_OUTGOING
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_ALLMULTI = 263, 1, 2
_SLL = struct.Struct("!HHH8sH")  # LINKTYPE_LINUX_SLL: direction, ARPHRD, address length, address, protocol

# linux/filter.h; the socket is SOCK_DGRAM, so offset 0 is the IP header
_LD_PROTOCOL = (0x20, 0, 0, 0xFFFFF000)  # BPF_LD|BPF_W|BPF_ABS SKF_AD_OFF + SKF_AD_PROTOCOL
_IGMP, _ICMPV6, _HOP_BY_HOP = 2, 58, 0
_MLD_TYPES = (130, 131, 132, 143)


def _program() -> bytes:
    """Accept IPv4 with IGMP, and IPv6 with an MLD message, with or without a hop-by-hop header of 8 octets."""
    accept, reject = 18, 17

    def load_octet(at: int) -> tuple[int, int, int, int]:
        return (0x30, 0, 0, at)

    def jump(here: int, value: int, then: int, otherwise: int) -> tuple[int, int, int, int]:
        return (0x15, then - here - 1, otherwise - here - 1, value)

    steps = [
        _LD_PROTOCOL,
        jump(1, 0x0800, 2, 4),
        load_octet(9),
        jump(3, _IGMP, accept, reject),
        jump(4, 0x86DD, 5, reject),
        load_octet(6),
        jump(6, _ICMPV6, 12, 7),
        jump(7, _HOP_BY_HOP, 8, reject),
        load_octet(40),
        jump(9, _ICMPV6, 10, reject),
        load_octet(48),
        (0x05, 0, 0, 1),  # to the comparison
        load_octet(40),
        jump(13, _MLD_TYPES[0], accept, 14),
        jump(14, _MLD_TYPES[1], accept, 15),
        jump(15, _MLD_TYPES[2], accept, 16),
        jump(16, _MLD_TYPES[3], accept, reject),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFF),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def only_membership(sock: socket.socket) -> None:
    """From now on the kernel gives this AF_PACKET socket (SOCK_DGRAM) messages of IGMP and MLD only.  Raises OSError."""
    program = ctypes.create_string_buffer(_program())
    attached = struct.pack("@HP", len(program.raw) // 8, ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)


class Captured(NamedTuple):
    number: int
    time_us: int
    is_outgoing: bool
    frame: bytes  # cooked header and IP packet, cut
    length: int  # of cooked header and IP packet, whole


class Capture:
    """A capture on one interface from now on; `read` it whenever `fileno` is readable.  Raises OSError."""

    def __init__(self, interface: str) -> None:
        ifindex = socket.if_nametoindex(interface)
        # protocol 0 until it is bound: nothing of other interfaces, or from before the filter, is heard
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
        try:
            only_membership(self._socket)
            member = struct.pack("=iHH8s", ifindex, _PACKET_MR_ALLMULTI, 0, b"")
            self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, member)
            self._socket.bind((interface, _ETH_P_ALL))
        except OSError:
            self._socket.close()
            raise
        self._kept: deque[Captured] = deque()
        self._number = 0
        self._lost = 0
        self._second = 0
        self._in_second = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> None:
        """Take in what waits, a bounded part of it."""
        for _ in range(64):
            try:
                packet, (_, protocol, kind, hardware, address) = self._socket.recvfrom(65_536)
            except BlockingIOError:
                return
            now_us = time.time_ns() // 1_000
            second = now_us // 1_000_000
            if second != self._second:
                self._second, self._in_second = second, 0
            self._in_second += 1
            self._number += 1
            if len(self._kept) >= MOST_KEPT or self._in_second > MOST_PER_S:
                self._lost += 1
                continue
            head = _SLL.pack(kind, hardware, len(address), address[:8], protocol)
            self._kept.append(Captured(self._number, now_us, kind == _OUTGOING, head + packet[:SNAP_BYTES], len(head) + len(packet)))

    def taken(self, limit: int) -> tuple[list[Captured], int]:
        """At most `limit` of the oldest, which are then forgotten, and how many were lost since the last call."""
        lost, self._lost = self._lost, 0
        return [self._kept.popleft() for _ in range(min(limit, len(self._kept)))], lost

    def close(self) -> None:
        self._socket.close()
