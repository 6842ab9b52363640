from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from igmpconf.agent.datastore import RETRY_MS, Datastore
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
    ReplaceEngineConfig,
    Reply,
    SessionEnded,
    Settled,
    Started,
    TimePassed,
    UnlockAsked,
    WriteJournal,
)
from igmpconf.agent.image import HISTORY_LENGTH, Image, PendingCommit
from igmpconf.ids import PersistId, SessionId
from igmpconf.model.config import DeviceConfig, LoggingConfig
from igmpconf.netconf.messages import RpcError

A, B = SessionId(1), SessionId(2)
OLD = DeviceConfig()


def config(size: int) -> DeviceConfig:
    return DeviceConfig(logging=LoggingConfig(size=size))


@dataclass
class Device:
    """The world around a datastore: a disk and an engine that do what they are told, or refuse when told to."""

    store: Datastore
    disk: Image
    engine: DeviceConfig | None = None
    now_ms: int = 0
    refuse: list[str] = field(default_factory=list)  # what fails next: "journal" or "engine", in the order of the effects
    effects: list[str] = field(default_factory=list)
    replies: list[RpcError | None] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @classmethod
    def started(cls, image: Image | None = None) -> Device:
        device = cls(Datastore(image or Image(running=OLD)), image or Image(running=OLD))
        device.take(Started())
        device.effects.clear()
        return device

    def take(self, event: Event) -> None:
        outstanding = self.perform(self.store.handle(event, self.now_ms))
        while outstanding is not None:
            outstanding = self.perform(self.store.handle(outstanding, self.now_ms))

    def perform(self, effects: Sequence[Effect]) -> Event | None:
        outcome: Event | None = None
        for effect in effects:
            match effect:
                case WriteJournal(image):
                    assert outcome is None, "two effects outstanding"
                    if self.fails("journal"):
                        outcome = JournalFailed("no space left on device")
                    else:
                        self.disk, outcome = image, JournalWritten("2026-01-01T00:00:00Z")
                case ReplaceEngineConfig(wanted):
                    assert outcome is None, "two effects outstanding"
                    if self.fails("engine"):
                        outcome = EngineRefused("refused", "try something else")
                    else:
                        self.engine, outcome = wanted, EngineReplaced()
                case Reply(_, error):
                    self.replies.append(error)
                case Note():
                    self.notes.append(effect)
            if not isinstance(effect, Note | Settled):
                self.effects.append(type(effect).__name__)
        return outcome

    def fails(self, what: str) -> bool:
        if self.refuse and self.refuse[0] in {what, f"not {what}"}:
            return self.refuse.pop(0) == what
        return False

    def ask(self, event: Any) -> str:
        """`ok`, or the error-tag."""
        self.take(event)
        error = self.replies.pop()
        assert not self.replies
        return "ok" if error is None else error.tag

    def edit(self, wanted: DeviceConfig, session: SessionId = A) -> str:
        return self.ask(CandidateEdited(token=0, session=session, base=self.store.candidate, config=wanted))

    def commit(self, session: SessionId = A, **given: Any) -> str:
        return self.ask(CommitAsked(token=0, session=session, candidate=self.store.candidate, **given))

    def confirmed(self, session: SessionId = A, timeout_s: int = 10, **given: Any) -> str:
        return self.commit(session, is_confirmed=True, confirm_timeout_s=timeout_s, **given)

    def pass_time(self, to_ms: int) -> None:
        self.now_ms = to_ms
        self.take(TimePassed())

    def restarted(self) -> Device:
        device = Device(Datastore(self.disk), self.disk, now_ms=self.now_ms)
        device.take(Started())
        return device

    @property
    def events(self) -> list[str]:
        return [row.event for row in self.store.history]

    def is_settled_on(self, wanted: DeviceConfig) -> bool:
        return self.store.running == wanted == self.engine == self.disk.running and self.disk.pending is None


@pytest.fixture
def device() -> Device:
    return Device.started()


def test_start_puts_the_running_configuration_in_force():
    device = Device.started(Image(running=config(11)))
    assert device.engine == config(11)


