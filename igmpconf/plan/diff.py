"""Two desired states -> the changes between them, by keyed path; and back.

A list entry that comes or goes is one change, so is a leaf; containers have no life of their own.  A leaf-list is
compared as a whole, because half of `alternative-subnets` means nothing.  Law: `patched(a, diff(a, b)) == b`.
This file does not know what a change costs (`impact.py`) nor how it looks (`render.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from igmpconf.model.canon import canonical
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Address, Node, entry_key, node, nodes
from igmpconf.model.path import Path, Step, path_text

Action = Literal["+", "~", "-"]
Level = Literal["none", "rejoin", "interrupts"]


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class LiveGroup:
    """A group that somebody receives now, and where."""

    instance: str
    interface: str
    group: str  # canonical text, because both families sort together
    # What is known of it beside its name; two readings of one group are the same group.
    hosts: tuple[str, ...] = field(default=(), compare=False)  # that are known to listen, as text
    bytes_per_s: int | None = field(default=None, compare=False)  # that leave by the interface; None: not measured

    @staticmethod
    def of(instance: str, interface: str, group: Address | str) -> LiveGroup:
        """The live group of a row of the operational state."""
        return LiveGroup(instance=instance, interface=interface, group=str(group))


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """What a change does to people who are watching now."""

    level: Level = "none"
    reason: str = ""
    groups: tuple[LiveGroup, ...] = ()


HARMLESS = Impact()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference: `before` and `after` are model values (leaf, tuple, list entry); None is absent."""

    action: Action
    path: Path
    before: Any = None
    after: Any = None
    impact: Impact = HARMLESS


def diff(a: DeviceConfig, b: DeviceConfig) -> tuple[Change, ...]:
    """The changes that turn `a` into `b`, in the order of the model; impacts are not judged yet."""
    return tuple(_between((), canonical(a), canonical(b)))


def key_texts(list_node: Node, entry: Any) -> tuple[str, ...]:
    """The key of a list entry as a path step writes it."""
    texts = []
    for name, value in zip(list_node.key, entry_key(list_node, entry), strict=True):
        found = node(list_node.cls, name)
        assert found is not None
        assert found.type is not None
        texts.append(found.type.text(value))
    return tuple(texts)


def node_at(path: Path, cls: Any = DeviceConfig) -> Node:
    """The node that a path leads to.  Raises KeyError with the step that does not exist."""
    found: Node | None = None
    for step in path:
        found = node(cls, step.name)
        if found is None:
            raise KeyError(path_text(path))
        cls = found.cls
    if found is None:
        raise KeyError("the root is not a node")
    return found


def _between(at: Path, a: Any, b: Any) -> Iterator[Change]:
    for n in nodes(type(b)):
        before, after = getattr(a, n.attr), getattr(b, n.attr)
        if before == after:
            continue
        if n.kind == "container":
            yield from _between((*at, Step(n.name)), before if before is not None else n.cls(), after if after is not None else n.cls())
        elif n.kind == "list":
            yield from _entries(at, n, before, after)
        else:
            yield _change((*at, Step(n.name)), None if before == () else before, None if after == () else after)


def _entries(at: Path, n: Node, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[Change]:
    old = {key_texts(n, entry): entry for entry in before}
    new = {key_texts(n, entry): entry for entry in after}
    for key, entry in old.items():
        here = (*at, Step(n.name, key))
        if key not in new:
            yield _change(here, entry, None)
        elif entry != new[key]:
            yield from _between(here, entry, new[key])
    for key, entry in new.items():
        if key not in old:
            yield _change((*at, Step(n.name, key)), None, entry)


def _change(path: Path, before: Any, after: Any) -> Change:
    action: Action = "+" if before is None else "-" if after is None else "~"
    return Change(action=action, path=path, before=before, after=after)


def patched(a: DeviceConfig, changes: Iterable[Change]) -> DeviceConfig:
    """`a` with the changes made.  Raises KeyError when a change speaks of a place that is not there."""
    result: Any = a
    for change in changes:
        result = _put(result, change.path, change)
    patched_: DeviceConfig = canonical(result)
    return patched_


def _put(model: Any, path: Path, change: Change) -> Any:
    step, rest = path[0], path[1:]
    n = node(type(model), step.name)
    if n is None:
        raise KeyError(path_text(change.path))
    value = getattr(model, n.attr)
    if n.kind == "list":
        others = tuple(entry for entry in value if key_texts(n, entry) != step.key)
        if rest:
            if len(others) == len(value):
                raise KeyError(path_text(change.path))
            entry = next(entry for entry in value if key_texts(n, entry) == step.key)
            wanted: Any = (*others, _put(entry, rest, change))
        else:
            wanted = others if change.after is None else (*others, change.after)
    elif n.kind == "container":
        wanted = _put(value if value is not None else n.cls(), rest, change)
    elif n.kind == "leaf-list":
        wanted = change.after if change.after is not None else ()
    else:
        wanted = change.after
    return dataclasses.replace(model, **{n.attr: wanted})
