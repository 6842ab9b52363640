"""Debian's igmpproxy on the lab's router, run as its package runs it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from igmpconf.lab.lab import Lab

_CONFIGURATION = """\
quickleave
phyint wan upstream ratelimit 0 threshold 1
    altnet 192.0.2.0/24
phyint lan0 downstream ratelimit 0 threshold 1
phyint lan1 downstream ratelimit 0 threshold 1
phyint lan0-h1 disabled
phyint lan0-h2 disabled
phyint lo disabled
"""
RESTART_AFTER_S = 0.1  # systemd's default RestartSec


def program() -> str | None:
    """Path of igmpproxy, or None when it is not installed."""
    return shutil.which("igmpproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")


class IgmpProxy:
    """One igmpproxy process in the router's namespaces."""

    name = "igmpproxy"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._file = lab.home / "igmpproxy.conf"
        self._log = lab.home / "igmpproxy.log"
        self._file.write_text(_CONFIGURATION, encoding="ascii")
        # Its memberships are the kernel's, whose limit of 20 would otherwise decide the measurement.
        lab.run("router", ["sh", "-c", "echo 10000 >/proc/sys/net/ipv4/igmp_max_memberships"])
        self._pid = self._start()

    def _start(self) -> int:
        path = program()
        assert path is not None
        self._log.unlink(missing_ok=True)

        def inside() -> int:
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.execv(path, [path, "-n", str(self._file)])

        pid = self._lab.fork("router", inside)
        _wait(lambda: self._vifs() == 3)
        return pid

    def _vifs(self) -> int:
        table = self._lab.home / "vifs"
        self._lab.run("router", ["sh", "-c", f"tail -n +2 /proc/net/ip_mr_vif | wc -l >{table}"])
        return int(table.read_text(encoding="ascii"))

    def kill(self) -> None:
        """kill -9, and the restart that systemd would do."""
        self._end(signal.SIGKILL)
        time.sleep(RESTART_AFTER_S)
        self._pid = self._start()

    def restart(self) -> None:
        self._end(signal.SIGTERM)
        self._pid = self._start()

    def change_elsewhere(self) -> None:
        """A change of lan1; igmpproxy reads its file at the start only, so this is a restart."""
        self._file.write_text(_CONFIGURATION.replace("phyint lan1 downstream ratelimit 0", "phyint lan1 downstream ratelimit 1"), encoding="ascii")
        self.restart()

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        inner = self._lab.home / "inner"
        self._lab.run("router", ["sh", "-c", f"pidof igmpproxy >{inner}"])
        for pid in Path(inner).read_text(encoding="ascii").split():
            self._lab.run("router", ["kill", f"-{int(how)}", pid])
        os.waitpid(self._pid, 0)


def _wait(what: object, within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    assert callable(what)
    while not what():
        if time.monotonic() > deadline:
            raise RuntimeError("igmpproxy did not start")
        time.sleep(0.02)
