"""The controller's NETCONF client against real servers: our agent, OpenSSH, and things that are neither."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from igmpconf.errors import RpcFailed, TransportError
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NC, NetconfClient
from igmpconf.netconf.target import SshTarget, UnixTarget, parse_target
from igmpconf.schema.xml import config_to_xml, xml_to_config
from tests.apply.agents import running_agent
from tests.topology.test_openssh import SSHD, Sshd

HOME = from_plain(DeviceConfig, {"igmp-proxy": [{"interfaces": [{"interface": "wan", "upstream": True}, "lan0"]}]})

openssh = pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="OpenSSH is not installed (Debian: openssh-server)")


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name != "agent"}


def gone(before: set[threading.Thread]) -> bool:
    """Every thread that came since is gone, soon."""
    deadline = time.monotonic() + 5
    while left := {t for t in threads() - before if t.is_alive() and "asyncio" not in t.name}:
        if time.monotonic() > deadline:
            pytest.fail(f"threads left behind: {left}")
        time.sleep(0.01)
    return True


@pytest.fixture
def agent(tmp_path):
    (tmp_path / "agent").mkdir()
    with running_agent(tmp_path / "agent") as running:
        yield running


@pytest.fixture
def sshd(tmp_path, agent, monkeypatch):
    """OpenSSH before the agent; a home directory without the user's own keys and known hosts."""
    (tmp_path / "sshd").mkdir()
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    server = Sshd(tmp_path / "sshd", agent.socket_path)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def known(sshd, *, key=None) -> str:
    """A known_hosts file with the server's key, or with another."""
    path = sshd.home / ("known_hosts" if key is None else "changed_hosts")
    kind, blob, *_ = (key or sshd.home / "host.pub").read_text().split()
    path.write_text(f"[127.0.0.1]:{sshd.port} {kind} {blob}\n")
    return str(path)


def over(sshd, *options, **changes) -> SshTarget:
    said = {"host": "127.0.0.1", "port": sshd.port, "key_files": (str(sshd.home / "user"),), "options": (("userknownhostsfile", known(sshd)), *options)}
    return SshTarget(device="router", **{**said, **changes})


def refusal(target) -> TransportError:
    before = threads()
    with pytest.raises(TransportError) as caught:
        NetconfClient.connect(target, connect_timeout_s=5)
    assert gone(before)
    assert caught.value.device == "router"
    assert caught.value.message.startswith("router: ")
    return caught.value


# Over the socket -------------------------------------------------------------------------------------------------------


def test_a_session_reads_edits_and_commits(agent):
    with NetconfClient.connect(agent.target) as client:
        assert int(client.session_id) > 0
        assert any("candidate" in capability for capability in client.capabilities)
        client.lock()
        client.edit(config_to_xml(HOME))
        client.validate()
        assert xml_to_config(client.get_config("candidate")) == HOME
        assert xml_to_config(client.get_config()) == DeviceConfig()
        client.commit()
        client.unlock()
        assert xml_to_config(client.get_config()) == HOME
        assert xml_to_config(client.get_commit(1)) == HOME


@pytest.mark.alone
def test_requests_leave_at_once(agent):
    """ncclient alone waits up to 100 ms before each request: twenty would take two seconds."""
    with NetconfClient.connect(agent.target) as client:
        started = time.perf_counter()
        for _ in range(20):
            client.get_state(("agent",))
        assert time.perf_counter() - started < 1.0
        assert [timing.step for timing in client.timings] == ["connect"] + ["get"] * 20


def test_replacing_with_nothing_empties_the_device(agent):
    with NetconfClient.connect(agent.target) as client:
        client.edit(config_to_xml(HOME))
        client.commit()
        client.edit(config_to_xml(DeviceConfig()))
        client.commit()
        assert xml_to_config(client.get_config()) == DeviceConfig()


def test_what_a_device_refuses_keeps_its_tags(agent):
    with NetconfClient.connect(agent.target) as first, NetconfClient.connect(agent.target) as second:
        first.lock()
        with pytest.raises(RpcFailed) as caught:
            second.lock()
        assert caught.value.retryable
        (error,) = caught.value.errors
        assert (error.type, error.tag, dict(error.info)["session-id"]) == ("protocol", "lock-denied", first.session_id)
        assert "router refused while locking its candidate configuration" in caught.value.message
        with pytest.raises(RpcFailed) as caught:
            second.get_commit(99)
        assert caught.value.errors[0].tag


def test_closing_leaves_no_thread_and_no_lock(agent):
    before = threads()
    with NetconfClient.connect(agent.target) as client:
        client.lock()
    assert gone(before)
    with NetconfClient.connect(agent.target) as client:
        client.lock()


