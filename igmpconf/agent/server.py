"""Sessions on byte streams: accepts, reads, writes, and keeps every session from harming the others.

A connection comes from the unix socket (its user is the peer's, SO_PEERCRED) or is handed in by the embedded SSH
server.  Reading stops while an rpc is worked on and enough waits behind it; a client that does not read its replies
is cut off after a while; whatever goes wrong in one session ends that session only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from pathlib import Path
from typing import assert_never
from xml.etree.ElementTree import Element

from igmpconf.agent.access import User, operators_gid, user_of_socket
from igmpconf.agent.announcements import session_ended, session_started
from igmpconf.agent.dispatch import Dispatcher, capabilities, now_text
from igmpconf.agent.sessions import Live, Sessions
from igmpconf.agent.store import Store
from igmpconf.agent.stream import EventStream
from igmpconf.errors import IgmpconfError
from igmpconf.ids import SessionId
from igmpconf.model.notices import NotificationsLost
from igmpconf.netconf import messages
from igmpconf.netconf.framing import MAX_MESSAGE_BYTES
from igmpconf.netconf.messages import Rpc, RpcError, RpcRefused
from igmpconf.netconf.notification import NOTIFICATION_COMPLETE, REPLAY_COMPLETE, Subscription, is_wanted, notification
from igmpconf.netconf.session import (
    BytesReceived,
    Close,
    DeliverRpc,
    Event,
    Killed,
    Notified,
    Opened,
    RpcAnswered,
    SendBytes,
    Session,
    StreamEnded,
    TimePassed,
)
from igmpconf.schema.xml import notice_to_xml

SOCKET_MODE = 0o660
READERS_MESSAGE_BYTES = 1024 * 1024  # ours: of who is no operator; reading a message takes the loop 0.1 s a MiB
SEND_TIMEOUT_S = 60.0  # ours: a client that takes no octet for so long is gone
_READ_BYTES = 64 * 1024
_BACKLOG = 64
_NOTIFICATIONS_AT_ONCE = 16  # ours: then the loop gets a turn

_log = logging.getLogger("igmpconf.agent.session")


class SocketError(IgmpconfError):
    """The agent's socket cannot be opened; the message says why."""


def listening_socket(path: Path) -> socket.socket:
    """A listening unix socket at `path`, mode 0660, group igmpconf where it exists.  Raises SocketError.

    A socket that a dead agent left behind is replaced, a living agent's is not.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.exists() or path.is_symlink():
            _remove_dead(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # Made ready under another name: whoever sees the path may connect, and there is no instant with other permissions.
            new = path.with_name(path.name + "~")
            new.unlink(missing_ok=True)
            listening.bind(str(new))
            gid = operators_gid()
            if gid is not None and os.geteuid() == 0:
                os.chown(new, -1, gid)
            new.chmod(SOCKET_MODE)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
            new.replace(path)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise SocketError(f"cannot open the agent's socket {path}: {error.strerror or error}", hint="name another one with --socket") from None
    return listening


def _remove_dead(path: Path) -> None:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise SocketError(f"{path} is there and is not a socket", hint="name another one with --socket, or move the file away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise SocketError(f"cannot tell whether an agent listens on {path}: {error.strerror or error}", hint="stop it, or remove the socket") from None
    raise SocketError(f"another agent listens on {path}", hint="stop it, or give this one its own --socket")


class Server:
    """Every session of the agent."""

    def __init__(self, store: Store, dispatcher: Dispatcher, sessions: Sessions, stream: EventStream, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.store = store
        self.dispatcher = dispatcher
        self.sessions = sessions
        self.stream = stream
        self._max_message_bytes = max_message_bytes
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def listen(self, listening: socket.socket) -> None:
        """Serve whoever connects to the unix socket; takes the socket over."""
        self._accepting = asyncio.get_running_loop().create_task(self._accept(listening))

    def serve(self, connection: socket.socket, user: User) -> None:
        """Run one session on a connected stream socket for `user`; takes the socket over."""
        connection.setblocking(False)
        if self.sessions.is_full_for(user):
            _log.warning("session-refused user=%s reason=the limit of sessions is reached", user.name)
            connection.close()
            return
        most = self._max_message_bytes if user.is_operator else min(self._max_message_bytes, READERS_MESSAGE_BYTES)
        session = Session(self.sessions.new_id(), capabilities(), max_message_bytes=most)
        one = _Connection(self, session, user, connection)
        self.sessions.add(Live(session=session, user=user, login_time=now_text(), kill=one.kill, subscribe=one.subscribe))
        self.stream.publish(session_started(session.session_id, user))
        task = asyncio.get_running_loop().create_task(one.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End every session and stop listening."""
        if self._accepting is not None:
            self._accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._accepting
        for live in self.sessions:
            live.kill("the agent stops", None)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        for task in self._tasks:
            task.cancel()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listening)
                except OSError as error:  # out of file descriptors, or the peer is gone already
                    _log.warning("accept-failed reason=%s", error)
                    await asyncio.sleep(0.2)
                    continue
                try:
                    self.serve(connection, user_of_socket(connection))
                except OSError as error:
                    _log.warning("session-refused reason=%s", error)
                    connection.close()


