"""The whole way over OpenSSH, as from a shell."""

from __future__ import annotations

import getpass
import shutil

import pytest

from tests.topology.test_openssh import SSHD, Sshd

pytestmark = pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="OpenSSH is not installed (Debian: openssh-server)")


@pytest.fixture
def sshd(tmp_path, place, agent):
    (tmp_path / "sshd").mkdir()
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    server = Sshd(tmp_path / "sshd", agent.socket_path)
    server.start()
    (tmp_path / "home" / ".ssh" / "config").write_text(f"Host *\n  IdentityFile {server.home / 'user'}\n")
    try:
        yield server
    finally:
        server.stop()


def trust(tmp_path, sshd, key="host.pub"):
    kind, blob, *_ = (sshd.home / key).read_text().split()
    (tmp_path / "home" / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {kind} {blob}\n")


def test_plan_apply_show_over_ssh(igmpconf, agent, sshd, tmp_path):
    trust(tmp_path, sshd)
    address = f"ssh://{getpass.getuser()}@127.0.0.1:{sshd.port}"
    assert igmpconf("plan", "-d", address, "-f", "home.yaml", "-o", "plan.json").code == 0
    applied = igmpconf("apply", "plan.json", "--yes", "--confirm-timeout", "120s")
    assert applied.code == 0, applied.err
    assert [entry.interface for entry in agent.engine.config.proxies[0].interfaces] == ["lan0", "wan"]
    assert "239.1.1.1" in igmpconf("show", "groups", "-d", address).out
    assert getpass.getuser() in igmpconf("history", "-d", address).out


@pytest.mark.parametrize(("key", "words"), [(None, "is not known"), ("user.pub", "has changed")])
def test_a_wrong_host_key_is_5_and_nothing_is_sent(igmpconf, agent, sshd, tmp_path, *, key, words):
    if key is not None:
        trust(tmp_path, sshd, key)
    said = igmpconf("apply", "-d", f"ssh://{getpass.getuser()}@127.0.0.1:{sshd.port}", "-f", "home.yaml", "--yes")
    assert said.code == 5
    assert words in said.err
    assert "hint: " in said.err
    assert agent.engine.config.proxies == ()