def test_commit_is_journal_then_engine_then_journal_then_reply(device):
    device.edit(config(11))
    device.effects.clear()
    assert device.commit(user="anna", plan="p1", comment="why") == "ok"
    assert device.effects == ["WriteJournal", "ReplaceEngineConfig", "WriteJournal", "Reply"]
    assert device.is_settled_on(config(11))
    (row,) = device.disk.history
    assert (row.number, row.user, row.plan, row.comment, row.event, row.config) == (1, "anna", "p1", "why", "commit", config(11))
    assert row.diff == "+ logging/size 11"
    assert device.store.history[0].time == "2026-01-01T00:00:00Z"


def test_what_undoes_the_change_is_on_the_disk_before_the_engine_is_told(device):
    device.edit(config(11))
    (effect,) = device.store.handle(CommitAsked(token=1, session=A, candidate=config(11)), 0)
    assert isinstance(effect, WriteJournal)
    assert effect.image.pending == PendingCommit(rollback=OLD)
    device.disk = effect.image
    assert device.restarted().is_settled_on(OLD)


def test_nc_099_a_commit_that_changes_nothing_does_nothing(device):
    assert device.commit() == "ok"
    assert device.effects == ["Reply"]
    assert device.events == []


def test_nc_088_commit_is_refused_while_another_session_holds_a_lock(device):
    for target in ("running", "candidate"):
        assert device.ask(LockAsked(token=0, session=B, target=target)) == "ok"
        assert device.commit() == "in-use"
        assert device.ask(UnlockAsked(token=0, session=B, target=target)) == "ok"
    assert device.commit() == "ok"


def test_nc_098_discard_needs_the_lock_if_there_is_one(device):
    device.edit(config(11))
    assert device.ask(DiscardAsked(token=0, session=A)) == "ok"
    assert device.store.candidate == OLD
    device.ask(LockAsked(token=0, session=B, target="candidate"))
    assert device.ask(DiscardAsked(token=0, session=A)) == "in-use"
    assert device.edit(config(12)) == "in-use"


def test_nc_111_second_lock_is_denied_and_names_the_holder(device):
    device.ask(LockAsked(token=0, session=A, target="candidate"))
    for session in (A, B):
        device.take(LockAsked(token=0, session=session, target="candidate"))
        error = device.replies.pop()
        assert error is not None
        assert (error.tag, error.info) == ("lock-denied", (("session-id", "1"),))


def test_nc_112_a_modified_candidate_cannot_be_locked(device):
    device.edit(config(11))
    assert device.ask(LockAsked(token=0, session=A, target="candidate")) == "lock-denied"
    device.edit(OLD)  # taken back by hand
    assert device.ask(LockAsked(token=0, session=A, target="candidate")) == "ok"


def test_nc_113_running_cannot_be_locked_while_a_confirmed_commit_of_another_waits(device):
    device.edit(config(11))
    device.confirmed()
    assert device.ask(LockAsked(token=0, session=B, target="running")) == "lock-denied"
    assert device.ask(LockAsked(token=0, session=A, target="running")) == "ok"


@pytest.mark.parametrize("end", [UnlockAsked(token=0, session=A, target="candidate"), SessionEnded(A)])
def test_nc_115_releasing_the_candidate_lock_discards_its_changes(device, end):
    device.ask(LockAsked(token=0, session=A, target="candidate"))
    device.edit(config(11))
    device.take(end)
    assert device.store.candidate == OLD
    assert device.store.locks == {}


def test_changes_made_without_a_lock_outlive_their_session(device):
    device.edit(config(11))
    device.take(SessionEnded(A))
    assert device.store.candidate == config(11)


def test_nc_116_unlock_of_what_one_does_not_hold(device):
    assert device.ask(UnlockAsked(token=0, session=A, target="running")) == "operation-failed"
    device.ask(LockAsked(token=0, session=B, target="running"))
    assert device.ask(UnlockAsked(token=0, session=A, target="running")) == "operation-failed"
    assert device.store.locks == {"running": B}


def test_an_edit_of_an_outdated_candidate_is_refused(device):
    device.edit(config(11))
    assert device.ask(CandidateEdited(token=0, session=B, base=OLD, config=config(12))) == "in-use"
    assert device.ask(CommitAsked(token=0, session=B, candidate=OLD)) == "in-use"


# confirmed commit


