"""The performer against a kernel that can refuse: numbers are translated, nothing forwards for a former owner."""

from __future__ import annotations

import errno
import socket

import pytest

from igmpconf.engine.effects import ClearRoute, ClearVif, Note, SendPacket, SetRoute, SetVif
from igmpconf.engine.events import EffectFailed
from igmpconf.engine.family import IGMP
from igmpconf.ids import IfIndex, TableId
from igmpconf.linux.perform import Performer
from tests.kit.fake_kernel import FakeKernel

G = socket.inet_aton("239.1.1.1")


@pytest.fixture
def kernel():
    made = FakeKernel()
    for name in ("wan", "lan0", "lan1"):
        made.link(name)
    yield made
    made.close()


@pytest.fixture
def notes():
    return []


@pytest.fixture
def performer(kernel, notes):
    table = kernel.open_table(IGMP, TableId(0))
    yield Performer(table, notes.append)
    table.close()


def any_any(kernel, *names: str) -> SetRoute:
    return SetRoute(None, None, kernel.index("wan"), tuple(sorted((kernel.index(name), 1) for name in ("wan", *names))))


def shared(kernel, *names: str) -> SetRoute:
    return SetRoute(None, G, kernel.index("wan"), tuple(sorted((kernel.index(name), 1) for name in names)))


def everything(kernel) -> list[SetVif]:
    return [SetVif(kernel.index(name), is_upstream=name == "wan") for name in ("wan", "lan0", "lan1")]


def test_effects_become_forwarding(kernel, performer):
    assert performer.perform([*everything(kernel), any_any(kernel, "lan0", "lan1"), shared(kernel, "lan0")]) == []
    assert kernel.forwarded("wan", "10.1.0.2", "239.1.1.1") == {"lan0"}
    assert kernel.forwarded("wan", "10.1.0.2", "239.1.1.2") == set()
    assert kernel.forwarded("lan1", "10.3.0.2", "239.1.1.2") == {"wan"}
    assert performer.perform([ClearRoute(None, G), ClearRoute(None, G)]) == []
    assert kernel.forwarded("wan", "10.1.0.2", "239.1.1.1") == set()


def test_router_groups_are_joined_on_downstreams_only(kernel, performer):
    performer.perform(everything(kernel))
    assert kernel.states["ipv4", 0].joined == {kernel.index("lan0"), kernel.index("lan1")}
    performer.perform([SetVif(kernel.index("lan0"), is_upstream=True), ClearVif(kernel.index("lan1"))])
    assert kernel.states["ipv4", 0].joined == set()


def test_twice_is_harmless(kernel, performer):
    effects = [*everything(kernel), any_any(kernel, "lan0", "lan1"), shared(kernel, "lan0")]
    performer.perform(effects)
    assert performer.perform(effects) == []
    assert len(kernel.states["ipv4", 0].vifs) == 3


def test_a_refusal_comes_back_and_does_not_stop_those_that_follow(kernel, performer):
    kernel.refuse["add_vif"] = errno.ENFILE
    wan, lan0, lan1 = everything(kernel)
    assert performer.perform([wan, lan0]) == [EffectFailed(wan, errno.ENFILE), EffectFailed(lan0, errno.ENFILE)]
    route = shared(kernel, "lan0")
    assert performer.perform([route]) == [EffectFailed(route, errno.ENODEV)]
    del kernel.refuse["add_vif"]
    kernel.refuse["send"] = errno.ENETUNREACH
    packet = SendPacket(kernel.index("lan0"), G, b"x")
    assert performer.perform([packet, wan, lan0, lan1]) == [EffectFailed(packet, errno.ENETUNREACH)]
    performer.perform([any_any(kernel, "lan0", "lan1")])
    assert kernel.forwarded("wan", "10.1.0.2", "239.1.1.1") == {"lan0"}  # the entry was completed when its vifs came


