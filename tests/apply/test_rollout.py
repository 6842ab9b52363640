"""Several devices: the law that an apply ends all new, all old, or names the doubtful."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igmpconf.apply.device import LadderPolicy
from igmpconf.apply.rollout import DeviceEvent, ForDevice, Pace, Record, Rollout, Share, Soaking
from igmpconf.apply.steps import ENDS, Begin, CancelRequested, Close, CommitProvisionally, Confirm, Connect, Extend, Interrupt, Phase, Recheck, TimePassed
from igmpconf.ids import DeviceName, PersistId
from igmpconf.model.canon import digest, from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState
from igmpconf.plan.plan import Plan, planned
from tests.apply import test_device as one

A = DeviceConfig()
B = from_plain(DeviceConfig, {"igmp-proxy": [{"interfaces": [{"interface": "wan", "upstream": True}]}]})
NAMES = [DeviceName(name) for name in ("r1", "r2", "r3", "r4", "r5")]


class Device(one.Device):
    """As in the ladder's law, with the digests of a real plan."""

    def __init__(self) -> None:
        super().__init__()
        self.running = digest(A)

    def does(self, effect, now_ms, fate):
        answer = super().does(effect, now_ms, fate)
        if self.running in (one.BASE, one.TARGET):
            self.running = digest(A) if self.running == one.BASE else digest(B)
        if isinstance(answer, one.Performed) and isinstance(answer.answer, one.Before | one.Seen):
            found = (
                one.Before(digest=self.running, state=DeviceState())
                if isinstance(answer.answer, one.Before)
                else one.Seen(digest=self.running, pending=answer.answer.pending)
            )
            return one.Performed(found)
        return answer

    def pass_time(self, now_ms):
        super().pass_time(now_ms)
        if self.running == one.BASE:
            self.running = digest(A)


def rollout(atomic, pace=None, **policy) -> Rollout:
    plan = Plan(plan_id="p", devices=tuple(planned(name, A, B, DeviceState()) for name in NAMES))
    return Rollout(plan=plan, persist_id=PersistId("p1"), policy=LadderPolicy(confirm_timeout_s=60, **policy), atomic=atomic, pace=pace or Pace())