def test_an_agent_that_stops_in_the_middle_is_told(agent):
    before = threads()
    client = NetconfClient.connect(agent.target)
    agent.stop()
    with pytest.raises(TransportError, match="the session was lost while reading its state"):
        client.get_state()
    client.close()
    client.close()
    assert gone(before)


class Scripted:
    """A server on a socket that says what it is told and nothing else."""

    def __init__(self, path, *messages: bytes) -> None:
        self.path = str(path)
        self._messages = messages
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, name="agent", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            for message in self._messages:
                connection.sendall(message)
                connection.recv(65536)
            while connection.recv(65536):
                pass

    def close(self) -> None:
        self._listener.close()
        self._thread.join(5)


HELLO = (
    b'<hello xmlns="%b"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability></capabilities><session-id>7</session-id></hello>]]>]]>'
    % NC.encode()
)


@pytest.fixture
def scripted(tmp_path):
    made = []

    def make(*messages: bytes) -> UnixTarget:
        made.append(Scripted(tmp_path / "scripted.sock", *messages))
        return UnixTarget(device="router", path=made[-1].path)

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2\r\n]]>]]>", b"<!DOCTYPE x><hello/>]]>]]>", b"]]>]]>", b"\xff\xfe]]>]]>"])
def test_what_does_not_greet_is_no_agent(scripted, greeting):
    assert "did not greet" in refusal(scripted(greeting)).message


def test_a_server_that_keeps_silent_is_given_up(scripted):
    before = threads()
    with pytest.raises(TransportError, match="did not greet"):
        NetconfClient.connect(scripted(b" "), connect_timeout_s=0.3)
    assert gone(before)


def test_a_reply_that_never_comes_is_given_up_and_says_what_was_asked(scripted):
    before = threads()
    client = NetconfClient.connect(scripted(HELLO), timeout_s=0.3)
    with pytest.raises(TransportError, match=r"did not answer within 0\.3s while validating"):
        client.validate()
    client.abort()
    assert gone(before)


def test_a_warning_before_an_error_does_not_pass_for_success(tmp_path, scripted):
    """ncclient in its lenient mode looks at the first error alone."""
    error = b"<rpc-error><error-type>protocol</error-type><error-tag>operation-failed</error-tag><error-severity>%b</error-severity></rpc-error>"

    class Echoing(Scripted):
        def _serve(self) -> None:
            connection, _ = self._listener.accept()
            with connection:
                connection.sendall(HELLO)
                data = b""
                while b"message-id" not in data:
                    data += connection.recv(65536)
                message_id = data.partition(b'message-id="')[2].partition(b'"')[0]
                body = error % b"warning" + error % b"error"
                connection.sendall(b'<rpc-reply xmlns="%b" message-id="%b">%b</rpc-reply>]]>]]>' % (NC.encode(), message_id, body))
                while connection.recv(65536):
                    pass

    server = Echoing(tmp_path / "echo.sock")
    client = NetconfClient.connect(UnixTarget(device="router", path=server.path))
    with pytest.raises(RpcFailed) as caught:
        client.validate()
    assert [found.severity for found in caught.value.errors] == ["error"]
    client.abort()
    server.close()


# Over SSH --------------------------------------------------------------------------------------------------------------


@openssh
def test_a_known_device_is_reached_over_ssh_and_left_without_a_trace(sshd):
    before = threads()
    with NetconfClient.connect(over(sshd)) as client:
        assert xml_to_config(client.get_config()) == DeviceConfig()
    assert gone(before)


@openssh
@pytest.mark.alone
def test_requests_over_ssh_leave_at_once(sshd):
    with NetconfClient.connect(over(sshd)) as client:
        started = time.perf_counter()
        for _ in range(20):
            client.get_state(("agent",))
        assert time.perf_counter() - started < 1.0


@openssh
def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_the_way_to_add_it(sshd):
    error = refusal(over(sshd, ("userknownhostsfile", str(sshd.home / "nobody"))))
    fingerprint = subprocess.run(["ssh-keygen", "-lf", str(sshd.home / "host.pub")], capture_output=True, text=True, check=True).stdout.split()[1]
    assert f"the host key of [127.0.0.1]:{sshd.port} is not known" in error.message
    assert fingerprint in error.message
    assert f"ssh-keyscan -p {sshd.port} 127.0.0.1 >> {sshd.home / 'nobody'}" in error.hint
    assert not error.retryable


