"""An agent, keeper and worker, whose Nth system call after a file appeared goes wrong: `python -m tests.faults.striking STATE SOCKET`.

The file is STATE/strike: `7 kill`, `7 ENOSPC`, `7 kernel`.  It is gone before the call goes wrong, so that the next worker lives.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from pathlib import Path

from igmpconf.agent.files import Files
from igmpconf.agent.keeper import Keeper, KeeperLink, control_path, inherited
from igmpconf.agent.worker import WorkerOptions, work
from igmpconf.linux.system import SystemKernel

_COUNTED_FILES = {"create", "write", "flush", "rename", "unlink", "make_directory", "flush_directory"}
_COUNTED_KERNEL = {"add_vif", "del_vif", "join_routers", "leave_routers", "set_route", "clear_route", "send"}


class Strike:
    def __init__(self, order: Path) -> None:
        self._order = order
        self._at = 0
        self._what = ""
        self._calls = 0

    def call(self, kind: str) -> None:
        if not self._at:
            try:
                at, self._what = self._order.read_text(encoding="ascii").split()
            except FileNotFoundError:
                return
            self._at, self._calls = int(at), 0
        if kind not in {"file", "kernel"} or (self._what == "kernel" and kind != "kernel") or (self._what.startswith("E") and kind != "file"):
            return
        self._calls += 1
        if self._calls == self._at:
            self._at = 0
            self._order.unlink()
            if self._what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            code = errno.ENOBUFS if self._what == "kernel" else getattr(errno, self._what)
            raise OSError(code, os.strerror(code))


class Counted:
    """Whatever it stands for, with its calls counted; numbers, sockets and the like pass as they are."""

    def __init__(self, inner: object, strike: Strike, kind: str, names: set[str]) -> None:
        self._inner, self._strike, self._kind, self._names = inner, strike, kind, names

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found

        def call(*given: object, **more: object) -> object:
            self._strike.call(self._kind)
            return found(*given, **more)

        return call


class StrikingKernel(SystemKernel):
    def __init__(self, strike: Strike) -> None:
        super().__init__()
        self._strike = strike

    def open_table(self, *given, **more):
        return Counted(super().open_table(*given, **more), self._strike, "kernel", _COUNTED_KERNEL)


def main() -> int:
    state_dir, serving = map(Path, sys.argv[1:3])
    command = (sys.executable, "-m", "tests.faults.striking", *sys.argv[1:])
    held = inherited()
    link = KeeperLink.from_environment()
    if link is None:
        return Keeper(command, held, control=control_path(serving), serving=serving).run()
    strike = Strike(state_dir / "strike")
    options = WorkerOptions(
        state_dir=state_dir,
        socket_path=serving,
        ssh=None,
        command=command,
        kernel=StrikingKernel(strike),
        files=Counted(Files(), strike, "file", _COUNTED_FILES),  # type: ignore[arg-type]
    )
    return work(options, link, {name: socket.socket(fileno=fd) for name, fd in held.items()})


if __name__ == "__main__":
    sys.exit(main())
