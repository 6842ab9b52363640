"""Ways to log in, over real OpenSSH: a jump host of its own, the SSH agent, encrypted keys, passwords that show nowhere."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import paramiko
import pytest

from igmpconf.apply.run import plain_target, target_of
from igmpconf.errors import TransportError
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.sshclient import open_channel
from igmpconf.netconf.target import Secret, SshTarget
from igmpconf.schema.xml import xml_to_config
from tests.apply.agents import running_agent
from tests.kit.netconf import eventually
from tests.kit.openssh import SSHD, Sshd

pytestmark = pytest.mark.skipif(SSHD is None or shutil.which("ssh-agent") is None, reason="OpenSSH is not installed (Debian: openssh-server)")

SECRET = "correct horse"


@pytest.fixture
def agent(tmp_path):
    (tmp_path / "agent").mkdir()
    with running_agent(tmp_path / "agent") as running:
        yield running


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user without keys, known hosts or an SSH agent."""
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path / "home"


@contextlib.contextmanager
def served(directory: Path, agent_socket: Path):
    directory.mkdir()
    server = Sshd(directory, agent_socket)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def sshd(tmp_path, home, agent):
    with served(tmp_path / "sshd", agent.socket_path) as server:
        known(home, server)
        yield server


def known(home: Path, *servers: Sshd) -> None:
    lines = [f"[127.0.0.1]:{server.port} {' '.join((server.home / 'host.pub').read_text().split()[:2])}\n" for server in servers]
    (home / ".ssh" / "known_hosts").write_text("".join(lines))


def to(server: Sshd, **changes) -> SshTarget:
    return SshTarget(**{"device": "router", "host": "127.0.0.1", "port": server.port, **changes})


def reads(target: SshTarget) -> None:
    with NetconfClient.connect(target) as client:
        assert xml_to_config(client.get_config()) == DeviceConfig()


def refusal(target: SshTarget) -> TransportError:
    with pytest.raises(TransportError) as caught:
        NetconfClient.connect(target)
    assert not caught.value.retryable
    return caught.value


def key_with_passphrase(server: Sshd, *more: str) -> str:
    path = server.home / "locked"
    subprocess.run(["ssh-keygen", "-q", "-N", SECRET, "-f", str(path), *(more or ("-t", "ed25519"))], check=True)
    with (server.home / "authorized_keys").open("a") as file:
        file.write(path.with_suffix(".pub").read_text())
    return str(path)


def test_a_jump_host_is_another_server_with_another_key(tmp_path, home, sshd):
    """The device lets only its own key in, the jump host only its; neither key is tried at the other's."""
    with served(tmp_path / "jump", Path("/nowhere")) as jump:
        known(home, sshd, jump)
        (home / ".ssh" / "config").write_text(
            f"Host gate\n  HostName 127.0.0.1\n  Port {jump.port}\n  IdentityFile {jump.home / 'user'}\n"
            f"Host inside\n  HostName 127.0.0.1\n  Port {sshd.port}\n  IdentityFile {sshd.home / 'user'}\n  ProxyJump gate\n"
        )
        reads(SshTarget(device="router", host="inside"))
        assert "Accepted publickey" in jump.log.read_text()
        assert "Accepted publickey" in sshd.log.read_text()
        jump.stop()
        with pytest.raises(TransportError, match=f"127.0.0.1 refuses connections to port {jump.port}"):
            NetconfClient.connect(SshTarget(device="router", host="inside"))
        jump.start()
        config = home / ".ssh" / "config"
        config.write_text(config.read_text().replace("IdentityFile", f"Port {jump.port}\n  IdentityFile", 1).replace("  Port", "  #", 1))
        known(home, sshd)
        assert f"[127.0.0.1]:{jump.port} is not known" in refusal(SshTarget(device="router", host="inside")).message


