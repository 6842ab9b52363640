"""The fleet: an Ansible YAML inventory as it is, plus `igmpconf_config`, the files that make a host's desired state.

Read are `all/children/hosts/vars`, host ranges (`room[01:31]`), `group_vars/` and `host_vars/` beside the inventory,
and of the connection variables `ansible_host`, `ansible_port`, `ansible_user`, `ansible_ssh_private_key_file`,
`ansible_connection: local` and the `-o`, `-F`, `-J`, `-i` of `ansible_ssh_common_args` and `ansible_ssh_extra_args`.
Scripts, plugins and vaults are not run.
"""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from igmpconf.errors import InputError
from igmpconf.inventory.merge import Group, depths, groups_of, members, merged
from igmpconf.netconf.target import DEFAULT_SOCKET, SshTarget, Target, UnixTarget

_FILES = ("hosts.yaml", "hosts.yml", "inventory.yaml", "inventory.yml")
_SUFFIXES = (".yaml", ".yml", ".json", "")
_RANGE = re.compile(r"\[(\d+|[A-Za-z]):(\d+|[A-Za-z])(?::(\d+))?\]")
_MAX_RANGE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One device of the fleet with everything the inventory says of it."""

    name: str
    variables: dict[str, Any]
    groups: tuple[str, ...]
    directory: Path  # where relative paths start

    def target(self) -> Target:
        """How to reach it.  Raises InputError."""
        v = self.variables
        if v.get("ansible_connection") == "local":
            return UnixTarget(device=self.name, path=str(v.get("igmpconf_socket", DEFAULT_SOCKET)))
        port = v.get("ansible_port", v.get("ansible_ssh_port"))
        if port is not None and not (str(port).isdecimal() and 0 < int(port) < 65536):
            raise InputError(f"{self.name}: ansible_port is {port!r}, expected 1..65535")
        keys: list[str] = [str(v["ansible_ssh_private_key_file"])] if v.get("ansible_ssh_private_key_file") else []
        options: list[tuple[str, str]] = []
        config_file: str | None = None
        for flag, value in _ssh_flags(self.name, f"{v.get('ansible_ssh_common_args', '')} {v.get('ansible_ssh_extra_args', '')}"):
            if flag == "o":
                key, _, said = value.replace(" ", "=", 1).partition("=") if "=" not in value else value.partition("=")
                options.append((key.strip().lower(), said.strip()))
            elif flag == "J":
                options.append(("proxyjump", value))
            elif flag == "i":
                keys.append(value)
            elif flag == "F":
                config_file = value
        user = v.get("ansible_user", v.get("ansible_ssh_user"))
        return SshTarget(
            device=self.name,
            host=str(v.get("ansible_host", v.get("ansible_ssh_host", self.name))),
            port=int(port) if port is not None else None,
            user=str(user) if user is not None else None,
            key_files=tuple(self._path(key) for key in keys),
            options=tuple(options),
            config_file=self._path(config_file) if config_file is not None else None,
        )

    def config_files(self) -> tuple[Path, ...]:
        """The files of `igmpconf_config`, the weakest first; empty when the inventory does not say.  Raises InputError."""
        said = self.variables.get("igmpconf_config", [])
        names = [said] if isinstance(said, str) else said
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{self.name}: igmpconf_config is {said!r}, expected a file name or a list of them")
        return tuple(self.directory / name for name in names)

    def _path(self, name: str) -> str:
        path = Path(name).expanduser()
        return str(path if path.is_absolute() else self.directory / path)


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


class Fleet:
    """Hosts and groups of one inventory."""

    def __init__(self, path: Path, groups: dict[str, Group], variables: Mapping[str, dict[str, Any]]) -> None:
        self.path = path
        self.groups = groups
        depths(groups)  # refuses circles now, while the message is still about the file
        self.hosts: dict[str, Host] = {}
        for name in dict.fromkeys(name for group in groups.values() for name in group.hosts):
            of = groups_of(groups, name)
            layers = [groups[group].variables for group in of]
            self.hosts[name] = Host(name=name, variables=merged((*layers, variables.get(name, {}))), groups=tuple(of), directory=path.parent)

    def select(self, pattern: str | None) -> tuple[Host, ...]:
        """Hosts of an Ansible pattern: names, groups and globs, joined by `,` or `:`, with `!not` and `&also`.  Raises InputError."""
        if pattern is None:
            return tuple(self.hosts.values())
        chosen: set[str] = set()
        parts = [part for part in re.split(r"[,:](?![^\[]*\])", pattern) if part]
        for part in [p for p in parts if p[0] not in "!&"] or ["all"]:
            chosen |= self._matching(part)
        for part in parts:
            if part[0] == "&":
                chosen &= self._matching(part[1:])
            elif part[0] == "!":
                chosen -= self._matching(part[1:])
        if not chosen:
            raise InputError(f"{pattern!r} leaves no host of {self.path}", hint=f"hosts: {_some(self.hosts)}")
        return tuple(host for name, host in self.hosts.items() if name in chosen)

    def _matching(self, part: str) -> set[str]:
        if part in self.hosts:
            return {part}
        if part in self.groups:
            return set(self.hosts) if part == "all" else members(self.groups, part)
        found = set(fnmatch.filter(self.hosts, part))
        for group in fnmatch.filter(self.groups, part):
            found |= members(self.groups, group)
        if not found:
            raise InputError(f"no host or group {part!r} in {self.path}", hint=f"hosts: {_some(self.hosts)}; groups: {_some(self.groups)}")
        return found


def _some(names: Mapping[str, object]) -> str:
    listed = list(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "") if listed else "none"


def load(path: Path) -> Fleet:
    """The fleet of an inventory file, or of a directory that holds hosts.yaml.  Raises InputError."""
    if path.is_dir():
        found = next((path / name for name in _FILES if (path / name).is_file()), None)
        if found is None:
            raise InputError(f"{path} holds no inventory", hint=f"expected {path / _FILES[0]}")
        path = found
    if not path.exists():
        raise InputError(f"there is no inventory {path}")
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise InputError(f"{path} is not an inventory: expected a mapping with the group `all`", hint="see inventory/hosts.yaml for an example")
    groups: dict[str, Group] = {"all": Group("all")}
    variables: dict[str, dict[str, Any]] = {}
    for name, body in document.items():
        _group(path, groups, variables, str(name), body)
    groups.setdefault("ungrouped", Group("ungrouped"))
    for name, group in groups.items():
        group.variables.update(_vars_of(path.parent / "group_vars", name))
    for name in {host for group in groups.values() for host in group.hosts}:
        variables.setdefault(name, {}).update(_vars_of(path.parent / "host_vars", name))
    return Fleet(path, groups, variables)


def _group(path: Path, groups: dict[str, Group], variables: dict[str, dict[str, Any]], name: str, body: Any) -> None:
    group = groups.setdefault(name, Group(name))
    if body is None:
        return
    if not isinstance(body, dict):
        raise InputError(f"{path}: group {name} is {body!r}, expected a mapping with hosts, vars or children")
    for key, value in body.items():
        if value is None:
            continue
        if key not in {"hosts", "vars", "children"} or not isinstance(value, dict):
            hint = "a group holds hosts, vars and children, each a mapping"
            raise InputError(f"{path}: group {name} has {key}: {value!r}", hint=hint)
    for pattern, own in (body.get("hosts") or {}).items():
        if own is not None and not isinstance(own, dict):
            raise InputError(f"{path}: host {pattern} is {own!r}, expected its variables", hint=f"write `{pattern}:` alone, or variables below it")
        for host in _expanded(str(pattern)):
            if host not in group.hosts:
                group.hosts.append(host)
            variables.setdefault(host, {}).update(own or {})
    group.variables.update(body.get("vars") or {})
    for child, inner in (body.get("children") or {}).items():
        if str(child) not in group.children:
            group.children.append(str(child))
        _group(path, groups, variables, str(child), inner)


def _expanded(pattern: str) -> Iterator[str]:
    """`room[01:03]` -> room01, room02, room03; letters count as well."""
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    low, high, step = match[1], match[2], int(match[3] or 1)
    is_number = low.isdecimal()
    first, last = (int(low), int(high)) if is_number and high.isdecimal() else (ord(low[0]), ord(high[0]))
    if is_number != high.isdecimal() or first > last or not step or last - first > _MAX_RANGE:
        raise InputError(f"host range {match[0]} of {pattern} does not count upwards", hint="write room[01:31]")
    for number in range(first, last + 1, step):
        said = str(number).zfill(len(low)) if is_number else chr(number)
        yield from _expanded(pattern[: match.start()] + said + pattern[match.end() :])


def _vars_of(directory: Path, name: str) -> dict[str, Any]:
    """`group_vars/NAME.yaml`, `group_vars/NAME` or every file of `group_vars/NAME/`, in order."""
    found: dict[str, Any] = {}
    for suffix in _SUFFIXES:
        path = directory / (name + suffix)
        files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES and p.is_file()) if path.is_dir() else []
        for file in files:
            document = read_yaml(file)
            if document is not None and not isinstance(document, dict):
                raise InputError(f"{file}: expected variables, found {type(document).__name__}")
            found.update(document or {})
    return found


class _Loader(yaml.SafeLoader):
    """YAML as Ansible writes it, but a key twice is a mistake."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", key_node.start_mark)
        seen.add(key)
    return {loader.construct_object(k, deep=True): loader.construct_object(v, deep=True) for k, v in node.value}


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> Any:
    """One YAML document of an inventory.  Raises InputError with file, line and column."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        hint = "vaults are not read; keep secrets out of the inventory, keys belong to the SSH agent" if "!vault" in str(error) else None
        raise InputError(f"{path}{where}: {error.problem or error.context}", hint=hint) from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {error}") from None
