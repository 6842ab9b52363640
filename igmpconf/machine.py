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
        self._heap: list[tuple[int, int, K]] = []
        self._earliest: dict[K, int] = {}
        self._serial = 0  # ties are broken by age, so keys need no order

    def put(self, key: K, at_ms: int) -> None:
        """Ask for `key` at `at_ms`; a later request than the pending one changes nothing."""
        pending = self._earliest.get(key)
        if pending is not None and pending <= at_ms:
            return
        self._earliest[key] = at_ms
        self._serial += 1
        heapq.heappush(self._heap, (at_ms, self._serial, key))
        if len(self._heap) > 2 * len(self._earliest) + _MOST_STALE:
            self._heap = [entry for entry in self._heap if self._earliest.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def drop(self, key: K) -> None:
        """Forget `key`; its heap entry is skipped when it surfaces."""
        self._earliest.pop(key, None)

    def next_ms(self) -> int | None:
        """The earliest deadline of any key, or None."""
        while self._heap:
            at_ms, _, key = self._heap[0]
            if self._earliest.get(key) == at_ms:
                return at_ms
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now_ms: int) -> list[K]:
        """Every key whose deadline is at or before `now_ms`, oldest first; each is forgotten."""
        due: list[K] = []
        while (at_ms := self.next_ms()) is not None and at_ms <= now_ms:
            _, _, key = heapq.heappop(self._heap)
            del self._earliest[key]
            due.append(key)
        return due
