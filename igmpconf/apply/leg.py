"""A part of one device's way, done by whoever has the time: a task that any `concurrent.futures.Executor` can run.

    climb    from the beginning until the change is verified and waits, unconfirmed, for the decision
    settle   to keep or to undo, over a session of its own

A leg holds everything it needs and can be pickled, so it may run in another process or on another machine.  Such
executors run a task at least once: when a worker is killed, the next one begins the same leg anew.  That is harmless,
because the commit carries the rollout's persist id: who finds it pending undoes it and climbs again, and who is to keep
it finds it kept already.  Decisions are never taken here; they belong to the rollout, which alone writes the journal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from igmpconf.apply.device import AGAIN_MS, DeviceLadder, LadderPolicy
from igmpconf.apply.session import DeviceSession
from igmpconf.apply.steps import (
    ENDS,
    STOPPED,
    Begin,
    CancelRequested,
    Decided,
    Effect,
    Event,
    Extend,
    Failed,
    Failure,
    Leg,
    LegEnd,
    Performed,
    Phase,
    Recheck,
    Settle,
    TakenBack,
    TimePassed,
)
from igmpconf.ids import PersistId
from igmpconf.model.state import DeviceState
from igmpconf.netconf.target import Target
from igmpconf.plan.plan import DevicePlan

_ATTEMPTS = 3  # of a leg that nobody answered for, such as one whose workers were killed


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One leg for one device."""

    target: Target
    plan: DevicePlan
    plan_id: str
    persist_id: PersistId
    policy: LadderPolicy
    effect: Leg | Extend | Recheck
    comment: str | None = None
    allow_down: tuple[str, ...] = ()


class Journey:
    """Does one leg where it is called, once; `hurry` reaches it there from another thread."""

    def __init__(self) -> None:
        self._session: DeviceSession | None = None
        self._is_hurried = False

    def __call__(self, assignment: Assignment) -> Performed | Failed:
        """Do it here and now; what goes wrong with the device is in the answer."""
        self._session = session = DeviceSession(
            target=assignment.target,
            plan=assignment.plan,
            plan_id=assignment.plan_id,
            policy=assignment.policy,
            comment=assignment.comment,
            allow_down=assignment.allow_down,
        )
        if self._is_hurried:
            session.hurry()
        try:
            if isinstance(assignment.effect, Extend | Recheck):
                return session.perform(assignment.effect)
            ladder = DeviceLadder(plan=assignment.plan, persist_id=assignment.persist_id, policy=assignment.policy)
            return Performed(_walk(ladder, session, assignment.effect, lambda: self._is_hurried))
        finally:
            session.abandon()

    def hurry(self) -> None:
        """Somebody wants to stop: a climb turns back at its next step, and waits for facts no longer."""
        self._is_hurried = True
        if self._session is not None:
            self._session.hurry()


def _walk(ladder: DeviceLadder, session: DeviceSession, leg: Leg, is_hurried: Callable[[], bool]) -> LegEnd:
    is_kept = leg.is_kept
    is_told = is_kept is not None  # who brings the decision does not turn back
    limit_ms = ladder.policy.device_timeout_ms if is_kept is None else None
    watchdog = threading.Timer(limit_ms / 1000, session.cut) if limit_ms is not None else None
    if watchdog is not None:
        watchdog.daemon = True
        watchdog.start()
    try:
        effects: Sequence[Effect] = ladder.handle(Begin() if is_kept is None else Settle(is_kept), _now_ms())
        while ladder.phase not in ENDS and not ladder.is_waiting:
            if is_hurried() and not is_told:
                is_told = True
                effects = ladder.handle(CancelRequested(), _now_ms()) or effects
            effects = _step(ladder, session, effects)
    finally:
        if watchdog is not None:
            watchdog.cancel()
    left_ms = None if ladder.undoes_itself_by_ms is None else max(0, ladder.undoes_itself_by_ms - _now_ms())
    before = ladder.before if ladder.policy.is_rechecked and ladder.is_waiting else None
    return LegEnd(phase=ladder.phase, failure=ladder.failure, warnings=ladder.warnings, undoes_itself_in_ms=left_ms, before=before)


