"""One speaker and one listener on every link, on the real kernel: what the kernel itself must do for us, and what it must leave alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.kit.conformance import covers
from tests.kit.live import LiveProxy
from tests.kit.netns import Net, wait_until
from tests.kit.site import cable, counted, flows, instance, plug, switch
from tests.kit.wire import Member, Source, Tap

pytestmark = pytest.mark.kernel


@covers("UP-28")
@pytest.mark.parametrize(("group", "table", "own"), [("239.6.1.1", "igmp", "10.1.0.1"), ("ff0e::6:1", "igmp6", "fe80::1")])
def test_upstream_hears_of_a_group_from_the_proxy_alone(site, group, table, own):
    """The kernel holds no membership of its own: it would answer queries for the group a second time."""
    proxy, upstream = site.proxy(), site.tap(site.head)
    site.member(site.h0, group).join()
    wait_until(lambda: group in proxy.told(), "told upstream")
    wait_until(lambda: len(upstream.reports(group, own)) == 2, "as often as the robustness says, in our own name")
    lines = site.router.run(f"cat /proc/net/{table}")
    packed = bytes(int(part) for part in group.split("."))[::-1].hex().upper() if table == "igmp" else "ff0e0000000000000000000000060001"
    assert packed not in lines
    assert {"igmp": "160000E0", "igmp6": "ff020000000000000000000000000016"}[table] in lines  # as this table writes it: where reports go


@covers("MLD-21")
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_every_interface_takes_all_groups_while_it_takes_part_and_no_longer(site, family):
    proxy = site.proxy(instance("wan", "lan0") | {"family": [family]})
    wait_until(lambda: [promised(site, name) for name in ("wan", "lan0", "lan1")] == [1, 1, 0], "all groups")
    proxy.stop()
    wait_until(lambda: [promised(site, name) for name in ("wan", "lan0", "lan1")] == [0, 0, 0], "given back")


def promised(site, name: str) -> int:
    """How many users of the interface want all groups (`ip -d link`: allmulti)."""
    words = site.router.run(f"ip -d link show {name}").split()
    return int(words[words.index("allmulti") + 1])


@pytest.fixture
def twice():
    """head --- wan [router] lan0, lan1 --- one switch --- h0"""
    with Net() as net:
        made = SimpleNamespace(net=net, **{name: net.namespace(name) for name in ("head", "router", "h0")})
        cable(net, 1, made.router, "wan", made.head, "eth0")
        made.switch = switch(net, "switch")
        plug(net, made.switch, "p0", made.router, "lan0", 2, 1)
        plug(net, made.switch, "p1", made.router, "lan1", 2, 3)
        plug(net, made.switch, "p2", made.h0, "eth0", 2, 9)
        yield made


@covers("FWD-12", "FWD-04")
@pytest.mark.parametrize(
    ("family", "group", "mark", "head"), [("ipv4", "239.6.1.2", "239.6.9.9", "10.1.0.2"), ("ipv6", "ff0e::6:2", "ff0e::6:9", "fd00:1::2")], ids=["igmp", "mld"]
)
def test_of_two_interfaces_to_one_network_only_one_is_its_router(twice, family, group, mark, head):
    """They hear each other's queries, and the election leaves the lower address: every datagram comes once."""
    proxy = LiveProxy(twice.net, twice.router, instance("wan", "lan0", "lan1"))
    wait_until(lambda: proxy.is_querier("lan0", family) and not proxy.is_querier("lan1", family), "one querier")
    source, tap = Source(twice.net, twice.head, "eth0", head), Tap(twice.net, twice.h0)
    members = [Member(twice.net, twice.h0, "eth0", one) for one in (group, mark)]
    for member, one in zip(members, (group, mark), strict=True):
        member.join()
        flows(source, one, tap)

    def through(payload: bytes) -> None:
        source.send(mark, payload)
        wait_until(lambda: payload in {got for _, got in tap.arrivals(mark)}, "the mark")

    assert counted([source], group, [tap], through) == [{head: 20}]
    assert set(proxy.mfc()["*", group].downstreams) - {"wan"} == {"lan0"}
    for member in members:
        member.close()
    proxy.stop()
