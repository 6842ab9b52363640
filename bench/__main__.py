"""`make bench`: igmpconf, Debian's igmpproxy and what else of proxies is found, one after the other on the same router, measured alike.

python -m bench [PART ...] [--joins N] [--json PATH]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench import fleet, peer
from bench.apply import apply_rows
from bench.joins import FAST_PER_S, joins
from bench.joins import RATE_PER_S as JOIN_RATE_PER_S
from bench.loss import RATE_PER_S, lost
from bench.machine import described
from bench.ours import BehindSshd, Igmpconf
from bench.probe import Join
from bench.rpc import MEASURES as RPC_MEASURES
from bench.rpc import rpc_rows
from bench.scale import MEASURES, scale_rows
from igmpconf.lab.lab import Lab

_ABOUT_JOINS = f"""
The stream sends a datagram every {1000 / JOIN_RATE_PER_S:g} ms; fresh is one that was sent after the report.  Where no route stands the kernel keeps
up to three datagrams and hands them out with a peer's route; igmpconf's (*,*) entry leaves nothing to keep."""

_MARKER = re.compile(r"^<!-- the table: make bench ARGS=.* -->$", re.MULTILINE)

Contender = Igmpconf | BehindSshd | peer.Peer
Row = dict[str, object]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description="igmpconf beside Debian's igmpproxy and other proxies, in the same namespaces")
    parser.add_argument("--joins", type=int, default=100, help="joins per IGMP version (default 100)")
    parser.add_argument("--only", default="joins,loss,apply", help="what to measure: joins, loss, apply, rpc, scale or fleet, or parts of them")
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"the same as --only; scale (a quarter of an hour, three with every peer) is made of {', '.join(MEASURES)}, rpc of {', '.join(RPC_MEASURES)}, "
        f"fleet of {', '.join(fleet.MEASURES[1:])}",
    )
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--markdown", type=Path, help="also put the table into this file, below the line that marks it")
    options = parser.parse_args()
    wanted = set(options.parts or options.only.split(","))
    if wanted & set(fleet.MEASURES):
        return fleet.run(wanted, options)
    rows: list[Row] = []
    is_undisturbed = False
    if wanted & {"joins", "loss"}:
        is_undisturbed = _take_precedence()
        with _a_lab() as lab:
            rows += _against_peer(lab, wanted, options.joins)
        if is_undisturbed:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # what follows is long, and counted by the processes' own time
    if wanted - {"joins", "loss"}:
        with _a_lab() as lab:
            if "apply" in wanted:
                rows += apply_rows(lab)
            if wanted & {"rpc", *RPC_MEASURES}:
                rows += rpc_rows(lab, frozenset() if "rpc" in wanted else frozenset(wanted))
            if wanted & {"scale", *MEASURES}:
                rows += scale_rows(lab, frozenset() if "scale" in wanted else frozenset(wanted))
    _print(rows)
    if "joins" in wanted:
        print(_ABOUT_JOINS)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if options.markdown:
        _write_markdown(options.markdown, rows, is_undisturbed=is_undisturbed)
    return 0


@contextlib.contextmanager
def _a_lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="igmpconf-bench-") as home:
        lab = Lab.up(Path(home), tied=True)
        try:
            yield lab
        finally:
            lab.down()


def _take_precedence() -> bool:
    """Run this and all that it starts, both contenders included, before whatever else the machine has to do; False if that is not allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        _say("without real-time priority (CAP_SYS_NICE) other programs disturb what is measured")
        return False
    return True


