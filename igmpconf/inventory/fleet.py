"""The fleet: an Ansible YAML inventory as it is, plus `igmpconf_config`, the files that make a host's desired state.

Read are `all/children/hosts/vars`, host ranges (`room[01:31]`), every inventory file of a directory, `group_vars/` and
`host_vars/` beside them, and of the connection variables `ansible_host`, `ansible_port`, `ansible_user`,
`ansible_ssh_private_key_file`, `ansible_connection: local` and the `-o`, `-F`, `-J`, `-i` of `ansible_ssh_common_args`
and `ansible_ssh_extra_args`.  Scripts and plugins are not run, vaults are not opened.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from igmpconf.errors import InputError
from igmpconf.inventory.hosts import Host
from igmpconf.inventory.merge import ALL, UNGROUPED, Group, layers, members, memberships, merged
from igmpconf.inventory.patterns import selected
from igmpconf.inventory.variables import HostVariables, Variables
from igmpconf.inventory.yamlfile import Vaulted, read_yaml

_SUFFIXES = (".yml", ".yaml", ".json")
_VARIABLE_SUFFIXES = ("", *_SUFFIXES)  # Ansible's order; the first that is there ends the search
_RANGE = re.compile(r"\[(\d*|[A-Za-z]):(\d+|[A-Za-z])(?::(\d+))?\]")
_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])+):(\d+)")
_MAX_RANGE = 10_000


class Fleet:
    """Hosts and groups of one inventory."""

    def __init__(self, path: Path, groups: dict[str, Group], of_hosts: Mapping[str, dict[str, Any]], from_files: Mapping[str, dict[str, Any]]) -> None:
        self.path = path
        self.directory = path if path.is_dir() else path.parent
        self.groups = groups
        self._in_files = list(of_hosts)
        holding = memberships(groups)  # refuses circles now, while the message is still about the file
        listed = {name: members(groups, name) for name in groups}
        self.hosts: dict[str, Host] = {}
        hostvars = HostVariables(of_hosts, lambda name: self.hosts[name].values)
        for name in listed[ALL]:
            of = holding[name]
            raw = merged((*layers(groups, of), of_hosts[name], from_files.get(name, {})))
            magic = {
                "inventory_hostname": name,
                "inventory_hostname_short": name.partition(".")[0],
                "inventory_dir": str(self.directory.absolute()),
                "inventory_file": str(path.absolute()),
                "group_names": sorted(group for group in of if group != ALL),
                "groups": listed,
                "hostvars": hostvars,
            }
            self.hosts[name] = Host(
                name=name, variables=raw, groups=tuple(of), directory=self.directory, values=Variables(name, raw, magic), fellows=self.hosts
            )

    def select(self, pattern: str | None) -> tuple[Host, ...]:
        """Hosts of an Ansible pattern (patterns.py), all of them without one.  Raises InputError."""
        if pattern is None:
            return tuple(self.hosts.values())
        chosen = selected(pattern, self.groups, self._in_files, where=str(self.path))
        return tuple(host for name, host in self.hosts.items() if name in chosen)


def digest_of(hosts: Iterable[Host]) -> str:
    """`sha256:` and 64 hex digits over what the inventory says of these hosts: names, groups and variables as written.

    Other hosts may come and go without changing it.
    """
    plain = {host.name: {"groups": host.groups, "variables": host.variables} for host in hosts}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def load(path: Path) -> Fleet:
    """The fleet of an inventory file, or of all the YAML files of a directory (not of those below it).  Raises InputError."""
    if not path.exists():
        raise InputError(f"there is no inventory {path}")
    reader = _Reader()
    for file in _files(path):
        reader.read(file)
    directory = path if path.is_dir() else path.parent
    groups = reader.finished()
    for name, group in groups.items():
        group.from_files = _vars_of(directory / "group_vars", name)
    return Fleet(path, groups, reader.variables, {name: _vars_of(directory / "host_vars", name) for name in reader.variables})


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file() and not file.name.startswith("."))
    if not found:
        raise InputError(
            f"{path} holds no inventory",
            hint=f"expected {path / 'hosts.yaml'}; inventories in INI form are not read, ansible-inventory --list -y converts them",
        )
    return found


class _Reader:
    """Groups, hosts and what the inventory files say of them, in the order of the files."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {ALL: Group(ALL, children=[UNGROUPED]), UNGROUPED: Group(UNGROUPED)}
        self.variables: dict[str, dict[str, Any]] = {}

    def read(self, path: Path) -> None:
        document = read_yaml(path)
        if not isinstance(document, dict):
            raise InputError(f"{path} is not an inventory: expected a mapping with the group `all`", hint="see inventory/hosts.yaml for an example")
        for name, body in document.items():
            self._group(path, str(name), body)

    def finished(self) -> dict[str, Group]:
        """The groups, every one below `all` and every host in some group."""
        below = {child for group in self.groups.values() for child in group.children}
        self.groups[ALL].children += [name for name in self.groups if name not in below and name != ALL]
        grouped = {host for name, group in self.groups.items() if name not in {ALL, UNGROUPED} for host in group.hosts}
        alone = [host for host in self.variables if host not in grouped]
        self.groups[UNGROUPED].hosts = alone
        return self.groups

    def _group(self, path: Path, name: str, body: Any) -> None:
        group = self.groups.setdefault(name, Group(name))
        if body is None:
            return
        if not isinstance(body, dict):
            raise InputError(f"{path}: group {name} is {body!r}, expected a mapping with hosts, vars or children")
        for key, value in body.items():
            if key not in {"hosts", "vars", "children"} or not isinstance(value, dict | str | None):
                raise InputError(f"{path}: group {name} has {key}: {value!r}", hint="a group holds hosts, vars and children, each a mapping")
            inner = {value: None} if isinstance(value, str) else value or {}
            if key == "hosts":
                for pattern, own in inner.items():
                    self._host(path, group, str(pattern), own)
            elif key == "vars":
                said = dict(inner)
                group.priority = _priority(path, name, said.pop("ansible_group_priority", group.priority))
                group.variables = merged((group.variables, said))
            else:
                for child, its_body in inner.items():
                    if str(child) not in group.children:
                        group.children.append(str(child))
                    self._group(path, str(child), its_body)

    def _host(self, path: Path, group: Group, pattern: str, own: Any) -> None:
        if own is not None and not isinstance(own, dict):
            raise InputError(f"{path}: host {pattern} is {own!r}, expected its variables", hint=f"write `{pattern}:` alone, or variables below it")
        with_port = _PORT.fullmatch(pattern)
        said: dict[str, Any] = {}
        if with_port is not None:
            pattern, said = with_port[1], {"ansible_port": int(with_port[2])}
        for host in _expanded(pattern):
            if host not in group.hosts:
                group.hosts.append(host)
            self.variables[host] = merged((self.variables.get(host, {}), said, own or {}))


