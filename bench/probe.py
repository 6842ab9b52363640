"""Processes inside the lab that note, with the kernel's own timestamps, when a packet came by."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import igmp
from igmpconf.lab.lab import Lab
from igmpconf.lab.stream import parsed
from igmpconf.lab.topology import HEADEND, host_named

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_ETH_P_IP = 0x0800
_OUTGOING = 4  # linux/if_packet.h: PACKET_OUTGOING
PATIENCE_S = 3.0
_LONGEST_S = 60.0  # a start on a busy machine
_QUERY = 0x11  # RFC 3376 4.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """One join: all times in nanoseconds of CLOCK_REALTIME, None when it did not happen within PATIENCE_S."""

    group: str
    sent_ns: int
    stream_ns: int | None  # the first datagram, which may have waited in the kernel since before the join
    fresh_ns: int | None  # the first datagram that was sent after the join
    report_ns: int | None


class Probe:
    """A child in one node of the lab that does what a line of JSON says and answers with one."""

    def __init__(self, lab: Lab, node: str, serve: Callable[[dict[str, object]], object]) -> None:
        down, self._requests = os.pipe()
        self._replies, up = os.pipe()

        def inside() -> int:
            os.close(self._requests)  # so that the end of the parent is our end
            with os.fdopen(down) as requests, os.fdopen(up, "w") as replies:
                for line in requests:
                    replies.write(json.dumps(serve(json.loads(line))) + "\n")
                    replies.flush()
            return 0

        self._pid = lab.fork(node, inside)
        os.close(down)
        os.close(up)
        self._answers = os.fdopen(self._replies)

    def ask(self, **request: object) -> dict[str, int | None]:
        self.tell(**request)
        return self.answer()

    def tell(self, **request: object) -> None:
        os.write(self._requests, json.dumps(request).encode() + b"\n")

    def answer(self) -> dict[str, int | None]:
        line = self._answers.readline()
        if not line:
            raise RuntimeError("a probe ended before its time")
        told: dict[str, int | None] = json.loads(line)
        return told

    def close(self) -> None:
        os.close(self._requests)
        self._answers.close()
        os.kill(self._pid, signal.SIGTERM)
        os.waitpid(self._pid, 0)


class _Tap:
    """Every IP packet that an interface receives, with the kernel's time of it."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("eth0", _ETH_P_IP))

    def first(self, wanted: Callable[[bytes, int], bool], *, after_ns: int, within_s: float) -> int | None:
        """When the first wanted packet later than `after_ns` arrived, or None."""
        deadline = time.monotonic() + within_s
        while (left_s := deadline - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left_s)[0]:
                break
            packet, extra, _, origin = self.socket.recvmsg(2048, 64)
            seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
            at_ns: int = seconds * 1_000_000_000 + nanoseconds
            if at_ns >= after_ns and origin[2] != _OUTGOING and wanted(packet, at_ns):
                return at_ns
        return None


def joiner(lab: Lab, host: str) -> Probe:
    """A host that reports a group and notes the stream's first datagram within `patience_s`; also `leave`."""
    address = host_named(host).address.partition("/")[0]
    tools: list[tuple[_Tap, socket.socket]] = []

    def serve(request: dict[str, object]) -> object:
        if not tools:
            tools.append((_Tap(), igmp.report_socket(address)))
        tap, raw = tools[0]
        group, version = str(request["group"]), int(str(request["version"]))
        if request["op"] == "leave":
            message, destination = igmp.leave(group, version=version)
            raw.sendto(message, (destination, 0))
            return {}
        wanted = socket.inet_aton(group)
        message, destination = igmp.join(group, version=version)
        sent_ns, sent_monotonic_ns = time.clock_gettime_ns(time.CLOCK_REALTIME), time.monotonic_ns()
        raw.sendto(message, (destination, 0))
        firsts: list[int] = []

        def is_fresh(packet: bytes, at_ns: int) -> bool:
            if packet[9] != socket.IPPROTO_UDP or packet[16:20] != wanted:
                return False
            firsts.append(at_ns)
            ours = parsed(packet[(packet[0] & 15) * 4 + 8 :])
            return ours is not None and ours[1] >= sent_monotonic_ns

        fresh_ns = tap.first(is_fresh, after_ns=sent_ns, within_s=float(str(request["patience_s"])))
        return {"sent_ns": sent_ns, "stream_ns": firsts[0] if firsts else None, "fresh_ns": fresh_ns}

    return Probe(lab, host, serve)


def upstream_listener(lab: Lab) -> Probe:
    """The head end's ear: told a group, it answers when the router first reported it."""
    taps: list[_Tap] = []

    def serve(request: dict[str, object]) -> object:
        if not taps:
            taps.append(_Tap())
            return {}
        group, after_ns = str(request["group"]), int(str(request["after_ns"]))

        def is_report(packet: bytes, _at_ns: int) -> bool:
            return packet[9] == socket.IPPROTO_IGMP and group in igmp.groups_joined(packet[(packet[0] & 15) * 4 :])

        return {"report_ns": taps[0].first(is_report, after_ns=after_ns, within_s=PATIENCE_S)}

    listener = Probe(lab, HEADEND, serve)
    listener.ask()  # listening from here on
    return listener


def first_query(lab: Lab, host: str) -> Probe:
    """A host's ear for queries: told a time, it answers when the first one after it arrived."""
    taps: list[_Tap] = []

    def serve(request: dict[str, object]) -> object:
        if not taps:
            taps.append(_Tap())
            return {}

        def is_query(packet: bytes, _at_ns: int) -> bool:
            return packet[9] == socket.IPPROTO_IGMP and packet[(packet[0] & 15) * 4] == _QUERY

        return {"query_ns": taps[0].first(is_query, after_ns=int(str(request["after_ns"])), within_s=_LONGEST_S)}

    listener = Probe(lab, host, serve)
    listener.ask()  # listening from here on
    return listener
