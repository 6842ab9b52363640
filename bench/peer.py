"""Other proxies on the lab's router: Debian's igmpproxy, run as its package runs it, and those that this machine happens to have.

A peer is found by its name on the PATH or by IGMPCONF_BENCH_ and its name in capitals, which holds the path of its program.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
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
_FRR = """\
interface wan
 ip pim
 ip pim passive
 ip igmp
 ip igmp proxy
exit
interface lan0
 ip pim
 ip pim passive
 ip igmp
 ip igmp immediate-leave
exit
interface lan1
 ip pim
 ip pim passive
 ip igmp
 ip igmp immediate-leave
exit
interface lan2
 ip pim
 ip pim passive
 ip igmp
exit
router pim
 rp 192.0.2.2 224.0.0.0/4
exit
"""
_ANY = frozenset({"burst-v2", "burst-v3", "steady", "cost-100", "cost-10000"})  # `idle` is for who holds 10,000 groups that came at once
RESTART_AFTER_S = 0.1  # systemd's default RestartSec
_FOLDERS = "/usr/sbin:/usr/local/sbin"  # daemons are not on the PATH of every user
_START_S, _END_S = 10.0, 60.0


class _Process:
    """A program in the router's namespaces."""

    def __init__(self, lab: Lab, name: str, argv: list[str]) -> None:
        self._lab, self._name = lab, name
        self._log, self._number = lab.home / f"{name}.log", lab.home / f"{name}.pid"
        self._log.unlink(missing_ok=True)

        def inside() -> int:
            self._number.write_text(str(os.getpid()), encoding="ascii")
            output = os.open(self._log, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.execv(argv[0], argv)

        self._child = lab.fork(ROUTER, inside)

    def pid(self) -> int:
        """As the lab numbers it."""
        return int(self._number.read_text(encoding="ascii"))

    def log(self) -> str:
        return f"{self._name}: {self._log.read_text(encoding='utf-8', errors='replace')}"

    def end(self, how: signal.Signals) -> None:
        """Send the signal and wait; who has not ended after a minute, busy with what it was told, is killed."""
        self._kill(how)
        try:
            _wait(lambda: os.waitpid(self._child, os.WNOHANG)[0] != 0, f"{self._name} did not end", _END_S)
        except RuntimeError:
            self._kill(signal.SIGKILL)
            os.waitpid(self._child, 0)

    def _kill(self, how: signal.Signals) -> None:
        self._lab.run(ROUTER, ["kill", f"-{int(how)}", str(self.pid())])


class Peer(ABC):
    """Another proxy in the router's namespaces."""

    name: ClassVar[str]
    configuration: ClassVar[str] = ""  # the text of its file, if it reads one
    vifs: ClassVar[int] = 3  # interfaces that it has the kernel route between when it is ready
    feeds_late_joiners: ClassVar[bool] = True  # a stream that came before anybody had joined reaches whoever joins then
    measures: ClassVar[frozenset[str]] = _ANY  # of `scale`, those that it can do

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._file = lab.home / f"{self.name}.conf"
        self._file.write_text(self.configuration, encoding="ascii")
        # A peer's memberships are the kernel's, whose limits would otherwise decide the measurement: a socket has 20, or, by the memory
        # that they take, 2,730.  The second is the machine's with older kernels, and stays then.
        lab.run(ROUTER, ["sh", "-c", "echo 10000 >/proc/sys/net/ipv4/igmp_max_memberships"])
        lab.run(ROUTER, ["sh", "-c", "echo 4194304 2>/dev/null >/proc/sys/net/core/optmem_max || true"])
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

    @abstractmethod
    def commands(self, program: str) -> dict[str, list[str]]:
        """The command lines of its processes, each with a name; the last one's is the proxy."""

    def pid(self) -> int:
        """The proxy's process, as the lab numbers it."""
        return self._processes[-1].pid()

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _start(self) -> None:
        program = self.program()
        assert program is not None
        self._processes = [_Process(self._lab, name, argv) for name, argv in self.commands(program).items()]
        try:
            _wait(lambda: self._routed() == self.vifs, f"{self.name} did not start", _START_S)
        except RuntimeError as why:
            raise RuntimeError("\n".join([str(why), *(process.log() for process in self._processes)])) from None

    def _routed(self) -> int:
        table = self._lab.home / "vifs"
        self._lab.run(ROUTER, ["sh", "-c", f"tail -n +2 /proc/net/ip_mr_vif | wc -l >{table}"])
        return int(table.read_text(encoding="ascii"))

    def _end(self, how: signal.Signals) -> None:
        for process in reversed(self._processes):
            process.end(how)


class IgmpProxy(Peer):
    """Debian's."""

    name = "igmpproxy"
    configuration = _IGMPPROXY
    measures = _ANY | {"quick-leave"}

    def commands(self, program: str) -> dict[str, list[str]]:
        return {self.name: [program, "-n", str(self._file)]}

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
    """mcproxy, in C++; it asks before it believes any leave, so there is no quick one to measure."""

    name = "mcproxy"
    configuration = _MCPROXY

    def commands(self, program: str) -> dict[str, list[str]]:
        return {self.name: [program, "-f", str(self._file)]}


class OmcProxy(Peer):
    """omcproxy, OpenWrt's, in C; the entry of a stream is made when the stream comes and changed by no join or leave after that."""

    name = "omcproxy"
    feeds_late_joiners = False
    measures = _ANY | {"mld-burst-v1", "mld-burst-v2"}

    def commands(self, program: str) -> dict[str, list[str]]:
        return {self.name: [program, "wan,lan0,lan1"]}


class Frr(Peer):
    """FRR 10 with `ip igmp proxy`: its pimd, which the variable names, since other programs are called so too, and the zebra beside that."""

    name = "FRR"
    configuration = _FRR
    vifs = 4  # one is pimd's own, for PIM's registers
    measures = _ANY | {"idle", "quick-leave"}

    def commands(self, program: str) -> dict[str, list[str]]:
        home = self._lab.home / "frr"
        home.mkdir(exist_ok=True)
        (home / "zebra.conf").write_text("", encoding="ascii")
        (home / "zserv").unlink(missing_ok=True)
        common = ["-z", str(home / "zserv"), "--vty_socket", str(home), "-P", "0", "-u", "root", "-g", "root"]
        zebra = [str(Path(program).with_name("zebra")), "-f", str(home / "zebra.conf"), "-i", str(home / "zebra.pid"), *common]
        pimd = [program, "-f", str(self._file), "-i", str(home / "pimd.pid"), *common]
        # Without zebra's socket pimd would wait for ten seconds before it looked again.
        return {"zebra": zebra, "pimd": ["/bin/sh", "-c", f'while [ ! -S {home}/zserv ]; do sleep 0.02; done; exec "$@"', "pimd", *pimd]}


KINDS: tuple[type[Peer], ...] = (IgmpProxy, McProxy, OmcProxy, Frr)


def peers() -> list[type[Peer]]:
    """Those of them that are on this machine."""
    return [kind for kind in KINDS if kind.program() is not None]


def _wait(what: Callable[[], bool], otherwise: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise)
        time.sleep(0.02)
