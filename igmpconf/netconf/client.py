"""The controller's end of NETCONF: ncclient's session and RPC, made lean, over SSH or over the agent's unix socket.

ncclient waits up to 100 ms before it sends each request, because its loop sleeps in `select` and nobody wakes it; and
its threads outlive a session that ends badly.  `LeanSession` wakes its loop through a socket pair and always ends its
thread.  Replies are read by our own bounded parser, so a warning before an error cannot pass for success.
`begin_*` sends a request without waiting for its reply: requests that cannot harm when the one before them fails go out
together and cost one round trip (RFC 6241 4.1: a server answers in order).
Errors leave as TransportError or RpcFailed, with the device, what was being done, and what to try.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar
from xml.etree.ElementTree import Element, SubElement

from ncclient import NCClientError
from ncclient.capabilities import Capabilities
from ncclient.devices.default import DefaultDeviceHandler
from ncclient.operations.rpc import RPC, RPCReply
from ncclient.transport.errors import TransportError as TransportClosed
from ncclient.transport.session import NetconfBase, Session

from igmpconf import xmltext
from igmpconf.errors import RpcFailed, TransportError
from igmpconf.netconf.framing import Decoder, FramingError, framed
from igmpconf.netconf.messages import BASE as NC
from igmpconf.netconf.messages import BASE_1_0, BASE_1_1
from igmpconf.netconf.target import SshTarget, Target, UnixTarget

OURS = "urn:igmpconf:yang:igmpconf"
OUR_NETCONF = "urn:igmpconf:yang:igmpconf-netconf"

RPC_TIMEOUT_S = 30.0
HELLO_TIMEOUT_S = 30.0  # a slow device has a relay to start first
_READ_BYTES = 65536
_DRAIN_S = 2.0  # for the last request of a session to leave; a peer that reads nothing for so long has no use for it

T = TypeVar("T")

# ncclient and paramiko log what they raise; we say it once, in our words.
logging.getLogger("ncclient").addHandler(logging.NullHandler())
logging.getLogger("ncclient").propagate = False
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceError:
    """One `<rpc-error>` as it was received; a device that breaks RFC 6241 4.3 is still understood."""

    type: str
    tag: str
    severity: str = "error"
    app_tag: str | None = None
    path: str | None = None
    message: str | None = None
    info: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        """One line for people."""
        where = f" at {self.path}" if self.path else ""
        about = "".join(f", {name} {value}" for name, value in self.info)
        return f"{self.message or self.tag} [{self.tag}{about}]{where}"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one step took, in milliseconds."""

    step: str
    took_ms: float


class Channel(Protocol):
    """What a socket and a paramiko channel have in common."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class _Handler(DefaultDeviceHandler):  # type: ignore[misc]
    def get_capabilities(self) -> list[str]:
        return [BASE_1_0, BASE_1_1]


class LeanSession(Session):  # type: ignore[misc]
    """ncclient's session over an open channel, without its 100 ms tick and without a thread left behind."""

    def __init__(self, channel: Channel) -> None:
        handler = _Handler()
        super().__init__(Capabilities(handler.get_capabilities()))
        self._device_handler = handler
        self._channel = channel
        self._connected = True
        self._closing = threading.Event()
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self.name = "netconf-session"

    def greet(self, timeout_s: float) -> None:
        """Exchange hellos.  Raises what ncclient raises."""
        self._post_connect(timeout_s)

    def send(self, message: str) -> None:
        """Queue a message and wake the loop that writes it."""
        super().send(message)
        self._wake()

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:
            pass  # full: the loop is awake anyway; closed: there is no loop

    def run(self) -> None:
        """The session's own thread: writes what is queued, dispatches what arrives."""
        decoder = Decoder()
        ended: Exception = TransportClosed("we closed it")
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._channel, selectors.EVENT_READ)
                selector.register(self._woken, selectors.EVENT_READ)
                while not self._closing.is_set():
                    self._send_queued()
                    ready = [key.fileobj for key, _ in selector.select()]
                    if self._woken in ready:
                        self._woken.recv(_READ_BYTES)
                    if self._channel in ready:
                        self._receive(decoder)
        except Exception as error:  # noqa: BLE001 - whatever ended the session, everybody who waits must hear of it
            ended = error
        self._connected = False  # before the waiting are told, so that nobody starts to wait behind their back
        with self._q.all_tasks_done:
            self._q.all_tasks_done.notify_all()
        self._dispatch_error(ended)

    def _send_queued(self) -> None:
        while not self._q.empty():
            self._channel.sendall(framed(self._q.get().encode(), is_chunked=self._base == NetconfBase.BASE_11))
            self._q.task_done()

    def drain(self, timeout_s: float) -> None:
        """Wait until everything that was queued is on its way, or the session has ended."""
        with self._q.all_tasks_done:
            self._q.all_tasks_done.wait_for(lambda: not self._q.unfinished_tasks or not self._connected, timeout_s)

    def _receive(self, decoder: Decoder) -> None:
        data = self._channel.recv(_READ_BYTES)
        if not data:
            raise TransportClosed("the other side closed it")
        if self._base == NetconfBase.BASE_11:
            decoder.use_chunks()
        decoder.feed(data)
        while (message := decoder.next_message()) is not None:
            xmltext.parse(message)  # bounds and no document type, before ncclient's parser sees it
            self._dispatch_message(message.decode())

    def expect_end(self) -> None:
        """What ends from now on ends as wanted."""
        self._closing.set()

    def close(self) -> None:
        """End the loop and its thread; the channel belongs to whoever opened it, who has closed it by now."""
        self._closing.set()
        self._wake()
        if self.is_alive() and self is not threading.current_thread():
            self.join(RPC_TIMEOUT_S)
        self._connected = False
        self._woken.close()
        self._waker.close()


