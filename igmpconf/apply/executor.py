"""Performs a rollout: one loop feeds the machine, whatever `concurrent.futures.Executor` there is talks to the devices.

The loop alone touches the machine and the journal, so nothing needs a lock.  A `Record` is on disk before the effect
behind it is handed out.  Ctrl-C becomes an event once; the second one leaves, and says what the devices do.

By default a bounded pool of threads performs the effects, one by one, through sessions that live here.  Another executor
(processes, Dask) gets whole legs instead, see leg.py; the first Ctrl-C takes back those that nobody has begun.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import FrameType
from typing import Any, Protocol

from igmpconf.apply.executors import LegWithdrawn, withdrawal
from igmpconf.apply.rollout import PARALLEL, DeviceEvent, ForDevice, Outcome, Record, Rollout, RolloutEffect, RolloutEvent, Soaking
from igmpconf.apply.steps import Begin, CancelRequested, Effect, Extend, Failed, Interrupt, Leg, Performed, Phase, TakenBack, TimePassed
from igmpconf.errors import InDoubt
from igmpconf.ids import DeviceName
from igmpconf.model.leaf import duration_text

MAX_SESSIONS = PARALLEL  # threads that talk, and sessions that wait open for the others' agreement
# A signal may be delivered to another thread than the one that sleeps; Python runs handlers in the main thread only, so
# that one looks up now and then.
_LOOK_UP_S = 0.25

Progress = Callable[[DeviceName, Phase], None]


class Scribe(Protocol):
    """Where records go."""

    def write(self, record: Record) -> None:
        """Durably, or raise."""
        ...


class Hands(Protocol):
    """Whoever acts on one device: a `DeviceSession` here, a `RemoteHands` for legs elsewhere."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether what it is at work on does not hear `hurry` and `cut`."""
        ...

    def job(self, effect: Any) -> tuple[Callable[[Any], Performed | Failed], Any]:
        """The call to submit."""
        ...

    def trouble(self, error: BaseException) -> Failed | None:
        """What an exception of the job means; None: a mistake of ours."""
        ...

    def release(self) -> None:
        """Let go of what only waits."""
        ...

    def hurry(self) -> None:
        """Do not wait for facts any longer."""
        ...

    def cut(self) -> None:
        """End at once what is under way."""
        ...


def monotonic_ms() -> int:
    """The clock of every machine here."""
    return time.monotonic_ns() // 1_000_000


