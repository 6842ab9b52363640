from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from igmpconf.cli.main import run
from tests.apply.agents import RunningAgent, running_agent

HOME = """\
igmp-proxy:
  - name: default
    interfaces:
      - {interface: wan, upstream: yes}
      - interface: lan0
        query-interval: 3125
"""


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A directory of one's own, with no trace of this machine's user."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    for name in ("IGMPCONF_DEVICE", "SSH_AUTH_SOCK", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    (work / "home.yaml").write_text(HOME)
    return work


@pytest.fixture
def igmpconf(place, capsys):
    """Run a command line; the answer is its exit code and what it said."""

    def command(*arguments: object) -> Said:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return command


@pytest.fixture
def agent(tmp_path, place, monkeypatch) -> RunningAgent:
    """A served agent that is the default device."""
    (tmp_path / "agent").mkdir()
    with running_agent(tmp_path / "agent") as running:
        monkeypatch.setenv("IGMPCONF_DEVICE", f"unix:{running.socket_path}")
        yield running
