"""igmpconf on the lab's router, driven as its users drive it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from igmpconf.lab.lab import Lab

_CONFIGURATION = """\
igmp-proxy:
  - name: default
    quick-leave: on
    interfaces:
      - {{interface: wan, upstream: yes}}
      - interface: lan0
      - {{interface: lan1, query-interval: {lan1_query_interval}}}
"""


class Igmpconf:
    """The agent of the lab, configured over SSH."""

    name = "igmpconf"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.apply("125s")

    def apply(self, lan1_query_interval: str) -> None:
        file = self._lab.home / "bench.yaml"
        file.write_text(_CONFIGURATION.format(lan1_query_interval=lan1_query_interval), encoding="ascii")
        igmpconf(self._lab, "apply", "-f", str(file), "--yes")

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


def igmpconf(lab: Lab, *arguments: str, inventory: Path | None = None) -> None:
    """One command against the lab's router; its output is shown when it fails."""
    argv = [sys.executable, "-P", "-m", "igmpconf.cli.main", *arguments, "-i", str(inventory or lab.home / "inventory.yaml"), "-d", "router"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ | {"NO_COLOR": "1"})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
