"""Every counter and log event of the engine is documented, nothing else is, and the printed page is fresh."""

from __future__ import annotations

import pytest

from igmpconf.engine.vocabulary import COUNTERS, NOTES, counter_meaning
from tests.docs.vocabulary import PAGE, page, said_in_code


def test_the_vocabulary_is_what_the_code_says():
    events, counters = said_in_code()
    assert events == set(NOTES)
    assert counters == {name for name in COUNTERS if not name.endswith("-v*")}


@pytest.mark.parametrize(("name", "known"), [("sent-query-v3", True), ("rejected-checksum", True), ("sent-query", False), ("rejected-nonsense", False)])
def test_a_counter_has_a_meaning(name, known):
    assert (counter_meaning(name) is not None) is known


def test_the_page_is_fresh():
    assert PAGE.read_text() == page(), "run: python -m tests.docs.vocabulary"
