"""Keeps the multicast routing sockets alive while the engine comes and goes.

The kernel keeps vifs and entries as long as anybody holds the socket that made them.  So there are two processes:

    keeper   holds copies of the sockets, starts the worker, starts it again when it dies; knows nothing else
    worker   engine and NETCONF; hands every routing socket to the keeper (SCM_RIGHTS) as soon as it has one

A new worker inherits the sockets, their names in the environment.  If the keeper dies, the worker still has its own
and turns into a keeper itself (`become_keeper`), which starts a new worker.  Under systemd the service manager holds
the sockets as well (sd_notify FDSTORE=1), so that even a restart of both loses nothing.

An upgrade (exchange.py asks for it on the control socket) changes both programs under the streams: the worker hands
over, one from the new file is tried, and only when it serves does the keeper execute the new file in its own place,
sockets and worker kept.  A new worker that does not come to serve is ended, and the former program goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

_HELD = "IGMPCONF_HELD"  # JSON: name -> inherited descriptor
_LINK = "IGMPCONF_KEEPER"  # the worker's end of the socket to its keeper
_MAX_MESSAGE_BYTES = 4_096
_POLITE_END_S = 10.0  # time the worker gets to leave upstream before it is killed
_LONGEST_DELAY_S = 5.0
_STEADY_S = 30.0  # a worker that lived this long starts the back-off anew
_SD_LISTEN_FDS_START = 3  # sd_listen_fds(3)
_GOING_ON = "IGMPCONF_GOING_ON"  # JSON: what a keeper that executed another program left: worker, link, who waits for word
_PROGRAM = "IGMPCONF_PROGRAM"  # the file that the agent was started as, whatever it executed since
_TRIAL_S = 30.0  # time that the worker of another program has to come to serve; a cold Python on a slow device needs 10
_HELLO_S = 5.0
_END_OF_MESSAGE = b"]]>]]>"  # RFC 6242 4.3


class _Process(Protocol):
    """What a worker is to its keeper; subprocess.Popen is one."""

    pid: int

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def send_signal(self, sig: int) -> None: ...


class _Inherited:
    """A worker that was started by the program that this process was before."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Somebody wants another program: `place` is its file, `asked` the connection on which the outcome is waited for."""

    place: str
    asked: socket.socket


