"""Prints docs/reference/counters.md: `python -m tests.docs.vocabulary`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from igmpconf.agent import causes
from igmpconf.engine.vocabulary import COUNTERS, NOTES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "counters.md"
_EVENT = re.compile(r"[a-z]+/[a-z-]+")


def strings(path: Path) -> list[tuple[str, ast.AST]]:
    """Every string constant of a module outside docstrings, with the call or subscript it stands in."""
    found: list[tuple[str, ast.AST]] = []
    for parent in ast.walk(ast.parse(path.read_text())):
        children = () if isinstance(parent, ast.Expr) else ast.iter_child_nodes(parent)
        found += [(child.value, parent) for child in children if isinstance(child, ast.Constant) and isinstance(child.value, str)]
    return found


def said_in_code() -> tuple[set[str], set[str]]:
    """(log events, reasons and fixed counter names) that the engine's code says."""
    events: set[str] = set()
    counters: set[str] = set()
    for path in sorted((ROOT / "igmpconf" / "engine").rglob("*.py")):
        if path.name == "vocabulary.py":
            continue
        for text, parent in strings(path):
            if isinstance(parent, ast.Call):
                called = parent.func.attr if isinstance(parent.func, ast.Attribute) else getattr(parent.func, "id", "")
                if called in {"note", "note_rarely"} and _EVENT.fullmatch(text):
                    events.add(text)
                elif called in {"reject", "WireError"} and re.fullmatch(r"[a-z-]+", text) and not text.startswith("ip-"):
                    counters.add("rejected-" + text)
                elif called == "_count":
                    counters.add(text)
            elif isinstance(parent, ast.Subscript) and re.fullmatch(r"[a-z]+-[a-z0-9-]+", text):
                counters.add(text)
    return events, counters


def page() -> str:
    """The whole page."""
    lines = [
        "# Counters and log events",
        "",
        "Printed from `igmpconf/engine/vocabulary.py`; not edited by hand (`python -m tests.docs.vocabulary`).",
        "",
        "## Counters of an interface",
        "",
        "`igmpconf show counters` shows them. A `*` stands for a protocol version: IGMP 1 to 3, MLD 1 and 2.",
        "",
        "| counter | what it counts |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, meaning in sorted(COUNTERS.items())),
        "",
        "## Log events of the engine",
        "",
        "`igmpconf logs` shows them. The same event about the same thing comes at most once a minute where strangers could cause it.",
        "",
        "| event | what happened |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, meaning in sorted(NOTES.items())),
        "",
        "## Log events of the agent around it",
        "",
        "| event | what happened |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, meaning in sorted(causes.NOTES.items())),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
