"""rtnetlink in the few words that we speak: dumps, requests, and the notifications of links and addresses.

Written on plain sockets: the agent dumps thousands of forwarding entries and must stay small, and a general
netlink library costs it 20 MB and a decoder that is fifty times slower.  Sources: linux/netlink.h, rtnetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from igmpconf.ids import IfIndex

NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 2, 3, 4
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400
NLM_F_DUMP_INTR = 0x10

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34

RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
RTNL_FAMILY_IPMR, RTNL_FAMILY_IP6MR = 128, 129

SO_RCVBUFFORCE = 33  # asm-generic/socket.h
NETLINK_GET_STRICT_CHK = 12  # filters in a dump request are obeyed (Linux 4.20)
SOL_NETLINK = 270

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_NLA_TYPE_MASK = 0x3FFF
_DUMP_TRIES = 5

Message = tuple[int, bytes]  # message type, what follows its header


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute in `data` from `offset` on; what is cut short is left out."""
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            return
        yield kind & _NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its padding."""
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > len(data):
            return
        yield kind, flags, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def index_of(name: str) -> IfIndex:
    """The index of the interface `name`.  Raises OSError ENODEV."""
    try:
        return IfIndex(socket.if_nametoindex(name))
    except OSError:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None


class Requests:
    """Asks and waits for the answer.  The kernel answers at once, so waiting does not delay the engine noticeably."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        try:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        except OSError:
            pass  # older kernels answer with all tables; readers look at the table of each entry anyway
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        self._sequence += 1
        self._socket.send(_HEADER.pack(16 + len(body), kind, flags, self._sequence, 0) + body)
        return self._sequence

    def dump(self, kind: int, body: bytes) -> list[Message]:
        """All objects of one kind, consistent: a dump that was disturbed by a change is asked for again."""
        for _ in range(_DUMP_TRIES):
            found, disturbed = self._dump_once(kind, body)
            if not disturbed:
                break
        return found

    def _dump_once(self, kind: int, body: bytes) -> tuple[list[Message], bool]:
        sequence = self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
        found: list[Message] = []
        disturbed = False
        while True:
            for answer, flags, number, data in _messages(self._socket.recv(1 << 18)):
                if number != sequence:
                    continue
                disturbed |= bool(flags & NLM_F_DUMP_INTR)
                if answer == NLMSG_DONE:
                    if len(data) >= 4:
                        _raise(data)  # the dump ended because of an error
                    return found, disturbed
                if answer == NLMSG_ERROR:
                    _raise(data)
                found.append((answer, data))

    def ask(self, kind: int, body: bytes) -> bytes:
        """What the kernel says about one object.  Raises OSError."""
        sequence = self._send(kind, NLM_F_REQUEST, body)
        while True:
            for answer, _, number, data in _messages(self._socket.recv(1 << 16)):
                if number != sequence:
                    continue
                if answer == NLMSG_ERROR:
                    _raise(data)
                return data

    def change(self, kind: int, flags: int, body: bytes) -> None:
        """One request that is answered by yes or by OSError."""
        sequence = self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)
        while True:
            for answer, _, number, data in _messages(self._socket.recv(1 << 16)):
                if number == sequence and answer == NLMSG_ERROR:
                    _raise(data)
                    return


def _raise(data: bytes) -> None:
    (code,) = struct.unpack_from("=i", data)
    if code:
        raise OSError(-code, os.strerror(-code))


class Monitor:
    """A socket on which the kernel announces changes, of links and addresses unless other `groups` (RTMGRP_*) are named."""

    def __init__(self, groups: int = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
        except OSError:
            pass  # a small buffer only means that we read everything anew more often
        self.socket.bind((0, groups))

    def read(self) -> list[Message] | None:
        """The announcements that wait; None when some were lost (ENOBUFS) and everything has to be read anew."""
        news: list[Message] = []
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                return news
            except OSError as error:
                if error.errno != 105:  # ENOBUFS
                    raise
                return None
            news.extend((kind, body) for kind, _, _, body in _messages(data))

    def close(self) -> None:
        self.socket.close()
