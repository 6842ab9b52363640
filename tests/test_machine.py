"""Deadlines: an index that may hold more than is true, but never too little, and never grows without bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from igmpconf.machine import Deadlines


@given(st.lists(st.tuples(st.sampled_from(("put", "drop", "pop")), st.integers(0, 5), st.integers(0, 50))))
def test_deadlines_behave_like_a_plain_dictionary(actions):
    deadlines: Deadlines[int] = Deadlines()
    plain: dict[int, int] = {}
    for action, key, at_ms in actions:
        if action == "put":
            deadlines.put(key, at_ms)
            plain[key] = min(at_ms, plain.get(key, at_ms))
        elif action == "drop":
            deadlines.drop(key)
            plain.pop(key, None)
        else:
            due = deadlines.pop_due(at_ms)
            expected = {known for known, known_ms in plain.items() if known_ms <= at_ms}
            assert set(due) == expected
            assert len(due) == len(expected)
            assert [plain[known] for known in due] == sorted(plain[known] for known in due)
            for known in due:
                del plain[known]
        assert deadlines.next_ms() == min(plain.values(), default=None)


def test_keys_that_come_and_go_leave_nothing_behind():
    deadlines: Deadlines[int] = Deadlines()
    for n in range(100_000):
        deadlines.put(n % 7, 10**9 - n)
        if n % 3 == 0:
            deadlines.drop(n % 7)
    assert sum(len(due) for due in deadlines._due.values()) < 2_000
    assert len(deadlines._heap) < 2_000