class _Reply(RPCReply):  # type: ignore[misc]
    """A reply, read by our own parser."""

    def parse(self) -> None:
        self._root = xmltext.parse(self._raw.encode())


class _Request(RPC):  # type: ignore[misc]
    """One request made of our own elements."""

    REPLY_CLS = _Reply

    def _wrap(self, subele: Element) -> str:
        rpc = Element(f"{{{NC}}}rpc", {"message-id": self._id})
        rpc.append(subele)
        return xmltext.serialize(rpc).decode()

    def leave(self, operation: Element) -> None:
        """Send it.  Raises what ncclient raises."""
        self._request(operation)

    def awaited(self, wait_s: float) -> Element | Exception | None:
        """`<rpc-reply>`, or what ended the session, or None when the time is over."""
        if not self.event.wait(wait_s):
            return None
        if self.error is not None:
            ended: Exception = self.error
            return ended
        try:
            self.reply.parse()
        except xmltext.XmlTextError as error:
            return error
        root: Element = self.reply._root  # noqa: SLF001 - ncclient offers the text only
        return root


class Pending(Generic[T]):
    """A request that has left; `result` waits for its reply, once."""

    def __init__(self, client: NetconfClient, request: _Request, finish: Callable[[Element], T], *, step: str, doing: str, wait_s: float) -> None:
        self._client = client
        self._request = request
        self._step = step
        self._doing = doing
        self._wait_s = wait_s
        self._finish = finish
        self._started = time.perf_counter()

    def result(self) -> T:
        """What the reply says.  Raises TransportError, RpcFailed."""
        client = self._client
        reply = self._request.awaited(self._wait_s)
        if reply is None:
            raise TransportError(client.device, f"{client.device} did not answer within {self._wait_s:g}s while {self._doing}")
        if isinstance(reply, Exception):
            raise lost(client.device, self._doing, reply) from None
        client.timings.append(Timing(self._step, (time.perf_counter() - self._started) * 1000))
        errors = [found for found in _errors(reply) if found.severity != "warning"]
        if errors:
            raise _failed(client.device, self._doing, errors)
        return self._finish(reply)


