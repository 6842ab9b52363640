"""Rows as a table for people: as wide as its widest cell, two spaces between, nothing cut."""

from __future__ import annotations

from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned text with a heading line; numbers are right-aligned."""
    widths = [max(len(heading), *(len(row[i]) for row in rows)) if rows else len(heading) for i, heading in enumerate(headings)]
    is_number = [bool(rows) and all(row[i].isdecimal() or row[i] in {"", "-"} for row in rows) for i in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(cells, widths, is_number, strict=True)).rstrip()

    return "\n".join([line([heading.upper() for heading in headings]), *(line(row) for row in rows)]) + "\n"
