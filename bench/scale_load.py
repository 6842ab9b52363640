"""Thousands of memberships at once: a host that reports them, the head end that hears them go up, a meter at the router.

What they say is a `Speech`, of IGMP or MLD, and groups are numbers; a time is nanoseconds of CLOCK_REALTIME, the one the
kernel stamps packets with.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.probe import Probe
from bench.speech import Datagram, Speech, datagram
from igmpconf.lab.lab import Lab
from igmpconf.lab.topology import HEADEND, ROUTER

_PORT = 5_006  # not the lab's own: its nodes would keep count of ten thousand groups
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 35, 33, 32  # asm-generic/socket.h
_OUTGOING = 4  # linux/if_packet.h: PACKET_OUTGOING
_BUFFER_BYTES = 64 << 20  # what we measure with must not be what loses
_SOONEST_S = 2e-4  # a sleep shorter than this is not worth its call
_SEEN = 200  # datagrams that a viewer sees before it leaves
_STREAM_S = 3.0  # a stream that still comes so long after the leave does not end
_GONE_S = 0.2


def _force(sock: socket.socket, option: int, plain: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
    except PermissionError:  # in a user namespace: as much as net.core.*mem_max allows
        sock.setsockopt(socket.SOL_SOCKET, plain, _BUFFER_BYTES)


# -- the host ----------------------------------------------------------------------------------------------------------


def reporter(lab: Lab, host: str, speech: Speech) -> Probe:
    """A host that says what it is told to, at `rate_per_s` packets or, with 0, as fast as a raw socket takes them.

    Answers with `first_ns`, `last_ns` and, when `times` is asked for, `sent_ns` of every packet.
    """
    opened: list[socket.socket] = []

    def serve(request: dict[str, object]) -> object:
        if not opened:
            opened.append(speech.report_socket(host))
            _force(opened[0], _SO_SNDBUFFORCE, socket.SO_SNDBUF)
        number = {
            name: int(str(request.get(name, default)))
            for name, default in (("version", speech.older), ("first", 0), ("count", 1), ("per_packet", 1), ("rate", 0), ("rounds", 1))
        }
        messages = speech.messages(str(request["kind"]), number["version"], number["first"], number["count"], number["per_packet"])
        packets = [(message, (speech.text(destination), 0)) for message, destination in messages] * number["rounds"]
        sent = _send(opened[0], packets, number["rate"])
        told: dict[str, object] = {"first_ns": sent[0], "last_ns": sent[-1], "packets": len(packets)}
        return told | {"sent_ns": sent} if request.get("times") else told

    return Probe(lab, host, serve)


def _send(raw: socket.socket, packets: list[tuple[bytes, tuple[str, int]]], rate_per_s: int) -> list[int]:
    sent, started = [], time.monotonic()
    for index, (message, destination) in enumerate(packets):
        if rate_per_s:
            while (left_s := started + index / rate_per_s - time.monotonic()) > 0:
                time.sleep(left_s if left_s > _SOONEST_S else 0)
        sent.append(time.clock_gettime_ns(time.CLOCK_REALTIME))
        raw.sendto(message, destination)
    return sent


def cable_reporter(lab: Lab, interface: str, sender: bytes, speech: Speech) -> Probe:
    """A host on the other end of a cable that has none: says reports of the latest version out of `interface` of the router itself."""
    opened: list[socket.socket] = []

    def serve(request: dict[str, object]) -> object:
        if not opened:
            opened.append(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
        first, count, per_packet = (int(str(request[name])) for name in ("first", "count", "per_packet"))
        for message, destination in speech.messages(str(request["kind"]), speech.latest, first, count, per_packet):
            packet = speech.build(sender, destination, message)
            opened[0].sendto(packet, (interface, speech.ether_type, 0, 0, speech.mac(destination)))
        return {}

    return Probe(lab, ROUTER, serve)


def viewer(lab: Lab, host: str, speech: Speech) -> Probe:
    """A host that joins a group, sees its stream, leaves, and notes the last datagram; None when it never ends."""
    tools: list[tuple[socket.socket, socket.socket]] = []

    def serve(request: dict[str, object]) -> object:
        if not tools:
            tools.append((speech.report_socket(host), _tap(speech)))
        raw, tap = tools[0]
        number, version = int(str(request["group"])), int(str(request["version"]))
        group = speech.group(number)

        def say(kind: str) -> int:
            ((message, destination),) = speech.messages(kind, version, number, 1, 1)
            at_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
            raw.sendto(message, (speech.text(destination), 0))
            return at_ns

        def times(within_s: float, quiet_s: float) -> Iterator[int]:
            for packet, at_ns in _packets(tap, 0, time.monotonic() + within_s, quiet_s):
                if packet.protocol == socket.IPPROTO_UDP and packet.destination == group:
                    yield at_ns

        say("join")
        for _, _ in zip(range(_SEEN), times(_STREAM_S, _STREAM_S), strict=False):
            pass
        last_ns = ended_ns = sent_ns = say("leave")
        for ended_ns in times(_STREAM_S, _GONE_S):
            last_ns = max(last_ns, ended_ns)
        is_gone = time.clock_gettime_ns(time.CLOCK_REALTIME) - last_ns > _GONE_S * 0.9e9
        return {"sent_ns": sent_ns, "last_ns": last_ns if is_gone else None}

    return Probe(lab, host, serve)


# -- ears --------------------------------------------------------------------------------------------------------------


def _packets(tap: socket.socket, after_ns: int, deadline: float, quiet_s: float) -> Iterator[tuple[Datagram, int]]:
    """Packets that arrived later than `after_ns`, with their time, until `deadline` or until nothing came for `quiet_s`."""
    while (left_s := deadline - time.monotonic()) > 0 and select.select([tap], [], [], min(left_s, quiet_s))[0]:
        packet, extra, _, origin = tap.recvmsg(2048, 64)
        seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
        at_ns = seconds * 1_000_000_000 + nanoseconds
        if origin[2] != _OUTGOING and at_ns >= after_ns:
            yield datagram(packet), at_ns


def _tap(speech: Speech) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(speech.ether_type))
    tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    _force(tap, _SO_RCVBUFFORCE, socket.SO_RCVBUF)
    tap.bind(("eth0", speech.ether_type))
    return tap


def _ear(lab: Lab, node: str, speech: Speech, hear: Callable[[Datagram], Iterator[tuple[int, bool]]], protocol: int) -> Probe:
    """Told first, count, `joins` and patience, it answers when each of those groups was heard of the first time.

    A request that `goes_on` adds to the one before.
    """
    taps: list[socket.socket] = []
    heard: dict[int, int] = {}
    packets: list[int] = []

    def serve(request: dict[str, object]) -> object:
        if not taps:
            taps.append(_tap(speech))
            return {}
        first, count, joins = int(str(request["first"])), int(str(request["count"])), bool(request.get("joins", True))
        if not request.get("goes_on"):
            heard.clear()
            packets.clear()
        deadline = time.monotonic() + float(str(request["patience_s"]))
        for packet, at_ns in _packets(taps[0], int(str(request["after_ns"])), deadline, float(str(request.get("quiet_s", 60)))):
            if packet.protocol != protocol:
                continue
            said = list(hear(packet))
            packets.extend([at_ns] if said else [])  # a kernel has more to say in this protocol, of neighbours
            for number, is_join in said:
                if is_join is joins and first <= number < first + count:
                    heard.setdefault(number, at_ns)
            if len(heard) == count:
                break
        return {
            "groups": len(heard),
            "last_ns": max(heard.values(), default=None),
            "packets": len(packets),
            "heard": list(heard.items()) if request.get("times") else None,
        }

    ear = Probe(lab, node, serve)
    ear.ask()  # listening from here on
    return ear


def upstream_ear(lab: Lab, speech: Speech) -> Probe:
    """Hears the router's reports and leaves at the head end."""
    return _ear(lab, HEADEND, speech, speech.told_about, speech.protocol)


