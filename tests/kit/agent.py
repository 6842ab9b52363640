"""A whole agent, keeper and worker, in a namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from igmpconf.agent.image import Image
from igmpconf.agent.journal import Journal
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from tests.kit.netns import Namespace, wait_until


def seeded(state_dir: Path, config: dict[str, Any]) -> None:
    """Leave `config` as the running configuration that the next start finds."""
    journal = Journal(state_dir)
    journal.write(Image(running=from_plain(DeviceConfig, config)))
    journal.close()


class Agent:
    """`igmpconf-agent run` inside a namespace, with `config` as what it ran before; `stop` it, or let the namespace end it."""

    def __init__(self, inside: Namespace, directory: Path, config: dict[str, Any] | None = None, *more: str, pass_fds: tuple[int, ...] = ()) -> None:
        self.inside = inside
        self.state_dir = directory / "state"
        self.socket = directory / "agent.sock"
        self.log = directory / "agent.log"
        self._more, self._pass_fds = more, pass_fds
        if config is not None:
            seeded(self.state_dir, config)
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "igmpconf.agent.main", "run", "--state-dir", str(self.state_dir), "--socket", str(self.socket), *self._more]
            self.process = self.inside.popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=self._pass_fds)
        wait_until(lambda: self.engine_pid() or self.process.poll() is not None, "the engine's pid", timeout_s=30)
        assert self.process.poll() is None, self.said()

    def engine_pid(self, other_than: int | None = None) -> int | None:
        """The worker's pid as the agent published it."""
        try:
            pid = int((self.state_dir / "engine.pid").read_text(encoding="ascii"))
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            return None
        return pid if pid != other_than else None

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(15)