shares = st.builds(Share, st.integers(1, 3)) | st.builds(Share, st.integers(1, 100), st.just(True))
paces = st.builds(
    Pace,
    waves=st.lists(shares, max_size=3).map(tuple),
    max_failures=st.none() | st.integers(0, 2),
    parallel=st.integers(1, 6),
    soak_ms=st.sampled_from([0, 0, 60_000]),
)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["device", "fleet"]),
    paces,
    st.integers(1, 3),
    st.none() | st.integers(10, 200_000),
    st.lists(st.sampled_from(["ok"] * 20 + ["lost", "unanswered", "refused"]), max_size=90),
    st.lists(st.integers(0, 5), max_size=100),
    st.lists(st.sampled_from([10, 10, 10, 10_000, 29_000]), max_size=60),
    st.none() | st.integers(1, 50),
)
def test_whatever_gets_lost_the_fleet_ends_as_promised(atomic, pace, attempts, patience_ms, fates, picks, waits, stop_at):
    machine = rollout(atomic, pace, attempts=attempts, device_timeout_ms=patience_ms)
    wait_of = iter(waits)
    begun: set[str] = set()
    looked: dict[str, int] = {}
    devices = {name: Device() for name in NAMES}
    fate_of, pick_of = iter(fates), iter(picks)
    now, turn = 0, 0
    journal: list[Record] = []
    waiting: list[ForDevice] = []

    def take(effects):
        failed = sum(outcome.phase in {Phase.REFUSED, Phase.ROLLED_BACK, Phase.IN_DOUBT, Phase.FALTERED} for outcome in machine.outcomes())
        for effect in effects:
            if isinstance(effect, ForDevice):
                if effect.device not in begun and pace.soak_ms and atomic == "device":
                    before = machine.waves[: next(i for i, wave in enumerate(machine.waves) if effect.device in wave)]
                    assert {name for name in sum(before, ()) if machine.ladders[name].phase is Phase.CONFIRMED} <= looked.keys()
                if isinstance(effect.effect, Recheck):
                    looked[effect.device] = now
                if effect.device not in begun and pace.max_failures is not None:
                    assert failed <= pace.max_failures, "nobody begins when too many have failed"
                begun.add(effect.device)
                if isinstance(effect.effect, Interrupt):
                    continue  # it has no outcome; what is under way goes on to its own
            if isinstance(effect, Soaking):
                assert looked.keys().isdisjoint(machine.waves[effect.wave - 1])
                continue
            if isinstance(effect, Record):
                journal.append(effect)
                continue
            if isinstance(effect.effect, CommitProvisionally):
                assert Record(effect.device, "committing") in journal, "on disk before it leaves"
            if isinstance(effect.effect, Confirm):
                assert Record(effect.device, "confirming") in journal
                if atomic == "fleet":
                    assert Record(None, "decided-keep") in journal
            waiting.append(effect)

    take(machine.handle(Begin(), now))
    while not machine.is_over:
        turn += 1
        assert turn < 5_000, "it does not end"
        if turn == stop_at:
            take(machine.handle(CancelRequested(), now))
        elif waiting:
            todo = waiting.pop(next(pick_of, 0) % len(waiting))
            now += next(wait_of, 10)
            take(machine.handle(TimePassed(), now))
            take(machine.handle(DeviceEvent(todo.device, devices[todo.device].does(todo.effect, now, next(fate_of, "ok"))), now))
        else:
            deadline = machine.next_deadline_ms()
            assert deadline is not None, [ladder.phase for ladder in machine.ladders.values()]
            now = max(now, deadline)
            take(machine.handle(TimePassed(), now))
    outcomes = {outcome.device: outcome for outcome in machine.outcomes()}
    for name, outcome in outcomes.items():
        if outcome.phase is not Phase.IN_DOUBT:
            assert devices[name].pending_until_ms is None, "whatever is told is so already"
    for device in devices.values():
        device.pass_time(now + 600_000)
    for name, outcome in outcomes.items():
        assert outcome.phase in ENDS
        if outcome.phase in {Phase.CONFIRMED, Phase.FALTERED}:
            assert devices[name].running == digest(B)
        elif outcome.phase in {Phase.ROLLED_BACK, Phase.REFUSED}:
            assert devices[name].running == digest(A)
        elif outcome.phase is Phase.SKIPPED:
            assert name not in begun
            assert devices[name].running == digest(A)
    if atomic == "fleet" and Phase.IN_DOUBT not in {outcome.phase for outcome in outcomes.values()}:
        ends = {device.running for device in devices.values()}
        if Record(None, "decided-keep") not in journal:
            assert ends == {digest(A)}
        elif not _late(outcomes):
            assert ends == {digest(B)}


def _late(outcomes) -> bool:
    """A device undid the change before the decision to keep reached it: it is named as rolled back, with the reason."""
    late = [outcome for outcome in outcomes.values() if outcome.phase is Phase.ROLLED_BACK]
    assert all(outcome.failure is not None for outcome in late)
    return bool(late)


def test_with_atomic_device_each_stands_alone():
    machine = rollout("device")
    effects = machine.handle(Begin(), 0)
    assert [effect.device for effect in effects] == NAMES
    device = Device()
    todo = effects[0].effect
    while machine.ladders[NAMES[0]].phase not in ENDS:
        after = machine.handle(DeviceEvent(NAMES[0], device.does(todo, 0, "ok")), 0)
        steps = [effect.effect for effect in after if isinstance(effect, ForDevice)]
        todo = steps[0] if steps else todo
    assert machine.ladders[NAMES[0]].phase is Phase.CONFIRMED
    assert machine.ladders[NAMES[1]].phase is Phase.IDLE


def answers(machine, device, todo, *, now_ms=0, until=ENDS):
    """Carry one device on alone, from the effect `todo`."""
    name, effect, after = todo.device, todo.effect, []
    while machine.ladders[name].phase not in until and not machine.ladders[name].is_waiting:
        after = machine.handle(DeviceEvent(name, device.does(effect, now_ms, "ok")), now_ms)
        mine = [one.effect for one in after if isinstance(one, ForDevice) and one.device == name]
        if not mine:
            break
        (effect,) = mine
    return after


