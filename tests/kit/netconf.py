"""A NETCONF service in a thread of its own, an engine that can be told to refuse, and a client that sees the octets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self
from xml.etree.ElementTree import Element

from igmpconf.agent.access import User
from igmpconf.agent.service import NetconfService, SshOptions, start_netconf
from igmpconf.agent.stream import EventStream
from igmpconf.engine.effects import Note
from igmpconf.errors import KernelError
from igmpconf.model.config import DeviceConfig
from igmpconf.model.notices import notice_of
from igmpconf.model.state import DeviceState, GroupRow
from igmpconf.netconf.framing import Decoder, framed
from igmpconf.schema.xml import notice_to_xml
from igmpconf.xmltext import parse

BASE = "urn:ietf:params:xml:ns:netconf:base:1.0"
OURS = "urn:igmpconf:yang:igmpconf"
NC = f"{{{BASE}}}"
IC = f"{{{OURS}}}"
HELLO_1_1 = (
    f'<hello xmlns="{BASE}"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability>'
    "<capability>urn:ietf:params:netconf:base:1.1</capability></capabilities></hello>"
)
HELLO_1_0 = HELLO_1_1.replace("<capability>urn:ietf:params:netconf:base:1.1</capability>", "")

ONE_PROXY = f"""<igmp-proxy xmlns="{OURS}"><name>default</name><interfaces><interface>wan</interface><upstream>true</upstream></interfaces>
<interfaces><interface>lan0</interface></interfaces></igmp-proxy>"""


class MemoryEngine:
    """An EnginePort without a kernel; `refuse` is how many replacements from now on are refused."""

    def __init__(self) -> None:
        self.config: DeviceConfig | None = None
        self.replaced: list[DeviceConfig] = []
        self.refuse = 0
        self.rows: tuple[GroupRow, ...] = ()

    def replace(self, config: DeviceConfig) -> None:
        if self.refuse:
            self.refuse -= 1
            raise KernelError("MRT_ADD_VIF", errno.EADDRINUSE, "cannot add interface lan0", hint="another multicast daemon runs")
        self.config = config
        self.replaced.append(config)

    def snapshot(self) -> DeviceState:
        return DeviceState(groups=self.rows)


def eventually(condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
    """Wait until it is so; fail when it is not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


class RunningService:
    """`with RunningService(tmp_path) as service:`; the loop runs in a thread until the end of the block."""

    def __init__(self, home: Path, *, engine: MemoryEngine | None = None, ssh: SshOptions | None = None) -> None:
        self.home = home
        self.engine = engine or MemoryEngine()
        self.socket_path = home / "agent.sock"
        self.state_dir = home / "state"
        self._ssh = ssh
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="agent")
        self.service: NetconfService | None = None
        self.stream = EventStream()

    def __enter__(self) -> Self:
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(
            start_netconf(self.engine, state_dir=self.state_dir, socket_path=self.socket_path, ssh=self._ssh, stream=self.stream), self._loop
        )
        try:
            self.service = started.result(timeout=10)
        except BaseException:
            self._stop_loop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.service is not None:
                asyncio.run_coroutine_threadsafe(self.service.close(), self._loop).result(timeout=10)
        finally:
            self._stop_loop()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def publish(self, note: Note, *, is_bounded: bool = True) -> None:
        """Let an engine say something; `is_bounded` False: past the limit of bursts."""
        notice = notice_of(note.event, note.fields)
        assert notice is not None
        done = threading.Event()

        def now() -> None:
            if is_bounded:
                self.stream.noted(note)
            else:
                self.stream.publish(notice_to_xml(notice))
            done.set()

        self._loop.call_soon_threadsafe(now)
        assert done.wait(10)

    @contextlib.contextmanager
    def client(self, hello: str = HELLO_1_1) -> Iterator[Client]:
        client = Client.connected(self.socket_path, hello)
        with client:
            yield client

    def hand_in(self, connection: socket.socket, name: str, *groups: str) -> None:
        """Let the agent serve somebody on a connected socket."""
        user = User(name=name, groups=frozenset(groups or (name,)), is_recovery=False, transport="unix")
        assert self.service is not None
        self._loop.call_soon_threadsafe(self.service.serve, connection, user)

    @contextlib.contextmanager
    def client_of(self, name: str, *groups: str, hello: str = HELLO_1_1) -> Iterator[Client]:
        """A session of somebody else, as the transport would hand it in; `groups` are his on the device."""
        ours, theirs = socket.socketpair()
        self.hand_in(theirs, name, *groups)
        with Client(ours) as client:
            client.sees_all = False
            client.greeting = client.receive() or b""
            client.say_hello(hello)
            yield client


