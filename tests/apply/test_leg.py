"""One device's way in legs that others do: what is taken back before anybody has begun it, and what is not so sure."""

from __future__ import annotations

import pickle
import threading

from igmpconf.apply.device import AGAIN_MS, LadderPolicy
from igmpconf.apply.leg import Assignment, Journey, RemoteLadder
from igmpconf.apply.steps import Begin, CancelRequested, Failed, Leg, LegEnd, Performed, Phase, TakenBack, TimePassed
from igmpconf.model.config import DeviceConfig
from igmpconf.plan.plan import DevicePlan
from tests.apply.agents import running_agent
from tests.apply.test_device import BASE, ID, LOST, TARGET
from tests.apply.test_executor import home, plan_for, running, wait_until


def begun(*, is_stopped: bool = True) -> RemoteLadder:
    plan = DevicePlan(device="r", base_digest=BASE, target_digest=TARGET, changes=(), target=DeviceConfig())
    ladder = RemoteLadder(plan=plan, persist_id=ID, policy=LadderPolicy())
    assert ladder.handle(Begin(), 0) == (Leg(is_kept=None),)
    if is_stopped:
        assert ladder.handle(CancelRequested(), 0) == ()
    return ladder


def undone(ladder: RemoteLadder, effects) -> None:
    assert effects == (Leg(is_kept=False),)
    ladder.handle(Performed(LegEnd(phase=Phase.ROLLED_BACK)), AGAIN_MS)
    assert (ladder.phase, ladder.next_deadline_ms()) == (Phase.ROLLED_BACK, None)


def test_a_climb_that_nobody_began_leaves_the_device_as_it_was():
    ladder = begun()
    assert ladder.handle(TakenBack(), 0) == ()
    assert (ladder.phase, ladder.failure.message) == (Phase.SKIPPED, "stopped before its turn")


def test_of_a_climb_whose_worker_was_lost_before_nobody_knows_so_the_device_is_looked_at():
    ladder = begun(is_stopped=False)
    assert ladder.handle(Failed(LOST), 0) == ()
    assert ladder.handle(TimePassed(), AGAIN_MS) == (Leg(is_kept=None),)
    ladder.handle(CancelRequested(), AGAIN_MS)
    undone(ladder, ladder.handle(TakenBack(), AGAIN_MS))


def test_who_was_told_to_stop_does_not_climb_again():
    ladder = begun()
    undone(ladder, ladder.handle(Failed(LOST), 0))
    between = begun(is_stopped=False)
    between.handle(Failed(LOST), 0)
    undone(between, between.handle(CancelRequested(), 1))


def test_a_climb_that_was_at_work_is_undone_when_it_arrives():
    ladder = begun()
    undone(ladder, ladder.handle(Performed(LegEnd(phase=Phase.VERIFIED, undoes_itself_in_ms=50_000)), 0))


def test_a_climb_that_is_hurried_turns_back_where_it_is(tmp_path):
    """It waits for an upstream that does not come; one that was hurried before it began commits nothing."""
    with running_agent(tmp_path) as agent:
        agent.engine.present.discard("wan")
        (plan,) = plan_for(agent, home()).devices
        policy = LadderPolicy(confirm_timeout_s=600, verify_timeout_ms=200_000)
        climb = Assignment(target=agent.target, plan=plan, plan_id="p1", persist_id=ID, policy=policy, effect=Leg(is_kept=None))
        journey, ends = pickle.loads(pickle.dumps(Journey())), []
        under_way = threading.Thread(target=lambda: ends.append(journey(climb)))
        under_way.start()
        wait_until(lambda: running(agent)[0] == home())
        journey.hurry()
        under_way.join(60)
        assert [end.answer.phase for end in ends] == [Phase.ROLLED_BACK]
        assert running(agent)[0] == DeviceConfig()
        commits = len(running(agent)[1].history)
        late = Journey()
        late.hurry()
        assert late(climb).answer.phase is Phase.REFUSED
        assert len(running(agent)[1].history) == commits
