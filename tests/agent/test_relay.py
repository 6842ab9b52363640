from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from igmpconf.netconf.framing import Decoder, framed
from tests.kit.netconf import BASE, HELLO_1_1, RunningService


def relayed(path: Path, **streams) -> subprocess.Popen[bytes]:
    program = "import sys; from pathlib import Path; from igmpconf.agent.relay import relay; sys.exit(relay(Path(sys.argv[1])))"
    return subprocess.Popen([sys.executable, "-c", program, str(path)], **streams)


PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.fixture
def service(tmp_path: Path):
    with RunningService(tmp_path) as running:
        yield running


def question(number: int) -> bytes:
    return framed(f'<rpc xmlns="{BASE}" message-id="{number}"><get-config><source><running/></source></get-config></rpc>'.encode(), is_chunked=True)


def test_everything_asked_before_the_input_ended_is_answered(service):
    asked = framed(HELLO_1_1.encode(), is_chunked=False) + b"".join(question(number) for number in range(50))
    out, errors = relayed(service.socket_path, **PIPES).communicate(asked, timeout=20)
    assert errors == b""
    decoder = Decoder()
    decoder.feed(out)
    decoder.next_message()
    decoder.use_chunks()
    assert len([1 for _ in range(60) if decoder.next_message() is not None]) == 50


def test_input_may_be_a_file(service, tmp_path):
    asked = tmp_path / "asked"
    asked.write_bytes(framed(HELLO_1_1.encode(), is_chunked=False) + question(1))
    with asked.open("rb") as file:
        client = relayed(service.socket_path, stdin=file, stdout=subprocess.PIPE)
    out, _ = client.communicate(timeout=20)
    assert out.count(b"<rpc-reply") == 1
    assert client.returncode == 0


def test_close_session_ends_the_program_although_its_input_is_open(service):
    client = relayed(service.socket_path, **PIPES)
    client.stdin.write(framed(HELLO_1_1.encode(), is_chunked=False))
    client.stdin.write(framed(f'<rpc xmlns="{BASE}" message-id="1"><close-session/></rpc>'.encode(), is_chunked=True))
    client.stdin.flush()
    assert client.wait(timeout=10) == 0
    client.communicate()


def test_neither_direction_can_lock_up_the_other(tmp_path):
    """Both ends send more than every buffer between them holds, and read only then."""
    path, size = tmp_path / "s", 8 * 1024 * 1024
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        client = relayed(path, **PIPES)
        agent, _ = listening.accept()
        with agent, client:
            agent.settimeout(20)
            writers = [threading.Thread(target=speak) for speak in (lambda: _say(agent, size), lambda: _write(client.stdin, size))]
            for writer in writers:
                writer.start()
            taken = 0
            while data := agent.recv(65536):
                taken += len(data)
            assert taken == size
            assert len(client.stdout.read()) == size
            for writer in writers:
                writer.join(timeout=10)
            assert client.wait(timeout=10) == 0


def _say(agent: socket.socket, size: int) -> None:
    agent.sendall(b"a" * size)
    agent.shutdown(socket.SHUT_WR)


def _write(stdin, size: int) -> None:
    stdin.write(b"c" * size)
    stdin.close()


@pytest.mark.parametrize("make", [lambda path: None, lambda path: socket.socket(socket.AF_UNIX).bind(str(path))])
def test_an_agent_that_does_not_run_is_said_so(tmp_path, make):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the dead socket is dropped on purpose
        make(tmp_path / "agent.sock")
    client = relayed(tmp_path / "agent.sock", **PIPES)
    out, errors = client.communicate(timeout=20)
    assert client.returncode == 5
    assert out == b""
    assert b"agent.sock: it is not running; start it" in errors


def test_a_reader_that_leaves_ends_the_program(service):
    client = relayed(service.socket_path, **PIPES)
    client.stdout.close()
    client.stdin.write(framed(HELLO_1_1.encode(), is_chunked=False) + question(1))
    client.stdin.close()
    assert client.wait(timeout=10) == 0
    client.stderr.close()


def test_a_terminal_between_client_and_relay_changes_no_octet(service):
    """`ssh -tt -s` gives the subsystem a terminal; a cooked one echoes and writes CR LF for LF."""
    ours, theirs = pty.openpty()
    process = relayed(service.socket_path, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    decoder = Decoder()

    def next_message() -> bytes:
        while (message := decoder.next_message()) is None:
            decoder.feed(os.read(ours, 65536))
        return message

    try:
        assert next_message().startswith(b"<?xml")
        os.write(ours, framed(HELLO_1_1.encode(), is_chunked=False))
        decoder.use_chunks()
        for number in range(3):
            os.write(ours, question(number))
            reply = next_message()
            assert b"<rpc-reply" in reply  # and not the question again
            assert b"\r" not in reply
    finally:
        os.close(ours)  # the terminal hangs up
    _, errors = process.communicate(timeout=20)
    assert errors == b""
