"""`apply --resume ID --continue`: what an apply has left when it was stopped, in the waves that are left of it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import jsonschema
import pytest

from igmpconf import api
from igmpconf.apply import run
from igmpconf.apply.device import LadderPolicy
from igmpconf.apply.journal import Journal, read
from igmpconf.apply.result import json_schema
from igmpconf.apply.rollout import Pace, Share
from igmpconf.apply.session import config_and_state
from igmpconf.apply.steps import Phase
from igmpconf.netconf.client import NetconfClient
from igmpconf.plan.plan import Plan, planned
from igmpconf.schema.xml import config_to_xml
from tests.apply.test_executor import home
from tests.fleet.agents import NAMES, begun, new
from tests.fleet.fatal import Fatal, Killed


def until(holds, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def stopped(igmpconf, fleet, tmp_path):
    """The ID of an apply whose canary r1 was refused, so that the others had no turn."""
    fleet["r1"].engine.refuse = lambda config: bool(config.proxies)
    said = igmpconf("apply", "-i", "hosts.yaml", "--yes", "--canary", "1", "--wave", "2", "-m", "evening")
    assert (said.code, new(fleet)) == (6, [])
    (journal,) = (tmp_path / "state-home" / "igmpconf" / "rollouts").iterdir()
    return journal.stem


def test_those_that_had_no_turn_follow_in_the_same_waves(igmpconf, fleet, stopped, place):
    told = igmpconf("apply", "--resume", stopped)
    assert told.code == 0
    assert f"not begun, as before: r2, r3, r4, r5, r6; igmpconf apply --resume {stopped} --continue goes on with them" in told.err
    said = igmpconf("apply", "--resume", stopped, "--continue", "--yes", "--result", "result.json")
    assert said.code == 0, said.err
    assert "r1: refused before; it stays as it is" in said.err
    assert new(fleet) == NAMES[1:]
    order = begun(said)
    assert [sorted(order[at : at + 2]) for at in (0, 2)] == [["r2", "r3"], ["r4", "r5"]]
    assert "Applied to r2, r3, r4, r5, r6 in " in said.out
    assert "r2, r3, r4, r5, r6 (5 devices alike):" in said.out, "what is still to be done is shown"
    document = json.loads((place / "result.json").read_text())
    jsonschema.validate(document, json_schema())
    assert {one["device"] for one in document["devices"]} == set(NAMES[1:])
    assert {row.comment for row in api.history(api.devices("hosts.yaml", "r4")[0])} == {"evening"}
    again = igmpconf("apply", "--resume", stopped, "--continue", "--yes")
    assert again.code == 0
    assert "nothing is left to settle" in again.err


def test_a_device_that_changed_since_the_plan_is_refused_as_always(igmpconf, fleet, stopped):
    with NetconfClient.connect(fleet["r3"].target) as client:
        client.edit(config_to_xml(home("lan1")))
        client.commit()
    said = igmpconf("apply", "--resume", stopped, "--continue", "--yes")
    assert said.code == 4
    assert "r3 changed since the plan was made" in said.err
    assert new(fleet) == ["r2"], "the failure in the first of the waves left stops the others"
    assert "not begun, as before: r4, r5, r6: 1 had failed before its turn, and 0 may" in said.err
    more = igmpconf("apply", "--resume", stopped, "--continue", "--yes")
    assert (more.code, new(fleet)) == (0, ["r2", "r4", "r5", "r6"])


def test_nobody_is_changed_without_a_yes(igmpconf, fleet, stopped, monkeypatch):
    with open(os.devnull) as nothing:  # noqa: PTH123 - stdin wants a file
        monkeypatch.setattr("sys.stdin", nothing)
        said = igmpconf("apply", "--resume", stopped, "--continue")
    assert (said.code, new(fleet)) == (64, [])


def test_what_cannot_be_continued_is_told(igmpconf, fleet, stopped, tmp_path):
    assert igmpconf("apply", "--continue", "--yes").code == 64
    flags = igmpconf("apply", "--resume", stopped, "--continue", "--yes", "--wave", "3", "--max-failures", "1")
    assert flags.code == 64
    assert "leave out --wave, --max-failures" in flags.err or "leave out --max-failures, --wave" in flags.err
    held = Journal.reopen(stopped)
    busy = igmpconf("apply", "--resume", stopped, "--continue", "--yes")
    held.close()
    assert busy.code == 1
    assert "still at work in another process" in busy.err
    fleet["r6"].engine.refuse = lambda config: bool(config.proxies)
    assert igmpconf("apply", "-i", "hosts.yaml", "--yes", "--atomic", "fleet").code in {6, 7}  # whether others had begun
    (whole,) = (path.stem for path in (tmp_path / "state-home" / "igmpconf" / "rollouts").iterdir() if path.stem != stopped)
    refused = igmpconf("apply", "--resume", whole, "--continue", "--yes")
    assert refused.code == 3
    assert "all of its devices or none" in refused.err
    assert new(fleet) == []


@pytest.mark.parametrize("way", ["kill", "ctrl-c"])
def test_after_the_death_of_the_controller_it_settles_and_goes_on(igmpconf, fleet, place, tmp_path, way):
    """r2 was being verified; nobody decided to keep it, so it is undone, and that is what the exit code says."""
    fleet["r2"].engine.present.discard("wan")
    flags = ["-i", "hosts.yaml", "--yes", "--wave", "2", "--verify-timeout", "20s"]
    running = subprocess.Popen([sys.executable, "-m", "igmpconf.cli.main", "apply", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (tmp_path / "state-home").mkdir(exist_ok=True)
    journals = tmp_path / "state-home" / "igmpconf" / "rollouts"
    try:
        until(lambda: fleet["r2"].interfaces() == ["lan0", "wan"] and read(next(journals.iterdir()).stem).ended.get("r1") == "confirmed")
        running.send_signal(signal.SIGKILL if way == "kill" else signal.SIGINT)
        running.wait(60)
    finally:
        running.kill()
        running.wait()
    (journal,) = journals.iterdir()
    fleet["r2"].engine.present.add("wan")
    said = igmpconf("apply", "--resume", journal.stem, "--continue", "--yes")
    if way == "kill":
        assert "r2: not settled yet; it is undone first" in said.err
        assert (said.code, "rolled back, r2 is as before" in said.err) == (7, True), said.err
    else:
        assert "r2: rolled back before; it stays as it is" in said.err
        assert said.code == 0, said.err
    assert new(fleet) == ["r1", "r3", "r4", "r5", "r6"]
    assert read(journal.stem).unbegun == ()
    for name in NAMES:
        with fleet[name].client() as client:
            assert client.is_connected
    assert igmpconf("plan", "-i", "hosts.yaml", "-l", "r1,r3,r4,r5,r6", "--detailed-exitcode").code == 0


def test_killed_at_any_line_of_its_journal_it_goes_on_and_no_device_is_left_out(fleet, monkeypatch):
    """Each ends new, or is told to be undone because nobody had decided to keep it; none waits, none is forgotten."""
    monkeypatch.setattr(run, "Journal", Fatal)
    names, old, fresh = NAMES[:4], home(), home("lan1")
    targets = {name: fleet[name].target for name in names}
    settings = run.Settings(policy=LadderPolicy(confirm_timeout_s=120), pace=Pace(waves=(Share(1), Share(2)), max_failures=0))
    for line, when in itertools.product(range(1, 3 * len(names) + 1), ("before", "after")):
        plans = []
        for name in names:
            with fleet[name].client() as client:
                client.edit(config_to_xml(old))
                client.commit()
                config, state = config_and_state(client)
                plans.append(planned(name, config, fresh, state))
        plan = Plan(plan_id=f"p-{line}-{when}", devices=tuple(plans))
        Fatal.at, Fatal.lines = (line, when), 0
        with pytest.raises(Killed):
            run.perform(plan, targets, settings)
        Fatal.at = None
        result = run.go_on(read(plan.plan_id))
        story = read(plan.plan_id)
        assert (story.unsettled, story.unbegun) == ({}, ()), (line, when)
        for name in names:
            with fleet[name].client() as client:
                config, state = config_and_state(client)
            assert state.agent.pending_persist_id is None
            undone = [outcome for outcome in result.having(Phase.ROLLED_BACK) if outcome.device == name]
            assert config == (old if undone else fresh), (line, when, name)
            assert story.ended[name] == ("rolled back" if undone else "confirmed")
        assert len(result.having(Phase.ROLLED_BACK)) <= 2, "no more than were under way at a time"


def test_the_python_interface_goes_on_too(fleet, stopped):
    result = api.resume(stopped, go_on=True)
    assert result.exit_code == 0
    assert [outcome.device for outcome in result.outcomes] == NAMES[1:]
    assert new(fleet) == NAMES[1:]
