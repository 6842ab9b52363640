"""Rollouts over several agents as a user types them: waves, a canary, failures that stop, an atomic fleet, results that merge."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from igmpconf.apply.result import json_schema
from igmpconf.cli.schema import text_of
from tests.fleet.agents import NAMES, begun, new


def apply(igmpconf, *flags):
    return igmpconf("apply", "-i", "hosts.yaml", "--yes", "--verify-timeout", "1s", *flags)


def test_a_canary_that_holds_lets_the_rest_follow(igmpconf, fleet):
    said = apply(igmpconf, "--canary", "1", "--wave", "2")
    assert said.code == 0, said.err
    assert new(fleet) == NAMES
    order = begun(said)
    assert order[0] == "r1"
    assert [sorted(order[at : at + 2]) for at in (1, 3)] == [["r2", "r3"], ["r4", "r5"]]
    assert "Applied to r1, r2, r3, r4, r5, r6 in " in said.out


def test_a_canary_that_fails_stops_everybody_else_and_each_is_named(igmpconf, fleet):
    fleet["r1"].engine.refuse = lambda config: bool(config.proxies)
    said = apply(igmpconf, "--canary", "10%")
    assert said.code == 6
    assert new(fleet) == []
    assert begun(said) == ["r1"]
    assert "not begun, as before: r2, r3, r4, r5, r6: 1 had failed before its turn, and 0 may" in said.err


def test_so_many_failures_may_be(igmpconf, fleet):
    for name in ("r2", "r5"):
        fleet[name].engine.refuse = lambda config: bool(config.proxies)
    said = apply(igmpconf, "--wave", "2,50%", "--max-failures", "1")
    assert said.code == 6
    assert new(fleet) == ["r1", "r3", "r4"], "r2 failed in the first wave, r5 in the second, the third had no turn"
    assert "not begun, as before: r6" in said.err


def test_an_atomic_fleet_ends_alike(igmpconf, fleet):
    lenient = apply(igmpconf, "--atomic", "fleet", "--max-failures", "2")
    assert (lenient.code, new(fleet)) == (3, [])
    fleet["r6"].engine.present.discard("wan")
    said = apply(igmpconf, "--atomic", "fleet", "--wave", "3")
    assert said.code == 7
    assert "r6 took the change, but within" in said.err
    assert new(fleet) == []
    fleet["r6"].engine.present.add("wan")
    assert apply(igmpconf, "--atomic", "fleet", "--wave", "3").code == 0
    assert new(fleet) == NAMES


def test_a_device_that_is_not_there_is_tried_again(igmpconf, fleet, place):
    assert igmpconf("plan", "-i", "hosts.yaml", "-o", "plan.json").code == 0
    fleet.kill("r3")
    said = igmpconf("apply", "plan.json", "-i", "hosts.yaml", "--yes", "--retries", "0")
    assert said.code == 5
    assert "the agent is not running" in said.err
    assert "nothing was changed" in said.err
    assert new(fleet) == ["r1", "r2", "r4", "r5", "r6"]
    fleet.start("r3")
    again = igmpconf("apply", "plan.json", "-i", "hosts.yaml", "--yes")
    assert again.code == 0
    assert "r1 already is as planned" in again.out
    assert new(fleet) == NAMES


def test_nonsense_sizes_are_usage_errors(igmpconf, fleet):
    for flags in (("--canary", "0"), ("--wave", "3,x"), ("--canary", "101%"), ("--parallel", "0")):
        assert apply(igmpconf, *flags).code == 64
    assert apply(igmpconf, "--executor", "abacus").code == 3
    assert new(fleet) == []


def test_the_result_is_a_document_and_shards_merge(igmpconf, fleet, place):
    fleet["r2"].engine.refuse = lambda config: bool(config.proxies)
    first = apply(igmpconf, "-l", "r1,r2", "--result", "a.json")
    second = apply(igmpconf, "-l", "r3,r4,r5,r6", "--result", "b.json")
    assert (first.code, second.code) == (6, 0)
    document = json.loads((place / "a.json").read_text())
    jsonschema.validate(document, json_schema())
    assert {one["device"]: one["phase"] for one in document["devices"]} == {"r1": "confirmed", "r2": "refused"}
    merged = igmpconf("merge", "a.json", "b.json", "-o", "all.json")
    assert merged.code == 6, "the worst of all"
    assert "5 of 6 devices as planned" in merged.out
    whole = json.loads((place / "all.json").read_text())
    jsonschema.validate(whole, json_schema())
    assert [one["device"] for one in whole["devices"]] == NAMES
    twice = igmpconf("merge", "a.json", "a.json")
    assert twice.code == 3
    assert "in more than one" in twice.err


def test_the_schema_of_a_result_is_printed():
    printed = Path(__file__).parents[2] / "schemas" / "result.schema.json"
    assert printed.read_text() == text_of("result"), "run: igmpconf schema result > schemas/result.schema.json"


def test_shards_divide_a_fleet_and_their_plans_and_results_merge(igmpconf, fleet, place):
    for number in (1, 2, 3, 4):
        assert igmpconf("plan", "-i", "hosts.yaml", "--shard", f"{number}/4", "-o", f"{number}.json").code == 0
    assert [[one["device"] for one in json.loads((place / f"{number}.json").read_text())["devices"]] for number in (1, 2, 3, 4)] == [
        ["r1", "r5"],
        ["r2", "r6"],
        ["r3"],
        ["r4"],
    ]
    assert igmpconf("merge", "1.json", "2.json", "3.json", "4.json", "-o", "plan.json").code == 0
    for number in (1, 2):
        assert igmpconf("apply", "plan.json", "-i", "hosts.yaml", "--yes", "--shard", f"{number}/2", "--result", f"r{number}.json").code == 0
    assert new(fleet) == NAMES
    merged = igmpconf("merge", "r1.json", "r2.json")
    assert (merged.code, merged.out) == (0, "6 of 6 devices as planned\n")
    assert apply(igmpconf, "--shard", "1/2", "--atomic", "fleet").code == 64
    assert apply(igmpconf, "--shard", "3/2").code == 64


def test_a_share_of_one_saved_plan_may_be_applied(igmpconf, fleet):
    assert igmpconf("plan", "-i", "hosts.yaml", "-o", "plan.json").code == 0
    assert igmpconf("apply", "plan.json", "-i", "hosts.yaml", "--yes", "--shard", "2/3").code == 0
    assert new(fleet) == ["r2", "r5"]


def test_plans_of_shards_merge_into_one_that_applies(igmpconf, fleet, place):
    for shard, names in (("a", "r1,r2,r3"), ("b", "r4,r5,r6")):
        assert igmpconf("plan", "-i", "hosts.yaml", "-l", names, "-o", f"{shard}.json").code == 0
    assert igmpconf("merge", "a.json", "b.json", "-o", "plan.json").code == 0
    assert igmpconf("apply", "plan.json", "-i", "hosts.yaml", "--yes").code == 0
    assert new(fleet) == NAMES
    assert igmpconf("merge", "a.json", "home.yaml").code == 3


def process(*flags: str, **streams):
    return subprocess.Popen([sys.executable, "-m", "igmpconf.cli.main", "apply", "-i", "hosts.yaml", "--yes", *flags], text=True, **streams)


def until(holds, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@pytest.mark.parametrize("atomic", ["device", "fleet"])
def test_ctrl_c_in_the_middle_of_a_wave(fleet, place, igmpconf, atomic):
    """r2 never verifies; r1 stands alone or falls with it, r3 to r6 have no turn, and all of that is said at once."""
    fleet["r2"].engine.present.discard("wan")
    running = process("--atomic", atomic, "--wave", "2", "--verify-timeout", "20s", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until(lambda: fleet["r2"].interfaces() == ["lan0", "wan"] and pending(fleet, "r1") is (atomic == "fleet"))
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=15)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 7, err
    assert new(fleet) == (["r1"] if atomic == "device" else [])
    assert "not begun, as before: r3, r4, r5, r6: stopped before its turn" in err
    assert ("Applied to r1 " in out) is (atomic == "device")


def pending(fleet, name):
    """Whether a commit waits there; None while it still is old."""
    if fleet[name].interfaces() == []:
        return None
    from igmpconf.apply.session import device_state

    with fleet[name].client() as client:
        return device_state(client, ("agent",)).agent.pending_persist_id is not None


def test_a_killed_controller_of_a_wave_is_resumed_and_names_who_had_no_turn(fleet, place, igmpconf, tmp_path):
    fleet["r2"].engine.present.discard("wan")
    running = process("--atomic", "fleet", "--wave", "2", "--verify-timeout", "20s", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: fleet["r2"].interfaces() == ["lan0", "wan"] and pending(fleet, "r1") is True)
    finally:
        running.kill()
        running.wait()
    (journal,) = (tmp_path / "state-home" / "igmpconf" / "rollouts").iterdir()
    said = igmpconf("apply", "--resume", journal.stem)
    assert said.code == 7, said.err
    assert "not begun, as before: r3, r4, r5, r6" in said.err
    assert new(fleet) == []
    assert not any(pending(fleet, name) for name in NAMES)


def test_on_a_terminal_the_last_line_says_how_far_it_is(fleet, place):
    ours, theirs = pty.openpty()
    running = process(stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    said = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        said += piece
    os.close(ours)
    assert running.wait(20) == 0
    text = said.decode()
    assert "0/6 done, " in text
    assert "6/6 done, 0 at work" in text
    assert text.count(": confirmed\r\n") == 6
    assert text.endswith("\r\x1b[2K")