class Execution:
    """One rollout being performed.

    `executor` stays the caller's; without one, threads are made and ended here.  `afterwards` is what Ctrl-C does when
    everybody has ended: None restores what it did before, `signal.SIG_IGN` lets a program say undisturbed how it ended.
    """

    def __init__(
        self,
        rollout: Rollout,
        hands: Mapping[DeviceName, Hands],
        journal: Scribe,
        *,
        progress: Progress | None = None,
        executor: Executor | None = None,
        afterwards: signal.Handlers | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.rollout = rollout
        self._hands = hands
        self._journal = journal
        self._progress = progress or (lambda _device, _phase: None)
        self._executor = executor
        self._afterwards = afterwards
        self._say = say or (lambda _text: None)
        self._events: queue.SimpleQueue[RolloutEvent | BaseException] = queue.SimpleQueue()
        self._shown: dict[DeviceName, Phase] = {}
        self._open: dict[DeviceName, None] = {}  # who waits for a decision with a session open, the longest first
        self._interrupts = 0
        self._elsewhere: dict[DeviceName, tuple[Effect, Future[Performed | Failed]]] = {}  # what others are at work on

    def run(self, resume: Mapping[DeviceName, bool] | None = None, unbegun: Collection[DeviceName] = ()) -> tuple[Outcome, ...]:
        """Perform until every device has ended, from the beginning or as `Rollout.resume` says.

        Raises InDoubt on a second Ctrl-C, IgmpconfError when the journal fails.
        """
        width = min(self.rollout.pace.parallel, max(1, len(self.rollout.ladders)))
        pool = self._executor or ThreadPoolExecutor(max_workers=width, thread_name_prefix="device")
        try:
            with self._interruptible():
                now_ms = monotonic_ms()
                self._carry_out(self.rollout.resume(resume, now_ms, unbegun) if resume is not None else self.rollout.handle(Begin(), now_ms), pool)
                while not self.rollout.is_over:
                    event = self._next_event()
                    if isinstance(event, CancelRequested):
                        self._hurry()
                    self._feed(event, pool)
                    if isinstance(event, CancelRequested):
                        self._take_back(pool)
        finally:
            for hands in self._hands.values():
                hands.cut()  # a no-op where the ladder has closed its session, which is everywhere unless we were stopped
            if self._executor is None:
                pool.shutdown(wait=True, cancel_futures=True)
                for hands in self._hands.values():
                    hands.release()  # what a thread was still opening while the others were cut
        return self.rollout.outcomes()

    def _feed(self, event: RolloutEvent, pool: Executor) -> None:
        if isinstance(event, DeviceEvent):
            self._elsewhere.pop(event.device, None)
        self._carry_out(self.rollout.handle(event, monotonic_ms()), pool)
        if isinstance(event, DeviceEvent):
            self._show(event.device)

    def _take_back(self, pool: Executor) -> None:
        """Of what others were given to do, the climbs that none of them has begun; who is at work there is told."""
        withdraw = withdrawal(pool)
        for device, (effect, future) in list(self._elsewhere.items()):
            if effect == Leg(is_kept=None) and withdraw(future):
                self._feed(DeviceEvent(device, TakenBack()), pool)
        left = {name: effect for name, (effect, future) in self._elsewhere.items() if not future.done()}
        kept = [name for name, effect in left.items() if effect == Leg(is_kept=True)]
        undone = [name for name, effect in left.items() if isinstance(effect, Leg | Extend) and name not in kept]
        if undone:
            self._say(
                f"still at work elsewhere: {', '.join(undone)}; what is changed there is undone, and we wait for it. "
                f"Ctrl-C again leaves at once, and what is unconfirmed then undoes itself within {self.rollout.policy.confirm_timeout_s}s"
            )
        if kept:
            self._say(f"still at work elsewhere: {', '.join(kept)}; verified, and being confirmed")

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
        is_over = False
        try:
            yield
            is_over = True
        finally:
            for number, handler in before.items():
                signal.signal(number, self._afterwards if is_over and self._afterwards is not None else handler)

    def _next_event(self) -> RolloutEvent:
        while True:
            deadline_ms = self.rollout.next_deadline_ms()
            left_s = None if deadline_ms is None else max(0, deadline_ms - monotonic_ms()) / 1000
            try:
                event = self._events.get(timeout=_LOOK_UP_S if left_s is None else min(left_s, _LOOK_UP_S))
            except queue.Empty:
                if left_s is None or left_s > _LOOK_UP_S:
                    continue
                return TimePassed()
            if isinstance(event, BaseException):
                raise event
            return event

    def _carry_out(self, effects: Sequence[RolloutEffect], pool: Executor) -> None:
        for effect in effects:
            if isinstance(effect, Record):
                self._journal.write(effect)
                if effect.device is not None:
                    self._show(effect.device)
            elif isinstance(effect, Soaking):
                left = duration_text(effect.soak_ms)
                self._say(f"wave {effect.wave} of {effect.waves} is kept; the next one begins in {left}, if this one holds")
            elif isinstance(effect.effect, Interrupt):
                self._hands[effect.device].cut()
            else:
                self._open.pop(effect.device, None)
                self._submit(effect, pool)
                self._show(effect.device)

    def _submit(self, wanted: ForDevice, pool: Executor) -> None:
        call, argument = self._hands[wanted.device].job(wanted.effect)

        def done(future: Future[Performed | Failed]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                self._events.put(DeviceEvent(wanted.device, future.result()))
                return
            if isinstance(error, LegWithdrawn):
                self._events.put(DeviceEvent(wanted.device, TakenBack()))
                return
            failed = self._hands[wanted.device].trouble(error)
            self._events.put(DeviceEvent(wanted.device, failed) if failed is not None else error)

        future = pool.submit(call, argument)
        if self._hands[wanted.device].is_elsewhere:
            self._elsewhere[wanted.device] = (wanted.effect, future)
        future.add_done_callback(done)

    def _show(self, device: DeviceName) -> None:
        phase = self.rollout.phase_of(device)
        if self._shown.get(device) is not phase:
            self._shown[device] = phase
            self._progress(device, phase)
        if self.rollout.ladders[device].is_waiting:
            self._wait_open(device)

    def _wait_open(self, device: DeviceName) -> None:
        """Of those that wait for the others, so many keep their session; the ones beyond reconnect when they are decided."""
        self._open[device] = None
        while len(self._open) > MAX_SESSIONS:
            longest = next(iter(self._open))
            del self._open[longest]
            self._hands[longest].release()

    def _hurry(self) -> None:
        for hands in self._hands.values():
            hands.hurry()

    def _left_alone(self) -> InDoubt:
        names = [name for name, at in self.rollout.ladders.items() if at.undoes_itself_by_ms is not None or name in self._elsewhere]
        had = "had an unconfirmed change" + (" or was at work elsewhere" if self._elsewhere else "")
        return InDoubt(
            names,
            f"stopped while {', '.join(names) or 'no device'} {had}; what is unconfirmed undoes itself within {self.rollout.policy.confirm_timeout_s}s",
            hint=f"igmpconf apply --resume {self.rollout.persist_id}",
        )
