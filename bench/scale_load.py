"""Thousands of memberships at once: a host that reports them, the head end that hears them go up, a meter at the router.

Groups are numbers here, and 239.0.0.0 plus the number on the wire; a time is nanoseconds of CLOCK_REALTIME, the one the
kernel stamps packets with.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import igmp
from bench.probe import Probe
from igmpconf.engine.wire.ip import build_ipv4
from igmpconf.lab.lab import Lab
from igmpconf.lab.topology import HEADEND, ROUTER, host_named

_BASE = 0xEF000000
_PORT = 5_006  # not the lab's own: its nodes would keep count of ten thousand groups
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 35, 33, 32  # asm-generic/socket.h
_ETH_P_IP = 0x0800
_OUTGOING = 4  # linux/if_packet.h: PACKET_OUTGOING
_BUFFER_BYTES = 64 << 20  # what we measure with must not be what loses
_SOONEST_S = 2e-4  # a sleep shorter than this is not worth its call
_V2_LEAVE_TYPE, _V2_REPORT_TYPE, _V3_REPORT_TYPE = 0x17, 0x16, 0x22
_JOINING = (1, 2, 4, 5)  # record kinds, as far as these measures hear them
_SEEN = 200  # datagrams that a viewer sees before it leaves
_STREAM_S = 3.0  # a stream that still comes so long after the leave does not end
_GONE_S = 0.2


def group_bytes(number: int) -> bytes:
    return (_BASE + number).to_bytes(4)


def _force(sock: socket.socket, option: int, plain: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
    except PermissionError:  # in a user namespace: as much as net.core.*mem_max allows
        sock.setsockopt(socket.SOL_SOCKET, plain, _BUFFER_BYTES)


# -- the host ----------------------------------------------------------------------------------------------------------


def _messages(kind: str, version: int, first: int, count: int, per_packet: int) -> list[tuple[bytes, tuple[str, int]]]:
    """What a host of `version` says about `count` groups: `kind` join, refresh (an answer to a query), or leave."""
    if version == 3:
        record = {"join": igmp.TO_EX, "refresh": igmp.IS_EX, "leave": igmp.TO_IN}[kind]
        packets = []
        for start in range(first, first + count, per_packet):
            groups = [group_bytes(number) for number in range(start, min(start + per_packet, first + count))]
            packets.append((igmp.report(record, groups), ("224.0.0.22", 0)))
        return packets
    packets = []
    for number in range(first, first + count):
        group = socket.inet_ntoa(group_bytes(number))
        message, destination = (igmp.leave if kind == "leave" else igmp.join)(group, version=2)
        packets.append((message, (destination, 0)))
    return packets


def reporter(lab: Lab, host: str) -> Probe:
    """A host that says what it is told to, at `rate_per_s` packets or, with 0, as fast as a raw socket takes them.

    Answers with `first_ns`, `last_ns` and, when `times` is asked for, `sent_ns` of every packet.
    """
    address = host_named(host).address.partition("/")[0]
    opened: list[socket.socket] = []

    def serve(request: dict[str, object]) -> object:
        if not opened:
            opened.append(igmp.report_socket(address))
            _force(opened[0], _SO_SNDBUFFORCE, socket.SO_SNDBUF)
        number = {
            name: int(str(request.get(name, default)))
            for name, default in (("version", 2), ("first", 0), ("count", 1), ("per_packet", 1), ("rate", 0), ("rounds", 1))
        }
        packets = _messages(str(request["kind"]), number["version"], number["first"], number["count"], number["per_packet"]) * number["rounds"]
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


def cable_reporter(lab: Lab, interface: str, sender: str) -> Probe:
    """A host on the other end of a cable that has none: says IGMPv3 reports out of `interface` of the router itself."""
    opened: list[socket.socket] = []

    def serve(request: dict[str, object]) -> object:
        if not opened:
            opened.append(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
        first, count, per_packet = (int(str(request[name])) for name in ("first", "count", "per_packet"))
        for message, (destination, _) in _messages(str(request["kind"]), 3, first, count, per_packet):
            datagram = build_ipv4(socket.inet_aton(sender), socket.inet_aton(destination), message)
            opened[0].sendto(datagram, (interface, _ETH_P_IP, 0, 0, b"\x01\x00\x5e\x00\x00\x16"))
        return {}

    return Probe(lab, ROUTER, serve)


def viewer(lab: Lab, host: str) -> Probe:
    """A host that joins a group, sees its stream, leaves, and notes the last datagram; None when it never ends."""
    address = host_named(host).address.partition("/")[0]
    tools: list[tuple[socket.socket, socket.socket]] = []

    def serve(request: dict[str, object]) -> object:
        if not tools:
            tools.append((igmp.report_socket(address), _tap()))
        raw, tap = tools[0]
        number, version = int(str(request["group"])), int(str(request["version"]))
        group = socket.inet_ntoa(group_bytes(number))

        def times(within_s: float, quiet_s: float) -> Iterator[int]:
            for packet, at_ns in _packets(tap, 0, time.monotonic() + within_s, quiet_s):
                if packet[9] == socket.IPPROTO_UDP and packet[16:20] == group_bytes(number):
                    yield at_ns

        message, destination = igmp.join(group, version=version)
        raw.sendto(message, (destination, 0))
        for _, _ in zip(range(_SEEN), times(_STREAM_S, _STREAM_S), strict=False):
            pass
        message, destination = igmp.leave(group, version=version)
        sent_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        raw.sendto(message, (destination, 0))
        last_ns = ended_ns = sent_ns
        for ended_ns in times(_STREAM_S, _GONE_S):
            last_ns = max(last_ns, ended_ns)
        is_gone = time.clock_gettime_ns(time.CLOCK_REALTIME) - last_ns > _GONE_S * 0.9e9
        return {"sent_ns": sent_ns, "last_ns": last_ns if is_gone else None}

    return Probe(lab, host, serve)


# -- ears --------------------------------------------------------------------------------------------------------------


def _packets(tap: socket.socket, after_ns: int, deadline: float, quiet_s: float) -> Iterator[tuple[bytes, int]]:
    """Packets that arrived later than `after_ns`, with their time, until `deadline` or until nothing came for `quiet_s`."""
    while (left_s := deadline - time.monotonic()) > 0 and select.select([tap], [], [], min(left_s, quiet_s))[0]:
        packet, extra, _, origin = tap.recvmsg(2048, 64)
        seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
        at_ns = seconds * 1_000_000_000 + nanoseconds
        if origin[2] != _OUTGOING and at_ns >= after_ns:
            yield packet, at_ns


def _tap() -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
    tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    _force(tap, _SO_RCVBUFFORCE, socket.SO_RCVBUF)
    tap.bind(("eth0", _ETH_P_IP))
    return tap


def _told_about(packet: bytes) -> Iterator[tuple[int, bool]]:
    """(group number, True for a join) of everything that an IGMP report or leave says."""
    message = packet[(packet[0] & 15) * 4 :]
    if message[0] in {_V2_REPORT_TYPE, _V2_LEAVE_TYPE}:
        yield int.from_bytes(message[4:8]) - _BASE, message[0] == _V2_REPORT_TYPE
    elif message[0] == _V3_REPORT_TYPE:
        offset = 8
        for _ in range(int.from_bytes(message[6:8])):
            kind, aux_words, sources, group = struct.unpack_from("!BBH4s", message, offset)
            yield int.from_bytes(group) - _BASE, kind in _JOINING
            offset += 8 + 4 * (sources + aux_words)


def _ear(lab: Lab, node: str, hear: Callable[[bytes], Iterator[tuple[int, bool]]], protocol: int) -> Probe:
    """Told first, count, `joins` and patience, it answers when each of those groups was heard of the first time."""
    taps: list[socket.socket] = []

    def serve(request: dict[str, object]) -> object:
        if not taps:
            taps.append(_tap())
            return {}
        first, count, joins = int(str(request["first"])), int(str(request["count"])), bool(request.get("joins", True))
        heard: dict[int, int] = {}
        packets = 0
        deadline = time.monotonic() + float(str(request["patience_s"]))
        for packet, at_ns in _packets(taps[0], int(str(request["after_ns"])), deadline, float(str(request.get("quiet_s", 60)))):
            if packet[9] != protocol:
                continue
            packets += 1
            for number, is_join in hear(packet):
                if is_join is joins and first <= number < first + count:
                    heard.setdefault(number, at_ns)
            if len(heard) == count:
                break
        return {
            "groups": len(heard),
            "last_ns": max(heard.values(), default=None),
            "packets": packets,
            "heard": list(heard.items()) if request.get("times") else None,
        }

    ear = Probe(lab, node, serve)
    ear.ask()  # listening from here on
    return ear


def upstream_ear(lab: Lab) -> Probe:
    """Hears the router's reports and leaves at the head end."""
    return _ear(lab, HEADEND, _told_about, socket.IPPROTO_IGMP)


