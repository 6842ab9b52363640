"""The upstream flaps, is made anew with another index and address, has no address: streams come back by themselves.

head --- wan [router] lan0 --- h0
                      lan1 --- h1
"""

from __future__ import annotations

import struct
import time

import pytest

from igmpconf.engine.messages import Query
from igmpconf.engine.wire.checksum import is_intact
from tests.kit.builders import packed
from tests.kit.conformance import covers
from tests.kit.netns import wait_until
from tests.kit.site import addressed, flows, instance
from tests.kit.wire import Stranger, family_of, ifindex_of

pytestmark = pytest.mark.kernel
BOTH = pytest.mark.parametrize(("group", "head"), [pytest.param("239.1.1.1", "10.1.0.2", id="igmp"), pytest.param("ff15::1", "fd00:1::2", id="mld")])
US = {"ipv4": "10.1.0.1", "ipv6": "fe80::1"}
BACK_WITHIN_S = 2.0


@pytest.fixture(autouse=True)
def _as_before(site):
    yield
    site.tidy()
    _rewire(site, 1)


def _rewire(site, cable: int) -> None:
    """A new cable between router and head end, with everything at either end new."""
    site.router.run("ip link del wan", check=False)
    site.net.veth(site.router, "wan", site.head, "eth0")
    addressed(site.router, "wan", cable, 1)
    addressed(site.head, "eth0", cable, 2)


def _readdress(inside, ifname: str, number: int) -> None:
    """An interface that went down has lost its IPv6 addresses (net.ipv6.conf.*.keep_addr_on_down is 0)."""
    inside.run(f"ip -6 addr flush dev {ifname}")
    for address in (f"fd00:1::{number}", f"fe80::{number}"):
        inside.run(f"ip addr add {address}/64 dev {ifname} nodad")


def settled(site, group: str, head: str):
    """Both hosts have the stream and their state is known; the instance asks so rarely that no query helps."""
    proxy = site.proxy(instance("wan", "lan0", "lan1", query_interval="60s"))
    segment = site.tap(site.h0)
    for host in (site.h0, site.h1):
        site.member(host, group).join()
    flows(site.source(head), group, segment)
    wait_until(lambda: ("lan1", group) in proxy.groups())
    return proxy, segment


def memberships(proxy) -> list[tuple]:
    return [(row.interface, row.group, row.mode, row.hosts, row.last_reporter) for row in proxy.state().groups]


@covers("UP-25", "UP-01", "MEM-28")
@BOTH
@pytest.mark.parametrize("end", ["router", "head"])
@pytest.mark.alone
def test_a_link_that_went_down_and_came_up(site, group, head, end):
    family = family_of(group).name
    proxy, segment = settled(site, group, head)
    before = memberships(proxy)
    queries = proxy.counter(f"sent-query-v{family_of(group).latest_version}", "lan0", family)
    inside, ifname = (site.router, "wan") if end == "router" else (site.head, "eth0")
    inside.run(f"ip link set {ifname} down")
    wait_until(lambda: not proxy.interface("wan", family).up, "the upstream is seen down")
    assert memberships(proxy) == before
    upstream = site.tap(site.head)
    inside.run(f"ip link set {ifname} up")
    _readdress(inside, ifname, 1 if end == "router" else 2)
    start = time.monotonic()
    flows(site.source(head), group, segment)
    assert time.monotonic() - start < BACK_WITHIN_S
    wait_until(lambda: any("TO_EX {}" in one for one in upstream.reports(group, US[family])), f"the database anew: {upstream.reports(group)}")
    assert memberships(proxy) == before
    assert proxy.counter(f"sent-query-v{family_of(group).latest_version}", "lan0", family) <= queries + 1  # the second of the startup queries at most


