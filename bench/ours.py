"""igmpconf on the lab's router, driven as its users drive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from igmpconf.lab.lab import Lab
from igmpconf.lab.topology import ROUTER

_CONFIGURATION = """\
igmp-proxy:
  - name: default
    family: [{family}]
    quick-leave: on
    interfaces:
      - {{interface: wan, upstream: yes}}
      - interface: lan0
      - {{interface: lan1, query-interval: {lan1_query_interval}}}
"""

_START_S = 60  # on a machine that has a lot else to do


class _Configured:
    """An agent on the lab's router, whatever way leads to it."""

    name = "igmpconf"
    device = "router"  # as `-d` wants it

    def __init__(self, lab: Lab, family: str = "ipv4") -> None:
        self._lab, self._family = lab, family
        self.apply("125s")

    def apply(self, lan1_query_interval: str) -> None:
        file = self._lab.home / "bench.yaml"
        file.write_text(_CONFIGURATION.format(lan1_query_interval=lan1_query_interval, family=self._family), encoding="ascii")
        igmpconf(self._lab, "apply", "-f", str(file), "--yes", device=self.device)


class Igmpconf(_Configured):
    """The agent of the lab, configured over SSH."""

    def kill(self) -> None:
        self._exchanged(self._lab.kill_engine)

    def restart(self) -> None:
        """A new engine in place of the old one, as an upgrade does it."""
        self._exchanged(self._lab.renew_engine)

    def change_elsewhere(self) -> None:
        self.apply("60s")

    def stop(self) -> None:
        self._lab.stop_agent()

    def _exchanged(self, how: Callable[[], int]) -> None:
        old = how()
        deadline = time.monotonic() + 10
        while self._lab.engine_pid() in (old, None) or not self._lab.agent_runs():
            if time.monotonic() > deadline:
                raise RuntimeError("the engine did not come back")
            time.sleep(0.02)


class BehindSshd(_Configured):
    """An agent as it runs on a device: `igmpconf-agent run`, which serves a unix socket and leaves SSH to OpenSSH."""

    def __init__(self, lab: Lab, family: str = "ipv4") -> None:
        if lab.agent_runs():
            lab.stop_agent()
        self._state, self._socket = lab.home / "plain", lab.home / "plain.sock"
        log = lab.home / "plain.log"
        (self._state / "engine.pid").unlink(missing_ok=True)

        def inside() -> int:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            argv = [sys.executable, "-P", "-m", "igmpconf.agent.main", "run", "--state-dir", str(self._state), "--socket", str(self._socket)]
            os.execv(argv[0], argv)

        self._pid = lab.fork(ROUTER, inside)
        deadline = time.monotonic() + _START_S
        while self.engine_pid() is None or not self._socket.exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the agent did not start:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.02)
        self.device = f"unix:{self._socket}"
        super().__init__(lab, family)

    def engine_pid(self) -> int | None:
        """The engine's process, as the lab numbers it."""
        try:
            return int((self._state / "engine.pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def stop(self) -> None:
        os.kill(self._pid, signal.SIGTERM)
        os.waitpid(self._pid, 0)


def igmpconf(lab: Lab, *arguments: str, inventory: Path | None = None, device: str = "router") -> None:
    """One command against the lab's router; its output is shown when it fails."""
    argv = [sys.executable, "-P", "-m", "igmpconf.cli.main", *arguments, "-i", str(inventory or lab.home / "inventory.yaml"), "-d", device]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ | {"NO_COLOR": "1"})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