def stream_ear(lab: Lab, host: str) -> Probe:
    """Hears which groups' datagrams reach a host."""
    return _ear(lab, host, lambda packet: iter([(int.from_bytes(packet[16:20]) - _BASE, True)]), socket.IPPROTO_UDP)


def source(lab: Lab) -> Probe:
    """The head end sends one datagram to each of `count` groups, or, asked for a query, a general one."""
    address = host_named(HEADEND).address.partition("/")[0]
    opened: list[socket.socket] = []

    def serve(request: dict[str, object]) -> object:
        if "query_ms" in request:
            raw = igmp.report_socket(address)
            now_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
            raw.sendto(igmp.general_query(int(str(request["query_ms"]))), ("224.0.0.1", 0))
            raw.close()
            return {"sent_ns": now_ns}
        if not opened:
            opened.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            opened[0].setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
            opened[0].setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
        first, count = int(str(request["first"])), int(str(request["count"]))
        targets = [(b"x" * 100, (socket.inet_ntoa(group_bytes(number)), _PORT)) for number in range(first, first + count)]
        sent = _send(opened[0], targets, int(str(request["rate"])))
        return {"sent_ns": sent[0]}

    return Probe(lab, HEADEND, serve)


# -- the router --------------------------------------------------------------------------------------------------------


