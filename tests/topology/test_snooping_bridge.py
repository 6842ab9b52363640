"""What we make of reports, compared with what a snooping switch of the kernel makes of the same ones.

    head --- wan [router] lan0 --- switch (mcast_snooping 1, IGMPv3, MLDv2) --- h0, h1

The hosts walk at random through source filters; after every step the applications' own filters, the switch's entries
(`bridge -d -s -j mdb show`) and our table must agree.
"""

from __future__ import annotations

import itertools
import json
import random
from types import SimpleNamespace

import pytest

from igmpconf.engine.sources import NOTHING, SourceSet
from tests.kit.conformance import covers
from tests.kit.live import LiveProxy
from tests.kit.netns import Net, wait_until
from tests.kit.site import cable, instance, plug, switch
from tests.kit.wire import Member, packed

pytestmark = pytest.mark.kernel
GROUPS = {
    "239.1.1.1": ("10.1.0.2", "10.1.0.3", "10.1.0.4"),
    "239.1.1.2": ("10.1.0.2", "192.0.2.7", "192.0.2.8"),
    "ff15::1": ("fd00:1::2", "fd00:1::3", "2001:db8::7"),
}
STEPS = 12


@pytest.fixture(scope="module")
def places():
    with Net() as net:
        made = SimpleNamespace(net=net, **{name: net.namespace(name) for name in ("head", "router", "h0", "h1")})
        cable(net, 1, made.router, "wan", made.head, "eth0")
        made.switch = switch(net, "switch", snooping=True)
        made.switch.run("ip link set br0 type bridge mcast_igmp_version 3 mcast_mld_version 2 mcast_last_member_interval 20")
        for port, device, ifname, host in (("p0", made.router, "lan0", 1), ("p1", made.h0, "eth0", 2), ("p2", made.h1, "eth0", 3)):
            plug(net, made.switch, port, device, ifname, 2, host)
        yield made


@pytest.fixture
def proxy(places):
    made = LiveProxy(places.net, places.router)
    yield made
    made.stop()


class Application:
    """One filter of one host, and how it comes to another."""

    def __init__(self, places: SimpleNamespace, host: str, group: str) -> None:
        self._socket = Member(places.net, getattr(places, host), "eth0", group)
        self.wanted = NOTHING

    def become(self, wanted: SourceSet, names: tuple[str, ...]) -> None:
        listed = [name for name in names if packed(name) in wanted.listed]
        if not wanted:
            if self.wanted:
                self._socket.leave()
        else:
            if not self.wanted:
                self._socket.join()
            self._socket.filter("exclude" if wanted.inverted else "include", *listed)
        self.wanted = wanted

    def close(self) -> None:
        self._socket.close()


def snooped(places: SimpleNamespace) -> dict:
    (found,) = json.loads(places.switch.run("bridge -d -s -j mdb show"))
    return found


def on_the_switch(places: SimpleNamespace, group: str) -> SourceSet:
    """The union over the hosts' ports of what the switch forwards to each."""
    together = NOTHING
    for entry in snooped(places)["mdb"]:
        if entry["grp"] != group or entry["port"] not in {"p1", "p2"} or "src" in entry:
            continue  # its (S,G) rows say the same again
        inverted = entry["filter_mode"] == "exclude"
        listed = {packed(one["address"]) for one in entry.get("source_list", ()) if (float(one["timer"]) > 0) is not inverted}
        together |= SourceSet(frozenset(listed), inverted=inverted)
    return together


def with_us(proxy: LiveProxy, group: str) -> SourceSet:
    row = proxy.groups().get(("lan0", group))
    if row is None:
        return NOTHING
    if row.mode == "exclude":
        return SourceSet(frozenset(one.packed for one in row.excluded), inverted=True)
    return SourceSet(frozenset(one.address.packed for one in row.sources))


@covers("MEM-01", "MEM-02", "MEM-05", "MEM-06", "MEM-07", "MEM-08", "MEM-09", "MEM-10", "MEM-11", "MEM-12", "DB-04", "DB-05", "DB-06", "MLD-13")
@pytest.mark.parametrize("quick_leave", ["auto", "off"])
def test_switch_applications_and_we_agree_after_every_step(places, proxy, quick_leave):
    chance = random.Random(quick_leave)
    proxy.replace(instance("wan", "lan0", quick_leave=quick_leave))
    proxy.ready()
    wait_until(lambda: "p0" in {one["port"] for one in snooped(places)["router"].get("br0", ())}, "the switch knows its router")
    applications = {(host, group): Application(places, host, group) for host, group in itertools.product(("h0", "h1"), GROUPS)}
    walked = []
    for step in range(STEPS):
        for (host, group), application in applications.items():
            if chance.random() < 0.6 or step == STEPS - 1:
                names = GROUPS[group]
                listed = frozenset(packed(name) for name in names if chance.random() < 0.5)
                wanted = NOTHING if step == STEPS - 1 else SourceSet(listed, inverted=chance.random() < 0.5)
                application.become(wanted, names)
                walked.append(f"step {step}: {host} {group} {'ex' if wanted.inverted else 'in'}clude {sorted(map(packed_text, wanted.listed))}")
        for group in GROUPS:
            truth = applications["h0", group].wanted | applications["h1", group].wanted
            told = f"{group} {truth}\n" + "\n".join(line for line in walked if group in line)
            wait_until(lambda group=group, truth=truth: with_us(proxy, group) == truth, f"ours: {told}")
            wait_until(lambda group=group, truth=truth: on_the_switch(places, group) == truth, f"the switch: {told}")
            assert with_us(proxy, group) == truth
    for application in applications.values():
        application.close()


def packed_text(address: bytes) -> str:
    return ".".join(map(str, address)) if len(address) == 4 else address.hex(":", 2)
