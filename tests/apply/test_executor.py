from __future__ import annotations

import signal
import threading
import time
from xml.etree.ElementTree import Element, SubElement

import pytest

from igmpconf.apply.device import LadderPolicy
from igmpconf.apply.executor import Execution
from igmpconf.apply.rollout import Record, Rollout
from igmpconf.apply.session import DeviceSession, device_state, running_config
from igmpconf.apply.steps import Phase
from igmpconf.errors import IgmpconfError, InDoubt
from igmpconf.ids import DeviceName, PersistId
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NetconfClient
from igmpconf.plan.plan import Plan, planned
from tests.apply.agents import RememberingEngine, running_agent

ROUTER = DeviceName("router")


def home(*extra, upstream="wan"):
    return from_plain(DeviceConfig, {"igmp-proxy": [{"interfaces": [{"interface": upstream, "upstream": True}, "lan0", *extra]}]})


class Notes(list):
    def write(self, record: Record) -> None:
        self.append((record.what, record.device, record.detail))


@pytest.fixture
def agent(tmp_path):
    with running_agent(tmp_path) as running:
        yield running


def plan_for(agent, wanted, plan_id="p1") -> Plan:
    with NetconfClient.connect(agent.target) as client:
        return Plan(plan_id=plan_id, devices=(planned(ROUTER, running_config(client), wanted, device_state(client)),))


def apply(agent, wanted, *, persist_id="p1", plan=None, notes=None, **policy):
    plan = plan or plan_for(agent, wanted, persist_id)
    rollout = Rollout(plan=plan, persist_id=PersistId(persist_id), policy=LadderPolicy(**{"verify_timeout_ms": 400, **policy}))
    session = DeviceSession(target=agent.target, plan=plan.devices[0], plan_id=plan.plan_id)
    (outcome,) = Execution(rollout, {ROUTER: session}, notes if notes is not None else Notes()).run()
    return outcome


def running(agent):
    with NetconfClient.connect(agent.target) as client:
        return running_config(client), device_state(client)


