"""`igmpconf lab` and `igmpconf demo` as they are typed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from igmpconf.lab import example

pytestmark = pytest.mark.kernel


def igmpconf(state: Path, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "igmpconf.cli.main", *arguments],
        cwd=state.parent,
        env=os.environ | {"XDG_STATE_HOME": str(state), "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    state = tmp_path_factory.mktemp("lab") / "state"
    up = igmpconf(state, "lab", "up")
    if "namespace" in up.stderr and up.returncode:
        pytest.skip(up.stderr)
    assert up.returncode == 0, up.stderr
    assert "igmpconf plan -f examples/home.yaml" in up.stderr
    yield state
    assert igmpconf(state, "lab", "down").returncode == 0
    gone = igmpconf(state, "lab", "status")
    assert gone.returncode == 1
    assert "igmpconf lab up" in gone.stderr
    assert not (state / "igmpconf" / "lab" / "inventory.yaml").exists()  # the other commands no longer take it for a device


def test_the_lab_is_the_device_when_nobody_names_one(running: Path) -> None:
    (running.parent / "home.yaml").write_text(example.HOME)
    planned = igmpconf(running, "plan", "-f", "home.yaml", "--detailed-exitcode")
    assert planned.returncode == 2, planned.stderr
    assert "interfaces[lan0]: query-interval 31.25s" in planned.stdout
    assert "router of the running lab" in planned.stderr


def test_a_second_one_is_refused_with_the_way_out(running: Path) -> None:
    again = igmpconf(running, "lab", "up")
    assert again.returncode == 1
    assert "running already" in again.stderr
    assert "igmpconf lab down" in again.stderr


def test_status_and_watch_show_every_host(running: Path) -> None:
    assert igmpconf(running, "lab", "join", "h2", "239.1.1.1").returncode == 0
    for command in (("status",), ("watch", "--seconds", "0.3")):
        shown = igmpconf(running, "lab", *command)
        assert shown.returncode == 0, shown.stderr
        assert [row for row in shown.stdout.splitlines() if "h2" in row and "239.1.1.1" in row and "yes" in row]
        assert "h3" in shown.stdout
    assert igmpconf(running, "lab", "leave", "h2", "239.1.1.1").returncode == 0


def test_exec_passes_output_and_exit_code_on(running: Path) -> None:
    done = igmpconf(running, "lab", "exec", "h2", "--", "sh", "-c", "cat /proc/net/igmp; exit 3")
    assert done.returncode == 3
    assert "V2" in done.stdout


def test_wrong_words_are_usage_errors_and_wrong_groups_are_told(running: Path) -> None:
    assert igmpconf(running, "lab", "join", "h9", "239.1.1.1").returncode == 64
    wrong = igmpconf(running, "lab", "join", "h1", "10.0.0.1")
    assert wrong.returncode == 1
    assert "no multicast group" in wrong.stderr


def test_kill_ends_the_engine_and_the_next_one_answers(running: Path) -> None:
    killed = igmpconf(running, "lab", "kill")
    assert killed.returncode == 0
    assert "killed the engine" in killed.stderr
    assert igmpconf(running, "show", "interfaces").returncode == 0


def test_the_demo_sees_all_it_claims(tmp_path: Path) -> None:
    seen = igmpconf(tmp_path / "state", "demo", timeout_s=110)
    if "namespace" in seen.stderr and seen.returncode:
        pytest.skip(seen.stderr)
    assert seen.returncode == 0, seen.stdout[-6000:] + seen.stderr
    assert "all of it was seen" in seen.stdout
    assert "✗" not in seen.stdout