class _Connection:
    """The shell around one Session machine."""

    def __init__(self, server: Server, session: Session, user: User, connection: socket.socket) -> None:
        self._store = server.store
        self._dispatcher = server.dispatcher
        self._sessions = server.sessions
        self._stream = server.stream
        self._session = session
        self._user = user
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._out = bytearray()
        self._out_changed = asyncio.Event()
        self._out_short = asyncio.Event()
        self._may_read = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ending: Close | None = None
        self._wanted: Subscription | None = None  # what the rpc in work subscribed to
        self._telling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """From the hello to the closed socket; never raises."""
        _log.info("session-start id=%s user=%s transport=%s source=%s", self._session.session_id, self._user.name, self._user.transport, self._user.source)
        self._out_short.set()
        self._take(Opened())
        self._reading = self._loop.create_task(self._read())
        try:
            await self._write()
        except (OSError, TimeoutError) as error:
            self._take(Killed(f"sending: {error or 'the client does not read'}", how="dropped"))
        finally:
            await self._end()

    def kill(self, reason: str, by: SessionId | None) -> None:
        """End the session now; the socket follows at the next turn of the loop."""
        self._take(Killed(reason, by))

    def subscribe(self, wanted: Subscription) -> None:
        """Send notifications from the answer on.  Raises RpcRefused while there is another subscription."""
        if self._telling is not None and not self._telling.done():
            raise RpcRefused(RpcError("application", "operation-failed", message="this session has a subscription already"))
        self._wanted = wanted

    def _take(self, event: Event) -> None:
        for effect in self._session.handle(event, self._store.now_ms()):
            match effect:
                case SendBytes(data):
                    self._out += data
                case DeliverRpc(rpc):
                    self._working = self._loop.create_task(self._answer(rpc))
                case Close():
                    self._ending = effect
                    self._gone()
                    if effect.is_abrupt:
                        with contextlib.suppress(OSError):  # already closed by the peer
                            self._connection.shutdown(socket.SHUT_RDWR)  # wakes a send that nobody takes
                case _:
                    assert_never(effect)
        self._out_changed.set()
        if self._session.wants_bytes:
            self._may_read.set()
        else:
            self._may_read.clear()
        self._set_timer()

    def _gone(self) -> None:
        """Locks and unconfirmed commits go at once, whatever the socket still does."""
        if self._sessions.remove(self._session.session_id):
            self._store.session_ended(self._session.session_id)
            self._stream.publish(session_ended(self._session.session_id, self._user, self._ending))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self._session.next_deadline_ms()
        if deadline_ms is not None:
            self._timer = self._loop.call_at((deadline_ms + 1) / 1000, self._take, TimePassed())

    async def _read(self) -> None:
        try:
            while not self._session.is_closed:
                await self._may_read.wait()
                data = await self._loop.sock_recv(self._connection, _READ_BYTES)
                self._take(BytesReceived(data) if data else StreamEnded())
                if not data:
                    return
        except OSError as error:
            self._take(Killed(f"receiving: {error}", how="dropped"))
        except Exception:  # noqa: BLE001 - as in _answer
            _log.exception("session-crashed id=%s", self._session.session_id)
            self._take(Killed("a defect; the lines above have the details"))

    async def _write(self) -> None:
        while self._out or self._ending is None:
            if not self._out:
                self._out_changed.clear()
                await self._out_changed.wait()
                continue
            if self._ending is not None and self._ending.is_abrupt:
                return
            data = bytes(self._out)
            self._out.clear()
            self._out_short.clear()
            await self._send(data)
            self._out_short.set()

    async def _send(self, data: bytes) -> None:
        """All of `data`, with a limit on the time in which the client takes nothing."""
        view = memoryview(data)
        while view:
            await asyncio.wait_for(self._loop.sock_sendall(self._connection, view[:_READ_BYTES]), SEND_TIMEOUT_S)
            view = view[_READ_BYTES:]

    async def _answer(self, rpc: Rpc) -> None:
        is_error = False
        try:
            content = await self._dispatcher.answer(self._session.session_id, self._user, rpc)
        except RpcRefused as refusal:
            is_error, content = True, messages.errors(refusal.errors)
        except Exception as error:  # noqa: BLE001 - a bug in one operation must not take the session, nor the agent
            _log.exception("operation-crashed id=%s operation=%s", self._session.session_id, rpc.operation.tag)
            message = (
                f"the agent failed while working on <{messages.local_name(rpc.operation)}>: {type(error).__name__}; this is a defect, its log has the details"
            )
            is_error, content = True, messages.errors([RpcError("application", "operation-failed", message=message)])
        is_large = bool(content) and content[0].tag == f"{{{messages.BASE}}}data"
        answer = await asyncio.to_thread(messages.reply, rpc, content) if is_large else messages.reply(rpc, content)
        await self._out_short.wait()  # the next rpc is not begun while the answers to the last ones are not taken
        wanted, self._wanted = self._wanted, None
        if wanted is not None and not self._session.is_closed:
            # Made before the answer is handed over: with it, the next rpc begins.
            self._telling = self._loop.create_task(self._tell(wanted))
        self._take(RpcAnswered(answer, is_error))

    async def _tell(self, wanted: Subscription) -> None:
        try:
            await self._tell_all(wanted)
        except Exception:  # noqa: BLE001 - as in _answer
            _log.exception("session-crashed id=%s", self._session.session_id)
            self._take(Killed("a defect; the lines above have the details"))

    async def _tell_all(self, wanted: Subscription) -> None:
        """What happens, as the client takes it: replay, then what comes, until the stop time."""
        position = self._stream.start_of(wanted)
        replayed = self._stream.last if wanted.start is not None else None
        while not self._session.is_closed:
            changed = self._stream.changed
            if replayed is not None and position >= replayed:
                replayed = None
                await self._notify(notification(self._stream.now(), Element(REPLAY_COMPLETE)))
            missed, events = self._stream.after(position, _NOTIFICATIONS_AT_ONCE)
            if missed:
                position += missed
                await self._notify(notification(self._stream.now(), notice_to_xml(NotificationsLost(count=missed))))
            rights = self._dispatcher.control.rights(self._user)
            for one in events:
                position = one.number
                if (wanted.stop is None or one.time <= wanted.stop) and is_wanted(one.event, wanted.filter):
                    if rights.may_hear(one.event):
                        await self._notify(one.message)
                    else:
                        self._dispatcher.control.count("denied-notifications")
                if position == replayed:
                    break
            if events or replayed is not None:
                await asyncio.sleep(0)
                continue
            left_s = (wanted.stop - self._stream.now()).total_seconds() if wanted.stop is not None else None
            if left_s is not None and left_s <= 0:
                await self._notify(notification(self._stream.now(), Element(NOTIFICATION_COMPLETE)))
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), left_s)

    async def _notify(self, message: bytes) -> None:
        await self._out_short.wait()
        self._take(Notified(message))

    async def _end(self) -> None:
        self._gone()
        if self._timer is not None:
            self._timer.cancel()
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        if self._telling is not None:
            self._telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._telling
        self._connection.close()
        self._out_short.set()
        if self._working is not None:
            await asyncio.wait({self._working})  # a commit that was begun is finished, though nobody hears of it
        reason = self._ending.reason if self._ending is not None else "the agent stops"
        _log.info("session-end id=%s user=%s reason=%s", self._session.session_id, self._user.name, reason)
