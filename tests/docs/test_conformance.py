"""Every requirement has a test or a reason, every claim names a requirement, and the printed page is fresh."""

from __future__ import annotations

import re

from tests.conformance.requirements import ELSEWHERE, SECTIONS, TITLES
from tests.docs.conformance import PAGE, ROOT, claims, page


def test_every_requirement_has_a_test_or_a_reason_and_not_both():
    tested = set(claims())
    assert set(TITLES) - tested - set(ELSEWHERE) == set()
    assert set(ELSEWHERE) & tested == set()
    assert set(ELSEWHERE) <= set(TITLES)


def test_every_claim_names_a_requirement():
    for path in (ROOT / "tests").rglob("test_*.py"):
        for claimed in re.findall(r"@covers\(([^)]*)\)", path.read_text()):
            for one in re.findall(r'"([^"]+)"', claimed):
                assert one in TITLES, f"{path}: {one}"


def test_sections_hold_everything():
    assert {one.rpartition("-")[0] for one in TITLES} == set(SECTIONS)
    assert len(TITLES) == 215


def test_the_page_is_fresh():
    assert PAGE.read_text() == page(), "run: python -m tests.docs.conformance"
