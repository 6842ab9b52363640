"""Every counter and log event of the engine is documented, nothing else is, and the printed page is fresh."""

from __future__ import annotations

import ast
import re

import pytest

from igmpconf.agent import causes
from igmpconf.engine.vocabulary import COUNTERS, NOTES, counter_meaning
from igmpconf.linux.guard import FOREIGN_SOURCE, LOCAL_GROUP
from igmpconf.linux.vifcount import NAMES as STREAM_COUNTERS
from tests.docs.vocabulary import PAGE, ROOT, page, said_in_code, strings


def test_the_vocabulary_is_what_the_code_says():
    events, counters = said_in_code()
    assert events == set(NOTES)
    assert counters | {FOREIGN_SOURCE, LOCAL_GROUP, *STREAM_COUNTERS} == {name for name in COUNTERS if not name.endswith("-v*")}


@pytest.mark.parametrize(("name", "known"), [("sent-query-v3", True), ("rejected-checksum", True), ("sent-query", False), ("rejected-nonsense", False)])
def test_a_counter_has_a_meaning(name, known):
    assert (counter_meaning(name) is not None) is known


def test_the_page_is_fresh():
    assert PAGE.read_text() == page(), "run: python -m tests.docs.vocabulary"


def test_every_log_event_of_the_agent_has_a_meaning():
    said = {text for text, parent in strings(ROOT / "igmpconf" / "agent" / "causes.py") if isinstance(parent, ast.Call) and re.fullmatch("[a-z]+/[a-z]+", text)}
    assert said == set(causes.NOTES)
