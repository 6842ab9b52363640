"""Where a device is: what `-d` and the inventory say, before anybody connects."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from igmpconf.errors import InputError

DEFAULT_SOCKET = "/run/igmpconf/agent.sock"


class Secret:
    """Text that shows nowhere: not when printed, compared, copied, pickled or written as JSON."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for whoever must send it on."""
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a password does not leave this process; give the workers a key")


@dataclass(frozen=True, slots=True, kw_only=True)
class SshTarget:
    """A device behind SSH; what is None is left to ssh_config, then to OpenSSH's defaults.

    `password` is offered to the device alone, after all keys, and to no jump host; `passphrase` opens encrypted key files.
    """

    device: str
    host: str
    port: int | None = None
    user: str | None = None
    key_files: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()  # ssh_config keywords in lower case, stronger than the file
    config_file: str | None = None  # in place of ~/.ssh/config
    password: Secret | None = field(default=None, repr=False, compare=False)
    passphrase: Secret | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return "ssh://" + (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixTarget:
    """An agent on this machine."""

    device: str
    path: str = DEFAULT_SOCKET

    def __str__(self) -> str:
        return f"unix:{self.path}"


Target = SshTarget | UnixTarget


def parse_target(text: str) -> Target | None:
    """The target that `ssh://user@host:port`, `unix:PATH` or `local` names; None for anything else.  Raises InputError."""
    if text == "local":
        return UnixTarget(device="local")
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise InputError("unix: without a path", hint=f"write unix:{DEFAULT_SOCKET}")
        return UnixTarget(device=text, path=path)
    if not text.startswith("ssh://"):
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{text} is not an SSH address: {error}", hint="write ssh://user@host:port; IPv6 in brackets") from None
    if not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.fragment or parts.password is not None:
        hint = (
            "a password does not belong into an address: --ask-pass asks for it"
            if parts.password is not None
            else "write ssh://user@host:port; IPv6 in brackets"
        )
        raise InputError(f"{re.sub(r':[^@/]*@', ':***@', text)} is not an SSH address", hint=hint)
    return SshTarget(device=text, host=parts.hostname, port=port, user=unquote(parts.username) if parts.username else None)