def _priority(path: Path, group: str, said: Any) -> int:
    try:
        return int(said)
    except (TypeError, ValueError):
        raise InputError(f"{path}: ansible_group_priority of {group} is {said!r}, expected a number") from None


def _expanded(pattern: str) -> Iterator[str]:
    """`room[01:03]` -> room01, room02, room03; letters count as well, lower case before upper."""
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    low, high, step = match[1] or "0", match[2], int(match[3] or 1)
    is_number = low.isdecimal()
    letters = string.ascii_letters
    first, last = (int(low), int(high)) if is_number and high.isdecimal() else (letters.find(low), letters.find(high))
    if is_number != high.isdecimal() or first > last or not step or last - first > _MAX_RANGE:
        raise InputError(f"host range {match[0]} of {pattern} does not count upwards", hint="write room[01:31]")
    width = len(low) if low.startswith("0") else 0
    for number in range(first, last + 1, step):
        said = str(number).zfill(width) if is_number else letters[number]
        yield from _expanded(pattern[: match.start()] + said + pattern[match.end() :])


def variables_file(directory: Path, name: str) -> Path | None:
    """`group_vars/NAME`, NAME.yml, NAME.yaml or NAME.json, a file or a directory: the first there is, as Ansible looks."""
    return next((path for suffix in _VARIABLE_SUFFIXES if (path := directory / (name + suffix)).exists()), None)


def _vars_of(directory: Path, name: str) -> dict[str, Any]:
    """The variables of a group or host: of a directory, and those in it, every file in order."""
    path = variables_file(directory, name)
    found: dict[str, Any] = {}
    for file in () if path is None else _below(path) if path.is_dir() else (path,):
        document = read_yaml(file)
        if document is not None and not isinstance(document, dict | Vaulted):
            raise InputError(f"{file}: expected variables, found {type(document).__name__}")
        found = merged((found, document if isinstance(document, dict) else {}))
    return found


def _below(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or path.name.endswith("~"):
            continue
        if path.is_dir() and not path.suffix:
            yield from _below(path)
        elif path.is_file() and path.suffix in _VARIABLE_SUFFIXES:
            yield path
