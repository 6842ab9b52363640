r"""RouterOS' command language, as far as configuration files use it.

    # a comment                                         left out
    /routing igmp-proxy interface                       a path alone holds for the lines below it (`/export` writes so)
    add interface=ether1 upstream=yes \
        comment="to the provider"                       a backslash continues a line; quotes keep blanks, \" \\ \n inside
    /routing/igmp-proxy/interface set [find upstream=no] query-interval=1m; print      slashes as in version 7; `;` separates

A `Command` is words, not meaning: `routeros.py` knows what they do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

VERBS = frozenset(
    "add set enable disable remove unset print export move comment edit find get reset reset-counters monitor quick start stop".split()  # noqa: SIM905 - a list of words
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "_": " "}
_BARE_END = frozenset(" \t\r\n;")


class ScriptError(ValueError):
    """What stands at `line` is no command."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Command:
    """`path` is ("routing", "igmp-proxy", "interface"); `query` what stands in `[find ...]`, None without one."""

    line: int
    path: tuple[str, ...]
    verb: str
    items: tuple[str, ...]  # arguments without a name
    values: tuple[tuple[str, str], ...]  # name=value
    query: tuple[tuple[str, str], ...] | None
    unread: tuple[str, ...] = ()  # words of the query that are no name=value


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    is_quoted: bool
    line: int


def commands(text: str) -> Iterator[Command | ScriptError]:
    """Every command in order; what cannot be read comes as an error in its place."""
    path: tuple[str, ...] = ()
    for statement in _statements(text):
        if isinstance(statement, ScriptError):
            yield statement
            continue
        line = statement[0].line
        first = statement[0].text
        if first.startswith(":"):
            yield ScriptError(line, f"{first}: scripts are not understood")
            continue
        here, rest = (path, statement)
        if first.startswith("/"):
            here, rest = (), [_Word(first[1:], is_quoted=False, line=line), *statement[1:]]
        steps: list[str] = []
        while rest and not rest[0].is_quoted and "=" not in rest[0].text and not rest[0].text.startswith("["):
            found = [step for step in rest[0].text.split("/") if step]
            if found and found[-1] in VERBS:
                break
            steps += found
            rest = rest[1:]
        if rest and "/" in rest[0].text and "=" not in rest[0].text:  # /routing/igmp-proxy/interface/add
            *more, verb = [step for step in rest[0].text.split("/") if step]
            steps += more
            rest = [_Word(verb, is_quoted=False, line=rest[0].line), *rest[1:]]
        here = (*here, *steps)
        if not rest:
            path = here
            continue
        if "=" in rest[0].text or rest[0].text.startswith("["):
            yield ScriptError(line, f"no command before {rest[0].text!r}")
            continue
        yield _command(line, here, rest[0].text, rest[1:])


def _command(line: int, path: tuple[str, ...], verb: str, words: list[_Word]) -> Command | ScriptError:
    items: list[str] = []
    values: list[tuple[str, str]] = []
    query: list[tuple[str, str]] | None = None
    unread: list[str] = []
    for word in words:
        if word.text.startswith("[") and not word.is_quoted:
            inner = [piece for piece in _statements(word.text[1:-1], word.line) if not isinstance(piece, ScriptError)]
            if len(inner) != 1 or inner[0][0].text != "find":
                return ScriptError(line, f"{word.text}: only [find ...] is understood")
            query = []
            for part in inner[0][1:]:
                name, sign, value = part.text.partition("=")
                if sign and re.fullmatch(r"[a-z0-9-]+", name):
                    query.append((name, value))
                elif part.text not in {"where", "and"}:
                    unread.append(part.text)
            continue
        name, sign, value = word.text.partition("=")
        if sign and re.fullmatch(r"[a-z0-9.-]+", name):
            values.append((name, value))
        else:
            items.append(word.text)
    return Command(line, path, verb, tuple(items), tuple(values), None if query is None else tuple(query), tuple(unread))


def _statements(text: str, line: int = 1) -> Iterator[list[_Word] | ScriptError]:
    """Words up to the end of line or `;`, with quotes resolved and brackets kept whole."""
    words: list[_Word] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char in "\n;":
            if words:
                yield words
            words = []
            line += char == "\n"
            at += 1
        elif char in " \t\r":
            at += 1
        elif (skipped := _continuation(text, at)) is not None:
            at, line = skipped, line + 1
        elif char == "#" and not words:
            at = text.find("\n", at) if "\n" in text[at:] else len(text)
        else:
            start = line
            try:
                word, at, line = _word(text, at, line)
            except ScriptError as error:
                yield error
                words = []
                rest = text.find("\n", at)
                at = len(text) if rest < 0 else rest
                continue
            words.append(_Word(word[0], word[1], start))
    if words:
        yield words


def _continuation(text: str, at: int) -> int | None:
    """Where text goes on after a backslash at the end of a line, blanks that indent the next one left out."""
    found = re.compile(r"\\\r?\n[ \t]*").match(text, at)
    return found.end() if found is not None else None


def _word(text: str, at: int, line: int) -> tuple[tuple[str, bool], int, int]:
    out: list[str] = []
    is_quoted = False
    began = line
    while at < len(text) and text[at] not in _BARE_END:
        char = text[at]
        if char == '"':
            is_quoted = is_quoted or not out
            piece, at, line = _quoted(text, at, line)
            out.append(piece)
        elif char == "[":
            end = _bracket_end(text, at)
            if end is None:
                raise ScriptError(began, "a [ without its ]")
            piece = re.sub(r"\\\r?\n[ \t]*", " ", text[at:end])
            line += text.count("\n", at, end)
            out.append(piece)
            at = end
        elif (skipped := _continuation(text, at)) is not None:  # /export breaks long values anywhere
            at, line = skipped, line + 1
        else:
            out.append(char)
            at += 1
    return ("".join(out), is_quoted), at, line


def _quoted(text: str, at: int, line: int) -> tuple[str, int, int]:
    out: list[str] = []
    began = line
    at += 1
    while at < len(text):
        char = text[at]
        if char == '"':
            return "".join(out), at + 1, line
        if (skipped := _continuation(text, at)) is not None:
            at, line = skipped, line + 1
        elif char == "\\" and at + 1 < len(text):
            code = re.compile(r"\\([0-9A-F]{2})").match(text, at)
            out.append(chr(int(code[1], 16)) if code else _ESCAPES.get(text[at + 1], text[at + 1]))
            at += 3 if code else 2
        else:
            out.append(char)
            line += char == "\n"
            at += 1
    raise ScriptError(began, 'a " without its partner')


def _bracket_end(text: str, at: int) -> int | None:
    depth = 0
    in_quotes = False
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == '"':
            in_quotes = not in_quotes
        elif not in_quotes and char in "[]":
            depth += 1 if char == "[" else -1
            if depth == 0:
                return at + 1
        at += 1
    return None