class Client:
    """A client on a connected stream socket; who is in `answered` sees every reply to an rpc."""

    answered: ClassVar[list[Callable[[Client, str, bytes], None]]] = []

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        self.socket = connection
        self.decoder = Decoder()
        self.is_chunked = False
        self.greeting = b""
        self.sees_all = True  # nothing is hidden from this user
        self._number = 0

    @classmethod
    def connected(cls, path: Path, hello: str = HELLO_1_1) -> Client:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(path))
        client = cls(connection)
        client.greeting = client.receive() or b""
        if hello:
            client.say_hello(hello)
        return client

    def say_hello(self, hello: str) -> None:
        self.socket.sendall(framed(hello.encode(), is_chunked=False))
        if "base:1.1" in hello:
            self.is_chunked = True
            self.decoder.use_chunks()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    @property
    def session_id(self) -> int:
        return int(parse(self.greeting).findtext(f"{NC}session-id") or 0)

    def send(self, message: str | bytes) -> None:
        self.socket.sendall(framed(message if isinstance(message, bytes) else message.encode(), is_chunked=self.is_chunked))

    def receive(self) -> bytes | None:
        """The next message, or None at the end of the stream."""
        while (message := self.decoder.next_message()) is None:
            data = self.socket.recv(65536)
            if not data:
                return None
            self.decoder.feed(data)
        return message

    def is_ended(self) -> bool:
        """The server closed the stream without another message."""
        try:
            return self.receive() is None
        except ConnectionResetError:
            return True

    def rpc(self, operation: str) -> Element:
        """The whole <rpc-reply>."""
        self._number += 1
        self.send(f'<rpc xmlns="{BASE}" message-id="{self._number}">{operation}</rpc>')
        message = self.receive()
        assert message is not None, "the server closed the session"
        for look in self.answered:
            look(self, operation, message)
        reply = parse(message)
        assert reply.tag == f"{NC}rpc-reply"
        assert reply.get("message-id") == str(self._number)
        return reply

    def ok(self, operation: str) -> None:
        reply = self.rpc(operation)
        assert [child.tag for child in reply] == [f"{NC}ok"], errors_of(reply)

    def data(self, operation: str) -> Element:
        reply = self.rpc(operation)
        assert [child.tag for child in reply] == [f"{NC}data"], errors_of(reply)
        return reply[0]

    def error(self, operation: str) -> Seen:
        """The first error of a reply that must be one."""
        found = errors_of(self.rpc(operation))
        assert found, "no error"
        return found[0]

    # what most tests do

    def edit(self, config: str, **parameters: str) -> None:
        self.ok(edit_config(config, **parameters))

    def lock(self, target: str = "candidate") -> None:
        self.ok(f"<lock><target><{target}/></target></lock>")

    def config(self, source: str = "running") -> Element:
        return self.data(f"<get-config><source><{source}/></source></get-config>")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One rpc-error as it arrived; `kind` is (type, tag)."""

    kind: tuple[str, str]
    app_tag: str | None
    path: str | None
    message: str
    info: dict[str, str]


def errors_of(reply: Element) -> list[Seen]:
    found = []
    for error in reply.findall(f"{NC}rpc-error"):
        order = [child.tag.removeprefix(NC) for child in error]
        wanted = ["error-type", "error-tag", "error-severity", "error-app-tag", "error-path", "error-message", "error-info"]
        assert order == [name for name in wanted if name in order], order  # RFC 6241 appendix B: a sequence
        assert error.findtext(f"{NC}error-severity") == "error"
        info = error.find(f"{NC}error-info")
        one = Seen(
            kind=(error.findtext(f"{NC}error-type") or "", error.findtext(f"{NC}error-tag") or ""),
            app_tag=error.findtext(f"{NC}error-app-tag"),
            path=error.findtext(f"{NC}error-path"),
            message=error.findtext(f"{NC}error-message") or "",
            info={child.tag.removeprefix(NC): child.text or "" for child in info} if info is not None else {},
        )
        found.append(one)
    return found


def edit_config(config: str, *, target: str = "candidate", **parameters: str) -> str:
    said = "".join(f"<{name.replace('_', '-')}>{text}</{name.replace('_', '-')}>" for name, text in parameters.items())
    return f"<edit-config><target><{target}/></target>{said}<config>{config}</config></edit-config>"


def threshold(value: int) -> str:
    """A change of one leaf of ONE_PROXY."""
    return f'<igmp-proxy xmlns="{OURS}"><name>default</name><interfaces><interface>lan0</interface><threshold>{value}</threshold></interfaces></igmp-proxy>'


def threshold_in(config: Element) -> str | None:
    return config.findtext(f"{IC}igmp-proxy/{IC}interfaces[{IC}interface='lan0']/{IC}threshold")
