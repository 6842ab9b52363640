"""A soak between waves, with real agents: what holds goes on, what does not stops the others and stays changed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest

from igmpconf import api
from igmpconf.apply.journal import read
from igmpconf.apply.result import json_schema
from igmpconf.apply.steps import Phase
from igmpconf.cli.progress import Progress
from tests.fleet.agents import new

NAMES = [f"r{number}" for number in range(1, 5)]


@pytest.fixture
def when_confirmed(monkeypatch):
    """Let something happen at the moment when a device is told to be confirmed, before its soak begins."""

    def arrange(name, happens) -> None:
        tell = Progress.__call__

        def told(progress, device, phase):
            if (device, phase) == (name, Phase.CONFIRMED):
                happens()
            tell(progress, device, phase)

        monkeypatch.setattr(Progress, "__call__", told)

    return arrange


def test_waves_that_hold_follow_each_other(igmpconf, fleet):
    said = igmpconf("apply", "-i", "hosts.yaml", "--yes", "--canary", "1", "--wave", "2", "--soak", "1s")
    assert (said.code, new(fleet)) == (0, NAMES), said.err
    lines = [line for line in said.err.splitlines() if "confirmed" in line or "wave" in line]
    assert lines[0] == "r1: confirmed"
    assert lines[1] == "wave 1 of 3 is kept; the next one begins in 1s, if this one holds"
    assert lines[4] == "wave 2 of 3 is kept; the next one begins in 1s, if this one holds"
    assert len(lines) == 6, "after the last wave nobody waits for anything"


def test_what_does_not_hold_stops_the_others_and_stays_confirmed(igmpconf, fleet, place, when_confirmed, tmp_path):
    when_confirmed("r2", lambda: fleet["r2"].engine.present.discard("wan"))
    flags = ("--wave", "2", "--soak", "1s", "--verify-timeout", "1s", "--result", "result.json")
    said = igmpconf("apply", "-i", "hosts.yaml", "--yes", *flags)
    assert said.code == 1
    assert new(fleet) == ["r1", "r2"]
    assert "Applied to r1 in " in said.out
    assert (
        "igmpconf: r2 is changed, confirmed, and stays as it is, but: r2 is no longer as it was verified: upstream wan of default is absent or down" in said.err
    )
    assert "hint: igmpconf doctor r2 looks for the cause, igmpconf rollback -d r2 takes the change back" in said.err
    assert "not begun, as before: r3, r4: 1 had failed before its turn, and 0 may" in said.err
    document = json.loads((place / "result.json").read_text())
    jsonschema.validate(document, json_schema())
    assert [one["phase"] for one in document["devices"]] == ["confirmed", "confirmed, then faltered", "not begun", "not begun"]
    merged = igmpconf("merge", "result.json")
    assert (merged.code, "1 of 4 devices as planned" in merged.out) == (1, True)
    (journal,) = (tmp_path / "state-home" / "igmpconf" / "rollouts").iterdir()
    assert read(journal.stem).unsettled == {}
    fleet["r2"].engine.present.add("wan")
    on = igmpconf("apply", "--resume", journal.stem, "--continue", "--yes")
    assert "r2: confirmed, then faltered before; it stays as it is" in on.err
    assert (on.code, new(fleet)) == (0, NAMES)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_it_is_compared_with_what_was_before_the_change(fleet, elsewhere, place):
    """lan0 was up before; that it is down now is the change's fault, which the state of now alone does not tell."""
    devices = api.devices("hosts.yaml")
    api.apply(api.plan(devices), devices).raise_if_bad()
    (place / "home.yaml").write_text((place / "home.yaml").read_text().replace("3125", "60s"))

    def told(device, phase) -> None:
        if (device, phase) == ("r1", Phase.CONFIRMED):
            fleet["r1"].engine.present.discard("lan0")

    with ThreadPoolExecutor(4) as pool:
        executor = pool if elsewhere else None
        result = api.apply(api.plan(devices), devices, canary=1, soak_s=0.5, verify_timeout_s=0.5, progress=told, executor=executor)
    assert [outcome.phase for outcome in result.outcomes] == [Phase.FALTERED, *[Phase.SKIPPED] * 3]
    assert "downstream lan0 of default was up and is absent or down" in result.outcomes[0].failure.message


def test_a_device_that_is_gone_after_the_soak_does_not_hold(igmpconf, fleet, when_confirmed):
    when_confirmed("r1", lambda: fleet.kill("r1"))
    said = igmpconf("apply", "-i", "hosts.yaml", "--yes", "--canary", "1", "--soak", "1s")
    assert (said.code, new(fleet)) == (1, ["r1"])
    assert "r1 is changed, confirmed, and stays as it is, but: " in said.err
    assert "the agent is not running" in said.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_soak_at_once(fleet, place, number, igmpconf, tmp_path):
    command = [sys.executable, "-m", "igmpconf.cli.main", "apply", "-i", "hosts.yaml", "--yes", "--canary", "1", "--soak", "1h"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            for line in running.stderr:
                if line.startswith("wave 1 of 2 is kept"):
                    break
            running.send_signal(number)
            out, err = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 7, err
    assert "Applied to r1 in " in out
    assert "r2, r3, r4 are as before: stopped before its turn" in err
    assert new(fleet) == ["r1"]
    (journal,) = (tmp_path / "state-home" / "igmpconf" / "rollouts").iterdir()
    assert igmpconf("apply", "--resume", journal.stem, "--continue", "--yes").code == 0
    assert new(fleet) == NAMES


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--soak", "5m"), 3, "say how many go first, with --canary or --wave"),
        (("--soak", "5m", "--wave", "1", "--atomic", "fleet"), 3, "an atomic fleet keeps nothing before its last wave"),
        (("--soak", "5m", "--wave", "1", "--no-confirm"), 3, "left unconfirmed is not kept"),
        (("--soak", "5", "--wave", "1"), 64, "write 5s"),
        (("--soak", "5 minutes", "--wave", "1"), 64, "units are h, m, s and ms"),
    ],
)
def test_a_soak_that_could_not_be_is_refused_before_anything(igmpconf, fleet, flags, code, words):
    said = igmpconf("apply", "-i", "hosts.yaml", "--yes", *flags)
    assert (said.code, new(fleet)) == (code, [])
    assert words in " ".join(said.err.split())