def test_the_ssh_agent_opens_what_is_encrypted(sshd, monkeypatch):
    path = key_with_passphrase(sshd)
    ask = sshd.home / "ask"
    ask.write_text(f"#!/bin/sh\necho '{SECRET}'\n")
    ask.chmod(0o700)
    socket_path = sshd.home / "agent.sock"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket_path)], stdout=subprocess.DEVNULL) as process:
        try:
            eventually(socket_path.exists)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
            subprocess.run(["ssh-add", "-q", path], check=True, env={**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"})
            reads(to(sshd))
            assert "agent key SHA256:" in refusal(to(sshd, user="nobody")).message
        finally:
            process.terminate()


@pytest.mark.parametrize("kind", [("-t", "ed25519"), ("-t", "rsa", "-b", "2048", "-m", "PEM")])
def test_an_encrypted_key_opens_with_its_passphrase(sshd, kind):
    path = key_with_passphrase(sshd, *kind)
    reads(to(sshd, key_files=(path,), passphrase=Secret(SECRET)))
    assert "say --ask-passphrase" in refusal(to(sshd, key_files=(path,))).hint
    wrong = sshd.home / "copy"
    shutil.copy(path, wrong)
    error = refusal(to(sshd, key_files=(str(wrong),), passphrase=Secret("wrong")))
    assert f"the passphrase does not open {wrong}" in error.hint
    assert "wrong" not in error.message


# Passwords ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def password_sshd(tmp_path, home, agent, monkeypatch):
    """OpenSSH with a shadow file of its own, in a mount namespace of its own."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("openssl") is None:
        pytest.skip("a password for a real sshd needs root: it reads /etc/shadow")
    hashed = subprocess.run(["openssl", "passwd", "-6", SECRET], check=True, capture_output=True, text=True).stdout.strip()
    shadow = tmp_path / "shadow"
    shadow.write_text(f"{getpass.getuser()}:{hashed}:20000:0:99999:7:::\n")
    wrapper = tmp_path / "wrapped-sshd"
    wrapper.write_text(f'#!/bin/sh\nexec unshare --mount sh -c \'mount --bind {shadow} /etc/shadow && exec {SSHD} "$@"\' sshd "$@"\n')
    wrapper.chmod(0o700)
    monkeypatch.setattr("tests.kit.openssh.SSHD", str(wrapper))
    monkeypatch.setattr(
        Sshd,
        "_config",
        lambda self, plain=Sshd._config: plain(self).replace("PasswordAuthentication no", "PasswordAuthentication yes").replace("prohibit-password", "yes"),
    )
    with served(tmp_path / "sshd", agent.socket_path) as server:
        known(home, server)
        yield server


def test_a_password_opens_a_real_sshd(password_sshd):
    reads(to(password_sshd, password=Secret(SECRET)))
    error = refusal(to(password_sshd, password=Secret("wrong horse")))
    assert "the password is wrong" in error.hint
    assert "tried the password" in error.message
    assert "horse" not in error.message + (error.hint or "")


def test_the_command_line_takes_a_password_from_a_descriptor_and_shows_it_nowhere(password_sshd, tmp_path, agent):
    (tmp_path / "home.yaml").write_text("igmp-proxy: {interfaces: [{interface: wan, upstream: yes}, lan0]}\n")
    ours, theirs = os.pipe()
    os.write(theirs, SECRET.encode() + b"\n")
    os.close(theirs)
    address = f"ssh://{getpass.getuser()}@127.0.0.1:{password_sshd.port}"
    command = [sys.executable, "-m", "igmpconf.cli.main", "--debug", "apply", "-d", address, "-f", str(tmp_path / "home.yaml"), "--yes"]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state-home")}
    done = subprocess.run([*command, "--password-fd", str(ours)], pass_fds=[ours], capture_output=True, text=True, check=False, env=environment)
    os.close(ours)
    assert done.returncode == 0, done.stderr
    assert "Applied to " in done.stdout
    written = [path.read_bytes() for path in (tmp_path / "state-home").rglob("*") if path.is_file()]
    assert len(written) == 1
    assert SECRET not in done.stdout + done.stderr + written[0].decode()


class Lenient(paramiko.ServerInterface):
    """Lets in who knows the password, asked for in one way only."""

    def __init__(self, method: str) -> None:
        self.method = method

    def get_allowed_auths(self, username):
        return self.method

    def check_auth_password(self, username, password):
        return paramiko.AUTH_SUCCESSFUL if self.method == "password" and password == SECRET else paramiko.AUTH_FAILED

    def check_auth_interactive(self, username, submethods):
        return paramiko.InteractiveQuery("", "", ("Name", True), ("Password: ", False)) if self.method == "keyboard-interactive" else paramiko.AUTH_FAILED

    def check_auth_interactive_response(self, responses):
        return paramiko.AUTH_SUCCESSFUL if responses == ["", SECRET] else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_subsystem_request(self, channel, name):
        return name == "netconf"


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_a_password_is_given_the_way_the_server_asks(home, method):
    host_key = paramiko.RSAKey.generate(2048)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            connection, _ = listener.accept()
            transport = paramiko.Transport(connection)
            transport.add_server_key(host_key)
            transport.start_server(server=Lenient(method))
            transport.join(10)
            transport.close()

        thread = threading.Thread(target=serve, name="agent", daemon=True)
        thread.start()
        (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} ssh-rsa {host_key.get_base64()}\n")
        connection = open_channel(SshTarget(device="router", host="127.0.0.1", port=port, password=Secret(SECRET)), timeout_s=10)
        connection.close()
        thread.join(10)


class Abrupt(Lenient):
    """Hangs up at a certain moment."""

    def __init__(self, moment: str) -> None:
        super().__init__("publickey")
        self.moment = moment

    def hangs_up(self, moment: str) -> bool:
        if moment == self.moment:
            self.connection.shutdown(socket.SHUT_RDWR)
        return moment == self.moment

    def check_auth_publickey(self, username, key):
        return paramiko.AUTH_FAILED if self.hangs_up("login") else paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_FAILED_CONNECT_FAILED if self.hangs_up("session") else paramiko.OPEN_SUCCEEDED

    def check_channel_subsystem_request(self, channel, name):
        return not self.hangs_up("subsystem")


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("login", "the connection was lost while root logged in"),
        ("session", "opened no session"),
        ("subsystem", "the connection was lost while netconf started"),
    ],
)
def test_a_server_that_hangs_up_is_said_to_have_done_so(home, moment, words):
    """It is worth another attempt, unlike a key that is refused; paramiko says the same of both, or raises its thread's EOFError."""
    key = home / "key"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(key))
    host_key = paramiko.RSAKey.generate(2048)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            server = Abrupt(moment)
            server.connection, _ = listener.accept()
            transport = paramiko.Transport(server.connection)
            transport.add_server_key(host_key)
            transport.start_server(server=server)
            transport.join(10)
            transport.close()

        thread = threading.Thread(target=serve, name="agent", daemon=True)
        thread.start()
        (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} ssh-rsa {host_key.get_base64()}\n")
        with pytest.raises(TransportError, match=words) as caught:
            open_channel(SshTarget(device="router", host="127.0.0.1", port=port, user="root", key_files=(str(key),)), timeout_s=10)
        assert caught.value.retryable
        thread.join(10)


def test_a_server_that_has_had_enough_of_our_keys_is_understood(sshd):
    """After MaxAuthTries (6) sshd hangs up, and what helps is to name the right key."""
    keys = [str(sshd.home / f"wrong{number}") for number in range(7)]
    for key in keys:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with pytest.raises(TransportError, match="the connection was lost while") as caught:
        open_channel(to(sshd, key_files=(*keys, str(sshd.home / "user"))), timeout_s=10)
    assert "MaxAuthTries" in caught.value.hint
    assert "IdentitiesOnly yes" in caught.value.hint


def test_a_connection_whose_other_end_is_gone_can_be_closed(sshd, monkeypatch):
    """paramiko wants to say good-bye and raises when nobody is there."""
    connection = open_channel(to(sshd, key_files=(str(sshd.home / "user"),)))

    def gone() -> None:
        raise EOFError

    monkeypatch.setattr(connection.channel, "close", gone)
    connection.close()
    assert not connection.channel.get_transport().is_active()


def test_a_secret_shows_nowhere():
    target = SshTarget(device="router", host="r", password=Secret(SECRET), passphrase=Secret(SECRET))
    assert SECRET not in repr(target) + str(target) + json.dumps(plain_target(target))
    assert target_of(json.loads(json.dumps(plain_target(target)))) == target
    with pytest.raises(TypeError, match="does not leave this process"):
        pickle.dumps(target)


# A line that goes dead ---------------------------------------------------------------------------------------------------------


def test_a_server_that_freezes_is_given_up_in_time(sshd):
    """sshd's child of this session is stopped: the connection stands, and nothing answers."""
    target = to(sshd, key_files=(str(sshd.home / "user"),))
    client = NetconfClient.connect(target, timeout_s=0.5)
    children = [int(pid) for pid in subprocess.run(["pgrep", "-P", str(sshd._process.pid)], capture_output=True, text=True, check=True).stdout.split()]
    frozen = [
        pid
        for child in children
        for pid in (child, *map(int, subprocess.run(["pgrep", "-P", str(child)], capture_output=True, text=True, check=False).stdout.split()))
    ]
    try:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TransportError, match=r"did not answer within 0\.5s"):
            client.get_state()
    finally:
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        client.abort()


def test_both_sides_of_an_idle_session_are_asked_whether_they_live(sshd, home):
    (home / ".ssh" / "config").write_text(f"Host *\n  IdentityFile {sshd.home / 'user'}\n  ServerAliveInterval 7\n")
    with NetconfClient.connect(to(sshd)) as client:
        (transport, sock), *_ = client._owner._transports
        assert transport.packetizer._Packetizer__keepalive_interval == 7
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) > 0
