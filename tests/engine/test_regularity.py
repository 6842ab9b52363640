"""What the engine counts about regularity: queries of others and their gaps, refreshes that came and that were lost."""

from __future__ import annotations

import pytest

from igmpconf.engine.regularity import MOST_QUERIERS
from tests.kit.builders import G2, IS_EX, TO_EX, TO_IN, G, a_query, record
from tests.kit.playbook import a_proxy


@pytest.fixture
def play():
    return a_proxy("wan", "lan0").at(s=300).forget()


def heard(play, name):
    return {str(row.address): row for row in play.interface(name).heard_queriers}


def test_gaps_of_a_querier_that_says_its_interval(play):
    for at_s in (400, 410, 420, 450, 460):
        play.at(s=at_s).on("wan", a_query(interval_ms=10_000), host=254)
    (row,) = heard(play, "wan").values()
    assert (row.queries, row.last_s, row.interval_ms, row.shortest_gap_ms, row.longest_gap_ms, row.lost) == (5, 0, 10_000, 10_000, 30_000, 2)


def test_gaps_of_a_querier_that_does_not(play):
    for at_s in (400, 410, 421, 430, 450, 460):
        play.at(s=at_s).on("wan", a_query(version=2), host=254)
    (row,) = heard(play, "wan").values()
    assert (row.interval_ms, row.lost) == (10_000, 1)


def test_a_querier_that_was_away_lost_nothing(play):
    for at_s in (400, 410, 3_600, 3_610):
        play.at(s=at_s).on("wan", a_query(interval_ms=10_000), host=254)
    (row,) = heard(play, "wan").values()
    assert (row.queries, row.longest_gap_ms, row.lost) == (4, 10_000, 0)


def test_specific_queries_are_no_heartbeat(play):
    play.on("wan", a_query("239.1.1.1"), host=254)
    assert heard(play, "wan") == {}


def test_memory_is_bounded(play):
    for number in range(MOST_QUERIERS + 5):
        play.advance(s=1).on("lan0", a_query(), host=200 + number)
    assert len(heard(play, "lan0")) == MOST_QUERIERS


def counted(play):
    return play.counter("lan0", "refresh-expected"), play.counter("lan0", "refresh-lost")


def test_answers_are_counted_with_the_next_query(play):
    play.on("lan0", record(TO_EX, G)).on("lan0", record(TO_EX, G2))
    play.advance(s=130)  # a query
    play.on("lan0", record(IS_EX, G)).on("lan0", record(IS_EX, G2))
    play.advance(s=125)
    assert counted(play) == (2, 0)


def test_a_refresh_is_lost_when_a_later_one_comes(play):
    play.on("lan0", record(TO_EX, G)).on("lan0", record(TO_EX, G2))
    play.advance(s=130).on("lan0", record(IS_EX, G))
    play.advance(s=125)
    assert counted(play) == (1, 0)  # of the other one nobody knows yet
    play.on("lan0", record(IS_EX, G2))
    play.advance(s=125)
    assert counted(play) == (3, 1)


def test_a_host_that_is_switched_off_loses_nothing(play):
    play.on("lan0", record(TO_EX, G))
    play.advance(s=1_000)
    assert play.group("lan0", G) is None
    assert counted(play) == (0, 0)


def test_a_leave_that_another_host_objects_to_loses_nothing(play):
    play.on("lan0", record(TO_EX, G), host=105).on("lan0", record(TO_EX, G), host=106)
    play.advance(s=130).on("lan0", record(IS_EX, G), host=105).on("lan0", record(IS_EX, G), host=106)
    play.on("lan0", record(TO_IN, G), host=105).on("lan0", record(IS_EX, G), host=106)
    play.advance(s=125)
    assert counted(play) == (1, 0)
