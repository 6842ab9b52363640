"""What `igmpconf sniff` makes of packets, and which it shows."""

from __future__ import annotations

import pytest

from igmpconf.cli.sniff import _matches, decoded
from igmpconf.engine.messages import Query, Record, RecordKind
from igmpconf.engine.wire import igmp
from igmpconf.engine.wire.ip import build_ipv4
from igmpconf.model.answers import CapturedPacket
from tests.kit.conformance import covers

HOST, GROUP = b"\x0a\0\0\x05", b"\xef\1\1\1"


def captured(packet: bytes, *, outgoing: bool = False) -> CapturedPacket:
    return CapturedPacket(number=1, time_us=1_764_110_000_000_000, outgoing=outgoing, frame=(bytes(16) + packet).hex(), length=16 + len(packet))


def leave(version: int) -> bytes:
    ((to, payload),) = igmp.encode_report(version, [Record(RecordKind.TO_IN, GROUP)])
    return build_ipv4(HOST, to, payload)


@covers("R083", "R086")
def test_messages_in_words():
    row = decoded(captured(leave(2)))
    assert row == {
        "time": "2025-11-25T22:33:20.000Z",
        "direction": "in",
        "protocol": "IGMP",
        "sender": "10.0.0.5",
        "destination": "224.0.0.2",
        "ttl": 1,
        "kind": "leave",
        "version": 2,
        "message": "v2 leave 239.1.1.1",
    }
    assert decoded(captured(leave(3)))["message"] == "v3 report 239.1.1.1 to-include {}"
    (query,) = igmp.encode_query(Query(HOST, 3, GROUP, (HOST,), 1_000, 2, 125_000))
    row = decoded(captured(build_ipv4(HOST, GROUP, query), outgoing=True))
    assert (row["direction"], row["message"]) == ("out", "v3 query for 239.1.1.1 from {10.0.0.5}, answers within 1s, robustness 2, interval 125s")


@pytest.mark.parametrize("packet", [b"", b"\x45", leave(2)[:-1], leave(2)[:-4] + b"\0\0\0\0", b"\x60" + bytes(20)])
def test_what_is_malformed_is_shown_as_such(packet):
    row = decoded(captured(packet))
    assert row["kind"] == "malformed"
    assert row["error"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("leave",), True),
        (("query",), False),
        (("in", "igmp", "10.0.0.5"), True),
        (("out",), False),
        (("239.1.1.1",), True),
        (("239.1.1.10",), False),
    ],
)
def test_filters(words, expected):
    assert _matches(decoded(captured(leave(2))), words) is expected


def test_a_filter_that_is_none_is_bad_input(igmpconf):
    said = igmpconf("sniff", "lan0", "--filter", "qurey")
    assert said.code == 3
    assert "expected one of query" in said.err
    assert igmpconf("sniff").code == 64
