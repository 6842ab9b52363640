"""What a session costs: round trips over a line with distance, connections, threads; and that a kept one may have died."""

from __future__ import annotations

import threading

import pytest

from bench.relay import Relay
from igmpconf.apply.device import LadderPolicy
from igmpconf.apply.kept import KeptSessions
from igmpconf.apply.run import Circumstances, Settings, perform
from igmpconf.apply.session import config_and_state
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.target import UnixTarget
from igmpconf.plan.plan import Plan, planned
from tests.fleet.agents import Fleet

HOME = from_plain(DeviceConfig, {"igmp-proxy": [{"interfaces": [{"interface": "wan", "upstream": True}, "lan0"]}]})


class Notes(list):
    """What would be told to a person."""

    def __call__(self, device, phase) -> None:
        self.append((device, phase.value))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))


@pytest.fixture
def fleet(tmp_path):
    (tmp_path / "agents").mkdir()
    with Fleet(tmp_path / "agents", [f"r{number}" for number in range(1, 41)]) as made:
        yield made


def planned_over(target, kept) -> Plan:
    client = NetconfClient.connect(target)
    running, state = config_and_state(client)
    kept.put(client)
    return Plan(plan_id="p1", devices=(planned(target.device, running, HOME, state),))


def test_an_apply_takes_six_round_trips_after_planning(fleet, tmp_path):
    """Lock with both reads, edit with validation, commit; hello, state, confirmation over the fresh session; nobody waits for two good-byes."""
    with Relay(round_trip_s=0.1) as relay, KeptSessions() as kept:
        relay.unix(tmp_path / "far.sock", fleet["r1"].socket_path)
        target = UnixTarget(device="r1", path=str(tmp_path / "far.sock"))
        plan = planned_over(target, kept)
        assert relay.turns <= 2, "hello, both reads"
        before = relay.turns
        result = perform(plan, {"r1": target}, Settings(), Circumstances(kept=kept))
        assert result.exit_code == 0
        assert relay.turns - before <= 6 + 2
    assert fleet["r1"].interfaces() == ["lan0", "wan"]


def test_a_kept_session_that_has_died_is_replaced(fleet):
    with KeptSessions() as kept:
        plan = planned_over(fleet["r1"].target, kept)
        fleet.kill("r1")
        fleet.start("r1")
        settings = Settings(policy=LadderPolicy(attempts=1))
        assert perform(plan, {"r1": fleet["r1"].target}, settings, Circumstances(kept=kept)).exit_code == 0


def test_no_more_sessions_are_kept_than_said_and_none_is_left(fleet):
    before = threading.active_count()
    with KeptSessions(most=3) as kept:
        for name in ("r1", "r2", "r3", "r4", "r5"):
            kept.put(NetconfClient.connect(fleet[name].target))
        assert kept.take(fleet["r5"].target) is None
        first = kept.take(fleet["r1"].target)
        assert first is not None
        assert kept.take(fleet["r1"].target) is None
        first.leave()
    assert threading.active_count() == before
    late = NetconfClient.connect(fleet["r1"].target)
    kept.put(late)
    assert not late.is_connected


def test_a_fleet_larger_than_what_is_asked_at_a_time_is_dialled_once(fleet):
    """Forty devices, 32 at a time: every one of them finds its session of the plan again."""
    with KeptSessions() as kept:
        for member in fleet.members.values():
            kept.put(member.client())
        assert len([name for name, member in fleet.members.items() if (one := kept.take(member.target)) is not None and one.leave() is None]) == 40


def test_threads_are_bounded_while_an_atomic_fleet_waits_for_its_last(fleet):
    """Forty devices; the last verifies late.  At most 32 sessions wait open, the others reconnect when it is decided."""
    plans, targets = [], {}
    for name, member in fleet.members.items():
        targets[name] = member.target
        with member.client() as client:
            running, state = config_and_state(client)
            plans.append(planned(name, running, HOME, state))
    fleet["r40"].engine.present.discard("wan")
    most, verified = [0], []

    def progress(device, phase):
        names = [thread.name for thread in threading.enumerate()]
        most[0] = max(most[0], sum(name.startswith("netconf-session") for name in names))
        assert sum(name.startswith("device") for name in names) <= 32
        if phase.value == "verified":
            verified.append(device)
            if len(verified) == 39:
                fleet["r40"].engine.present.add("wan")

    settings = Settings(policy=LadderPolicy(verify_timeout_ms=60_000, confirm_timeout_s=180), atomic="fleet")
    result = perform(Plan(plan_id="p1", devices=tuple(plans)), targets, settings, Circumstances(progress=progress))
    assert result.exit_code == 0, result.outcomes
    assert all(member.interfaces() == ["lan0", "wan"] for member in fleet.members.values())
    assert 32 < most[0] <= 32 + 32, "those at work, and those that wait open"
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(("netconf-session", "device"))] == []
