"""Rows as a table for people, two spaces between, nothing cut; where a width is given, it fits by leaving columns out, or as blocks."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

# Columns that are not worth their width where every row has the same value: which value that is, None for any.
Dull = Mapping[str, Collection[str] | None]

_GAP = 2


def width() -> int | None:
    """Columns of the terminal, or what COLUMNS says; None where the output goes elsewhere and may be as wide as it is."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return int(said)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned text with a heading line; numbers are right-aligned.  A cell of several lines makes its row as high."""
    parts = [[cell.split("\n") for cell in row] for row in rows]
    widths = [max(len(heading), *(len(line) for row in parts for line in row[i])) if rows else len(heading) for i, heading in enumerate(headings)]
    is_number = [bool(rows) and all(row[i].isdecimal() or row[i] in {"", "-"} for row in rows) for i in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        gap = " " * _GAP
        return gap.join(cell.rjust(wide) if right else cell.ljust(wide) for cell, wide, right in zip(cells, widths, is_number, strict=True)).rstrip()

    lines = [line([heading.upper() for heading in headings])]
    for row in parts:
        height = max(len(cell) for cell in row)
        lines += [line([cell[n] if n < len(cell) else "" for cell in row]) for n in range(height)]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A table that fits, and the columns that it had no room for."""

    text: str
    left_out: tuple[str, ...] = ()


def fitted(headings: Sequence[str], rows: Sequence[Sequence[str]], limit: int | None, *, dull: Dull | None = None, optional: Sequence[str] = ()) -> Fitted:
    """The table within `limit` columns.

    What does not fit loses, in this order: `dull` columns, width by lists that go on in the next line, `optional` columns
    from the first on.  What then does not fit, such as IPv6 addresses in every cell, becomes blocks.
    """
    if limit is None or _fits(headings, rows, limit):
        return Fitted(table(headings, rows))
    told = [i for i, name in enumerate(headings) if not _is_dull({row[i] for row in rows}, (dull or {}).get(name, ()))]
    names = [headings[i] for i in told]
    chosen = [[row[i] for i in told] for row in rows]
    if not _fits(names, chosen, limit):
        chosen = [[cell.replace(",", ",\n") for cell in row] for row in chosen]
    left_out: list[str] = []
    for name in [one for one in optional if one in names]:
        if _fits(names, chosen, limit):
            break
        at = names.index(name)
        names = names[:at] + names[at + 1 :]
        chosen = [row[:at] + row[at + 1 :] for row in chosen]
        left_out.append(name)
    if not _fits(names, chosen, limit):
        return Fitted(blocks([list(zip(headings, row, strict=True)) for row in rows], limit))
    return Fitted(table(names, chosen), tuple(left_out))


def _is_dull(values: AbstractSet[str], saying_nothing: Collection[str] | None) -> bool:
    return len(values) == 1 and (saying_nothing is None or values <= set(saying_nothing))


def _fits(headings: Sequence[str], rows: Sequence[Sequence[str]], limit: int) -> bool:
    return max(len(line) for line in table(headings, rows).splitlines()) <= limit


def blocks(rows: Sequence[Sequence[tuple[str, str]]], limit: int | None) -> str:
    """Each row as `name=value` words behind its number, going on in further lines where `limit` is reached."""
    indent = len(str(max(len(rows) - 1, 0))) + _GAP
    lines: list[str] = []
    for number, row in enumerate(rows):
        words = [f"{name.replace('_', '-')}={value}" for name, value in row]
        for n, line in enumerate(_lines(words, None if limit is None else limit - indent)):
            lines.append((str(number).ljust(indent) if n == 0 else " " * indent) + line)
    return "".join(f"{line}\n" for line in lines)


def _lines(words: Sequence[str], limit: int | None) -> Iterator[str]:
    line = ""
    for word in words:
        for n, piece in enumerate(_pieces(word, limit)):
            gap = " " if line and n == 0 else ""
            if line and limit is not None and len(line) + len(gap) + len(piece) > limit:
                yield line
                line, gap = "", ""
            line += gap + piece
    yield line


def _pieces(word: str, limit: int | None) -> list[str]:
    """A list that is longer than a line may go on after each comma."""
    if limit is None or len(word) <= limit:
        return [word]
    parts = word.split(",")
    return [f"{part}," for part in parts[:-1]] + parts[-1:]
