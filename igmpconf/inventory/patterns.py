"""Ansible's host patterns, as --limit takes them: `hotel:&north:!room-101`, `room*`, `~room-(1|2)\\d+`, `hotel[0:2]`, `@retry.txt`.

Parts are joined by `,` or `:`.  Those without a sign are added up, then those with `&` keep what they have in common,
then those with `!` are taken away, wherever they stand.  A subscript counts within what its part matches: `[0]` the
first, `[-1]` the last, `[1:3]` the second to the fourth, `[2:]` all from the third.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from igmpconf.errors import InputError
from igmpconf.inventory.merge import Group, members

_PIECE = re.compile(r"(?:[^\s:\[\]]|\[[^\]]*\])+")  # up to a colon that is in no brackets
_SUBSCRIPT = re.compile(r"(.+)\[(?:(-?\d+)|(\d+)([:-])(\d*))\]")
_GLOB = re.compile(r"[.?*\[]")


def selected(pattern: str, groups: Mapping[str, Group], hosts: Sequence[str], *, where: str) -> set[str]:
    """The hosts that a pattern means, of `hosts` in the order in which the files name them; `where` is the inventory's name for messages.

    A part that matches nothing is an error and not a warning as in Ansible: a mistyped `!room` would change that room.
    Raises InputError.
    """
    chooser = _Chooser(groups, hosts, where)
    parts = list(_parts(pattern, {*groups, *hosts}))
    chosen: list[str] = []
    for part in [p for p in parts if p[0] not in "!&"] or ["all"]:
        chosen += chooser.matching(part)
    for sign in "&!":
        for part in parts:
            if part[0] == sign:
                those = set(chooser.matching(part[1:]))
                chosen = [host for host in chosen if (host in those) == (sign == "&")]
    if not chosen:
        raise InputError(f"{pattern!r} leaves no host of {where}", hint=f"hosts: {some(hosts)}")
    return set(chosen)


def _parts(pattern: str, known: set[str]) -> Iterable[str]:
    if pattern in known:
        pieces = [pattern]  # an IPv6 address, perhaps
    elif "," in pattern:
        pieces = [piece.strip() for piece in pattern.split(",")]
    else:
        pieces = _PIECE.findall(pattern)
    for piece in pieces:
        if piece.startswith("@"):
            yield from _lines(Path(piece[1:]))
        elif piece:
            yield piece


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise InputError(f"the limit file {path} cannot be read: {why}", hint="it holds a pattern a line") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


class _Chooser:
    def __init__(self, groups: Mapping[str, Group], hosts: Sequence[str], where: str) -> None:
        self._groups = groups
        self._hosts = hosts
        self._where = where

    def matching(self, part: str) -> list[str]:
        """The hosts of one part without its sign.  Raises InputError."""
        if part in self._hosts:
            return [part]
        found = _SUBSCRIPT.fullmatch(part) if not part.startswith("~") else None
        if found is None:
            return self._named(part)
        return _subscripted(self._named(found[1]) if found[4] != "-" else [], found, part)

    def _named(self, expression: str) -> list[str]:
        matches = _matcher(expression)
        groups = [name for name in self._groups if matches(name)]
        found = [host for name in groups for host in members(self._groups, name)]
        if not groups or expression.startswith("~") or _GLOB.search(expression):
            found += [host for host in self._hosts if matches(host)]
        if not found and not groups:
            hint = f"hosts: {some(self._hosts)}; groups: {some(self._groups)}"
            raise InputError(f"no host or group {expression!r} in {self._where}", hint=hint)
        return found


def _matcher(expression: str) -> Callable[[str], object]:
    try:
        return re.compile(expression[1:] if expression.startswith("~") else fnmatch.translate(expression)).match
    except re.error as error:
        raise InputError(f"{expression!r} is no regular expression: {error}") from None


def _subscripted(hosts: list[str], subscript: re.Match[str], part: str) -> list[str]:
    _, index, first, sign, last = subscript.groups()
    if sign == "-":
        raise InputError(
            f"{part!r}: a subscript with a dash chooses nothing", hint=f"[{first}:{last}] counts hosts; of a range of signs in a name make a regex, ~{part}"
        )
    if index is None:
        return hosts[int(first) : int(last) + 1 if last else None]
    if not -len(hosts) <= int(index) < len(hosts):
        raise InputError(f"{part!r} counts beyond the {len(hosts)} hosts that it matches", hint="[0] is the first, [-1] the last")
    return [hosts[int(index)]]


def some(names: Iterable[str]) -> str:
    """The first eight names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "") if listed else "none"
