"""Every eighth call is struck, another eighth for each fault and scenario, unless FAULTS=all (`make faults`) asks for every one."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

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


@pytest.fixture(autouse=True)
def _counted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """The summary of the run tells how many cases there were."""
    CASES.clear()
    LEFT_OUT.clear()
    yield
    record_property("cases", dict(CASES))
    record_property("left out", dict(LEFT_OUT))


@pytest.fixture(autouse=True)
def _quiet():
    """Thousands of lives of an agent say nothing that anybody reads."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