def _write_markdown(file: Path, rows: Sequence[Row], *, is_undisturbed: bool) -> None:
    """Replace everything below the line that marks the table; the words above it stay."""
    text = file.read_text(encoding="utf-8")
    marker = _MARKER.search(text)
    if marker is None:
        raise SystemExit(f"{file} has no line {_MARKER.pattern}")
    machine = described(*(("joins with real-time priority",) if is_undisturbed else ()))
    columns = _columns(rows)
    lines = [text[: marker.end()], "", machine, "", f"| measure | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {row['measure']} | {' | '.join(_cells(row, columns))} |" for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _against_peer(lab: Lab, wanted: set[str], count: int) -> list[Row]:
    contenders: list[Callable[[Lab], Contender]] = [Igmpconf if "loss" in wanted else BehindSshd]  # the lab's own can be killed
    peers = peer.peers()
    if peer.IgmpProxy not in peers:
        _say("igmpproxy is not installed (apt install igmpproxy): igmpconf is measured without it")
    contenders += peers if "joins" in wanted else [kind for kind in peers if kind is peer.IgmpProxy]
    found: dict[str, dict[str, tuple[float | None, str]]] = {}
    for contender in contenders:
        proxy = contender(lab)
        try:
            if "joins" in wanted:
                for name, value in _all_joins(lab, proxy, count).items():
                    found.setdefault(name, {})[proxy.name] = (value, "" if name.endswith("never") else "ms")
            if "loss" in wanted and isinstance(proxy, Igmpconf | peer.IgmpProxy):
                for name, event in (("kill -9", proxy.kill), ("restart", proxy.restart), ("change of another interface", proxy.change_elsewhere)):
                    _say(f"{proxy.name}: {name} under a stream of {RATE_PER_S}/s")
                    found.setdefault(f"datagrams lost, {name}", {})[proxy.name] = (lost(lab, event), "")
        finally:
            proxy.stop()
    rows: list[Row] = []
    for name, values in found.items():
        rows.append({"measure": name, "unit": next(iter(values.values()))[1], **{who: value for who, (value, _) in values.items()}})
    return rows


def _all_joins(lab: Lab, proxy: Contender, count: int) -> dict[str, float | None]:
    """Joins of both versions, then of fast streams; without any stream for a peer that would not pass it on to who joins late."""
    is_fed = not isinstance(proxy, peer.Peer) or proxy.feeds_late_joiners
    result: dict[str, float | None] = {}
    for version in (3, 2):
        _say(f"{proxy.name}: {count} joins with IGMPv{version}")
        found = joins(lab, host="h1", version=version, count=count, rate_per_s=JOIN_RATE_PER_S if is_fed else 0)
        result |= {name: value for name, value in _latencies(found, f"v{version}").items() if is_fed or "datagram," not in name}
    if is_fed:
        _say(f"{proxy.name}: {count} joins with IGMPv3, streams of {FAST_PER_S}/s")
        found = joins(lab, host="h1", version=3, count=count, rate_per_s=FAST_PER_S)
        result |= {name: value for name, value in _latencies(found, f"v3, {FAST_PER_S} datagrams a second").items() if "datagram," in name}
    return result


def _latencies(found: Sequence[Join], what_kind: str) -> dict[str, float | None]:
    """Median and 99th percentile in milliseconds; joins that got nothing count as their own line."""
    result: dict[str, float | None] = {}
    for what, times in (
        ("report to first datagram", [None if join.stream_ns is None else join.stream_ns - join.sent_ns for join in found]),
        ("report to first fresh datagram", [None if join.fresh_ns is None else join.fresh_ns - join.sent_ns for join in found]),
        ("join to report upstream", [None if join.report_ns is None else join.report_ns - join.sent_ns for join in found]),
    ):
        seen = sorted(time / 1e6 for time in times if time is not None)
        result[f"{what}, {what_kind}, median"] = statistics.median(seen) if seen else None
        result[f"{what}, {what_kind}, p99"] = statistics.quantiles(seen, n=100)[98] if len(seen) > 1 else None
        result[f"{what}, {what_kind}, never"] = float(len(times) - len(seen))
    return result


def _print(rows: Sequence[Row]) -> None:
    columns = _columns(rows)
    print("\n" + " " * 72 + "".join(f"{column:>14}" for column in columns))
    for row in rows:
        print(f"{row['measure']:72}" + "".join(f"{cell:>14}" for cell in _cells(row, columns)))


def _columns(rows: Sequence[Row]) -> list[str]:
    """Who was measured, igmpconf first; its ratio to igmpproxy stands beside the two."""
    measured = {column for row in rows for column in row}
    columns = ["igmpconf", *(kind.name for kind in peer.KINDS if kind.name in measured)]
    if "igmpproxy" in columns:
        columns.insert(columns.index("igmpproxy") + 1, "ratio")
    return columns


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    return [_ratio(row.get("igmpconf"), row.get("igmpproxy")) if column == "ratio" else _number(row.get(column), row["unit"]) for column in columns]


def _ratio(ours: object, theirs: object) -> str:
    return f"{ours / theirs:.2f}" if isinstance(ours, int | float) and isinstance(theirs, int | float) and theirs else "-"


def _number(value: object, unit: object) -> str:
    if not isinstance(value, int | float):
        return "-"
    return f"{value:.3f} {unit}" if unit else f"{value:g}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
