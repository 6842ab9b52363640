"""An SSH channel to a device's `netconf` subsystem, opened the way OpenSSH would open it.

ssh_config (HostName, Port, User, IdentityFile, IdentitiesOnly, ProxyJump, ProxyCommand, UserKnownHostsFile,
HostKeyAlias, StrictHostKeyChecking, ConnectTimeout), the SSH agent and known_hosts are honoured.  This file does not
know NETCONF beyond the name of the subsystem.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import paramiko
from paramiko.config import SSHConfig

from igmpconf.errors import TransportError
from igmpconf.netconf.target import Secret, SshTarget

CONNECT_TIMEOUT_S = 10.0
_MAX_JUMPS = 8
_ALIVE_S = 15  # ServerAliveInterval unless ssh_config says otherwise: NAT and firewalls forget after a minute at the earliest
_DEAD_AFTER_S = 45  # without an acknowledgement: OpenSSH's three unanswered keepalives
_BLOCK_BYTES = 64 * 1024
_LAST_WORDS_S = 1.0  # sshd tells the exit status a little after the end of stdout
_EXIT_STATUS = {  # of `igmpconf-agent netconf`, and of the shell that starts it
    5: "it is not running, or the user may not use its socket",
    126: "the command of `Subsystem netconf` cannot be executed",
    127: "the command of `Subsystem netconf` does not exist",
}
_DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_RSA_ALGORITHMS = ("rsa-sha2-512", "rsa-sha2-256")  # RFC 8332: how an ssh-rsa key signs today
# What paramiko raises when a connection ends under whoever uses it: it hands on what its thread met, an end of file among it.
_LOST = (paramiko.SSHException, EOFError, OSError)

Say = Callable[[str], None]
T = TypeVar("T")


class SshConnection:
    """A channel and the transports it stands on; `close` ends them all and leaves no thread behind."""

    def __init__(self, channel: paramiko.Channel, transports: list[tuple[paramiko.Transport, Any]]) -> None:
        self.channel = channel
        self._transports = transports

    def last_words(self) -> str:
        """Why the far side ended, as far as it says; waits a moment for it.

        OpenSSH drops what a subsystem writes to stderr, so its exit status has to speak; other servers pass it on.
        """
        self.channel.settimeout(_LAST_WORDS_S)
        said = b""
        try:
            while piece := self.channel.recv_stderr(4096):
                said += piece
        except TimeoutError:
            return ""  # it is still there, and silent
        if said:
            return " ".join(said.decode(errors="replace").split())
        self.channel.status_event.wait(_LAST_WORDS_S)
        return _EXIT_STATUS.get(self.channel.exit_status, "")

    def close(self) -> None:
        """End the channel and every transport, the outermost last."""
        _end(self.channel, self._transports)


def open_channel(target: SshTarget, *, subsystem: str = "netconf", timeout_s: float | None = None, say: Say | None = None) -> SshConnection:
    """A channel with the subsystem started.  Raises TransportError that says what to do."""
    channel, transports = _opened_channel(target, timeout_s, say)
    try:
        channel.invoke_subsystem(subsystem)
    except _LOST as error:
        has_ended = not transports[-1][0].is_active()
        _close(transports)
        if has_ended:
            raise TransportError(target.device, f"{target.device}: the connection was lost while {subsystem} started: {_words(error)}") from None
        raise TransportError(
            target.device,
            f"{target.device}: {target} has no subsystem {subsystem!r}",
            hint=f"`igmpconf agent install {target.device}` sets it up; or add `Subsystem netconf igmpconf-agent netconf` to its sshd_config",
            retryable=False,
        ) from None
    except BaseException:
        _close(transports)
        raise
    return SshConnection(channel, transports)


@dataclass(frozen=True, slots=True)
class Done:
    """How a command on the device ended."""

    status: int
    output: str
    said: str  # on standard error


class SshShell:
    """Commands on a device, one after the other, on one connection.  Raises TransportError."""

    def __init__(self, target: SshTarget, *, timeout_s: float | None = None, say: Say | None = None) -> None:
        self._target = target
        self._first, self._transports = _opened_channel(target, timeout_s, say)

    def run(self, command: str, data: bytes = b"", *, within_s: float = 60.0) -> Done:
        """`command` by the user's shell there, `data` its standard input."""
        device = self._target.device
        try:
            channel = self._transports[-1][0].open_session(timeout=within_s)
            with channel:
                channel.settimeout(within_s)
                channel.exec_command(command)
                said: list[bytes] = []
                # what it says on standard error has a window of its own, which must not fill up while we wait for the other
                listener = threading.Thread(target=lambda: said.extend(iter(lambda: channel.recv_stderr(_BLOCK_BYTES), b"")), daemon=True)
                listener.start()
                channel.sendall(data)
                channel.shutdown_write()
                output = b"".join(iter(lambda: channel.recv(_BLOCK_BYTES), b""))
                status = channel.recv_exit_status()
                listener.join(within_s)
        except _LOST as error:
            raise TransportError(device, f"{device}: the connection was lost while a command ran: {_words(error)}") from None
        return Done(status, output.decode(errors="replace"), b"".join(said).decode(errors="replace"))

    def close(self) -> None:
        """End the connection."""
        _end(self._first, self._transports)


