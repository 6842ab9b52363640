"""The driver: feeds a machine its events, performs its effects, and keeps one timer at its next deadline.

One driver serves every machine (house: one shape for everything stateful).  It owns no state but the timer.
"""

from __future__ import annotations

import asyncio
import math
import os
import select
import selectors
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


class PromptSelector(selectors.EpollSelector):
    """An event loop's selector that calls some readers itself, before the loop gets its turn: a stream waits for them.

    `failed` is told what such a reader raised.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll.fromfd(os.dup(self.fileno()))  # the same instance, by an interface that is public
        self._prompt: dict[int, Callable[[], None]] = {}
        self.failed: Callable[[Exception], None] = _raised

    def add_prompt_reader(self, fd: int, read: Callable[[], None]) -> None:
        """Call `read` whenever `fd` is readable."""
        self._epoll.register(fd, select.EPOLLIN)
        self._prompt[fd] = read

    def remove_prompt_reader(self, fd: int) -> None:
        """No more calls; harmless if there was no such reader."""
        if self._prompt.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As in the base class: a timeout is rounded up to milliseconds, and None waits for ever."""
        wait_s = -1.0 if timeout is None else math.ceil(timeout * 1_000) / 1_000 if timeout > 0 else 0.0
        try:
            events = self._epoll.poll(wait_s)
        except InterruptedError:
            return []
        ready = []
        for fd, event in events:
            read = self._prompt.get(fd)
            if read is None:
                key = self.get_map().get(fd)
                if key is not None:
                    mask = (selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0) | (selectors.EVENT_READ if event & ~select.EPOLLOUT else 0)
                    ready.append((key, mask & key.events))
                continue
            try:
                read()
            except Exception as error:  # noqa: BLE001 - a bug of a reader must not end the loop
                self.failed(error)
        return ready

    def close(self) -> None:
        self._epoll.close()
        super().close()


def _raised(error: Exception) -> None:
    raise error


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
            if not effects:
                continue
            news = self._perform(effects)
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
