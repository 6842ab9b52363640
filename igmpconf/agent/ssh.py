"""A NETCONF-over-SSH server inside the agent (RFC 6242), for lab and development; devices use OpenSSH's subsystem.

paramiko brings threads; the agent is one event loop.  Between them stands a socket pair per channel: the loop gets one
end as an ordinary session of the SSH user, two threads carry octets between the other end and the channel.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, OPEN_SUCCEEDED

from igmpconf.agent.access import User, ssh_user
from igmpconf.agent.sshoptions import SshOptions
from igmpconf.errors import IgmpconfError

MAX_CONNECTIONS = 64
AUTH_TIMEOUT_S = 30.0
_BLOCK_BYTES = 64 * 1024
_BACKLOG = 64

Serve = Callable[[socket.socket, User], None]

_log = logging.getLogger("igmpconf.agent.ssh")


class SshError(IgmpconfError):
    """The embedded SSH server cannot start; the message says why."""


def open_door(options: SshOptions, serve: Serve) -> SshDoor:
    """Listen; `serve` is called on the running event loop for every NETCONF channel.  Raises SshError."""
    host_key = _host_key(options.host_key)
    _authorized(options.authorized_keys)  # a file that cannot be read is said now, not at the first login
    return SshDoor(_listening(options), host_key, options.authorized_keys, serve)


class SshDoor:
    """The listening socket and every connection that came through it."""

    def __init__(self, listening: socket.socket, host_key: paramiko.PKey, authorized_keys: Path, serve: Serve) -> None:
        self._listening = listening
        self._host_key = host_key
        self._authorized_keys = authorized_keys
        self._serve = serve
        self._loop = asyncio.get_running_loop()
        self._transports: set[paramiko.Transport] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        name = listening.getsockname()
        self.address: tuple[str, int] = (name[0], name[1])
        listening.setblocking(False)
        self._loop.add_reader(listening.fileno(), self._connectable)

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._is_closed = True
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()
        with self._lock:
            transports = tuple(self._transports)
        for transport in transports:
            transport.close()

    def hand_in(self, connection: socket.socket, user: User) -> None:
        """Called by a connection's thread: give one end of a socket pair to the event loop."""
        try:
            self._loop.call_soon_threadsafe(self._serve, connection, user)
        except RuntimeError:  # the loop is closed: the agent has stopped
            connection.close()

    def _connectable(self) -> None:
        try:
            connection, address = self._listening.accept()
        except OSError:
            return  # gone before we came, or no descriptor free: the next one tries again
        with self._lock:
            is_full = len(self._transports) >= MAX_CONNECTIONS
        if is_full:
            _log.warning("ssh-refused source=%s reason=the limit of connections is reached", address[0])
            connection.close()
            return
        connection.setblocking(True)
        # A reply of a few octets must not wait for the acknowledgement of the one before it.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._greet, args=(connection, f"{address[0]}:{address[1]}"), name="ssh", daemon=True).start()

    def _greet(self, connection: socket.socket, source: str) -> None:
        """Negotiate; from then on paramiko's own thread runs the connection."""
        transport = None
        try:
            transport = paramiko.Transport(connection)
            with self._lock:
                if self._is_closed:
                    transport.close()
                    return
                self._transports = {one for one in self._transports if one.is_active()} | {transport}
            transport.auth_timeout = AUTH_TIMEOUT_S
            transport.add_server_key(self._host_key)
            transport.set_subsystem_handler("netconf", _Subsystem, self, source)
            transport.start_server(server=_Policy(self._authorized_keys, source))
        except (OSError, EOFError, paramiko.SSHException) as error:
            _log.info("ssh-failed source=%s reason=%s", source, error)
            if transport is not None:
                transport.close()
            connection.close()


class _Policy(paramiko.ServerInterface):
    """Public keys only, the subsystem netconf only."""

    def __init__(self, authorized_keys: Path, source: str) -> None:
        self._authorized_keys = authorized_keys
        self._source = source

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        try:
            authorized = _authorized(self._authorized_keys)
        except SshError as error:
            _log.warning("ssh-refused user=%s source=%s reason=%s", username, self._source, error.message)
            return AUTH_FAILED
        return AUTH_SUCCESSFUL if key.asbytes() in authorized else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED


class _Subsystem(paramiko.SubsystemHandler):
    """One channel: one NETCONF session of the user that logged in."""

    def __init__(self, channel: paramiko.Channel, name: str, server: paramiko.ServerInterface, door: SshDoor, source: str) -> None:
        super().__init__(channel, name, server)
        self._door = door
        self._source = source

    def start_subsystem(self, name: str, transport: paramiko.Transport, channel: paramiko.Channel) -> None:
        """Runs in a thread of its own until the session is over."""
        ours, theirs = socket.socketpair()
        self._door.hand_in(theirs, ssh_user(transport.get_username() or "unknown", self._source))
        inward = threading.Thread(target=_inward, args=(channel, ours), name="ssh-in", daemon=True)
        inward.start()
        try:
            while block := ours.recv(_BLOCK_BYTES):
                channel.sendall(block)
            channel.send_exit_status(0)
        except OSError:
            pass  # the client is gone; closing our end tells the session
        finally:
            ours.close()
            channel.close()


def _inward(channel: paramiko.Channel, ours: socket.socket) -> None:
    try:
        while block := channel.recv(_BLOCK_BYTES):
            ours.sendall(block)
        ours.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the session has ended, the other direction closes everything


def _listening(options: SshOptions) -> socket.socket:
    if options.listen_fd is not None:
        try:
            return socket.socket(fileno=options.listen_fd)
        except OSError as error:
            raise SshError(f"descriptor {options.listen_fd} is no listening socket: {error.strerror}") from None
    assert options.address is not None, "neither an address nor a descriptor to listen on"
    host, port = options.address
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG)
    except OSError as error:
        raise SshError(f"cannot listen for SSH on {host} port {port}: {error.strerror or error}", hint="choose another address or port with --ssh") from None


def _host_key(path: Path) -> paramiko.PKey:
    try:
        if not path.exists():
            _make_host_key(path)
        return paramiko.PKey.from_path(path)
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise SshError(f"cannot use the host key {path}: {error}", hint="name another file with --host-key; an absent one is made") from None


def _make_host_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    new.replace(path)


def _authorized(path: Path) -> frozenset[bytes]:
    """The key blobs of an authorized_keys file (sshd(8)); options before the key are not known and make a line void."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SshError(f"cannot read the authorized keys {path}: {error}", hint="name the file with --authorized-keys") from None
    found = set()
    for line in lines:
        words = line.split()
        if len(words) < 2 or line.lstrip().startswith("#"):
            continue
        try:
            found.add(base64.b64decode(words[1], validate=True))
        except (binascii.Error, ValueError):
            _log.warning("authorized-keys file=%s reason=a line that is no key, or begins with options, is not used", path)
    return frozenset(found)
