"""Running and candidate configuration, locks, commits: the transaction side of the device as a pure machine.

    request ─> WriteJournal ─> ReplaceEngineConfig ─> WriteJournal ─> Reply
                (what undoes        (in force)         (settled)
                 the change)

One transaction runs at a time and one effect of it is outstanding; requests that arrive meanwhile wait in order.
The first write makes the journal say "new, and undo it at restart"; the last one takes the second half back, or is
left out for a confirmed commit, which *is* a change that waits to be undone.  So whoever reads the journal after a
crash needs one rule only: a pending change is rolled back.

    plain commit            write(pending) -> replace -> write(settled) -> reply
    confirmed commit        write(pending) -> replace -> deadline set  -> reply
    confirm without change  write(settled) -> reply
    rollback                replace(rollback image) -> write(settled) -> reply, if anyone asked

A refusal anywhere leads back to where the transaction began: the engine gets the old configuration, the journal its
old content, and a deadline that was running keeps running.  This file does not know XML, files or clocks.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never, get_args

from igmpconf.agent.changes import change_lines
from igmpconf.agent.events import (
    CancelAsked,
    CandidateEdited,
    CommitAsked,
    DiscardAsked,
    Effect,
    EngineRefused,
    EngineReplaced,
    Event,
    JournalFailed,
    JournalWritten,
    LockAsked,
    Note,
    Outcome,
    Question,
    ReplaceEngineConfig,
    Reply,
    SessionEnded,
    Settled,
    Started,
    Target,
    TimePassed,
    UnlockAsked,
    WriteJournal,
)
from igmpconf.agent.image import HISTORY_LENGTH, CommitRecord, Image, PendingCommit
from igmpconf.ids import PersistId, SessionId
from igmpconf.model.canon import digest
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.messages import RpcError

Stop = Literal["rollback-timeout", "rollback-cancel", "rollback-session", "rollback-restart"]

OVERTAKEN = "candidate-changed"  # app-tag: what was asked was made from a candidate that is no more; asking anew may succeed
RETRY_MS = 5_000  # ours: what the kernel refused is tried again

Step = Literal["announce", "replace", "settle", "undo-engine", "undo-journal"]


@dataclass(slots=True, kw_only=True)
class _Transaction:
    """From the first effect of a commit or rollback to its reply."""

    step: Step
    event: str
    config: DeviceConfig  # what is to be in force
    record: CommitRecord | None
    pending: _Deadline | None  # what is pending once it has succeeded
    token: int | None = None
    session: SessionId | None = None
    user: str | None = None
    error: RpcError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deadline:
    """A pending confirmed commit in force; the deadline is set when it came into force, never before."""

    commit: PendingCommit
    timeout_s: int
    owner: SessionId | None  # None: its session is gone and a token keeps it
    until_ms: int | None = None
    plan: str | None = None
    user: str | None = None
    session: SessionId | None = None  # who asked for it, also when it is gone


class Datastore:
    """The machine; `image` and the properties are what readers may see between events."""

    def __init__(self, image: Image) -> None:
        self._running = image.running
        self._history = image.history
        self._found = image.pending  # only until Started
        self._undone: DeviceConfig | None = None  # what a restart rolled back, until those who watch are told
        self._candidate: DeviceConfig | None = None  # None: equal to running, and follows it
        self._locks: dict[Target, SessionId] = {}
        self._deadline: _Deadline | None = None
        self._retry_at_ms: int | None = None
        self._due: Stop | Literal["start"] | None = None  # what has to happen and has not yet; retried when the engine refuses
        self._doing: _Transaction | None = None
        self._waiting: deque[Question | SessionEnded] = deque()
        self._is_started = False

    # what readers see

    @property
    def running(self) -> DeviceConfig:
        return self._running

    @property
    def candidate(self) -> DeviceConfig:
        return self._running if self._candidate is None else self._candidate

    @property
    def history(self) -> tuple[CommitRecord, ...]:
        return self._history

    @property
    def locks(self) -> dict[Target, SessionId]:
        return dict(self._locks)

    @property
    def is_idle(self) -> bool:
        """No effect is outstanding."""
        return self._doing is None

    def pending(self, now_ms: int) -> tuple[PersistId | None, int] | None:
        """Token and remaining seconds of the confirmed commit that waits, or None."""
        if self._deadline is None or self._deadline.until_ms is None:
            return None
        return self._deadline.commit.persist_id, max(0, -((now_ms - self._deadline.until_ms) // 1000))

    def refusal_to_edit(self, session: SessionId, target: Target = "candidate") -> RpcError | None:
        """Why `session` may not write `target` now (RFC 6241 7.5), or None."""
        holder = self._locks.get(target)
        if holder is None or holder == session:
            return None
        return RpcError("protocol", "in-use", message=f"{target} is locked by session {holder}")

    # the machine

    def next_deadline_ms(self) -> int | None:
        if self._doing is not None:
            return None  # the outcome comes first
        if self._due is not None:
            return self._retry_at_ms
        return self._deadline.until_ms if self._deadline is not None else None

    def handle(self, event: Event, now_ms: int) -> Sequence[Effect]:
        """Take one event; outcomes must be those of the one WriteJournal or ReplaceEngineConfig returned last."""
        match event:
            case JournalWritten() | JournalFailed() | EngineReplaced() | EngineRefused():
                effects = self._outcome(event, now_ms)
            case TimePassed():
                effects = []
            case Started():
                effects = self._start()
            case _:
                self._waiting.append(event)
                effects = []
        while self._doing is None and (more := self._next(now_ms)) is not None:
            effects += more
        return effects

    def _next(self, now_ms: int) -> list[Effect] | None:
        """The next thing to do while nothing is outstanding, or None when there is none."""
        if not self._is_started:
            return None
        if self._due is None and self._deadline is not None and self._deadline.until_ms is not None and self._deadline.until_ms <= now_ms:
            self._due = "rollback-timeout"
        if self._due is not None and (self._retry_at_ms is None or self._retry_at_ms <= now_ms):
            return self._enter_force() if self._due == "start" else self._roll_back(self._due)
        if not self._waiting:
            return None
        event = self._waiting.popleft()
        match event:
            case LockAsked():
                return [Reply(event.token, self._lock(event))]
            case UnlockAsked():
                return [Reply(event.token, self._unlock(event))]
            case CandidateEdited():
                return [Reply(event.token, self._edit(event))]
            case DiscardAsked():
                error = self.refusal_to_edit(event.session)
                if error is None:
                    self._candidate = None
                return [Reply(event.token, error)]
            case CommitAsked():
                return self._commit(event)
            case CancelAsked():
                return self._cancel(event)
            case SessionEnded():
                return self._end(event.session)
            case _:
                assert_never(event)

    # locks (RFC 6241 7.5, 7.6)

    def _lock(self, event: LockAsked) -> RpcError | None:
        holder = self._locks.get(event.target)
        if holder is not None:
            return _lock_denied(holder, f"{event.target} is already locked by session {holder}")
        if event.target == "candidate" and self._candidate is not None:
            return _lock_denied(0, "candidate has changes that were not committed; discard-changes first")
        if event.target == "running" and self._deadline is not None and self._deadline.owner != event.session:
            return _lock_denied(self._deadline.owner or 0, "a confirmed commit of another session waits for its confirmation")
        self._locks[event.target] = event.session
        return None

    def _unlock(self, event: UnlockAsked) -> RpcError | None:
        holder = self._locks.get(event.target)
        if holder != event.session:
            reason = f"session {holder} holds the lock" if holder is not None else "it is not locked"
            return RpcError("protocol", "operation-failed", message=f"cannot unlock {event.target}: {reason}")
        self._release(event.target)
        return None

    def _release(self, target: Target) -> None:
        del self._locks[target]
        if target == "candidate":
            self._candidate = None  # RFC 6241 8.3.5.2

    def _end(self, session: SessionId) -> list[Effect]:
        for target in [target for target, holder in self._locks.items() if holder == session]:
            self._release(target)
        if self._deadline is not None and self._deadline.owner == session:
            if self._deadline.commit.persist_id is None:
                self._due = "rollback-session"  # RFC 6241 8.4.1; done by the next turn of the loop
            else:
                self._deadline = dataclasses.replace(self._deadline, owner=None)
        return []

    # candidate

    def _edit(self, event: CandidateEdited) -> RpcError | None:
        error = self.refusal_to_edit(event.session)
        if error is not None:
            return error
        if event.base != self.candidate:
            return _overtaken()
        self._candidate = None if event.config == self._running else event.config
        return None

    # commit, confirm, cancel (RFC 6241 8.3.4, 8.4)

    def _commit(self, event: CommitAsked) -> list[Effect]:
        if self._is_repeated(event):
            return [Note("info", "commit-repeated", (("plan", event.plan or ""),)), Reply(event.token)]
        error = self._refusal_to_commit(event)
        if error is not None:
            return [Reply(event.token, error)]
        before, wanted = self._running, event.candidate
        is_in_force = wanted == before and self._due != "start"
        if is_in_force and self._deadline is None and not event.is_confirmed:
            return [Reply(event.token)]  # changes nothing, so it is not an event either
        pending: _Deadline | None = None
        if event.is_confirmed:
            earlier = self._deadline.commit if self._deadline is not None else None
            # A follow-up that repeats the token without a new <persist> stays persistent under the old one.
            persist_id = event.persist or (earlier.persist_id if earlier is not None else None)
            pending = _Deadline(
                commit=PendingCommit(rollback=earlier.rollback if earlier is not None else before, persist_id=persist_id),
                timeout_s=event.confirm_timeout_s,
                owner=event.session,
                plan=event.plan,
                user=event.user,
                session=event.session,
            )
        kind = "confirmed" if event.is_confirmed else "confirm" if self._deadline is not None else "commit"
        plan = event.plan or (self._deadline.plan if self._deadline is not None else None)
        record = self._record(kind, wanted, user=event.user, plan=plan, comment=event.comment)
        # Without a change nothing has to be undone: the one write is the whole transaction.
        step: Step = "settle" if is_in_force else "announce"
        self._doing = _Transaction(
            step=step, event=kind, config=wanted, record=record, pending=pending, token=event.token, session=event.session, user=event.user
        )
        return [WriteJournal(self._announced() if step == "announce" else self._settled())]

    def _is_repeated(self, event: CommitAsked) -> bool:
        """The reply to the last commit got lost and the same plan is committed again.

        Whoever repeats a plan repeats its edits, so candidate is running; other edits under an old name are a commit.
        """
        if event.plan is None or self._deadline is not None or not self._history or self._candidate is not None:
            return False
        last = self._history[-1]
        return last.plan == event.plan and last.event in {"commit", "confirm"} and last.config == self._running

    def _refusal_to_commit(self, event: CommitAsked) -> RpcError | None:
        targets: tuple[Target, ...] = ("running", "candidate")
        for target in targets:
            error = self.refusal_to_edit(event.session, target)
            if error is not None:
                return error
        if self._due is not None and self._due != "start":
            return RpcError("protocol", "in-use", message="the last confirmed commit is being rolled back; the kernel refused it so far, it is tried again")
        if event.candidate != self.candidate:
            return _overtaken()
        token = self._deadline.commit.persist_id if self._deadline is not None else None
        if event.persist_id is not None and event.persist_id != token:
            waiting = "another persist id waits" if token is not None else "no persistent confirmed commit waits"
            return RpcError("protocol", "invalid-value", message=f"persist-id {event.persist_id!r} does not match: {waiting}")
        if self._deadline is None or event.persist_id is not None:
            return None
        if token is not None:
            return RpcError("protocol", "in-use", message="a persistent confirmed commit waits; give its persist-id, or cancel it")
        if self._deadline.owner != event.session:
            return RpcError("protocol", "in-use", message=f"a confirmed commit of session {self._deadline.owner} waits for its confirmation")
        return None

    def _cancel(self, event: CancelAsked) -> list[Effect]:
        if self._deadline is None:
            error = RpcError("protocol", "operation-failed", message="no confirmed commit waits for its confirmation")
        elif event.persist_id != self._deadline.commit.persist_id:
            error = RpcError("protocol", "invalid-value", message="persist-id does not match the confirmed commit that waits")
        elif event.persist_id is None and self._deadline.owner != event.session:
            error = RpcError("protocol", "operation-failed", message=f"only session {self._deadline.owner} may cancel its confirmed commit")
        else:
            return self._roll_back("rollback-cancel", token=event.token, user=event.user, session=event.session)
        return [Reply(event.token, error)]

    def _roll_back(self, stop: Stop, *, token: int | None = None, user: str | None = None, session: SessionId | None = None) -> list[Effect]:
        assert self._deadline is not None
        self._retry_at_ms = None
        wanted = self._deadline.commit.rollback
        record = self._record(stop, wanted, user=user, plan=self._deadline.plan, comment=None)
        changes = wanted != self._running
        self._doing = _Transaction(
            step="replace" if changes else "settle",
            event=stop,
            config=wanted,
            record=record,
            pending=None,
            token=token,
            session=session if session is not None else self._deadline.session,
            user=user if user is not None else self._deadline.user,
        )
        return [ReplaceEngineConfig(wanted) if changes else WriteJournal(self._settled())]

    # the steps of a transaction

    def _start(self) -> list[Effect]:
        self._is_started = True
        if self._found is not None:
            rollback = self._found.rollback
            record = self._record("rollback-restart", rollback, user=None, plan=None, comment=None)
            self._undone = self._running
            self._running, self._history = rollback, self._with(record)
        return self._enter_force()

    def _enter_force(self) -> list[Effect]:
        self._due = self._retry_at_ms = None
        self._doing = _Transaction(step="replace", event="start", config=self._running, record=None, pending=None)
        return [ReplaceEngineConfig(self._running)]

    def _outcome(self, event: Outcome, now_ms: int) -> list[Effect]:
        doing = self._doing
        assert doing is not None, "an outcome without an effect"
        match doing.step, event:
            case "announce", JournalWritten(time):
                self._stamp(doing, time)
                doing.step = "replace"
                return [ReplaceEngineConfig(doing.config)]
            case "announce", JournalFailed(message):
                doing.error = _journal_error(message)
                return self._finish_failed()
            case "replace", EngineReplaced():
                if doing.pending is not None or (doing.event == "start" and self._found is None):
                    return self._finish(now_ms)  # the announcement already says all that a restart must know
                doing.step = "settle"
                return [WriteJournal(self._settled())]
            case "replace", EngineRefused(message, hint):
                return self._refused(doing, message, hint, now_ms)
            case "settle", JournalWritten(time):
                self._stamp(doing, time)
                return self._finish(now_ms)
            case "settle", JournalFailed(message):
                return self._unsettled(doing, message, now_ms)
            case "undo-engine", EngineReplaced():
                doing.step = "undo-journal"
                return [WriteJournal(self._image())]
            case "undo-engine", EngineRefused(message, hint):
                # The old configuration is what is wanted, by a restart as well; it is tried again until it is to be had.
                doing.error = RpcError("application", "rollback-failed", message=f"{doing.error.message if doing.error else ''}; and {message}")
                self._due, self._retry_at_ms = "start", now_ms + RETRY_MS
                return [Note("error", "undo-failed", (("message", message),)), *self._finish_failed()]
            case "undo-journal", JournalWritten(time):
                self._history = tuple(dataclasses.replace(row, time=row.time or time) for row in self._history)
                return self._finish_failed()
            case "undo-journal", JournalFailed(message):
                # The journal still says "undo at restart", which leads to the same configuration.
                return [Note("warning", "journal-failed", (("message", message),)), *self._finish_failed()]
            case _:
                raise AssertionError(f"{event} in step {doing.step}")

    def _refused(self, doing: _Transaction, message: str, hint: str | None, now_ms: int) -> list[Effect]:
        note = Note("error", "engine-refused", (("event", doing.event), ("message", message)))
        if doing.event == "start":
            # The kernel keeps what it has; the configuration stays wanted.
            self._due, self._retry_at_ms, self._doing = "start", now_ms + RETRY_MS, None
            return [note]
        doing.error = RpcError("application", "operation-failed", app_tag="kernel-refused", message=f"{message}; {hint}" if hint else message)
        if doing.step == "replace" and doing.event.startswith("rollback"):
            self._due, self._retry_at_ms = _stop(doing.event), now_ms + RETRY_MS
            return [note, *self._finish_failed()]
        doing.step = "undo-journal"
        return [note, WriteJournal(self._image())]

    def _unsettled(self, doing: _Transaction, message: str, now_ms: int) -> list[Effect]:
        if doing.event.startswith("rollback") or doing.event == "start":
            # In force already, and a restart would find the pending change and come to the same result.
            return [Note("error", "journal-failed", (("message", message),)), *self._finish(now_ms)]
        doing.error = _journal_error(message)
        if doing.config == self._running:
            return self._finish_failed()
        doing.step = "undo-engine"
        return [ReplaceEngineConfig(self._running)]

    def _finish(self, now_ms: int) -> list[Effect]:
        doing = self._doing
        assert doing is not None
        before, self._running = self._running, doing.config
        if doing.record is not None:
            self._history = self._with(doing.record)
        self._due = self._retry_at_ms = self._found = None
        if doing.event.startswith("rollback"):
            # An untouched candidate is running, before and after; edits made since then stay.
            if self._candidate is not None and self._candidate in (before, self._running):
                self._candidate = None
        else:
            self._candidate = None
        told: list[Effect] = []
        if doing.event != "start":
            pending = doing.pending
            told.append(
                Settled(
                    event=doing.event,
                    before=before,
                    after=self._running,
                    session=doing.session,
                    user=doing.user,
                    timeout_s=pending.timeout_s if pending is not None else None,
                    was_pending=self._deadline is not None,
                )
            )
            self._deadline = dataclasses.replace(pending, until_ms=now_ms + pending.timeout_s * 1000) if pending is not None else None
        elif self._undone is not None:
            before, self._undone = self._undone, None
            told.append(Settled(event="rollback-restart", before=before, after=self._running, session=None, user=None, timeout_s=None, was_pending=True))
        self._doing = None
        fields = (("user", doing.record.user or "-"), ("number", str(doing.record.number))) if doing.record is not None else ()
        note = Note("warning" if doing.event.startswith("rollback") else "info", doing.event, fields)
        return [note, *told, *([Reply(doing.token)] if doing.token is not None else [])]

    def _finish_failed(self) -> list[Effect]:
        doing = self._doing
        assert doing is not None
        self._doing = None
        return [Reply(doing.token, doing.error)] if doing.token is not None else []

    # images

    def _record(self, event: str, config: DeviceConfig, *, user: str | None, plan: str | None, comment: str | None) -> CommitRecord:
        return CommitRecord(
            number=self._history[-1].number + 1 if self._history else 1,
            time=None,
            user=user,
            plan=plan,
            comment=comment,
            event=event,
            digest=self._history[-1].digest if self._history and self._history[-1].kept is config else digest(config),
            diff=change_lines(self._running, config),
            kept=config,
        )

    def _with(self, record: CommitRecord) -> tuple[CommitRecord, ...]:
        return (*self._history, record)[-HISTORY_LENGTH:]

    def _stamp(self, doing: _Transaction, time: str) -> None:
        self._history = tuple(dataclasses.replace(row, time=row.time or time) for row in self._history)
        if doing.record is not None and doing.record.time is None:
            doing.record = dataclasses.replace(doing.record, time=time)

    def _image(self) -> Image:
        """What is so now."""
        return Image(running=self._running, pending=self._deadline.commit if self._deadline is not None else None, history=self._history)

    def _announced(self) -> Image:
        """The transaction's result, to be undone at restart."""
        doing = self._doing
        assert doing is not None
        assert doing.record is not None
        commit = doing.pending.commit if doing.pending is not None else None
        if commit is None:
            commit = PendingCommit(rollback=self._deadline.commit.rollback if self._deadline is not None else self._running)
        return Image(running=doing.config, pending=commit, history=self._with(doing.record))

    def _settled(self) -> Image:
        """The transaction's result, to stay."""
        doing = self._doing
        assert doing is not None
        history = self._with(doing.record) if doing.record is not None else self._history
        return Image(running=doing.config, pending=doing.pending.commit if doing.pending is not None else None, history=history)


def _lock_denied(holder: int, message: str) -> RpcError:
    return RpcError("protocol", "lock-denied", message=message, info=(("session-id", str(holder)),))


def _overtaken() -> RpcError:
    return RpcError("protocol", "in-use", app_tag=OVERTAKEN, message="another session changed the candidate at the same time; repeat the request")


def _journal_error(message: str) -> RpcError:
    return RpcError(
        "application", "operation-failed", app_tag="journal-failed", message=f"the state directory could not be written: {message}; nothing was changed"
    )


def _stop(event: str) -> Stop:
    found: tuple[Stop, ...] = get_args(Stop)
    return found[found.index(event)]
