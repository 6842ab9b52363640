"""Prints docs/reference/conformance.md: `python -m tests.docs.conformance` (with `--check`, only says if it is stale)."""

from __future__ import annotations

import sys

from tests.conformance.requirements import ELSEWHERE, SECTIONS, SOURCES, TITLES
from tests.docs.claims import ROOT
from tests.docs.claims import claims as all_claims

PAGE = ROOT / "docs" / "reference" / "conformance.md"


def claims() -> dict[str, list[str]]:
    """Every test that claims an id, by decorator or in the ids of its table, as `file::name`."""
    return {one: [claim.test for claim in found] for one, found in all_claims(TITLES).items()}


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