def begun_in(effects):
    return [effect.device for effect in effects if isinstance(effect, ForDevice) and isinstance(effect.effect, Connect)]


@pytest.mark.parametrize(
    ("waves", "expected"),
    [
        ((), [[0, 1, 2, 3, 4]]),
        ((Share(2),), [[0, 1], [2, 3], [4]]),
        ((Share(1), Share(3)), [[0], [1, 2, 3], [4]]),
        ((Share(20, is_percent=True), Share(50, is_percent=True)), [[0], [1, 2], [3, 4]]),
        ((Share(1, is_percent=True), Share(100, is_percent=True)), [[0], [1, 2, 3, 4]]),
    ],
)
def test_waves_are_cut_like_ansibles_serial(waves, expected):
    assert Pace(waves=waves).cut(NAMES) == tuple(tuple(NAMES[number] for number in wave) for wave in expected)


def test_a_wave_begins_when_the_one_before_is_decided():
    machine = rollout("device", Pace(waves=(Share(1), Share(4))))
    first = machine.handle(Begin(), 0)
    assert begun_in(first) == NAMES[:1]
    after = answers(machine, Device(), first[0])
    assert begun_in(after) == NAMES[1:]


def test_no_more_than_so_many_at_a_time():
    machine = rollout("device", Pace(parallel=2))
    first = machine.handle(Begin(), 0)
    assert begun_in(first) == NAMES[:2]
    assert begun_in(answers(machine, Device(), first[0])) == [NAMES[2]]


def test_a_failed_canary_stops_the_rest_and_says_so():
    machine = rollout("device", Pace(waves=(Share(1), Share(4)), max_failures=0))
    first = machine.handle(Begin(), 0)
    machine.handle(DeviceEvent(NAMES[0], one.Failed(one.LOST)), 0)
    machine.handle(DeviceEvent(NAMES[0], one.OK), 0)
    assert len(first) == 1
    assert machine.is_over
    ends = [(outcome.phase, outcome.failure.message) for outcome in machine.outcomes()]
    assert ends == [(Phase.REFUSED, "the line is dead")] + [(Phase.SKIPPED, "1 had failed before its turn, and 0 may")] * 4


def test_an_atomic_fleet_in_waves_keeps_every_wave_unconfirmed_until_the_last_is_verified():
    machine = rollout("fleet", Pace(waves=(Share(2),)))
    devices = {name: Device() for name in NAMES}
    todo, confirmed = [effect for effect in machine.handle(Begin(), 0) if isinstance(effect, ForDevice)], []
    while todo:
        effect = todo.pop(0)
        if isinstance(effect.effect, Confirm):
            confirmed.append(effect.device)
            assert all(device.running == digest(B) for device in devices.values())
        todo += [e for e in machine.handle(DeviceEvent(effect.device, devices[effect.device].does(effect.effect, 0, "ok")), 0) if isinstance(e, ForDevice)]
    assert sorted(confirmed) == NAMES
    assert machine.is_over


def test_who_waits_for_the_others_extends_its_own_deadline():
    """r1 is verified at once, r2 takes five minutes; r1 must not have undone the change by then."""
    machine = rollout("fleet", Pace(waves=(Share(1),)))
    device, (first, *_) = Device(), machine.handle(Begin(), 0)
    (second, *_) = [effect for effect in answers(machine, device, first) if isinstance(effect, ForDevice)]
    assert second.device == NAMES[1]
    extended = 0
    for now in range(0, 300_000, 1_000):
        for effect in machine.handle(TimePassed(), now):
            assert isinstance(effect.effect, Extend)
            extended += 1
            machine.handle(DeviceEvent(effect.device, device.does(effect.effect, now, "ok")), now)
    device.pass_time(300_000)
    assert device.running == digest(B)
    assert extended == 9


