"""The one shape of everything stateful: events in, effects out, time as an argument.

The protocol engine, the on-device datastore, a NETCONF session and a rollout are all `Machine`s.  A machine
never reads a clock, draws a random number or touches a file: what happened arrives as an event, what should
happen leaves as an effect, and the outcome of an effect comes back as another event.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence
from typing import Generic, Protocol, TypeVar

E_contra = TypeVar("E_contra", contravariant=True)
F_co = TypeVar("F_co", covariant=True)
K = TypeVar("K", bound=Hashable)

_MOST_STALE = 1_000  # heap entries of keys that were dropped or brought forward, before they are swept out


class Machine(Protocol[E_contra, F_co]):
    """Anything that decides."""

    def handle(self, event: E_contra, now_ms: int) -> Sequence[F_co]:
        """Take one event at `now_ms` and return the effects it causes, in the order to perform them."""
        ...

    def next_deadline_ms(self) -> int | None:
        """The earliest time at which the machine wants a `TimePassed`, or None."""
        ...


class Deadlines(Generic[K]):
    """An index from time to keys; the truth about a deadline lives in the state it belongs to.

    Rescheduling never searches: a key remembers only its earliest pending entry, and whoever pops a key checks
    the state and puts it back if the state says "later".  Cost per `put` and per popped key: O(log n), the sweep of
    stale entries included.
    """

    def __init__(self) -> None:
        self._heap: list[int] = []  # every time in `_due`, once
        self._due: dict[int, list[K]] = {}  # oldest first: ties are broken by age, so keys need no order
        self._earliest: dict[K, int] = {}
        self._entries = 0  # in `_due`, those that are no key's earliest any more included

    def put(self, key: K, at_ms: int) -> None:
        """Ask for `key` at `at_ms`; a later request than the pending one changes nothing."""
        pending = self._earliest.get(key)
        if pending is not None and pending <= at_ms:
            return
        self._earliest[key] = at_ms
        due = self._due.get(at_ms)
        if due is None:
            self._due[at_ms] = [key]
            heapq.heappush(self._heap, at_ms)
        else:
            due.append(key)
        self._entries += 1
        if self._entries > 2 * len(self._earliest) + _MOST_STALE:
            self._sweep()

    def _sweep(self) -> None:
        earliest, self._due = self._earliest, {}
        for key, at_ms in earliest.items():
            self._due.setdefault(at_ms, []).append(key)
        self._entries = len(earliest)
        self._heap = list(self._due)
        heapq.heapify(self._heap)

    def drop(self, key: K) -> None:
        """Forget `key`; its heap entry is skipped when it surfaces."""
        self._earliest.pop(key, None)

    def next_ms(self) -> int | None:
        """The earliest deadline of any key, or None."""
        while self._heap:
            at_ms = self._heap[0]
            due = self._due[at_ms]
            if due and self._earliest.get(due[0]) == at_ms:
                return at_ms
            stale = next((place for place, key in enumerate(due) if self._earliest.get(key) == at_ms), len(due))
            if stale:
                del due[:stale]
                self._entries -= stale
            if due:
                return at_ms
            del self._due[at_ms]
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now_ms: int) -> list[K]:
        """Every key whose deadline is at or before `now_ms`, oldest first; each is forgotten."""
        found: list[K] = []
        while self._heap and self._heap[0] <= now_ms:
            at_ms = heapq.heappop(self._heap)
            due = self._due.pop(at_ms)
            self._entries -= len(due)
            for key in due:
                if self._earliest.get(key) == at_ms:
                    del self._earliest[key]
                    found.append(key)
        return found
