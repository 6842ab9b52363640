"""Keeps the multicast routing sockets alive while the engine comes and goes.

The kernel keeps vifs and entries as long as anybody holds the socket that made them.  So there are two processes:

    keeper   holds copies of the sockets, starts the worker, starts it again when it dies; knows nothing else
    worker   engine and NETCONF; hands every routing socket to the keeper (SCM_RIGHTS) as soon as it has one

A new worker inherits the sockets, their names in the environment.  If the keeper dies, the worker still has its own
and turns into a keeper itself (`become_keeper`), which starts a new worker.  Under systemd the service manager holds
the sockets as well (sd_notify FDSTORE=1), so that even a restart of both loses nothing.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

_HELD = "IGMPCONF_HELD"  # JSON: name -> inherited descriptor
_LINK = "IGMPCONF_KEEPER"  # the worker's end of the socket to its keeper
_MAX_MESSAGE_BYTES = 4_096
_POLITE_END_S = 10.0  # time the worker gets to leave upstream before it is killed
_LONGEST_DELAY_S = 5.0
_STEADY_S = 30.0  # a worker that lived this long starts the back-off anew
_SD_LISTEN_FDS_START = 3  # sd_listen_fds(3)


class Keeper:
    """The parent process."""

    def __init__(self, command: Sequence[str], held: Mapping[str, int], extra_fds: Sequence[int] = ()) -> None:
        self._command = command
        self._held = dict(held)
        self._extra_fds = tuple(extra_fds)
        self._was_ready = bool(held)  # streams may depend on us already: then a worker that fails at once is tried again
        self._signals, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, _by_wakeup)

    def run(self) -> int:
        """Until SIGTERM, or until the first worker cannot start; returns the exit code."""
        delay_s = 0.0
        while True:
            started = time.monotonic()
            worker, link = self._start_worker()
            is_ending = self._attend(worker, link)
            link.close()
            code = worker.returncode
            if is_ending:
                return max(code, 0) if code != -signal.SIGKILL else 1
            if not self._was_ready:
                return code if code > 0 else 1
            if time.monotonic() - started > _STEADY_S:
                delay_s = 0.0
            say(
                f"the engine ended ({_outcome(code)}); starting it again"
                + (f" in {delay_s:g} s" if delay_s else "")
                + f"; {len(self._held)} routing sockets held"
            )
            if delay_s and self._ended_while_waiting(delay_s):
                return 0
            delay_s = min(max(delay_s * 2, 0.1), _LONGEST_DELAY_S)

    def _start_worker(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = os.environ | {_HELD: json.dumps(self._held), _LINK: str(theirs.fileno())}
        inherited_fds = (theirs.fileno(), *self._held.values(), *self._extra_fds)
        worker = subprocess.Popen(self._command, env=environment, pass_fds=inherited_fds)  # noqa: S603 - our own command line
        theirs.close()
        return worker, ours

    def _attend(self, worker: subprocess.Popen[bytes], link: socket.socket) -> bool:
        """Serve the worker until it is dead; True if we were told to end."""
        watched = select.poll()
        watched.register(link, select.POLLIN)
        watched.register(self._signals, select.POLLIN)
        end_by: float | None = None
        while worker.poll() is None:
            for fd, _ in watched.poll(200 if end_by is not None else None):
                if fd == self._signals:
                    numbers = _drain(self._signals)
                    if signal.SIGHUP in numbers and end_by is None:
                        worker.send_signal(signal.SIGHUP)  # the worker ends without leaving; the next one adopts its state
                    if numbers & {signal.SIGTERM, signal.SIGINT} and end_by is None:
                        end_by = time.monotonic() + _POLITE_END_S
                        _notify("STOPPING=1")
                        worker.terminate()
                elif not self._hear(link):
                    watched.unregister(link)
            if end_by is not None and time.monotonic() > end_by:
                worker.kill()
        while self._hear(link):  # what it said last
            pass
        return end_by is not None

    def _hear(self, link: socket.socket) -> bool:
        """One message; False when there is none any more."""
        try:
            data, fds, _, _ = socket.recv_fds(link, _MAX_MESSAGE_BYTES, 1)
        except OSError:
            return False
        if not data:
            return False
        verb, name = json.loads(data)
        if verb == "hold" and fds:
            self._release(name)
            self._held[name] = fds[0]
            _notify(f"FDSTORE=1\nFDNAME={name}", fds[0])
        elif verb == "drop":
            self._release(name)
        elif verb == "ready":
            self._was_ready = True
            _notify("READY=1")
        return True

    def _release(self, name: str) -> None:
        fd = self._held.pop(name, None)
        if fd is not None:
            os.close(fd)
            _notify(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def _ended_while_waiting(self, delay_s: float) -> bool:
        until = time.monotonic() + delay_s
        while (left_s := until - time.monotonic()) > 0:
            if select.select([self._signals], [], [], left_s)[0] and _drain(self._signals) & {signal.SIGTERM, signal.SIGINT}:
                return True
        return False


def _by_wakeup(number: int, frame: FrameType | None) -> None:
    """The wakeup descriptor already has the number; a handler must exist for it to be written."""


def _drain(fd: int) -> set[int]:
    try:
        return set(os.read(fd, 4_096))
    except BlockingIOError:
        return set()


def say(text: str, hint: str | None = None) -> None:
    """One line for whoever started the agent, and what to do about it."""
    sys.stderr.write(f"igmpconf-agent: {text}\n" + (f"  hint: {hint}\n" if hint else ""))
    sys.stderr.flush()


def _outcome(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _notify(state: str, fd: int | None = None) -> None:
    """sd_notify(3): tell the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        try:
            manager.connect(address)
            socket.send_fds(manager, [state.encode()], [] if fd is None else [fd])
        except OSError:
            pass  # a manager that does not listen must not stop the streams


