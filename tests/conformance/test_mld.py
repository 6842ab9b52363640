"""Section 9 of the requirements: where MLD differs (RFC 2710, RFC 3810).  The machines are the same, so are most tests."""

from __future__ import annotations

import pytest

from igmpconf.engine.effects import SendPacket
from igmpconf.engine.family import MLD
from igmpconf.engine.messages import Query, Record
from igmpconf.errors import WireError
from tests.kit.builders import ALLOW, BLOCK, IS_EX, TO_EX, TO_IN, a_query, asks, config, packed, record, route, says, unroute
from tests.kit.conformance import covers
from tests.kit.playbook import Play, a_proxy

G, G2, SSM = "ff0e::1234", "ff05::5", "ff3e::8000:1"
S1, S2 = "2001:db8::1", "2001:db8::2"
LOWER = "fe80::"  # than lan0's own fe80::2


@pytest.fixture
def play() -> Play:
    return a_proxy("wan", "lan0", family=MLD, quick_leave="off").at(s=300).forget()


def query(group: str | None = None, *sources: str, version: int = 2, **fields: object) -> Query:
    return a_query(group, *sources, version=version, **fields)


def ask(interface: str, group: str | None = None, *sources: str, version: int = 2, suppress: bool = False) -> str:
    return asks(interface, group, *sources, version=version, suppress=suppress)


def say(*records: tuple[object, ...], version: int = 2) -> str:
    return says("wan", *records, version=version)


def sent(play: Play, name: str) -> list[SendPacket]:
    return [effect for _, effect in play.effects if isinstance(effect, SendPacket) and effect.ifindex == play.names[name]]


@covers("MLD-01", "UP-24")
def test_everything_comes_from_the_link_local_address():
    play = Play(MLD).configure(config("wan", "lan0", family=["ipv6"]))
    play.plug("wan", "2001:db8:1::1/64", "fe80::77/64").plug("lan0", "2001:db8:2::1/64", "fe80::88/64").found()
    play.on("lan0", record(TO_EX, G))
    assert {MLD.text(effect.source) for effect in sent(play, "wan")} == {"fe80::77"}
    assert {MLD.text(effect.source) for effect in sent(play, "lan0")} == {"fe80::88"}
    assert {effect.payload[0] for effect in (*sent(play, "wan"), *sent(play, "lan0"))} == {130, 143}


@covers("MLD-02")
def test_a_wrong_checksum_is_refused_where_it_can_be_verified():
    payload = bytes.fromhex("8f005dc90000000104000000ff0e0000000000000000000000001234")
    MLD.decode(payload, packed("fe80::2"), packed("ff02::16"), 1, True)
    with pytest.raises(WireError) as refused:
        MLD.decode(payload, packed("fe80::3"), packed("ff02::16"), 1, True)
    assert refused.value.reason == "checksum"


@covers("MLD-03", "MLD-04", "MLD-05")
@pytest.mark.parametrize(
    ("arrival", "reason"),
    [
        (("2001:db8::9", 1, True), "sender"),
        (("::", 1, True), "sender"),
        (("fe80::9", 2, True), "hop-limit"),
        (("fe80::9", 255, True), "hop-limit"),
        (("fe80::9", 1, False), "router-alert"),
    ],
)
@pytest.mark.parametrize("what", ["report", "query"])
def test_the_three_checks_on_receipt(play, arrival, reason, what):
    host, ttl, alert = arrival
    message = record(TO_EX, G) if what == "report" else query()
    play.on("lan0", message, host=host, ttl=ttl, alert=alert).expect()
    assert play.counter("lan0", "rejected-" + reason) == 1
    assert play.group("lan0", G) is None
    assert play.interface("lan0").querier.self_


@covers("MLD-06")
def test_reports_without_a_link_local_address_are_said_again_when_there_is_one(play):
    play.plug("wan", "").on("lan0", record(TO_EX, G))
    assert [MLD.text(effect.source) for effect in sent(play, "wan")] == ["::"]
    play.forget().plug("wan", "fe80::1/64")
    assert say((TO_EX, G)) in play.seen()
    assert MLD.text(sent(play, "wan")[-1].source) == "fe80::1"


