"""The ladder, step by step: transcripts of effects, and the law that it never ends between old and new."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igmpconf.apply.device import GRACE_MS, DeviceLadder, LadderPolicy
from igmpconf.apply.steps import (
    ENDS,
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
    Extend,
    Failed,
    Failure,
    Inspect,
    Lock,
    Performed,
    Phase,
    ReadBefore,
    Seen,
    Settle,
    TimePassed,
    Unlock,
    Validate,
    Verify,
)
from igmpconf.ids import PersistId
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import AgentState, DeviceState
from igmpconf.plan.plan import DevicePlan

BASE, TARGET, OTHER = "sha256:base", "sha256:target", "sha256:other"
ID = PersistId("p1")
LOST = Failure(kind="transport", message="the line is dead", is_retryable=True)
REFUSED = Failure(kind="rpc", message="no", tag="operation-failed")
UNVERIFIED = Failure(kind="verify", message="upstream wan is down")


def ladder(**policy) -> DeviceLadder:
    plan = DevicePlan(device="r", base_digest=BASE, target_digest=TARGET, changes=(), target=DeviceConfig())
    return DeviceLadder(plan=plan, persist_id=ID, policy=LadderPolicy(**policy))


def before(digest=BASE, pending=None) -> Performed:
    return Performed(Before(digest=digest, state=DeviceState(agent=AgentState(pending_persist_id=pending))))


def seen(digest, pending=None) -> Performed:
    return Performed(Seen(digest=digest, pending=pending))


OK = Performed()
VERIFIED = Performed(())


def climb(machine: DeviceLadder, *answers, now_ms: int = 0) -> list[str]:
    """Feed Begin and then each answer; the names of the effects that came out."""
    effects = list(machine.handle(Begin(), now_ms))
    transcript = [type(effect).__name__ for effect in effects]
    for answer in answers:
        effects = list(machine.handle(answer, now_ms))
        assert len(effects) <= 1, "one thing at a time"
        transcript += [type(effect).__name__ for effect in effects]
    return transcript


TO_COMMIT = ["Connect", "Lock", "ReadBefore", "Edit", "Validate", "CommitProvisionally"]
TO_VERIFY = [*TO_COMMIT, "Close", "Connect", "Verify"]


def test_the_climb():
    machine = ladder()
    assert climb(machine, OK, OK, before(), OK, OK, OK, OK, OK, VERIFIED) == TO_VERIFY
    assert machine.is_waiting
    assert machine.handle(Decided(is_kept=True), 0) == (Confirm(ID),)
    assert machine.handle(OK, 0) == (Close(),)
    assert machine.handle(OK, 0) == ()
    assert (machine.phase, machine.failure, machine.undoes_itself_by_ms) == (Phase.CONFIRMED, None, None)


def test_the_session_that_committed_ends_before_the_one_that_verifies():
    transcript = climb(ladder(), OK, OK, before(), OK, OK, OK, OK, OK)
    assert transcript[transcript.index("CommitProvisionally") :] == ["CommitProvisionally", "Close", "Connect", "Verify"]


def test_a_device_that_already_is_as_wanted_is_left_alone():
    machine = ladder()
    assert climb(machine, OK, OK, before(TARGET), OK, OK) == ["Connect", "Lock", "ReadBefore", "Unlock", "Close"]
    assert machine.phase is Phase.UNCHANGED


def test_a_device_that_changed_since_the_plan_is_left_alone():
    machine = ladder()
    assert climb(machine, OK, OK, before(OTHER), OK, OK)[-2:] == ["Unlock", "Close"]
    assert (machine.phase, machine.failure.kind) == (Phase.REFUSED, "stale")


def test_a_pending_commit_stops_even_when_the_target_runs():
    machine = ladder()
    climb(machine, OK, OK, before(TARGET, pending="somebody"), OK, OK)
    assert machine.phase is Phase.REFUSED
    assert "igmpconf confirm somebody" in machine.failure.hint


@pytest.mark.parametrize(
    ("answers", "cleanup"),
    [
        ([Failed(LOST)], ["Close"]),
        ([OK, Failed(REFUSED)], ["Close"]),
        ([OK, OK, Failed(LOST)], ["Close"]),
        ([OK, OK, before(), Failed(REFUSED)], ["Discard", "Unlock", "Close"]),
        ([OK, OK, before(), OK, Failed(REFUSED)], ["Discard", "Unlock", "Close"]),
        ([OK, OK, before(), OK, OK, Failed(REFUSED)], ["Discard", "Unlock", "Close"]),
        ([OK, OK, before(), OK, Failed(LOST)], ["Close"]),
    ],
)
def test_a_failure_before_the_commit_cleans_up_and_changes_nothing(answers, cleanup):
    machine = ladder()
    done = climb(machine, *answers, *[OK] * (len(cleanup) - 1))
    assert done[-len(cleanup) :] == cleanup
    machine.handle(OK, 0)
    assert machine.phase is Phase.REFUSED
    assert machine.undoes_itself_by_ms is None


def test_a_cleanup_goes_on_when_a_part_of_it_fails():
    machine = ladder()
    assert climb(machine, OK, OK, before(), Failed(REFUSED), Failed(REFUSED), Failed(REFUSED))[-3:] == ["Discard", "Unlock", "Close"]
    assert machine.handle(Failed(LOST), 0) == ()
    assert (machine.phase, machine.failure) == (Phase.REFUSED, REFUSED)


def test_facts_that_do_not_come_true_undo_the_change():
    machine = ladder()
    assert climb(machine, OK, OK, before(), OK, OK, OK, OK, OK, Failed(UNVERIFIED), OK)[-2:] == ["Cancel", "Close"]
    machine.handle(OK, 0)
    assert (machine.phase, machine.failure) == (Phase.ROLLED_BACK, UNVERIFIED)


def test_a_change_that_cuts_us_off_is_never_confirmed():
    """The fresh session does not come about; we try until the device has certainly undone it by itself."""
    machine = ladder(confirm_timeout_s=60)
    climb(machine, OK, OK, before(), OK, OK, OK, OK, Failed(LOST))
    now = 0
    while machine.phase not in ENDS:
        at = machine.next_deadline_ms()
        if at is None:
            assert list(machine.handle(Failed(LOST), now))[:1] != [Confirm(ID)]
            continue
        now = at
        assert list(machine.handle(TimePassed(), now)) == [Close()]
        machine.handle(OK, now)
    assert machine.phase is Phase.IN_DOUBT
    assert now >= 60_000
    assert now <= 60_000 + GRACE_MS


def test_a_device_that_comes_back_in_time_is_told_to_undo():
    machine = ladder()
    assert climb(machine, OK, OK, before(), OK, OK, OK, OK, Failed(LOST))[-1] == "Close"
    assert [machine.handle(answer, 0) for answer in (OK, OK)] == [(Connect(),), (Inspect(),)]
    assert machine.handle(seen(TARGET, ID), 0) == (Cancel(ID),)
    machine.handle(OK, 0)
    machine.handle(OK, 0)
    assert (machine.phase, machine.failure) == (Phase.ROLLED_BACK, LOST)


@pytest.mark.parametrize(
    ("found", "then", "end"),
    [(seen(BASE), None, Phase.ROLLED_BACK), (seen(TARGET, ID), Cancel(ID), Phase.ROLLED_BACK)],
)
def test_when_the_answer_to_the_commit_is_lost_we_look(found, then, end):
    machine = ladder()
    climb(machine, OK, OK, before(), OK, OK, Failed(LOST), OK, OK)
    effects = machine.handle(found, 0)
    if then is not None:
        assert effects == (then,)
        effects = machine.handle(OK, 0)
    else:  # perhaps it is still under way: whoever gets the lock knows that it is not
        assert effects == (Lock(),)
        assert machine.handle(OK, 0) == (Inspect(),)
        effects = machine.handle(found, 0)
    assert effects == (Close(),)
    machine.handle(OK, 0)
    assert machine.phase is end


def test_a_commit_that_is_still_under_way_is_waited_for_and_undone():
    """The session that was lost holds the lock; when it is over, its commit is seen and cancelled."""
    machine = ladder()
    climb(machine, OK, OK, before(), OK, OK, Failed(LOST), OK, OK)
    assert machine.handle(seen(BASE), 0) == (Lock(),)
    assert machine.handle(Failed(Failure(kind="rpc", message="somebody holds it", tag="lock-denied", is_retryable=True)), 0) == ()
    at = machine.next_deadline_ms()
    assert machine.handle(TimePassed(), at) == (Close(),)
    machine.handle(OK, at)
    assert machine.handle(OK, at) == (Inspect(),)
    assert machine.handle(seen(TARGET, ID), at) == (Cancel(ID),)
    machine.handle(OK, at)
    machine.handle(OK, at)
    assert (machine.phase, machine.failure) == (Phase.ROLLED_BACK, LOST)


def test_somebody_elses_lock_does_not_leave_us_in_doubt():
    machine = ladder(confirm_timeout_s=10)
    climb(machine, OK, OK, before(), OK, OK, Failed(LOST))
    now, looks = 0, 0
    denied = Failed(Failure(kind="rpc", message="somebody holds it", tag="lock-denied", is_retryable=True))
    effects = machine.handle(OK, now)
    while machine.phase not in ENDS:
        if not effects:
            now = machine.next_deadline_ms()
            effects = machine.handle(TimePassed(), now)
            continue
        looks += isinstance(effects[0], Inspect)
        effects = machine.handle(denied if isinstance(effects[0], Lock) else seen(BASE) if isinstance(effects[0], Inspect) else OK, now)
    assert machine.phase is Phase.ROLLED_BACK
    assert now == 10_000 + GRACE_MS
    assert looks > 5


@pytest.mark.parametrize(
    ("found", "then", "end", "is_failure"),
    [
        (seen(TARGET), None, Phase.CONFIRMED, False),
        (seen(TARGET, ID), Confirm(ID), Phase.CONFIRMED, False),
        (seen(BASE), None, Phase.ROLLED_BACK, True),
    ],
)
def test_when_the_answer_to_the_confirmation_is_lost_we_look_and_ask_again(found, then, end, is_failure):
    machine = ladder()
    climb(machine, OK, OK, before(), OK, OK, OK, OK, OK, VERIFIED, Decided(is_kept=True), Failed(LOST), OK, OK)
    effects = machine.handle(found, 0)
    if then is not None:
        assert effects == (then,)
        effects = machine.handle(OK, 0)
    assert effects == (Close(),)
    machine.handle(OK, 0)
    assert machine.phase is end
    if is_failure:
        assert machine.failure is not None


@pytest.mark.parametrize(("is_kept", "found", "then"), [(True, seen(TARGET, ID), Confirm(ID)), (False, seen(TARGET, ID), Cancel(ID))])
def test_settling_what_an_earlier_run_left(is_kept, found, then):
    machine = ladder()
    assert [machine.handle(event, 0) for event in (Settle(is_kept=is_kept), OK, OK, found)] == [(Close(),), (Connect(),), (Inspect(),), (then,)]


def test_stopping_before_the_commit_changes_nothing():
    machine = ladder()
    machine.handle(Begin(), 0)
    assert machine.handle(CancelRequested(), 0) == ()
    assert machine.handle(OK, 0) == (Close(),)
    machine.handle(OK, 0)
    assert (machine.phase, machine.failure.kind) == (Phase.REFUSED, "cancelled")


def test_stopping_while_the_commit_is_under_way_undoes_it():
    machine = ladder()
    climb(machine, OK, OK, before(), OK, OK)
    assert machine.handle(CancelRequested(), 0) == ()
    assert machine.handle(OK, 0) == (Cancel(ID),)
    machine.handle(OK, 0)
    machine.handle(OK, 0)
    assert machine.phase is Phase.ROLLED_BACK


@pytest.mark.parametrize(("answers", "then"), [(2, ["Close", "Connect", "Inspect", "Cancel"]), (3, ["Cancel"])])
def test_stopping_between_the_two_sessions_undoes_the_commit(answers, then):
    machine = ladder()
    climb(machine, OK, OK, before(), OK, OK, *[OK] * (answers - 1))
    assert machine.handle(CancelRequested(), 0) == ()
    effects = [machine.handle(OK, 0)]
    while not isinstance(effects[-1][0], Cancel):
        effects.append(machine.handle(seen(TARGET, ID) if isinstance(effects[-1][0], Inspect) else OK, 0))
    assert [type(effect).__name__ for (effect,) in effects] == then
    assert [machine.handle(OK, 0), machine.handle(OK, 0)] == [(Close(),), ()]
    assert (machine.phase, machine.failure.kind) == (Phase.ROLLED_BACK, "cancelled")


def test_after_the_decision_nobody_stops():
    machine = ladder()
    climb(machine, OK, OK, before(), OK, OK, OK, OK, OK, VERIFIED, Decided(is_kept=True))
    assert machine.handle(CancelRequested(), 0) == ()
    assert machine.handle(OK, 0) == (Close(),)
    machine.handle(OK, 0)
    assert machine.phase is Phase.CONFIRMED


def test_a_change_may_be_left_to_undo_itself():
    machine = ladder(is_confirmed=False, confirm_timeout_s=60)
    assert climb(machine, OK, OK, before(), OK, OK, OK, OK, OK, VERIFIED, now_ms=5)[-1] == "Close"
    machine.handle(OK, 6)
    assert (machine.phase, machine.undoes_itself_by_ms) == (Phase.LEFT, 60_005)


class Device:
    """What a device does with the effects, and which of its answers get lost: the truth that the ladder cannot see."""

    def __init__(self) -> None:
        self.running = BASE
        self.pending_until_ms: int | None = None

    def pass_time(self, now_ms: int) -> None:
        if self.pending_until_ms is not None and now_ms >= self.pending_until_ms:
            self.running, self.pending_until_ms = BASE, None

    def does(self, effect, now_ms: int, fate: str):
        """`ok`, `lost` (nothing happened), `unanswered` (it happened, the answer was lost), `refused`."""
        self.pass_time(now_ms)
        if fate == "lost":
            return Failed(LOST)
        if fate == "refused" and not isinstance(effect, Connect | Close):
            return Failed(UNVERIFIED if isinstance(effect, Verify) else REFUSED)
        answer = OK
        match effect:
            case ReadBefore():
                answer = before(self.running)
            case CommitProvisionally(timeout_s=timeout_s):
                self.running, self.pending_until_ms = TARGET, now_ms + timeout_s * 1000
            case Extend(timeout_s=timeout_s):
                if self.pending_until_ms is None:
                    return Failed(REFUSED)
                self.pending_until_ms = now_ms + timeout_s * 1000
            case Confirm():
                if self.pending_until_ms is None:
                    return Failed(REFUSED)
                self.pending_until_ms = None
            case Cancel():
                if self.pending_until_ms is None:
                    return Failed(REFUSED)
                self.running, self.pending_until_ms = BASE, None
            case Inspect():
                answer = seen(self.running, ID if self.pending_until_ms is not None else None)
            case Verify():
                answer = VERIFIED
            case Connect() | Lock() | Edit() | Validate() | Close() | Discard() | Unlock():
                pass
        return Failed(LOST) if fate == "unanswered" else answer


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(["ok"] * 6 + ["lost", "unanswered", "refused"]), max_size=40),
    st.lists(st.integers(0, 30_000), max_size=40),
    st.booleans(),
    st.none() | st.integers(0, 14),
)
def test_whatever_gets_lost_the_ladder_tells_the_truth(fates, waits, is_kept, stop_at):
    """Confirmed means new for good, rolled back and refused mean old, and only in doubt leaves it open; it always ends."""
    machine, device, now, turn = ladder(confirm_timeout_s=60), Device(), 0, 0
    fate_of, wait_of = iter(fates), iter(waits)
    effects = list(machine.handle(Begin(), now))
    while machine.phase not in ENDS:
        turn += 1
        assert turn < 2_000, "it does not end"
        if turn == stop_at:
            effects += machine.handle(CancelRequested(), now)
        if effects:
            (effect,) = effects
            now += next(wait_of, 10)
            effects = list(machine.handle(device.does(effect, now, next(fate_of, "ok")), now))
        elif machine.is_waiting:
            effects = list(machine.handle(Decided(is_kept), now))
        else:
            deadline = machine.next_deadline_ms()
            assert deadline is not None, f"stuck in {machine.phase}"
            now = max(now, deadline)
            effects = list(machine.handle(TimePassed(), now))
    device.pass_time(now)
    match machine.phase:
        case Phase.CONFIRMED:
            assert (device.running, device.pending_until_ms) == (TARGET, None)
        case Phase.ROLLED_BACK | Phase.REFUSED:
            assert (device.running, device.pending_until_ms) == (BASE, None), "it is old now, not only once its time is over"
            assert machine.failure is not None or not is_kept
        case Phase.IN_DOUBT:
            assert machine.failure is not None
        case phase:
            pytest.fail(f"ended as {phase}")
