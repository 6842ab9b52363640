"""One host of the lab: a process in its own network namespace that sends and receives on ordinary sockets.

It serves one request a packet on a socket pair and does what was asked between the datagrams; it decides nothing.
Memberships are the kernel's: we only open sockets, the kernel speaks IGMP.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from igmpconf.lab import topology
from igmpconf.lab.namespaces import LabError
from igmpconf.lab.stream import PORT, TTL, Tally, datagram, parsed

# linux/in.h; the socket module of Python 3.11 has no names for these
_IP_ADD_SOURCE_MEMBERSHIP = 39
_IP_DROP_SOURCE_MEMBERSHIP = 40
_IP_MULTICAST_ALL = 49

_ETH_P_IP = 0x0800
_PACKET_OUTGOING = 4  # linux/if_packet.h
_BUFFER_BYTES = 8 << 20  # a busy machine may leave us unscheduled for a while; that must not look like loss
_BATCH = 256  # datagrams read before the next request is looked at
_REQUEST_BYTES = 65_536
_MOST_GROUPS = 500  # told one by one: an answer is one packet, of 64 KiB at most
OTHER_GROUPS = "others"


@dataclass(slots=True)
class _Receiver:
    socket: socket.socket
    sources: set[str] = field(default_factory=set)  # empty: any source
    tally: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class _Sender:
    rate_per_s: int
    started_ns: int
    sent: int = 0  # since the rate was set
    sequence: int = 0


class Node:
    """The sockets of one host and the loop that serves them."""

    def __init__(self, name: str, channel: socket.socket) -> None:
        self._name = name
        self._channel = channel
        self._receivers: dict[str, _Receiver] = {}
        self._senders: dict[str, _Sender] = {}
        self._sent: dict[str, int] = {}
        self._on_wire: dict[str, int] = {}
        self._address = ""
        self._output: socket.socket | None = None
        self._selector = selectors.SelectSelector()  # epoll rounds up to milliseconds, and a sender must be more even than that
        self._selector.register(channel, selectors.EVENT_READ, self._serve)

    def run(self) -> None:
        """Serve until the other end of the channel closes."""
        try:
            while True:
                for key, _ in self._selector.select(self._send_due()):
                    key.data()
        except EOFError:
            return

    def _serve(self) -> None:
        packet = self._channel.recv(_REQUEST_BYTES)
        if not packet:
            raise EOFError
        request = json.loads(packet)
        handlers: dict[str, Callable[..., Any]] = {
            "set-up": self._set_up,
            "join": self._join,
            "leave": self._leave,
            "send": self._send,
            "counts": self._counts,
        }
        try:
            reply = {"result": handlers[request.pop("op")](**request)}
        except LabError as complaint:
            reply = {"error": complaint.message, "hint": complaint.hint}
        except OSError as refused:
            reply = {"error": f"{self._name}: {refused.strerror or refused}", "hint": None}
        self._channel.send(json.dumps(reply).encode())

    def _set_up(self) -> None:
        if self._name == topology.ROUTER:
            topology.set_up_router()
            return
        host = topology.host_named(self._name)
        topology.set_up_host(host)
        self._address = host.address.partition("/")[0]
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_IP))
        tap.bind(("eth0", _ETH_P_IP))
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._selector.register(tap, selectors.EVENT_READ, lambda: self._watch_wire(tap))

    # --- receiving

    def _join(self, group: str, source: str | None = None) -> None:
        receiver = self._receivers.get(group)
        if receiver is None:
            receiver = _Receiver(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        elif (source is None) == bool(receiver.sources) or source is None or source in receiver.sources:
            raise LabError(f"{self._name} has already joined {group} from {', '.join(sorted(receiver.sources)) or 'any source'}", hint="leave it first")
        new = group not in self._receivers
        try:
            if new:
                receiver.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
                receiver.socket.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)  # only what this very socket joined
                receiver.socket.bind((group, PORT))
            if source is None:
                receiver.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, self._mreq(group))
            else:
                receiver.socket.setsockopt(socket.IPPROTO_IP, _IP_ADD_SOURCE_MEMBERSHIP, self._mreq(group) + socket.inet_aton(source))
                receiver.sources.add(source)
        except OSError:
            if new:
                receiver.socket.close()
            raise
        if new:
            self._receivers[group] = receiver
            self._selector.register(receiver.socket, selectors.EVENT_READ, lambda: self._receive(receiver))

    def _leave(self, group: str, source: str | None = None) -> None:
        receiver = self._receivers.get(group)
        if receiver is None or (source is not None and source not in receiver.sources):
            raise LabError(f"{self._name} has not joined {group}" + (f" from {source}" if source else ""))
        if source is not None and len(receiver.sources) > 1:
            receiver.socket.setsockopt(socket.IPPROTO_IP, _IP_DROP_SOURCE_MEMBERSHIP, self._mreq(group) + socket.inet_aton(source))
            receiver.sources.discard(source)
            return
        del self._receivers[group]
        self._selector.unregister(receiver.socket)
        receiver.socket.close()  # the kernel leaves for us

    def _mreq(self, group: str) -> bytes:
        return struct.pack("!4s4s", socket.inet_aton(group), socket.inet_aton(self._address))

    def _receive(self, receiver: _Receiver) -> None:
        if receiver.socket.fileno() < 0:
            return  # it was ready in the very turn that also brought the leave
        for _ in range(_BATCH):
            try:
                payload = receiver.socket.recv(2048)
            except BlockingIOError:
                return
            ours = parsed(payload)
            if ours is not None:
                receiver.tally.add(ours[0], time.monotonic_ns())

    def _watch_wire(self, tap: socket.socket) -> None:
        """Count what reaches the interface, wanted or not: the proof that a stream goes only where it was joined."""
        for _ in range(_BATCH):
            try:
                packet, origin = tap.recvfrom(128)
            except BlockingIOError:
                return
            header_bytes = (packet[0] & 0x0F) * 4
            if origin[2] == _PACKET_OUTGOING or packet[9] != socket.IPPROTO_UDP or len(packet) < header_bytes + 4:
                continue
            if packet[16] >> 4 == 0b1110 and int.from_bytes(packet[header_bytes + 2 : header_bytes + 4], "big") == PORT:
                group = socket.inet_ntoa(packet[16:20])
                if group not in self._on_wire and len(self._on_wire) >= _MOST_GROUPS:
                    group = OTHER_GROUPS
                self._on_wire[group] = self._on_wire.get(group, 0) + 1

    # --- sending

    def _send(self, group: str, rate_per_s: int) -> None:
        if self._output is None:
            self._output = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._output.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(self._address))
            self._output.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, TTL)
            self._output.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        running = self._senders.pop(group, None)
        if running is not None:
            self._sent[group] = running.sequence
        if rate_per_s > 0:
            self._senders[group] = _Sender(rate_per_s, time.monotonic_ns(), sequence=self._sent.get(group, 0))

    def _send_due(self) -> float | None:
        """Send what is due by the clock; return seconds until the next datagram, or None when nothing is sent."""
        if self._output is None or not self._senders:
            return None
        now_ns = time.monotonic_ns()
        wait_ns = 1_000_000_000
        for group, sender in self._senders.items():
            due = (now_ns - sender.started_ns) * sender.rate_per_s // 1_000_000_000
            for _ in range(min(due - sender.sent, _BATCH)):
                self._output.sendto(datagram(sender.sequence, now_ns), (group, PORT))
                sender.sequence += 1
                sender.sent += 1
            next_ns = sender.started_ns + (sender.sent + 1) * 1_000_000_000 // sender.rate_per_s
            wait_ns = min(wait_ns, next_ns - now_ns)
        return max(wait_ns, 0) / 1e9

    # --- telling

    def _counts(self) -> dict[str, Any]:
        now_ns = time.monotonic_ns()
        return {
            "joined": {
                group: {
                    "sources": sorted(receiver.sources),
                    "received": receiver.tally.received,
                    "lost": receiver.tally.lost,
                    "duplicates": receiver.tally.duplicates,
                    "highest": receiver.tally.highest,
                    "idle_ms": (now_ns - receiver.tally.last_ns) // 1_000_000 if receiver.tally.received else None,
                }
                for group, receiver in self._receivers.items()
            },
            "on_wire": self._on_wire,
            "sent": self._sent | {group: sender.sequence for group, sender in self._senders.items()},
        }
