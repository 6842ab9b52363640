"""The worker process: engines, kernel and NETCONF on one loop, until it is told to end.

SIGTERM, SIGINT      leave every upstream politely, remove the kernel state, end
SIGHUP               end at once and leave the kernel as it is: the next worker adopts it (an upgrade)
the keeper is gone   become a keeper, which starts the next worker
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from igmpconf.agent.files import DISK, Files
from igmpconf.agent.keeper import KeeperLink, become_keeper, say, write_pid
from igmpconf.agent.runner import EngineRecorder, Runner
from igmpconf.agent.service import SshOptions, start_netconf
from igmpconf.agent.stream import EventStream
from igmpconf.agent.surroundings import Surroundings
from igmpconf.engine.effects import Note
from igmpconf.errors import IgmpconfError
from igmpconf.linux.examination import examine
from igmpconf.linux.flows import Flows
from igmpconf.linux.kernel import Kernel
from igmpconf.linux.system import SystemKernel
from igmpconf.observe.log import BookHandler, for_journal
from igmpconf.observe.record import Recorder, program_version
from igmpconf.runtime import PromptSelector

_PROGRAM = logging.getLogger("igmpconf")
PID_FILE = "engine.pid"
_YOUNG_OBJECTS = 5_000  # before they are looked through: a listener does not wait for a pass over thousands of groups
_AT_ONCE = frozenset({"warning", "error"})
_WAIT_S = 0.01
_MOST_WAITING = 1_000
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What the command line said; `command` starts the agent again and needs `extra_fds`."""

    state_dir: Path
    socket_path: Path
    ssh: SshOptions | None
    command: tuple[str, ...]
    extra_fds: tuple[int, ...] = ()
    record: Path | None = None  # where everything the engines are told and answer is written
    kernel: Kernel = field(default_factory=SystemKernel)
    files: Files = DISK


def work(options: WorkerOptions, link: KeeperLink, held: Mapping[str, socket.socket]) -> int:
    """Run until the end; returns the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger().handlers[0].addFilter(for_journal)
    try:
        selector = PromptSelector()
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            how = runner.run(_work(options, link, held, selector))
    except IgmpconfError as error:
        say(error.message, error.hint)
        return error.exit_code
    if isinstance(how, dict):
        become_keeper(how, options.command, options.extra_fds)
    return how


async def _work(options: WorkerOptions, link: KeeperLink, held: Mapping[str, socket.socket], selector: PromptSelector) -> int | dict[str, socket.socket]:
    """The exit code, or, when the keeper is gone, the sockets to keep."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unexpected)
    selector.failed = lambda error: loop.call_exception_handler({"message": "unexpected", "exception": error})
    end: asyncio.Future[str] = loop.create_future()

    def end_by(reason: str) -> None:
        if not end.done():
            end.set_result(reason)

    for number, reason in ((signal.SIGTERM, "told"), (signal.SIGINT, "told"), (signal.SIGHUP, "hand-over")):
        loop.add_signal_handler(number, end_by, reason)
    recorder = _recorder(options.record) if options.record is not None else None
    stream = EventStream()

    def tell(note: Note, at_s: float) -> None:
        _log_note(note, at_s)
        stream.noted(note)

    notes = Unhurried(tell, loop)
    runner = Runner(
        options.kernel,
        loop=loop,
        log=notes,
        holder=link,
        held=held,
        recorder=recorder,
        selector=selector,
        flows=Flows(loop=loop, log=_log_note),
        surroundings=Surroundings(loop=loop, log=_log_note, state_dir=options.state_dir, files=options.files),
    )
    service = await start_netconf(
        runner, state_dir=options.state_dir, socket_path=options.socket_path, ssh=options.ssh, stream=stream, examine=examine, files=options.files
    )
    write_pid(options.state_dir / PID_FILE, os.getpid())
    loop.add_reader(link.socket.fileno(), lambda: end_by("keeper-lost") if link.is_lost() else None)
    link.ready()
    _settle_memory()
    reason = await end
    logging.getLogger("igmpconf.agent").info("ending: %s", reason)
    loop.remove_reader(link.socket.fileno())
    notes.tell_all()
    await service.close()
    if reason == "told":
        runner.close()
        notes.tell_all()
        (options.state_dir / PID_FILE).unlink(missing_ok=True)
        return 0
    kept = {name: sock.dup() for name, sock in runner.sockets().items()} if reason == "keeper-lost" else {}
    runner.hand_over()
    return kept if reason == "keeper-lost" else 0


def _recorder(path: Path) -> EngineRecorder:
    from igmpconf.agent.replay import ENGINE  # noqa: PLC0415 - a worker that does not record needs none of it

    log = logging.getLogger("igmpconf.agent")
    log.warning("recording to %s", path)
    return Recorder(path, ENGINE, program=program_version(), tell=lambda reason: log.warning("recording to %s ended: %s", path, reason))


def _settle_memory() -> None:
    """What is there now stays to the end: no collection need look at it again, and young objects are few where nothing happens."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)


class Unhurried:
    """Engines' notes become lines and notifications a moment later, with the time they were made.

    Until then whoever waits for a stream, or for the processor, has it: words take longer than a forwarding entry.
    """

    def __init__(self, tell: Callable[[Note, float], None], loop: asyncio.AbstractEventLoop) -> None:
        self._tell = tell
        self._loop = loop
        self._waiting: list[tuple[Note, float]] = []
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, note: Note) -> None:
        self._waiting.append((note, time.time()))
        if note.level in _AT_ONCE or len(self._waiting) >= _MOST_WAITING:
            self.tell_all()
        elif self._timer is None:
            self._timer = self._loop.call_later(_WAIT_S, self.tell_all)

    def tell_all(self) -> None:
        """Everything that waits, in its order."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for note, at_s in waiting:
            self._tell(note, at_s)


def _log_note(note: Note, at_s: float | None = None) -> None:
    logger = logging.getLogger("igmpconf.engine")
    level = _LEVELS[note.level]
    if logger.isEnabledFor(level) and not any(type(handler) is BookHandler and handler.leaves_out(note.level, note.event) for handler in _PROGRAM.handlers):
        # a burst of joins is as many lines, most of which nobody keeps: no search for the caller, words only when they are written
        extra = {"event": note.event, "fields": note.fields}
        record = logger.makeRecord(logger.name, level, __file__, 0, "%s %s", (note.event, _Said(note.fields)), None, extra=extra)
        if at_s is not None:
            record.created, record.msecs = at_s, at_s % 1 * 1_000
        logger.handle(record)


class _Said:
    """The facts of a note as text, made when somebody reads it."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self._fields.items())


def _unexpected(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """A bug of ours in a callback: say all about it and go on, the streams do not depend on this loop."""
    error = context.get("exception")
    text = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
    logging.getLogger("igmpconf.agent").error("%s\n%s", context.get("message", "unexpected"), text)
