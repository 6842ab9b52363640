"""Groups and their variables: who belongs where, and whose word counts.

Ansible's order, weakest first: `all`, groups from the outermost to the innermost (within one depth by
`ansible_group_priority`, then by name), the host.  At each of them the inventory file speaks before `group_vars/` and
`host_vars/`.  A later value replaces an earlier one whole, as Ansible does by default; nothing is merged deeply.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from igmpconf.errors import InputError


@dataclass(slots=True)
class Group:
    """A group as all places together say it."""

    name: str
    children: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)


def depths(groups: Mapping[str, Group]) -> dict[str, int]:
    """The longest way from `all` to each group.  Raises InputError when groups go in a circle."""
    found: dict[str, int] = {}

    def walk(name: str, depth: int, way: tuple[str, ...]) -> None:
        if name in way:
            raise InputError(f"groups contain each other: {' > '.join((*way[way.index(name) :], name))}", hint="remove one of the children")
        if depth < found.get(name, -1):
            return
        found[name] = max(depth, found.get(name, depth))
        for child in groups[name].children:
            walk(child, depth + 1, (*way, name))

    is_child = {child for group in groups.values() for child in group.children}
    walk("all", 0, ())
    for name in groups:
        if name not in is_child and name != "all":
            walk(name, 1, ("all",))
    for name in groups:  # what is left hangs in a circle of its own
        if name not in found:
            walk(name, 1, ("all",))
    return found


def members(groups: Mapping[str, Group], name: str) -> set[str]:
    """Hosts of a group and of everything below it."""
    group = groups[name]
    return set(group.hosts).union(*(members(groups, child) for child in group.children))


def groups_of(groups: Mapping[str, Group], host: str) -> list[str]:
    """Every group that holds the host, the weakest first."""
    depth = depths(groups)
    holding = [name for name in groups if name == "all" or host in members(groups, name)]
    return sorted(holding, key=lambda name: (name != "all", depth[name], _priority(groups[name]), name))


def _priority(group: Group) -> int:
    value = group.variables.get("ansible_group_priority", 1)
    return value if isinstance(value, int) else 1


def merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One mapping of several, the last word counts."""
    result: dict[str, Any] = {}
    for layer in layers:
        result.update(layer)
    return result
