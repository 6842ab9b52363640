"""What an event costs, counted in function calls instead of time: no clock, no flakiness, and a scan is seen at once."""

from __future__ import annotations

import gc
import sys
import tracemalloc

import pytest

from igmpconf.engine.effects import SendPacket
from igmpconf.engine.events import PacketReceived, PacketsReceived, TimePassed
from igmpconf.engine.family import IGMP, MLD
from igmpconf.engine.messages import Record
from igmpconf.engine.wire.ip import build_mld
from tests.kit.builders import ALLOW, IS_EX, IS_IN, TO_EX, TO_IN, packed
from tests.kit.conformance import covers
from tests.kit.playbook import Play, a_proxy


def calls(play: Play, event: object) -> int:
    """Python and C calls made while the engine handles `event`."""
    count = 0

    def counted(frame, kind, argument):
        nonlocal count
        count += kind in {"call", "c_call"}

    sys.setprofile(counted)
    try:
        play.engine.handle(event, play.now_ms)
    finally:
        sys.setprofile(None)
    return count


def a_report(play: Play, *records: Record, version: int | None = None, host: int = 100) -> PacketReceived:
    family = play.family
    ((destination, payload),) = family.encode_report(version or family.latest_version, records, 1500)
    sender = packed(f"10.2.0.{host}" if family is IGMP else f"fe80::2:{host:x}")
    return PacketReceived(play.names["lan0"], sender, destination if family is IGMP else None, payload, 1, True)


def a_group(family, n: int) -> bytes:
    return (0xEF010000 + n).to_bytes(4) if family is IGMP else packed("ff0e::7:0")[:-4] + n.to_bytes(4)


def with_groups(family, number: int) -> Play:
    play = a_proxy("wan", "lan0", family=family).at(s=300)
    for start in range(0, number, 50):
        play.engine.handle(a_report(play, *[Record(IS_EX, a_group(family, n)) for n in range(start, start + 50)]), play.now_ms)
    return play


@covers("R017")
@pytest.mark.parametrize("family", [IGMP, MLD], ids=["igmp", "mld"])
def test_a_refresh_costs_little_and_returns_nothing(family):
    play = with_groups(family, 50)
    one = a_report(play, Record(IS_EX, a_group(family, 7)))
    assert list(play.engine.handle(one, play.now_ms)) == []
    assert calls(play, one) <= 25
    many = a_report(play, *[Record(IS_EX, a_group(family, n)) for n in range(50)])
    assert list(play.engine.handle(many, play.now_ms)) == []
    assert calls(play, many) <= 25 + 50 * 8, "decoding and refreshing one record of many"


def test_a_refresh_of_an_older_host_and_of_a_source_cost_little_too():
    play = with_groups(IGMP, 50)
    older = a_report(play, Record(IS_EX, a_group(IGMP, 7)), version=2)
    source = frozenset({packed("192.0.2.1")})
    play.engine.handle(a_report(play, Record(ALLOW, packed("232.1.1.1"), source)), play.now_ms)
    specific = a_report(play, Record(IS_IN, packed("232.1.1.1"), source))
    for event in (older, specific):
        play.engine.handle(event, play.now_ms)
        assert calls(play, event) <= 25


@pytest.mark.parametrize("back", [0, 1], ids=["latest", "older"])
@pytest.mark.parametrize("what", [IS_EX, TO_EX, TO_IN], ids=["refresh", "join", "leave"])
def test_mld_takes_hardly_more_steps_than_igmp(what, back):
    counts = []
    for family in (IGMP, MLD):
        play = with_groups(family, 50)
        for number in range(3):  # the first of its kind is worked out
            group = a_group(family, 60_000 + number if what is TO_EX else 7 if what is IS_EX else 20 + number)
            event = a_report(play, Record(what, group), version=family.latest_version - back)
            if family is MLD:  # as the socket tells it, with the checksum that a host has filled in
                event.destination = family.all_report_routers
                event.payload = build_mld(event.sender, event.destination, event.payload)[48:]
            count = calls(play, event)
        counts.append(count)
    igmp, mld = counts
    assert mld <= 1.2 * igmp + 3, "sender, hop limit and a checksum over more than the message are looked at besides"


@covers("R017")
@pytest.mark.parametrize("what", [TO_EX, TO_IN, IS_EX])
def test_no_event_costs_more_where_there_are_more_groups(what):
    counts = []
    for number in (50, 3_000):
        play = with_groups(IGMP, number)
        group = a_group(IGMP, 7 if what is not TO_EX else 60_000)
        play.engine.handle(TimePassed(), play.now_ms)
        counts.append(calls(play, a_report(play, Record(what, group))))
    few, many = counts
    assert many <= few + 20, "log n for a heap is allowed, a scan is not"


@pytest.mark.parametrize("family", [IGMP, MLD], ids=["igmp", "mld"])
def test_what_waited_together_goes_up_together(family):
    joins = [Record(IS_EX, a_group(family, n)) for n in range(1_000, 1_300)]  # ff0e::c is a local group
    together, alone = with_groups(family, 0), with_groups(family, 0)
    sent = [effect for effect in together.engine.handle(PacketsReceived(tuple(a_report(together, join) for join in joins)), together.now_ms) if is_sent(effect)]
    one_by_one = [effect for join in joins for effect in alone.engine.handle(a_report(alone, join), alone.now_ms) if is_sent(effect)]
    assert len(one_by_one) == 300, "a lone join does not wait for company"
    assert len(sent) <= 5
    assert sum(len(record_groups(family, effect)) for effect in sent) == 300
    assert together.engine.proxy.database == alone.engine.proxy.database
    assert together.engine.routes.installed == alone.engine.routes.installed


def is_sent(effect: object) -> bool:
    return isinstance(effect, SendPacket)


def record_groups(family, effect: SendPacket) -> set[bytes]:
    message = family.decode(effect.payload, effect.source, None, 1, True)
    return {record.group for record in message.records}


def test_an_entry_told_at_a_glance_costs_little():
    play = with_groups(IGMP, 50)
    for number in range(2):  # the first of its kind is worked out
        play.engine.handle(a_report(play, Record(TO_EX, a_group(IGMP, 1_000 + number))), play.now_ms)
    event = a_report(play, Record(TO_EX, a_group(IGMP, 2_000)))
    count = 0

    def counted(frame, kind, argument):
        nonlocal count
        count += kind in {"call", "c_call"}

    sys.setprofile(counted)
    try:
        entry = play.engine.foreseen(event)
    finally:
        sys.setprofile(None)
    assert entry is not None
    assert count <= 32


def test_a_membership_takes_little_memory():
    play = a_proxy("wan", "lan0", "lan1", "lan2").at(s=300)
    reports = [
        (
            play.names[name],
            bytes((10, play.names[name], 0, 9)),
            IGMP.encode_report(3, [Record(IS_EX, a_group(IGMP, n)) for n in range(start, start + 100)], 1500),
        )
        for name in ("lan0", "lan1", "lan2")
        for start in range(0, 3_000, 100)
    ]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for ifindex, sender, packets in reports:
            for destination, payload in packets:
                play.engine.handle(PacketReceived(ifindex, sender, destination, bytes(payload), 1, True), play.now_ms)
        play.advance(s=5).forget()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(play.engine.proxy.database) == 3_000
    assert held / 9_000 <= 850, "octets for each group of each downstream, what the engine keeps of its entries and of the upstream included"
