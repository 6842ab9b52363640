"""Entries told at a glance: which joins are foreseen and which are not; that what is foreseen is stated, every play checks."""

from __future__ import annotations

import pytest

from igmpconf.engine.events import PacketReceived
from igmpconf.engine.family import IGMP, MLD
from igmpconf.engine.messages import Record, RecordKind
from igmpconf.engine.wire import igmp, mld
from tests.kit.builders import config, packed, record
from tests.kit.playbook import Play, a_proxy

IS_IN, IS_EX, TO_IN, TO_EX, ALLOW, BLOCK = RecordKind
G = "239.1.1.1"


def begun(**instance) -> Play:
    """A proxy that saw each set of takers once: what follows is like it."""
    play = a_proxy("wan", "lan0", "lan1", **instance)
    play.on("lan0", record(TO_EX, "239.9.9.9")).on("lan1", record(TO_EX, "239.9.9.9"))
    return play


def foreseen_by(play: Play, *said) -> int:
    before = play.foreseen
    play.on(*said)
    return play.foreseen - before


@pytest.mark.parametrize("kind", [IS_EX, TO_EX])
def test_a_join_of_a_new_group_is_foreseen(kind):
    assert foreseen_by(begun(), "lan0", record(kind, G)) == 1


def test_so_is_one_of_an_older_host_and_of_a_second_downstream():
    play = begun()
    play.on("lan0", Record(IS_EX, packed("239.1.1.2")), version=2)
    assert play.foreseen == 1
    assert foreseen_by(play, "lan1", record(TO_EX, "239.1.1.2")) == 1


def test_one_of_a_version_that_is_not_heard_is_not():
    play = a_proxy("wan", {"interface": "lan0", "minimum-version": 3})
    play.on("lan0", record(TO_EX, "239.9.9.9"))
    assert foreseen_by(play, "lan0", record(TO_EX, G)) == 1
    before = play.foreseen
    play.on("lan0", record(IS_EX, "239.1.1.2"), version=2)
    assert play.foreseen == before
    play.configure(config("wan", {"interface": "lan0", "minimum-version": 2})).on("lan0", record(TO_EX, "239.1.1.3"))
    play.on("lan0", record(IS_EX, "239.1.1.2"), version=2)
    assert play.foreseen == before + 2


def test_the_first_of_all_is_worked_out():
    assert foreseen_by(a_proxy("wan", "lan0"), "lan0", record(TO_EX, G)) == 0


def test_what_is_known_is_not_foreseen():
    play = begun()
    play.on("lan0", record(TO_EX, G))
    assert foreseen_by(play, "lan0", record(IS_EX, G)) == 0


@pytest.mark.parametrize(
    "said",
    [
        (record(IS_IN, G, "192.0.2.9"),),
        (record(TO_EX, G, "192.0.2.9"),),
        (record(TO_IN, G),),
        (record(TO_EX, G), record(TO_EX, "239.1.1.2")),
        (record(TO_EX, "224.0.0.251"),),
        (record(TO_EX, "232.1.1.1"),),
    ],
    ids=["sources wanted", "sources excluded", "leave", "two records", "stays on the link", "source-specific"],
)
def test_what_needs_a_second_thought_is_left_to_it(said):
    assert foreseen_by(begun(), "lan0", *said) == 0


@pytest.mark.parametrize(
    "instance",
    [
        {"groups": [{"sequence": 1, "action": "deny", "group": ["239.1.0.0/16"]}]},
        {"local_groups": ["239.1.0.0/16"]},
        {"mfc": [{"group": G, "downstream-interface": "lan1"}]},
    ],
    ids=["rules", "local", "permanent"],
)
def test_a_configuration_that_has_a_say_is_heard(instance):
    play = begun(**instance)
    assert foreseen_by(play, "lan0", record(TO_EX, G)) == 0


def test_strangers_and_routers_that_lost_the_election_lead_to_nothing():
    play = begun()
    before = play.foreseen
    play.on("lan0", record(TO_EX, G), host="172.16.0.1")
    play.on("lan0", record(TO_EX, G), host=1)  # the address that we have there: the kernel's own memberships are no listener's
    assert play.foreseen == before
    play.plug("lan0", up=False)
    assert foreseen_by(play, "lan0", record(TO_EX, G)) == 0


def test_a_source_that_somebody_treats_apart_is_thought_about():
    play = begun()
    play.on("lan1", record(IS_IN, G, "192.0.2.9"))
    assert foreseen_by(play, "lan0", record(TO_EX, G)) == 0


def test_mld_is_foreseen_alike():
    play = a_proxy("wan", "lan0", family=MLD)
    play.on("lan0", record(TO_EX, "ff0e::1:1"))
    assert foreseen_by(play, "lan0", record(TO_EX, "ff0e::1:2")) == 1
    before = play.foreseen
    play.on("lan0", record(IS_EX, "ff0e::1:3"), version=1)
    assert play.foreseen == before + 1


def test_a_damaged_message_is_no_join():
    for family, codec in ((IGMP, igmp), (MLD, mld)):
        group = packed("239.1.1.1" if family is IGMP else "ff0e::1:1")
        host = packed("10.2.0.9" if family is IGMP else "fe80::9")
        for version in range(1 if family is MLD else 2, family.latest_version + 1):
            ((destination, payload),) = family.encode_report(version, [Record(IS_EX, group)], 1500)
            told = codec.sole_join(payload, host, None, 1, True)
            assert told == (version, group)
            assert codec.sole_join(payload[:-1], host, None, 1, True) is None
            if family is IGMP:
                broken = bytes((*payload[:-1], payload[-1] ^ 1))
                assert codec.sole_join(broken, host, destination, 1, True) is None
            else:
                assert codec.sole_join(payload, host, destination, 1, True) is None  # the checksum is the kernel's to fill in
                assert codec.sole_join(payload, host, None, 2, True) is None
                assert codec.sole_join(payload, host, None, 1, False) is None
                assert codec.sole_join(payload, packed("2001:db8::9"), None, 1, True) is None


def test_looking_changes_nothing():
    play, other = begun(), begun()
    ((destination, payload),) = IGMP.encode_report(3, [record(TO_EX, G)], 1500)
    packet = PacketReceived(play.names["lan0"], packed("10.2.0.100"), destination, payload, 1, True)
    assert play.engine.foreseen(packet) == play.engine.foreseen(packet) is not None
    assert play.engine.handle(packet, 5) == other.engine.handle(packet, 5)