class Keeper:
    """The parent process; `control` is the path of the socket on which an upgrade is asked for, `serving` that of NETCONF."""

    def __init__(
        self, command: Sequence[str], held: Mapping[str, int], extra_fds: Sequence[int] = (), *, control: Path | None = None, serving: Path | None = None
    ) -> None:
        self._command = command
        self._held = dict(held)
        self._extra_fds = tuple(extra_fds)
        self._serving = serving
        self._control = _listening(control) if control is not None else None
        self._exchange: _Exchange | None = None
        self._is_serving = False  # the worker of now said that it does
        self._was_ready = bool(held)  # streams may depend on us already: then a worker that fails at once is tried again
        self._signals, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, _by_wakeup)

    def run(self) -> int:
        """Until SIGTERM, or until the first worker cannot start; returns the exit code."""
        delay_s = 0.0
        going_on = self._going_on()
        while True:
            started = time.monotonic()
            worker, link = going_on or self._start_worker()
            going_on = None
            is_ending = self._attend(worker, link)
            link.close()
            code = worker.returncode
            assert code is not None
            if is_ending:
                return max(code, 0) if code != -signal.SIGKILL else 1
            if self._exchange is not None:
                if self._try_other():
                    return 0
                continue
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

    def _start_worker(self, place: str | None = None) -> tuple[_Process, socket.socket]:
        """The program that we are, or that in the file `place`."""
        self._is_serving = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = os.environ | {_HELD: json.dumps(self._held), _LINK: str(theirs.fileno())}
        if place is not None:
            environment["PYTHONPATH"] = place
        inherited_fds = (theirs.fileno(), *self._held.values(), *self._extra_fds)
        worker = subprocess.Popen(self._command, env=environment, pass_fds=inherited_fds)  # noqa: S603 - our own command line
        theirs.close()
        return worker, ours

    def _attend(self, worker: _Process, link: socket.socket) -> bool:
        """Serve the worker until it is dead; True if we were told to end."""
        watched = select.poll()
        for watch in (link, self._signals, *((self._control,) if self._control is not None else ())):
            watched.register(watch, select.POLLIN)
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
                        worker.send_signal(signal.SIGTERM)
                elif self._control is not None and fd == self._control.fileno():
                    if self._asked(is_ending=end_by is not None):
                        worker.send_signal(signal.SIGHUP)
                elif not self._hear(link):
                    watched.unregister(link)
            if end_by is not None and time.monotonic() > end_by:
                worker.send_signal(signal.SIGKILL)
        while self._hear(link):  # what it said last
            pass
        return end_by is not None

    # another program

    def _asked(self, *, is_ending: bool) -> bool:
        """Answer one who asks on the control socket; True if the program is to be exchanged."""
        assert self._control is not None
        try:
            asked, _ = self._control.accept()
            asked.settimeout(1)
            request = json.loads(asked.recv(_MAX_MESSAGE_BYTES) or b"{}")
        except (OSError, ValueError):
            return False
        if request.get("verb") != "exchange":
            _answer(asked, program=os.environ.get(_PROGRAM), place=_own_place(), pid=os.getpid())
            return False
        if is_ending or self._exchange is not None or not self._is_serving:
            _answer(asked, error="the agent is starting or ending; try again when it serves")
            return False
        self._exchange = _Exchange(str(request["place"]), asked)
        return True

    def _try_other(self) -> bool:
        """A worker from the other file takes over; when it serves we execute that file.  Returns True if we were told to end meanwhile."""
        assert self._exchange is not None
        exchange, self._exchange = self._exchange, None
        say(f"trying {exchange.place}; {len(self._held)} routing sockets held")
        worker, link = self._start_worker(exchange.place)
        reason = self._trial(worker, link)
        if reason is None:
            self._go_on_as(exchange, worker, link)
        say(f"{exchange.place} does not serve ({reason}); going on with the program of before")
        _end(worker)
        link.close()
        _answer(exchange.asked, error=reason)
        return reason == _TOLD_TO_END

    def _trial(self, worker: _Process, link: socket.socket) -> str | None:
        """None when the worker serves NETCONF, else why not."""
        until = time.monotonic() + _TRIAL_S
        watched: list[socket.socket | int] = [link, self._signals]
        while (left_s := until - time.monotonic()) > 0:
            for ready in select.select(watched, [], [], min(left_s, 0.2))[0]:
                if ready is link:
                    self._hear(link)
                elif _drain(self._signals) & {signal.SIGTERM, signal.SIGINT}:
                    return _TOLD_TO_END
            if worker.poll() is not None:
                assert worker.returncode is not None
                return f"it ended: {_outcome(worker.returncode)}"
            if self._is_serving:
                return _refusal_of_hello(self._serving) if self._serving is not None else None
        return f"it was not ready within {_TRIAL_S:g} s"

    def _go_on_as(self, exchange: _Exchange, worker: _Process, link: socket.socket) -> NoReturn:
        """Execute the other file in our place; worker, routing sockets and whoever waits for word stay."""
        program = os.environ.get(_PROGRAM)
        if program is not None:
            _lead_to(Path(program), Path(exchange.place))
        for fd in (link.fileno(), exchange.asked.fileno(), *self._held.values(), *self._extra_fds):
            os.set_inheritable(fd, True)
        left = {"worker": worker.pid, "link": link.fileno(), "asked": exchange.asked.fileno()}
        environment = os.environ | {_HELD: json.dumps(self._held), _GOING_ON: json.dumps(left), "PYTHONPATH": exchange.place}
        os.execve(self._command[0], list(self._command), environment)  # noqa: S606 - as above

    def _going_on(self) -> tuple[_Process, socket.socket] | None:
        """What the program that this process was before left us."""
        left = json.loads(os.environ.pop(_GOING_ON, "null"))
        if left is None:
            return None
        link, asked = (socket.socket(fileno=left[name]) for name in ("link", "asked"))
        for one in (link, asked):
            one.set_inheritable(False)
        for fd in self._held.values():
            os.set_inheritable(fd, False)
        self._was_ready = self._is_serving = True
        _answer(asked, held=len(self._held))
        return _Inherited(left["worker"]), link

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
            self._was_ready = self._is_serving = True
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


_TOLD_TO_END = "the agent was told to end"


def is_going_on() -> bool:
    """This keeper continues another program's work: there is nothing to check before the start."""
    return _GOING_ON in os.environ


def control_path(serving: Path) -> Path:
    """Where the keeper of the agent that serves NETCONF on `serving` is asked to exchange its program."""
    return serving.with_name(serving.name + ".keeper")


def note_program(path: str) -> None:
    """Remember as which file the agent was started; later programs of this process inherit it."""
    os.environ.setdefault(_PROGRAM, str(Path(path).absolute()))


def _own_place() -> str:
    return os.environ.get("PYTHONPATH", "").partition(os.pathsep)[0]


def _listening(path: Path) -> socket.socket | None:
    """For the agent's own user only.  Without it there is no upgrade in place, which is no reason not to forward."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        listening.listen()
    except OSError as error:
        say(f"cannot listen on {path}: {error.strerror}; an upgrade will need a restart")
        listening.close()
        return None
    finally:
        os.umask(mask)
    return listening


def _answer(asked: socket.socket, **said: Any) -> None:
    with contextlib.suppress(OSError):  # who asked has gone
        asked.send(json.dumps(said).encode())
    asked.close()


def _refusal_of_hello(serving: Path) -> str | None:
    """None when a NETCONF hello comes from `serving`, else why not."""
    heard = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_HELLO_S)
        try:
            client.connect(str(serving))
            while _END_OF_MESSAGE not in heard:
                piece = client.recv(65_536)
                if not piece:
                    return "it closed the session before its hello"
                heard += piece
        except OSError as error:
            return f"it does not answer on {serving}: {error}"
    return None


def _lead_to(program: Path, place: Path) -> None:
    """From now on the file that the agent is started as leads to `place`; atomic."""
    new = program.with_name(program.name + ".new")
    new.unlink(missing_ok=True)
    new.symlink_to(place if place.parent != program.parent else place.name)
    new.replace(program)


def _end(worker: _Process) -> None:
    worker.send_signal(signal.SIGKILL)
    while worker.poll() is None:
        time.sleep(0.01)


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
