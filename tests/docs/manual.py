"""Prints docs/reference/manual.md: `python -m tests.docs.manual` (with `--check`, only says if it is stale)."""

from __future__ import annotations

import sys

from tests.docs.claims import ASPECTS, ROOT, Claim, claims
from tests.docs.manual_lines import ELSEWHERE, LINES, SECTIONS

PAGE = ROOT / "docs" / "reference" / "manual.md"
_ASPECT_NAMES = {
    "desired": "desired state",
    "plan": "plan with impact",
    "apply": "apply",
    "live": "live state",
    "rollback": "rollback",
    "drift": "drift and repair",
}


def page() -> str:
    """The whole page."""
    found = claims(LINES)
    lines = [
        "# The reference manual, line by line",
        "",
        "Printed from the tests; not edited by hand (`python -m tests.docs.manual`).",
        "",
        f"{len(LINES)} lines, {sum(1 for one in LINES if one in found)} of them shown by tests. For each side of a line one test is named; `pytest -k R059` runs all",
        "that speak for it. What has no test says why.",
    ]
    for title, (first, last) in SECTIONS.items():
        lines += ["", f"## {title}", ""]
        for number in range(first, last + 1):
            one = f"R{number:03d}"
            lines.append(f"* **{one}** {LINES[one]}")
            lines += _shown(found.get(one, [])) or [f"    * {ELSEWHERE.get(one, '**no test yet**')}"]
    return "\n".join(lines) + "\n"


def _shown(found: list[Claim]) -> list[str]:
    """One test for each aspect: the one that shows the fewest others, so that each is named where it says most."""
    shown = []
    for aspect in ASPECTS:
        those = [claim for claim in found if aspect in claim.aspects]
        if those:
            shown.append(f"    * {_ASPECT_NAMES[aspect]}: `{min(those, key=lambda claim: len(claim.aspects)).test}`")
    return shown


def main() -> int:
    text = page()
    if "--check" in sys.argv:
        return 0 if PAGE.exists() and PAGE.read_text() == text else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