def test_an_entry_is_completed_when_the_refused_interface_comes(kernel, performer):
    wan, lan0, lan1 = everything(kernel)
    performer.perform([wan, lan0, any_any(kernel, "lan0", "lan1"), shared(kernel, "lan0", "lan1")])
    assert kernel.forwarded("wan", "10.1.0.2", "239.1.1.1") == {"lan0"}
    performer.perform([lan1])
    assert kernel.forwarded("wan", "10.1.0.2", "239.1.1.1") == {"lan0", "lan1"}


def test_a_number_that_is_used_again_does_not_forward_for_its_former_owner(kernel, performer):
    performer.perform([*everything(kernel), any_any(kernel, "lan0", "lan1"), shared(kernel, "lan0", "lan1")])
    gone = kernel.index("lan0")
    kernel.unlink("lan0")
    performer.perform([ClearVif(gone)])
    for number in range(40):  # more than there are vif numbers
        fresh = kernel.link(f"x{number}")
        assert performer.perform([SetVif(fresh, is_upstream=False)]) == []
        assert kernel.forwarded("wan", "10.1.0.2", "239.1.1.1") == {"lan1"}
        performer.perform([ClearVif(fresh)])


def test_an_entry_without_a_parent_is_taken_out_until_the_parent_returns(kernel, performer):
    performer.perform([*everything(kernel), any_any(kernel, "lan0", "lan1"), shared(kernel, "lan0")])
    performer.perform([ClearVif(kernel.index("wan"))])
    assert kernel.states["ipv4", 0].entries == {}
    performer.perform([SetVif(kernel.index("wan"), is_upstream=True)])
    assert kernel.forwarded("wan", "10.1.0.2", "239.1.1.1") == {"lan0"}


def test_the_33rd_interface_is_refused(kernel, performer):
    links = [kernel.link(f"x{number}") for number in range(33)]
    failed = performer.perform([SetVif(ifindex, is_upstream=False) for ifindex in links])
    assert failed == [EffectFailed(SetVif(links[32], is_upstream=False), errno.ENFILE)]


def test_what_was_found_is_claimed_or_forgotten(kernel, performer, notes):
    performer.perform([*everything(kernel), any_any(kernel, "lan0", "lan1"), shared(kernel, "lan0", "lan1")])
    held = kernel.states["ipv4", 0].signal.ours.dup()
    table = kernel.open_table(IGMP, TableId(0), held)
    again = Performer(table, notes.append)
    assert {(entry.source, entry.group) for entry in again.found} == {(None, None), (None, G)}
    kernel.calls.clear()
    wan, lan0, _ = everything(kernel)
    assert again.perform([wan, lan0]) == []
    assert "add_vif" not in kernel.calls
    assert kernel.forwarded("wan", "10.1.0.2", "239.1.1.1") == {"lan0", "lan1"}
    assert again.forget_unclaimed() == []
    assert kernel.forwarded("wan", "10.1.0.2", "239.1.1.1") == {"lan0"}
    table.close()


def test_an_entry_whose_parent_vanished_meanwhile_is_removed(kernel, performer, notes):
    performer.perform([*everything(kernel), any_any(kernel, "lan0"), shared(kernel, "lan0")])
    held = kernel.states["ipv4", 0].signal.ours.dup()
    kernel.unlink("wan")
    table = kernel.open_table(IGMP, TableId(0), held)
    again = Performer(table, notes.append)
    again.perform(everything_but(kernel, "wan"))
    assert again.forget_unclaimed() == []
    assert kernel.states["ipv4", 0].entries == {}
    table.close()


def everything_but(kernel, name: str) -> list[SetVif]:
    return [SetVif(one.ifindex, is_upstream=False) for one in kernel.interfaces.values() if one.name != name]


def test_notes_go_to_the_log(performer, notes):
    note = Note("info", "membership/joined", {"group": "239.1.1.1"})
    assert performer.perform([note]) == []
    assert notes == [note]


def test_what_is_gone_needs_no_clearing(kernel, performer):
    performer.perform(everything(kernel))
    gone = kernel.index("lan0")
    kernel.unlink("lan0")
    assert performer.perform([ClearVif(gone), ClearVif(gone), ClearVif(IfIndex(99))]) == []