@covers("UP-25", "FWD-05", "R057")
@BOTH
@pytest.mark.alone
def test_an_upstream_made_anew_with_another_index_and_address(site, group, head):
    family = family_of(group).name
    proxy, segment = settled(site, group, head)
    before, index = memberships(proxy), ifindex_of(site.router, "wan")
    site.router.run("ip link del wan")
    wait_until(lambda: not proxy.interface("wan", family).up, "the upstream is gone")
    assert memberships(proxy) == before
    _rewire(site, 7)
    assert ifindex_of(site.router, "wan") != index
    upstream = site.tap(site.head)
    there = head.replace("10.1.", "10.7.").replace("fd00:1:", "fd00:7:")
    start = time.monotonic()
    flows(site.source(there), group, segment)
    assert time.monotonic() - start < BACK_WITHIN_S
    us = US[family].replace("10.1.", "10.7.")
    # the state change may have been said before the tap was there; whoever asks is answered
    Stranger(site.net, site.head, "eth0").query(
        there if family == "ipv4" else "fe80::2", Query(b"", family_of(group).latest_version, None, max_response_ms=100)
    )
    wait_until(lambda: any("EX {}" in one for one in upstream.reports(group, us)), f"told with the new address: {upstream.reports(group)}")
    assert memberships(proxy) == before
    assert not proxy.noted("kernel/refused")


@covers("UP-24", "UP-25")
def test_another_address_on_the_same_link(site):
    group = "239.1.1.1"
    proxy, segment = settled(site, group, "10.1.0.2")
    upstream = site.tap(site.head)
    before = memberships(proxy)
    site.router.run("ip addr del 10.1.0.1/24 dev wan")
    site.router.run("ip addr add 10.1.0.77/24 dev wan")
    wait_until(lambda: "v3 TO_EX {}" in upstream.reports(group, "10.1.0.77"), f"{upstream.packets[-3:]}")
    flows(site.source("10.1.0.2"), group, segment)
    assert memberships(proxy) == before


@covers("UP-24", "PKT-27", "MLD-06")
def test_an_upstream_without_addresses_reports_from_0_0_0_0_and_streams_flow(site):
    site.router.run("ip addr flush dev wan")
    upstream, segment = site.tap(site.head), site.tap(site.h0)
    proxy = site.proxy(instance("wan", "lan0", "lan1"))
    member = site.member(site.h0, "239.1.1.1")
    member.join()
    wait_until(lambda: "v3 TO_EX {}" in upstream.reports("239.1.1.1", "0.0.0.0"), "a report from nobody")
    (packet, *_) = [one for one in upstream.packets if one.protocol == 2 and one.source == "0.0.0.0"]
    assert (packet.destination, packet.ttl, packet.router_alert) == ("224.0.0.22", 1, True)
    source = site.source("10.1.0.2")
    flows(source, "239.1.1.1", segment)
    member.leave()
    wait_until(lambda: "v3 TO_IN {}" in upstream.reports("239.1.1.1", "0.0.0.0"), "the leave")
    site.router.run("ip addr add 10.1.0.1/24 dev wan")
    site.member(site.h0, "239.1.1.2").join()
    wait_until(lambda: "v3 TO_EX {}" in upstream.reports("239.1.1.2", "10.1.0.1"), "from the address, now that there is one")
    assert not proxy.noted("packet/not-sent")


def from_nobody(tap):
    return [packet for packet in tap.packets if packet.source == "::" and packet.payload[:1] == b"\x8f" and packed("ff15::1") in packet.payload]


@covers("MLD-06", "MLD-01")
def test_an_upstream_without_link_local_address_tells_all_when_there_is_one(site):
    """Before that it is told from ::, which no router believes and every snooping switch does (RFC 3810 5.2.13, RFC 3590)."""
    site.router.run("ip -6 addr flush dev wan")
    upstream, segment = site.tap(site.head), site.tap(site.h0)
    site.proxy(instance("wan", "lan0", "lan1"))
    site.member(site.h0, "ff15::1").join()
    flows(site.source("fd00:1::2"), "ff15::1", segment)
    wait_until(lambda: from_nobody(upstream), "a report from nobody")
    packet = from_nobody(upstream)[0]
    assert (packet.destination, packet.ttl, packet.router_alert) == ("ff02::16", 1, True)
    assert is_intact(bytes(16) + packed("ff02::16") + struct.pack("!II", len(packet.payload), 58) + packet.payload)
    assert packet.payload[8:12] + packet.payload[12:28] == bytes((4, 0, 0, 0)) + packed("ff15::1")  # TO_EX {}
    assert "v2 TO_EX {}" not in upstream.reports("ff15::1", "fe80::1")
    site.router.run("ip addr add fe80::1/64 dev wan nodad")
    wait_until(lambda: "v2 TO_EX {}" in upstream.reports("ff15::1", "fe80::1"), "the database, now that it can be told")
