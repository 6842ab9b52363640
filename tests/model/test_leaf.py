"""Leaf types: what is accepted, what it becomes, and what is said of the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igmpconf.model.leaf import (
    Bool,
    Duration,
    Enum,
    GroupAddress,
    Integer,
    IpAddress,
    IpPrefix,
    LeafError,
    SourceAddress,
    duration_text,
    identifier,
    interface_name,
    interface_pattern,
)

SPAN = Duration(0, 10**12)


@given(st.integers(0, 10**12))
def test_a_duration_survives_its_text(value_ms):
    assert SPAN.parse(duration_text(value_ms)) == value_ms


@given(st.integers(0, 10**11))
def test_a_bare_number_is_centiseconds(value):
    assert SPAN.parse(value) == SPAN.parse(str(value)) == value * 10


@pytest.mark.parametrize(
    ("raw", "value_ms", "text"),
    [
        ("31.25s", 31_250, "31.25s"),
        ("2m5s", 125_000, "2m5s"),
        ("125s", 125_000, "2m5s"),
        ("500ms", 500, "500ms"),
        ("0.5s", 500, "500ms"),
        (3125, 31_250, "31.25s"),
        ("00:02:05", 125_000, "2m5s"),
        ("1h", 3_600_000, "1h"),
        ("1h1s1ms", 3_601_001, "1h1.001s"),
        ("1.5h", 5_400_000, "1h30m"),
        (0, 0, "0s"),
        (" 10s ", 10_000, "10s"),
    ],
)
def test_durations(raw, value_ms, text):
    assert SPAN.parse(raw) == value_ms
    assert SPAN.text(value_ms) == text


@pytest.mark.parametrize(
    "raw", ["", "s", "5x", "5s2m", "1s1s", "-5s", "+5s", "5 s", "2:05", "1e3s", "0.0001s", ".5s", "5.s", True, 31.25, "９s", "9" * 400 + "s"]
)
def test_not_durations(raw):
    with pytest.raises(LeafError):
        SPAN.parse(raw)


def test_the_range_is_told():
    with pytest.raises(LeafError, match=r"expected a duration 1s\.\.2s"):
        Duration(1_000, 2_000).parse("5s")


def test_a_bare_number_out_of_range_says_what_it_meant():
    with pytest.raises(LeafError) as caught:
        Duration(1_000, 31_744_000).parse(10)
    assert caught.value.hint == "a bare number is centiseconds, so 10 is 100ms; for seconds write 10s"


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (Bool(), "Yes", True),
        (Bool(), "off", False),
        (Bool(), True, True),
        (Integer(0, 255), "255", 255),
        (Enum(("off", "on"), true_is="on", false_is="off"), True, "on"),
        (Enum(("off", "on"), true_is="on", false_is="off"), False, "off"),
        (identifier(), "a.b-c_1", "a.b-c_1"),
        (interface_name(), 100, "100"),
        (interface_name(), "vlan100-ipTV", "vlan100-ipTV"),
        (interface_pattern(), "ppp*", "ppp*"),
        (SourceAddress(), "*", "*"),
    ],
)
def test_accepted(kind, raw, value):
    assert kind.parse(raw) == value
    assert kind.parse(kind.text(value)) == value
    assert kind.parse(kind.plain(value)) == value


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (Bool(), "maybe"),
        (Bool(), 1),
        (Integer(0, 255), 256),
        (Integer(0, 255), True),
        (Integer(0, 255), "1.0"),
        (Integer(0, 255), "0x10"),
        (Enum(("a", "b")), True),
        (Enum(("a", "b")), "A"),
        (identifier(), "1a"),
        (identifier(), "a\n"),
        (identifier(), None),
        (interface_name(), "a b"),
        (interface_name(), "a/b"),
        (interface_name(), "."),
        (interface_name(), ".."),
        (interface_name(), ""),
        (interface_name(), "ppp*"),
        (interface_name(), "a" * 16),
        (interface_name(), "ü" * 8),
        (interface_name(), 1.5),
        (interface_pattern(), ".."),
        (IpAddress(), 1),
        (IpAddress(), "fe80::1%eth0"),
        (IpAddress(), "10.0.0.256"),
        (GroupAddress(), "10.0.0.1"),
        (SourceAddress(), "239.1.1.1"),
        (SourceAddress(), "0.0.0.0"),
        (IpPrefix(), "10.0.0.1/8"),
        (IpPrefix(), 10),
        (IpPrefix(multicast=True), "10.0.0.0/8"),
    ],
)
def test_refused_with_what_was_expected(kind, raw):
    with pytest.raises(LeafError) as caught:
        kind.parse(raw)
    assert str(caught.value).startswith("expected ")


def test_host_bits_are_corrected_in_the_hint():
    with pytest.raises(LeafError) as caught:
        IpPrefix().parse("10.20.0.1/16")
    assert caught.value.hint == "host bits are set; did you mean 10.20.0.0/16?"
