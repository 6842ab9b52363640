"""Thousands of groups: bursts, a steady rate, what each message costs, what ten thousand groups cost that do nothing.

Every measure begins with a proxy that was just started, reports on lan1 (h3, a plain cable) and hears at the head end.
Of the peers only omcproxy is measured with MLD, in bursts.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.ours import BehindSshd, igmpconf
from bench.peer import IgmpProxy, Peer, peers
from bench.scale_load import Meter, cable_reporter, reporter, source, stream_ear, upstream_ear, viewer
from bench.speech import IGMP_SPEECH, MLD_SPEECH, Speech, link_local
from igmpconf.lab.lab import Lab
from igmpconf.lab.topology import HEADEND, ROUTER

Contender = BehindSshd | Peer
Value = tuple[float | None, str]  # number and unit
Values = dict[str, Value]

MANY = 10_000
_FEW = 100
_BASE = 0x100000  # 239.16.0.0, ff0e::10:0: the groups of a burst
_OTHERS = 0x200000  # 239.32.0.0, ff0e::20:0: groups that come and go beside those that stay
_SENDER6 = "2001:db8:1::1/64"  # of a stream: a link-local one is not forwarded
_PATIENCE_S = 20.0
_QUIET_S = 3.0  # nothing more comes from a proxy at rest after that; a copy of a report follows within a second (RFC 3376 8.11)
_IDLE_S = 60.0
_HOSTS = ("h1", "h3")  # that say something
_AT_REST_US = 2_000  # of CPU in 100 ms
_COPIES_S = 1.3  # until the copies of state-change reports are out as well


class _Bench:
    """One freshly started proxy with everything that talks to it."""

    def __init__(self, lab: Lab, proxy: Contender, speech: Speech) -> None:
        self.lab, self.proxy, self.speech = lab, proxy, speech
        self.host, self.upstream, self.source = reporter(lab, "h3", speech), upstream_ear(lab, speech), source(lab, speech)
        self.meter = Meter(lab, proxy.pid() if isinstance(proxy, Peer) else proxy.engine_pid() or 0, speech)

    def close(self) -> None:
        for probe in (self.host, self.upstream, self.source, self.meter):
            probe.close()

    def listen(self, *, first: int, count: int, joins: bool = True, times: bool = False, quiet_s: float = _QUIET_S) -> int:
        """Let the upstream ear begin; returns when, for its answer counts from there."""
        now_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        self._sought = {"first": first, "count": count, "joins": joins, "after_ns": now_ns, "patience_s": _PATIENCE_S, "quiet_s": quiet_s, "times": times}
        self.upstream.tell(**self._sought)
        return now_ns

    def heard(self) -> dict[str, int | None]:
        """What the upstream ear has heard when all is said, or nothing comes from a proxy at rest: before, the kernel may put off a peer's reports."""
        deadline, is_last, told = time.monotonic() + 3 * _PATIENCE_S, False, self.upstream.answer()
        while told["groups"] != self._sought["count"] and not is_last:
            is_last = self.is_at_rest() or time.monotonic() > deadline
            told = self.upstream.ask(**self._sought, goes_on=True)
        return told

    def said(self, kind: str, *, first: int, count: int, version: int | None = None, per_packet: int = 1, rate: int = 0, rounds: int = 1) -> float:
        """Have the host say it (`version`: or the older one) and wait until the proxy is done, copies upstream included; returns its CPU microseconds."""
        before = self.meter.cpu_us()
        self.host.ask(kind=kind, first=first, count=count, version=version or self.speech.older, per_packet=per_packet, rate=rate, rounds=rounds)
        self.settle()
        if kind != "refresh":
            time.sleep(_COPIES_S)
        return self.meter.cpu_us() - before

    def settle(self) -> None:
        """Wait until the proxy has nothing left to do."""
        deadline = time.monotonic() + 3 * _PATIENCE_S
        while not self.is_at_rest() and time.monotonic() < deadline:
            pass

    def is_at_rest(self) -> bool:
        before = self.meter.cpu_us()
        time.sleep(0.1)
        return self.meter.cpu_us() - before < _AT_REST_US


@contextlib.contextmanager
def _started(lab: Lab, kind: Callable[[Lab], Contender], speech: Speech) -> Iterator[_Bench]:
    proxy = kind(lab)
    try:
        bench = _Bench(lab, proxy, speech)
        try:
            yield bench
        finally:
            bench.close()
    finally:
        proxy.stop()


