"""Every line of the reference manual has a test or a reason, every claim names a line, and the printed page is fresh."""

from __future__ import annotations

import pytest

from tests.docs.claims import ASPECTS, claims
from tests.docs.manual import PAGE, page
from tests.docs.manual_lines import ELSEWHERE, LINES, SECTIONS


def test_every_line_has_a_test_or_a_reason_and_not_both():
    tested = set(claims(LINES))
    assert set(LINES) - tested - set(ELSEWHERE) == set()
    assert set(ELSEWHERE) & tested == set()
    assert set(ELSEWHERE) <= set(LINES)


def test_sections_hold_every_line_once():
    assert [f"R{number:03d}" for first, last in SECTIONS.values() for number in range(first, last + 1)] == list(LINES)


@pytest.mark.parametrize("one", ["R059"])
def test_claims_say_only_known_aspects(one):
    assert all(set(claim.aspects) <= set(ASPECTS) and claim.aspects for claim in claims(LINES).get(one, []))


def test_the_page_is_fresh():
    assert PAGE.read_text() == page(), "run: python -m tests.docs.manual"
