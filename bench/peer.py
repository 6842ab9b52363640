"""Other proxies on the lab's router: Debian's igmpproxy, run as its package runs it, and those that this machine happens to have.

A peer is found by its name on the PATH or by IGMPCONF_BENCH_ and its name in capitals, which holds the path of its program.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from typing import ClassVar

from igmpconf.lab.lab import Lab
from igmpconf.lab.topology import ROUTER

_IGMPPROXY = """\
quickleave
phyint wan upstream ratelimit 0 threshold 1
    altnet 192.0.2.0/24
phyint lan0 downstream ratelimit 0 threshold 1
phyint lan1 downstream ratelimit 0 threshold 1
phyint lan0-h1 disabled
phyint lan0-h2 disabled
phyint lo disabled
"""
_MCPROXY = """\
protocol IGMPv3;
pinstance lab: wan ==> lan0 lan1;
"""
RESTART_AFTER_S = 0.1  # systemd's default RestartSec
_FOLDERS = "/usr/sbin:/usr/local/sbin"  # daemons are not on the PATH of every user
_PATIENCE_S = 10.0


class Peer:
    """One process of another proxy in the router's namespaces."""

    name: ClassVar[str]
    feeds_late_joiners: ClassVar[bool] = True  # a stream that came before anybody had joined reaches whoever joins then
    measures: ClassVar[frozenset[str]]  # of `scale`, those that it can do
    configuration: ClassVar[str] = ""  # the text of its file, if it reads one

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._file = lab.home / f"{self.name}.conf"
        self._file.write_text(self.configuration, encoding="ascii")
        # A peer's memberships are the kernel's, whose limit of 20 would otherwise decide the measurement.
        lab.run(ROUTER, ["sh", "-c", "echo 10000 >/proc/sys/net/ipv4/igmp_max_memberships"])
        self._start()

    @classmethod
    def program(cls) -> str | None:
        """Path of the program, or None when it is not installed."""
        variable = f"IGMPCONF_BENCH_{cls.name.upper()}"
        named = os.environ.get(variable)
        path = shutil.which(named or cls.name, path=f"{os.environ.get('PATH', '')}:{_FOLDERS}")
        if named and path is None:
            raise SystemExit(f"{variable} is {named}, which is no program")
        return path

    def arguments(self) -> list[str]:
        """What follows the program on its command line."""
        raise NotImplementedError

    def pid(self) -> int:
        """The process, as the lab numbers it."""
        return self._pid

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _start(self) -> None:
        path = self.program()
        assert path is not None
        argv = [path, *self.arguments()]
        log, number = self._lab.home / f"{self.name}.log", self._lab.home / f"{self.name}.pid"
        log.unlink(missing_ok=True)

        def inside() -> int:
            number.write_text(str(os.getpid()), encoding="ascii")
            output = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.execv(path, argv)

        self._child = self._lab.fork(ROUTER, inside)
        try:
            _wait(lambda: self._vifs() == 3, f"{self.name} did not start")
        except RuntimeError as why:
            raise RuntimeError(f"{why}:\n{log.read_text(encoding='utf-8', errors='replace')}") from None
        self._pid = int(number.read_text(encoding="ascii"))

    def _vifs(self) -> int:
        table = self._lab.home / "vifs"
        self._lab.run(ROUTER, ["sh", "-c", f"tail -n +2 /proc/net/ip_mr_vif | wc -l >{table}"])
        return int(table.read_text(encoding="ascii"))

    def _end(self, how: signal.Signals) -> None:
        self._lab.run(ROUTER, ["kill", f"-{int(how)}", str(self._pid)])
        try:
            _wait(lambda: os.waitpid(self._child, os.WNOHANG)[0] != 0, f"{self.name} did not end")
        except RuntimeError:
            self._lab.run(ROUTER, ["kill", f"-{int(signal.SIGKILL)}", str(self._pid)])  # so that it does not stand in the next one's way
            os.waitpid(self._child, 0)
            raise


class IgmpProxy(Peer):
    """Debian's."""

    name = "igmpproxy"
    configuration = _IGMPPROXY
    measures = frozenset({"burst-v2", "burst-v3", "steady", "cost-100", "cost-10000", "quick-leave"})  # 10,000 groups it does not come to hold

    def arguments(self) -> list[str]:
        return ["-n", str(self._file)]

    def kill(self) -> None:
        """kill -9, and the restart that systemd would do."""
        self._end(signal.SIGKILL)
        time.sleep(RESTART_AFTER_S)
        self._start()

    def restart(self) -> None:
        self._end(signal.SIGTERM)
        self._start()

    def change_elsewhere(self) -> None:
        """A change of lan1; igmpproxy reads its file at the start only, so this is a restart."""
        self._file.write_text(_IGMPPROXY.replace("phyint lan1 downstream ratelimit 0", "phyint lan1 downstream ratelimit 1"), encoding="ascii")
        self.restart()


class McProxy(Peer):
    """mcproxy, in C++; a leave is waited for by its queries always, so there is no quick leave to measure."""

    name = "mcproxy"
    configuration = _MCPROXY
    measures = frozenset({"burst-v2", "burst-v3"})

    def arguments(self) -> list[str]:
        return ["-f", str(self._file)]


class OmcProxy(Peer):
    """omcproxy, OpenWrt's, in C; the entry of a stream is made when the stream comes and changed by no join or leave after that."""

    name = "omcproxy"
    feeds_late_joiners = False
    measures = frozenset({"burst-v2", "burst-v3"})

    def arguments(self) -> list[str]:
        return ["wan,lan0,lan1"]


KINDS: tuple[type[Peer], ...] = (IgmpProxy, McProxy, OmcProxy)


def peers() -> list[type[Peer]]:
    """Those of them that are on this machine."""
    return [kind for kind in KINDS if kind.program() is not None]


def _wait(what: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not what():
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise)
        time.sleep(0.02)