class NetconfClient:
    """One session with one device; made by `connect`, ended by `close` or `with`."""

    def __init__(self, target: Target, session: LeanSession, owner: Any, *, timeout_s: float) -> None:
        self.target = target
        self.device = target.device
        self.timings: list[Timing] = []
        self._session = session
        self._owner = owner
        self._timeout_s = timeout_s
        self._handler = _Handler()

    @classmethod
    def connect(cls, target: Target, *, timeout_s: float = RPC_TIMEOUT_S, connect_timeout_s: float | None = None, say: Any = None) -> NetconfClient:
        """A session that has exchanged hellos; `say` hears of a host key that was added.  Raises TransportError."""
        started = time.perf_counter()
        owner, channel = _open(target, connect_timeout_s, say)
        session = LeanSession(channel)
        client = cls(target, session, owner, timeout_s=timeout_s)
        try:
            session.greet(connect_timeout_s or HELLO_TIMEOUT_S)
        except (NCClientError, OSError, FramingError, xmltext.XmlTextError, EOFError) as error:
            complaint = owner.last_words()
            client.abort()
            raise _no_greeting(target, complaint or str(error)) from None
        except BaseException:
            client.abort()
            raise
        client.timings.append(Timing("connect", (time.perf_counter() - started) * 1000))
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def session_id(self) -> str:
        """Session-id that the server gave us."""
        return str(self._session.id)

    @property
    def is_connected(self) -> bool:
        """As far as anybody has noticed."""
        return bool(self._session.connected)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What the server announced."""
        return tuple(self._session.server_capabilities or ())

    # The operations ------------------------------------------------------------------------------------------------

    def get_config(self, source: str = "running") -> Element:
        """`<data>` with the configuration that is explicitly set."""
        return self.begin_get_config(source).result()

    def begin_get_config(self, source: str = "running") -> Pending[Element]:
        """The same, sent only."""
        operation = _operation("get-config")
        SubElement(SubElement(operation, f"{{{NC}}}source"), f"{{{NC}}}{source}")
        return self._send_for_data(operation, f"reading its {source} configuration")

    def get_state(self, parts: Iterable[str] = ()) -> Element:
        """`<data>` with the operational state, or only the named tables of it."""
        return self.begin_get_state(parts).result()

    def begin_get_state(self, parts: Iterable[str] = ()) -> Pending[Element]:
        """The same, sent only."""
        operation = _operation("get")
        state = SubElement(SubElement(operation, f"{{{NC}}}filter", {"type": "subtree"}), f"{{{OURS}}}state")
        for part in parts:
            SubElement(state, f"{{{OURS}}}{part}")
        return self._send_for_data(operation, "reading its state")

    def lock(self, datastore: str = "candidate") -> None:
        """Keep others from editing the datastore."""
        self.begin_lock(datastore).result()

    def begin_lock(self, datastore: str = "candidate") -> Pending[None]:
        """The same, sent only."""
        return self._send_for_ok(_on_target("lock", datastore), f"locking its {datastore} configuration")

    def unlock(self, datastore: str = "candidate") -> None:
        """Let others edit again."""
        self.begin_unlock(datastore).result()

    def begin_unlock(self, datastore: str = "candidate") -> Pending[None]:
        """The same, sent only."""
        return self._send_for_ok(_on_target("unlock", datastore), f"unlocking its {datastore} configuration")

    def edit(self, config: Sequence[Element], *, default_operation: str = "replace", datastore: str = "candidate") -> None:
        """`<edit-config>`: with `replace`, the datastore holds exactly `config` afterwards (RFC 6241 7.2)."""
        self.begin_edit(config, default_operation=default_operation, datastore=datastore).result()

    def begin_edit(self, config: Sequence[Element], *, default_operation: str = "replace", datastore: str = "candidate") -> Pending[None]:
        """The same, sent only."""
        operation = _on_target("edit-config", datastore)
        SubElement(operation, f"{{{NC}}}default-operation").text = default_operation
        SubElement(operation, f"{{{NC}}}error-option").text = "rollback-on-error"
        SubElement(operation, f"{{{NC}}}config").extend(config)
        return self._send_for_ok(operation, "editing its candidate configuration")

    def validate(self, source: str = "candidate") -> None:
        """Have the device check a datastore."""
        self.begin_validate(source).result()

    def begin_validate(self, source: str = "candidate") -> Pending[None]:
        """The same, sent only."""
        operation = _operation("validate")
        SubElement(SubElement(operation, f"{{{NC}}}source"), f"{{{NC}}}{source}")
        return self._send_for_ok(operation, f"validating its {source} configuration")

    def commit(
        self,
        *,
        is_confirmed: bool = False,
        timeout_s: int | None = None,
        persist: str | None = None,
        persist_id: str | None = None,
        plan: str | None = None,
        comment: str | None = None,
    ) -> None:
        """`<commit>` (RFC 6241 8.4); `plan` and `comment` go into the device's history."""
        operation = _operation("commit")
        if is_confirmed:
            SubElement(operation, f"{{{NC}}}confirmed")
        for name, value in (("confirm-timeout", timeout_s), ("persist", persist), ("persist-id", persist_id)):
            if value is not None:
                SubElement(operation, f"{{{NC}}}{name}").text = str(value)
        for name, said in (("plan", plan), ("comment", comment)):
            if said is not None:
                SubElement(operation, f"{{{OUR_NETCONF}}}{name}").text = said
        self._ok(operation, "committing" if is_confirmed or persist_id is None else "confirming the commit")

    def cancel(self, persist_id: str | None = None) -> None:
        """`<cancel-commit>`: undo the commit that waits for its confirmation."""
        operation = _operation("cancel-commit")
        if persist_id is not None:
            SubElement(operation, f"{{{NC}}}persist-id").text = persist_id
        self._ok(operation, "cancelling the unconfirmed commit")

    def discard(self) -> None:
        """Make the candidate equal to running again."""
        self.begin_discard().result()

    def begin_discard(self) -> Pending[None]:
        """The same, sent only."""
        return self._send_for_ok(_operation("discard-changes"), "discarding its candidate configuration")

    def get_commit(self, number: int) -> Element:
        """`<config>` that commit `number` of the history made."""
        operation = Element(f"{{{OURS}}}get-commit")
        SubElement(operation, f"{{{OURS}}}number").text = str(number)
        reply = self.rpc(operation, f"reading commit {number} of its history")
        found = reply.find(f"{{{OURS}}}config")
        if found is None:
            raise TransportError(self.device, f"{self.device} answered without a configuration while reading commit {number}", retryable=False)
        return found

    def close(self) -> None:
        """`<close-session>` and its reply, then end every thread and socket; never raises."""
        try:
            if self._session.connected:
                self.rpc(_operation("close-session"), "closing the session", timeout_s=5.0)
        except (TransportError, RpcFailed):
            pass  # it is closed either way
        finally:
            self.abort()

    def leave(self) -> None:
        """`<close-session>` without waiting for its reply, then end every thread and socket; never raises."""
        try:
            if self._session.connected:
                self.send(_operation("close-session"), "closing the session", lambda reply: reply)
                self._session.drain(_DRAIN_S)
        except TransportError:
            pass  # it is closed either way
        finally:
            self.abort()

    def abort(self) -> None:
        """End every thread and socket without a word to the device; whoever waits for an answer is told."""
        self._session.expect_end()
        self._owner.close()  # first, because the loop may be waiting for the far side to read
        self._session.close()

    # Request and reply -----------------------------------------------------------------------------------------------

    def rpc(self, operation: Element, doing: str, *, timeout_s: float | None = None) -> Element:
        """Send one operation; the `<rpc-reply>` without errors.  Raises TransportError, RpcFailed."""
        return self.send(operation, doing, lambda reply: reply, timeout_s=timeout_s).result()

    def send(self, operation: Element, doing: str, finish: Callable[[Element], T], *, timeout_s: float | None = None) -> Pending[T]:
        """Send one operation and go on.  Raises TransportError."""
        try:
            request = _Request(self._session, self._handler, async_mode=True)
            request.leave(operation)
        except (NCClientError, OSError) as error:
            raise lost(self.device, doing, error) from None
        wait_s = timeout_s if timeout_s is not None else self._timeout_s
        return Pending(self, request, finish, step=operation.tag.rpartition("}")[2], doing=doing, wait_s=wait_s)

    def _ok(self, operation: Element, doing: str) -> None:
        self._send_for_ok(operation, doing).result()

    def _send_for_ok(self, operation: Element, doing: str) -> Pending[None]:
        def finish(reply: Element) -> None:
            if reply.find(f"{{{NC}}}ok") is None:
                raise TransportError(self.device, f"{self.device} answered neither ok nor an error while {doing}", retryable=False)

        return self.send(operation, doing, finish)

    def _send_for_data(self, operation: Element, doing: str) -> Pending[Element]:
        def finish(reply: Element) -> Element:
            data = reply.find(f"{{{NC}}}data")
            if data is None:
                raise TransportError(self.device, f"{self.device} answered without data while {doing}", retryable=False)
            return data

        return self.send(operation, doing, finish)


