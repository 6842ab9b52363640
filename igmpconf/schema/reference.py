"""The reference for readers, printed from the model: every leaf in docs/reference, every complaint in docs/diagnostics.md."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Node, nodes
from igmpconf.schema.explain import CODES

_NOTE = "<!-- Printed by python -m igmpconf.schema.printed; do not edit. -->"


def configuration() -> str:
    """Markdown: one table for the whole and one for each list or container, in the order of the model."""
    lines = [
        "# Configuration",
        "",
        _NOTE,
        "",
        "A list may be written as its single element.  A duration is text with units (`31.25s`, `2m5s`, `500ms`), a clock (`00:02:05`), or a bare",
        "integer of centiseconds (`3125` is 31.25 s).  `igmpconf explain LEAF` shows the same on the command line.",
    ]
    for path, cls in _tables(DeviceConfig, ""):
        lines += ["", f"## {path or 'The whole file'}", "", "| key | type, range | default | meaning |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(_cell(text) for text in row)} |" for row in map(_row, nodes(cls))]
    return "\n".join(lines) + "\n"


def diagnostics() -> str:
    """Markdown: every code that a complaint can carry, by its room."""
    lines = [
        "# Complaints and what they mean",
        "",
        _NOTE,
        "",
        "Every complaint ends with its code in brackets; `igmpconf explain CODE` shows the same on the command line.",
    ]
    for room, codes in groupby(CODES, key=lambda code: code.partition("/")[0]):
        lines += ["", f"## {room}", ""]
        lines += [f"- `{code}`: {CODES[code]}" for code in codes]
    return "\n".join(lines) + "\n"


def _tables(cls: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, cls
    for n in nodes(cls):
        if n.cls is not None:
            yield from _tables(n.cls, f"{path}/{n.name}" if path else n.name)


def _row(n: Node) -> tuple[str, str, str, str]:
    if n.type is not None:
        kind = n.type.described() + (", one or several" if n.kind == "leaf-list" else "")
    else:
        kind = "mapping" if n.kind == "container" else "list of mappings" + (f", at most {n.max_elements}" if n.max_elements is not None else "")
    default = ""
    if n.type is not None and n.default is not None:
        default = ", ".join(f"`{n.type.text(one)}`" for one in (n.default if n.kind == "leaf-list" else (n.default,)))
    elif n.inherits:
        default = "as the instance"
    elif n.required:
        default = "by position" if n.name == "sequence" else "must be given"
    meaning = n.meaning + (f" ({n.source})" if n.source else "") + (f"; an entry may be its `{n.shorthand}` alone" if n.shorthand is not None else "")
    return f"`{n.name}`", kind, default, meaning


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
