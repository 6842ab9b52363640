"""Whether the messages that keep memberships alive come as they should: queries of others, and hosts' answers.

Only counts; nothing here changes what the proxy does.  The doctor and `show counters` read it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from igmpconf.engine.groupstate import GroupState
from igmpconf.engine.interface import Interface

MOST_QUERIERS = 8  # remembered on one interface; strangers must not grow our memory
_GAPS = 16  # of which the usual interval is taken where the querier does not say it
_LATE = 1.5  # intervals: a query was lost if the next one comes later than that
_AWAY = 8.0  # intervals: a querier that is silent longer was away, and its queries were not lost one by one


class HeardQuerier:
    """One router that asks on an interface."""

    __slots__ = ("count", "gaps_ms", "interval_ms", "last_ms", "longest_gap_ms", "lost", "shortest_gap_ms")

    def __init__(self) -> None:
        self.count = 0
        self.last_ms = 0
        self.interval_ms: int | None = None  # as it says itself (RFC 3376 4.1.7)
        self.gaps_ms: deque[int] = deque(maxlen=_GAPS)
        self.shortest_gap_ms: int | None = None
        self.longest_gap_ms: int | None = None
        self.lost = 0

    def heard(self, interval_ms: int | None, now_ms: int) -> None:
        self.interval_ms = interval_ms or None
        if self.count:
            gap_ms = now_ms - self.last_ms
            usual_ms = self.usual_ms
            if usual_ms is not None and _LATE * usual_ms < gap_ms <= _AWAY * usual_ms:
                self.lost += round(gap_ms / usual_ms) - 1
            if usual_ms is None or gap_ms <= _AWAY * usual_ms:
                self.gaps_ms.append(gap_ms)
                self.shortest_gap_ms = min(self.shortest_gap_ms or gap_ms, gap_ms)
                self.longest_gap_ms = max(self.longest_gap_ms or gap_ms, gap_ms)
        self.count += 1
        self.last_ms = now_ms

    @property
    def usual_ms(self) -> int | None:
        """Between its queries: as it says, else as it was so far."""
        if self.interval_ms is not None:
            return self.interval_ms
        return sorted(self.gaps_ms)[(len(self.gaps_ms) - 1) // 2] if len(self.gaps_ms) >= 3 else None  # the median; `statistics` would cost 1 MB


class QueriersHeard:
    """Those on one interface, by address."""

    def __init__(self) -> None:
        self.by_address: dict[bytes, HeardQuerier] = {}

    def heard(self, sender: bytes, interval_ms: int | None, now_ms: int) -> None:
        """A general query came."""
        found = self.by_address.get(sender)
        if found is None:
            if len(self.by_address) >= MOST_QUERIERS:
                oldest = min(self.by_address, key=lambda one: self.by_address[one].last_ms)
                del self.by_address[oldest]
            found = self.by_address[sender] = HeardQuerier()
        found.heard(interval_ms, now_ms)

    def forget(self) -> None:
        """The link went: what comes after it is a new beginning."""
        self.by_address.clear()


class Refreshes:
    """How many of the answers that a general query should bring came, for groups that go on to be listened to.

    Looked at when the next query is asked: a group that nobody reported since the last one missed a refresh.  It only
    counts as lost once a later report shows that somebody listened all the time; a host that was switched off loses
    nothing.
    """

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._asked_ms: int | None = None
        self._missed: dict[bytes, int] = {}  # refreshes in a row that groups still held did not get

    def forget(self) -> None:
        """Timers or the link changed: what was asked before tells nothing any more."""
        self._asked_ms = None
        self._missed.clear()

    def asked(self, groups: Mapping[bytes, GroupState], membership_ms: int, now_ms: int) -> None:
        """A general query goes out or comes in; `membership_ms` is what a report adds to a group's timer."""
        since_ms = self._asked_ms
        if since_ms is not None and now_ms - since_ms <= self._interface.params.query_response_interval_ms:
            return  # hosts may still be answering
        self._asked_ms = now_ms
        if since_ms is None:
            return
        missed: dict[bytes, int] = {}
        expected = lost = 0
        for group, state in groups.items():
            if state.created_ms > since_ms or state.adopted_until_ms:
                continue
            until_ms = state.exclude_until_ms if state.exclude else max(state.wanted.values(), default=0)
            before = self._missed.get(group, 0)
            if until_ms - membership_ms >= since_ms:
                expected += 1 + before
                lost += before
            else:
                missed[group] = before + 1
        self._missed = missed
        if expected:
            self._interface.counters["refresh-expected"] += expected
        if lost:
            self._interface.counters["refresh-lost"] += lost
