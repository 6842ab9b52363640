"""Our counters as the sums of RFC 8652, and the querier's values in force as `<get>` and `show` tell them."""

from __future__ import annotations

from igmpconf.apply.rows import VIEWS
from igmpconf.engine.vocabulary import COUNTERS
from igmpconf.observe.counters import _MALFORMED, statistics
from tests.kit.builders import TO_EX, TO_IN, G, a_query, record
from tests.kit.playbook import a_proxy


def test_a_played_session_is_summed_by_kind():
    play = a_proxy("wan", "lan0", quick_leave="off")
    play.on("lan0", record(TO_EX, G)).on("lan0", record(TO_EX, G), version=2).on("lan0", record(TO_IN, G), version=2)
    play.on("lan0", a_query(), host=200)
    play.raw("lan0", b"\x22\x00\x00\x01\x00\x00\x00\x00").raw("lan0", b"\x22\x00")
    rows = VIEWS["counters"].rows(play.engine.snapshot(play.now_ms))
    lan0 = {row["name"].removeprefix("statistics/"): row["value"] for row in rows if row["interface"] == "lan0" and row["name"].startswith("statistics/")}
    assert {name: value for name, value in lan0.items() if not name.startswith("sent/")} == {
        "received/total": 4,
        "received/query": 1,
        "received/report": 2,
        "received/leave": 1,
        "error/total": 2,
        "error/checksum": 1,
        "error/too-short": 1,
    }
    assert lan0["sent/query"] == lan0["sent/total"] >= 2
    wan = {row["name"]: row["value"] for row in rows if row["interface"] == "wan"}
    assert wan["statistics/sent/report"] == wan["sent-report-v3"] == 1


def test_every_counted_message_and_every_malformed_reason_has_its_sum():
    assert {f"rejected-{reason}" for reason in _MALFORMED} <= COUNTERS.keys()
    for name in COUNTERS:
        if name.endswith("-v*"):
            assert statistics({name.replace("*", "2"): 5})[f"statistics/{'/'.join(name.split('-')[:2])}"] == 5


def test_adopted_values_are_shown_while_another_asks():
    play = a_proxy("wan", "lan0", robustness=2)
    play.plug("lan0", "10.2.0.50/24").on("lan0", a_query(robustness=5, interval_ms=40_000), host=1)
    (row,) = VIEWS["querier"].rows(play.engine.snapshot(play.now_ms))
    assert (row["address"], row["self"], row["robustness"], row["query_interval_s"]) == ("10.2.0.1", False, 5, 40.0)
    assert "lower address" in row["reason"]
    play.advance(s=2_000)
    (row,) = VIEWS["querier"].rows(play.engine.snapshot(play.now_ms))
    assert (row["self"], row["robustness"], row["query_interval_s"]) == (True, 2, 125.0)
