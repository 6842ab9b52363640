from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from igmpconf.lab.stream import DATAGRAM_BYTES, Tally, datagram, parsed


def tally(*sequences: int) -> Tally:
    seen = Tally()
    for sequence in sequences:
        seen.add(sequence, now_ns=sequence)
    return seen


def test_a_datagram_survives_the_way() -> None:
    assert len(datagram(7, 123)) == DATAGRAM_BYTES
    assert parsed(datagram(7, 123)) == (7, 123)


def test_foreign_payloads_are_nobodys() -> None:
    assert parsed(b"") is None
    assert parsed(b"x" * 200) is None


def test_what_was_sent_before_the_first_is_not_lost() -> None:
    assert (tally(50, 51, 52).received, tally(50, 51, 52).lost) == (3, 0)


def test_late_is_not_lost_and_twice_is_not_received() -> None:
    seen = tally(1, 2, 5, 3, 3)
    assert (seen.received, seen.lost, seen.duplicates) == (4, 1, 1)


@given(st.lists(st.integers(0, 40), min_size=1))
def test_received_and_lost_fill_the_span(sequences: list[int]) -> None:
    seen = tally(*sequences)
    later = [number for number in sequences if number >= sequences[0]]
    assert seen.received == len(set(later))
    assert seen.received + seen.lost == max(later) - sequences[0] + 1
    assert seen.received + seen.duplicates == len(sequences)
