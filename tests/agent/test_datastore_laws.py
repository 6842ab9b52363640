"""Whatever is asked and whatever refuses, in any order: the laws of the datastore."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from igmpconf.agent.datastore import RETRY_MS
from igmpconf.agent.events import CancelAsked, CommitAsked, DiscardAsked, LockAsked, SessionEnded, UnlockAsked
from igmpconf.ids import PersistId, SessionId
from igmpconf.model.config import DeviceConfig
from tests.agent.test_datastore import OLD, Device, config

SESSIONS = st.sampled_from([SessionId(1), SessionId(2)])
CONFIGS = st.sampled_from([OLD, config(11), config(12), config(13)])
TOKENS = st.sampled_from([None, PersistId("x"), PersistId("y")])
GUESSES = st.sampled_from([None, None, None, PersistId("x")])
TARGETS = st.sampled_from(["running", "candidate"])
# What the world refuses during one transaction: the nth effect, or nothing.
REFUSALS = st.sampled_from([[], [], [], ["journal"], ["engine"], ["not journal", "journal"], ["not journal", "journal", "journal"]])


class Laws(RuleBasedStateMachine):
    """`settled` is what must be running once nothing waits: what was last committed for good."""

    def __init__(self) -> None:
        super().__init__()
        self.device = Device.started()
        self.settled: DeviceConfig = OLD
        self.owner = SessionId(1)

    @property
    def waits(self) -> bool:
        return self.device.store.pending(self.device.now_ms) is not None

    @rule(session=SESSIONS, place=TARGETS)
    def lock(self, session, place):
        free = place not in self.device.store.locks
        answer = self.device.ask(LockAsked(token=0, session=session, target=place))
        assert answer in ({"ok", "lock-denied"} if free else {"lock-denied"})

    @rule(session=SESSIONS, place=TARGETS)
    def unlock(self, session, place):
        holds = self.device.store.locks.get(place) == session
        assert self.device.ask(UnlockAsked(token=0, session=session, target=place)) == ("ok" if holds else "operation-failed")

    @rule(session=SESSIONS, wanted=CONFIGS)
    def edit(self, session, wanted):
        answer = self.device.edit(wanted, session)
        assert (answer == "ok") == (self.device.store.locks.get("candidate", session) == session)
        assert answer != "ok" or self.device.store.candidate == wanted

    @rule(session=SESSIONS)
    def discard(self, session):
        if self.device.ask(DiscardAsked(token=0, session=session)) == "ok":
            assert self.device.store.candidate == self.device.store.running

    @rule(session=SESSIONS, wanted=CONFIGS, is_confirmed=st.booleans(), timeout_s=st.integers(1, 30), persist=TOKENS, persist_id=GUESSES, refusals=REFUSALS)
    def commit(self, *, session, wanted, is_confirmed, timeout_s, persist, persist_id, refusals):
        self.edit(session, wanted)
        self.judged_commit(session, refusals, is_confirmed=is_confirmed, timeout_s=timeout_s, persist=persist, persist_id=persist_id)

    @precondition(lambda self: self.waits)
    @rule(wanted=CONFIGS, is_confirmed=st.booleans(), timeout_s=st.integers(1, 30), persist=TOKENS, refusals=REFUSALS)
    def follow_up(self, wanted, is_confirmed, timeout_s, persist, refusals):
        """By whoever may: the owner, with the token if there is one."""
        waiting = self.device.store.pending(self.device.now_ms)
        assert waiting is not None
        session = self.owner
        self.edit(session, wanted)
        self.judged_commit(session, refusals, is_confirmed=is_confirmed, timeout_s=timeout_s, persist=persist, persist_id=waiting[0])

    def judged_commit(self, session, refusals, *, is_confirmed, timeout_s, persist, persist_id):
        store = self.device.store
        before, wanted, deadline = store.running, store.candidate, store.next_deadline_ms()
        self.device.refuse = list(refusals)
        answer = self.device.commit(session, is_confirmed=is_confirmed, confirm_timeout_s=timeout_s, persist=persist, persist_id=persist_id)
        self.device.refuse = []
        if answer != "ok":
            assert (store.running, store.next_deadline_ms()) == (before, deadline)  # a failed commit arms and disarms nothing
            return
        assert store.running == wanted
        if is_confirmed:
            self.owner = session
            assert store.next_deadline_ms() == self.device.now_ms + timeout_s * 1000
        else:
            self.settled = wanted
            assert store.next_deadline_ms() is None

    @rule(session=SESSIONS, wanted=CONFIGS, is_confirmed=st.booleans(), after=st.integers(0, 3))
    def crash_during_commit(self, session, wanted, is_confirmed, after):
        """The power goes off when `after` effects of the transaction are done."""
        self.edit(session, wanted)
        store = self.device.store
        waiting = store.pending(self.device.now_ms)
        asked = CommitAsked(token=0, session=session, candidate=store.candidate, is_confirmed=is_confirmed, persist_id=waiting[0] if waiting else None)
        allowed = {self.settled} if is_confirmed else {self.settled, store.candidate}
        effects = store.handle(asked, self.device.now_ms)
        for _ in range(after):
            outcome = self.device.perform(effects)
            effects = store.handle(outcome, self.device.now_ms) if outcome is not None else []
        self.device = self.device.restarted()
        assert self.device.store.running in allowed
        self.settled = self.device.store.running

    @rule(session=SESSIONS, persist_id=TOKENS)
    def cancel(self, session, persist_id):
        if self.device.ask(CancelAsked(token=0, session=session, persist_id=persist_id)) == "ok":
            assert self.device.store.running == self.settled

    @rule(session=SESSIONS)
    def end(self, session):
        is_lost = self.waits and self.owner == session and self.device.store.pending(self.device.now_ms)[0] is None
        self.device.take(SessionEnded(session))
        assert not is_lost or self.device.store.running == self.settled
        assert session not in self.device.store.locks.values()

    @rule(ms=st.integers(1, 20_000), refusals=REFUSALS)
    def time(self, ms, refusals):
        self.device.refuse = list(refusals)
        self.device.pass_time(self.device.now_ms + ms)
        self.device.refuse = []
        if "engine" in refusals:
            self.device.pass_time(self.device.now_ms + RETRY_MS)

    @precondition(lambda self: not self.waits)
    @rule()
    def restart_when_nothing_waits(self):
        self.restart()

    @precondition(lambda self: self.waits)
    @rule()
    def restart_while_something_waits(self):
        self.restart()

    def restart(self):
        self.device = self.device.restarted()
        assert self.device.is_settled_on(self.settled)
        assert not self.waits

    @invariant()
    def the_engine_has_what_is_running(self):
        assert self.device.engine == self.device.store.running

    @invariant()
    def nothing_waits_means_settled(self):
        if not self.waits:
            assert self.device.store.running == self.settled

    @invariant()
    def a_power_cut_now_leads_to_what_is_settled(self):
        assert self.device.restarted().is_settled_on(self.settled)

    @invariant()
    def the_history_counts_without_gaps(self):
        numbers = [row.number for row in self.device.store.history]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True


TestLaws = Laws.TestCase
TestLaws.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