def _await_addresses(lab: Lab) -> None:
    """Until every node may use its link-local addresses (RFC 4862 5.4): before, no host speaks MLD, and the router is no querier and passes nothing on."""
    usable = "ip -6 address show scope link | grep -q inet6 && ! ip -6 address show tentative | grep -q inet6"
    deadline = time.monotonic() + _PATIENCE_S
    for node in (ROUTER, HEADEND, *_HOSTS):
        while lab.run(node, ["sh", "-c", usable]) != 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{node} has no IPv6 address that it may use")
            time.sleep(0.05)


def scale_rows(lab: Lab, parts: frozenset[str] = frozenset()) -> list[dict[str, object]]:
    """The table's rows; `parts` chooses among the measures below, empty means all."""
    contenders: list[type[Contender]] = [BehindSshd, *peers()]
    if lab.agent_runs():
        lab.stop_agent()
    lab.run(HEADEND, ["ip", "address", "replace", _SENDER6, "dev", "eth0", "nodad"])
    _await_addresses(lab)
    found: dict[str, dict[str, Value]] = {}
    for contender in contenders:
        name = contender.name
        for part, measure in MEASURES.items():
            if (parts and part not in parts) or (issubclass(contender, Peer) and part not in contender.measures):
                continue
            speech = measure.speech
            print(f"{name}: {part}", file=sys.stderr, flush=True)
            kind: Callable[[Lab], Contender] = contender if issubclass(contender, Peer) else functools.partial(BehindSshd, family=speech.family.name)
            try:
                with _started(lab, kind, speech) as bench:
                    values = measure.take(bench)
            except (RuntimeError, OSError) as error:
                if not issubclass(contender, Peer):
                    raise
                print(f"{name} did not live through {part}: {error}", file=sys.stderr, flush=True)  # the others' figures are worth having all the same
                continue
            for row, value in values.items():
                found.setdefault(row, {})[name] = value
    return [{"measure": row, "unit": next(iter(values.values()))[1], **{who: value for who, (value, _) in values.items()}} for row, values in found.items()]


# -- the measures ------------------------------------------------------------------------------------------------------


def _burst(bench: _Bench, version: int) -> Values:
    """10,000 groups as fast as a raw socket sends them: how many go up and how soon, and who gets what is then sent."""
    drops, cpu_us = bench.meter.dropped(), bench.meter.cpu_us()
    bench.listen(first=_BASE, count=MANY)
    sent = bench.host.ask(kind="join", first=_BASE, count=MANY, version=version, per_packet=bench.speech.most_per_report)
    heard = bench.heard()
    bench.settle()
    took_us = bench.meter.cpu_us() - cpu_us
    assert sent["first_ns"] is not None
    name = f"{MANY} {_of(bench)}joins at once, v{version}"
    last = None if heard["last_ns"] is None else (heard["last_ns"] - sent["first_ns"]) / 1e6
    return {
        f"{name}: groups reported upstream": (heard["groups"], ""),
        f"{name}: first report to last upstream": (last, "ms"),
        f"{name}: groups whose datagram arrives": (_arriving(bench), ""),
        f"{name}: messages that the socket dropped": (bench.meter.dropped() - drops, ""),
        f"{name}: CPU per group of the proxy, copies included": (took_us / MANY, "us"),
    }


def _arriving(bench: _Bench) -> int | None:
    """Of one datagram to each group, how many reach the host."""
    ear = stream_ear(bench.lab, "h3", bench.speech)
    try:
        ear.tell(first=_BASE, count=MANY, after_ns=0, patience_s=_PATIENCE_S, quiet_s=_QUIET_S)
        bench.source.ask(first=_BASE, count=MANY, rate=4_000)
        return ear.answer()["groups"]
    finally:
        ear.close()


def _steady(bench: _Bench) -> Values:
    """1,000 joins a second for ten seconds: how long each takes to be reported upstream."""
    waited_us = bench.meter.waited_us()
    bench.listen(first=_BASE, count=MANY, times=True)
    sent: dict[str, list[int]] = bench.host.ask(kind="join", first=_BASE, count=MANY, rate=1_000, times=True)  # type: ignore[assignment]
    heard: list[list[int]] = bench.heard()["heard"]  # type: ignore[assignment]
    delays = sorted((at_ns - sent["sent_ns"][number - _BASE]) / 1e6 for number, at_ns in heard)
    name = f"1000 {_of(bench)}joins a second for 10 s"
    return {
        f"{name}: groups reported upstream": (len(heard), ""),
        f"{name}: join to report upstream, median": (statistics.median(delays) if delays else None, "ms"),
        f"{name}: join to report upstream, p99": (statistics.quantiles(delays, n=100)[98] if len(delays) > 1 else None, "ms"),
        f"{name}: join to report upstream, worst": (delays[-1] if delays else None, "ms"),
        f"{name}: ready to run while others had the cores": ((bench.meter.waited_us() - waited_us) / 1000, "ms"),
    }


