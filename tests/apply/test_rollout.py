"""Several devices: the law that an apply ends all new, all old, or names the doubtful."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from igmpconf.apply.device import ENDS, Begin, CancelRequested, CommitProvisionally, Confirm, LadderPolicy, Phase, TimePassed
from igmpconf.apply.rollout import DeviceEvent, ForDevice, Record, Rollout
from igmpconf.ids import DeviceName, PersistId
from igmpconf.model.canon import digest, from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState
from igmpconf.plan.plan import Plan, planned
from tests.apply import test_device as one

A = DeviceConfig()
B = from_plain(DeviceConfig, {"igmp-proxy": [{"interfaces": [{"interface": "wan", "upstream": True}]}]})
NAMES = [DeviceName(name) for name in ("r1", "r2", "r3")]


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


def rollout(atomic, **policy) -> Rollout:
    plan = Plan(plan_id="p", devices=tuple(planned(name, A, B, DeviceState()) for name in NAMES))
    return Rollout(plan=plan, persist_id=PersistId("p1"), policy=LadderPolicy(confirm_timeout_s=60, **policy), atomic=atomic)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["device", "fleet"]),
    st.lists(st.sampled_from(["ok"] * 14 + ["lost", "unanswered", "refused"]), max_size=60),
    st.lists(st.integers(0, 5), max_size=100),
    st.none() | st.integers(1, 30),
)
def test_whatever_gets_lost_the_fleet_ends_as_promised(atomic, fates, picks, stop_at):
    machine = rollout(atomic)
    devices = {name: Device() for name in NAMES}
    fate_of, pick_of = iter(fates), iter(picks)
    now, turn = 0, 0
    journal: list[Record] = []
    waiting: list[ForDevice] = []

    def take(effects):
        for effect in effects:
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
            now += 10
            take(machine.handle(DeviceEvent(todo.device, devices[todo.device].does(todo.effect, now, next(fate_of, "ok"))), now))
        else:
            deadline = machine.next_deadline_ms()
            assert deadline is not None, [ladder.phase for ladder in machine.ladders.values()]
            now = max(now, deadline)
            take(machine.handle(TimePassed(), now))
    outcomes = {outcome.device: outcome for outcome in machine.outcomes()}
    for device in devices.values():
        device.pass_time(now + 600_000)
    for name, outcome in outcomes.items():
        assert outcome.phase in ENDS
        if outcome.phase is Phase.CONFIRMED:
            assert devices[name].running == digest(B)
        elif outcome.phase in {Phase.ROLLED_BACK, Phase.REFUSED}:
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


def test_devices_without_changes_are_not_asked():
    plan = Plan(plan_id="p", devices=(planned("same", B, B, DeviceState()), planned("other", A, B, DeviceState())))
    assert set(Rollout(plan=plan, persist_id=PersistId("p1")).ladders) == {"other"}