def _opened_channel(target: SshTarget, timeout_s: float | None, say: Say | None) -> tuple[paramiko.Channel, list[tuple[paramiko.Transport, Any]]]:
    settings = _settings(target)
    if timeout_s is None:
        asked = str(settings.get("connecttimeout", "none"))
        timeout_s = float(asked) if asked.isdecimal() and int(asked) else CONNECT_TIMEOUT_S
    dialer = _Dialer(timeout_s, say or (lambda _: None))
    try:
        transport = dialer.transport(target, settings)
        try:
            channel = transport.open_session(timeout=timeout_s)
            channel.settimeout(None)
        except _LOST as error:
            raise TransportError(target.device, f"{target.device}: {target} opened no session: {_words(error)}") from None
    except BaseException:
        _close(dialer.transports)
        raise
    return channel, dialer.transports


def _words(error: Exception) -> str:
    return str(error) or ("the other side closed it" if isinstance(error, EOFError) else type(error).__name__)


def _end(channel: paramiko.Channel, transports: list[tuple[paramiko.Transport, Any]]) -> None:
    try:
        channel.close()
    except _LOST:
        pass  # the other side was faster, and there is nobody to say good-bye to
    _close(transports)


def _close(transports: list[tuple[paramiko.Transport, Any]]) -> None:
    for transport, sock in reversed(transports):
        # paramiko's reader polls every 100 ms; an end of file wakes it at once.
        if isinstance(sock, socket.socket):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # already gone
        transport.close()
        sock.close()


class _Parsed(Generic[T]):
    """What files say, parsed once for a whole fleet and again when one of them has changed."""

    def __init__(self, parse: Callable[[Sequence[Path]], T]) -> None:
        self._parse = parse
        self._lock = threading.Lock()
        self._known: dict[tuple[Path, ...], tuple[list[tuple[int, int] | None], T]] = {}

    def of(self, *paths: Path) -> T:
        """Raises what parsing raises; a file that is not there says nothing."""
        with self._lock:
            marks = [_mark(path) for path in paths]
            known = self._known.get(paths)
            if known is None or known[0] != marks:
                known = self._known[paths] = (marks, self._parse([path for path, mark in zip(paths, marks, strict=True) if mark is not None]))
            return known[1]


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _parse_configs(paths: Sequence[Path]) -> SSHConfig:
    config = SSHConfig()
    for path in paths:
        with path.open(encoding="utf-8") as file:
            config.parse(file)
    return config


def _parse_known(paths: Sequence[Path]) -> list[tuple[Path, paramiko.HostKeys]]:
    found = []
    for path in paths:
        if os.access(path, os.R_OK) and path.is_file():
            keys = paramiko.HostKeys()
            keys.load(str(path))
            found.append((path, keys))
    return found


_configs = _Parsed(_parse_configs)
_known_hosts = _Parsed(_parse_known)


def _settings(target: SshTarget) -> dict[str, Any]:
    """ssh_config for the target with the target's own words on top."""
    files = [Path(name).expanduser() for name in ([target.config_file] if target.config_file else ["~/.ssh/config", "/etc/ssh/ssh_config"])]
    if target.config_file and not files[0].exists():
        raise TransportError(target.device, f"{target.device}: there is no ssh_config at {files[0]}", retryable=False)
    try:
        config = _configs.of(*files)
    except (OSError, UnicodeDecodeError, paramiko.SSHException) as error:
        raise TransportError(target.device, f"{target.device}: {' or '.join(map(str, files))} cannot be used: {error}", retryable=False) from None
    try:
        found: dict[str, Any] = dict(config.lookup(target.host))
    except (paramiko.SSHException, ImportError) as error:  # `Match exec` needs a package that we do not
        raise TransportError(target.device, f"{target.device}: ssh_config: {error}", retryable=False) from None
    for key, value in target.options:
        found[key] = [value] if key == "identityfile" else value
    return found