@openssh
def test_a_changed_host_key_has_its_own_words(sshd):
    error = refusal(over(sshd, ("userknownhostsfile", known(sshd, key=sshd.home / "user.pub"))))
    assert "has changed" in error.message
    assert "somebody may stand between" in error.message
    assert f"ssh-keygen -f {sshd.home / 'changed_hosts'} -R '[127.0.0.1]:{sshd.port}'" in error.hint
    relaxed = refusal(over(sshd, ("userknownhostsfile", known(sshd, key=sshd.home / "user.pub")), ("stricthostkeychecking", "no")))
    assert "has changed" in relaxed.message


@openssh
def test_a_new_host_key_is_added_when_the_user_says_so(sshd):
    path = sshd.home / "new" / "known_hosts"
    target = over(sshd, ("userknownhostsfile", str(path)), ("stricthostkeychecking", "accept-new"))
    said = []
    NetconfClient.connect(target, say=said.append).close()
    assert len(said) == 1
    assert "added the host key" in said[0]
    NetconfClient.connect(over(sshd, ("userknownhostsfile", str(path)))).close()  # strict again


@openssh
def test_a_hashed_known_hosts_file_is_read(sshd):
    path = known(sshd)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    NetconfClient.connect(over(sshd, ("userknownhostsfile", path))).close()


@openssh
def test_ssh_config_is_honoured(sshd, tmp_path):
    (tmp_path / "home" / ".ssh" / "config").write_text(
        f"Host gateway\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {sshd.home / 'user'}\n  UserKnownHostsFile {known(sshd)}\n  ConnectTimeout 5\n"
    )
    NetconfClient.connect(SshTarget(device="router", host="gateway")).close()


@openssh
def test_a_jump_host_of_ssh_config_is_gone_through(sshd, tmp_path):
    """The same server is jump host and device; the device's name is known to the jump host alone."""
    before = threads()
    (tmp_path / "home" / ".ssh" / "config").write_text(
        f"Host *\n  IdentityFile {sshd.home / 'user'}\n  UserKnownHostsFile {sshd.home / 'known_hosts'}\n"
        f"Host jump\n  HostName 127.0.0.1\n  Port {sshd.port}\nHost router\n  HostName 127.0.0.1\n  Port {sshd.port}\n  ProxyJump jump\n  HostKeyAlias inside\n"
    )
    with Path(known(sshd)).open("a") as file:
        file.write("inside " + (sshd.home / "host.pub").read_text())
    with NetconfClient.connect(SshTarget(device="router", host="router")) as client:
        client.get_config()
    assert gone(before)


@openssh
def test_jump_hosts_in_a_circle_end(sshd, tmp_path):
    (tmp_path / "home" / ".ssh" / "config").write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    assert "circle" in refusal(SshTarget(device="router", host="a")).message


@openssh
def test_a_key_that_is_not_welcome_is_named(sshd):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(sshd.home / "other")], check=True)
    error = refusal(over(sshd, key_files=(str(sshd.home / "other"),)))
    assert f"does not let {getpass.getuser()} in; tried {sshd.home / 'other'}" in error.message
    assert "authorized_keys" in error.hint
    assert not error.retryable


@openssh
def test_a_key_that_cannot_be_used_says_why(sshd):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(sshd.home / "locked")], check=True)
    assert "load it with ssh-add" in refusal(over(sshd, key_files=(str(sshd.home / "locked"),))).hint
    assert "there is no key file" in refusal(over(sshd, key_files=("/nowhere/key",))).hint
    (sshd.home / "text").write_text("not a key\n")
    assert "is not a private key" in refusal(over(sshd, key_files=(str(sshd.home / "text"),))).hint


@openssh
def test_an_agent_that_is_not_running_behind_ssh_is_told_in_its_own_words(sshd, agent):
    agent.stop()
    error = refusal(over(sshd))
    assert "reached over SSH, but its agent did not greet" in error.message
    assert "it is not running" in error.message


def test_a_port_without_ssh_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def shut() -> None:
            connection, _ = server.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        other = threading.Thread(target=shut, name="agent", daemon=True)
        other.start()
        assert "does not speak SSH" in refusal(SshTarget(device="router", host="127.0.0.1", port=port)).message
        other.join(5)


def test_an_unreachable_device_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert f"127.0.0.1 refuses connections to port {port}" in refusal(SshTarget(device="router", host="127.0.0.1", port=port)).message
    error = refusal(SshTarget(device="router", host="no-such-host.invalid"))
    assert "no-such-host.invalid is not known" in error.message


@pytest.mark.parametrize(
    ("text", "host", "port", "user"),
    [("ssh://r1", "r1", None, None), ("ssh://admin@r1:830", "r1", 830, "admin"), ("ssh://[2001:db8::1]:22", "2001:db8::1", 22, None)],
)
def test_addresses_are_read(text, host, port, user):
    target = parse_target(text)
    assert isinstance(target, SshTarget)
    assert (target.host, target.port, target.user) == (host, port, user)