def lost(device: str, doing: str, error: Exception) -> TransportError:
    """The session ended under a request."""
    return TransportError(device, f"{device}: the session was lost while {doing}: {error or type(error).__name__}")


def _operation(name: str) -> Element:
    return Element(f"{{{NC}}}{name}")


def _on_target(name: str, datastore: str) -> Element:
    operation = _operation(name)
    SubElement(SubElement(operation, f"{{{NC}}}target"), f"{{{NC}}}{datastore}")
    return operation


def _errors(reply: Element) -> list[DeviceError]:
    found = []
    for error in reply.findall(f"{{{NC}}}rpc-error"):
        said = {child.tag.rpartition("}")[2]: child for child in error}
        text = {name: " ".join((child.text or "").split()) for name, child in said.items()}
        info = tuple((part.tag.rpartition("}")[2], (part.text or "").strip()) for part in said.get("error-info", ()))
        found.append(
            DeviceError(
                type=text.get("error-type", "application"),
                tag=text.get("error-tag", "operation-failed"),
                severity=text.get("error-severity", "error"),
                app_tag=text.get("error-app-tag"),
                path=text.get("error-path"),
                message=text.get("error-message"),
                info=info,
            )
        )
    return found


_HINTS = {
    "lock-denied": "somebody else is changing this device: wait for them, or see `igmpconf history`",
    "in-use": "somebody else is changing this device: wait for them, or see `igmpconf history`",
    "access-denied": "the user you log in as may not do this: see NACM on the device",
    "operation-not-supported": "the agent is older than this igmpconf: upgrade it",
    "resource-denied": "the device has no room for it: disk or memory",
}

