"""Membership messages as they arrive on every interface for a moment, by (interface, sender, kind)."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import sys
from collections.abc import Callable, Collection

from igmpconf.engine.family import IGMP, MLD
from igmpconf.engine.messages import Query, RecordKind
from igmpconf.engine.wire.ip import parse_ipv4
from igmpconf.errors import WireError
from igmpconf.linux.capture import only_membership
from igmpconf.model.diagnosis import MessageFact

PER_S = 500  # messages looked at, on average over the whole time
MOST_ROWS = 500
_MOST_GROUPS = 50  # told of each row
_MOST_FORGOTTEN = 10_000  # more than a receive buffer holds
_ETH_P_ALL = 3
_OUTGOING = 4  # linux/if_packet.h PACKET_OUTGOING
_SOL_PACKET, _PACKET_AUXDATA = 263, 8
_TP_STATUS_VLAN_VALID = 0x10

_Key = tuple[str, bytes, str]


class Heard:
    """Listens from `sockets` on; `close` it.  Where that cannot be had, `why_not` says so."""

    def __init__(self, window_ms: int) -> None:
        self._left = max(PER_S, PER_S * window_ms // 1000)
        self._rows: dict[_Key, tuple[int, dict[bytes, None]]] = {}
        self._socket: socket.socket | None = None
        self.why_not: str | None = None

    def sockets(self) -> dict[socket.socket, Callable[[], bool]]:
        """What to wait for, and what to call then; the answer False ends it."""
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
            only_membership(self._socket)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            self._forget()
        except OSError as error:
            self.close()
            self.why_not = f"membership messages: {error.strerror}"
            return {}
        return {self._socket: self._read}

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _forget(self) -> None:
        """What came before the filter stood may be anything."""
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            for _ in range(_MOST_FORGOTTEN):
                self._socket.recv(64)

    def _read(self) -> bool:
        assert self._socket is not None
        for _ in range(64):
            try:
                data, ancillary, _, (interface, _, kind, *_) = self._socket.recvmsg(2_048, 64)
            except BlockingIOError:
                return True
            except OSError:
                continue  # an interface went down, which is said once
            if kind == _OUTGOING or _is_tagged(ancillary):
                continue  # a tagged one comes again, on its VLAN's interface
            self._left -= 1
            if self._left < 0:
                self.why_not = "membership messages: more came than are looked at; the later ones are not told"
                return False
            self._take(interface, data)
        return True

    def _take(self, interface: str, data: bytes) -> None:
        sender, what, groups = _decoded(data)
        key = (interface, sender, what)
        if key not in self._rows and len(self._rows) >= MOST_ROWS:
            return
        packets, known = self._rows.get(key, (0, {}))
        known.update(dict.fromkeys(groups[: _MOST_GROUPS - len(known)]))
        self._rows[key] = (packets + 1, known)

    def facts(self, ports: Collection[str]) -> tuple[MessageFact, ...]:
        """What was heard; not on `ports` of a bridge, where the same messages come by."""
        return tuple(
            MessageFact(
                interface=interface,
                sender=ipaddress.ip_address(sender),
                kind=what,
                packets=packets,
                groups=tuple(ipaddress.ip_address(group) for group in sorted(groups)),
            )
            for (interface, sender, what), (packets, groups) in sorted(self._rows.items())
            if interface not in ports and len(sender) in {4, 16}
        )


def _is_tagged(ancillary: list[tuple[int, int, bytes]]) -> bool:
    status = [int.from_bytes(data[:4], sys.byteorder) for level, kind, data in ancillary if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA)]
    return any(one & _TP_STATUS_VLAN_VALID for one in status)


def _decoded(data: bytes) -> tuple[bytes, str, list[bytes]]:
    """Sender, kind, groups; the filter lets nothing in but IPv4 and IPv6."""
    sender = data[12:16] if data[:1] and data[0] >> 4 == 4 else data[8:24]
    try:
        if len(sender) == 4:
            datagram = parse_ipv4(data)
            family, destination, payload, ttl = IGMP, datagram.destination, datagram.payload, datagram.ttl
        else:
            family, destination, payload, ttl = MLD, data[24:40], data[48:] if data[6] == 0 else data[40:], data[7]
        message = family.decode(payload, sender, destination, ttl, True)
    except (WireError, IndexError):
        return sender, "malformed", []
    if isinstance(message, Query):
        return sender, "query", [message.group] if message.group is not None else []
    is_leave = message.version < family.latest_version and message.records[0].kind is RecordKind.TO_IN
    return sender, "leave" if is_leave else "report", [record.group for record in message.records]
