from __future__ import annotations

import threading

import pytest

from igmpconf.apply.device import LadderPolicy, Phase
from igmpconf.apply.executor import Execution
from igmpconf.apply.rollout import Record, Rollout
from igmpconf.apply.session import DeviceSession, device_state, running_config
from igmpconf.ids import DeviceName, PersistId
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NetconfClient
from igmpconf.plan.plan import Plan, planned
from tests.apply.agents import running_agent

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


def plan_for(agent, wanted) -> Plan:
    with NetconfClient.connect(agent.target) as client:
        return Plan(plan_id="p1", devices=(planned(ROUTER, running_config(client), wanted, device_state(client)),))


def apply(agent, wanted, *, persist_id="p1", plan=None, notes=None, **policy):
    plan = plan or plan_for(agent, wanted)
    rollout = Rollout(plan=plan, persist_id=PersistId(persist_id), policy=LadderPolicy(**{"verify_timeout_ms": 400, **policy}))
    session = DeviceSession(target=agent.target, plan=plan.devices[0], plan_id=plan.plan_id)
    (outcome,) = Execution(rollout, {ROUTER: session}, notes if notes is not None else Notes()).run()
    return outcome


def running(agent):
    with NetconfClient.connect(agent.target) as client:
        return running_config(client), device_state(client)


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
