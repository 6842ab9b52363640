"""A running lab, as its users hold it: start it, join and leave, read the counts, run a command inside, end it.

A lab lives under one directory (`home.home_directory()` for the one of `igmpconf lab`): keys, inventory, the agent's
state, logs, and `control.sock`, over which everything here speaks to the supervisor.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from igmpconf.lab.home import connected
from igmpconf.lab.keys import write_access
from igmpconf.lab.namespaces import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, LabError, setns
from igmpconf.lab.stream import GROUPS
from igmpconf.lab.topology import HEADEND, SUBSCRIBERS

_REPLY_BYTES = 262_144
_SOCKET_PATH_BYTES = 107  # sun_path of unix(7), without the final zero
_DOWN_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What one subscriber has seen of one group."""

    joined: bool
    received: int = 0  # by the socket, since it joined
    lost: int = 0
    on_wire: int = 0  # arrived at the interface since the lab began, wanted or not
    idle_ms: int | None = None  # since the last datagram


class Lab:
    """A handle on a running lab."""

    def __init__(self, home: Path, connection: socket.socket, lifeline_fd: int | None = None) -> None:
        self.home = home
        self._connection = connection
        self._lifeline_fd = lifeline_fd

    @classmethod
    def up(cls, home: Path, *, with_agent: bool = True, tied: bool = False) -> Lab:
        """Build a lab under `home` and return when it works.

        `tied`: it ends with this process, however that ends.  Raises LabError when one runs there already, or the
        kernel refuses.
        """
        home = home.absolute()
        if len(os.fsencode(home / "control.sock")) > _SOCKET_PATH_BYTES:
            raise LabError(f"{home} is too long for a unix socket", hint="choose a shorter XDG_STATE_HOME")
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        running = connected(home)
        if running is not None:
            running.close()
            raise LabError(f"a lab is running already ({home})", hint="`igmpconf lab status` shows it, `igmpconf lab down` ends it")
        for left_over in ("control.sock", "agent.sock"):
            (home / left_over).unlink(missing_ok=True)
        ready, ready_fd = os.pipe()
        passed = [ready_fd]
        argv = [sys.executable, "-P", "-m", "igmpconf.lab.supervisor", "--home", str(home), "--ready-fd", str(ready_fd)]
        lifeline_fd = None
        with contextlib.ExitStack() as opened:
            answer = opened.enter_context(os.fdopen(ready, encoding="utf-8"))
            if with_agent:
                # Bound here, in the caller's network, so that ssh from an ordinary shell reaches into the lab.
                listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
                write_access(home, listener.getsockname()[1])
                argv += ["--ssh-fd", str(listener.fileno())]
                passed.append(listener.fileno())
            if tied:
                end, lifeline_fd = os.pipe()
                opened.callback(os.close, end)
                argv += ["--lifeline-fd", str(end)]
                passed.append(end)
            log = opened.enter_context((home / "lab.log").open("wb"))
            process = subprocess.Popen(argv, pass_fds=passed, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            os.close(ready_fd)
            told = answer.readline()
        report = json.loads(told) if told else {"error": "the lab's process ended at its start", "hint": f"see {home / 'lab.log'}"}
        if "error" in report:
            process.wait()
            raise LabError(report["error"], hint=report["hint"])
        (home / "lab.pid").write_text(f"{process.pid}\n", encoding="ascii")
        process.returncode = 0  # ours to end by its socket, not to wait for: it outlives this process
        return cls.at(home, lifeline_fd)

    @classmethod
    def at(cls, home: Path, lifeline_fd: int | None = None) -> Lab:
        """The lab that runs under `home`.  Raises LabError when there is none."""
        connection = connected(home)
        if connection is None:
            raise LabError("no lab is running", hint="start one with `igmpconf lab up`")
        return cls(home, connection, lifeline_fd)

    def down(self) -> None:
        """End the lab and wait until it is gone."""
        with contextlib.suppress(LabError):
            self._ask(op="down")
        self._connection.close()
        if self._lifeline_fd is not None:
            os.close(self._lifeline_fd)
            self._lifeline_fd = None
        pid = int((self.home / "lab.pid").read_text(encoding="ascii"))
        deadline = time.monotonic() + _DOWN_S
        while _alive(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)  # its child is process 1 of the lab and dies with it
            time.sleep(0.01)
        for left_over in ("control.sock", "agent.sock", "lab.pid", "inventory.yaml"):
            (self.home / left_over).unlink(missing_ok=True)

    # --- streams and memberships

    def send(self, group: str, *, rate_per_s: int) -> None:
        """Let the head end send `rate_per_s` datagrams a second to `group`; 0 stops it."""
        self._ask(op="send", node=HEADEND, group=_group(group), rate_per_s=rate_per_s)

    def join(self, host: str, group: str, *, source: str | None = None) -> None:
        """Join on an ordinary socket of `host`; with `source`, that source only (IGMPv3)."""
        self._ask(op="join", node=host, group=_group(group), source=source and _address(source))

    def leave(self, host: str, group: str, *, source: str | None = None) -> None:
        self._ask(op="leave", node=host, group=_group(group), source=source and _address(source))

    def counts(self) -> dict[str, dict[str, Count]]:
        """Per subscriber and group what arrived; both streams are in it, joined or not."""
        told = self._ask(op="status")["counts"]
        return {host.name: _count(told[host.name]) for host in SUBSCRIBERS}

    def sent(self) -> dict[str, int]:
        """Datagrams that the head end has sent, by group."""
        return dict(self._ask(op="status")["counts"][HEADEND]["sent"])

    # --- the router, and commands inside

    def agent_runs(self) -> bool:
        return bool(self._ask(op="status")["agent"])

    def start_agent(self) -> None:
        """Start the router's agent; one that runs is stopped first, politely, so its memberships and routes go."""
        self._ask(op="agent", action="start")

    def stop_agent(self) -> None:
        self._ask(op="agent", action="stop")

    def kill_engine(self) -> int:
        """kill -9 the agent's engine, which its keeper starts again; return the pid it had (inside the lab)."""
        return int(self._ask(op="agent", action="kill"))

    def renew_engine(self) -> int:
        """Have the keeper exchange the engine for a new one, as an upgrade does (SIGHUP); return the old pid."""
        return int(self._ask(op="agent", action="renew"))

    def engine_pid(self) -> int | None:
        """The engine's process inside the lab, or None while there is none."""
        try:
            return int((self.home / "agent" / "engine.pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def fork(self, node: str, inside: Callable[[], int]) -> int:
        """Fork a process into `node`'s namespaces, where `inside` runs and gives its exit code; return its pid.

        `os.waitpid` is the caller's.  The process is in the lab's pid namespace: it dies with the lab.
        """
        fds = self._namespaces(node)
        pid = os.fork()
        if pid == 0:
            try:
                if self._lifeline_fd is not None:
                    os.close(self._lifeline_fd)  # our parent's end decides, not a copy of it
                _enter(fds)
                # Entering a pid namespace takes effect for children only.
                inner = os.fork()
                if inner == 0:
                    os._exit(inside())
                for number in (signal.SIGINT, signal.SIGQUIT):
                    signal.signal(number, signal.SIG_IGN)  # the terminal sends them to the command itself as well
                signal.signal(signal.SIGTERM, lambda *_: os.kill(inner, signal.SIGTERM))
                status = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
                os._exit(status if status >= 0 else 128 - status)  # as a shell says it
            except BaseException as why:  # noqa: BLE001 (a forked child must not return into its parent's code)
                os.write(2, f"lab: {why}\n".encode())
                os._exit(126)
        for fd in fds:
            os.close(fd)
        return pid

    def run(self, node: str, argv: Sequence[str]) -> int:
        """Run a command on a node with our own terminal, and return its exit code (127: no such command)."""

        def inside() -> int:
            try:
                os.execvp(argv[0], list(argv))  # noqa: S606
            except OSError as why:
                os.write(2, f"lab: {argv[0]}: {why.strerror}\n".encode())
                return 127

        pid = self.fork(node, inside)
        with _ignored(signal.SIGINT, signal.SIGQUIT):
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _namespaces(self, node: str) -> list[int]:
        self._connection.send(json.dumps({"op": "namespaces", "node": node}).encode())
        packet, fds, _, _ = socket.recv_fds(self._connection, _REPLY_BYTES, 5)
        _result(packet)
        return fds

    def _ask(self, **request: Any) -> Any:
        try:
            self._connection.send(json.dumps(request).encode())
            packet = self._connection.recv(_REPLY_BYTES)
        except OSError:
            packet = b""
        return _result(packet)


def _result(packet: bytes) -> Any:
    if not packet:
        raise LabError("the lab has ended", hint="start one with `igmpconf lab up`")
    reply = json.loads(packet)
    if "error" in reply:
        raise LabError(reply["error"], hint=reply["hint"])
    return reply["result"]


def _count(told: dict[str, Any]) -> dict[str, Count]:
    joined, on_wire = told["joined"], told["on_wire"]
    counts = {}
    for group in sorted({*GROUPS, *joined, *on_wire}):
        seen = joined.get(group)
        if seen is None:
            counts[group] = Count(joined=False, on_wire=on_wire.get(group, 0))
        else:
            counts[group] = Count(joined=True, received=seen["received"], lost=seen["lost"], on_wire=on_wire.get(group, 0), idle_ms=seen["idle_ms"])
    return counts


def _address(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise LabError(f"{text!r} is no IPv4 address", hint="the lab's hosts speak IGMP; MLD is not in it") from None


def _group(text: str) -> str:
    if not IPv4Address(_address(text)).is_multicast:
        raise LabError(f"{text} is no multicast group", hint=f"groups are 224.0.0.0 to 239.255.255.255; the head end sends {' and '.join(GROUPS)}")
    return text


def _enter(fds: Sequence[int]) -> None:
    """Enter the namespaces in the order supervisor.py sends them; root's labs may share our user namespace."""
    directory = Path.cwd()
    own_user = Path("/proc/self/ns/user").stat()
    *namespaces, root = fds
    for fd, kind in zip(namespaces, (CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET), strict=True):
        if kind == CLONE_NEWUSER and os.fstat(fd).st_ino == own_user.st_ino:
            continue
        setns(fd, kind)
    os.fchdir(root)
    os.chroot(".")
    os.chdir(directory)


def _alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def _ignored(*numbers: signal.Signals) -> Any:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
