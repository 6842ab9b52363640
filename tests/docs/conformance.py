"""Prints docs/reference/conformance.md and conformance-netconf.md: `python -m tests.docs.conformance` (`--check`: says if they are stale)."""

from __future__ import annotations

import sys
from collections.abc import Container
from pathlib import Path

from tests.conformance import netconf_requirements
from tests.conformance.requirements import SECTIONS, SOURCES, TITLES
from tests.docs.claims import ROOT
from tests.docs.claims import claims as all_claims

PAGE = ROOT / "docs" / "reference" / "conformance.md"
NETCONF_PAGE = ROOT / "docs" / "reference" / "conformance-netconf.md"


def claims(known: Container[str] = TITLES) -> dict[str, list[str]]:
    """Every test that claims an id, by decorator, in the ids of its table or in its name, as `file::name`."""
    return {one: [claim.test for claim in found] for one, found in all_claims(known).items()}


def _foremost(tests: list[str]) -> str:
    """The test to name where there are several: the nearest to the requirement, so that the page changes rarely."""
    rooms = ("tests/conformance/", "tests/engine/", "tests/")
    return next(test for room in rooms for test in tests if test.startswith(room)).rpartition("::")[2]


def _row(one: str, title: str, source: str, tests: list[str], elsewhere: str) -> str:
    return f"| {one} | {title} | {source} | {f'`{_foremost(tests)}`' if tests else elsewhere} |"


def page() -> str:
    """The page of IGMP and MLD."""
    found = claims()
    tested = sum(1 for one in TITLES if one in found)
    lines = [
        "# Conformance: IGMP, MLD and the proxy between them",
        "",
        "Printed from the tests; not edited by hand (`python -m tests.docs.conformance`).",
        "",
        f"{len(TITLES)} requirements, {tested} with tests of their own, one of which is named here; `pytest -k UP-05` runs all",
        "tests of one, those on the kernel too.",
    ]
    for prefix, title in SECTIONS.items():
        lines += ["", f"## {title}", "", "| id | requirement | source | test |", "|---|---|---|---|"]
        for one in TITLES:
            if one.startswith(prefix + "-"):
                lines.append(_row(one, TITLES[one], SOURCES[one], found.get(one, []), "**none**"))
    return "\n".join(lines) + "\n"


def netconf_page() -> str:
    """The page of NETCONF."""
    titles, sources = netconf_requirements.TITLES, netconf_requirements.SOURCES
    found = claims(titles)
    tested = sum(1 for one in titles if one in found)
    lines = [
        "# Conformance: the NETCONF server",
        "",
        "Printed from the tests; not edited by hand (`python -m tests.docs.conformance`).",
        "",
        f"{len(titles)} requirements, {tested} with tests of their own, one of which is named here. What has none says why.",
    ]
    for title, (first, last) in netconf_requirements.SECTIONS.items():
        lines += ["", f"## {title}", "", "| id | requirement | source | test |", "|---|---|---|---|"]
        for one in titles:
            if first <= int(one.removeprefix("NC-")) <= last:
                elsewhere = netconf_requirements.ELSEWHERE.get(one, "**none**")
                lines.append(_row(one, titles[one], sources[one], found.get(one, []), elsewhere))
    return "\n".join(lines) + "\n"


def main() -> int:
    pages: dict[Path, str] = {PAGE: page(), NETCONF_PAGE: netconf_page()}
    if "--check" in sys.argv:
        return 0 if all(path.exists() and path.read_text() == text for path, text in pages.items()) else 1
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
