"""What holds for every input: algebra, codecs, the state tables against a plain reading of them, and time."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igmpconf.engine.family import IGMP, MLD, Family
from igmpconf.engine.groupstate import GroupState
from igmpconf.engine.messages import Query, Record, RecordKind
from igmpconf.engine.sources import EVERYTHING, NOTHING, SourceSet
from igmpconf.engine.wire.checksum import internet_checksum, is_intact
from igmpconf.engine.wire.ip import parse_ipv4
from igmpconf.errors import WireError
from tests.kit.builders import a_query
from tests.kit.conformance import covers
from tests.kit.playbook import Play, a_proxy
from tests.kit.strategies import GROUPS, UNIVERSE, families, latest_queries, sender, source_sets, steps, wire_records

ALSO = bytes((203, 0, 113, 1))  # a source that no set lists


def members(wanted: SourceSet) -> frozenset[bytes]:
    return frozenset(source for source in (*UNIVERSE, ALSO) if source in wanted)


# -- algebra -----------------------------------------------------------------------------------------------------------------


@given(source_sets, source_sets)
def test_source_sets_are_sets(a, b):
    whole = members(EVERYTHING)
    assert members(a | b) == members(a) | members(b)
    assert members(a & b) == members(a) & members(b)
    assert members(a - b) == members(a) - members(b)
    assert members(~a) == whole - members(a)
    assert bool(a) is (a != NOTHING)
    assert a | b == b | a
    assert a & b == b & a
    assert (members(a) == members(b)) is (a == b)


# -- codecs ------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.just(0), st.just(0), st.integers(0, 0xFFFF)), min_size=8, max_size=8))
def test_addresses_are_written_as_everybody_writes_them(words):
    address = b"".join(word.to_bytes(2) for word in words)
    known = ipaddress.IPv6Address(address)
    if known.ipv4_mapped is None:  # which Pythons write in different ways
        assert MLD.text(address) == str(known)
    assert IGMP.text(address[:4]) == str(ipaddress.IPv4Address(address[:4]))


@given(st.data(), families)
def test_decoding_gives_back_what_was_encoded(data, family):
    said = data.draw(st.lists(wire_records(family), max_size=8))
    decoded = [
        one for _, payload in family.encode_report(family.latest_version, said, 1500) for one in family.decode(payload, sender(family), None, 1, True).records
    ]
    assert decoded == said
    query = data.draw(latest_queries(family))
    assert [family.decode(payload, sender(family), None, 1, True) for payload in family.encode_query(query, 1500)] == [query]


@given(st.binary(min_size=8, max_size=80), st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), st.booleans())
def test_the_checksum_of_mld_covers_the_pseudo_header(payload, host, destination, intact):
    pseudo = host + destination + len(payload).to_bytes(4) + (58).to_bytes(4)
    if intact:
        payload = payload[:2] + internet_checksum(pseudo + payload[:2] + bytes(2) + payload[4:]).to_bytes(2) + payload[4:]
    reason = ""
    try:
        MLD.decode(payload, host, destination, 1, True)
    except WireError as error:
        reason = error.reason
    assert (reason == "checksum") is not is_intact(pseudo + payload)


@given(st.data(), families)
def test_a_report_that_is_heard_again_says_the_same(data, family):
    said = data.draw(st.lists(wire_records(family), min_size=1, max_size=4))
    other = bytes((10, 2, 0, 77)) if family is IGMP else b"\xfe\x80" + bytes(13) + b"\x77"
    for version in range(family.leave_version, family.latest_version + 1):
        for _, payload in family.encode_report(version, said, 1500):
            first, again, another = (family.decode(payload, host, None, 1, True) for host in (sender(family), sender(family), other))
            assert first == again
            assert (another.sender, another.version, another.records) == (other, first.version, first.records)


@given(st.data(), families, st.integers(576, 1500))
def test_packets_fit_and_nothing_but_exclude_lists_is_lost(data, family, mtu):
    said = data.draw(st.lists(wire_records(family), max_size=4))
    many = frozenset(family.address_bytes.to_bytes(1) + n.to_bytes(family.address_bytes - 1) for n in range(1, 600))
    said.append(
        Record(data.draw(st.sampled_from((RecordKind.ALLOW, RecordKind.IS_IN, RecordKind.BLOCK))), GROUPS[0].rjust(family.address_bytes, b"\xff"), many)
    )
    packets = family.encode_report(family.latest_version, said, mtu)
    assert all(len(payload) + family.header_bytes <= mtu for _, payload in packets)
    gathered: dict[tuple[RecordKind, bytes], set[bytes]] = {}
    for _, payload in packets:
        for one in family.decode(payload, sender(family), None, 1, True).records:
            gathered.setdefault((one.kind, one.group), set()).update(one.sources)
    wanted: dict[tuple[RecordKind, bytes], set[bytes]] = {}
    for one in said:
        wanted.setdefault((one.kind, one.group), set()).update(one.sources)
    assert gathered == wanted


@covers("ROB-02")
@given(st.binary(max_size=120), families, st.booleans())
@settings(max_examples=500)
def test_decoding_raises_wire_errors_only(payload, family, summed):
    if summed and len(payload) >= 4:  # or nothing would get past the checksum
        payload = payload[:2] + b"\0\0" + payload[4:]
        payload = payload[:2] + internet_checksum(payload).to_bytes(2) + payload[4:]
    if payload and summed:
        kinds = (0x11, 0x12, 0x16, 0x17, 0x22) if family is IGMP else (130, 131, 132, 143)
        payload = bytes((kinds[payload[0] % len(kinds)],)) + payload[1:]
        if len(payload) >= 4 and family is IGMP:
            payload = payload[:2] + internet_checksum(payload[:2] + b"\0\0" + payload[4:]).to_bytes(2) + payload[4:]
    with contextlib.suppress(WireError):
        family.decode(payload, sender(family), None, 1, True)
    with contextlib.suppress(WireError):
        parse_ipv4(payload)


@pytest.mark.parametrize("family", [IGMP, MLD], ids=["igmp", "mld"])
def test_any_octet_may_break_and_any_end_may_be_cut(family: Family):
    whole = [
        payload
        for _, payload in family.encode_report(
            family.latest_version, [Record(RecordKind.ALLOW, family.all_hosts[:-1] + b"\x63", frozenset({sender(family)}))], 1500
        )
    ]
    whole += family.encode_query(Query(b"", family.latest_version, family.all_hosts, (sender(family),)), 1500)
    for payload in whole:
        for at in range(len(payload)):
            for value in (0, 1, 0x7F, 0x80, 0xFF):
                broken = bytearray(payload)
                broken[at] = value
                with contextlib.suppress(WireError):
                    family.decode(bytes(broken), sender(family), None, 1, True)
            with contextlib.suppress(WireError):
                family.decode(payload[:at], sender(family), None, 1, True)


# -- the tables, read plainly ------------------------------------------------------------------------------------------------

GMI_MS = 270_000


class PlainReading:
    """RFC 3376 6.4 in its own notation: mode, X (or A), Y as sets, timers beside them."""

    def __init__(self) -> None:
        self.mode, self.x, self.y, self.timer, self.group_timer = "IN", set(), set(), {}, 0

    def apply(self, kind: RecordKind, b: set[bytes], now_ms: int) -> tuple[bool, set[bytes]]:
        gmi, a, x, y = now_ms + GMI_MS, set(self.x), set(self.x), set(self.y)
        asked_group, asked = False, set()
        if self.mode == "IN":
            match kind:
                case RecordKind.IS_IN | RecordKind.ALLOW | RecordKind.TO_IN:
                    self.x = a | b
                    self.timer.update(dict.fromkeys(b, gmi))
                    asked = a - b if kind is RecordKind.TO_IN else set()
                case RecordKind.IS_EX | RecordKind.TO_EX:
                    self.mode, self.x, self.y, self.group_timer = "EX", a & b, b - a, gmi
                    asked = a & b if kind is RecordKind.TO_EX else set()
                case RecordKind.BLOCK:
                    asked = a & b
        else:
            match kind:
                case RecordKind.IS_IN | RecordKind.ALLOW | RecordKind.TO_IN:
                    self.x, self.y = x | b, y - b
                    self.timer.update(dict.fromkeys(b, gmi))
                    asked_group, asked = kind is RecordKind.TO_IN, (x - b if kind is RecordKind.TO_IN else set())
                case RecordKind.IS_EX | RecordKind.TO_EX:
                    self.x, self.y = b - y, y & b
                    self.timer.update(dict.fromkeys(b - x - y, gmi if kind is RecordKind.IS_EX else self.group_timer))
                    self.group_timer = gmi
                    asked = b - y if kind is RecordKind.TO_EX else set()
                case RecordKind.BLOCK:
                    self.x = x | (b - y)
                    self.timer.update(dict.fromkeys(b - x - y, self.group_timer))
                    asked = b - y
        return asked_group, asked

    def expire(self, now_ms: int) -> None:
        ended = {source for source in self.x if self.timer[source] <= now_ms}
        self.x -= ended
        if self.mode == "EX":
            if self.group_timer <= now_ms:
                self.mode, self.y = "IN", set()
            else:
                self.y |= ended


@covers("MEM-01", "MEM-12", "MEM-13", "MEM-16")
@given(st.lists(st.tuples(st.sampled_from(RecordKind), st.frozensets(st.sampled_from(UNIVERSE)), st.integers(0, 200_000)), max_size=12))
@settings(max_examples=400)
def test_the_tables_agree_with_a_plain_reading_of_them(happenings):
    state, plain, now_ms = GroupState(GROUPS[0], 0), PlainReading(), 0
    for kind, listed, later_ms in happenings:
        asked = state.apply(kind, listed, now_ms + GMI_MS)
        group, sources = plain.apply(kind, set(listed), now_ms)
        assert (asked.group, asked.sources) == (group, frozenset(sources))
        now_ms += later_ms
        state.expire(now_ms)
        plain.expire(now_ms)
        assert (state.exclude, set(state.wanted), state.blocked) == (plain.mode == "EX", plain.x, plain.y)
        assert state.wanted == {source: plain.timer[source] for source in plain.x}
        assert not state.exclude or state.exclude_until_ms == plain.group_timer


# -- whole afternoons ----------------------------------------------------------------------------------------------------------


def played(happenings, **instance) -> Play:
    draws = iter(range(10**9))
    play = a_proxy("wan", "lan0", "lan1", draw=lambda n: next(draws) * 7919 % n + 1, **instance)
    for what, later_ms in happenings:
        match what:
            case ("report", name, said, host):
                play.on(name, *said, host=host)
            case ("older", name, version, group, joins):
                play.on(name, Record(RecordKind.IS_EX if joins else RecordKind.TO_IN, group), version=version)
            case ("query", name, version, group, host):
                play.on(name, a_query(IGMP.text(group) if group else None, version=version), host=host)
            case ("link", name, up):
                play.plug(name, up=up)
        play.advance(ms=later_ms)
        check(play)
    return play


def check(play: Play) -> None:
    """What must hold at every instant."""
    engine = play.engine
    merged: dict[bytes, SourceSet] = {}
    for downstream in engine.downstreams.values():
        assert downstream.is_running or not downstream.listeners.groups
        for group, state in downstream.listeners.groups.items():
            assert state
            assert not state.exclude or state.exclude_until_ms > play.now_ms
            assert all(at_ms > play.now_ms for at_ms in state.wanted.values())
            assert not state.blocked or state.exclude
            assert not state.blocked & state.wanted.keys()
            merged[group] = merged.get(group, NOTHING) | state.membership()
    assert engine.proxy.database == merged
    if engine.upstream is not None and engine.upstream.interface.link.is_up:
        assert {group: held.wanted for group, held in engine.upstream.host.groups.items() if held.wanted} == merged
    for (source, _), (iif, leaving) in engine.routes.installed.items():
        assert source is None or iif not in dict(leaving)
        assert list(leaving) == sorted(leaving)


@covers("DB-04", "DB-05", "DB-07", "ROB-02")
@given(steps, st.sampled_from(("off", "on", "auto")))
@settings(max_examples=150, deadline=None)
def test_at_every_instant_upstream_is_told_the_union_and_silence_empties_everything(happenings, quick_leave):
    play = played(happenings, quick_leave=quick_leave)
    for name in ("wan", "lan0", "lan1"):
        play.plug(name)
    play.advance(s=2_000)
    check(play)
    state = play.engine.snapshot(play.now_ms)
    assert (state.groups, state.upstream, state.hosts) == ((), (), ())
    assert {str(row.group) for row in state.mfc} == {"*", "239.255.255.250"}
    play.configure(None).advance(s=1_000)
    assert play.engine.next_deadline_ms() is None
    assert play.engine.routes.installed == {}


@given(steps)
@settings(max_examples=50, deadline=None)
def test_the_same_events_have_the_same_effects(happenings):
    assert played(happenings).effects == played(happenings).effects


# -- loss ----------------------------------------------------------------------------------------------------------------------


class Chain:
    """A proxy below another: the lower one's upstream is the upper one's downstream, and the k-th packet between them is lost."""

    def __init__(self, lost: int, quick_leave: str) -> None:
        self.lost, self.passed = lost, 0
        self.upper = a_proxy("wan", "lan0", quick_leave=quick_leave)
        self.lower = a_proxy("wan", "lan0", quick_leave="on")
        self.lower.plug("wan", "10.2.0.50/24")
        self.seen_upper = self.seen_lower = 0

    def carry(self) -> None:
        """Deliver what either sent, and what that causes, until nobody says anything."""
        moved = True
        while moved:
            moved = False
            for side, other, interface in ((self.upper, self.lower, "lan0"), (self.lower, self.upper, "wan")):
                mark = "seen_upper" if side is self.upper else "seen_lower"
                fresh, now = side.effects[getattr(self, mark) :], len(side.effects)
                setattr(self, mark, now)
                for _, effect in fresh:
                    if type(effect).__name__ == "SendPacket" and effect.ifindex == side.names[interface]:
                        self.passed += 1
                        moved = True
                        if self.passed != self.lost:
                            other.raw("wan" if other is self.lower else "lan0", effect.payload, effect.source, destination=effect.destination)

    def until(self, ms: int) -> None:
        """Both clocks run together, one deadline at a time."""
        while True:
            self.carry()
            due = [at for side in (self.upper, self.lower) if (at := side.engine.next_deadline_ms()) is not None and at <= ms]
            if not due:
                break
            for side in (self.upper, self.lower):
                side.at(ms=min(due))
        for side in (self.upper, self.lower):
            side.at(ms=ms)


@covers("ROB-01", "UP-04", "QRY-13")
@pytest.mark.parametrize("quick_leave", ["off", "auto", "on"])
@pytest.mark.parametrize("lost", range(25))
@pytest.mark.parametrize(
    "said",
    [(RecordKind.TO_EX, frozenset()), (RecordKind.ALLOW, frozenset(UNIVERSE[:2])), (RecordKind.TO_EX, frozenset(UNIVERSE[:1]))],
    ids=["any", "allow", "exclude"],
)
def test_any_single_loss_heals(said, lost, quick_leave):
    kind, sources = said
    chain = Chain(lost, quick_leave)
    group = GROUPS[0]
    chain.until(2_000)
    chain.lower.on("lan0", Record(kind, group, sources))
    chain.until(4_000)
    held = chain.upper.engine.proxy.database.get(group)
    assert held == chain.lower.engine.proxy.database[group], "a join that lost one packet is heard all the same"
    chain.until(100_000)
    leaving = [Record(RecordKind.TO_IN, group)] + ([Record(RecordKind.BLOCK, group, sources)] if sources else [])
    chain.lower.on("lan0", *leaving)
    assert group not in chain.lower.engine.proxy.database
    chain.until(100_000 + 6_000)
    assert chain.upper.engine.proxy.database.get(group) is None, "so is a leave"
    assert chain.passed > 6


A, B, C = UNIVERSE[:3]
# What the host wanted, and what it says when it changes its mind (RFC 3376 5.1).
CHANGES = {
    "one source for another": ([Record(RecordKind.ALLOW, GROUPS[0], frozenset({A, B}))], [Record(RecordKind.ALLOW, GROUPS[0], frozenset({C})), Record(RecordKind.BLOCK, GROUPS[0], frozenset({A}))]),
    "one source less": ([Record(RecordKind.ALLOW, GROUPS[0], frozenset({A, B}))], [Record(RecordKind.BLOCK, GROUPS[0], frozenset({B}))]),
    "all but one": ([Record(RecordKind.ALLOW, GROUPS[0], frozenset({A, B}))], [Record(RecordKind.TO_EX, GROUPS[0], frozenset({B}))]),
    "only one": ([Record(RecordKind.TO_EX, GROUPS[0], frozenset({B}))], [Record(RecordKind.TO_IN, GROUPS[0], frozenset({A}))]),
    "another one blocked": ([Record(RecordKind.TO_EX, GROUPS[0], frozenset({B}))], [Record(RecordKind.BLOCK, GROUPS[0], frozenset({C})), Record(RecordKind.ALLOW, GROUPS[0], frozenset({B}))]),
    "nothing blocked any more": ([Record(RecordKind.TO_EX, GROUPS[0], frozenset({B}))], [Record(RecordKind.TO_EX, GROUPS[0], frozenset())]),
}  # fmt: skip


@covers("ROB-01", "UP-05", "MEM-10", "MEM-12")
@pytest.mark.parametrize("quick_leave", ["off", "auto", "on"])
@pytest.mark.parametrize("lost", range(12))
@pytest.mark.parametrize("change", CHANGES)
def test_any_single_loss_during_a_change_of_sources_heals(change, lost, quick_leave):
    """Until the last packet of the change is out, any one of them, in either direction, may vanish."""
    before, after = CHANGES[change]
    chain = Chain(0, quick_leave)
    group = GROUPS[0]
    chain.until(2_000)
    chain.lower.on("lan0", *before)
    chain.until(100_000)
    assert chain.upper.engine.proxy.database.get(group) == chain.lower.engine.proxy.database[group]
    chain.passed, chain.lost = 0, lost + 1
    chain.lower.on("lan0", *after)
    chain.until(100_000 + 6_000)
    held = chain.upper.engine.proxy.database.get(group)
    assert held == chain.lower.engine.proxy.database[group]
    assert chain.passed >= 2
