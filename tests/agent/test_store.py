"""The datastore's shell with a slow disk, and the start and stop of the whole service."""

from __future__ import annotations

import logging
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from igmpconf.agent.access import user_of_socket
from igmpconf.agent.journal import Journal, StateDirectoryError
from igmpconf.agent.server import SocketError
from igmpconf.netconf.framing import framed
from igmpconf.xmltext import parse
from tests.kit.netconf import BASE, ONE_PROXY, MemoryEngine, RunningService, errors_of, eventually, threshold, threshold_in


class SlowDisk:
    """Every write of the journal waits for `go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.go.set()
        self.is_waiting = threading.Event()
        write = Journal.write

        def slow(journal: Journal, image):
            self.is_waiting.set()
            assert self.go.wait(10)
            self.is_waiting.clear()
            return write(journal, image)

        monkeypatch.setattr(Journal, "write", slow)


@pytest.fixture
def service(tmp_path: Path):
    with RunningService(tmp_path) as running:
        yield running


def test_others_are_served_while_the_disk_is_slow(service, monkeypatch):
    disk = SlowDisk(monkeypatch)
    with service.client() as one, service.client() as other:
        one.edit(ONE_PROXY)
        disk.go.clear()
        one.send(f'<rpc xmlns="{BASE}" message-id="x"><commit/></rpc>')
        assert disk.is_waiting.wait(5)
        assert len(other.config()) == 0  # answered at once, from what is still running
        other.send(f'<rpc xmlns="{BASE}" message-id="y"><lock><target><running/></target></lock></rpc>')
        assert service.engine.config is not None
        assert not service.engine.config.proxies  # journal before kernel
        disk.go.set()
        for client in (one, other):
            assert not errors_of(parse(client.receive() or b""))
        assert service.engine.config.proxies


def test_a_commit_that_a_rollback_overtakes_is_made_anew(service, monkeypatch):
    disk = SlowDisk(monkeypatch)
    with service.client() as owner, service.client() as other:
        owner.edit(ONE_PROXY)
        owner.ok("<commit/>")
        owner.edit(threshold(7))
        owner.ok("<commit><confirmed/></commit>")
        disk.go.clear()
        disk.is_waiting.clear()
        owner.socket.close()
        assert disk.is_waiting.wait(5)  # the engine is back already, the journal is not
        other.send(f'<rpc xmlns="{BASE}" message-id="x"><edit-config><target><candidate/></target><config>{threshold(8)}</config></edit-config></rpc>')
        other.send(f'<rpc xmlns="{BASE}" message-id="y"><commit/></rpc>')
        disk.go.set()
        for _ in range(2):
            assert not errors_of(parse(other.receive() or b""))
        assert threshold_in(other.config()) == "8"


def test_a_disk_that_refuses_is_told_to_the_client_and_nothing_changes(service, monkeypatch):
    with service.client() as client:
        client.edit(ONE_PROXY)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            error = client.error("<commit/>")
        assert (error.kind, error.app_tag) == (("application", "operation-failed"), "journal-failed")
        assert "No space left on device" in error.message
        assert len(client.config()) == 0
        client.ok("<commit/>")


def test_an_engine_that_breaks_refuses_the_commit_and_the_agent_goes_on(service, monkeypatch):
    def broken(self, config):
        raise ZeroDivisionError

    with service.client() as client:
        client.edit(ONE_PROXY)
        with monkeypatch.context() as patched:
            patched.setattr(MemoryEngine, "replace", broken)
            assert client.error("<commit/>").kind == ("application", "operation-failed")
        client.ok("<commit/>")


def test_an_operation_that_breaks_ends_as_an_error_of_that_operation(service, monkeypatch):
    def broken(self):
        raise ZeroDivisionError

    with service.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(MemoryEngine, "snapshot", broken)
            error = client.error("<get/>")
        assert error.kind == ("application", "operation-failed")
        assert "defect" in error.message
        assert client.data("<get/>") is not None


def test_a_second_agent_is_refused_whatever_it_would_share(tmp_path, service):
    with pytest.raises(StateDirectoryError), RunningService(tmp_path):
        pass
    other = tmp_path / "other"
    other.mkdir()
    sharing = RunningService(other)
    sharing.socket_path = service.socket_path
    with pytest.raises(SocketError, match="another agent listens"), sharing:
        pass
    with service.client() as client:
        assert client.config() is not None
    with RunningService(other):  # and the refused one gave its state directory back
        pass


def test_a_socket_of_a_dead_agent_is_replaced_and_a_file_is_not(tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "agent.sock"))
    with RunningService(tmp_path) as running, running.client() as client:
        assert client.config() is not None
        assert stat.S_IMODE(running.socket_path.stat().st_mode) == 0o660
    assert not (tmp_path / "agent.sock").exists()
    (tmp_path / "agent.sock").write_text("precious")
    with pytest.raises(SocketError, match="is not a socket"), RunningService(tmp_path):
        pass
    assert (tmp_path / "agent.sock").read_text() == "precious"


def test_findings_of_the_journal_are_logged(tmp_path, caplog):
    with RunningService(tmp_path) as running, running.client() as client:
        client.edit(ONE_PROXY)
        client.ok("<commit/>")
    (tmp_path / "state" / "journal.json").write_text("{")
    with caplog.at_level(logging.WARNING), RunningService(tmp_path):
        pass
    assert "journal.json.damaged-1" in caplog.text


def test_kill_9_while_a_confirmed_commit_waits(tmp_path):
    """A real process, really killed: the next start has the configuration of before."""
    program = (
        "import asyncio, sys; from pathlib import Path; from igmpconf.agent.service import start_netconf; from tests.kit.netconf import MemoryEngine\n"
        "async def main():\n"
        "    await start_netconf(MemoryEngine(), state_dir=Path(sys.argv[1]) / 'state', socket_path=Path(sys.argv[1]) / 'agent.sock')\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=Path(__file__).parents[2]) as agent:
        try:
            eventually((tmp_path / "agent.sock").exists, within_s=10)
            service = RunningService(tmp_path)
            eventually(lambda: _accepts(tmp_path / "agent.sock"))
            with service.client() as client:
                client.edit(ONE_PROXY)
                client.ok("<commit/>")
                client.edit(threshold(7))
                client.ok("<commit><confirmed/><persist>tok</persist></commit>")
        finally:
            agent.kill()
    service._loop.close()
    with RunningService(tmp_path) as again, again.client() as client:
        assert again.engine.config is not None
        assert threshold_in(client.config()) is None
        assert len(client.config()) == 1


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


# access


def test_the_user_is_the_peer_of_the_socket(service):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        user = user_of_socket(ours)
    assert user.is_recovery
    assert user.source == f"process {os.getpid()}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_somebody_else_may_read_only(service):
    service.socket_path.chmod(0o666)  # as a group that may read would have it
    for directory in (service.home, *service.home.parents):
        if directory == Path("/tmp"):
            break
        directory.chmod(0o755)
    program = """