class _PromptSocket(socket.socket):
    """A TCP socket that neither holds back small packets nor the acknowledgements that the other side's Nagle waits for.

    sshd keeps Nagle on until a terminal is asked for, and Linux falls back to delayed acknowledgements after a few
    packets: without this, opening a channel takes 40 ms of waiting.
    """

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(connected.family, connected.type, connected.proto, fileno=connected.detach())
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: a peer that acknowledges nothing, not even keepalives, is gone
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_S * 1000)
        self._acknowledge()

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As socket.recv."""
        data = super().recv(size, flags)
        self._acknowledge()
        return data

    def _acknowledge(self) -> None:
        if hasattr(socket, "TCP_QUICKACK"):  # Linux
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class _Dialer:
    """Opens transports, one through the other where jump hosts ask for it; all of them are in `transports`."""

    def __init__(self, timeout_s: float, say: Say) -> None:
        self.timeout_s = timeout_s
        self.say = say
        self.transports: list[tuple[paramiko.Transport, Any]] = []
        self._jumps = 0

    def transport(self, target: SshTarget, settings: dict[str, Any]) -> paramiko.Transport:
        """An authenticated transport; it and what it stands on are appended to `transports` as they come up."""
        host = settings.get("hostname", target.host)
        port = target.port or int(settings.get("port", 22))
        user = target.user or settings.get("user") or getpass.getuser()
        sock = self._socket(target, settings, host, port)
        transport = paramiko.Transport(sock)
        transport.daemon = True
        self.transports.append((transport, sock))
        known = _KnownHosts(target, settings, host, port)
        known.prefer_known_types(transport)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = self.timeout_s
        try:
            transport.start_client(timeout=self.timeout_s)
        except _LOST as error:
            raise TransportError(
                target.device,
                f"{target.device}: {host} port {port} does not speak SSH with us: {_words(error)}",
                hint="is this the port of sshd?",
            ) from None
        known.check(transport.get_remote_server_key(), self.say)
        _authenticate(transport, target, settings, user)
        alive = str(settings.get("serveraliveinterval", _ALIVE_S))
        transport.set_keepalive(int(alive) if alive.isdecimal() else _ALIVE_S)
        return transport

    def _socket(self, target: SshTarget, settings: dict[str, Any], host: str, port: int) -> Any:
        jump = settings.get("proxyjump", "none")
        if jump.lower() != "none":
            return self._through(jump, target, host, port)
        command = settings.get("proxycommand")
        if command and command.lower() != "none":
            return paramiko.ProxyCommand(command)
        try:
            sock = socket.create_connection((host, port), timeout=self.timeout_s)
        except socket.gaierror as error:
            raise TransportError(
                target.device, f"{target.device}: the name {host} is not known: {error.strerror}", hint="check ansible_host, -d, or HostName in ssh_config"
            ) from None
        except TimeoutError:
            raise TransportError(target.device, f"{target.device}: {host} port {port} did not answer within {self.timeout_s:g}s") from None
        except ConnectionRefusedError:
            raise TransportError(
                target.device, f"{target.device}: {host} refuses connections to port {port}", hint="is sshd running there, and is it this port?"
            ) from None
        except OSError as error:
            raise TransportError(target.device, f"{target.device}: {host} port {port} cannot be reached: {error.strerror or error}") from None
        return _PromptSocket(sock)

    def _through(self, jump: str, target: SshTarget, host: str, port: int) -> Any:
        """A channel through the jump hosts `a,user@b:2222`; each is a device of its own to ssh_config."""
        self._jumps += 1
        if self._jumps > _MAX_JUMPS:
            raise TransportError(target.device, f"{target.device}: more than {_MAX_JUMPS} jump hosts; does ProxyJump go in a circle?", retryable=False)
        *before, last = [part.strip() for part in jump.split(",") if part.strip()]
        user, _, place = last.removeprefix("ssh://").rpartition("@")
        name, _, jump_port = place.rpartition(":") if place.count(":") == 1 or "]:" in place else (place, "", "")
        options = tuple((k, v) for k, v in target.options if k in {"userknownhostsfile", "stricthostkeychecking", "connecttimeout"})
        options += (("proxyjump", ",".join(before)),) if before else ()
        hop = SshTarget(
            device=target.device,
            host=name.strip("[]"),
            port=int(jump_port) if jump_port.isdecimal() else None,
            user=user or None,
            options=options,
            config_file=target.config_file,
            passphrase=target.passphrase,
        )
        transport = self.transport(hop, _settings(hop))
        try:
            return transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=self.timeout_s)
        except _LOST as error:
            raise TransportError(target.device, f"{target.device}: jump host {last} cannot reach {host} port {port}: {_words(error)}") from None


def _authenticate(transport: paramiko.Transport, target: SshTarget, settings: dict[str, Any], user: str) -> None:
    tried: list[str] = []
    problems: list[str] = []

    def offer(key: paramiko.PKey, name: str) -> bool:
        tried.append(name)
        try:
            transport.auth_publickey(user, key)
        except paramiko.BadAuthenticationType as error:
            problems.append(f"the device accepts {', '.join(error.allowed_types)} only")
        except paramiko.AuthenticationException as error:
            if not transport.is_active():  # paramiko calls a lost connection a refusal, too
                raise _lost_at_login(target, user, error, len(tried)) from None
        except _LOST as error:
            raise _lost_at_login(target, user, error, len(tried)) from None
        return transport.is_authenticated()

    named = list(target.key_files) or [str(name) for name in settings.get("identityfile", [])]
    for name in named:
        key = _load(name, problems, target.passphrase, is_required=True)
        if key is not None and offer(key, name):
            return
    if settings.get("identitiesonly", "no").lower() != "yes":
        agent = paramiko.Agent()
        try:
            for agent_key in agent.get_keys():
                if offer(agent_key, f"agent key {fingerprint(agent_key)}"):
                    return
        finally:
            agent.close()
    if not named:
        for name in _DEFAULT_KEYS:
            key = _load(name, problems, target.passphrase, is_required=False)
            if key is not None and offer(key, name):
                return
    if target.password is not None:
        tried.append("the password")
        if _offer_password(transport, target, user, target.password, problems):
            return
    said = f"; tried {', '.join(tried)}" if tried else "; there was no key to try"
    hint = (
        "; ".join(dict.fromkeys(problems)) or "put the public key into authorized_keys there, or name the key with ansible_ssh_private_key_file or IdentityFile"
    )
    raise TransportError(target.device, f"{target.device}: {target} does not let {user} in{said}", hint=hint, retryable=False)


def _lost_at_login(target: SshTarget, user: str, error: Exception, keys: int = 0) -> TransportError:
    return TransportError(
        target.device,
        f"{target.device}: the connection was lost while {user} logged in: {_words(error)}",
        hint=f"{keys} keys were tried and sshd ends a connection after MaxAuthTries; name the right one and say IdentitiesOnly yes" if keys > 1 else None,
    )


def _offer_password(transport: paramiko.Transport, target: SshTarget, user: str, password: Secret, problems: list[str]) -> bool:
    """By the method `password`, or by `keyboard-interactive` where a server has only that: every hidden question gets it."""
    try:
        try:
            transport.auth_password(user, password.reveal(), fallback=False)
        except paramiko.BadAuthenticationType as error:
            if "keyboard-interactive" not in error.allowed_types:
                raise
            transport.auth_interactive(user, lambda _title, _words, fields: ["" if is_shown else password.reveal() for _, is_shown in fields])
    except paramiko.BadAuthenticationType as error:
        problems.append(f"the device accepts {', '.join(error.allowed_types)} only")
    except paramiko.AuthenticationException as error:
        if not transport.is_active():
            raise _lost_at_login(target, user, error) from None
        problems.append("the password is wrong, or the user may not log in with one")
    except _LOST as error:
        raise _lost_at_login(target, user, error) from None
    return transport.is_authenticated()


# Key files are the same for a whole fleet, and opening an encrypted one takes a tenth of a second on purpose.
_keys: dict[tuple[str, int, bool], paramiko.PKey] = {}
_keys_lock = threading.Lock()


def _load(name: str, problems: list[str], passphrase: Secret | None, *, is_required: bool) -> paramiko.PKey | None:
    path = Path(name).expanduser()
    try:
        with _keys_lock:
            mark = (str(path), path.stat().st_mtime_ns, passphrase is not None)
            key = _keys.get(mark)
            if key is None:
                key = _keys[mark] = _opened(path, passphrase)
            return key
    except FileNotFoundError:
        if is_required:
            problems.append(f"there is no key file {path}")
    except (paramiko.PasswordRequiredException, TypeError):  # cryptography says TypeError for a missing passphrase
        problems.append(f"{path} needs a passphrase: load it with ssh-add, or say --ask-passphrase")
    except _WrongPassphraseError:
        problems.append(f"the passphrase does not open {path}")
    except Exception as error:  # noqa: BLE001 - paramiko and cryptography raise a dozen types for a file that is no key
        problems.append(f"{path} is not a private key that can be used: {error}")
    return None


class _WrongPassphraseError(Exception):
    pass


def _opened(path: Path, passphrase: Secret | None) -> paramiko.PKey:
    """Without the passphrase first, as most keys have none.  Raises what paramiko and cryptography raise."""
    try:
        return paramiko.PKey.from_path(path)
    except (paramiko.PasswordRequiredException, TypeError):
        if passphrase is None:
            raise
    try:
        text: Any = passphrase.reveal().encode()  # its annotation says str, its cryptography wants bytes
        return paramiko.PKey.from_path(path, text)  # bytes; called by different names in different versions
    except (paramiko.SSHException, ValueError) as error:
        raise _WrongPassphraseError from error


def fingerprint(key: paramiko.PKey) -> str:
    """`SHA256:...`, as ssh-keygen -l prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