def _cost(bench: _Bench, groups: int) -> Values:
    """CPU time of the proxy for each thing that a host can say, while it holds `groups` groups."""
    bench.said("join", first=_BASE, count=groups, rate=500)  # slowly enough for any peer
    known = min(groups, 1_000)
    drops = bench.meter.dropped()
    flood = bench.said("refresh", first=_BASE, count=known, rounds=5_000 // known) / 5_000
    paced = bench.said("refresh", first=_BASE, count=known, rate=1_000, rounds=2_000 // known) / 2_000
    older, per_report = bench.speech.older, bench.speech.known_per_report
    records = bench.said("refresh", first=_BASE, count=known, version=bench.speech.latest, per_packet=per_report, rate=200, rounds=20_000 // known) / 20_000
    lost = bench.meter.dropped() - drops
    joins, leaves, rounds = 0.0, 0.0, 4
    for _ in range(rounds):
        joins += bench.said("join", first=_OTHERS, count=100, rate=1_000)
        leaves += bench.said("leave", first=_OTHERS, count=100, rate=1_000)
    at = f"CPU at {groups} {_of(bench)}groups:"
    return {
        f"{at} refreshing v{older} report, back to back": (flood, "us"),
        f"{at} refreshing v{older} report, 1000/s": (paced, "us"),
        f"{at} known record, {per_report} in a report": (records, "us"),
        f"{at} messages dropped meanwhile": (lost, ""),
        f"{at} new join, 1000/s, with its copies": (joins / rounds / 100, "us"),
        f"{at} leave, 1000/s, with its copies": (leaves / rounds / 100, "us"),
    }


def _idle(bench: _Bench) -> Values:
    """10,000 groups on each of three downstreams, and nobody says anything; then the upstream asks, then the hosts answer us."""
    lab, speech = bench.lab, bench.speech
    lab.run(ROUTER, ["ip", "link", "add", "lan2", "type", "veth", "peer", "name", "lan2-host"])
    for command in ("address add 10.30.0.1/24 dev lan2", "link set lan2 up", "link set lan2-host up"):
        lab.run(ROUTER, ["ip", *command.split()])
    if isinstance(bench.proxy, BehindSshd):  # the one peer that holds so many has been told of lan2 before
        file = lab.home / "three.yaml"
        file.write_text(_THREE.format(family=speech.family.name), encoding="ascii")
        igmpconf(lab, "apply", "-f", str(file), "--yes", device=bench.proxy.device)
    sender = bytes((10, 30, 0, 13)) if speech is IGMP_SPEECH else link_local(0x13)
    hosts = [bench.host, reporter(lab, "h1", speech), cable_reporter(lab, "lan2-host", sender, speech)]
    report = {"first": _BASE, "count": MANY, "version": speech.latest, "per_packet": speech.most_per_report}
    try:
        empty = bench.meter.resident_mb()
        for host in hosts:
            host.ask(kind="join", **report)
            time.sleep(_COPIES_S)
        bench.settle()
        together = bench.meter.resident_with_keeper_mb() if isinstance(bench.proxy, BehindSshd) else None
        resident, entries, drops, before = bench.meter.resident_mb(), bench.meter.entries(), bench.meter.dropped(), bench.meter.cpu_us()
        time.sleep(_IDLE_S)
        idle_us = bench.meter.cpu_us() - before
        asked = bench.listen(first=_BASE, count=MANY)
        before = bench.meter.cpu_us()
        bench.source.ask(query_ms=1_000)
        answered = bench.heard()
        bench.settle()
        answer_us, before = bench.meter.cpu_us() - before, bench.meter.cpu_us()
        for host in hosts:
            host.ask(kind="refresh", **report)
        bench.settle()
        cycle_us = bench.meter.cpu_us() - before
        dropped = bench.meter.dropped() - drops
    finally:
        for host in hosts[1:]:
            host.close()
        lab.run(ROUTER, ["ip", "link", "delete", "lan2"])
    name = f"{MANY} {_of(bench)}groups on each of 3 downstreams"
    return {
        f"{name}: forwarding entries": (entries, ""),
        f"{name}: resident, before": (empty, "MB"),
        f"{name}: resident": (resident, "MB"),
        f"{name}: resident with the keeper, what they share counted once": (together, "MB"),
        f"{name}: CPU while idle for {_IDLE_S:.0f} s": (100 * idle_us / (_IDLE_S * 1e6), "%"),
        f"{name}: groups in the answer to a general query": (answered["groups"], ""),
        f"{name}: packets of that answer": (answered["packets"], ""),
        f"{name}: last of them after (1000 ms are allowed)": (((answered["last_ns"] or 0) - asked) / 1e6, "ms"),
        f"{name}: CPU of that answer": (answer_us / 1000, "ms"),
        f"{name}: CPU of our query's answers": (cycle_us / 1000, "ms"),
        f"{name}: messages dropped meanwhile": (dropped, ""),
    }


def _quick_leave(bench: _Bench) -> Values:
    """The only viewer of a stream of 2,000 datagrams a second leaves."""
    host = viewer(bench.lab, "h1", bench.speech)
    values: Values = {}
    try:
        for version in (3, 2):
            ends, leaves, rounds = [], [], 2 if isinstance(bench.proxy, IgmpProxy) else 20
            for number in range(rounds):
                group = _OTHERS + version * 1_000 + number
                text = bench.speech.text(bench.speech.group(group))
                bench.lab.send(text, rate_per_s=2_000)
                bench.listen(first=group, count=1, joins=False, quiet_s=_PATIENCE_S)
                told = host.ask(group=group, version=version)
                bench.lab.send(text, rate_per_s=0)
                upstream = bench.upstream.answer()["last_ns"]
                assert told["sent_ns"] is not None
                ends += [(told["last_ns"] - told["sent_ns"]) / 1e6] if told["last_ns"] is not None else []
                leaves += [(upstream - told["sent_ns"]) / 1e6] if upstream is not None else []
            name = f"quick leave, v{version}"
            values[f"{name}: leave to last datagram, median"] = (statistics.median(ends) if ends else None, "ms")
            values[f"{name}: leave to last datagram, worst"] = (max(ends, default=None), "ms")
            values[f"{name}: leave to leave upstream, median"] = (statistics.median(leaves) if leaves else None, "ms")
            values[f"{name}: leave to leave upstream, worst"] = (max(leaves, default=None), "ms")
            values[f"{name}: streams still there after 3 s"] = (100 * (rounds - len(ends)) / rounds, "%")
    finally:
        host.close()
    return values


_THREE = """\
igmp-proxy:
  - name: default
    family: [{family}]
    quick-leave: on
    interfaces: [{{interface: wan, upstream: yes}}, {{interface: lan0}}, {{interface: lan1}}, {{interface: lan2}}]
"""


def _of(bench: _Bench) -> str:
    """What a row's name says of its family; of IGMP nothing."""
    return "MLD " if bench.speech is MLD_SPEECH else ""


@dataclass(frozen=True, slots=True)
class _Measure:
    take: Callable[[_Bench], Values]
    speech: Speech = IGMP_SPEECH


MEASURES: dict[str, _Measure] = {
    "burst-v2": _Measure(lambda bench: _burst(bench, 2)),
    "burst-v3": _Measure(lambda bench: _burst(bench, 3)),
    "steady": _Measure(_steady),
    "cost-100": _Measure(lambda bench: _cost(bench, _FEW)),
    "cost-10000": _Measure(lambda bench: _cost(bench, MANY)),
    "idle": _Measure(_idle),
    "quick-leave": _Measure(_quick_leave),
    "mld-burst-v1": _Measure(lambda bench: _burst(bench, 1), MLD_SPEECH),
    "mld-burst-v2": _Measure(lambda bench: _burst(bench, 2), MLD_SPEECH),
    "mld-steady": _Measure(_steady, MLD_SPEECH),
    "mld-cost-100": _Measure(lambda bench: _cost(bench, _FEW), MLD_SPEECH),
    "mld-cost-10000": _Measure(lambda bench: _cost(bench, MANY), MLD_SPEECH),
    "mld-idle": _Measure(_idle, MLD_SPEECH),
}
