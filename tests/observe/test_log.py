"""The ring of the log: topics, levels, bounds, repeats, and reading it in pieces."""

from __future__ import annotations

import logging

import pytest

from igmpconf.model.config import LoggingConfig
from igmpconf.observe.log import BookHandler, LogBook, for_journal, text
from tests.kit.conformance import covers


class Time:
    ms = 0


@pytest.fixture
def now() -> Time:
    return Time()


@pytest.fixture
def book(now) -> LogBook:
    return LogBook(clock_ms=lambda: now.ms, wall_s=lambda: 1_000_000 + now.ms / 1000)


def test_topics_say_what_is_kept_and_faults_are_always_kept(book):
    def kept(level, topic):
        return book.wants(level, topic)

    assert kept("info", "igmp-proxy")
    assert not kept("debug", "igmp-proxy")
    assert not kept("info", "netconf")
    assert kept("warning", "netconf")
    book.configure(LoggingConfig(topics=("debug", "netconf")))
    assert kept("debug", "netconf")
    assert not kept("info", "igmp-proxy")
    assert kept("error", "igmp-proxy")


@covers("R105")
def test_the_ring_is_bounded_and_says_what_was_lost(book):
    book.configure(LoggingConfig(size=10))
    for i in range(25):
        book.take("info", "igmp-proxy", "membership/joined", {"group": i})
    page = book.page(after=0)
    assert (page.last, page.lost, [line.number for line in page.lines]) == (25, 15, list(range(16, 26)))
    assert book.page(after=25).lines == ()
    assert [line.number for line in book.page(after=20, limit=2).lines] == [21, 22]
    assert [line.number for line in book.page(limit=3).lines] == [23, 24, 25]
    assert [line.number for line in book.page(after=99).lines] == list(range(16, 26))  # the reader knew an earlier process


def test_the_same_line_comes_once_in_ten_seconds_and_tells_how_often(book, now):
    assert book.take("info", "igmp-proxy", "a", {"x": 1})
    for _ in range(5):
        assert book.take("info", "igmp-proxy", "a", {"x": 1}) is None
    assert book.take("info", "igmp-proxy", "a", {"x": 2}).repeated is None
    now.ms = 10_000
    assert book.take("info", "igmp-proxy", "a", {"x": 1}).repeated == 5
    now.ms = 20_000
    assert book.take("info", "igmp-proxy", "a", {"x": 1}).repeated is None


def test_a_storm_of_one_event_leaves_room_for_others(book, now):
    kept = [book.take("info", "igmp-proxy", "storm", {"x": i}) for i in range(1_000)]
    assert sum(line is not None for line in kept) == 200
    assert book.take("info", "igmp-proxy", "calm")
    now.ms = 1_000
    assert book.take("info", "igmp-proxy", "storm", {"x": 1_001}).repeated == 800


def test_a_line_for_people(book):
    line = book.take("info", "igmp-proxy", "membership/left", {"group": "239.1.1.1", "cause": "nobody\nanswered", "host": None})
    assert text(line) == '1970-01-12T13:46:40.000Z info    igmp-proxy membership/left group=239.1.1.1 cause="nobody answered"'


def test_the_programs_own_log_goes_through_the_book_and_to_the_journal_when_asked(book):
    logger = logging.Logger("igmpconf.engine")  # noqa: LOG001 - one of its own, with no parent
    seen = []

    class Stderr(logging.Handler):
        def emit(self, record):
            seen.append(record.getMessage())

    stderr = Stderr()
    stderr.addFilter(for_journal)
    logger.addHandler(BookHandler(book))
    logger.addHandler(stderr)
    logger.info("joined", extra={"event": "membership/joined", "fields": {"group": "239.1.1.1"}})
    assert seen == []
    assert [line.event for line in book.page().lines] == ["membership/joined"]
    logger.warning("refused", extra={"event": "kernel/refused", "fields": {}})
    assert seen == ["refused"]
    book.configure(LoggingConfig(action="journal"))
    logger.info("joined", extra={"event": "membership/joined", "fields": {"group": "239.1.1.2"}})
    logger.debug("entry", extra={"event": "mfc/set", "fields": {}})
    assert seen == ["refused", "joined"]
