"""The agent's command line: what is refused before anything starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from igmpconf.agent.main import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "arguments are required: run|netconf"),
        (["walk"], "invalid choice: 'walk'"),
        (["run", "--stat-dir"], "--stat-dir"),
        (["run", "--ssh", "127.0.0.1:8300"], "--ssh needs --host-key and --authorized-keys"),
        (["run", "--ssh", "8300", "--host-key", "k", "--authorized-keys", "a"], "expected ADDR:PORT"),
        (["run", "--ssh", "::1:83000", "--host-key", "k", "--authorized-keys", "a"], "expected ADDR:PORT"),
        (["run", "--ssh", "[::1]:1", "--ssh-fd", "3"], "not allowed with argument"),
        (["run", "--ssh-fd", "three"], "invalid int value"),
    ],
)
def test_a_wrong_command_line_is_64_and_says_why(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 64
    assert words in capsys.readouterr().err


def test_netconf_without_an_agent_is_5(tmp_path, capsys):
    assert main(["netconf", "--socket", str(tmp_path / "none.sock")]) == 5
    assert "cannot reach the agent" in capsys.readouterr().err


def test_a_directory_that_cannot_be_made_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("igmpconf.linux.refusal.missing_capabilities", lambda: ())
    (tmp_path / "file").touch()
    assert main(["run", "--state-dir", str(tmp_path / "file" / "state"), "--socket", str(tmp_path / "a.sock")]) == 1
    said = capsys.readouterr().err
    assert f"cannot create {tmp_path}/file/state" in said
    assert "--state-dir" in said


def test_a_relay_loads_next_to_nothing():
    """It is started for every session: on a slow router each module costs."""
    script = "import sys; from igmpconf.agent.main import main; main(['netconf', '--socket', '/nowhere']); print(*sorted(m for m in sys.modules if m.startswith('igmpconf')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["igmpconf", "igmpconf.agent", "igmpconf.agent.main", "igmpconf.agent.relay"]