def test_a_device_that_hangs_is_cut_when_its_time_is_over():
    machine = rollout("device", device_timeout_ms=5_000)
    assert len(machine.handle(Begin(), 0)) == 5
    assert machine.next_deadline_ms() == 5_000
    assert [effect.effect for effect in machine.handle(TimePassed(), 5_000)] == [Interrupt()] * 5
    machine.handle(DeviceEvent(NAMES[0], one.Failed(one.LOST)), 5_001)
    assert machine.ladders[NAMES[0]].failure.message == "r1 was not done within 5s"


def test_what_may_pass_is_tried_again_while_nothing_is_committed():
    machine = rollout("device", attempts=2)
    machine.handle(Begin(), 0)
    assert machine.handle(DeviceEvent(NAMES[0], one.Failed(one.LOST)), 0) == []
    at = machine.next_deadline_ms()
    assert begun_in(machine.handle(TimePassed(), at)) == NAMES[:1]
    assert [type(e.effect) for e in machine.handle(DeviceEvent(NAMES[0], one.Failed(one.LOST)), at) if isinstance(e, ForDevice)] == [Close]


def test_a_climb_that_somebody_else_began_is_undone_and_begun_anew():
    """A worker was killed between its commit and its answer; the next one finds the commit by its persist id."""
    ladder = one.ladder()
    done = one.climb(ladder, one.OK, one.OK, one.before(one.TARGET, pending=one.ID), one.OK, one.before(), one.OK, one.OK, one.OK)
    assert done == ["Connect", "Lock", "ReadBefore", "Cancel", "ReadBefore", "Edit", "Validate", "CommitProvisionally", "Close"]


def settled(machine, name, phase, *, now_ms=0):
    """Let a device of an earlier run come to `phase`: confirmed or rolled back."""
    pending = one.seen(digest(B), "p1")
    after = []
    for answer in (one.OK, one.OK, pending, one.OK, one.OK):
        after = machine.handle(DeviceEvent(name, answer), now_ms)
    assert machine.ladders[name].phase is phase
    return after


def test_an_apply_that_goes_on_settles_first_and_keeps_to_the_waves_that_are_left():
    """r1 was the canary and is done; r2 was under way when the controller died; r3 to r5 had no turn."""
    machine = rollout("device", Pace(waves=(Share(1), Share(2)), max_failures=0))
    first = machine.resume({NAMES[1]: False}, 0, NAMES[2:])
    assert [effect.device for effect in first] == [NAMES[1]]
    after = settled(machine, NAMES[1], Phase.ROLLED_BACK)
    assert begun_in(after) == [NAMES[2]], "r2 was undone as its journal promised, which is no failure of this run"
    after = answers(machine, Device(), next(effect for effect in after if isinstance(effect, ForDevice)))
    assert begun_in(after) == NAMES[3:]
    assert NAMES[0] not in machine.ladders


def test_while_somebody_is_in_doubt_nobody_else_begins():
    machine = rollout("device")
    machine.resume({NAMES[0]: True}, 0, NAMES[1:])
    machine.handle(DeviceEvent(NAMES[0], one.OK), 0)
    machine.handle(DeviceEvent(NAMES[0], one.Failed(one.Failure(kind="transport", message="no such host"))), 0)
    assert begun_in(machine.handle(DeviceEvent(NAMES[0], one.OK), 0)) == []
    assert machine.is_over
    ends = {outcome.device: (outcome.phase, outcome.failure.message) for outcome in machine.outcomes()}
    assert ends[NAMES[0]][0] is Phase.IN_DOUBT
    assert {ends[name] for name in NAMES[1:]} == {(Phase.SKIPPED, "it is not known how r1 ended, and that comes first")}


def test_with_nothing_to_settle_those_that_had_no_turn_begin_at_once():
    machine = rollout("device", Pace(waves=(Share(2),)))
    assert begun_in(machine.resume({}, 0, NAMES[1:])) == [NAMES[1]]


def test_devices_without_changes_are_not_asked():
    plan = Plan(plan_id="p", devices=(planned("same", B, B, DeviceState()), planned("other", A, B, DeviceState())))
    assert set(Rollout(plan=plan, persist_id=PersistId("p1")).ladders) == {"other"}
