"""The process behind a lab: it makes the namespaces, wires them, runs the agent and serves the lab's socket.

Life cycle: a launcher moves into new namespaces and forks; the child is process 1 of a pid namespace, so that
whatever ends it, even SIGKILL, ends every process of the lab and with them the network.  It ends by `down`, by
SIGTERM, and, when it was started with a lifeline, as soon as the other end of that pipe is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from igmpconf.lab import topology
from igmpconf.lab.namespaces import CLONE_NEWNET, LabError, die_with_parent, new_world, own_mounts, setns, unshare
from igmpconf.lab.node import Node

_REQUEST_BYTES = 65_536
_AGENT_START_S = 10  # a cold Python on a loaded machine needs about two
_AGENT_STOP_S = 5


class Supervisor:
    """Process 1 of the lab."""

    def __init__(self, home: Path, *, ssh_fd: int | None, lifeline_fd: int | None) -> None:
        self._home = home
        self._ssh_fd = ssh_fd  # bound in the caller's network namespace; None: no agent in this lab
        self._pids: dict[str, int] = {}
        self._channels: dict[str, socket.socket] = {}
        self._networks: dict[str, int] = {}  # descriptors of the namespaces; /proc may number processes otherwise than we do
        self._agent_pid: int | None = None
        self._selector = selectors.DefaultSelector()
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._running = True
        if lifeline_fd is not None:
            self._selector.register(lifeline_fd, selectors.EVENT_READ, self._stop)

    def build(self) -> None:
        """Nodes, cables, addresses, the control socket and the agent.  Raises LabError."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command in the foreground
        wakeup, self._wakeup = socket.socketpair()
        for end in (wakeup, self._wakeup):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only so that the descriptor below is written to
        signal.set_wakeup_fd(self._wakeup.fileno())
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: self._reap(wakeup))
        for name in topology.NODES:
            self._fork_node(name)
        topology.wire(self._pids)
        for name in topology.NODES:
            self.ask(name, op="set-up")
        self._control.bind(str(self._home / "control.sock"))
        self._control.listen()
        self._selector.register(self._control, selectors.EVENT_READ, self._accept)
        if self._ssh_fd is not None:
            self._start_agent()

    def run(self) -> None:
        """Serve until told to stop."""
        while self._running:
            for key, _ in self._selector.select():
                key.data()
        for name in ("control.sock", "inventory.yaml"):  # the commands take the inventory for the sign of a running lab
            (self._home / name).unlink(missing_ok=True)

    def ask(self, node: str, **request: Any) -> Any:
        """One request to a node, and its answer.  Raises LabError."""
        channel = self._channels.get(node)
        if channel is None:
            raise LabError(f"the lab has no host {node!r}", hint=f"hosts: {', '.join(topology.NODES)}")
        channel.send(json.dumps(request).encode())
        packet = channel.recv(_REQUEST_BYTES)
        if not packet:
            raise LabError(f"{node} of the lab has ended", hint=f"see {self._home / 'lab.log'}, then `igmpconf lab down` and `igmpconf lab up`")
        reply = json.loads(packet)
        if "error" in reply:
            raise LabError(reply["error"], hint=reply["hint"])
        return reply["result"]

    # --- processes

    def _fork_node(self, name: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            with _child(f"node {name}"):
                _default_signals()
                ours.close()
                for channel in self._channels.values():
                    channel.close()
                unshare(CLONE_NEWNET)
                socket.send_fds(theirs, [b"{}"], [os.open("/proc/self/ns/net", os.O_RDONLY)])  # it exists: cables may be laid to it
                Node(name, theirs).run()
        theirs.close()
        _, fds, _, _ = socket.recv_fds(ours, _REQUEST_BYTES, 1)
        if not fds:
            raise LabError(f"no network namespace could be made for {name}", hint=f"see {self._home / 'lab.log'}")
        self._pids[name], self._channels[name], self._networks[name] = pid, ours, fds[0]

    def _start_agent(self) -> None:
        socket_path, pid_file = self._home / "agent.sock", self._home / "agent" / "engine.pid"
        pid_file.unlink(missing_ok=True)  # of the engine before
        log = os.open(self._home / "agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        argv = [sys.executable, "-P", "-m", "igmpconf.agent.main", "run", "--state-dir", str(self._home / "agent"), "--socket", str(socket_path)]
        argv += ["--ssh-fd", str(self._ssh_fd), "--host-key", str(self._home / "host_key"), "--authorized-keys", str(self._home / "authorized_keys")]
        pid = os.fork()
        if pid == 0:
            with _child("agent"):
                _default_signals()
                die_with_parent()
                setns(self._networks[topology.ROUTER], CLONE_NEWNET)
                os.dup2(log, 1)
                os.dup2(log, 2)
                if self._ssh_fd is not None:
                    os.set_inheritable(self._ssh_fd, True)
                os.execv(argv[0], argv)  # noqa: S606 (no shell is what we want)
        os.close(log)
        self._agent_pid = pid
        deadline = time.monotonic() + _AGENT_START_S
        while not (pid_file.exists() and _listening(socket_path)):
            self._reap()
            if self._agent_pid is None or time.monotonic() > deadline:
                how = "ended at its start" if self._agent_pid is None else f"did not listen within {_AGENT_START_S} s"
                raise LabError(f"the router's agent {how}: {_last_line(self._home / 'agent.log')}", hint=f"see {self._home / 'agent.log'}")
            time.sleep(0.02)

    def _stop_agent(self) -> None:
        if self._agent_pid is None:
            return
        os.kill(self._agent_pid, signal.SIGTERM)
        deadline = time.monotonic() + _AGENT_STOP_S
        while self._agent_pid is not None:
            if time.monotonic() > deadline:
                os.kill(self._agent_pid, signal.SIGKILL)
            time.sleep(0.02)
            self._reap()

    def _drive_agent(self, action: str) -> int | None:
        """Start or stop the agent, have its keeper exchange the engine ("renew"), or kill the engine and tell its pid."""
        if self._ssh_fd is None:
            raise LabError("this lab was built without an agent")
        if action in ("stop", "start"):
            self._stop_agent()
            if action == "start":
                self._start_agent()
            return None
        try:
            engine = int((self._home / "agent" / "engine.pid").read_text(encoding="ascii"))
            if action == "kill":
                os.kill(engine, signal.SIGKILL)
            elif self._agent_pid is not None:
                os.kill(self._agent_pid, signal.SIGHUP)
        except (OSError, ValueError):
            raise LabError("the router's engine is not running", hint=f"see {self._home / 'agent.log'}") from None
        return engine

    def _reap(self, wakeup: socket.socket | None = None) -> None:
        """Collect children, adopted ones too: process 1 has that duty."""
        if wakeup is not None:
            with contextlib.suppress(BlockingIOError):
                while wakeup.recv(512):
                    pass
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._agent_pid:
                self._agent_pid = None

    def _stop(self, *_: object) -> None:
        self._running = False

    # --- the lab's socket: one request a packet, one reply a packet

    def _accept(self) -> None:
        connection, _ = self._control.accept()
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._serve(connection))

    def _serve(self, connection: socket.socket) -> None:
        try:
            packet = connection.recv(_REQUEST_BYTES)
            if not packet:
                raise ConnectionResetError  # closed and reset are the same to us
            fds: list[int] = []
            try:
                reply = {"result": self._answer(fds, **json.loads(packet))}
            except LabError as complaint:
                reply = {"error": complaint.message, "hint": complaint.hint}
            socket.send_fds(connection, [json.dumps(reply).encode()], fds)
            for fd in fds:
                os.close(fd)
        except ConnectionError:
            self._selector.unregister(connection)
            connection.close()

    def _answer(self, fds: list[int], *, op: str, node: str = "", **arguments: Any) -> Any:
        match op:
            case "down":
                self._stop()
                return None
            case "status":
                return {
                    "agent": self._agent_pid is not None,
                    "counts": {name: self.ask(name, op="counts") for name in topology.NODES if name != topology.ROUTER},
                }
            case "namespaces":
                if node not in self._networks:
                    raise LabError(f"the lab has no host {node!r}", hint=f"hosts: {', '.join(topology.NODES)}")
                fds += [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("user", "mnt", "pid")]
                fds.append(os.dup(self._networks[node]))
                fds.append(os.open("/", os.O_PATH))  # entering a mount namespace leaves a chroot, if we are in one
                return None
            case "agent":
                return self._drive_agent(arguments["action"])
            case _:
                return self.ask(node, op=op, **arguments)


def _default_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _child(what: str) -> Any:
    """Whatever happens in a forked child, it never returns into its parent's code."""
    try:
        yield
    except BaseException as why:  # noqa: BLE001
        sys.stderr.write(f"lab: {what}: {why!r}\n")
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _report(ready_fd: int, **what: Any) -> None:
    os.write(ready_fd, json.dumps(what).encode() + b"\n")
    os.close(ready_fd)


def main() -> int:
    parser = argparse.ArgumentParser(prog="igmpconf.lab.supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int, required=True, help="told in one JSON object how the start went")
    parser.add_argument("--ssh-fd", type=int, help="listening socket for the router's SSH; absent: no agent")
    parser.add_argument("--lifeline-fd", type=int, help="end when the other end of this pipe closes")
    options = parser.parse_args()
    try:
        new_world()
    except LabError as complaint:
        _report(options.ready_fd, error=complaint.message, hint=complaint.hint)
        return complaint.exit_code
    pid = os.fork()
    if pid != 0:
        for fd in (options.ready_fd, options.ssh_fd, options.lifeline_fd):
            if fd is not None:
                os.close(fd)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    die_with_parent()
    try:
        own_mounts()
        supervisor = Supervisor(options.home, ssh_fd=options.ssh_fd, lifeline_fd=options.lifeline_fd)
        supervisor.build()
    except (LabError, OSError) as why:
        _report(options.ready_fd, error=str(why), hint=why.hint if isinstance(why, LabError) else None)
        return 1
    _report(options.ready_fd, ok=True)
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
