"""Section 1 of the requirements: what IGMP messages look like, and which are believed (RFC 3376 4)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from igmpconf.engine.effects import SendPacket
from igmpconf.engine.family import IGMP, MLD
from igmpconf.engine.messages import Query, Record, RecordKind, Report
from igmpconf.engine.wire import igmp
from igmpconf.engine.wire.checksum import internet_checksum, is_intact
from igmpconf.engine.wire.codes import decode8, decode16, encode8, encode16
from igmpconf.engine.wire.ip import build_ipv4, parse_ipv4
from igmpconf.errors import WireError
from tests.kit.builders import ALLOW, G2, IS_EX, IS_IN, S1, TO_EX, TO_IN, G, a_query, asks, packed, record, route, says
from tests.kit.conformance import covers
from tests.kit.playbook import Play, a_proxy

MESSAGES = json.loads((Path(__file__).parent / "data" / "messages.json").read_text())
HOST = packed("10.2.0.100")


def by_name(name: str) -> bytes:
    return next(bytes.fromhex(row["hex"]) for row in MESSAGES if row["name"] == name)


def summed(payload: bytes) -> bytes:
    return payload[:2] + internet_checksum(payload[:2] + b"\0\0" + payload[4:]).to_bytes(2) + payload[4:]


@pytest.fixture
def play() -> Play:
    return a_proxy("wan", "lan0").at(s=40).forget()


@covers("PKT-05", "PKT-07", "PKT-08", "PKT-09", "PKT-14", "PKT-15", "PKT-21", "PKT-22", "PKT-23", "PKT-24", "MLD-07", "MLD-08")
@pytest.mark.parametrize("row", MESSAGES, ids=lambda row: row["name"])
def test_messages_mean_what_the_rfc_says(row):
    family = MLD if "sender" in row else IGMP
    sender = packed(row.get("sender", "10.0.0.1"))
    destination = packed(row["destination"]) if "destination" in row else None
    arguments = (bytes.fromhex(row["hex"]), sender, destination, 1, True)
    if "refused" in row:
        with pytest.raises(WireError) as refused:
            family.decode(*arguments)
        assert refused.value.reason == row["refused"]
        return
    message = family.decode(*arguments)
    assert message.sender == sender
    assert family.is_general_query(arguments[0]) is (isinstance(message, Query) and message.group is None)
    if isinstance(message, Query):
        assert {
            "version": message.version,
            "group": family.text(message.group) if message.group else None,
            "sources": [family.text(one) for one in message.sources],
            "max_response_ms": message.max_response_ms,
            "robustness": message.robustness,
            "interval_ms": message.interval_ms,
            "suppress": message.suppress,
        } == row["query"]
    else:
        records = [[one.kind.name, family.text(one.group), sorted(map(family.text, one.sources))] for one in message.records]
        assert {"version": message.version, "records": records} == row["report"]


@covers("PKT-01", "PKT-02", "PKT-03")
def test_a_datagram_has_ttl_1_router_alert_and_precedence():
    datagram = build_ipv4(packed("10.0.0.1"), packed("224.0.0.22"), b"12345678")
    assert datagram[0] == 0x46
    assert datagram[1] == 0xC0
    assert datagram[8] == 1
    assert datagram[9] == 2
    assert datagram[20:24] == bytes.fromhex("94040000")
    assert is_intact(datagram[:24])
    parsed = parse_ipv4(datagram + b"padding of a short Ethernet frame")
    assert parsed == (packed("10.0.0.1"), packed("224.0.0.22"), b"12345678", 1, True)
    assert parse_ipv4(memoryview(datagram)) == parsed


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "ip-header"),
        (b"\x45" + bytes(18), "ip-header"),
        (b"\x65" + bytes(30), "ip-header"),
        (b"\x44" + bytes(30), "ip-header"),
        (b"\x45\0\0\xff" + bytes(30), "ip-header"),
        (b"\x45\0\0\x10" + bytes(30), "ip-header"),
        (b"\x45\0\0\x1c\0\0\x20\0" + bytes(20), "ip-fragment"),
        (b"\x45\0\0\x1c\0\0\0\x01" + bytes(20), "ip-fragment"),
    ],
)
def test_a_broken_datagram_is_refused(datagram, reason):
    with pytest.raises(WireError) as refused:
        parse_ipv4(datagram)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("94040000", True),
        ("01010194" + "04000000", True),
        ("00940400", False),
        ("94040001", False),
        ("83040000", False),
        ("9400", False),
        ("8303019404000000", True),
    ],
)
def test_router_alert_is_found_among_other_options(options, found):
    padded = bytes.fromhex(options) + bytes(-len(bytes.fromhex(options)) % 4)
    header = bytes((0x45 + len(padded) // 4, 0, 0, 20 + len(padded), 0, 0, 0, 0, 1, 2, 0, 0)) + bytes(8) + padded
    assert parse_ipv4(header).router_alert is found


@covers("PKT-04")
def test_a_wrong_checksum_leaves_no_state(play):
    play.raw("lan0", by_name("v2-report-badsum"), HOST).expect()
    assert play.group("lan0", "225.1.2.3") is None
    assert play.counter("lan0", "rejected-checksum") == 1


@covers("PKT-05")
def test_an_unknown_type_is_counted_and_nothing_else(play):
    play.raw("lan0", by_name("unknown-igmp-type"), HOST).expect()
    assert play.counter("lan0", "rejected-unknown-type") == 1


@covers("PKT-06")
@pytest.mark.parametrize("length", range(8))
def test_short_messages_are_dropped(play, length):
    play.raw("lan0", b"\x16" * length, HOST).expect()
    assert play.counter("lan0", "rejected-too-short") == 1


@covers("PKT-07")
@pytest.mark.parametrize("length", [9, 10, 11])
def test_a_query_of_no_version_does_not_elect(play, length):
    play.raw("lan0", summed(b"\x11\x64" + bytes(length - 2)), packed("10.2.0.0")).expect()
    assert play.counter("lan0", "rejected-query-length") == 1
    assert play.interface("lan0").querier.self_


@covers("PKT-08", "PKT-10")
@pytest.mark.parametrize(("code", "value"), [(0, 0), (127, 127), (0x80, 128), (0x82, 144), (0x89, 200), (0x92, 288), (0xFF, 31744)])
def test_eight_bit_codes(code, value):
    assert decode8(code) == value
    assert encode8(value) == code


@covers("MLD-07")
@pytest.mark.parametrize(("code", "value"), [(0x7FFF, 32767), (0x8000, 32768), (0x8388, 40000), (0xFFFF, 8387584)])
def test_sixteen_bit_codes(code, value):
    assert decode16(code) == value
    assert encode16(value) == code


@covers("PKT-11")
@pytest.mark.parametrize(("value", "code"), [(150, 0x82), (129, 0x80), (40_000, 0xFF), (127, 127)])
def test_a_time_without_code_is_written_as_the_next_lower_one(value, code):
    assert encode8(value) == code


@covers("PKT-12", "QRY-05")
def test_a_general_query_to_the_octet():
    plain = Query(b"", 3, max_response_ms=10_000, robustness=2, interval_ms=125_000)
    assert IGMP.encode_query(plain, 1500) == [bytes.fromhex("1164ec1e00000000027d0000")]
    (many,) = IGMP.encode_query(Query(b"", 3, max_response_ms=10_000, robustness=8, interval_ms=125_000), 1500)
    assert many[8] == 0


@covers("PKT-13")
def test_reserved_bits_are_ignored():
    query = bytearray(by_name("v3-general-query"))
    query[8] |= 0xF0
    assert IGMP.decode(summed(bytes(query)), HOST, None, 1, True) == IGMP.decode(by_name("v3-general-query"), HOST, None, 1, True)
    report = bytearray(by_name("v3-report-join-asm"))
    report[1], report[4], report[5] = 0xAA, 0xBB, 0xCC
    assert IGMP.decode(summed(bytes(report)), HOST, None, 1, True) == IGMP.decode(by_name("v3-report-join-asm"), HOST, None, 1, True)


@covers("PKT-16")
def test_a_query_never_exceeds_the_mtu():
    sources = tuple((0x0A000000 + n).to_bytes(4) for n in range(1000))
    payloads = IGMP.encode_query(Query(b"", 3, packed(G), sources, 1000, 2, 125_000), 1500)
    decoded = [IGMP.decode(payload, HOST, None, 1, True) for payload in payloads]
    assert [len(one.sources) for one in decoded] == [366, 366, 268]
    assert sum((one.sources for one in decoded), ()) == sources
    assert max(map(len, payloads)) + 24 <= 1500


@covers("PKT-17")
def test_where_queries_go():
    play = a_proxy("wan", "lan0")
    play.on("lan0", record(TO_EX, G)).on("lan0", record(TO_IN, G))
    queries = [effect for _, effect in play.effects if isinstance(effect, SendPacket) and effect.payload[0] == 0x11]
    assert [IGMP.text(query.destination) for query in queries] == ["224.0.0.1", G]


@covers("PKT-18")
def test_a_query_to_our_own_address_is_answered(play):
    play.on("lan0", record(TO_EX, G)).advance(s=5).forget()
    play.on("wan", a_query(), host=2, to="10.1.0.1").advance(s=11).expect(says("wan", (IS_EX, G)))


@covers("PKT-19")
def test_a_general_query_to_another_group_is_not_answered(play):
    play.on("lan0", record(TO_EX, G)).advance(s=5).forget()
    play.on("wan", a_query(), host=2, to="224.0.0.5").advance(s=11).expect()
    assert play.counter("wan", "rejected-query-destination") == 1


@covers("PKT-20")
@pytest.mark.parametrize(("strict", "version", "answers"), [("no", 3, True), ("yes", 3, False), ("yes", 2, False), ("yes", 1, True)])
def test_router_alert_may_be_required(strict, version, answers):
    play = a_proxy({"interface": "wan", "require-router-alert": strict}, "lan0").at(s=40)
    play.on("lan0", record(TO_EX, G)).advance(s=5).forget()
    play.on("wan", a_query(version=version), host=2, alert=False).advance(s=11)
    assert bool(play.seen(containing="wan>")) is answers


@covers("PKT-20")
def test_reports_without_router_alert_are_refused_where_it_is_required():
    play = a_proxy("wan", {"interface": "lan0", "require-router-alert": True}).at(s=40).forget()
    play.on("lan0", record(TO_EX, G), alert=False).expect()
    assert play.counter("lan0", "rejected-router-alert") == 1


@covers("PKT-24")
def test_an_overrun_leaves_no_state_for_any_record(play):
    play.raw("lan0", by_name("v3-report-count-too-big"), HOST).expect()
    assert play.group("lan0", "239.10.10.10") is None
    assert play.counter("lan0", "rejected-records-truncated") == 1


@covers("PKT-25")
def test_a_report_without_records_is_legal(play):
    play.raw("lan0", summed(bytes.fromhex("2200000000000000")), HOST).expect()
    assert play.counter("lan0", "received-report-v3") == 1


@covers("PKT-26")
def test_a_record_of_no_group_or_no_source_is_skipped(play):
    bad = [Record(IS_EX, packed("10.0.0.1")), Record(IS_IN, packed(G2), frozenset({packed("239.0.0.1")})), Record(IS_IN, packed(G2), frozenset({bytes(4)}))]
    play.on("lan0", *bad, record(IS_EX, G)).expect(says("wan", (TO_EX, G)), route("*", G, "wan", "lan0", "wan"))


@covers("PKT-27")
def test_a_report_from_no_address_is_accepted(play):
    play.on("lan0", record(IS_EX, G), host="0.0.0.0").expect(says("wan", (TO_EX, G)), route("*", G, "wan", "lan0", "wan"))


@covers("PKT-28")
def test_reports_from_foreign_subnets_are_refused_unless_configured():
    play = a_proxy("wan", {"interface": "lan0", "alternative-subnets": ["172.16.0.0/12"]}).at(s=40).forget()
    play.on("lan0", record(IS_EX, G), host="192.168.7.7").expect()
    assert play.counter("lan0", "rejected-sender") == 1
    (note,) = play.noted("report/foreign-sender")
    assert note.fields["sender"] == "192.168.7.7"
    play.on("lan0", record(IS_EX, G), host="192.168.7.7")
    assert len(play.noted("report/foreign-sender")) == 1, "the log does not repeat itself"
    play.on("lan0", record(IS_EX, G), host="172.20.1.1").expect(says("wan", (TO_EX, G)), route("*", G, "wan", "lan0", "wan"))


@covers("PKT-28")
def test_an_interface_without_address_accepts_every_sender():
    play = a_proxy("wan", "lan0", forward_when_non_querier=True).plug("lan0", "").forget()
    play.on("lan0", record(IS_EX, G), host="192.168.7.7")
    assert play.group("lan0", G) is not None


@covers("PKT-29")
def test_where_reports_go():
    assert [IGMP.text(to) for to, _ in IGMP.encode_report(3, [record(TO_EX, G)], 1500)] == ["224.0.0.22"]
    assert [IGMP.text(to) for to, _ in IGMP.encode_report(2, [record(IS_EX, G), record(TO_IN, G)], 1500)] == [G, "224.0.0.2"]
    assert [(IGMP.text(to), payload[0]) for to, payload in IGMP.encode_report(1, [record(IS_EX, G), record(TO_IN, G)], 1500)] == [(G, 0x12)]


@covers("PKT-29")
def test_a_leave_sent_to_the_group_counts(play):
    play.on("lan0", record(IS_EX, G), version=2).forget()
    play.on("lan0", record(TO_IN, G), version=2, to=G).expect(asks("lan0", G))


@covers("PKT-30")
@pytest.mark.parametrize("kind", [IS_IN, TO_IN, ALLOW])
def test_a_long_include_record_is_split_into_disjoint_ones(kind):
    sources = frozenset((0x0A000001 + n).to_bytes(4) for n in range(2000))
    packets = IGMP.encode_report(3, [Record(kind, packed(G), sources)], 1500)
    records = [one for _, payload in packets for one in igmp.decode(payload, HOST).records]
    assert max(len(payload) for _, payload in packets) + 24 <= 1500
    assert len(packets) == len(records) == 6
    assert frozenset().union(*(one.sources for one in records)) == sources
    assert sum(len(one.sources) for one in records) == 2000
    assert {one.kind for one in records} == {kind}


@covers("PKT-30")
@pytest.mark.parametrize("kind", [IS_EX, TO_EX])
def test_a_long_exclude_record_is_cut_and_always_the_same_way(kind):
    sources = frozenset((0x0A000001 + n).to_bytes(4) for n in range(2000))
    ((_, first),) = IGMP.encode_report(3, [Record(kind, packed(G), sources)], 1500)
    ((_, again),) = IGMP.encode_report(3, [Record(kind, packed(G), frozenset(sorted(sources, reverse=True)))], 1500)
    assert first == again
    assert len(first) + 24 <= 1500
    (one,) = igmp.decode(first, HOST).records
    assert len(one.sources) == 365


@covers("PKT-30", "UP-09")
def test_many_records_share_packets():
    records = [Record(RecordKind.IS_EX, (0xEF000001 + n).to_bytes(4)) for n in range(500)]
    packets = IGMP.encode_report(3, records, 1500)
    assert len(packets) == 3  # 183 records of 8 octets fit behind 24 + 8 octets of headers
    assert [one for _, payload in packets for one in igmp.decode(payload, HOST).records] == records


@covers("PKT-31")
def test_octets_after_a_v2_message_are_ignored_but_summed():
    report = igmp.decode(summed(bytes.fromhex("16000000e1010203") + b"abcdef"), HOST)
    assert report == Report(HOST, 2, (record(IS_EX, "225.1.2.3"),))
    with pytest.raises(WireError):
        igmp.decode(summed(bytes.fromhex("16000000e1010203")) + b"abcdef", HOST)


@covers("PKT-32")
def test_a_query_from_no_address_elects_nobody(play):
    play.on("lan0", a_query(), host="0.0.0.0").expect()
    assert play.interface("lan0").querier.self_


@covers("PKT-33")
def test_our_own_packets_are_no_news(play):
    play.on("lan0", a_query(), host="10.2.0.1").on("lan0", record(IS_EX, G), host="10.2.0.1").on("wan", a_query(), host="10.1.0.1").expect()
    assert play.counter("lan0", "received-query-v3") == 0


@covers("PKT-34")
def test_a_ttl_above_1_is_accepted_and_counted(play):
    play.on("lan0", record(IS_EX, G), ttl=64)
    assert play.group("lan0", G) is not None
    assert play.counter("lan0", "received-ttl-above-1") == 1


def test_a_query_for_no_group_is_refused(play):
    play.raw("lan0", summed(bytes.fromhex("110a00000a000001")), packed("10.2.0.0")).expect()
    play.raw("lan0", summed(bytes.fromhex("110a0000000000000000000100000000") + packed(S1)), packed("10.2.0.0")).expect()
    play.raw("lan0", summed(bytes.fromhex("160000000a000001")), HOST).expect()
    assert play.interface("lan0").querier.self_


@pytest.mark.parametrize("data", [b"\x01", b"\xff\xff", b"\0\x01\xf2\x03\xf4\xf5\xf6\xf7", b"abc", bytes(8), b"\xff" * 7])
def test_the_checksum_agrees_with_rfc_1071_word_by_word(data):
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2]) for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert internet_checksum(data) == 0xFFFF - total
