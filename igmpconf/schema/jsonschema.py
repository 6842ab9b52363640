"""The model as a JSON Schema (draft 2020-12): what editors complete with, and what the user's file is checked against.

Printed from `nodes(cls)`.  It says what may be written, not only what is canonical: a list as its single element, an
entry of a list by its shorthand, durations as text or centiseconds, the words that YAML 1.1 turns into booleans.
What it cannot say (host bits of a prefix, a query response below its interval) `model/canon.py` and `semantic.py` say.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Bool, Duration, Enum, GroupAddress, Integer, IpAddress, IpPrefix, LeafType, Node, SourceAddress, Text, nodes

SCHEMA_ID = "urn:igmpconf:schema:igmpconf"

_V4 = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_V6 = r"[0-9a-fA-F:]*:[0-9a-fA-F:.]*"
_ADDRESS = rf"(?:{_V4}|{_V6})"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = rf"(?:[0-9]{{1,12}}|[0-9]{{1,4}}:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{{1,3}})?|(?=.)(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?)"


@functools.cache
def json_schema() -> dict[str, Any]:
    """The whole schema, the same every time; do not change what it returns."""
    names = [_definition_name(cls) for cls in _classes(DeviceConfig)]
    assert len(names) == len(set(names))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "igmpconf: the desired state of a device",
        **_object(DeviceConfig),
        "$defs": {_definition_name(cls): _object(cls) for cls in _classes(DeviceConfig) if cls is not DeviceConfig},
    }


def _classes(cls: Any) -> list[Any]:
    found = [cls]
    for n in nodes(cls):
        if n.cls is not None:
            found += [inner for inner in _classes(n.cls) if inner not in found]
    return found


def _definition_name(cls: Any) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()


def _object(cls: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "description": " ".join((cls.__doc__ or "").split()),
        "properties": {n.name: _property(n) for n in nodes(cls)},
        "additionalProperties": False,
    }
    if not cls.__doc__ or cls.__doc__.startswith(f"{cls.__name__}("):  # the signature that dataclasses put there
        del schema["description"]
    numbered = {n.name for n in nodes(cls) if n.name == "sequence"}  # filled by position
    required = [n.name for n in nodes(cls) if n.required and n.default is None and n.name not in numbered]
    return schema | ({"required": required} if required else {})


def _property(n: Node) -> dict[str, Any]:
    schema = {"description": _meaning(n)}
    if n.kind == "container":
        return schema | {"anyOf": [{"$ref": f"#/$defs/{_definition_name(n.cls)}"}, {"type": "null"}]}  # a key with nothing below it
    if n.kind == "leaf":
        assert n.type is not None
        return schema | _type(n.type) | ({"default": n.type.plain(n.default)} if n.default is not None else {})
    if n.kind == "leaf-list":
        assert n.type is not None
        one = _type(n.type)
        return schema | _one_or_many(one, {}) | ({"default": [n.type.plain(value) for value in n.default]} if n.default else {})
    entry: dict[str, Any] = {"$ref": f"#/$defs/{_definition_name(n.cls)}"}
    if n.shorthand is not None:
        key = next(inner for inner in nodes(n.cls) if inner.name == n.shorthand)
        assert key.type is not None
        entry = {"anyOf": [entry, _type(key.type)]}
    return schema | _one_or_many(entry, {"maxItems": n.max_elements} if n.max_elements is not None else {})


def _one_or_many(one: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "array", "items": one, **limits}, one]}


def _meaning(n: Node) -> str:
    parts = [n.meaning[:1].upper() + n.meaning[1:]]
    if n.type is not None and isinstance(n.type, Integer | Duration):
        parts.append(f"Expected {n.type.described()}")
    if n.inherits:
        parts.append("Absent: as the instance says")
    if n.source:
        parts.append(f"See {n.source}")
    return ". ".join(parts) + "."


def _type(kind: LeafType) -> dict[str, Any]:
    if isinstance(kind, Bool):
        # Editors read YAML 1.2, where yes and no are text.
        return {"anyOf": [{"type": "boolean"}, {"enum": ["yes", "no", "on", "off", "true", "false"]}]}
    if isinstance(kind, Integer):
        return {"type": "integer", "minimum": kind.low, "maximum": kind.high}
    if isinstance(kind, Duration):
        text = {"type": "string", "pattern": _whole(_DURATION)}
        return {"anyOf": [text, {"type": "integer", "minimum": -(-kind.low_ms // 10), "maximum": kind.high_ms // 10}]}
    if isinstance(kind, Enum):
        booleans = [value for value, word in ((True, kind.true_is), (False, kind.false_is)) if word is not None]
        return {"enum": [*kind.words, *booleans]}
    if isinstance(kind, IpPrefix):
        return {"type": "string", "pattern": _whole(rf"\s*{_ADDRESS}(?:/[0-9]{{1,3}})?\s*")}
    if isinstance(kind, SourceAddress):
        return {"type": "string", "pattern": _whole(rf"\s*{_ADDRESS}\s*|\*")}
    if isinstance(kind, GroupAddress | IpAddress):
        return {"type": "string", "pattern": _whole(rf"\s*{_ADDRESS}\s*")}
    assert isinstance(kind, Text)
    refused = f"(?!(?:{kind.but_not})$)" if kind.but_not is not None else ""
    return {"type": ["string", "integer"], "pattern": rf"^{refused}(?:{kind.pattern})$"}  # an interface may be called 100


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"
