"""Performs a rollout: one loop feeds the machine, a bounded pool of threads talks to the devices.

The loop alone touches the machine and the journal, so nothing needs a lock.  A `Record` is on disk before the effect
behind it is handed to a thread.  Ctrl-C becomes an event once; the second one leaves, and says what the devices do.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Protocol

from igmpconf.apply.device import Begin, CancelRequested, Phase, TimePassed
from igmpconf.apply.rollout import DeviceEvent, ForDevice, Outcome, Record, Rollout, RolloutEffect, RolloutEvent
from igmpconf.apply.session import DeviceSession
from igmpconf.errors import InDoubt
from igmpconf.ids import DeviceName

MAX_SESSIONS = 32  # threads; the devices' side is the limit long before (design: 5.5 ms of our CPU per device)

Progress = Callable[[DeviceName, Phase], None]


class Scribe(Protocol):
    """Where records go."""

    def write(self, record: Record) -> None:
        """Durably, or raise."""
        ...


def monotonic_ms() -> int:
    """The clock of every machine here."""
    return time.monotonic_ns() // 1_000_000


class Execution:
    """One rollout being performed."""

    def __init__(self, rollout: Rollout, sessions: Mapping[DeviceName, DeviceSession], journal: Scribe, *, progress: Progress | None = None) -> None:
        self.rollout = rollout
        self._sessions = sessions
        self._journal = journal
        self._progress = progress or (lambda _device, _phase: None)
        self._events: queue.SimpleQueue[RolloutEvent | BaseException] = queue.SimpleQueue()
        self._shown: dict[DeviceName, Phase] = {}
        self._interrupts = 0

    def run(self, resume: dict[DeviceName, bool] | None = None) -> tuple[Outcome, ...]:
        """Perform until every device has ended.  Raises InDoubt on a second Ctrl-C, IgmpconfError when the journal fails."""
        pool = ThreadPoolExecutor(max_workers=min(MAX_SESSIONS, max(1, len(self.rollout.ladders))), thread_name_prefix="device")
        try:
            with self._interruptible():
                now_ms = monotonic_ms()
                self._carry_out(self.rollout.resume(resume, now_ms) if resume is not None else self.rollout.handle(Begin(), now_ms), pool)
                while not self.rollout.is_over:
                    self._carry_out(self.rollout.handle(self._next_event(), monotonic_ms()), pool)
        finally:
            for session in self._sessions.values():
                session.cut()  # a no-op where the ladder has closed its session, which is everywhere unless we were stopped
            pool.shutdown(wait=True, cancel_futures=True)
        return self.rollout.outcomes()

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """While inside, Ctrl-C and SIGTERM are events, so that they cannot fall between a decision and its journal."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may set handlers; signals are the caller's business then
            return

        def interrupted(_number: int, _frame: FrameType | None) -> None:
            self._interrupts += 1
            self._events.put(CancelRequested() if self._interrupts == 1 else self._left_alone())

        before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _next_event(self) -> RolloutEvent:
        deadline_ms = self.rollout.next_deadline_ms()
        timeout_s = None if deadline_ms is None else max(0, deadline_ms - monotonic_ms()) / 1000
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return TimePassed()
        if isinstance(event, BaseException):
            raise event
        return event

    def _carry_out(self, effects: Sequence[RolloutEffect], pool: ThreadPoolExecutor) -> None:
        for effect in effects:
            if isinstance(effect, Record):
                self._journal.write(effect)
            else:
                pool.submit(self._perform, effect)
        for name, at in self.rollout.ladders.items():
            if self._shown.get(name) is not at.phase:
                self._shown[name] = at.phase
                self._progress(name, at.phase)

    def _perform(self, wanted: ForDevice) -> None:
        try:
            self._events.put(DeviceEvent(wanted.device, self._sessions[wanted.device].perform(wanted.effect)))
        except BaseException as error:  # noqa: BLE001 - a bug of ours must end the loop, not leave it waiting
            self._events.put(error)

    def _left_alone(self) -> InDoubt:
        names = [name for name, at in self.rollout.ladders.items() if at.undoes_itself_by_ms is not None]
        return InDoubt(
            names,
            f"stopped while {', '.join(names) or 'no device'} had an unconfirmed change; what is unconfirmed undoes itself "
            f"within {self.rollout.policy.confirm_timeout_s}s",
            hint=f"igmpconf apply --resume {self.rollout.persist_id}",
        )
