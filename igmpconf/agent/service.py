"""The transaction side of the agent, put together: journal, datastore, operations, sessions, doors.

Order of start: the state directory is locked and read, the running configuration put in force (undoing what waited),
and only then is a door opened.  Stopping undoes nothing: that is the next start's work.
"""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from igmpconf.agent.access import User
from igmpconf.agent.announcements import settled
from igmpconf.agent.dispatch import Dispatcher, capabilities
from igmpconf.agent.events import Settled
from igmpconf.agent.examining import Examine, Examining
from igmpconf.agent.files import DISK, Files
from igmpconf.agent.journal import Journal
from igmpconf.agent.observation import Observation
from igmpconf.agent.offered import change_since_last_run
from igmpconf.agent.ports import EnginePort
from igmpconf.agent.server import Server, listening_socket
from igmpconf.agent.sessions import Sessions
from igmpconf.agent.sshoptions import SshOptions
from igmpconf.agent.store import Store
from igmpconf.agent.stream import EventStream
from igmpconf.observe.log import BookHandler, LogBook

if TYPE_CHECKING:
    from igmpconf.agent.ssh import SshDoor

_PROGRAM = logging.getLogger("igmpconf")
_log = logging.getLogger("igmpconf.agent.service")

__all__ = ["NetconfService", "SshOptions", "start_netconf"]


class NetconfService:
    """What `start_netconf` started; `ssh_address` is where the embedded SSH server listens, if it does."""

    def __init__(  # noqa: PLR0917 - made in one place
        self, journal: Journal, store: Store, server: Server, socket_path: Path, ssh: SshDoor | None, handler: BookHandler, examining: Examining
    ) -> None:
        self._journal = journal
        self._store = store
        self._server = server
        self._ssh = ssh
        self._handler = handler
        self._examining = examining
        self.socket_path = socket_path

    @property
    def ssh_address(self) -> tuple[str, int] | None:
        return self._ssh.address if self._ssh is not None else None

    def serve(self, connection: socket.socket, user: User) -> None:
        """Run a session of `user` on a connected stream socket; takes the socket over.  On the event loop."""
        self._server.serve(connection, user)

    async def close(self) -> None:
        """Close the doors, end the sessions, finish the transaction that runs, give the state directory back."""
        if self._ssh is not None:
            self._ssh.close()
        self._store.refuse()
        self._examining.close()
        await self._server.close()
        await self._store.close()
        self._journal.close()
        _PROGRAM.removeHandler(self._handler)
        _remove(self.socket_path)


async def start_netconf(
    engine: EnginePort,
    *,
    state_dir: Path,
    socket_path: Path,
    ssh: SshOptions | None = None,
    stream: EventStream | None = None,
    examine: Examine | None = None,
    files: Files = DISK,
) -> NetconfService:
    """Serve NETCONF until `close`; `stream` is where the engines tell what happens, `examine` looks at the device, `files` is the disk.

    Raises IgmpconfError when the state directory, the socket or the SSH options are not usable.
    """
    book = LogBook()
    handler = BookHandler(book)
    _PROGRAM.addHandler(handler)
    try:
        return await _started(engine, book, handler, state_dir, socket_path, ssh, stream or EventStream(), examine, files)
    except BaseException:
        _PROGRAM.removeHandler(handler)
        raise


async def _started(  # noqa: PLR0917
    engine: EnginePort,
    book: LogBook,
    handler: BookHandler,
    state_dir: Path,
    socket_path: Path,
    ssh: SshOptions | None,
    stream: EventStream,
    examine: Examine | None,
    files: Files,
) -> NetconfService:
    journal = Journal(state_dir, files)
    for finding in journal.findings:
        _log.warning("journal %s", finding)
    store = Store(journal, engine, book)
    try:
        sessions = Sessions()

        def tell(change: Settled) -> None:
            for event in settled(change, sessions):
                stream.publish(event)

        store.on_settled = tell  # what the start undoes is told, too, to who asks for what was before
        await store.start()
        change = change_since_last_run(state_dir, capabilities())
        if change is not None:
            stream.publish(change)
        observation = Observation(book)
        examining = Examining(examine, lambda: store.machine.running, engine.snapshot)
        observation.looks |= examining.looks
        server = Server(store, Dispatcher(store, engine, sessions, observation, stream), sessions, stream)
        listening = listening_socket(socket_path)
        door = None
        if ssh is not None:
            from igmpconf.agent.ssh import open_door  # noqa: PLC0415 - paramiko is there in the lab only

            try:
                door = open_door(ssh, server.serve)
            except BaseException:
                listening.close()
                _remove(socket_path)
                raise
        server.listen(listening)
    except BaseException:
        await store.close()
        journal.close()
        raise
    return NetconfService(journal, store, server, socket_path, door, handler, examining)


def _remove(socket_path: Path) -> None:
    socket_path.unlink(missing_ok=True)