@covers("MLD-08")
@pytest.mark.parametrize(("length", "reason"), [(23, "too-short"), (25, "query-length"), (27, "query-length"), (7, "too-short")])
def test_queries_of_no_version_are_ignored(play, length, reason):
    play.raw("lan0", b"\x82" + bytes(length - 1), packed(LOWER)).expect()
    assert play.counter("lan0", "rejected-" + reason) == 1
    assert play.interface("lan0").querier.self_


@covers("MLD-09", "MLD-15")
def test_the_delay_of_mldv1_is_linear():
    (payload,) = MLD.encode_query(Query(b"", 1, packed(G), max_response_ms=40_000), 1500)
    assert len(payload) == 24
    assert payload[4:6] == (40_000).to_bytes(2)
    assert MLD.decode(payload, packed("fe80::1"), None, 1, True).max_response_ms == 40_000
    play = a_proxy("wan", {"interface": "lan0", "mld-version": 1}, family=MLD)
    assert [len(effect.payload) for effect in sent(play, "lan0")] == [24]


@covers("MLD-10")
def test_where_messages_go(play):
    play.on("lan0", record(TO_EX, G)).on("lan0", record(TO_IN, G))
    assert [MLD.text(effect.destination) for effect in sent(play, "lan0")][-2:] == ["ff02::1", G]
    assert [MLD.text(effect.destination) for effect in sent(play, "wan")] == ["ff02::16"]
    older = MLD.encode_report(1, [record(IS_EX, G), record(TO_IN, G)], 1500)
    assert [(MLD.text(to), payload[0], len(payload)) for to, payload in older] == [(G, 131, 24), ("ff02::2", 132, 24)]


@covers("MLD-11")
def test_a_query_never_exceeds_the_mtu():
    sources = tuple(packed("2001:db8::")[:-2] + n.to_bytes(2) for n in range(1, 201))
    payloads = MLD.encode_query(Query(b"", 2, packed(G), sources, 1_000, 2, 125_000), 1500)
    decoded = [MLD.decode(payload, packed("fe80::1"), None, 1, True) for payload in payloads]
    assert [len(one.sources) for one in decoded] == [89, 89, 22]
    assert max(map(len, payloads)) + 48 <= 1500


@covers("MLD-12", "FWD-04", "R034")
def test_the_lower_address_asks(play):
    play.on("lan0", query(), host="fe80::3").expect()
    play.on("lan0", query(robustness=2, interval_ms=125_000), host=LOWER).expect(route("*", "*", "wan", "wan"))
    assert str(play.interface("lan0").querier.address) == LOWER
    play.advance(s=255).expect(ask("lan0"), route("*", "*", "wan", "lan0", "wan"))


@covers("MLD-13")
def test_a_group_lives_for_its_listening_interval(play):
    play.on("lan0", record(TO_EX, G)).expect(say((TO_EX, G)), route("*", G, "wan", "lan0", "wan"))
    assert play.group("lan0", G).expires_s == 270
    play.advance(s=5).forget()
    play.on("lan0", record(TO_IN, G)).expect(ask("lan0", G))
    play.advance(s=1).expect(ask("lan0", G))
    play.advance(s=1).expect(unroute("*", G), say((TO_IN, G)))


@covers("MLD-14", "R004", "R006")
def test_mldv1_hosts_make_the_group_compatible(play):
    play.on("lan0", record(IS_EX, G), version=1).forget()
    assert play.group("lan0", G).version == 1
    play.on("lan0", record(BLOCK, G, S1), host=101).on("lan0", record(TO_EX, G, S1), host=101).expect()
    assert play.group("lan0", G).excluded == ()
    play.on("lan0", record(TO_IN, G), version=1).expect(ask("lan0", G, version=2))
    play.on("lan0", record(IS_EX, G), version=1).advance(s=259.999)
    assert play.group("lan0", G).version == 1
    play.advance(ms=1)
    assert play.group("lan0", G).version == 2


@covers("MLD-16", "MLD-19", "R004", "R006")
@pytest.mark.parametrize("asked", [None, G2])
def test_any_mldv1_query_makes_the_upstream_side_older(play, asked):
    play.on("lan0", record(TO_EX, G)).forget()
    play.on("wan", query(asked, version=1), host=9).advance(s=2).expect()
    play.advance(s=8)
    assert play.seen() == ([] if asked else [say((IS_EX, G), version=1)])
    play.on("lan0", record(TO_EX, G2))
    assert play.seen(containing="wan>") == [say((IS_EX, G2), version=1)]
    play.advance(s=60).on("lan0", record(TO_IN, G2)).advance(s=3)
    assert play.seen(containing="wan>") == [say((IS_EX, G2), version=1), say((TO_IN, G2), version=1)]
    play.at(ms=300_000 + 259_999)
    assert play.interface("wan").version == 1
    play.advance(ms=1)
    assert play.interface("wan").version == 2


