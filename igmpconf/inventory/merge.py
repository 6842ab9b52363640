"""Groups and their variables: who belongs where, and whose word counts.

Ansible's order, the weakest first:

    1. `all` in the inventory        2. group_vars/all
    3. the other groups in the inventory, from the outermost to the innermost (within one depth by
       `ansible_group_priority`, then by name)             4. group_vars/ of these groups, in the same order
    5. the host in the inventory     6. host_vars/

A later value replaces an earlier one whole, as Ansible does by default; nothing is merged deeply.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from igmpconf.errors import InputError

ALL = "all"
UNGROUPED = "ungrouped"  # the hosts of no group but `all`


@dataclass(slots=True)
class Group:
    """A group as all places together say it."""

    name: str
    children: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)  # what the inventory itself says
    from_files: dict[str, Any] = field(default_factory=dict)  # what group_vars/ says
    priority: int = 1


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
    walk(ALL, 0, ())
    for name in groups:
        if name not in is_child and name != ALL:
            walk(name, 1, (ALL,))
    for name in groups:  # what is left hangs in a circle of its own
        if name not in found:
            walk(name, 1, (ALL,))
    return found


def _level_by_level(groups: Mapping[str, Group], name: str) -> Iterator[str]:
    """The group and everything below it, the nearest first; of two places of one group the deeper counts."""
    order = [name]
    level = [name]
    while level:
        below = list(dict.fromkeys(child for parent in level for child in groups[parent].children))
        order = [one for one in order if one not in below] + below
        level = below
    return iter(order)


def members(groups: Mapping[str, Group], name: str) -> list[str]:
    """Hosts of a group and of everything below it, in Ansible's order: level by level."""
    return list(dict.fromkeys(host for group in _level_by_level(groups, name) for host in groups[group].hosts))


def memberships(groups: Mapping[str, Group]) -> dict[str, list[str]]:
    """For every host the groups that hold it, the weakest first; `all` is always the first."""
    depth = depths(groups)
    ranked = sorted(groups, key=lambda name: (name != ALL, depth[name], groups[name].priority, name))
    found: dict[str, list[str]] = {}
    for name in ranked:
        for host in members(groups, name):
            found.setdefault(host, []).append(name)
    return found


def layers(groups: Mapping[str, Group], of: Iterable[str]) -> list[Mapping[str, Any]]:
    """The variables of the groups `of` a host (the weakest first, `all` at their head), in the order of this file's head."""
    first, *others = (groups[name] for name in of)
    return [first.variables, first.from_files, *(group.variables for group in others), *(group.from_files for group in others)]


def merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One mapping of several; the last word counts, and its key is kept, which knows where it was said."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            result.pop(name, None)
            result[name] = value
    return result
