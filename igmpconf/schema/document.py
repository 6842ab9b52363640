"""YAML text to a tree that remembers where everything stood, and every complaint that YAML itself has.

Values are typed as YAML 1.1 says, save where that would surprise: sexagesimal numbers (`2:05`), octal ones and dates
stay text.  Anchors, aliases and merge keys work within bounds; tags beyond YAML's own are refused.  Nothing here
knows the model.  Controller only (PyYAML).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from igmpconf.schema.diagnostic import Diagnostic

MAX_BYTES = 4 * 1024 * 1024  # a fleet's largest device has some thousand lines
MAX_NODES = 100_000  # after aliases are followed

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = yaml.resolver.Resolver()
_STANDARD = "tag:yaml.org,2002:"
_KNOWN_TAGS = {f"{_STANDARD}{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge", "value")}
_NOT_PRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # YAML 1.1, section 4.1.1
_YES = {"yes", "true", "on"}
_NO = {"no", "false", "off"}


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; both numbers count from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    value: bool | int | float | str | None
    written: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Listing:
    items: tuple[Tree, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Mapping:
    items: dict[str, tuple[Mark, Tree]]  # the mark is the key's
    mark: Mark


Tree = Scalar | Listing | Mapping


def plain(tree: Tree) -> Any:
    """The tree as dicts, lists and scalars."""
    if isinstance(tree, Mapping):
        return {name: plain(inner) for name, (_, inner) in tree.items.items()}
    if isinstance(tree, Listing):
        return [plain(inner) for inner in tree.items]
    return tree.value


def composed(data: bytes, file: str) -> tuple[Tree | None, list[Diagnostic]]:
    """The tree of one YAML document; None when there is none to speak of, and then a complaint says why."""
    text, complaint = _decoded(data, file)
    if text is None:
        return None, [complaint] if complaint is not None else []
    loader = _LOADER(text)
    try:
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        return None, [_syntax(error, text, file)]
    except yaml.YAMLError as error:  # the reader's, without a mark
        return None, [Diagnostic(code="yaml/syntax", message=f"not YAML: {error}", file=file, line=1, column=1)]
    except RecursionError:
        return None, [Diagnostic(code="yaml/too-deep", message="the document is nested too deeply", file=file, line=1, column=1)]
    finally:
        loader.dispose()
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == f"{_STANDARD}null"):
        return None, [_empty(file)]
    walk = _Walk(file)
    try:
        tree = walk.tree(root)
    except _TooMuch as error:
        walk.complaints.append(error.diagnostic)
        return None, walk.complaints
    return tree, walk.complaints


def _empty(file: str) -> Diagnostic:
    hint = "the smallest desired state is  igmp-proxy: {interfaces: [{interface: eth0, upstream: yes}, lan0]}"
    return Diagnostic(code="file/empty", message="the file says nothing; expected a mapping with igmp-proxy", hint=hint, file=file, line=1, column=1)


def _decoded(data: bytes, file: str) -> tuple[str | None, Diagnostic | None]:
    def refused(code: str, message: str, at: int, hint: str | None = None) -> tuple[None, Diagnostic]:
        before = data[:at].decode(errors="replace")
        line = before.count("\n") + 1
        return None, Diagnostic(code=code, message=message, hint=hint, file=file, line=line, column=len(before) - before.rfind("\n"))

    if len(data) > MAX_BYTES:
        return refused("file/too-big", f"the file has {len(data)} bytes, the limit is {MAX_BYTES}", 0)
    if (nul := data.find(b"\0")) >= 0:
        return refused("file/binary", "this is a binary file; expected YAML text in UTF-8", nul, "if it is UTF-16, save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = data[error.start]
        return refused("file/not-utf-8", f"byte 0x{at:02x} is not UTF-8; expected YAML text in UTF-8", error.start, "save the file as UTF-8")
    if (odd := _NOT_PRINTABLE.search(text)) is not None:
        return refused("file/control-character", f"character U+{ord(odd[0]):04X} is not allowed in YAML", len(text[: odd.start()].encode()), "remove it")
    return text, None


_SYNTAX_HINTS = (
    ("mapping values are not allowed", "is the indentation as in the line above? a value that holds ': ' must be quoted"),
    ("expected <block end>", "the line does not stand in the same column as its siblings"),
    ("did not find expected key", "the line does not stand in the same column as its siblings, or a quote or bracket is left open"),
    ("did not find expected '-' indicator", "the '-' of a list must stand in one column"),
    ("could not find expected ':'", "a key is followed by a colon and a space"),
    ("did not find expected ',' or", "a bracket is left open, or a comma is missing"),
    ("expected ',' or", "a bracket is left open, or a comma is missing"),
    ("unexpected end of stream", "a quote is left open"),
    ("alphabetic or numeric character", "'*' and '&' mean something in YAML: write '*' in quotes"),
    ("cannot start any token", "quote the value"),
)


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> Diagnostic:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    problem = error.problem or "not YAML"
    lines = text.split("\n")
    for number in (line, line - 1):  # YAML may notice a line later
        if 0 <= number < len(lines) and (tab := re.match(r" *(?=\t)", lines[number])) is not None:
            hint = "set your editor to write spaces, two a level"
            return Diagnostic(
                code="yaml/tab", message="a tab stands in the indentation; YAML takes spaces only", hint=hint, file=file, line=number + 1, column=tab.end() + 1
            )
    if "single document" in (error.context or ""):
        hint = "one file holds the desired state of one device; remove everything from '---' on"
        return Diagnostic(code="yaml/several-documents", message="a second document begins here", hint=hint, file=file, line=line + 1, column=column + 1)
    hint_found = next((hint for sign, hint in _SYNTAX_HINTS if sign in problem), None)
    context = f" ({error.context})" if error.context else ""
    return Diagnostic(code="yaml/syntax", message=f"not YAML: {problem}{context}", hint=hint_found, file=file, line=line + 1, column=column + 1)


class _TooMuch(Exception):
    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


class _Walk:
    """Follows PyYAML's nodes, aliases included, counting as it goes."""

    def __init__(self, file: str) -> None:
        self.complaints: list[Diagnostic] = []
        self._file = file
        self._left = MAX_NODES
        self._open: set[int] = set()

    def mark(self, node: yaml.Node) -> Mark:
        return Mark(self._file, node.start_mark.line + 1, node.start_mark.column + 1)

    def complain(self, node: yaml.Node, code: str, message: str, hint: str | None = None) -> Diagnostic:
        at = self.mark(node)
        found = Diagnostic(code=code, message=message, hint=hint, file=at.file, line=at.line, column=at.column)
        self.complaints.append(found)
        return found

    def tree(self, node: yaml.Node) -> Tree:
        self._left -= 1
        if self._left < 0:
            hint = "write the repeated part out, or split the file"
            at = self.mark(node)
            raise _TooMuch(
                Diagnostic(
                    code="yaml/too-many-nodes",
                    message=f"more than {MAX_NODES} values once aliases are followed",
                    hint=hint,
                    file=at.file,
                    line=at.line,
                    column=at.column,
                )
            )
        if node.tag not in _KNOWN_TAGS:
            self.complain(node, "yaml/tag", f"tag {node.tag.replace(_STANDARD, '!!')} is not allowed", "write the plain value")
            # read on as if it were not there; told once, also where an alias repeats the node
            kinds: dict[Any, str] = {yaml.SequenceNode: f"{_STANDARD}seq", yaml.MappingNode: f"{_STANDARD}map"}
            node.tag = kinds[type(node)] if type(node) in kinds else _RESOLVER.resolve(yaml.ScalarNode, node.value, (True, False))
        if isinstance(node, yaml.ScalarNode):
            return Scalar(_value(node), node.value, self.mark(node))
        if id(node) in self._open:
            at = self.mark(node)
            raise _TooMuch(Diagnostic(code="yaml/recursive", message="an alias stands inside what it names", file=at.file, line=at.line, column=at.column))
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return Listing(tuple(self.tree(inner) for inner in node.value), self.mark(node))
            return self._mapping(node)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node) -> Mapping:
        items: dict[str, tuple[Mark, Tree]] = {}
        merged: dict[str, tuple[Mark, Tree]] = {}
        for key, value in node.value:
            if key.tag == f"{_STANDARD}merge":
                for inner in self._merged(value):
                    merged = {**inner.items, **merged}
            elif not isinstance(key, yaml.ScalarNode):
                self.complain(key, "yaml/key", "a key is a word, not a list or mapping", "a template's {{ }} must be quoted")
            elif key.value in items:
                first = items[key.value][0]
                self.complain(
                    key,
                    "yaml/repeated-key",
                    f"key {key.value!r} stands a second time, the first is on line {first.line}",
                    "put both under one key; YAML would silently keep only the last",
                )
            else:
                items[key.value] = (self.mark(key), self.tree(value))
        return Mapping({**merged, **items} if merged else items, self.mark(node))

    def _merged(self, node: yaml.Node) -> Iterator[Mapping]:
        for inner in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(inner, yaml.MappingNode):
                tree = self.tree(inner)
                assert isinstance(tree, Mapping)
                yield tree
            else:
                self.complain(inner, "yaml/merge", "'<<' merges mappings only", "give it an alias of a mapping")


def _value(node: yaml.ScalarNode) -> bool | int | float | str | None:
    text: str = node.value
    kind = node.tag.removeprefix(_STANDARD)
    if kind == "null" and text.lower() in {"", "~", "null"}:
        return None
    if kind == "bool" and text.lower() in _YES | _NO:
        return text.lower() in _YES
    if kind == "int" and re.fullmatch(r"[+-]?(0|[1-9][0-9]{0,18})", text):
        return int(text)
    if kind == "float" and re.fullmatch(r"[+-]?[0-9]{1,18}\.[0-9]{0,18}", text):
        return float(text)
    return text  # 2:05, 0755, 1_000, 0x1f, dates: what is written, for the leaf to judge
