"""Clients that mean harm, and what everybody else notices of it: nothing.

Every test has a bystander whose questions are answered meanwhile, and the engine still has its configuration at the end.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from pathlib import Path

import pytest

from igmpconf.agent.sessions import KEPT_FREE, MAX_SESSIONS
from igmpconf.netconf.framing import framed
from igmpconf.xmltext import parse
from tests.kit.conformance import covers
from tests.kit.netconf import BASE, HELLO_1_0, HELLO_1_1, ONE_PROXY, OURS, Client, RunningService, edit_config, errors_of, eventually

ASK = "<get-config><source><running/></source></get-config>"
BOMB = (
    '<!DOCTYPE rpc [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    + f']><rpc xmlns="{BASE}" message-id="1"><get>&a9;</get></rpc>'
)
FILE = f'<!DOCTYPE rpc [<!ENTITY x SYSTEM "file:///etc/passwd">]><rpc xmlns="{BASE}" message-id="&x;"><get/></rpc>'
PARAMETER = f'<!DOCTYPE rpc [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]><rpc xmlns="{BASE}" message-id="1"><get/></rpc>'


@pytest.fixture
def service(tmp_path: Path):
    with RunningService(tmp_path) as running:
        with running.client() as root:
            root.edit(ONE_PROXY)
            root.ok("<commit/>")
        before = running.engine.config
        yield running
        assert running.engine.config is before
        with running.client() as root:
            assert len(root.config()) == 1


@contextlib.contextmanager
def bystander(service: RunningService, *, within_s: float = 10.0):
    """Somebody who asks all the while, and whose longest wait is bounded."""
    waits: list[float] = []
    over = threading.Event()
    with service.client() as client:

        def ask() -> None:
            while not over.is_set():
                began = time.monotonic()
                client.rpc(ASK)
                waits.append(time.monotonic() - began)
                over.wait(0.005)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            yield
        finally:
            over.set()
            asking.join()
    assert waits
    assert max(waits) < within_s


@covers("NC-016")
@pytest.mark.parametrize("message", [BOMB, FILE, PARAMETER], ids=["expansion", "file", "parameter"])
@pytest.mark.parametrize("hello", [HELLO_1_0, HELLO_1_1], ids=["1.0", "1.1"])
def test_entities_are_refused_and_nothing_is_read_or_expanded(service, message, hello):
    with bystander(service), service.client(hello) as client:
        client.send(message)
        reply = client.receive() or b""
        assert len(reply) < 1000
        assert b"root:" not in reply
        (error,) = errors_of(parse(reply))
        assert error.kind == ("rpc", "malformed-message" if hello is HELLO_1_1 else "operation-failed")  # NC-017
        assert len(client.config()) == 1  # the session goes on


@covers("NC-016")
@pytest.mark.parametrize("message", [BOMB, FILE], ids=["expansion", "file"])
def test_as_a_hello_they_end_the_session(service, message):
    with bystander(service), Client.connected(service.socket_path, "") as client:
        client.socket.sendall(framed(message.encode(), is_chunked=False))
        assert client.is_ended()


@covers("NC-013")
def test_announcing_four_gigabytes_costs_nothing(service):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with bystander(service), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(service.client()) for _ in range(20)]
        for client in clients:
            client.socket.sendall(b"\n#4294967295\n" + b"x" * 1000)
        for client in clients:  # refused at the announcement, or kept waiting for the rest: never made room for
            client.socket.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                assert client.is_ended()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@covers("NC-013")
def test_a_message_without_end_is_cut_off(service):
    with bystander(service), service.client_of("eve") as client:
        client.socket.settimeout(30)
        endless = b"\n#65536\n" + b"<" * 65536
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            client.socket.sendall(endless * 1_000)


def test_a_thousand_connections_leave_room_for_those_who_may_change_things(service):
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(service.client_of(f"r{number}")) for number in range(MAX_SESSIONS - KEPT_FREE)]
        ours, theirs = socket.socketpair()
        with ours:
            service.hand_in(theirs, "one-more")
            ours.settimeout(10)
            assert ours.recv(1) == b""  # closed, without a hello
        with bystander(service):
            for _ in range(1_000):
                connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                connection.connect(str(service.socket_path))
            connection.settimeout(10)
            assert connection.recv(1) == b""
        assert len(readers[0].config()) == 1
    eventually(lambda: _greets(service))


def _greets(service: RunningService) -> bool:
    with Client.connected(service.socket_path, "") as client:
        return client.greeting != b""


def test_slow_senders_hold_up_nobody(service):
    half = f'<rpc xmlns="{BASE}" message-id="1"><get-config><source><runn'.encode()
    with bystander(service), contextlib.ExitStack() as stack:
        slow = [stack.enter_context(service.client()) for _ in range(40)]
        for octet in half:
            for client in slow:
                client.socket.sendall(b"\n#1\n" + bytes((octet,)))
        rest = b"ing/></source></get-config></rpc>"
        for client in slow:
            client.socket.sendall(b"\n#%d\n" % len(rest) + rest + b"\n##\n")
        for client in slow:
            assert b"<data>" in (client.receive() or b"")


def test_a_huge_configuration_takes_its_time_and_not_that_of_others(service):
    entry = "<mfc><source>10.{}.{}.1</source><group>239.1.1.{}</group><downstream-interface>lan0</downstream-interface></mfc>"
    entries = "".join(entry.format(n >> 8, n & 255, n % 250 + 1) for n in range(3_000))
    config = ONE_PROXY.replace("</igmp-proxy>", entries + "</igmp-proxy>")
    with service.client() as client:
        client.socket.settimeout(60)
        with bystander(service):
            client.ok(edit_config(config))
            client.ok("<validate><source><candidate/></source></validate>")
            assert len(client.config("candidate")[0]) > 3_000
            client.ok("<discard-changes/>")


def test_a_request_beyond_the_limit_of_who_may_only_read(service):
    padding = f'<get><filter><igmp-proxy xmlns="{OURS}"><name>{{}}</name></igmp-proxy></filter></get>'
    with bystander(service), service.client_of("eve") as eve, service.client() as root:
        root.socket.settimeout(30)
        big = padding.format("x" * (1024 * 1024))
        assert len(root.data(big)) == 0
        eve.send(f'<rpc xmlns="{BASE}" message-id="1">{padding.format("x" * 1000)}</rpc>')
        assert b"<data" in (eve.receive() or b"")
        with contextlib.suppress(BrokenPipeError):
            eve.send(f'<rpc xmlns="{BASE}" message-id="2">{big}</rpc>')
        assert eve.is_ended()


def test_deep_and_wide_messages(service):
    with bystander(service), service.client() as client:
        deep = "<a>" * 10_000 + "</a>" * 10_000
        client.send(f'<rpc xmlns="{BASE}" message-id="1">{deep}</rpc>')
        assert errors_of(parse(client.receive() or b""))[0].kind == ("rpc", "too-big")
        wide = f"<get><filter>{'<a/>' * 50_000}</filter></get>"
        assert len(client.data(wide)) == 0
        attributes = " ".join(f'a{number}="x"' for number in range(10_000))
        client.send(f'<rpc xmlns="{BASE}" message-id="3" {attributes}><get><filter/></get></rpc>')
        assert b"a9999" in (client.receive() or b"")  # NC-031: all of them come back