@covers("MLD-17", "FWD-09")
@pytest.mark.parametrize("group", ["ff02::1", "ff02::fb", "ff01::5", "ff00::5", "ff12::abcd"])
def test_groups_of_the_link_are_never_proxied(play, group):
    play.on("lan0", record(TO_EX, group)).on("lan0", record(IS_EX, group), version=1).expect()
    assert play.group("lan0", group) is None


@covers("MLD-18")
def test_mldv1_may_answer_at_once():
    play = a_proxy("wan", "lan0", family=MLD, draw=lambda n: 1).at(s=300)
    play.on("lan0", record(TO_EX, G)).advance(s=5).on("wan", query(version=1), host=9).advance(s=20).forget()
    play.on("wan", query(G, version=1, max_response_ms=0), host=9).advance(ms=0)
    assert play.seen() == [say((IS_EX, G), version=1)]


@covers("MLD-20")
def test_a_non_querier_ignores_done_and_follows_the_querier(play):
    play.on("lan0", record(IS_EX, G), version=1).on("lan0", query(version=1), host=LOWER).forget()
    play.on("lan0", record(TO_IN, G), version=1).expect()
    assert play.group("lan0", G).expires_s == 270
    play.on("lan0", query(G, version=1, max_response_ms=2_000), host=LOWER)
    assert play.group("lan0", G).expires_s == 4


@covers("MLD-24", "SSM-01", "SSM-02", "SSM-03")
@pytest.mark.parametrize("group", ["ff35::1", "ff3e::1", "ff3e::8000:1"])
def test_source_specific_groups_of_every_scope(play, group):
    play.on("lan0", record(TO_EX, group)).on("lan0", record(IS_EX, group), version=1).expect()
    play.on("lan0", record(ALLOW, group, S1)).expect(say((ALLOW, group, S1)), route(S1, group, "wan", "lan0"))
    play.on("lan0", record(TO_EX, "ff3e:30:2001:db8::1"))
    assert play.group("lan0", "ff3e:30:2001:db8::1") is not None, "unicast-prefix-based groups are not source-specific"


@covers("MLD-25")
def test_reserved_fields_and_surplus_octets_of_mldv1_are_ignored():
    plain = bytes.fromhex("8300000000000000ff0e0000000000000000000000001234")
    noisy = bytes.fromhex("83aa0000bbbbcccc") + plain[8:] + b"surplus!"
    assert MLD.decode(noisy, packed("fe80::1"), None, 1, True) == MLD.decode(plain, packed("fe80::1"), None, 1, True)


@covers("MLD-23", "UP-07")
def test_a_general_query_is_answered_in_few_packets(play):
    groups = [packed("ff0e::7:0")[:-2] + n.to_bytes(2) for n in range(1, 201)]
    play.on("lan0", *[Record(TO_EX, group) for group in groups]).advance(s=5).forget()
    play.on("wan", query(), host=9).advance(s=9.9).expect()
    play.advance(ms=100)
    answers = [line for line in play.seen() if line.startswith("wan>")]
    assert len(answers) == 3  # 72 records of 20 octets fit behind 48 + 8 octets of headers
    assert sum(line.count("IS_EX") for line in answers) == 200


def test_sources_behind_a_downstream_are_known_by_their_global_prefix():
    play = Play(MLD).configure(config("wan", "lan0", "lan1", family=["ipv6"], quick_leave="on"))
    play.plug("wan", "fe80::1/64").plug("lan0", "fe80::2/64", "2001:db8:2::1/64").plug("lan1", "fe80::3/64", "2001:db8:3::1/64").found().forget()
    inner = "2001:db8:2::9"
    play.on("lan1", record(ALLOW, SSM, inner, S2))
    assert {route(inner, SSM, "lan0", "lan1", "wan"), route(S2, SSM, "wan", "lan1")} <= set(play.seen())