def wait_until(holds, *, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def test_a_change_is_made_verified_and_confirmed(agent):
    notes = Notes()
    outcome = apply(agent, home(), notes=notes)
    assert (outcome.phase, outcome.failure) == (Phase.CONFIRMED, None)
    config, state = running(agent)
    assert config == home()
    assert state.agent.pending_persist_id is None
    assert [what for what, *_ in notes] == ["committing", "confirming", "ended"]


def test_no_thread_is_left_behind(agent):
    before = set(threading.enumerate())
    assert apply(agent, home()).phase is Phase.CONFIRMED
    assert {thread for thread in threading.enumerate() if thread not in before and thread.name.startswith(("netconf", "device"))} == set()


def test_the_history_says_which_plan_and_why(agent):
    plan = plan_for(agent, home())
    rollout = Rollout(plan=plan, persist_id=PersistId("p1"), policy=LadderPolicy())
    session = DeviceSession(target=agent.target, plan=plan.devices[0], plan_id="p1", comment="first light")
    Execution(rollout, {ROUTER: session}, Notes()).run()
    _, state = running(agent)
    assert {(row.plan, row.comment) for row in state.history if row.event in {"commit", "confirmed"}} == {("p1", "first light")}


def test_the_same_plan_twice_does_nothing_the_second_time(agent):
    plan = plan_for(agent, home())
    assert apply(agent, home(), plan=plan).phase is Phase.CONFIRMED
    commits = len(running(agent)[1].history)
    again = apply(agent, home(), plan=plan, persist_id="p1-2")
    assert (again.phase, again.failure) == (Phase.UNCHANGED, None)
    assert len(running(agent)[1].history) == commits


def test_the_access_rules_of_the_device_stay_as_they_are(agent):
    nacm = "{urn:ietf:params:xml:ns:yang:ietf-netconf-acm}"
    rules = Element(f"{nacm}nacm")
    SubElement(SubElement(rules, f"{nacm}rule-list"), f"{nacm}name").text = "of the operator"
    with NetconfClient.connect(agent.target) as client:
        client.edit([rules], default_operation="merge")
        client.commit()
    assert apply(agent, home("lan1")).phase is Phase.CONFIRMED
    assert apply(agent, DeviceConfig(), persist_id="p2").phase is Phase.CONFIRMED
    with NetconfClient.connect(agent.target) as client:
        assert [one.text for one in client.get_config().iter(f"{nacm}name")] == ["of the operator"]
    assert running(agent)[0] == DeviceConfig()  # which are no part of what a plan is about


def test_a_plan_against_another_state_is_refused_and_leaves_nothing_behind(agent):
    plan = plan_for(agent, home())
    assert apply(agent, home("lan1"), persist_id="other").phase is Phase.CONFIRMED
    refused = apply(agent, home(), plan=plan)
    assert (refused.phase, refused.failure.kind) == (Phase.REFUSED, "stale")
    assert running(agent)[0] == home("lan1")
    with NetconfClient.connect(agent.target) as client:
        client.lock()  # nobody holds it any more
        client.unlock()


def test_a_change_whose_facts_do_not_come_true_is_undone(agent):
    assert apply(agent, home()).phase is Phase.CONFIRMED
    undone = apply(agent, home(upstream="wan9"), persist_id="p2")
    assert (undone.phase, undone.failure.kind) == (Phase.ROLLED_BACK, "verify")
    assert "upstream wan9 of default is absent or down" in undone.failure.message
    config, state = running(agent)
    assert config == home()
    assert state.agent.pending_persist_id is None


def test_a_downstream_that_the_change_brings_down_undoes_it(agent):
    assert apply(agent, home()).phase is Phase.CONFIRMED
    agent.engine.lose = lambda config: {"lan0"} if config == home("lan1") else set()
    undone = apply(agent, home("lan1"), persist_id="p2")
    assert "downstream lan0 of default was up and is absent or down" in undone.failure.message
    assert running(agent)[0] == home()


def test_what_the_kernel_refuses_leaves_everything_as_it_was(agent):
    assert apply(agent, home()).phase is Phase.CONFIRMED
    agent.engine.refuse = lambda config: config == home("lan1")
    refused = apply(agent, home("lan1"), persist_id="p2")
    assert (refused.phase, refused.failure.kind) == (Phase.REFUSED, "rpc")
    assert "another program holds the multicast routing socket" in refused.failure.message
    config, state = running(agent)
    assert config == home()
    assert state.agent.pending_persist_id is None


def test_somebody_elses_lock_is_named(agent):
    with NetconfClient.connect(agent.target) as other:
        other.lock()
        refused = apply(agent, home())
        assert (refused.phase, refused.failure.tag) == (Phase.REFUSED, "lock-denied")
        assert refused.failure.is_retryable
        assert f"session-id {other.session_id}" in refused.failure.message
    assert running(agent)[0] == DeviceConfig()


def test_a_change_left_unconfirmed_waits_and_can_be_kept_later(agent):
    left = apply(agent, home(), is_confirmed=False)
    assert left.phase is Phase.LEFT
    assert running(agent)[1].agent.pending_persist_id == "p1"
    with NetconfClient.connect(agent.target) as client:
        client.commit(persist_id="p1")
    config, state = running(agent)
    assert (config, state.agent.pending_persist_id) == (home(), None)


def test_a_change_left_unconfirmed_undoes_itself(agent):
    assert apply(agent, home(), is_confirmed=False, confirm_timeout_s=1).phase is Phase.LEFT
    wait_until(lambda: running(agent)[0] == DeviceConfig())


def test_a_pending_commit_of_somebody_else_is_named(agent):
    assert apply(agent, home(), is_confirmed=False).phase is Phase.LEFT
    refused = apply(agent, home("lan1"), persist_id="p2")
    assert refused.phase is Phase.REFUSED
    assert "waits for its confirmation (p1)" in refused.failure.message
    assert "igmpconf cancel p1" in refused.failure.hint


@pytest.mark.parametrize(("is_kept", "phase", "expected"), [(True, Phase.CONFIRMED, home()), (False, Phase.ROLLED_BACK, DeviceConfig())])
def test_an_interrupted_apply_is_settled_as_its_journal_says(agent, is_kept, phase, expected):
    plan = plan_for(agent, home())
    assert apply(agent, home(), plan=plan, is_confirmed=False).phase is Phase.LEFT  # as if we had died here
    rollout = Rollout(plan=plan, persist_id=PersistId("p1"))
    session = DeviceSession(target=agent.target, plan=plan.devices[0], plan_id="p1")
    (outcome,) = Execution(rollout, {ROUTER: session}, Notes()).run(resume={ROUTER: is_kept})
    assert outcome.phase is phase
    assert running(agent)[0] == expected


def test_an_agent_that_is_not_there_is_told_and_nothing_is_doubtful(agent):
    plan = plan_for(agent, home())
    agent.stop()
    refused = apply(agent, home(), plan=plan)
    assert (refused.phase, refused.failure.kind) == (Phase.REFUSED, "transport")
    assert "the agent is not running" in refused.failure.message
    assert "igmpconf-agent run" in refused.failure.hint


def test_ctrl_c_while_unconfirmed_undoes_the_change(agent):
    """The signal arrives in the middle of the climb; the device ends old."""
    agent.engine.present.discard("wan")  # the facts will never be complete, so verification lasts until somebody stops it
    assert running(agent)[0] == DeviceConfig()

    class Pressed(Notes):
        def write(self, record):
            super().write(record)
            if record.what == "committing":
                signal.raise_signal(signal.SIGINT)

    notes = Pressed()
    outcome = apply(agent, home(), notes=notes, verify_timeout_ms=300)
    assert outcome.phase is Phase.ROLLED_BACK
    config, state = running(agent)
    assert (config, state.agent.pending_persist_id) == (DeviceConfig(), None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_leaves_and_names_the_way_back(agent):
    class Pressed(Notes):
        def write(self, record):
            super().write(record)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(InDoubt) as caught:
        apply(agent, home(), notes=Pressed())
    assert caught.value.hint == "igmpconf apply --resume p1"


def test_a_journal_that_cannot_be_written_stops_before_the_commit(agent):
    class Full:
        def write(self, record):
            raise IgmpconfError("the disk is full")

    with pytest.raises(IgmpconfError, match="disk is full"):
        apply(agent, home(), notes=Full())
    wait_until(lambda: running(agent)[0] == DeviceConfig())
    assert running(agent)[1].agent.pending_persist_id is None


def test_two_devices_stand_or_fall_together_when_the_fleet_is_atomic(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with running_agent(tmp_path / "a") as first, running_agent(tmp_path / "b") as second:
        second.engine.present.discard("wan")
        names = [DeviceName("a"), DeviceName("b")]
        plans = []
        for name, one in zip(names, (first, second), strict=True):
            with NetconfClient.connect(one.target) as client:
                plans.append(planned(name, running_config(client), home(), device_state(client)))
        plan = Plan(plan_id="p1", devices=tuple(plans))
        sessions = {name: DeviceSession(target=one.target, plan=p, plan_id="p1") for name, one, p in zip(names, (first, second), plans, strict=True)}
        notes = Notes()
        outcomes = Execution(Rollout(plan=plan, persist_id=PersistId("p1"), policy=LadderPolicy(verify_timeout_ms=300), atomic="fleet"), sessions, notes).run()
        assert [outcome.phase for outcome in outcomes] == [Phase.ROLLED_BACK, Phase.ROLLED_BACK]
        assert ("decided-undo", None, "") in notes
        assert running(first)[0] == running(second)[0] == DeviceConfig()
        second.engine.present.add("wan")
        sessions = {name: DeviceSession(target=one.target, plan=p, plan_id="p1") for name, one, p in zip(names, (first, second), plans, strict=True)}
        outcomes = Execution(Rollout(plan=plan, persist_id=PersistId("p2"), atomic="fleet"), sessions, notes).run()
        assert [outcome.phase for outcome in outcomes] == [Phase.CONFIRMED, Phase.CONFIRMED]
        assert running(first)[0] == running(second)[0] == home()


def test_an_agent_that_dies_with_an_unconfirmed_change_is_in_doubt_and_comes_back_old(tmp_path):
    engine = RememberingEngine()
    with running_agent(tmp_path, engine) as first:
        plan = plan_for(first, home())
        rollout = Rollout(plan=plan, persist_id=PersistId("p1"), policy=LadderPolicy(confirm_timeout_s=1))
        session = DeviceSession(target=first.target, plan=plan.devices[0], plan_id="p1")
        (outcome,) = Execution(rollout, {ROUTER: session}, Notes(), progress=lambda _name, phase: first.stop() if phase is Phase.PROVISIONAL else None).run()
        assert (outcome.phase, outcome.failure.kind) == (Phase.IN_DOUBT, "transport")
        assert outcome.undoes_itself_by_ms is not None
    with running_agent(tmp_path, engine) as again:
        assert running(again)[0] == DeviceConfig()
        rollout = Rollout(plan=plan, persist_id=PersistId("p1"))
        session = DeviceSession(target=again.target, plan=plan.devices[0], plan_id="p1")
        (outcome,) = Execution(rollout, {ROUTER: session}, Notes()).run(resume={ROUTER: False})
        assert outcome.phase is Phase.ROLLED_BACK
