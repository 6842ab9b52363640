"""The driver: feeds a machine its events, performs its effects, and keeps one timer at its next deadline.

One driver serves every machine (house: one shape for everything stateful).  It owns no state but the timer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from igmpconf.machine import Machine

E = TypeVar("E")
F = TypeVar("F")

_MAX_ROUNDS = 100  # of failures that lead to failures: a machine that repeats at once what was refused is a bug, not a wait
_AFTER_A_BUG_MS = 1_000


class Clock:
    """Milliseconds since it was made, never backwards."""

    def __init__(self) -> None:
        self._start_ns = time.monotonic_ns()

    def __call__(self) -> int:
        return (time.monotonic_ns() - self._start_ns) // 1_000_000


class Driver(Generic[E, F]):
    """Runs one machine on an asyncio loop.

    `perform` performs a batch of effects in order and returns the outcomes that the machine has to hear of; they are
    fed before anything else.  `time_passed` is the event a deadline becomes; `hear_first` feeds what already waits
    somewhere, so that a pause of the process (or a flood) does not let a deadline overtake the news that moves it.
    """

    def __init__(
        self,
        machine: Machine[E, F],
        perform: Callable[[Sequence[F]], Sequence[E]],
        time_passed: E,
        *,
        clock: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
        hear_first: Callable[[], None] | None = None,
    ) -> None:
        self._machine = machine
        self._perform = perform
        self._time_passed = time_passed
        self._clock = clock
        self._loop = loop
        self._hear_first = hear_first
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._is_closed = False

    def feed(self, events: Iterable[E]) -> list[E]:
        """Handle `events` and whatever outcomes they lead to; returns those outcomes."""
        outcomes: list[E] = []
        handle, clock = self._machine.handle, self._clock
        for event in events:
            effects = handle(event, clock())
            news = self._perform(effects) if effects else ()
            for _ in range(_MAX_ROUNDS):
                if not news:
                    break
                outcomes.extend(news)
                news = [outcome for told in news for outcome in self._perform(handle(told, clock()))]
            assert not news, "the machine repeats what was refused, without waiting"
        self._arm()
        return outcomes

    def _arm(self) -> None:
        """Have the timer no later than the next deadline; one that fires too early is harmless."""
        if self._is_closed:
            return
        deadline_ms = self._machine.next_deadline_ms()
        if deadline_ms is None or (self._timer is not None and self._timer_ms <= deadline_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._set_timer(deadline_ms)

    def _set_timer(self, at_ms: int) -> None:
        self._timer_ms = at_ms
        self._timer = self._loop.call_later(max(0, at_ms - self._clock()) / 1000, self._fired)

    def _fired(self) -> None:
        self._timer = None
        try:
            if self._hear_first is not None:
                self._hear_first()
            self.feed((self._time_passed,))
        except Exception:
            if self._timer is None and not self._is_closed:  # a bug must not stop the clock, nor spin it
                self._set_timer(self._clock() + _AFTER_A_BUG_MS)
            raise

    def close(self) -> None:
        """Stop the timer; the machine is left as it is."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
