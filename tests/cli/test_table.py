from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from igmpconf.cli.table import blocks, fitted, table

HEADINGS = ("instance", "group", "downstreams", "bytes", "state")
ROWS = [("default", "239.1.1.1", "lan0,lan1,lan2", "100", "forwarding"), ("default", "239.1.1.2", "lan0", "7", "waiting-for-data")]


def widest(text: str) -> int:
    return max(len(line) for line in text.splitlines())


def test_what_fits_stays_as_it_is():
    assert fitted(HEADINGS, ROWS, 80).text == fitted(HEADINGS, ROWS, None).text == table(HEADINGS, ROWS)


def test_width_is_taken_first_from_what_says_nothing_then_from_lists_then_from_what_can_be_missed():
    dull, optional = {"instance": None}, ("bytes",)
    first = fitted(HEADINGS, ROWS, 58, dull=dull, optional=optional)
    assert (widest(first.text) <= 58, "INSTANCE" in first.text, "lan0,lan1,lan2" in first.text, first.left_out) == (True, False, True, ())
    second = fitted(HEADINGS, ROWS, 48, dull=dull, optional=optional)
    assert second.text == (
        "GROUP      DOWNSTREAMS  BYTES  STATE\n"
        "239.1.1.1  lan0,          100  forwarding\n"
        "           lan1,\n"
        "           lan2\n"
        "239.1.1.2  lan0             7  waiting-for-data\n"
    )
    third = fitted(HEADINGS, ROWS, 40, dull=dull, optional=optional)
    assert (widest(third.text) <= 40, "BYTES" in third.text, third.left_out) == (True, False, ("bytes",))


def test_a_column_that_says_something_is_not_taken_for_dull():
    rows = [("default", "3"), ("default", "3")]
    assert "WRONG_IF" in fitted(("instance", "wrong_if"), rows, 10, dull={"instance": None, "wrong_if": ("0",)}).text
    assert fitted(("instance", "wrong_if"), [("default", "0")], 10, dull={"wrong_if": ("0",)}).text == "INSTANCE\ndefault\n"


def test_what_fits_in_no_table_becomes_blocks_with_all_of_it():
    said = fitted(("source", "group"), [("2001:db8:ffff:ffff:ffff:ffff:ffff:fffe", "ff3e::8000:1")] * 2, 50)
    assert said.text == (
        "0  source=2001:db8:ffff:ffff:ffff:ffff:ffff:fffe\n   group=ff3e::8000:1\n1  source=2001:db8:ffff:ffff:ffff:ffff:ffff:fffe\n   group=ff3e::8000:1\n"
    )


def test_a_long_list_goes_on_after_a_comma():
    said = blocks([[("downstreams", ",".join(f"vlan{n}" for n in range(31))), ("kind", "learned")]], 80)
    assert widest(said) <= 80
    assert said.replace("\n   ", "") == "0  downstreams=" + ",".join(f"vlan{n}" for n in range(31)) + " kind=learned\n" or "kind=learned" in said
    assert all(f"vlan{n}" in said for n in range(31))


@given(
    st.lists(st.lists(st.text("ab,1-", min_size=1, max_size=30), min_size=3, max_size=3), min_size=1, max_size=4),
    st.integers(60, 120),
)
def test_whatever_the_cells_are_the_width_is_kept(rows, limit):
    headings = ("one", "two", "three")
    assert widest(fitted(headings, rows, limit, dull={"one": None}, optional=("two",)).text) <= limit
