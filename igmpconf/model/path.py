"""Keyed paths: how a place in the model is written for people and compared by machines.

    igmp-proxy[default]/interfaces[lan0]/query-interval
    igmp-proxy[default]/mfc[192.168.100.5,239.255.1.1]

A step is a node name with the key values of a list entry; a path says nothing about files or XML.  Where a key value
holds a comma, a bracket or a backslash (`br[0-9]*`), a backslash stands before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Step:
    name: str
    key: tuple[str, ...] = ()  # canonical texts of the key leaves; empty for leaves and containers

    def __str__(self) -> str:
        return f"{self.name}[{','.join(map(_escaped, self.key))}]" if self.key else self.name


Path = tuple[Step, ...]

_STEP = re.compile(r"([A-Za-z][A-Za-z0-9-]*)(?:\[((?:[^\\\]]|\\.)*)\])?", re.DOTALL)
_KEY = re.compile(r"(?:[^\\,]|\\.)*", re.DOTALL)


def _escaped(key: str) -> str:
    return re.sub(r"([\\,\[\]])", r"\\\1", key)


def _keys(text: str) -> tuple[str, ...]:
    keys = []
    position = 0
    while True:
        match = _KEY.match(text, position)
        assert match is not None  # it matches the empty text
        keys.append(re.sub(r"\\(.)", r"\1", match[0], flags=re.DOTALL))
        if match.end() == len(text):
            return tuple(keys)
        position = match.end() + 1


def path_text(path: Path) -> str:
    """`igmp-proxy[default]/interfaces[lan0]/threshold`; the whole model is `/`."""
    return "/".join(str(step) for step in path) or "/"


def parse_path(text: str) -> Path:
    """The inverse of `path_text`.  Raises ValueError with the step that is not one."""
    if text in {"", "/"}:
        return ()
    steps = []
    position = 0
    while position <= len(text):
        match = _STEP.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] != "/"):
            raise ValueError(f"not a path step: {text[position:]!r}")
        steps.append(Step(match[1], _keys(match[2]) if match[2] is not None else ()))
        position = match.end() + 1
        if match.end() == len(text):
            break
    return tuple(steps)