def test_confirmed_commit_answers_when_in_force_and_counts_from_then(device):
    device.edit(config(11))
    device.effects.clear()
    assert device.confirmed() == "ok"
    assert device.effects == ["WriteJournal", "ReplaceEngineConfig", "Reply"]
    assert device.engine == config(11)
    assert device.disk.pending == PendingCommit(rollback=OLD)
    assert device.store.next_deadline_ms() == 10_000
    assert device.store.pending(1) == (None, 10)


def test_nc_121_timeout_rolls_back_on_the_millisecond(device):
    device.edit(config(11))
    device.confirmed()
    device.pass_time(9_999)
    assert device.engine == config(11)
    device.pass_time(10_000)
    assert device.is_settled_on(OLD)
    assert device.events == ["confirmed", "rollback-timeout"]
    assert device.store.next_deadline_ms() is None


def test_nc_122_the_confirming_commit_stays_and_disarms(device):
    device.edit(config(11))
    device.confirmed()
    device.effects.clear()
    assert device.commit() == "ok"
    assert device.effects == ["WriteJournal", "Reply"]  # the engine is not touched
    device.pass_time(10**9)
    assert device.is_settled_on(config(11))
    assert device.events == ["confirmed", "confirm"]


def test_nc_122_the_confirming_commit_may_carry_more(device):
    device.edit(config(11))
    device.confirmed()
    device.edit(config(12))
    assert device.commit() == "ok"
    assert device.is_settled_on(config(12))


def test_nc_123_a_follow_up_keeps_the_first_rollback_image_and_its_own_timeout(device):
    device.edit(config(11))
    device.confirmed(timeout_s=10)
    device.now_ms = 5_000
    device.edit(config(12))
    device.confirmed(timeout_s=20)
    device.pass_time(24_999)
    assert device.engine == config(12)
    device.pass_time(25_000)
    assert device.is_settled_on(OLD)


def test_nc_124_without_persist_only_the_same_session_may_follow_up(device):
    device.edit(config(11))
    device.confirmed()
    assert device.commit(B) == "in-use"
    assert device.ask(CancelAsked(token=0, session=B)) == "operation-failed"
    assert device.commit(A) == "ok"


def test_nc_125_losing_the_session_reverts_at_once(device):
    device.edit(config(11))
    device.confirmed()
    device.take(SessionEnded(A))
    assert device.is_settled_on(OLD)
    assert device.events[-1] == "rollback-session"


def test_nc_126_persist_outlives_the_session_and_needs_its_token(device):
    device.edit(config(11))
    device.confirmed(persist=PersistId("x"))
    device.take(SessionEnded(A))
    assert device.engine == config(11)
    assert device.commit(B, persist_id=PersistId("y")) == "invalid-value"
    assert device.commit(B) == "in-use"
    assert device.commit(B, persist_id=PersistId("x")) == "ok"
    assert device.is_settled_on(config(11))


def test_nc_126_a_follow_up_with_the_token_stays_persistent(device):
    device.edit(config(11))
    device.confirmed(persist=PersistId("x"))
    assert device.confirmed(B, timeout_s=60, persist_id=PersistId("x")) == "ok"
    device.take(SessionEnded(B))
    assert device.engine == config(11)
    assert device.confirmed(B, persist_id=PersistId("x"), persist=PersistId("z")) == "ok"
    assert device.commit(B, persist_id=PersistId("x")) == "invalid-value"
    assert device.commit(B, persist_id=PersistId("z")) == "ok"


def test_nc_127_a_token_without_a_persistent_commit(device):
    assert device.commit(persist_id=PersistId("x")) == "invalid-value"
    device.edit(config(11))
    device.confirmed()
    assert device.commit(persist_id=PersistId("x")) == "invalid-value"


def test_nc_128_cancel(device):
    assert device.ask(CancelAsked(token=0, session=A)) == "operation-failed"
    device.edit(config(11))
    device.confirmed()
    assert device.ask(CancelAsked(token=0, session=A, persist_id=PersistId("x"))) == "invalid-value"
    assert device.ask(CancelAsked(token=0, session=A, user="anna")) == "ok"
    assert device.is_settled_on(OLD)
    assert (device.store.history[-1].event, device.store.history[-1].user) == ("rollback-cancel", "anna")
    device.edit(config(12))
    device.confirmed(persist=PersistId("x"))
    assert device.ask(CancelAsked(token=0, session=A)) == "invalid-value"
    assert device.ask(CancelAsked(token=0, session=B, persist_id=PersistId("x"))) == "ok"


