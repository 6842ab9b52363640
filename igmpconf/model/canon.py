"""One value, one text: plain data (JSON, YAML) to model and back, canonical order, digests.

`build` reports every problem at its place instead of stopping at the first; whoever knows files and lines
(`schema/load.py`) turns the places into positions.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import LeafError, Node, entry_key, node, nodes, sort_key, stored_nodes

M = TypeVar("M")

Place = tuple[str | int, ...]  # steps into the plain document: mapping keys and list positions
Complain = Callable[[Place, str, str, str | None], None]  # place, code, message, hint


class PlainError(ValueError):
    """Plain data does not describe a model; `problems` are (place, code, message, hint)."""

    def __init__(self, problems: list[tuple[Place, str, str, str | None]]) -> None:
        place, _, message, _ = problems[0]
        super().__init__(f"{'/'.join(str(step) for step in place)}: {message}")
        self.problems = problems


def from_plain(cls: type[M], plain: Any) -> M:
    """The model that `plain` describes.  Raises PlainError with every problem."""
    problems: list[tuple[Place, str, str, str | None]] = []
    built = build(cls, plain, lambda *problem: problems.append(problem))
    if problems:
        raise PlainError(problems)
    return built


def build(cls: type[M], plain: Any, complain: Complain, place: Place = ()) -> M:
    """Build a model from mappings, lists and scalars; problems go to `complain`, what is left is still built.

    A list may be written as its single element, an entry of a list with a shorthand as that leaf alone.
    The result is canonical: keyed lists sorted, leaf-lists without repeats, empty containers None.
    """
    if not isinstance(plain, dict):
        complain(place, "type/mapping", f"expected a mapping with keys such as {', '.join(n.name for n in nodes(cls)[:3])}", None)
        return canonical(cls(**{n.attr: n.default for n in nodes(cls) if n.required}))  # what it lacks is not worth telling
    values: dict[str, Any] = {}
    for name, raw in plain.items():
        found = node(cls, name) if isinstance(name, str) else None
        if found is None:
            complain((*place, name), "key/unknown", f"unknown key {name!r}", _nearest(cls, name))
        elif raw is None and found.kind != "container":
            complain((*place, name), "type/empty", f"{name} has no value", f"write {_wanted(found)}, or remove the line")
        else:
            values[found.attr] = _value(found, raw, complain, (*place, name))
    for wanted in nodes(cls):
        if wanted.required and values.get(wanted.attr) is None:
            if wanted.default is not None:
                values[wanted.attr] = wanted.default
            elif wanted.name not in plain:
                complain(place, "key/missing", f"{wanted.name} is missing", f"add {wanted.name}: {_wanted(wanted)}")
            values.setdefault(wanted.attr, None)
    return canonical(cls(**values))


def _wanted(n: Node) -> str:
    return n.type.described() if n.type is not None else "an entry"


def _nearest(cls: Any, name: object) -> str:
    names = [n.name for n in nodes(cls)]
    text = str(name)
    wanted = text.replace("_", "-").lower()
    alike = difflib.get_close_matches(wanted, names, n=1, cutoff=0.8)
    inside = next((n.name for n in nodes(cls) if n.cls is not None and node(n.cls, wanted) is not None), None)
    if inside is not None and not alike:
        return f"{wanted} belongs below {inside}"
    near = alike or difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(names)}"


def _value(n: Node, raw: Any, complain: Complain, place: Place) -> Any:
    if n.kind == "container":
        return build(n.cls, raw if raw is not None else {}, complain, place)
    if n.kind == "list":
        return _entries(n, raw, complain, place)
    if n.kind == "leaf":
        return _scalar(n, raw, complain, place)
    many = raw if isinstance(raw, list) else [raw]
    parsed = [_scalar(n, one, complain, (*place, i) if isinstance(raw, list) else place) for i, one in enumerate(many)]
    return tuple(value for value in parsed if value is not None)


def shown(raw: object) -> str:
    """A scalar as it may have been written: text in quotes, the rest bare."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    return repr(raw) if not isinstance(raw, str) or len(raw) <= 80 else f"{raw[:77]!r}..."


