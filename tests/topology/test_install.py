"""`igmpconf agent install`, `upgrade` and `uninstall` on a device behind a real OpenSSH server.

The device is a namespace and a directory: sshd runs every command inside, the agent's files go below the directory.

head 10.1.0.2 --- wan 10.1.0.1 [router] lan0 10.2.0.1 --- 10.2.0.2 h0
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from igmpconf.apply.install import Layout, unit
from igmpconf.cli.main import run
from igmpconf.lab.keys import write_access
from tests.kit.netns import wait_until
from tests.kit.openssh import SSHD, Sshd
from tests.topology.test_keeper import flowing, net  # noqa: F401 - the same place

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="OpenSSH is not installed (Debian: openssh-server)")]

DESIRED = """
igmp-proxy: {name: default, interfaces: [{interface: wan, upstream: yes}, {interface: lan0}]}
logging: {action: journal}
"""


class Device(Sshd):
    """sshd as a distribution leaves it, with a Match block at the end; what it starts runs in the namespace."""

    def __init__(self, inside, root: Path) -> None:
        self.root = root
        home = root / "etc/ssh"
        home.mkdir(parents=True)
        (root / "run").mkdir()
        super().__init__(home, root / "run/igmpconf/agent.sock")
        self._inside = inside

    def _config(self) -> str:
        kept = [line for line in super()._config().splitlines() if not line.startswith(("Subsystem", "PidFile"))]
        enter = " ".join(self._inside._enter)
        return "\n".join(
            (
                *kept,
                f"PidFile {self.root}/run/sshd.pid",
                f'ForceCommand exec {enter} sh -c "$SSH_ORIGINAL_COMMAND"',
                "Match User nobody",
                "    X11Forwarding no",
                "",
            )
        )

    @property
    def config(self) -> str:
        return (self.home / "sshd_config").read_text()


@pytest.fixture
def device(net, tmp_path):  # noqa: F811
    made = Device(net.router, tmp_path / "device")
    try:
        made.start()
        write_access(tmp_path, made.port)
        shutil.copy(tmp_path / "authorized_keys", made.home / "authorized_keys")
        host_key = (made.home / "host.pub").read_text().rpartition(" ")[0]
        (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{made.port} {host_key}\n")
        yield made
    finally:
        made.stop()


@pytest.fixture
def igmpconf(tmp_path, device, capfd):
    def command(*arguments: str, expected: int = 0) -> str:
        code = run([*arguments, "-i", str(tmp_path / "inventory.yaml")])
        said = capfd.readouterr()
        assert code == expected, said.out + said.err
        return said.out + said.err

    return command


def test_from_nothing_to_a_stream_to_another_version_to_nothing(net, device, igmpconf, tmp_path):  # noqa: F811
    root = str(device.root)
    before = device.config
    said = igmpconf("agent", "install", "router", "--root", root)
    assert "is installed and answers NETCONF" in said
    assert "there is no systemd: the agent was started" in said
    line = next(line for line in device.config.splitlines() if line.startswith("Subsystem netconf"))
    assert device.config.index(line) < device.config.index("Match User nobody")
    assert device.config.replace(line + "\n", "") == before

    desired = tmp_path / "desired.yaml"
    desired.write_text(DESIRED)
    igmpconf("apply", "-f", str(desired), "-d", "router", "--yes")
    with flowing(net) as stream:
        stream.passed(100)
        again = igmpconf("agent", "install", "router", "--root", root)
        assert "an agent is installed and runs already" in again
        assert "runs" in igmpconf("agent", "upgrade", "router", "--root", root)
        stream.passed(300)
    assert len(list((device.root / "usr/local/bin").glob("igmpconf-agent-*.pyz"))) == 2

    igmpconf("agent", "uninstall", "router", "--root", root, "--yes")
    assert device.config == before
    assert net.router.run("ip mroute show") == ""
    assert list((device.root / "usr/local/bin").iterdir()) == []
    assert (device.root / "var/lib/igmpconf/journal.json").exists()
    igmpconf("agent", "status", "-d", "router", expected=5)
    assert "no agent of ours is installed" in igmpconf("agent", "upgrade", "router", "--root", root, expected=1)


def test_what_fails_half_way_is_taken_back(net, device, igmpconf):  # noqa: F811
    root = str(device.root)
    (device.home / "sshd_config").write_text("Subsystem netconf /opt/other/netconfd\n" + device.config)
    assert "sshd leads NETCONF to another program: Subsystem netconf /opt/other/netconfd" in igmpconf("agent", "install", "router", "--root", root, expected=1)
    assert not (device.root / "usr").exists()
    (device.home / "sshd_config").write_text(device.config.partition("\n")[2])
    (device.root / "run/sshd.pid").rename(device.root / "run/other.pid")  # so that sshd cannot be told
    before = device.config
    said = igmpconf("agent", "install", "router", "--root", root, expected=1)
    assert "cannot reload sshd: sshd has no pid file" in said
    assert device.config == before
    assert list((device.root / "usr/local/bin").iterdir()) == []
    # check=False: a process may end between its being found and its being read
    running = "sh -c 'cat /proc/[0-9]*/cmdline'"
    wait_until(lambda: "igmpconf" not in net.router.run(running, check=False) or not (device.root / "run/igmpconf/agent.sock").exists())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)")
def test_the_unit_is_one_that_systemd_takes(tmp_path):
    program = tmp_path / "igmpconf-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = unit(Layout()).replace(Layout().program, str(program))
    (tmp_path / "igmpconf-agent.service").write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(tmp_path / "igmpconf-agent.service")], capture_output=True, text=True, check=False)
    assert not [line for line in (done.stdout + done.stderr).splitlines() if "igmpconf-agent.service" in line]
    assert "FileDescriptorStoreMax=64" in text
    assert "Type=notify" in text
