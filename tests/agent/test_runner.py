"""The runner over a kernel that can refuse: all or nothing, adoption, further tables, counters."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import ipaddress
import time

import pytest

from igmpconf.agent.runner import Runner
from igmpconf.engine.effects import SetRoute
from igmpconf.errors import KernelError
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from tests.kit.fake_kernel import FakeKernel, v3_report

G = "239.1.1.1"
IS_EX, TO_IN, TO_EX = 2, 3, 4


def device(*proxies: dict) -> DeviceConfig:
    return from_plain(DeviceConfig, {"igmp-proxy": list(proxies)})


def proxy(name: str, upstream: str, *downstreams: str, **more) -> dict:
    return {"name": name, "interfaces": [{"interface": upstream, "upstream": True}, *downstreams], **more}


ONE = device(proxy("default", "wan", "lan0", "lan1"))


class Holder:
    """A keeper: holds copies."""

    def __init__(self) -> None:
        self.held = {}

    def hold(self, name, sock):
        self.held[name] = sock.dup()

    def drop(self, name):
        self.held.pop(name).close()

    def close(self):
        for sock in self.held.values():
            sock.close()


class Site:
    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.loop = asyncio.new_event_loop()
        self.errors = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        for number, name in enumerate(("wan", "lan0", "lan1", "wan2", "lan2")):
            self.kernel.link(name, f"10.{number}.0.1/24")
        self.holder = Holder()
        self.notes = []
        self.runner = self.a_runner()

    def a_runner(self, held=None) -> Runner:
        return Runner(self.kernel, loop=self.loop, log=self.notes.append, holder=self.holder, held=held)

    def run(self, condition) -> None:
        """Let the loop work until it is so."""

        async def wait():
            deadline = time.monotonic() + 5
            while not condition():
                assert time.monotonic() < deadline, "it did not happen in time"
                await asyncio.sleep(0.001)

        self.loop.run_until_complete(wait())

    def join(self, name: str, group: str = G) -> None:
        sender = ipaddress.ip_address(self.kernel.interfaces[self.kernel.index(name)].ipv4[0].address) + 1
        self.kernel.deliver(name, str(sender), v3_report(TO_EX, group))

    def close(self) -> None:
        self.runner.close()
        self.holder.close()
        self.loop.close()
        self.kernel.close()
        assert self.errors == []


@pytest.fixture
def site():
    made = Site()
    yield made
    made.close()


def test_a_report_becomes_forwarding_and_a_row_with_counters(site):
    site.runner.replace(ONE)
    assert site.kernel.forwarded("wan", "10.0.0.2", G) == set()
    site.join("lan0")
    site.run(lambda: site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"})
    rows = {(str(row.source), str(row.group)): row for row in site.runner.snapshot().mfc}
    row = rows["*", G]
    assert row.upstream == "wan"
    assert "lan0" in row.downstreams
    assert row.packets == 1
    assert row.bytes == 100
    assert row.wrong_if == 0
    assert row.state == "forwarding"
    site.join("lan1", "239.1.1.2")
    site.run(lambda: ("*", "239.1.1.2") in {(str(row.source), str(row.group)) for row in site.runner.snapshot().mfc})
    rows = {str(row.group): row for row in site.runner.snapshot().mfc}
    assert rows["239.1.1.2"].state == "waiting-for-data"
    assert {(row.interface, row.role, row.up) for row in site.runner.snapshot().interfaces} == {
        ("wan", "upstream", True),
        ("lan0", "downstream", True),
        ("lan1", "downstream", True),
    }


def test_what_a_change_does_not_concern_does_not_notice_it(site):
    site.runner.replace(ONE)
    site.join("lan0")
    site.run(lambda: site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"})
    site.kernel.calls.clear()
    site.runner.replace(ONE)
    assert site.kernel.calls == []
    site.runner.replace(device(proxy("default", "wan", "lan0", "lan1", "lan2")))
    assert "del_vif" not in site.kernel.calls
    assert "clear_route" not in site.kernel.calls
    assert site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"}


@pytest.mark.parametrize(
    ("verb", "code", "word"),
    [
        ("open_table", errno.EADDRINUSE, "multicast routing socket"),
        ("open_table", errno.ENOPROTOOPT, "CONFIG_IP_MROUTE"),
        ("open_table", errno.EPERM, "lacks CAP_NET_ADMIN"),
        ("add_vif", errno.ENFILE, "all 32 multicast interfaces"),
        ("join_routers", errno.ENOBUFS, "No buffer space"),
        ("set_route", errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_a_refused_first_configuration_leaves_nothing(site, verb, code, word):
    site.kernel.refuse[verb] = code
    with pytest.raises(KernelError, match=word) as refused:
        site.runner.replace(ONE)
    assert refused.value.hint
    del site.kernel.refuse[verb]
    assert site.runner.snapshot().interfaces == ()
    assert site.holder.held == {}
    site.runner.replace(ONE)  # and the next attempt is free to succeed
    assert len(site.kernel.states["ipv4", 0].vifs) == 3


def test_a_refused_change_leaves_everything_as_it_was(site):
    site.runner.replace(ONE)
    site.join("lan0")
    site.run(lambda: site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"})
    before = dict(site.kernel.states["ipv4", 0].vifs)
    site.kernel.refuse["add_vif"] = errno.ENFILE
    with pytest.raises(KernelError, match="default"):
        site.runner.replace(device(proxy("default", "wan", "lan0", "lan1", "lan2")))
    assert site.kernel.states["ipv4", 0].vifs == before
    assert site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"}
    assert {row.interface for row in site.runner.snapshot().interfaces} == {"wan", "lan0", "lan1"}
    with pytest.raises(KernelError, match="default"):  # lan1 would go, lan2 is refused: lan1 does not notice
        site.runner.replace(device(proxy("default", "wan", "lan0", "lan2")))
    assert site.kernel.states["ipv4", 0].vifs == before
    assert "del_vif" not in site.kernel.calls
    with pytest.raises(KernelError, match="other"):
        site.runner.replace(device(proxy("default", "wan", "lan0"), proxy("other", "wan2", "lan2")))
    assert site.kernel.states["ipv4", 0].vifs == before
    assert list(site.holder.held) == ["ipv4-0-default"]


def test_an_instance_that_becomes_bridged_is_opened_anew_or_stays_as_it_was(site):
    """The ports of br0 are p0 and p1; lan0 is no port of it, whatever the configuration says."""
    br0 = site.kernel.link("br0", "10.9.0.1/24")
    for name in ("p0", "p1"):
        index = site.kernel.link(name)
        site.kernel._tell(dataclasses.replace(site.kernel.interfaces[index], master=br0))
    bridged = device(proxy("default", "p0", "p1", "lan0", mode="bridged", bridge="br0"))
    site.runner.replace(ONE)
    site.kernel.refuse["open_bridge"] = errno.EPERM
    with pytest.raises(OSError, match="not permitted"):
        site.runner.replace(bridged)
    assert {row.interface for row in site.runner.snapshot().interfaces if row.up} == {"wan", "lan0", "lan1"}
    del site.kernel.refuse["open_bridge"]
    site.runner.replace(bridged)
    site.run(lambda: sum(row.up for row in site.runner.snapshot().interfaces) == 2)
    rows = {row.interface: row for row in site.runner.snapshot().interfaces}
    assert {name: row.addresses for name, row in rows.items() if row.querier is not None or row.role == "upstream"} == {
        "p0": ("10.9.0.1/24",),
        "p1": ("10.9.0.1/24",),
    }
    assert rows["p1"].querier.address == ipaddress.ip_address("10.9.0.1")
    assert set(site.holder.held) == {"ipv4-0-default/br0"}
    site.run(lambda: any(one.destination == bytes((224, 0, 0, 1)) for one in site.kernel.sent(family="ipv4 on br0")))
    site.kernel._tell(dataclasses.replace(site.kernel.interfaces[site.kernel.index("p1")], master=None))
    site.run(lambda: not any(row.up for row in site.runner.snapshot().interfaces if row.interface == "p1"))
    site.runner.replace(ONE)
    assert {row.interface for row in site.runner.snapshot().interfaces if row.up} == {"wan", "lan0", "lan1"}
    assert set(site.holder.held) == {"ipv4-0-default"}


def test_each_further_instance_has_a_table_of_its_own(site):
    both = device(proxy("a", "wan", "lan0"), proxy("b", "wan2", "lan2"))
    site.runner.replace(both)
    assert set(site.kernel.states) == {("ipv4", 0), ("ipv4", 4605)}
    site.join("lan2")
    site.run(lambda: site.kernel.forwarded("wan2", "10.3.0.2", G, table=4605) == {"lan2"})
    site.runner.replace(device(proxy("b", "wan2", "lan2")))
    assert site.kernel.forwarded("wan2", "10.3.0.2", G, table=4605) == {"lan2"}
    assert site.kernel.states["ipv4", 0].vifs == {}
    assert list(site.holder.held) == ["ipv4-4605-b"]


def test_disabling_an_instance_leaves_politely_and_clears_the_kernel(site):
    site.runner.replace(ONE)
    site.join("lan0")
    site.run(lambda: site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"})
    state = site.kernel.states["ipv4", 0]
    site.runner.replace(device(proxy("default", "wan", "lan0", "lan1", enabled=False)))
    leave = [packet for packet in state.sent if packet.ifindex == site.kernel.index("wan")][-1]
    assert leave.payload[8] == TO_IN
    assert (state.vifs, state.entries, state.joined) == ({}, {}, set())
    assert site.holder.held == {}


def test_the_next_process_adopts_what_the_last_one_left(site):
    site.runner.replace(ONE)
    site.join("lan0")
    site.run(lambda: site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"})
    site.runner.hand_over()
    assert site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"}  # the keeper's copy keeps it
    held = {name: sock.dup() for name, sock in site.holder.held.items()}
    site.kernel.calls.clear()
    site.runner = site.a_runner(held)
    site.runner.replace(ONE)
    assert not {"add_vif", "del_vif", "clear_route"} & set(site.kernel.calls)
    assert site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"}
    assert [(row.interface, str(row.group)) for row in site.runner.snapshot().groups] == [("lan0", G)]


def test_a_held_socket_that_nobody_wants_is_let_go(site):
    site.runner.replace(ONE)
    site.runner.hand_over()
    held = {name: sock.dup() for name, sock in site.holder.held.items()}
    site.runner = site.a_runner(held)
    site.runner.replace(device())
    assert site.holder.held == {}
    assert not site.kernel.states["ipv4", 0].signal.is_held()


def test_a_refusal_at_start_does_not_end_the_streams_that_still_flow(site):
    site.runner.replace(ONE)
    site.join("lan0")
    site.run(lambda: site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"})
    site.runner.hand_over()
    held = {name: sock.dup() for name, sock in site.holder.held.items()}
    site.runner = site.a_runner(held)
    site.kernel.refuse["join_routers"] = errno.ENOBUFS
    with pytest.raises(KernelError):
        site.runner.replace(ONE)
    assert site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"}
    del site.kernel.refuse["join_routers"]
    site.runner.replace(ONE)
    assert site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"}
    assert list(site.holder.held) == ["ipv4-0-default"]


def test_interfaces_are_followed_as_they_come_and_go(site):
    site.runner.replace(device(proxy("default", "wan", "ppp*")))
    assert len(site.kernel.states["ipv4", 0].vifs) == 1
    for _ in range(2):
        site.kernel.link("ppp0", "10.9.0.1/24")
        site.run(lambda: len(site.kernel.states["ipv4", 0].vifs) == 2)
        site.join("ppp0")
        site.run(lambda: site.kernel.forwarded("wan", "10.0.0.2", G) == {"ppp0"})
        site.kernel.unlink("ppp0")
        site.run(lambda: (None, ipaddress.ip_address(G).packed) not in site.kernel.states["ipv4", 0].entries)


def test_our_own_hosts_reports_are_no_listener(site):
    site.runner.replace(ONE)
    site.kernel.deliver("lan0", "10.1.0.1", v3_report(IS_EX, G))
    site.join("lan1")
    site.run(lambda: site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan1"})
    assert [row.interface for row in site.runner.snapshot().groups] == ["lan1"]


def test_counters_that_cannot_be_read_do_not_hide_the_state(site):
    site.runner.replace(ONE)
    site.kernel.refuse["routes"] = errno.EPERM
    state = site.runner.snapshot()
    assert len(state.interfaces) == 3
    assert all(row.packets is None for row in state.mfc)
    assert [note.event for note in site.notes if note.level == "warning"] == ["kernel/counters-unreadable"]


# -- a listener waits for the entry, nobody for the rest ---------------------------------------------------------------------


def _settled(site) -> None:
    site.runner.replace(ONE)
    site.join("lan0", "239.9.9.9")
    site.run(lambda: site.kernel.forwarded("wan", "10.0.0.2", "239.9.9.9") == {"lan0"})
    site.kernel.calls.clear()


def test_the_entry_of_a_join_is_made_before_anything_is_said_and_once(site):
    _settled(site)
    site.join("lan0")
    site.run(lambda: "send" in site.kernel.calls)
    assert site.kernel.calls[0] == "set_route"
    assert site.kernel.calls.count("set_route") == 1
    assert site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"}


def test_an_entry_that_the_kernel_refuses_at_first_is_asked_for_again(site):
    _settled(site)
    site.kernel.refuse["set_route"] = errno.ENOBUFS
    site.join("lan0")
    site.run(lambda: site.kernel.calls.count("set_route") == 2)  # before, and when the engine states it
    del site.kernel.refuse["set_route"]
    site.run(lambda: site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"})


def test_an_entry_that_is_not_stated_after_all_is_taken_back(site):
    _settled(site)
    (instance,) = site.runner._instances.values()
    stranger = SetRoute(None, ipaddress.ip_address("239.6.6.6").packed, site.kernel.index("wan"), ((site.kernel.index("lan0"), 1),))
    instance.engine.foreseen = lambda packet: stranger
    site.join("lan0")
    site.run(lambda: site.kernel.forwarded("wan", "10.0.0.2", G) == {"lan0"})
    assert site.kernel.forwarded("wan", "10.0.0.2", "239.6.6.6") == set()
    del instance.engine.foreseen


def test_messages_that_wait_together_are_handled_together(site):
    _settled(site)
    for number in range(50):
        site.join("lan0", f"239.2.0.{number + 1}")
    site.run(lambda: site.kernel.forwarded("wan", "10.0.0.2", "239.2.0.50") == {"lan0"})
    assert site.kernel.calls.count("set_route") == 50
    assert site.kernel.calls.count("send") < 10  # reports upstream share packets