@pytest.mark.parametrize("persist", [None, PersistId("x")])
def test_nc_130_restart_reverts_also_with_persist(device, persist):
    device.edit(config(11))
    device.confirmed(persist=persist)
    device.edit(config(12))
    device.confirmed(persist_id=persist)
    again = device.restarted()
    assert again.is_settled_on(OLD)
    assert again.events == ["confirmed", "confirmed", "rollback-restart"]
    assert again.restarted().events == again.events  # once is enough


def test_nc_131_an_untouched_candidate_follows_running_and_edits_stay(device):
    device.edit(config(11))
    device.confirmed()
    device.pass_time(10_000)
    assert device.store.candidate == OLD
    device.edit(config(11))
    device.confirmed()
    device.edit(config(13))
    device.pass_time(30_000)
    assert (device.store.running, device.store.candidate) == (OLD, config(13))


def test_a_confirmed_commit_without_change_is_armed_and_undone(device):
    assert device.confirmed() == "ok"
    assert device.store.next_deadline_ms() == 10_000
    device.effects.clear()
    device.pass_time(10_000)
    assert "ReplaceEngineConfig" not in device.effects
    assert device.is_settled_on(OLD)


# refusals


def test_a_full_disk_refuses_the_commit_before_anything_happens(device):
    device.edit(config(11))
    device.refuse = ["journal"]
    assert device.commit() == "operation-failed"
    assert device.is_settled_on(OLD)
    assert device.store.candidate == config(11)
    assert device.commit() == "ok"


def test_nc_087_a_refusing_engine_leaves_everything_as_it_was(device):
    device.edit(config(11))
    device.refuse = ["engine"]
    device.take(CommitAsked(token=0, session=A, candidate=config(11)))
    error = device.replies.pop()
    assert error is not None
    assert (error.type, error.tag, error.app_tag) == ("application", "operation-failed", "kernel-refused")
    assert error.message == "refused; try something else"
    assert device.is_settled_on(OLD)
    assert device.events == []


def test_a_failed_confirmed_commit_arms_no_timer(device):
    device.edit(config(11))
    for refusal in ("journal", "engine"):
        device.refuse = [refusal]
        assert device.confirmed() == "operation-failed"
        assert device.store.next_deadline_ms() is None
        assert device.disk.pending is None


def test_a_failed_follow_up_keeps_the_deadline_and_the_image_of_the_first(device):
    device.edit(config(11))
    device.confirmed(timeout_s=10)
    device.edit(config(12))
    device.refuse = ["engine"]
    device.now_ms = 4_000
    assert device.confirmed(timeout_s=100) == "operation-failed"
    assert device.store.next_deadline_ms() == 10_000
    assert device.disk.pending == PendingCommit(rollback=OLD)
    assert device.disk.running == config(11) == device.engine
    device.pass_time(10_000)
    assert device.engine == OLD


def test_a_disk_that_fills_up_in_the_middle_undoes_the_engine(device):
    device.edit(config(11))
    device.refuse = ["not journal", "journal"]
    assert device.commit() == "operation-failed"
    assert device.is_settled_on(OLD)
    assert device.events == []


def test_a_disk_that_stays_full_still_leads_a_restart_to_the_old_configuration(device):
    device.edit(config(11))
    device.refuse = ["not journal", "journal", "journal"]
    assert device.commit() == "operation-failed"
    assert device.store.running == OLD == device.engine
    assert device.restarted().is_settled_on(OLD)


def test_an_engine_that_can_go_neither_way_is_said_as_rollback_failed(device):
    device.edit(config(11))
    device.refuse = ["not journal", "not engine", "journal", "engine"]
    assert device.commit() == "rollback-failed"
    assert device.restarted().is_settled_on(OLD)


def test_a_rollback_that_the_kernel_refuses_is_tried_again_and_nothing_overtakes_it(device):
    device.edit(config(11))
    device.confirmed()
    device.refuse = ["engine"]
    device.pass_time(10_000)
    assert device.engine == config(11)
    assert device.commit() == "in-use"
    assert device.store.next_deadline_ms() == 10_000 + RETRY_MS
    device.pass_time(10_000 + RETRY_MS)
    assert device.is_settled_on(OLD)