def inherited() -> dict[str, int]:
    """The routing sockets that this process was started with: by a keeper, by a former worker, or by systemd's store."""
    held: dict[str, int] = json.loads(os.environ.pop(_HELD, "{}"))
    count = os.environ.pop("LISTEN_FDS", "0")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if os.environ.pop("LISTEN_PID", "") == str(os.getpid()):
        for place in range(int(count)):
            os.set_inheritable(_SD_LISTEN_FDS_START + place, False)
            held[names[place]] = _SD_LISTEN_FDS_START + place
    return held


class KeeperLink:
    """The worker's side: implements `Holder`."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    @classmethod
    def from_environment(cls) -> KeeperLink | None:
        """The link to the keeper that started us; None if this process is not a worker."""
        fd = os.environ.pop(_LINK, None)
        if fd is None:
            return None
        sock = socket.socket(fileno=int(fd))
        sock.set_inheritable(False)
        return cls(sock)

    def hold(self, name: str, sock: socket.socket) -> None:
        self._say("hold", name, sock)

    def drop(self, name: str) -> None:
        self._say("drop", name)

    def ready(self) -> None:
        """The first worker that says so turns "cannot start" into "start again"."""
        self._say("ready", "")

    def _say(self, verb: str, name: str, sock: socket.socket | None = None) -> None:
        try:
            socket.send_fds(self.socket, [json.dumps([verb, name]).encode()], [] if sock is None else [sock.fileno()])
        except BrokenPipeError:
            pass  # the keeper is dead; whoever watches the link replaces it

    def is_lost(self) -> bool:
        """The keeper closed its end, that is: it died."""
        try:
            return self.socket.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


def become_keeper(sockets: Mapping[str, socket.socket], command: Sequence[str], extra_fds: Sequence[int] = ()) -> NoReturn:
    """Turn this worker into a keeper that holds `sockets`, by executing `command` in its place."""
    for fd in (*(sock.fileno() for sock in sockets.values()), *extra_fds):
        os.set_inheritable(fd, True)
    held = {name: sock.fileno() for name, sock in sockets.items()}
    os.execve(command[0], list(command), os.environ | {_HELD: json.dumps(held)})  # noqa: S606 - as above


def write_pid(path: Path, pid: int) -> None:
    """Atomically, so that a reader finds the old number or the new one."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(f"{pid}\n", encoding="ascii")
    temporary.replace(path)