import os, sys, socket
os.setgroups([]); os.setgid(65534); os.setuid(65534)
stranger = socket.socket(socket.AF_UNIX); stranger.connect(sys.argv[1])
stranger.sendall(sys.stdin.buffer.read()); stranger.shutdown(socket.SHUT_WR)
while data := stranger.recv(65536):
    sys.stdout.buffer.write(data)
"""
    hello = f'<hello xmlns="{BASE}"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability></capabilities></hello>'
    operations = [
        "<get-config><source><running/></source></get-config>",
        "<lock><target><candidate/></target></lock>",
        "<commit/>",
        "<kill-session><session-id>1</session-id></kill-session>",
        "<reboot/>",
    ]
    asked = [hello, *(f'<rpc xmlns="{BASE}" message-id="{number}">{operation}</rpc>' for number, operation in enumerate(operations))]
    done = subprocess.run(
        [sys.executable, "-c", program, str(service.socket_path)],
        input=b"".join(framed(one.encode(), is_chunked=False) for one in asked),
        capture_output=True,
        timeout=20,
        check=True,
    )
    replies = [parse(one) for one in done.stdout.split(b"]]>]]>")[1:] if one.strip()]
    kinds = [[error.kind for error in errors_of(reply)] for reply in replies]
    denied = [("protocol", "access-denied")]
    assert kinds == [[], denied, denied, denied, [("protocol", "operation-not-supported")]]
