"""A real OpenSSH server whose `netconf` subsystem is the agent's."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ncclient import manager

from tests.kit.netconf import eventually

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)


class Sshd:
    """One sshd with its own keys and configuration."""

    def __init__(self, home: Path, agent_socket: Path) -> None:
        self.home = home
        self.port = 0
        self.log = home / "sshd.log"
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True)
        shutil.copy(home / "user.pub", home / "authorized_keys")
        self._subsystem = f"{sys.executable} -m igmpconf.agent.main netconf --socket {agent_socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # what its init script does
        for _ in range(5):  # somebody may take the free port before sshd does
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.port = probe.getsockname()[1]
            (self.home / "sshd_config").write_text(self._config())
            with self.log.open("wb") as log:
                self._process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(self.home / "sshd_config")], stderr=log, stdin=subprocess.DEVNULL)
            eventually(lambda: self._is_listening() or self._process.poll() is not None, within_s=10)
            if self._process.poll() is None:
                return
        pytest.fail(f"sshd does not start: {self.log.read_text()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=10)

    def _config(self) -> str:
        return "\n".join(
            (
                f"Port {self.port}",
                "ListenAddress 127.0.0.1",
                f"HostKey {self.home / 'host'}",
                f"AuthorizedKeysFile {self.home / 'authorized_keys'}",
                "PidFile none",
                "StrictModes no",  # the test's directory belongs to a world-writable one
                "UsePAM no",
                "PasswordAuthentication no",
                "KbdInteractiveAuthentication no",
                "PermitRootLogin prohibit-password",
                f"Subsystem netconf {self._subsystem}",
                "",
            )
        )

    def _is_listening(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def command(self) -> list[str]:
        """`ssh -s ... netconf`."""
        options = [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
        ]
        return ["ssh", "-F", "none", *options, "-i", str(self.home / "user"), "-p", str(self.port), "-s", f"{getpass.getuser()}@127.0.0.1", "netconf"]

    @contextlib.contextmanager
    def connected(self) -> Iterator[manager.Manager]:
        session = manager.connect_ssh(
            host="127.0.0.1",
            port=self.port,
            username=getpass.getuser(),
            key_filename=str(self.home / "user"),
            hostkey_verify=False,
            allow_agent=False,
            look_for_keys=False,
            timeout=20,
        )
        try:
            yield session
        finally:
            if session.connected:
                session.close_session()
