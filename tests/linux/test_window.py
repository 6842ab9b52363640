"""What is read of nftables' sets while they grow."""

from __future__ import annotations

from igmpconf.linux.window import _rows


def element(packets: int, *key: object) -> dict:
    return {"elem": {"val": {"concat": list(key)}, "counter": {"packets": packets, "bytes": 0}}}


def test_an_element_that_is_listed_twice_counts_once():
    listed = [element(3, "wan", "10.1.0.2", "239.1.1.1", 16), element(5, "wan", "10.1.0.2", "239.1.1.1", 16), element(1, "wan", "10.1.0.2", "239.1.1.1", 1)]
    assert list(_rows(listed, 4)) == [["wan", "10.1.0.2", "239.1.1.1", 16, 5], ["wan", "10.1.0.2", "239.1.1.1", 1, 1]]


def test_what_is_no_element_is_left_out():
    assert list(_rows(["wan", {"elem": {"val": "wan"}}, element(1, "wan"), {"elem": {"val": {"concat": ["a", "b", "c", 1]}}}], 4)) == []
