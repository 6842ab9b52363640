"""The embedded SSH server, through ncclient and through the ssh program."""

from __future__ import annotations

import contextlib
import logging
import socket
import stat
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import paramiko
    from ncclient import manager
    from ncclient.transport.errors import AuthenticationError

from igmpconf.agent.service import SshOptions
from igmpconf.agent.ssh import SshError
from tests.kit.netconf import ONE_PROXY, RunningService, edit_config, eventually, threshold

CONFIG = '<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">%s</config>'


def a_key(path: Path) -> Path:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    path.with_suffix(".pub").write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" someone\n")
    return path


@pytest.fixture
def service(tmp_path: Path):
    key = a_key(tmp_path / "user")
    authorized = tmp_path / "authorized_keys"
    authorized.write_text("# comment\n\n" + key.with_suffix(".pub").read_text())
    options = SshOptions(address=("127.0.0.1", 0), host_key=tmp_path / "host", authorized_keys=authorized)
    with RunningService(tmp_path, ssh=options) as running:
        yield running


@contextlib.contextmanager
def connected(service: RunningService, key: Path | None = None, user: str = "anna"):
    host, port = service.service.ssh_address
    session = manager.connect_ssh(
        host=host,
        port=port,
        username=user,
        key_filename=str(key or service.home / "user"),
        hostkey_verify=False,
        allow_agent=False,
        look_for_keys=False,
        timeout=10,
    )
    try:
        yield session
    finally:
        if session.connected:
            session.close_session()


def test_the_main_job_over_ssh_with_the_ssh_user_in_the_history(service):
    with connected(service) as session:
        with session.locked("candidate"):
            session.edit_config(config=CONFIG % ONE_PROXY, target="candidate")
            session.validate("candidate")
            session.commit(confirmed=True, timeout="60", persist="token")
        with connected(service, user="bert") as fresh:
            fresh.commit(persist_id="token")
    with service.client() as local:
        history = local.data("<get/>").findall(".//{*}history")
        assert [(row.findtext("{*}event"), row.findtext("{*}user")) for row in history] == [("confirmed", "anna"), ("confirm", "bert")]
        session = local.data("<get/>").find(".//{*}sessions")
        assert session is not None


def test_a_host_key_is_made_once_and_only_its_owner_reads_it(service):
    path = service.home / "host"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert paramiko.PKey.from_path(path).get_name() == "ssh-ed25519"


def test_nc_002_an_unknown_key_gets_no_session(service):
    with pytest.raises(AuthenticationError), connected(service, a_key(service.home / "stranger")):
        pass


def test_passwords_and_other_channels_are_refused(service):
    transport = paramiko.Transport(service.service.ssh_address)
    try:
        transport.start_client(timeout=10)
        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            transport.auth_password("anna", "secret")
        assert refused.value.allowed_types == ["publickey"]
        transport.auth_publickey("anna", paramiko.PKey.from_path(service.home / "user"))
        with pytest.raises(paramiko.SSHException):
            transport.open_channel("direct-tcpip", ("127.0.0.1", 22), ("127.0.0.1", 1))
        for ask in (lambda channel: channel.exec_command("id"), lambda channel: channel.invoke_shell(), lambda channel: channel.invoke_subsystem("sftp")):
            channel = transport.open_session()
            with pytest.raises(paramiko.SSHException):
                ask(channel)
    finally:
        transport.close()


@pytest.mark.alone
def test_nc_114_a_connection_that_is_cut_frees_its_lock_and_undoes_its_commit(service):
    with connected(service) as session:
        session.edit_config(config=CONFIG % ONE_PROXY, target="candidate")
        session.commit()
        before = service.engine.config
        session.lock("candidate")
        session.edit_config(config=CONFIG % threshold(7), target="candidate")
        session.commit(confirmed=True)
        assert service.engine.config != before
        session._session.transport.sock.shutdown(socket.SHUT_RDWR)
        eventually(lambda: service.engine.config == before, within_s=2)
        with service.client() as local:
            local.lock()
            local.ok(edit_config(threshold(8)))


def test_two_channels_of_one_connection_are_two_sessions(service):
    transport = paramiko.Transport(service.service.ssh_address)
    try:
        transport.connect(username="anna", pkey=paramiko.PKey.from_path(service.home / "user"))
        greetings = []
        for _ in range(2):
            channel = transport.open_session()
            channel.invoke_subsystem("netconf")
            text = b""
            while b"]]>]]>" not in text:
                text += channel.recv(65536)
            greetings.append(text)
        assert greetings[0] != greetings[1]  # the session-ids differ
    finally:
        transport.close()


def test_garbage_on_the_port_harms_nobody(service):
    for garbage in (b"", b"GET / HTTP/1.0\r\n\r\n", b"SSH-2.0-x\r\n" + bytes(range(256)) * 10):
        with socket.create_connection(service.service.ssh_address) as stranger:
            stranger.sendall(garbage)
    with connected(service) as session:
        assert session.connected


def test_bad_options_are_said_at_start(tmp_path):
    key = a_key(tmp_path / "user")
    authorized = key.with_suffix(".pub")
    (tmp_path / "bad").write_text("not a key")
    for options, said in (
        (SshOptions(address=("127.0.0.1", 0), host_key=tmp_path / "host", authorized_keys=tmp_path / "absent"), "authorized keys"),
        (SshOptions(address=("127.0.0.1", 0), host_key=tmp_path / "bad", authorized_keys=authorized), "host key"),
        (SshOptions(address=("192.0.2.1", 1), host_key=tmp_path / "host", authorized_keys=authorized), "cannot listen"),
    ):
        with pytest.raises(SshError, match=said), RunningService(tmp_path, ssh=options):
            pass
        assert not (tmp_path / "agent.sock").exists()
    with RunningService(tmp_path):  # nothing is left that would be in the way
        pass


def test_a_listening_socket_may_be_inherited(tmp_path):
    key = a_key(tmp_path / "user")
    listening = socket.create_server(("127.0.0.1", 0))
    options = SshOptions(listen_fd=listening.detach(), host_key=tmp_path / "host", authorized_keys=key.with_suffix(".pub"))
    with RunningService(tmp_path, ssh=options) as running, connected(running) as session:
        assert session.connected


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it logs every refused stranger with a stack