def _scalar(n: Node, raw: Any, complain: Complain, place: Place) -> Any:
    assert n.type is not None
    if isinstance(raw, dict | list) or raw is None:
        complain(place, "type/scalar", f"expected {n.type.described()}", None)
        return None
    try:
        return n.type.parse(raw)
    except LeafError as error:
        complain(place, "value/invalid", f"{shown(raw)} does not fit {n.name}: {error}", error.hint)
        return None


def _entries(n: Node, raw: Any, complain: Complain, place: Place) -> tuple[Any, ...]:
    many = raw if isinstance(raw, list) else [raw]
    entries: list[Any] = []
    seen: dict[tuple[Any, ...], Place] = {}
    for i, one in enumerate(many):
        here = (*place, i) if isinstance(raw, list) else place
        if n.shorthand is not None and not isinstance(one, dict | list) and one is not None:
            one = {n.shorthand: one}
        if n.numbered is not None and isinstance(one, dict) and n.numbered not in one:
            one = {**one, n.numbered: i + 1}
        entry = build(n.cls, one, complain, here)
        key = entry_key(n, entry)
        if key in seen and None not in key:
            complain(
                here,
                "key/repeated",
                f"{n.name} has a second entry {', '.join(str(part) for part in key)}",
                "remove one of the two, or give them different keys",
            )
        else:
            entries.append(entry)
        seen.setdefault(key, here)
    if n.max_elements is not None and len(entries) > n.max_elements:
        complain(
            (*place, n.max_elements) if isinstance(raw, list) else place,
            "limit/too-many",
            f"{n.name} has {len(entries)} entries, the limit is {n.max_elements}",
            "the kernel keeps 32 multicast interfaces per table (MAXVIFS); use a second instance for more",
        )
    return tuple(entries)


def canonical(model: M) -> M:
    """The model with every keyed list sorted, leaf-lists sorted and without repeats, empty containers None."""
    changes: dict[str, Any] = {}
    cls: Any = type(model)
    for n in stored_nodes(cls):
        value = getattr(model, n.attr)
        if n.kind == "container" and value is not None:
            inner = canonical(value)
            wanted: Any = None if all(getattr(inner, one.attr) in (None, ()) for one in stored_nodes(n.cls)) else inner
        elif n.kind == "list":
            wanted = tuple(canonical(entry) for entry in value)
            if n.key and not n.keeps_order:
                keyed = sorted(((tuple(map(sort_key, entry_key(n, entry))), i) for i, entry in enumerate(wanted)))
                wanted = tuple(wanted[i] for _, i in keyed)
        elif n.kind == "leaf-list":
            wanted = tuple(dict.fromkeys(value))
            if not n.user_ordered:
                wanted = tuple(sorted(wanted, key=sort_key))
        else:
            continue
        if wanted != value or type(wanted) is not type(value):
            changes[n.attr] = wanted
    if not changes:
        return model
    values = {n.attr: getattr(model, n.attr) for n in stored_nodes(cls)} | changes
    result: M = cls(**values)
    return result


def to_plain(model: Any) -> dict[str, Any]:
    """Mappings, lists and scalars, in the model's order, absent nodes left out; `from_plain` gives the model back."""
    plain: dict[str, Any] = {}
    for n in nodes(type(model)):
        value = getattr(model, n.attr)
        if value is None or value == ():
            continue
        if n.kind == "container":
            plain[n.name] = to_plain(value)
        elif n.kind == "list":
            plain[n.name] = [to_plain(entry) for entry in value]
        elif n.kind == "leaf-list":
            assert n.type is not None
            plain[n.name] = [n.type.plain(one) for one in value]
        else:
            assert n.type is not None
            plain[n.name] = n.type.plain(value)
    return plain


def remembered(function: Callable[..., str]) -> Callable[..., str]:
    """`function` of configurations, with its last two results kept; found by identity, because comparing would take as long as a hash."""
    kept: tuple[tuple[tuple[Any, ...], str], ...] = ()

    @functools.wraps(function)
    def again(*configs: Any) -> str:
        nonlocal kept
        for known, result in kept:
            if all(one is other for one, other in zip(known, configs, strict=True)):
                return result
        result = function(*configs)
        kept = ((configs, result), *kept[:1])
        return result

    return again


@remembered
def digest(config: DeviceConfig) -> str:
    """`sha256:` and 64 hex digits over the canonical JSON of what is explicitly configured."""
    text = json.dumps(to_plain(canonical(config)), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
