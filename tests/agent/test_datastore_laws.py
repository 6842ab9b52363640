"""Whatever is asked and whatever refuses, in any order: the laws of the datastore."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from igmpconf.agent.datastore import RETRY_MS
from igmpconf.agent.events import CancelAsked, DiscardAsked, LockAsked, SessionEnded, UnlockAsked
from igmpconf.ids import PersistId, SessionId
from igmpconf.model.config import DeviceConfig
from tests.agent.test_datastore import OLD, Device, config

SESSIONS = st.sampled_from([SessionId(1), SessionId(2)])
CONFIGS = st.sampled_from([OLD, config(11), config(12), config(13)])
TOKENS = st.sampled_from([None, PersistId("x"), PersistId("y")])
TARGETS = st.sampled_from(["running", "candidate"])
# What the world refuses during one transaction: the nth effect, or nothing.
REFUSALS = st.sampled_from([[], [], [], ["journal"], ["engine"], ["not journal", "journal"], ["not journal", "journal", "journal"]])


class Laws(RuleBasedStateMachine):
    """`settled` is what must be running once nothing waits: what was last committed for good."""

    def __init__(self) -> None:
        super().__init__()
        self.device = Device.started()
        self.settled: DeviceConfig = OLD

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

    @rule(session=SESSIONS, is_confirmed=st.booleans(), timeout_s=st.integers(1, 30), persist=TOKENS, persist_id=TOKENS, refusals=REFUSALS)
    def commit(self, *, session, is_confirmed, timeout_s, persist, persist_id, refusals):
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
            assert store.next_deadline_ms() == self.device.now_ms + timeout_s * 1000
        else:
            self.settled = wanted
            assert store.next_deadline_ms() is None

    @rule(session=SESSIONS, persist_id=TOKENS)
    def cancel(self, session, persist_id):
        if self.device.ask(CancelAsked(token=0, session=session, persist_id=persist_id)) == "ok":
            assert self.device.store.running == self.settled

    @rule(session=SESSIONS)
    def end(self, session):
        self.device.take(SessionEnded(session))
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
TestLaws.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