_LEFT_BEHIND = "a client that stopped half-way leaves such changes, or is still at it: `igmpconf discard` shows them and throws them away"


def _failed(device: str, doing: str, errors: list[DeviceError]) -> RpcFailed:
    first = errors[0]
    said = "; ".join(error.text() for error in errors)
    is_nobodys = first.tag == "lock-denied" and ("session-id", "0") in first.info  # RFC 6241 7.5: it was edited, and nobody holds the lock
    hint = _LEFT_BEHIND if is_nobodys else _HINTS.get(first.tag)
    return RpcFailed(device, f"{device} refused while {doing}: {said}", errors, hint=hint, retryable=first.tag in {"lock-denied", "in-use"})


def _open(target: Target, timeout_s: float | None, say: Any) -> tuple[Any, Channel]:
    """Whoever must be closed at the end, and the channel to talk over."""
    if isinstance(target, UnixTarget):
        sock = _unix(target, timeout_s)
        return _UnixConnection(sock), sock
    from igmpconf.netconf.sshclient import open_channel  # noqa: PLC0415 - paramiko costs 100 ms that a unix socket need not pay

    connection = open_channel(target, timeout_s=timeout_s, say=say)
    return connection, connection.channel


class _UnixConnection:
    """The owner of a unix socket: closing wakes whoever is blocked in it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def last_words(self) -> str:
        """A socket has no second stream to say why."""
        return ""

    def close(self) -> None:
        """End the connection in both directions."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the agent went first
        self._sock.close()


def _unix(target: UnixTarget, timeout_s: float | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s or HELLO_TIMEOUT_S)
    start = "start it: igmpconf-agent run" + ("" if target.device == "local" else f" --socket {target.path}")
    try:
        sock.connect(target.path)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        sock.close()
        why = f"there is no socket {target.path}" if isinstance(error, FileNotFoundError) else f"nobody listens on {target.path}"
        raise TransportError(target.device, f"{target.device}: the agent is not running: {why}", hint=start) from None
    except PermissionError:
        sock.close()
        raise TransportError(
            target.device, f"{target.device}: no permission to use {target.path}", hint="use sudo, or join the group that owns the socket", retryable=False
        ) from None
    except OSError as error:
        sock.close()
        raise TransportError(target.device, f"{target.device}: {target.path} cannot be used: {error}") from None
    sock.settimeout(None)
    return sock


def _no_greeting(target: Target, why: str) -> TransportError:
    reached = "reached over SSH, but its agent" if isinstance(target, SshTarget) else "the agent"
    return TransportError(
        target.device,
        f"{target.device}: {reached} did not greet: {why}",
        hint="is the agent running there? `igmpconf agent status`, `systemctl status igmpconf-agent`",
    )
