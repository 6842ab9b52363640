"""The user's files to a desired state, with every complaint at its place; and a desired state back to YAML.

One problem is told once: what `model/canon.py` says is best informed, the printed JSON Schema catches what is written
in a form that only we would read, and the semantic rules run over what could be read.  Controller only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from igmpconf.model.canon import Place, build, canonical, shown, to_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Duration, LeafError, Node, nodes
from igmpconf.schema.diagnostic import Diagnostic, in_order
from igmpconf.schema.document import Listing, Mapping, Scalar, Tree, composed, plain
from igmpconf.schema.jsonschema import json_schema
from igmpconf.schema.places import Places, merged
from igmpconf.schema.semantic import FOLLOWING, check


@dataclass(frozen=True, slots=True)
class Echo:
    """A duration that was written otherwise than it is shown: a plan tells both."""

    path: str
    written: str
    canonical: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What files say: `config` is None when a diagnostic is an error; `echoes` are in the order of the files."""

    config: DeviceConfig | None
    diagnostics: tuple[Diagnostic, ...]
    echoes: tuple[Echo, ...] = ()
    places: Places | None = None  # where each keyed path was written


def load_text(text: bytes, file: str) -> Loaded:
    """The desired state in one YAML document; `file` is the name that complaints carry."""
    tree, complaints = composed(text, file)
    return _loaded([tree] if tree is not None else [], complaints)


def load_files(paths: Sequence[Path]) -> Loaded:
    """The desired state of one device in one or more files, merged in order.

    Mappings and entries with the same key are merged leaf by leaf, the later file counts; leaf-lists are replaced;
    entries of numbered lists (rules) without a sequence are appended.
    """
    trees: list[Tree] = []
    complaints: list[Diagnostic] = []
    for path in paths:
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            complaints.append(_unreadable(Path(path), error))
            continue
        tree, found = composed(text, str(path))
        complaints += found
        if tree is not None:
            trees.append(tree)
    return _loaded(trees, complaints)