def test_a_rollback_happens_even_if_the_disk_is_full(device):
    device.edit(config(11))
    device.confirmed()
    device.refuse = ["journal"]
    device.pass_time(10_000)
    assert device.store.running == OLD == device.engine
    assert device.restarted().is_settled_on(OLD)
    device.edit(config(12))
    assert device.commit() == "ok"
    assert [row.event for row in device.disk.history] == ["confirmed", "rollback-timeout", "commit"]


def test_a_configuration_refused_at_start_is_tried_again():
    device = Device(Datastore(Image(running=config(11))), Image(running=config(11)))
    device.refuse = ["engine"]
    device.take(Started())
    assert device.engine is None
    assert device.store.next_deadline_ms() == RETRY_MS
    device.pass_time(RETRY_MS)
    assert device.engine == config(11)
    assert device.store.next_deadline_ms() is None


def test_a_commit_without_change_tries_what_was_refused_at_start():
    device = Device(Datastore(Image(running=config(11))), Image(running=config(11)))
    device.refuse = ["engine", "engine"]
    device.take(Started())
    assert device.commit() == "operation-failed"
    assert device.commit() == "ok"
    assert device.is_settled_on(config(11))


# order, repetition, history


def test_requests_wait_for_the_transaction_that_runs(device):
    device.edit(config(11))
    (write,) = device.store.handle(CommitAsked(token=1, session=A, candidate=config(11)), 0)
    assert device.store.handle(LockAsked(token=2, session=B, target="running"), 0) == []
    assert device.store.handle(SessionEnded(A), 0) == []
    assert isinstance(write, WriteJournal)
    (replace,) = device.store.handle(JournalWritten("t"), 0)
    assert isinstance(replace, ReplaceEngineConfig)
    (settle,) = device.store.handle(EngineReplaced(), 0)
    assert isinstance(settle, WriteJournal)
    effects = [effect for effect in device.store.handle(JournalWritten("t"), 0) if isinstance(effect, Reply)]
    assert effects == [Reply(1), Reply(2)]
    assert device.store.locks == {"running": B}


def test_a_session_that_ends_during_its_confirmed_commit_is_reverted(device):
    device.edit(config(11))
    (write,) = device.store.handle(CommitAsked(token=1, session=A, candidate=config(11), is_confirmed=True), 0)
    device.store.handle(SessionEnded(A), 0)
    outcome = device.perform([write])
    while outcome is not None:
        outcome = device.perform(device.store.handle(outcome, 0))
    assert device.is_settled_on(OLD)


def test_the_same_plan_again_is_answered_without_action(device):
    device.edit(config(11))
    device.commit(plan="p1")
    device.edit(config(11))
    device.effects.clear()
    assert device.commit(plan="p1") == "ok"
    assert device.effects == ["Reply"]
    assert device.store.running == config(11) == device.store.candidate
    assert device.events == ["commit"]


def test_other_edits_under_the_name_of_the_last_plan_are_not_thrown_away(device):
    device.edit(config(11))
    device.commit(plan="p1")
    device.edit(config(12))
    assert device.commit(plan="p1") == "ok"
    assert device.is_settled_on(config(12))


def test_a_confirmation_whose_reply_was_lost_can_be_repeated_with_its_plan(device):
    device.edit(config(11))
    device.confirmed(plan="p1", persist=PersistId("x"))
    assert device.commit(B, persist_id=PersistId("x"), plan="p1") == "ok"
    assert device.commit(B, persist_id=PersistId("x"), plan="p1") == "ok"
    assert device.events == ["confirmed", "confirm"]


def test_a_plan_that_was_rolled_back_is_not_taken_for_applied(device):
    device.edit(config(11))
    device.confirmed(plan="p1")
    device.pass_time(10_000)
    device.edit(config(11))
    assert device.commit(plan="p1") == "ok"
    assert device.is_settled_on(config(11))


def test_history_keeps_the_last_fifty(device):
    for number in range(HISTORY_LENGTH + 5):
        device.edit(config(20 + number))
        device.commit()
    assert [row.number for row in device.store.history] == list(range(6, HISTORY_LENGTH + 6))
