"""One device of the fleet: how it is reached, and which files say what is wanted of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Undefined

from igmpconf.errors import InputError
from igmpconf.inventory.variables import Variables
from igmpconf.netconf.target import DEFAULT_SOCKET, SshTarget, Target, UnixTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One device with everything the inventory says of it."""

    name: str
    variables: dict[str, Any]  # as they are written
    groups: tuple[str, ...]  # the weakest first
    directory: Path  # where relative paths start
    values: Variables  # as they are meant: rendered
    fellows: Mapping[str, Host] = field(default_factory=dict, repr=False, compare=False)  # all hosts of its inventory, itself included

    def target(self) -> Target:
        """How to reach it.  Raises InputError."""
        if self._value("ansible_connection") == "local":
            return UnixTarget(device=self.name, path=str(self._value("igmpconf_socket", default=DEFAULT_SOCKET)))
        port = self._value("ansible_port", "ansible_ssh_port")
        if port is not None and not (str(port).isdecimal() and 0 < int(port) < 65536):
            raise InputError(f"{self.name}: ansible_port is {port!r}, expected 1..65535")
        key = self._value("ansible_ssh_private_key_file", "ansible_private_key_file")
        keys: list[str] = [str(key)] if key else []
        options: list[tuple[str, str]] = []
        config_file: str | None = None
        arguments = f"{self._value('ansible_ssh_common_args', default='')} {self._value('ansible_ssh_extra_args', default='')}"
        for flag, value in _ssh_flags(self.name, arguments):
            if flag == "o":
                name, _, said = value.replace(" ", "=", 1).partition("=") if "=" not in value else value.partition("=")
                options.append((name.strip().lower(), said.strip()))
            elif flag == "J":
                options.append(("proxyjump", value))
            elif flag == "i":
                keys.append(value)
            elif flag == "F":
                config_file = value
        user = self._value("ansible_user", "ansible_ssh_user")
        return SshTarget(
            device=self.name,
            host=str(self._value("ansible_host", "ansible_ssh_host", default=self.name)),
            port=int(port) if port is not None else None,
            user=str(user) if user is not None else None,
            key_files=tuple(self._path(one) for one in keys),
            options=tuple(options),
            config_file=self._path(config_file) if config_file is not None else None,
        )

    def config_files(self) -> tuple[Path, ...]:
        """The files of `igmpconf_config`, the weakest first; empty when the inventory does not say.  Raises InputError."""
        said = self._value("igmpconf_config", default=[])
        names = [said] if isinstance(said, str) else said
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{self.name}: igmpconf_config is {said!r}, expected a file name or a list of them")
        return tuple(Path(self._path(name)) for name in names)

    def _value(self, *names: str, default: Any = None) -> Any:
        """The first of the variables that is set.  Raises InputError."""
        for name in names:
            if name in self.values:
                value = self.values[name]
                if isinstance(value, Undefined):
                    raise InputError(f"{self.name}: {value._undefined_message}", hint=f"write {name} plainly; keys belong to the SSH agent")  # noqa: SLF001 - Jinja2 has no other name for it
                return value
        return default

    def _path(self, name: str) -> str:
        path = Path(name).expanduser()
        whole = path if path.is_absolute() else self.directory / path
        short = Path(os.path.normpath(whole))  # templates/x.j2, not inventory/../templates/x.j2, unless a link makes that another file
        return str(short if short.resolve() == whole.resolve() else whole)


def _ssh_flags(host: str, text: str) -> Iterator[tuple[str, str]]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"{host}: ansible_ssh_common_args cannot be split into words: {error}") from None
    i = 0
    while i < len(words):
        word = words[i]
        if len(word) >= 2 and word[0] == "-" and word[1] in "oFJi":
            if len(word) > 2:
                yield word[1], word[2:]
            elif i + 1 < len(words):
                i += 1
                yield word[1], words[i]
        i += 1