def _step(ladder: DeviceLadder, session: DeviceSession, effects: Sequence[Effect]) -> Sequence[Effect]:
    if effects:
        outcome = session.perform(effects[0])
        # The watchdog has cut what was under way: the ladder must hear of the time before it hears of the failure.
        ladder.handle(TimePassed(), _now_ms())
        return ladder.handle(outcome, _now_ms())
    deadline_ms = ladder.next_deadline_ms()
    assert deadline_ms is not None, f"stuck in {ladder.phase}"
    time.sleep(max(0, deadline_ms - _now_ms()) / 1000)
    return ladder.handle(TimePassed(), _now_ms())


@dataclass(frozen=True, slots=True)
class RemoteHands:
    """Makes the assignments of one device."""

    target: Target
    plan: DevicePlan
    plan_id: str
    persist_id: PersistId
    policy: LadderPolicy
    comment: str | None = None
    allow_down: Collection[str] = ()

    @property
    def is_elsewhere(self) -> bool:
        """What it is at work on does not hear us."""
        return True

    def job(self, effect: Effect) -> tuple[Callable[[Assignment], Performed | Failed], Assignment]:
        """What a worker is to call."""
        return Journey(), self.assignment(effect)

    def trouble(self, error: BaseException) -> Failed | None:
        """The worker, or the way to it, is gone; what it did is for the next one to find out."""
        return Failed(Failure(kind="transport", message=f"{self.plan.device}: the worker was lost: {error or type(error).__name__}", is_retryable=True))

    def release(self) -> None:
        """Nothing is held open between legs."""

    def hurry(self) -> None:
        """A leg elsewhere ends by itself."""

    def cut(self) -> None:
        """A leg elsewhere ends by itself."""

    def assignment(self, effect: Effect) -> Assignment:
        """What somebody else is to do."""
        assert isinstance(effect, Leg | Extend | Recheck), f"{effect} is not done elsewhere"
        return Assignment(
            target=self.target,
            plan=self.plan,
            plan_id=self.plan_id,
            persist_id=self.persist_id,
            policy=self.policy,
            effect=effect,
            comment=self.comment,
            allow_down=tuple(self.allow_down),
        )


