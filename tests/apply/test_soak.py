"""The time between two waves, in virtual time: nothing here waits."""

from __future__ import annotations

import pytest

from igmpconf.apply.device import AGAIN_MS
from igmpconf.apply.rollout import DeviceEvent, ForDevice, Pace, Record, Rollout, Share, Soaking
from igmpconf.apply.steps import Begin, CancelRequested, Connect, Failed, Failure, Performed, Phase, Recheck, TimePassed
from igmpconf.model.state import DeviceState
from tests.apply import test_device as one
from tests.apply.test_rollout import NAMES, Device, begun_in, rollout

MINUTES_5 = 300_000
GONE = Failure(kind="verify", message="r1 is no longer as it was verified: upstream wan of default is absent or down")


def kept(machine: Rollout, first, now_ms: int = 0) -> list:
    """Carry on everything that is begun until nothing is under way; the effects of the last answer."""
    devices = {name: Device() for name in NAMES}
    todo = [effect for effect in first if isinstance(effect, ForDevice)]
    after: list = []
    while todo:
        effect = todo.pop(0)
        after = list(machine.handle(DeviceEvent(effect.device, devices[effect.device].does(effect.effect, now_ms, "ok")), now_ms))
        todo += [one_ for one_ in after if isinstance(one_, ForDevice)]
    return after


def looks(effects) -> list[str]:
    return [effect.device for effect in effects if isinstance(effect, ForDevice) and isinstance(effect.effect, Recheck)]


PAIRS = (Share(2),)


def soaking(waves=PAIRS, **pace) -> tuple[Rollout, list]:
    """A rollout whose first wave is kept at 1000 ms."""
    machine = rollout("device", Pace(waves=waves, soak_ms=MINUTES_5, **{"max_failures": 0, **pace}), attempts=2)
    return machine, kept(machine, machine.handle(Begin(), 1_000), 1_000)


def test_the_next_wave_begins_when_the_time_has_passed_and_the_facts_still_are_so():
    machine, after = soaking()
    assert after[-1] == Soaking(1, 3, MINUTES_5)
    assert begun_in(after) == []
    assert machine.next_deadline_ms() == 1_000 + MINUTES_5
    assert machine.handle(TimePassed(), MINUTES_5) == []
    again = machine.handle(TimePassed(), 1_000 + MINUTES_5)
    assert again == [ForDevice(name, Recheck(DeviceState(), machine.policy.verify_timeout_ms)) for name in NAMES[:2]]
    assert machine.next_deadline_ms() is None
    assert machine.handle(DeviceEvent(NAMES[0], Performed(("a group ended",))), MINUTES_5 + 2_000) == []
    assert begun_in(machine.handle(DeviceEvent(NAMES[1], Performed(())), MINUTES_5 + 2_001)) == NAMES[2:4]
    assert machine.outcomes()[0].warnings == ("a group ended",)


def test_a_fact_that_is_missing_stops_the_rest_and_what_is_confirmed_stays_so():
    machine, _ = soaking()
    machine.handle(TimePassed(), 1_000 + MINUTES_5)
    stopped = machine.handle(DeviceEvent(NAMES[0], Failed(GONE)), MINUTES_5 + 2_000)
    assert Record(NAMES[0], "ended", "confirmed, then faltered") in stopped
    assert not machine.is_over, "what the other look finds is told, too"
    machine.handle(DeviceEvent(NAMES[1], Performed(())), MINUTES_5 + 2_001)
    assert machine.is_over
    assert [outcome.phase for outcome in machine.outcomes()] == [Phase.FALTERED, Phase.CONFIRMED, *[Phase.SKIPPED] * 3]
    assert machine.outcomes()[0].failure == GONE
    assert machine.outcomes()[4].failure.message == "1 had failed before its turn, and 0 may"


def test_so_many_may_falter():
    machine, _ = soaking(max_failures=1)
    machine.handle(TimePassed(), 1_000 + MINUTES_5)
    machine.handle(DeviceEvent(NAMES[0], Failed(GONE)), MINUTES_5 + 2_000)
    assert begun_in(machine.handle(DeviceEvent(NAMES[1], Performed(())), MINUTES_5 + 2_001)) == NAMES[2:4]


def test_a_device_that_cannot_be_reached_is_tried_again_and_then_counts():
    machine, _ = soaking(waves=(Share(1),))
    now = 1_000 + MINUTES_5
    assert looks(machine.handle(TimePassed(), now)) == NAMES[:1]
    assert machine.handle(DeviceEvent(NAMES[0], Failed(one.LOST)), now) == []
    assert machine.next_deadline_ms() == now + AGAIN_MS
    assert looks(machine.handle(TimePassed(), now + AGAIN_MS)) == NAMES[:1]
    machine.handle(DeviceEvent(NAMES[0], Failed(one.LOST)), now + AGAIN_MS)
    assert machine.is_over
    assert machine.outcomes()[0].phase is Phase.FALTERED


def test_no_more_are_looked_at_at_a_time_than_may_be():
    machine, _ = soaking(waves=(Share(3), Share(2)), parallel=2)
    assert looks(machine.handle(TimePassed(), 1_000 + MINUTES_5)) == NAMES[:2]
    assert looks(machine.handle(DeviceEvent(NAMES[0], Performed(())), 1_001 + MINUTES_5)) == [NAMES[2]]


@pytest.mark.parametrize("is_looking", [False, True])
def test_ctrl_c_ends_it_at_once(is_looking):
    machine, _ = soaking()
    if is_looking:
        assert looks(machine.handle(TimePassed(), 1_000 + MINUTES_5)) == NAMES[:2]
    machine.handle(CancelRequested(), 400_000)
    assert machine.is_over
    assert machine.handle(DeviceEvent(NAMES[0], Failed(GONE)), 400_001) == [], "an answer that comes late is nobody's"
    assert [outcome.phase for outcome in machine.outcomes()] == [Phase.CONFIRMED] * 2 + [Phase.SKIPPED] * 3
    assert {outcome.failure.message for outcome in machine.outcomes()[2:]} == {"stopped before its turn"}


def test_a_wave_of_which_nothing_is_kept_needs_no_soak_and_the_last_one_neither():
    machine = rollout("device", Pace(waves=(Share(1), Share(4)), soak_ms=MINUTES_5))
    (first,) = machine.handle(Begin(), 0)
    assert isinstance(first.effect, Connect)
    machine.handle(DeviceEvent(NAMES[0], Failed(one.LOST)), 0)
    after = machine.handle(DeviceEvent(NAMES[0], one.OK), 0)
    assert begun_in(after) == NAMES[1:]
    assert not [effect for effect in kept(machine, after) if isinstance(effect, Soaking)]
    assert machine.is_over
