"""Datagrams that a subscriber misses while something happens to the proxy."""

from __future__ import annotations

import time
from collections.abc import Callable

from igmpconf.lab.lab import Lab
from igmpconf.lab.stream import GROUPS

RATE_PER_S = 1_000
_GROUP = GROUPS[0]
_BEFORE = 500  # datagrams that flow before the event
_AFTER = 3_000  # datagrams sent after it, at least; then on until the stream flows again
_PATIENCE_S = 30  # hosts may take 10 s to answer a restarted querier (RFC 3376 8.3)
_SILENT_MS = 200


def lost(lab: Lab, event: Callable[[], None], *, host: str = "h1") -> int:
    """Datagrams of `RATE_PER_S` that `host` did not get, from before `event` until its stream flows again."""
    lab.join(host, _GROUP)
    try:
        _settle(lab, host)
        sent, received = lab.sent().get(_GROUP, 0), lab.counts()[host][_GROUP].received
        lab.send(_GROUP, rate_per_s=RATE_PER_S)
        _until(lambda: lab.counts()[host][_GROUP].received - received >= _BEFORE, "the stream does not reach the host")
        event()
        goal = lab.sent()[_GROUP] + _AFTER
        _until(lambda: lab.sent()[_GROUP] >= goal and (lab.counts()[host][_GROUP].idle_ms or 0) < _SILENT_MS, "the stream did not come back")
        lab.send(_GROUP, rate_per_s=0)
        _settle(lab, host)
        return (lab.sent()[_GROUP] - sent) - (lab.counts()[host][_GROUP].received - received)
    finally:
        lab.send(_GROUP, rate_per_s=0)
        lab.leave(host, _GROUP)


def _settle(lab: Lab, host: str) -> None:
    """Wait until what is under way has arrived, and the membership has reached the router."""
    start = time.monotonic()

    def silent() -> bool:
        idle_ms = lab.counts()[host][_GROUP].idle_ms
        return time.monotonic() - start > 2 if idle_ms is None else idle_ms > _SILENT_MS

    _until(silent, "the stream does not end")


def _until(what: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not what():
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise)
        time.sleep(0.02)
