"""The datastore's shell: performs the effects of the machine and brings back their outcomes.

Everything runs on the agent's event loop, except that the journal is written by a thread of its own: fsync on a worn
flash card takes longer than a query response may.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import assert_never

from igmpconf.agent.datastore import Datastore
from igmpconf.agent.events import (
    EngineRefused,
    EngineReplaced,
    Event,
    JournalFailed,
    JournalWritten,
    Note,
    Question,
    ReplaceEngineConfig,
    Reply,
    SessionEnded,
    Settled,
    Started,
    TimePassed,
    WriteJournal,
)
from igmpconf.agent.image import Image
from igmpconf.agent.journal import Journal
from igmpconf.agent.ports import EnginePort
from igmpconf.errors import KernelError
from igmpconf.ids import SessionId
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.messages import RpcError
from igmpconf.observe.log import LogBook

_log = logging.getLogger("igmpconf.agent.datastore")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Store:
    """`ask` questions, read `machine`; `start` first."""

    def __init__(self, journal: Journal, engine: EnginePort, log: LogBook) -> None:
        self.machine = Datastore(journal.found)
        self._journal = journal
        self._engine = engine
        self._log_book = log
        self._loop = asyncio.get_running_loop()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._answers: dict[int, asyncio.Future[RpcError | None]] = {}
        self._next_token = 1
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._is_closed = False
        self.on_settled: Callable[[Settled], None] = _nobody_told

    async def start(self) -> None:
        """Put the running configuration in force; a change that waited is undone first."""
        self._take(Started())
        await self._idle.wait()

    def refuse(self) -> None:
        """From here on sessions that end undo nothing and no deadline fires: the next start undoes what waits."""
        self._is_closed = True
        self._set_timer()

    async def close(self) -> None:
        """Finish what is outstanding."""
        self.refuse()
        await self._idle.wait()
        if self._timer is not None:
            self._timer.cancel()
        self._writer.shutdown()

    def now_ms(self) -> int:
        """The time that deadlines are in; milliseconds, monotonic."""
        return int(self._loop.time() * 1000)

    def token(self) -> int:
        """A fresh token for a question."""
        self._next_token += 1
        return self._next_token

    async def ask(self, question: Question) -> RpcError | None:
        """None when it was done, else why not.  The answer comes even if the asker is cancelled; it is then dropped."""
        answer: asyncio.Future[RpcError | None] = self._loop.create_future()
        self._answers[question.token] = answer
        self._take(question)
        return await answer

    def session_ended(self, session: SessionId) -> None:
        """Release its locks, undo its unconfirmed commit."""
        if not self._is_closed:
            self._take(SessionEnded(session))

    def _take(self, event: Event) -> None:
        events: deque[Event] = deque([event])
        while events:
            for effect in self.machine.handle(events.popleft(), self.now_ms()):
                match effect:
                    case Reply(token, error):
                        answer = self._answers.pop(token)
                        if not answer.done():
                            answer.set_result(error)
                    case ReplaceEngineConfig(config):
                        events.append(self._replaced(config))
                    case WriteJournal(image):
                        self._loop.run_in_executor(self._writer, self._written, image).add_done_callback(lambda done: self._take(done.result()))
                    case Settled():
                        self.on_settled(effect)
                    case Note(level, name, fields):
                        said = " ".join(f"{key}={value}" for key, value in fields)
                        _log.log(_LEVELS[level], "%s %s", name, said, extra={"event": name, "fields": fields})
                    case _:
                        assert_never(effect)
        if self.machine.is_idle:
            self._idle.set()
        else:
            self._idle.clear()
        self._set_timer()

    def _replaced(self, config: DeviceConfig) -> Event:
        self._obey_logging(config)  # first, so that it holds for what the change itself has to say
        try:
            self._engine.replace(config)
        except KernelError as error:
            self._obey_logging(self.machine.running)
            return EngineRefused(error.message, error.hint)
        except Exception as error:  # noqa: BLE001 - a bug below must end as a refused commit, not as a store that waits forever
            _log.exception("the engine failed")
            return EngineRefused(f"the engine failed: {error}", "this is a defect; the agent's log has the details")
        return EngineReplaced()

    def _obey_logging(self, config: DeviceConfig) -> None:
        self._log_book.configure(config.logging)
        logging.getLogger("igmpconf").setLevel(logging.DEBUG if self._log_book.wants_debug else logging.INFO)
        logging.getLogger("igmpconf.engine.packets").setLevel(logging.INFO if self._log_book.wants_packets else logging.WARNING)

    def _written(self, image: Image) -> Event:
        """In the writer's thread."""
        try:
            return JournalWritten(self._journal.write(image))
        except OSError as error:
            return JournalFailed(error.strerror or str(error))
        except Exception as error:  # noqa: BLE001 - as above
            _log.exception("the journal failed")
            return JournalFailed(str(error))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self.machine.next_deadline_ms()
        if deadline_ms is not None and not self._is_closed:
            # One millisecond later than asked: now_ms() rounds down, and must not find the deadline ahead.
            self._timer = self._loop.call_at((deadline_ms + 1) / 1000, self._take, TimePassed())


def _nobody_told(_: Settled) -> None:
    """Until the sessions' side says whom to tell: what happens at start has no audience."""
