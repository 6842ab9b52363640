"""How many cases there were: a matrix that shrinks unseen proves nothing.

Every eighth call is struck, another eighth for each fault and scenario, unless FAULTS=all (`make faults`) asks for every one.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

CASES: Counter[str] = Counter()
LEFT_OUT: Counter[str] = Counter()
EVERY = 1 if os.environ.get("FAULTS") == "all" else 8


def struck(kind: str, places: Sequence[int], offset: int) -> Iterator[int]:
    """The places that this run strikes; all are counted."""
    for number, place in enumerate(places):
        if (number + offset) % EVERY:
            LEFT_OUT[kind] += 1
        else:
            CASES[kind] += 1
            yield place


def pytest_terminal_summary(terminalreporter) -> None:
    if CASES:
        terminalreporter.write_line(f"faults: {CASES.total()} cases (" + ", ".join(f"{kind} {count}" for kind, count in CASES.items()) + ")")
    if LEFT_OUT:
        terminalreporter.write_line(f"faults: {LEFT_OUT.total()} more with FAULTS=all")


@pytest.fixture(autouse=True)
def _quiet():
    """Thousands of lives of an agent say nothing that anybody reads."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