def _unreadable(path: Path, error: OSError) -> Diagnostic:
    if isinstance(error, FileNotFoundError):
        near = sorted(other.name for other in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        hint = f"in {path.parent} there is {', '.join(near[:5])}" if near else "give the path of the desired state"
        return Diagnostic(code="file/missing", message="there is no such file", hint=hint, file=str(path))
    return Diagnostic(code="file/unreadable", message=f"cannot be read: {error.strerror}", hint="give a readable file of YAML text", file=str(path))


def _loaded(trees: list[Tree], complaints: list[Diagnostic]) -> Loaded:
    if not trees:
        return Loaded(None, tuple(in_order(complaints)))
    tree = functools.reduce(lambda a, b: merged(DeviceConfig, a, b), trees)
    places = Places(tree)
    document = plain(tree)
    found = list(complaints)
    problems: list[Place] = []

    def complain(place: Place, code: str, message: str, hint: str | None) -> None:
        problems.append(place)
        found.append(_placed(places, place, code, message, hint))

    config = build(DeviceConfig, document, complain)
    _empty_lists(DeviceConfig, tree, (), complain)
    for place, message, hint in _against_schema(document, tree, problems):
        complain(place, "schema/invalid", message, hint)
    told = list(found)
    found += [places.put(finding) for finding in check(_whole(config)) if not _follows(finding, told)]
    found = in_order(list(dict.fromkeys(found)))
    if any(finding.is_error for finding in found):
        return Loaded(None, tuple(found))
    return Loaded(config, tuple(found), tuple(_echoes(DeviceConfig, tree, (), places)), places)


def _placed(places: Places, place: Place, code: str, message: str, hint: str | None) -> Diagnostic:
    path = places.path(place)
    mark = places.key_mark(place) if code in {"key/unknown", "type/empty"} else places.mark(place)
    if code == "key/repeated":
        first = places.first(path)
        code, message, hint = _repeated(places, place, first, message, hint)
    return Diagnostic(code=code, path=path, message=message, hint=hint, file=mark.file, line=mark.line, column=mark.column)


def _repeated(places: Places, place: Place, first: Place | None, message: str, hint: str | None) -> tuple[str, str, str | None]:
    """A second entry with the key of the first; in both roles, when it is an interface that is upstream only once."""
    if first is None:
        return "key/repeated", message, hint
    message += f"; the first is on line {places.mark(first).line}"
    one, two = places.tree(first), places.tree(place)
    roles = {_truth(tree.items["upstream"][1]) if isinstance(tree, Mapping) and "upstream" in tree.items else False for tree in (one, two)}
    if places.path(place).rpartition("/")[2].startswith("interfaces[") and len(roles) == 2:
        name = places.path(place).rpartition("[")[2].rstrip("]")
        message = f"{name} is upstream and downstream at once; its other entry is on line {places.mark(first).line}"
        return "interface/both-roles", message, "an interface has one role; remove one of the two entries"
    return "key/repeated", message, hint


def _truth(tree: Tree) -> bool:
    return isinstance(tree, Scalar) and (tree.value is True or str(tree.value).lower() in {"yes", "true", "on"})


def _whole(config: DeviceConfig) -> DeviceConfig:
    """The configuration without the entries that could not be read wholly: the rules rely on keys."""
    result: DeviceConfig = _pruned(config)
    return canonical(result)


def _pruned(model: Any) -> Any:
    changes: dict[str, Any] = {}
    for n in nodes(type(model)):
        value = getattr(model, n.attr)
        if n.kind == "list":
            whole = tuple(_pruned(entry) for entry in value if all(getattr(entry, inner.attr) is not None for inner in nodes(n.cls) if inner.required))
            changes[n.attr] = whole
        elif n.kind == "container" and value is not None:
            changes[n.attr] = _pruned(value)
    return replace(model, **changes)


def _follows(finding: Diagnostic, told: list[Diagnostic]) -> bool:
    """The finding was told already, or may only be the echo of something that could not be read."""
    if any(d.code == finding.code and d.path.startswith(finding.path) for d in told):
        return True
    top = finding.path.partition("/")[0]
    near = [d.path for d in told if d.path.partition("/")[0] == top or d.path in {"", "/"}]
    if finding.code in FOLLOWING:
        return bool(near)
    return finding.code.startswith("querier/") and any(path.endswith(("-interval", "robustness")) for path in near)


def _empty_lists(cls: Any, tree: Tree, place: Place, complain: Any) -> None:
    """`family: []` cannot mean "none": absent and empty are one in the model, and the default applies."""
    if not isinstance(tree, Mapping):
        return
    for n in nodes(cls):
        if n.name not in tree.items:
            continue
        here = (*place, n.name)
        value = tree.items[n.name][1]
        if n.kind == "leaf-list" and isinstance(value, Listing) and not value.items and n.default:
            assert n.type is not None
            default = ", ".join(n.type.text(one) for one in n.default)
            complain(here, "list/empty", f"{n.name} is an empty list, which would mean its default ({default})", "remove the line, or name at least one")
        elif n.kind == "container":
            _empty_lists(n.cls, value, here, complain)
        elif n.kind == "list":
            for i, entry in enumerate(value.items) if isinstance(value, Listing) else ():
                _empty_lists(n.cls, entry, (*here, i), complain)
            if isinstance(value, Mapping):
                _empty_lists(n.cls, value, here, complain)


def _against_schema(document: Any, tree: Tree, told: list[Place]) -> list[tuple[Place, str, str | None]]:
    """What the JSON Schema refuses at places that nobody complained about yet."""
    found: dict[Place, tuple[Place, str, str | None]] = {}
    for error in _single_errors(_validator().iter_errors(document)):
        here = tuple(error.absolute_path)
        if not any(place[: len(here)] == here or here[: len(place)] == place for place in told):
            found.setdefault(here, (here, *_said(error, here, tree)))
    return list(found.values())


@functools.cache
def _validator() -> Any:
    return jsonschema.Draft202012Validator(json_schema())


def _single_errors(errors: Iterable[Any]) -> Iterator[Any]:
    """What alternatives hide: of each `anyOf`, the errors of the branch that has the right shape."""
    for error in errors:
        branches: dict[Any, list[Any]] = {}
        for inner in error.context or ():
            branches.setdefault(inner.schema_path[0], []).append(inner)
        depth = len(error.absolute_path)
        shaped = [branch for branch in branches.values() if not any(inner.validator == "type" and len(inner.absolute_path) == depth for inner in branch)]
        if len(shaped) == 1:
            yield from _single_errors(shaped[0])
        else:
            yield error


def _said(error: Any, place: Place, tree: Tree) -> tuple[str, str | None]:
    n = _node_at(place)
    if n is None or n.type is None:
        return f"does not fit the schema: {error.message[:200]}", "igmpconf schema prints what is expected"
    written = Places(tree).tree(place)
    value = error.instance
    hint = f"write it as it is shown by igmpconf explain {n.name}"
    if isinstance(value, str) and isinstance(written, Scalar):
        number = value.strip().lstrip("+")
        hint = (
            f"write {number} without quotes"
            if number.isdigit() and number == (number.lstrip("0") or "0")
            else f"write it plainly: expected {n.type.described()}"
        )
    return f"{shown(value)} does not fit {n.name}: expected {n.type.described()}", hint


def _node_at(place: Place) -> Node | None:
    cls: Any = DeviceConfig
    found: Node | None = None
    for step in place:
        if isinstance(step, str):
            found = next((n for n in nodes(cls) if n.name == step), None) if cls is not None else None
            cls = found.cls if found is not None else None
    return found


def _echoes(cls: Any, tree: Tree, place: Place, places: Places) -> list[Echo]:
    if not isinstance(tree, Mapping):
        return []
    found: list[Echo] = []
    for name, (_, value) in tree.items.items():
        n = next((n for n in nodes(cls) if n.name == name), None)
        here: Place = (*place, name)
        if n is None:
            continue
        if n.kind == "leaf" and isinstance(n.type, Duration) and isinstance(value, Scalar):
            try:
                canonical_text = n.type.text(n.type.parse(value.value))
            except LeafError:
                continue
            if canonical_text != value.written:
                found.append(Echo(places.path(here), value.written, canonical_text))
        elif n.kind == "container":
            found += _echoes(n.cls, value, here, places)
        elif n.kind == "list":
            for i, entry in enumerate(value.items) if isinstance(value, Listing) else ():
                found += _echoes(n.cls, entry, (*here, i), places)
            found += _echoes(n.cls, value, here, places)
    return found


# -- writing ---------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002
        super().increase_indent(flow, False)  # lists are indented below their key, as people write them


def _represent_bool(dumper: yaml.SafeDumper, value: bool) -> yaml.ScalarNode:  # noqa: FBT001
    return dumper.represent_scalar("tag:yaml.org,2002:bool", "yes" if value else "no")


_Dumper.add_representer(bool, _represent_bool)


def dump(config: DeviceConfig) -> str:
    """YAML that `load_text` reads back to the same configuration; the same text every time."""
    document = _without_numbers(DeviceConfig, to_plain(canonical(config)))
    if not document:
        return "{}\n"
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True))


def _without_numbers(cls: Any, document: dict[str, Any]) -> dict[str, Any]:
    """Sequences that merely count are left out: the position says them."""
    for n in nodes(cls):
        if n.name not in document or n.cls is None:
            continue
        entries = document[n.name] if n.kind == "list" else [document[n.name]]
        for entry in entries:
            _without_numbers(n.cls, entry)
        if n.numbered is not None and [entry[n.numbered] for entry in entries] == list(range(1, len(entries) + 1)):
            for entry in entries:
                del entry[n.numbered]
    return document
