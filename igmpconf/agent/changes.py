"""The difference of two configurations as text, one line a leaf: what the history keeps for people.

    + igmp-proxy[default]/interfaces[lan1]/interface lan1
    ~ igmp-proxy[default]/query-interval 2m5s -> 31.25s

The controller's plan is richer (impact, grouping); this one needs nothing but the two models.  Of the access rules it
only tells that they changed: whoever may read the history may not, for that, read the rules.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from igmpconf.model.canon import digest, remembered
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Node, entry_key, node, nodes
from igmpconf.model.path import Path, Step, path_text
from igmpconf.schema.errors import node_step, quoted


@remembered
def change_lines(before: DeviceConfig, after: DeviceConfig) -> str:
    """Lines of `+ path value`, `- path value`, `~ path old -> new`, sorted by path; empty when they are equal."""
    old, new = dict(_leaves(before, after)), dict(_leaves(after, before))
    lines = []
    for path in sorted(old.keys() | new.keys()):
        if path not in old:
            lines.append(f"+ {path_text(path)} {new[path]}")
        elif path not in new:
            lines.append(f"- {path_text(path)} {old[path]}")
        elif old[path] != new[path]:
            lines.append(f"~ {path_text(path)} {old[path]} -> {new[path]}")
    if before.access != after.access:
        lines.append("~ nacm")
    return "\n".join(lines)


def _leaves(model: Any, other: Any, place: Path = ()) -> list[tuple[Path, str]]:
    """What `model` has and `other`, its counterpart if it has one, has not: of ten thousand entries only those that differ."""
    found: list[tuple[Path, str]] = []
    for n in nodes(type(model)):
        value, theirs = getattr(model, n.attr), getattr(other, n.attr, None)
        if value is None or value in ((), theirs):
            continue
        if n.kind == "container":
            found += _leaves(value, theirs, (*place, Step(n.name)))
        elif n.kind == "list":
            counterparts = {entry_key(n, entry): entry for entry in theirs or ()}
            for entry in value:
                key = entry_key(n, entry)
                counterpart = counterparts.get(key)
                if counterpart is not entry and counterpart != entry:
                    found += _leaves(entry, counterpart, (*place, Step(n.name, tuple(_text(one) for one in key))))
        elif n.type is not None:
            text = n.type.text(value) if n.kind == "leaf" else "[" + ", ".join(n.type.text(one) for one in value) + "]"
            found.append(((*place, Step(n.name)), text))
    return found


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def prepare_record(before: DeviceConfig, after: DeviceConfig) -> None:
    """Do in advance, in a thread, what the record of a commit takes longest for; both remember the last results."""
    change_lines(before, after)
    digest(after)


@dataclass(frozen=True, slots=True)
class Edit:
    """One difference: `target` is an instance-identifier with the prefixes of `schema/names.py` (RFC 7950 9.13)."""

    target: str
    operation: Literal["create", "delete", "replace", "merge"]


MOST_EDITS = 200  # ours: a notification with ten thousand would be no summary


def edits(before: DeviceConfig, after: DeviceConfig) -> list[Edit]:
    """The differences, whole entries and containers where they came or went; the top-level nodes when there are too many."""
    rules = [Edit("/nacm:nacm", "merge")] if before.access != after.access else []
    found = rules + list(itertools.islice(_edits(type(before), before, after, ""), MOST_EDITS + 1))
    if len(found) <= MOST_EDITS:
        return found
    whole = [Edit(node_step(n), "merge") for n in nodes(DeviceConfig) if getattr(before, n.attr) != getattr(after, n.attr) and n.kind != "list"]
    return [*rules, *whole] + [
        Edit(_entry_path(n, entry, ""), "merge")
        for n in nodes(DeviceConfig)
        if n.kind == "list"
        for entry in itertools.islice(_changed(getattr(before, n.attr), getattr(after, n.attr)), MOST_EDITS)
    ]


def _changed(before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[Any]:
    former = set(before)
    return (entry for entry in after if entry not in former)


def _edits(cls: Any, before: Any, after: Any, path: str) -> Iterator[Edit]:
    for n in nodes(cls):
        old, new = getattr(before, n.attr), getattr(after, n.attr)
        if old == new:
            continue
        here = path + node_step(n)
        if n.kind == "list":
            old_by_key, new_by_key = ({entry_key(n, entry): entry for entry in side} for side in (old, new))
            for key, entry in new_by_key.items():
                former = old_by_key.get(key)
                if former is None:
                    yield Edit(_entry_path(n, entry, path), "create")
                elif former != entry:
                    yield from _edits(n.cls, former, entry, _entry_path(n, entry, path))
            yield from (Edit(_entry_path(n, entry, path), "delete") for key, entry in old_by_key.items() if key not in new_by_key)
        elif n.kind == "leaf-list":
            assert n.type is not None
            for side, other, operation in ((new, old, "create"), (old, new, "delete")):
                texts = [n.type.text(one) for one in side if one not in other]
                yield from (Edit(f"{here}[.={quoted(text)}]", "create" if operation == "create" else "delete") for text in texts)
        elif n.kind == "container" and old is not None and new is not None:
            yield from _edits(n.cls, old, new, here)
        else:
            yield Edit(here, "create" if old is None else "delete" if new is None else "replace")


def _entry_path(n: Node, entry: Any, path: str) -> str:
    keys = []
    for name, value in zip(n.key, entry_key(n, entry), strict=True):
        leaf = node(n.cls, name)
        assert leaf is not None
        assert leaf.type is not None
        keys.append((name, leaf.type.text(value)))
    return path + node_step(n, tuple(keys))
