"""Prints docs/reference/conformance.md: `python -m tests.docs.conformance` (with `--check`, only says if it is stale)."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

from tests.conformance.requirements import ELSEWHERE, SECTIONS, SOURCES, TITLES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "conformance.md"
_ID = re.compile(r"\b[A-Z]{2,3}-[0-9]{2}\b")


def claims() -> dict[str, list[str]]:
    """Every test that claims an id, by decorator or in the ids of its table, as `file::name`."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        tables = {
            target.id: _ids_in(node.value) for node in tree.body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)
        }
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef) or not function.name.startswith("test_"):
                continue
            claimed: list[str] = []
            for decorator in function.decorator_list:
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "covers":
                    claimed += _ids_in(decorator)
                elif isinstance(decorator, ast.Call):
                    claimed += [one for name in ast.walk(decorator) if isinstance(name, ast.Name) for one in tables.get(name.id, ())]
            for one in dict.fromkeys(claimed):
                found[one].append(f"{path.relative_to(ROOT)}::{function.name}")
    return found


def _ids_in(node: ast.AST) -> list[str]:
    """Ids at the beginning of the strings below `node`."""
    texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return [match[0] for text in texts if (match := _ID.match(text)) and match[0] in TITLES]


def _foremost(tests: list[str]) -> str:
    """The test to name where there are several: the nearest to the requirement, so that the page changes rarely."""
    rooms = ("tests/conformance/", "tests/engine/", "tests/")
    return next(test for room in rooms for test in tests if test.startswith(room)).rpartition("::")[2]


def page() -> str:
    """The whole page."""
    found = claims()
    tested = sum(1 for one in TITLES if one in found)
    lines = [
        "# Conformance: IGMP, MLD and the proxy between them",
        "",
        "Printed from the tests; not edited by hand (`python -m tests.docs.conformance`).",
        "",
        f"{len(TITLES)} requirements, {tested} with tests of their own, one of which is named here; `pytest -k UP-05` runs all",
        "tests of one, those on the kernel too. What has none says why.",
    ]
    for prefix, title in SECTIONS.items():
        lines += ["", f"## {title}", "", "| id | requirement | source | test |", "|---|---|---|---|"]
        for one in TITLES:
            if one.startswith(prefix + "-"):
                tests = found.get(one, [])
                shown = f"`{_foremost(tests)}`" if tests else ELSEWHERE.get(one, "**none**")
                lines.append(f"| {one} | {TITLES[one]} | {SOURCES[one]} | {shown} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    text = page()
    if "--check" in sys.argv:
        return 0 if PAGE.exists() and PAGE.read_text() == text else 1
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
