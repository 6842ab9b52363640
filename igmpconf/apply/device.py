"""The ladder one device climbs, as a pure machine: a change is made, proven, and only then kept.

    IDLE -> CONNECTED -> LOCKED -> CHECKED -> EDITED -> VALIDATED -> PROVISIONAL -> VERIFIED -> CONFIRMED
                                                                         |             |
                                                                         +--- LEFT <---+  (left unconfirmed on purpose)
    the rollout stops before its turn                                              -> SKIPPED      never begun
    a failure before the commit     discard, unlock, close                         -> REFUSED      nothing was changed
    a failure after it              cancel over a fresh session                    -> ROLLED_BACK  old again
    the connection dies in between  look what happened, then cancel or confirm     -> IN_DOUBT only when nobody answers

VERIFIED waits for `Decided`, because a fleet may have to agree first; a single device gets it at once.  One effect is
under way at a time; its outcome is the next event.  The commit is confirmed over another session than made it, so a
change that cuts us off cannot be kept.  Who waits long for the others' agreement extends its own deadline.

What is tried again, and when: before the commit everything, `LadderPolicy.attempts` times, because nothing has happened
yet; after it only what names the commit by its persist id, because that cannot hit anybody else's.
This file does not know NETCONF, threads or the journal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from igmpconf.apply.steps import (
    ENDS,
    Answer,
    Before,
    Begin,
    Cancel,
    CancelRequested,
    Close,
    CommitProvisionally,
    Confirm,
    Connect,
    Decided,
    Discard,
    Edit,
    Effect,
    Event,
    Extend,
    Failed,
    Failure,
    Inspect,
    Interrupt,
    Lock,
    Performed,
    Phase,
    ReadBefore,
    Recheck,
    Seen,
    Settle,
    TakenBack,
    TimePassed,
    Unlock,
    Validate,
    Verify,
)
from igmpconf.ids import PersistId
from igmpconf.model.state import DeviceState
from igmpconf.plan.plan import DevicePlan

AGAIN_MS = 300  # before a climb begins anew
RETRY_MS = 1_000  # between attempts to reach a device that must still be told the decision
GRACE_MS = 5_000  # beyond the confirm timeout: a device that is alive has undone an unconfirmed change by then


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderPolicy:
    """How long, and how far."""

    confirm_timeout_s: int = 60
    verify_timeout_ms: int = 10_000
    is_confirmed: bool = True  # False: leave the change unconfirmed, it undoes itself
    attempts: int = 1  # of the climb, as long as nothing is committed and the trouble may pass
    connect_timeout_s: float | None = None  # None: ConnectTimeout of ssh_config, or 10 s
    rpc_timeout_s: float = 30.0
    device_timeout_ms: int | None = None  # from the beginning until verified; then what was begun is undone
    is_rechecked: bool = False  # it will be looked at again, so legs must bring home how it was before


_CANCELLED = Failure(kind="cancelled", message="cancelled")


@dataclass(slots=True)
class DeviceLadder:
    """One device's way through one plan."""

    plan: DevicePlan
    persist_id: PersistId
    policy: LadderPolicy
    phase: Phase = Phase.IDLE
    failure: Failure | None = None  # what stopped the climb
    warnings: tuple[str, ...] = ()
    before: DeviceState = field(default_factory=DeviceState)  # the device before the change
    undoes_itself_by_ms: int | None = None  # set while an unconfirmed commit may be alive on the device
    _doing: Effect | None = None
    _queue: list[Effect] = field(default_factory=list)  # what follows when `_doing` has succeeded
    _end: Phase | None = None  # where a clean-up under way leads
    _decision: bool | None = None
    _is_settling: bool = False  # reaching a device to tell it the decision
    _is_sure: bool = False  # while settling: nothing of ours can still be under way
    _is_cancel_wanted: bool = False
    _retry_at_ms: int | None = None
    _overdue_at_ms: int | None = None
    _is_overdue: bool = False
    _attempt: int = 0

    def next_deadline_ms(self) -> int | None:
        """When something is due: another attempt, more time for one that waits, or the end of our patience."""
        return min((at for at in (self._retry_at_ms, self._extend_at_ms(), self._overdue_at_ms) if at is not None), default=None)

    def handle(self, event: Event, now_ms: int) -> Sequence[Effect]:
        """The next thing to do, if any."""
        match event:
            case Begin():
                if self.policy.device_timeout_ms is not None:
                    self._overdue_at_ms = now_ms + self.policy.device_timeout_ms
                return self._climb()
            case Settle(is_kept=is_kept):
                self._decision = is_kept
                self.undoes_itself_by_ms = now_ms + self.policy.confirm_timeout_s * 1000
                return self._settle()
            case Performed(answer=answer):
                done, self._doing = self._doing, None
                assert done is not None
                return self._performed(done, answer, now_ms)
            case Failed(failure=failure):
                failed, self._doing = self._doing, None
                assert failed is not None
                return self._failed(failed, failure, now_ms)
            case TakenBack():
                raise AssertionError("only legs are taken back")
            case Decided(is_kept=is_kept):
                return self._decided(is_kept=is_kept)
            case CancelRequested(why=why):
                return self._cancel_requested(why)
            case TimePassed():
                return self._time_passed(now_ms)
            case _:
                assert_never(event)

    @property
    def is_waiting(self) -> bool:
        """Verified, and waiting for the decision."""
        return self.phase is Phase.VERIFIED and self._doing is None and self._decision is None

    @property
    def is_begun(self) -> bool:
        """It has had its turn, whatever came of it."""
        return self.phase is not Phase.IDLE or self._doing is not None or self._retry_at_ms is not None or self._is_settling

    def recheck(self) -> Recheck:
        """The look at it when it has been confirmed for a while."""
        return Recheck(self.before, self.policy.verify_timeout_ms)

    # Time -----------------------------------------------------------------------------------------------------------

    def _extend_at_ms(self) -> int | None:
        """Half of the time is over: what is verified and waits for others asks for the whole again."""
        if not self.is_waiting or self.undoes_itself_by_ms is None:
            return None
        return self.undoes_itself_by_ms - self.policy.confirm_timeout_s * 500

    def _time_passed(self, now_ms: int) -> Sequence[Effect]:
        if self._retry_at_ms is not None and now_ms >= self._retry_at_ms:
            self._retry_at_ms = None
            return self._settle() if self._is_settling else self._climb()
        extend_at_ms = self._extend_at_ms()
        if extend_at_ms is not None and now_ms >= extend_at_ms:
            return self._do(Extend(self.persist_id, self.policy.confirm_timeout_s))
        if self._overdue_at_ms is not None and now_ms >= self._overdue_at_ms:
            self._overdue_at_ms = None
            return self._give_up_on_it()
        return ()

    def _give_up_on_it(self) -> Sequence[Effect]:
        """Whatever hangs is cut, and its failure leads the way down."""
        if self.phase in ENDS or self.phase is Phase.VERIFIED or self._end is not None or self._is_settling:
            return ()
        self._is_overdue = True
        if self._doing is None:  # between two attempts
            self._retry_at_ms = None
            return self._give_up(self._overdue())
        return (Interrupt(),)

    def _overdue(self) -> Failure:
        limit_s = (self.policy.device_timeout_ms or 0) / 1000
        return Failure(kind="transport", message=f"{self.plan.device} was not done within {limit_s:g}s", hint="see --device-timeout", is_retryable=True)

    # The climb ------------------------------------------------------------------------------------------------------

    def _climb(self) -> Sequence[Effect]:
        self._attempt += 1
        self.phase = Phase.IDLE
        return self._do(Connect(), Lock(), ReadBefore())

    def _do(self, *effects: Effect) -> Sequence[Effect]:
        """Start the first effect, queue the rest."""
        self._queue = list(effects[1:])
        self._doing = effects[0]
        return (effects[0],)

    def _next(self) -> Sequence[Effect]:
        return self._do(*self._queue) if self._queue else ()

    def _performed(self, done: Effect, answer: Answer, now_ms: int) -> Sequence[Effect]:
        if self._end is not None:  # cleaning up
            return self._next() or self._finish(self._end)
        if self._is_settling:
            return self._settling(done, answer)
        match done:
            case Connect() if self.phase is Phase.IDLE:
                self.phase = Phase.CONNECTED
            case Lock():
                self.phase = Phase.LOCKED
            case ReadBefore():
                assert isinstance(answer, Before)
                return self._checked(answer)
            case Edit():
                self.phase = Phase.EDITED
            case Validate():
                self.phase = Phase.VALIDATED
            case CommitProvisionally(timeout_s=timeout_s):
                self.phase = Phase.PROVISIONAL
                self.undoes_itself_by_ms = now_ms + timeout_s * 1000
                if self._is_cancel_wanted:
                    return self._undo(_CANCELLED)
                # The session that made the change ends first: a new one must come about through the new configuration.
                return self._do(Close(), Connect(), Verify(self.before, self.policy.verify_timeout_ms))
            case Verify():
                self.warnings = answer if isinstance(answer, tuple) else ()
                self.phase = Phase.VERIFIED
                if self._is_cancel_wanted:
                    return self._undo(_CANCELLED)
                self._overdue_at_ms = None
                return self._clean_up(Phase.LEFT, Close()) if not self.policy.is_confirmed else ()
            case Extend(timeout_s=timeout_s):
                self.undoes_itself_by_ms = now_ms + timeout_s * 1000
                return self._undo(_CANCELLED) if self._is_cancel_wanted else ()
            case Cancel() if self.phase is Phase.LOCKED:  # our own commit of an earlier attempt is undone; now from the beginning
                return self._next()
            case Confirm():
                return self._clean_up(Phase.CONFIRMED, Close())
            case Cancel():
                return self._clean_up(Phase.ROLLED_BACK, Close())
            case _:
                pass
        if self._is_cancel_wanted:
            return self._turn_back(done)
        return self._next()

    def _turn_back(self, done: Effect) -> Sequence[Effect]:
        """The user changed their mind while `done` was under way; what is committed must be undone."""
        if self.phase is not Phase.PROVISIONAL:
            return self._give_up(_CANCELLED)
        if isinstance(done, Close):  # between the session that committed and the one that verifies there is none
            self.failure, self._decision = _CANCELLED, False
            return self._settle()
        return self._undo(_CANCELLED)

    def _checked(self, before: Before) -> Sequence[Effect]:
        pending = before.state.agent.pending_persist_id if before.state.agent is not None else None
        if pending == self.persist_id:
            # Somebody began this very climb and did not come back.  What ran before is needed to judge, so undo, then climb.
            return self._do(Cancel(self.persist_id), ReadBefore())
        if pending is not None:
            hint = f"`igmpconf confirm {pending}` keeps it, `igmpconf cancel {pending}` undoes it"
            return self._give_up(Failure(kind="rpc", message=f"{self.plan.device}: a commit waits for its confirmation ({pending})", hint=hint, tag="in-use"))
        if before.digest == self.plan.target_digest:
            return self._clean_up(Phase.UNCHANGED, Unlock(), Close())
        if before.digest != self.plan.base_digest:
            return self._give_up(
                Failure(
                    kind="stale",
                    message=f"{self.plan.device} changed since the plan was made: "
                    f"it runs {_short(before.digest)}, the plan starts from {_short(self.plan.base_digest)}",
                    hint="make a new plan and look at it again; `igmpconf history` says who changed it",
                )
            )
        if self._is_cancel_wanted:
            return self._give_up(_CANCELLED)
        self.phase = Phase.CHECKED
        self.before = before.state
        return self._do(Edit(), Validate(), CommitProvisionally(self.persist_id, self.policy.confirm_timeout_s))

    # Ways down ------------------------------------------------------------------------------------------------------

    def _failed(self, failed: Effect, failure: Failure, now_ms: int) -> Sequence[Effect]:
        if self._end is not None:  # a clean-up goes on whatever happens; the agent cleans up after a lost session itself
            return self._next() or self._finish(self._end)
        if self._is_settling:
            return self._unsettled(failed, failure, now_ms)
        if self._is_overdue:
            failure = self._overdue() if failure.kind == "transport" else failure
        match failed:
            case CommitProvisionally(timeout_s=timeout_s):
                if failure.kind != "transport":
                    return self._give_up(failure)
                # The answer was lost, perhaps not the request.
                self.failure = failure
                self.undoes_itself_by_ms = now_ms + timeout_s * 1000
                self._decision = False
                return self._settle()
            case Confirm() | Cancel() if failure.kind == "transport":
                self.failure = self.failure or failure
                return self._settle()
            case Confirm():
                # Refused: the commit is no longer pending, for whatever reason; see which side we are on.
                self.failure = failure
                return self._settle()
            case Cancel() if self.phase is Phase.LOCKED:
                return self._give_up(failure)
            case Cancel():
                return self._settle()
            case _ if self.phase in {Phase.PROVISIONAL, Phase.VERIFIED}:
                return self._undo(failure)
            case _ if self._may_try_again(failure):
                self._retry_at_ms = now_ms + AGAIN_MS
                return ()
            case _:
                return self._give_up(failure)

    def _may_try_again(self, failure: Failure) -> bool:
        """Nothing is committed yet, so another attempt is harmless."""
        may_pass = failure.is_retryable and (failure.kind == "transport" or failure.tag == "lock-denied")
        return may_pass and self._attempt < self.policy.attempts and not self._is_cancel_wanted and not self._is_overdue

    def _give_up(self, failure: Failure) -> Sequence[Effect]:
        """Before the commit: leave no lock and no edits behind."""
        self.failure = failure
        steps: list[Effect] = []
        if failure.kind != "transport":
            if self.phase in {Phase.CHECKED, Phase.EDITED, Phase.VALIDATED}:
                steps.append(Discard())
            if self.phase not in {Phase.IDLE, Phase.CONNECTED}:
                steps.append(Unlock())
        return self._clean_up(Phase.REFUSED, *steps, Close())

    def _undo(self, failure: Failure) -> Sequence[Effect]:
        """After the commit: the sooner the device is old again, the better; over a session that works."""
        self.failure = failure
        self._decision = False
        if failure.kind == "transport":
            return self._settle()
        return self._do(Cancel(self.persist_id))

    def _decided(self, *, is_kept: bool) -> Sequence[Effect]:
        if not self.is_waiting:
            if not is_kept:
                return self._cancel_requested()
            return ()
        self._decision = is_kept
        if is_kept:
            return self._do(Confirm(self.persist_id))
        return self._undo(self.failure or _CANCELLED)

    def _cancel_requested(self, why: str = _CANCELLED.message) -> Sequence[Effect]:
        if self.phase in ENDS or self._decision is True or self._end is not None:
            return ()
        self._is_cancel_wanted = True
        if not self.is_begun:
            self.failure = dataclasses.replace(_CANCELLED, message=why)
            return self._finish(Phase.SKIPPED)
        if self._retry_at_ms is not None and not self._is_settling:
            self._retry_at_ms = None
            return self._give_up(_CANCELLED)
        return self._undo(_CANCELLED) if self.is_waiting else ()

    def _clean_up(self, end: Phase, *steps: Effect) -> Sequence[Effect]:
        self._end = end
        if end in {Phase.CONFIRMED, Phase.ROLLED_BACK, Phase.UNCHANGED, Phase.REFUSED}:
            self.undoes_itself_by_ms = None
        return self._do(*steps)

    def _finish(self, end: Phase) -> Sequence[Effect]:
        self.phase = end
        return ()

    # Telling the decision to a device whose session was lost --------------------------------------------------------------

    def _settle(self) -> Sequence[Effect]:
        self._is_settling, self._is_sure = True, False
        return self._do(Close(), Connect(), Inspect())

    def _settling(self, done: Effect, answer: Answer) -> Sequence[Effect]:
        match done:
            case Inspect():
                assert isinstance(answer, Seen)
                if answer.pending == self.persist_id:
                    return self._do(Confirm(self.persist_id) if self._decision else Cancel(self.persist_id))
                if not self._decision and not self._is_sure and answer.digest != self.plan.target_digest:
                    # A commit that left before its session was lost may still be under way.  That session holds the lock
                    # until the device has done with it.
                    return self._do(Lock(), Inspect())
                # Nothing of ours waits any more: what runs now is what stays.
                if answer.digest == self.plan.target_digest and answer.digest != self.plan.base_digest:
                    return self._clean_up(Phase.CONFIRMED, Close())
                if self.failure is None and self._decision:
                    self.failure = Failure(kind="verify", message=f"{self.plan.device} undid the change before it could be confirmed")
                return self._clean_up(Phase.ROLLED_BACK, Close())
            case Lock():
                self._is_sure = True
                return self._next()
            case Confirm():
                self.failure = None
                return self._clean_up(Phase.CONFIRMED, Close())
            case Cancel():
                return self._clean_up(Phase.ROLLED_BACK, Close())
            case _:
                return self._next()

    def _unsettled(self, failed: Effect, failure: Failure, now_ms: int) -> Sequence[Effect]:
        if isinstance(failed, Close):
            return self._next()
        deadline_ms = (self.undoes_itself_by_ms or now_ms) + GRACE_MS
        if isinstance(failed, Lock) and failure.tag == "lock-denied":
            if now_ms < deadline_ms:
                self._retry_at_ms = min(now_ms + RETRY_MS, deadline_ms)
                return ()
            self._is_sure = True  # whoever holds it: what was not confirmed by now is undone
            return self._do(Inspect())
        self.failure = self.failure or failure
        if now_ms >= deadline_ms or (failure.kind == "transport" and not failure.is_retryable):
            self.failure = dataclasses.replace(
                failure, message=f"{self.failure.message}; then: {failure.message}" if self.failure is not failure else failure.message
            )
            return self._clean_up(Phase.IN_DOUBT, Close())
        self._retry_at_ms = min(now_ms + RETRY_MS, deadline_ms)
        return ()


def _short(digest: str) -> str:
    """`sha256:` and twelve digits are enough to tell two apart."""
    return digest[:19]
