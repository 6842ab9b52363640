"""The difference of two configurations as text, one line a leaf: what the history keeps for people.

    + igmp-proxy[default]/interfaces[lan1]/interface lan1
    ~ igmp-proxy[default]/query-interval 2m5s -> 31.25s

The controller's plan is richer (impact, grouping); this one needs nothing but the two models.
"""

from __future__ import annotations

from typing import Any

from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import entry_key, nodes
from igmpconf.model.path import Path, Step, path_text


def change_lines(before: DeviceConfig, after: DeviceConfig) -> str:
    """Lines of `+ path value`, `- path value`, `~ path old -> new`, sorted by path; empty when they are equal."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    lines = []
    for path in sorted(old.keys() | new.keys()):
        if path not in old:
            lines.append(f"+ {path_text(path)} {new[path]}")
        elif path not in new:
            lines.append(f"- {path_text(path)} {old[path]}")
        elif old[path] != new[path]:
            lines.append(f"~ {path_text(path)} {old[path]} -> {new[path]}")
    return "\n".join(lines)


def _leaves(model: Any, place: Path = ()) -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    for n in nodes(type(model)):
        value = getattr(model, n.attr)
        if value is None or value == ():
            continue
        if n.kind == "container":
            found += _leaves(value, (*place, Step(n.name)))
        elif n.kind == "list":
            for entry in value:
                key = tuple(_text(one) for one in entry_key(n, entry))
                found += _leaves(entry, (*place, Step(n.name, key)))
        elif n.type is not None:
            text = n.type.text(value) if n.kind == "leaf" else "[" + ", ".join(n.type.text(one) for one in value) + "]"
            found.append(((*place, Step(n.name)), text))
    return found


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