@dataclass(slots=True)
class RemoteLadder:
    """One device's way in legs, for a rollout whose devices are reached from elsewhere; a machine like `DeviceLadder`."""

    plan: DevicePlan
    persist_id: PersistId
    policy: LadderPolicy
    phase: Phase = Phase.IDLE
    failure: Failure | None = None
    warnings: tuple[str, ...] = ()
    undoes_itself_by_ms: int | None = None
    _doing: Leg | Extend | None = None
    _decision: bool | None = None
    _is_cancel_wanted: bool = False
    _retry: Leg | None = None
    _retry_at_ms: int | None = None
    _attempt: int = 0
    _before: DeviceState = field(default_factory=DeviceState)

    @property
    def is_waiting(self) -> bool:
        """Verified, and waiting for the decision."""
        return self.phase is Phase.VERIFIED and self._doing is None and self._retry is None and self._decision is None

    @property
    def is_begun(self) -> bool:
        """It has had its turn."""
        return self.phase is not Phase.IDLE or self._doing is not None or self._retry is not None

    def next_deadline_ms(self) -> int | None:
        """When a leg is tried again, or the time of an unconfirmed commit must begin anew."""
        return min((at for at in (self._retry_at_ms, self._extend_at_ms()) if at is not None), default=None)

    def _extend_at_ms(self) -> int | None:
        if not self.is_waiting or self.undoes_itself_by_ms is None:
            return None
        return self.undoes_itself_by_ms - self.policy.confirm_timeout_s * 500

    def recheck(self) -> Recheck:
        """The look at it when it has been confirmed for a while."""
        return Recheck(self._before, self.policy.verify_timeout_ms)

    def handle(self, event: Event, now_ms: int) -> Sequence[Effect]:
        """The next leg, if any."""
        match event:
            case Begin():
                return self._send(Leg(is_kept=None))
            case Settle(is_kept=is_kept):
                self.undoes_itself_by_ms = now_ms + self.policy.confirm_timeout_s * 1000
                return self._decide(is_kept=is_kept)
            case Decided(is_kept=is_kept):
                return self._decide(is_kept=is_kept) if self.is_waiting else ()
            case CancelRequested(why=why):
                return self._cancel(why)
            case Performed(answer=answer):
                return self._arrived(answer, now_ms)
            case Failed(failure=failure):
                return self._lost(failure, now_ms)
            case TakenBack():
                return self._taken_back()
            case TimePassed():
                return self._time_passed(now_ms)

    def _send(self, leg: Leg | Extend) -> Sequence[Effect]:
        self._doing = leg
        return (leg,)

    def _decide(self, *, is_kept: bool) -> Sequence[Effect]:
        self._decision, self._attempt = is_kept, 0
        return self._send(Leg(is_kept=is_kept))

    def _cancel(self, why: str) -> Sequence[Effect]:
        if self.phase in ENDS or self._decision is not None:
            return ()
        if not self.is_begun:
            self.phase, self.failure = Phase.SKIPPED, Failure(kind="cancelled", message=why)
            return ()
        self._is_cancel_wanted = True
        self.failure = self.failure or Failure(kind="cancelled", message="cancelled")
        is_between = self._retry is not None  # nobody knows what became of the climb, and it is not begun anew
        self._retry = self._retry_at_ms = None
        return self._decide(is_kept=False) if self.is_waiting or is_between else ()

    def _taken_back(self) -> Sequence[Effect]:
        self._doing = None
        if self._attempt:  # of an earlier attempt nobody knows how far it came
            return self._decide(is_kept=False)
        self.phase, self.failure = Phase.SKIPPED, Failure(kind="cancelled", message=STOPPED)
        return ()

    def _arrived(self, answer: object, now_ms: int) -> Sequence[Effect]:
        done, self._doing = self._doing, None
        if isinstance(done, Extend):
            self.undoes_itself_by_ms = now_ms + done.timeout_s * 1000
        else:
            assert isinstance(answer, LegEnd)
            self.phase = answer.phase
            self.failure = self.failure or answer.failure
            if answer.phase is Phase.CONFIRMED:
                self.failure = None
            self.warnings = answer.warnings or self.warnings
            self._before = answer.before or self._before
            self.undoes_itself_by_ms = None if answer.undoes_itself_in_ms is None else now_ms + answer.undoes_itself_in_ms
        return self._decide(is_kept=False) if self._is_cancel_wanted and self.is_waiting else ()

    def _lost(self, failure: Failure, now_ms: int) -> Sequence[Effect]:
        """Nobody knows what became of the leg; the same leg finds out."""
        lost, self._doing = self._doing, None
        self._attempt += 1
        if isinstance(lost, Extend):
            self.failure = failure
            return self._decide(is_kept=False)
        assert lost is not None
        if lost.is_kept is None and (self._attempt >= _ATTEMPTS or self._is_cancel_wanted):
            self.failure = self.failure or failure
            return self._decide(is_kept=False)
        if self._attempt >= _ATTEMPTS:
            self.phase, self.failure = Phase.IN_DOUBT, self.failure or failure
            return ()
        self._retry, self._retry_at_ms = lost, now_ms + AGAIN_MS
        return ()

    def _time_passed(self, now_ms: int) -> Sequence[Effect]:
        if self._retry is not None and self._retry_at_ms is not None and now_ms >= self._retry_at_ms:
            again, self._retry, self._retry_at_ms = self._retry, None, None
            return self._send(again)
        extend_at_ms = self._extend_at_ms()
        if extend_at_ms is not None and now_ms >= extend_at_ms:
            return self._send(Extend(self.persist_id, self.policy.confirm_timeout_s))
        return ()