def stream_ear(lab: Lab, host: str, speech: Speech) -> Probe:
    """Hears which groups' datagrams reach a host."""
    return _ear(lab, host, speech, lambda packet: iter([(speech.number(packet.destination), True)]), socket.IPPROTO_UDP)


def source(lab: Lab, speech: Speech) -> Probe:
    """The head end sends one datagram to each of `count` groups, or, asked for a query, a general one."""
    opened: list[socket.socket] = []

    def serve(request: dict[str, object]) -> object:
        if "query_ms" in request:
            raw = speech.report_socket(HEADEND)
            now_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
            raw.sendto(speech.general_query(int(str(request["query_ms"]))), (speech.text(speech.family.all_hosts), 0))
            raw.close()
            return {"sent_ns": now_ns}
        if not opened:
            opened.append(speech.stream_socket(HEADEND))
        first, count = int(str(request["first"])), int(str(request["count"]))
        targets = [(b"x" * 100, (speech.text(speech.group(number)), _PORT)) for number in range(first, first + count)]
        sent = _send(opened[0], targets, int(str(request["rate"])))
        return {"sent_ns": sent[0]}

    return Probe(lab, HEADEND, serve)


# -- the router --------------------------------------------------------------------------------------------------------


class Meter:
    """What the router's kernel knows of a process and of its sockets."""

    def __init__(self, lab: Lab, pid: int, speech: Speech) -> None:
        """`pid`: of the process, as the lab numbers it."""
        self._probe = Probe(lab, ROUTER, lambda request: _metered(request, speech))
        self._pid = pid
        self._sockets = set(self._probe.ask(what="drops"))

    def cpu_us(self) -> float:
        """CPU time of the process so far (/proc/PID/task/*/schedstat)."""
        return self._ask("cpu") / 1000

    def waited_us(self) -> float:
        """How long the process was ready to run but others had the cores."""
        return self._ask("waited") / 1000

    def resident_mb(self) -> float:
        return self._ask("rss") / 1024

    def resident_with_keeper_mb(self) -> float:
        """Of igmpconf's engine and of its parent, the keeper; what processes share is divided among them (/proc/PID/smaps_rollup, Pss)."""
        return self._ask("pss") / 1024

    def dropped(self) -> int:
        """Packets that a full raw socket has dropped (/proc/net/raw, raw6).

        Counted of the sockets that were there at first: FRR's pimd joins each group with one more, which it never reads.
        """
        return sum(count or 0 for socket, count in self._probe.ask(what="drops").items() if socket in self._sockets)

    def entries(self) -> int:
        """Forwarding entries (/proc/net/ip_mr_cache, ip6_mr_cache)."""
        return self._ask("entries")

    def _ask(self, what: str) -> int:
        told = self._probe.ask(what=what, pid=self._pid)["value"]
        assert told is not None
        return told

    def close(self) -> None:
        self._probe.close()


def _metered(request: dict[str, object], speech: Speech) -> object:
    if request["what"] == "drops":
        return {fields[-4]: int(fields[-1]) for fields in map(str.split, _lines(speech.sockets_file))}  # by inode
    if request["what"] == "entries":
        return {"value": len(_lines(speech.entries_file))}
    pid = request["pid"]
    if request["what"] == "rss":
        return {"value": _kilobytes(f"/proc/{pid}/status", "VmRSS:")}
    if request["what"] == "pss":
        return {"value": sum(_kilobytes(f"/proc/{one}/smaps_rollup", "Pss:") for one in (pid, _kilobytes(f"/proc/{pid}/status", "PPid:")))}
    threads = Path(f"/proc/{pid}/task").iterdir()
    field = 1 if request["what"] == "waited" else 0
    return {"value": sum(int((thread / "schedstat").read_text(encoding="ascii").split()[field]) for thread in threads)}


def _kilobytes(path: str, field: str) -> int:
    """The number after a field; the files are in kilobytes where they are in anything."""
    return int(next(line for line in _lines(path) if line.startswith(field)).split()[1])


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="ascii").splitlines()[1:]
