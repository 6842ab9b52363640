"""plan, apply, confirm, cancel, resume, history, rollback and drift as a user types them, against a real agent."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import jsonschema
import pytest

from igmpconf.apply.journal import read
from igmpconf.model.config import DeviceConfig
from igmpconf.plan.plan import json_schema as plan_schema
from tests.cli.conftest import HOME

WIDER = HOME + "      - lan1\n"
BROKEN = HOME.replace("interface: wan", "interface: wan9")


@pytest.fixture(autouse=True)
def files(place):
    (place / "wider.yaml").write_text(WIDER)
    (place / "broken.yaml").write_text(BROKEN)


def entries(agent) -> list[str]:
    return [entry.interface for proxy in agent.engine.config.proxies for entry in proxy.interfaces]


def until(holds, within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def test_the_walk(igmpconf, agent):
    planned = igmpconf("plan", "-f", "home.yaml", "-o", "plan.json")
    assert planned.code == 0
    assert "+ interfaces[lan0]: query-interval 3125 (31.25s)" in planned.out
    assert "Plan: 1 to add, 0 to change, 0 to remove." in planned.out
    assert entries(agent) == []
    applied = igmpconf("apply", "plan.json", "--yes")
    assert applied.code == 0
    assert applied.out.splitlines()[-1].startswith(f"Applied to unix:{agent.socket_path} in ")
    assert "confirmed" in applied.err
    assert entries(agent) == ["lan0", "wan"]
    again = igmpconf("apply", "-f", "home.yaml")
    assert (again.code, again.out) == (0, f"No changes. unix:{agent.socket_path} is as wanted.\n")
    assert len(agent.engine.replaced) == len({id(config) for config in agent.engine.replaced})


def test_nothing_to_change_makes_no_commit_and_no_journal(igmpconf, agent, tmp_path):
    assert igmpconf("apply", "-f", "home.yaml", "--yes").code == 0
    journals = list((tmp_path / "state-home" / "igmpconf" / "rollouts").iterdir())
    replaced = len(agent.engine.replaced)
    assert igmpconf("apply", "-f", "home.yaml", "--yes").code == 0
    assert list((tmp_path / "state-home" / "igmpconf" / "rollouts").iterdir()) == journals
    assert len(agent.engine.replaced) == replaced


def test_the_saved_plan_twice_does_nothing_the_second_time(igmpconf, agent):
    igmpconf("plan", "-f", "home.yaml", "-o", "plan.json")
    igmpconf("apply", "plan.json", "--yes")
    replaced = len(agent.engine.replaced)
    again = igmpconf("apply", "plan.json", "--yes")
    assert again.code == 0
    assert "already is as planned; nothing was done" in again.out
    assert len(agent.engine.replaced) == replaced


def test_a_stale_plan_is_refused(igmpconf, agent):
    igmpconf("plan", "-f", "home.yaml", "-o", "plan.json")
    assert igmpconf("apply", "-f", "wider.yaml", "--yes").code == 0
    stale = igmpconf("apply", "plan.json", "--yes")
    assert stale.code == 4
    assert "changed since the plan was made" in stale.err
    assert "hint: make a new plan" in stale.err
    assert entries(agent) == ["lan0", "lan1", "wan"]


def test_a_change_that_does_not_verify_is_rolled_back(igmpconf, agent):
    igmpconf("apply", "-f", "home.yaml", "--yes")
    undone = igmpconf("apply", "-f", "broken.yaml", "--yes", "--verify-timeout", "1s")
    assert undone.code == 7
    assert "rolled back" in undone.err
    assert "upstream wan9 of default is absent or down" in undone.err
    assert "--allow-down wan9" in undone.err
    assert entries(agent) == ["lan0", "wan"]
    allowed = igmpconf("apply", "-f", "broken.yaml", "--yes", "--allow-down", "wan9")
    assert allowed.code == 0
    assert "warning: " in allowed.err
    assert entries(agent) == ["lan0", "wan9"]


def test_what_the_device_refuses_is_6_and_changes_nothing(igmpconf, agent):
    agent.engine.refuse = lambda config: bool(config.proxies)
    refused = igmpconf("apply", "-f", "home.yaml", "--yes")
    assert refused.code == 6
    assert "another program holds the multicast routing socket" in refused.err
    assert "nothing was changed" in refused.err
    assert entries(agent) == []


def test_an_unconfirmed_change_undoes_itself(igmpconf, agent):
    left = igmpconf("apply", "-f", "home.yaml", "--yes", "--no-confirm", "--confirm-timeout", "3s")
    assert left.code == 0
    assert re.search(r"undoes itself in [0-3]s unless: igmpconf confirm", left.out)  # a busy machine is late with telling it
    assert any(config.proxies for config in agent.engine.replaced)
    until(lambda: "rollback-timeout" in igmpconf("history").out)  # its engine was old a moment before
    assert entries(agent) == []
    late = igmpconf("confirm", re.search(r"confirm (\S+)", left.out)[1])
    assert late.code == 7
    assert "undid the change before it could be confirmed" in late.err


@pytest.mark.parametrize(("verb", "expected"), [("confirm", ["lan0", "wan"]), ("cancel", [])])
def test_an_unconfirmed_change_is_settled_by_hand(igmpconf, agent, verb, expected):
    left = igmpconf("apply", "-f", "home.yaml", "--yes", "--no-confirm")
    identity = re.search(r"confirm (\S+)", left.out)[1]
    warned = igmpconf("plan", "-f", "home.yaml")
    assert f"a commit waits for its confirmation: igmpconf confirm {identity}" in warned.err
    assert igmpconf(verb, identity).code == 0
    assert entries(agent) == expected
    again = igmpconf(verb, identity)
    assert again.code == 0
    assert "nothing is left to settle" in again.err


def test_another_machine_can_settle_by_naming_the_device(igmpconf, agent, monkeypatch, tmp_path):
    identity = re.search(r"confirm (\S+)", igmpconf("apply", "-f", "home.yaml", "--yes", "--no-confirm").out)[1]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    assert igmpconf("cancel", "wrong-id", "-d", f"unix:{agent.socket_path}").code == 6
    assert igmpconf("cancel", identity, "-d", f"unix:{agent.socket_path}").code == 0
    assert entries(agent) == []


def test_nobody_to_ask_is_a_usage_error(igmpconf, agent, monkeypatch):
    with open(os.devnull) as nothing:  # noqa: PTH123 - stdin wants a file
        monkeypatch.setattr("sys.stdin", nothing)
        refused = igmpconf("apply", "-f", "home.yaml")
    assert refused.code == 64
    assert "--yes" in refused.err
    assert entries(agent) == []


@pytest.mark.parametrize(("answer", "code", "expected"), [("y\n", 0, ["lan0", "wan"]), ("n\n", 1, [])])
def test_on_a_terminal_apply_asks(igmpconf, agent, monkeypatch, *, answer, code, expected):
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    said = igmpconf("apply", "-f", "home.yaml")
    assert said.code == code
    assert "Apply this plan?" in said.err
    assert entries(agent) == expected


def test_live_groups_are_named_and_can_be_protected(igmpconf, agent, place):
    igmpconf("apply", "-f", "wider.yaml", "--yes")
    (place / "narrow.yaml").write_text("igmp-proxy: {interfaces: [{interface: wan, upstream: yes}, lan1]}\n")
    planned = igmpconf("plan", "-f", "narrow.yaml")
    assert "impact: interrupts 239.1.1.1 on lan0 (lan0 is removed)" in planned.out
    refused = igmpconf("apply", "-f", "narrow.yaml", "--yes", "--max-impact", "none")
    assert refused.code == 1
    assert "--max-impact is none" in refused.err
    assert entries(agent) == ["lan0", "lan1", "wan"]


def test_the_json_of_a_plan_is_the_document_and_fits_its_schema(igmpconf, agent, place):
    said = igmpconf("plan", "-f", "home.yaml", "--format", "json")
    document = json.loads(said.out)
    jsonschema.validate(document, plan_schema())
    (place / "from-stdout.json").write_text(said.out)
    assert igmpconf("apply", "from-stdout.json", "--yes").code == 0
    assert entries(agent) == ["lan0", "wan"]


def test_exit_code_2_when_asked_for(igmpconf, agent):
    assert igmpconf("plan", "-f", "home.yaml", "--detailed-exitcode").code == 2
    assert igmpconf("drift", "-f", "home.yaml").code == 2
    igmpconf("apply", "-f", "home.yaml", "--yes", "-m", "evening")
    assert igmpconf("plan", "-f", "home.yaml", "--detailed-exitcode").code == 0
    assert igmpconf("drift", "-f", "home.yaml").code == 0
    drifted = igmpconf("drift", "-f", "wider.yaml")
    assert drifted.code == 2
    assert "evening" in drifted.err


def test_history_and_back(igmpconf, agent):
    igmpconf("apply", "-f", "home.yaml", "--yes", "-m", "first")
    igmpconf("apply", "-f", "wider.yaml", "--yes", "-m", "second")
    rows = json.loads(igmpconf("history", "--format", "json").out)["devices"][0]["rows"]
    assert {row["comment"] for row in rows} == {"first", "second"}
    text = igmpconf("history")
    assert "first" in text.out
    assert "interfaces[lan1]" in igmpconf("history", "--diff").out
    back = igmpconf("rollback", "--yes")
    assert back.code == 0
    assert "- igmp-proxy[default]/interfaces[lan1]" in back.out
    assert entries(agent) == ["lan0", "wan"]
    newest = json.loads(igmpconf("history", "--format", "json").out)["devices"][0]["rows"][-1]
    assert "rollback to commit" in newest["comment"]
    number = next(row["number"] for row in rows if row["comment"] == "second")
    assert igmpconf("rollback", number, "--yes").code == 0
    assert entries(agent) == ["lan0", "lan1", "wan"]
    assert igmpconf("rollback", "999", "--yes").code == 6


def test_rollback_of_the_first_commit_leaves_nothing(igmpconf, agent):
    assert igmpconf("apply", "-f", "home.yaml", "--yes").code == 0
    back = igmpconf("rollback", "--yes")
    assert (back.code, agent.engine.config) == (0, DeviceConfig()), back.err
    assert "back to commit 0" in back.err
    assert igmpconf("rollback", "--yes").code == 0  # and forward again
    assert agent.engine.config != DeviceConfig()
    assert igmpconf("rollback", "0", "--yes").code == 0
    assert agent.engine.config == DeviceConfig()


def test_rollback_of_a_device_without_history_says_so(igmpconf, agent):
    said = igmpconf("rollback", "--yes")
    assert said.code == 3
    assert "no earlier configuration" in said.err


def test_a_killed_controller_is_resumed_from_its_journal(agent, igmpconf, place, tmp_path):
    """kill -9 while verification waits for an upstream that does not come; the next run undoes what nobody decided to keep."""
    agent.engine.present.discard("wan")
    process = subprocess.Popen(
        [sys.executable, "-m", "igmpconf.cli.main", "apply", "-f", "home.yaml", "--yes", "--confirm-timeout", "60s"], stdout=subprocess.PIPE, text=True
    )
    try:
        until(lambda: entries(agent) == ["lan0", "wan"])
    finally:
        process.kill()
        process.communicate()
    (journal,) = (tmp_path / "state-home" / "igmpconf" / "rollouts").iterdir()
    assert list(read(journal.stem).unsettled.values()) == [False]
    resumed = igmpconf("apply", "--resume", journal.stem)
    assert resumed.code == 7, resumed
    assert entries(agent) == []
    assert igmpconf("apply", "--resume", journal.stem).code == 0
    assert igmpconf("apply", "--resume", "no-such").code == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_middle_leaves_the_device_old_and_says_so(agent, place, number):
    agent.engine.present.discard("wan")
    process = subprocess.Popen(
        [sys.executable, "-m", "igmpconf.cli.main", "apply", "-f", "home.yaml", "--yes", "--confirm-timeout", "60s", "--verify-timeout", "20s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: entries(agent) == ["lan0", "wan"])
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 7, err
    assert "as before" in err
    assert entries(agent) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_the_end_does_not_claim_that_nothing_was_changed(agent, place, number):
    """The signal comes when the device has its change and the process has not said so yet."""
    script = (
        "import os, sys\n"
        "from igmpconf.apply import run\n"
        "from igmpconf.cli import main\n"
        "ended = run.Journal.close\n"
        f"run.Journal.close = lambda journal: (os.kill(os.getpid(), {int(number)}), ended(journal))[1]\n"
        "sys.argv[1:] = ['apply', '-f', 'home.yaml', '--yes']\n"
        "main.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Applied to " in done.stdout
    assert entries(agent) == ["lan0", "wan"]


def test_colour_is_for_terminals_and_no_color_is_obeyed(agent, place):
    import pty

    def said(**environment: str) -> str:
        ours, theirs = pty.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "igmpconf.cli.main", "plan", "-f", "home.yaml"],
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
            check=True,
        )
        os.close(theirs)
        assert done.returncode == 0
        text = os.read(ours, 65536).decode()
        os.close(ours)
        return text

    assert "\x1b[" in said()
    assert "\x1b[" not in said(NO_COLOR="1")


def test_formats_for_reviews_and_ci(igmpconf, agent):
    assert "```diff\n+ igmp-proxy[default]" in igmpconf("plan", "-f", "home.yaml", "--format", "markdown").out
    report = igmpconf("plan", "-f", "home.yaml", "--format", "junit").out
    assert '<testsuite name="igmpconf plan" tests="1" failures="1">' in report
    igmpconf("apply", "-f", "home.yaml", "--yes")
    assert 'failures="0"' in igmpconf("plan", "-f", "home.yaml", "--format", "junit").out
