"""One complaint about what somebody wrote: where it is, what it is, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """A finding; `code` is stable (`querier/response-exceeds-interval`), `path` is keyed (model/path.py).

    `file`, `line` and `column` (from 1) are None where the finding did not come from a file.  `related` are the keyed
    paths of what it is about as well, such as the other upstream.
    """

    severity: Severity = "error"
    code: str
    path: str = ""
    message: str
    hint: str | None = None
    file: str | None = None
    line: int | None = None
    column: int | None = None
    related: tuple[str, ...] = ()

    @property
    def is_error(self) -> bool:
        return self.severity == "error"

    def text(self) -> str:
        """`file:line:column: error: path: message [code]`, and the hint on a line of its own."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        where = f"{place}: " if place else ""
        what = f"{self.path}: " if self.path not in {"", "/"} else ""
        hint = f"\n    hint: {self.hint}" if self.hint else ""
        return f"{where}{self.severity}: {what}{self.message} [{self.code}]{hint}"

    def to_plain(self) -> dict[str, Any]:
        """For JSON: every field that is set, under its own name."""
        plain: dict[str, Any] = {
            "severity": self.severity,
            "code": self.code,
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "related": list(self.related) or None,
        }
        return {name: value for name, value in plain.items() if value is not None}


def in_order(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    """By file, line and column, as an editor would list them; what has no place comes last."""
    return sorted(diagnostics, key=lambda d: (d.file is None, d.file or "", d.line is None, d.line or 0, d.column or 0, d.path, d.code))