class _KnownHosts:
    """known_hosts for one host: which key types to ask for, and whether the key that came is the right one."""

    def __init__(self, target: SshTarget, settings: dict[str, Any], host: str, port: int) -> None:
        self._target = target
        self._policy = settings.get("stricthostkeychecking", "ask").lower()
        alias = settings.get("hostkeyalias")
        self._name = alias or (host if port == 22 else f"[{host}]:{port}")
        self._host, self._port = host, port
        own = settings.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")
        everyone = settings.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts")
        self._files = [Path(name).expanduser() for name in (*own.split(), *everyone.split()) if name != "none"]
        self._keys: list[tuple[Path, paramiko.PKey]] = []
        for path, keys in _known_hosts.of(*self._files):
            self._keys += [(path, key) for key in (keys.lookup(self._name) or {}).values() if key is not None]

    def prefer_known_types(self, transport: paramiko.Transport) -> None:
        """Ask for the types we know first, or a known host could answer with a key that we cannot compare."""
        options = transport.get_security_options()
        known = {key.get_name() for _, key in self._keys}
        if "ssh-rsa" in known:
            known.update(_RSA_ALGORITHMS)
        options.key_types = tuple(sorted(options.key_types, key=lambda name: name not in known))

    def check(self, key: paramiko.PKey, say: Say) -> None:
        """Accept the key, or raise TransportError."""
        if any(known.asbytes() == key.asbytes() for _, known in self._keys):
            return
        device = self._target.device
        offered = f"{key.get_name()} {fingerprint(key)}"
        if self._keys:
            path, known = self._keys[0]
            raise TransportError(
                device,
                f"{device}: the host key of {self._name} has changed: {path} has {known.get_name()} {fingerprint(known)}, the host shows {offered}; "
                "somebody may stand between us and the device",
                hint=f"only if the device was re-installed: ssh-keygen -f {path} -R '{self._name}', then add its new key",
                retryable=False,
            )
        if self._policy in {"accept-new", "no", "off"}:
            self._add(key)
            say(f"added the host key of {self._name} ({offered}) to {self._files[0]}")
            return
        scan = f"ssh-keyscan -p {self._port} {self._host}" if self._port != 22 else f"ssh-keyscan {self._host}"
        raise TransportError(
            device,
            f"{device}: the host key of {self._name} is not known; it shows {offered}",
            hint=f"compare that fingerprint with the device's own (ssh-keygen -lf /etc/ssh/ssh_host_*.pub), then: {scan} >> {self._files[0]}",
            retryable=False,
        )

    def _add(self, key: paramiko.PKey) -> None:
        path = self._files[0]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a", encoding="ascii") as file:
            file.write(f"{self._name} {key.get_name()} {key.get_base64()}\n")
