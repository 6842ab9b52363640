"""Notes become lines a moment later: in order, with their time, and at once when they are urgent."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from igmpconf.agent.worker import Unhurried, _log_note
from igmpconf.engine.effects import Note
from igmpconf.observe.log import BookHandler, LogBook


@pytest.fixture
def told():
    return []


@pytest.fixture
def notes(told):
    loop = asyncio.new_event_loop()
    made = Unhurried(lambda note, at_s: told.append((note.event, at_s)), loop)
    made.loop = loop
    yield made
    loop.close()


def test_they_wait_and_keep_their_time(notes, told):
    before = time.time()
    notes(Note("info", "membership/joined"))
    after = time.time()
    notes(Note("debug", "packet/rejected"))
    assert told == []
    notes.loop.run_until_complete(asyncio.sleep(0.05))
    assert [event for event, _ in told] == ["membership/joined", "packet/rejected"]
    assert before <= told[0][1] <= after


@pytest.mark.parametrize("level", ["warning", "error"])
def test_an_urgent_one_takes_those_before_it_along(notes, told, level):
    notes(Note("info", "membership/joined"))
    notes(Note(level, "kernel/refused"))
    assert [event for event, _ in told] == ["membership/joined", "kernel/refused"]
    notes.loop.run_until_complete(asyncio.sleep(0.03))
    assert len(told) == 2


def test_many_do_not_pile_up(notes, told):
    for _ in range(5_000):
        notes(Note("info", "membership/joined"))
    assert len(told) >= 4_000


def test_the_line_has_the_time_of_the_note():
    book = LogBook()
    handler = BookHandler(book)
    logger = logging.getLogger("igmpconf.engine")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        _log_note(Note("info", "membership/joined", {"group": "239.1.1.1"}), 1_000_000.125)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert [line.time for line in book.page().lines] == ["1970-01-12T13:46:40.125Z"]


def test_what_a_burst_leaves_out_is_counted_without_a_record():
    book = LogBook(clock_ms=lambda: now[0])
    now = [0]
    handler = BookHandler(book)
    records = []
    handler.addFilter(lambda record: records.append(record) is None)
    program, logger = logging.getLogger("igmpconf"), logging.getLogger("igmpconf.engine")
    level = logger.level
    program.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        for number in range(1_000):
            _log_note(Note("info", "membership/joined", {"group": str(number)}))
        assert len(records) == 200
        now[0] = 1_000
        _log_note(Note("info", "membership/joined", {"group": "another"}))
        assert book.page().lines[-1].repeated == 800
        for number in range(300):
            _log_note(Note("warning", "kernel/refused", {"about": str(number)}))
        assert len(records) == 501
    finally:
        program.removeHandler(handler)
        logger.setLevel(level)