class Meter:
    """What the router's kernel knows of a process and of its sockets."""

    def __init__(self, lab: Lab, pid: Callable[[], int] | str) -> None:
        """`pid`: of the process inside the lab, or the name of its program."""
        self._probe = Probe(lab, ROUTER, _metered)
        self._who = {"name": pid} if isinstance(pid, str) else {"pid": pid()}

    def cpu_us(self) -> float:
        """CPU time of the process so far (/proc/PID/task/*/schedstat)."""
        return self._ask("cpu") / 1000

    def waited_us(self) -> float:
        """How long the process was ready to run but others had the cores."""
        return self._ask("waited") / 1000

    def resident_mb(self) -> float:
        return self._ask("rss") / 1024

    def dropped(self) -> int:
        """Packets that a full raw socket has dropped (/proc/net/raw)."""
        return self._ask("drops")

    def entries(self) -> int:
        """Forwarding entries (/proc/net/ip_mr_cache)."""
        return self._ask("entries")

    def _ask(self, what: str) -> int:
        told = self._probe.ask(what=what, **self._who)["value"]
        assert told is not None
        return told

    def close(self) -> None:
        self._probe.close()


def _metered(request: dict[str, object]) -> object:
    if request["what"] == "drops":
        return {"value": sum(int(line.split()[-1]) for line in _lines("/proc/net/raw"))}
    if request["what"] == "entries":
        return {"value": len(_lines("/proc/net/ip_mr_cache"))}
    pid = request["pid"] if "pid" in request else _pid_of(str(request["name"]))
    if request["what"] == "rss":
        return {"value": int(next(line for line in _lines(f"/proc/{pid}/status") if line.startswith("VmRSS")).split()[1])}
    threads = Path(f"/proc/{pid}/task").iterdir()
    field = 1 if request["what"] == "waited" else 0
    return {"value": sum(int((thread / "schedstat").read_text(encoding="ascii").split()[field]) for thread in threads)}


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="ascii").splitlines()[1:]


def _pid_of(program: str) -> int:
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and (process / "comm").read_text(encoding="ascii").strip() == program:
            return int(process.name)
    raise RuntimeError(f"{program} does not run")
