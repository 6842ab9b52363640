"""From a host's report to the first datagram, and to the router's own report upstream."""

from __future__ import annotations

import random
import time

from bench.probe import PATIENCE_S, Join, joiner, upstream_listener
from igmpconf.lab.lab import Lab

RATE_PER_S = 2_000  # of the stream that waits at the router: half a millisecond is what the measure can tell apart
FAST_PER_S = 10_000  # so fast that the wait for the next datagram hardly shows
_ARRIVED = 100  # datagrams sent before the join: the stream is there, and whatever upcall it causes is over


def joins(lab: Lab, *, host: str, version: int, count: int, rate_per_s: int = RATE_PER_S) -> list[Join]:
    """`count` joins of as many groups, one after the other, each while its stream already reaches the router; at rate 0 there is none."""
    probe, listener = joiner(lab, host), upstream_listener(lab)
    found = []
    try:
        for number in range(count):
            group = f"239.{(100 if rate_per_s == RATE_PER_S else 110) + version}.{number // 250}.{number % 250 + 1}"
            if rate_per_s:
                lab.send(group, rate_per_s=rate_per_s)
                while lab.sent()[group] < _ARRIVED:
                    time.sleep(0.005)
                time.sleep(random.random() / rate_per_s)  # somewhere between two datagrams, and not always at the same place
            joined = probe.ask(op="join", group=group, version=version, patience_s=PATIENCE_S if rate_per_s else 0)
            lab.send(group, rate_per_s=0)
            sent_ns = joined["sent_ns"]
            assert sent_ns is not None
            heard = listener.ask(group=group, after_ns=sent_ns)
            probe.ask(op="leave", group=group, version=version)
            found.append(Join(group=group, sent_ns=sent_ns, stream_ns=joined["stream_ns"], fresh_ns=joined["fresh_ns"], report_ns=heard["report_ns"]))
    finally:
        probe.close()
        listener.close()
    return found
