"""The doctor and the streams: each test keeps a stream from arriving, or lets one arrive unasked, in one way.

head --- wan [router] lan0 --- h0
                      lan1 --- h1
"""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest

from tests.kit.conformance import covers
from tests.kit.doctor import streaming
from tests.kit.netns import sysctl, wait_until
from tests.kit.site import flows
from tests.kit.wire import Stranger

pytestmark = pytest.mark.kernel
G = "239.1.1.1"
_UDP = 17
_MRT_FLUSH = 212
_FLUSH_ENTRIES = 1 | 2  # MRT_FLUSH_MFC, MRT_FLUSH_MFC_STATIC


def datagram(port: int = 5000) -> bytes:
    return struct.pack("!HHHH", port, port, 13, 0) + b"frame"


@pytest.mark.parametrize(("group", "source"), [(G, "10.1.0.2"), ("ff15::1", "fd00:1::2")])
def test_a_stream_with_ttl_1_may_not_leave_its_network(site, practice, group, source):
    practice.start(family=["ipv4", "ipv6"])
    site.member(site.h0, group).join()
    with streaming(site.source(source, ttl=1), group):
        (found,) = practice.expect(("stream/ttl", "default/lan0"))
    assert found.severity == "error"
    assert "TTL of 1" in found.cause
    assert found.evidence.startswith("TTL 1 in ")
    assert found.evidence.endswith("2 is needed")


def test_a_stream_below_the_threshold_of_one_downstream(site, practice):
    practice.start({"interface": "lan0", "threshold": 20}, {"interface": "lan1"})
    source = site.source("10.1.0.2", ttl=16)
    for host in (site.h0, site.h1):
        site.member(host, G).join()
    flows(source, G, site.tap(site.h1))
    with streaming(source, G):
        (found,) = practice.expect(("stream/ttl", "default/lan0"))
    assert "below the threshold of lan0" in found.cause
    assert "threshold: 16" in found.fix


@pytest.mark.parametrize("of_all", [1, 2])
def test_no_route_back_to_the_source(site, practice, of_all):
    sysctl(site.router, "ipv4/conf/all/rp_filter", of_all)
    try:
        practice.start()
        site.member(site.h0, G).join()
        site.head.run("ip addr add 192.0.2.7/32 dev eth0")
        with streaming(site.source("192.0.2.7"), G):
            (found,) = practice.expect(("stream/reverse-path", "default/wan"))
            assert "there is no route to it" in found.cause
            assert "rp_filter in force on wan is 2" in found.evidence
            assert int(found.evidence.rpartition(" ")[2]) > 5  # IPReversePathFilter
            site.router.run("ip route add 192.0.2.7 dev wan")  # as the doctor says
            practice.expect()
    finally:
        sysctl(site.router, "ipv4/conf/all/rp_filter", 0)
        site.head.run("ip addr del 192.0.2.7/32 dev eth0", check=False)
        site.router.run("ip route del 192.0.2.7 dev wan", check=False)


def test_a_setting_is_changed_by_hand(site, practice):
    practice.start()
    practice.expect()
    sysctl(site.router, "ipv4/conf/wan/rp_filter", 1)
    (found,) = practice.expect(("deviation/setting", "net.ipv4.conf.wan.rp_filter"))
    assert found.evidence == "expected 0, found 1"


def test_the_source_has_an_address_of_ours(site, practice):
    practice.start()
    site.member(site.h0, G).join()
    liar = Stranger(site.net, site.head, "eth0")
    found = []

    def is_found() -> bool:
        with streaming(Repeated(liar), G):
            found[:] = practice.visit()
        return [one.code for one in found] == ["stream/martian"]

    wait_until(is_found, f"{found}")
    assert "10.2.0.1" in found[0].seen


class Repeated:
    """A sender in the name of the router."""

    def __init__(self, stranger: Stranger) -> None:
        self._stranger = stranger

    def send(self, group: str) -> None:
        self._stranger.send("10.2.0.1", group, datagram(), ttl=16, protocol=_UDP)


def test_a_source_that_alternative_subnets_leave_out(site, practice):
    practice.start(upstream={"alternative-subnets": ["192.0.2.0/24"]})
    site.member(site.h0, G).join()
    site.head.run("ip addr add 198.51.100.7/32 dev eth0")
    try:
        with streaming(site.source("198.51.100.7"), G):
            (found,) = practice.expect(("stream/foreign-source", "default/wan"))
        assert "198.51.100.7/32" in found.fix
        assert int(found.evidence.rpartition(" ")[2]) > 5  # dropped-foreign-source
    finally:
        site.head.run("ip addr del 198.51.100.7/32 dev eth0")


@covers("R089")
def test_a_permanent_entry_leaves_a_subscriber_out(site, practice):
    practice.start(mfc=[{"source": "*", "group": G, "downstream-interface": "lan0"}])
    site.member(site.h0, G).join()
    site.member(site.h1, G).join()
    source = site.source("10.1.0.2")
    flows(source, G, site.tap(site.h0))
    with streaming(source, G):
        (found,) = practice.expect(("mfc/hides", "default/lan1"))
    assert found.fix == "mfc: downstream-interface: [lan0, lan1]"


@covers("R089")
def test_another_program_takes_our_entries_out_of_the_kernel(site, practice):
    practice.start()
    site.member(site.h0, G).join()
    flows(site.source("10.1.0.2"), G, site.tap(site.h0))
    practice.expect()
    site.net.socket(site.router, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP).setsockopt(socket.IPPROTO_IP, _MRT_FLUSH, _FLUSH_ENTRIES)
    practice.expect(("mfc/vanished", "default/lan0"))


@covers("R088")
def test_the_kernel_refuses_our_reports(site, practice):
    """By a rule whose outcome cannot be told from the rule alone, while nothing is sent."""
    practice.start()
    practice.expect()
    site.router.run("nft add table inet fw")
    try:
        site.router.run("nft add chain inet fw output '{ type filter hook output priority 0 ; policy accept ; }'")
        site.router.run("nft add rule inet fw output oifname wan ip protocol igmp meta mark 0 drop")
        site.member(site.h0, G).join()
        flows(site.source("10.1.0.2"), G, site.tap(site.h0))
        (found,) = practice.expect(("upstream/not-sent", "default/wan"), window_ms=0)
        assert found.evidence.startswith("send-failed of ipv4 is ")
    finally:
        site.router.run("nft delete table inet fw")


def test_a_local_group_is_none_of_the_upstreams(site, practice):
    practice.start()
    site.member(site.h0, "239.255.255.250").join()
    practice.expect()
    found = practice.expect(("group/local", "default/lan0"), ("group/not-here", "default/lan1"), group="239.255.255.250")
    assert {one.severity for one in found} == {"note"}


@covers("R097")
def test_another_router_forwards_to_our_downstream(site, practice):
    practice.start()
    practice.expect()
    site.h1.run("ip addr add 192.0.2.9/32 dev eth0")
    try:
        with streaming(site.source("192.0.2.9", site.h1), "239.7.7.7"):
            (found,) = practice.expect(("unwanted/other-router", "default/lan1"))
        assert "192.0.2.9 to 239.7.7.7" in found.evidence
    finally:
        site.h1.run("ip addr del 192.0.2.9/32 dev eth0")


@covers("R097")
def test_a_permanent_entry_and_a_static_group_without_a_subscriber(site, practice):
    practice.start(
        {"interface": "lan0", "static-groups": ["239.3.3.3"]}, {"interface": "lan1"}, mfc=[{"source": "10.1.0.2", "group": G, "downstream-interface": "lan1"}]
    )
    practice.expect()
    found = practice.expect(("unwanted/permanent", "default/lan0"), ("unwanted/permanent", "default/lan1"), symptom="unwanted")
    assert [one.cause.partition(" ")[0] for one in found] == ["static-groups", "mfc"]


@covers("R097")
def test_a_downstream_bridge_copies_a_stream_to_every_port(site, practice):
    with bridged(site, "mcast_snooping 0"):
        practice.start({"interface": "br0"})
        site.member(site.h0, G).join()
        source = site.source("10.1.0.2")
        flows(source, G, site.tap(site.h0))
        with streaming(source, G):
            (found,) = practice.expect(("unwanted/flooding", "default/br0"))
        assert "all of its 2 ports" in found.cause
        site.router.run("ip link set br0 type bridge mcast_snooping 1")


@contextlib.contextmanager
def bridged(site, settings):
    """lan0 and lan1 become ports of br0, which has the addresses of lan0."""
    site.router.run(f"ip link add br0 type bridge {settings}")
    for address in ("10.2.0.1/24", "10.3.0.1/24"):
        site.router.run(f"ip addr add {address} dev br0")
    site.router.run("ip link set br0 up")
    for port in ("lan0", "lan1"):
        site.router.run(f"ip link set {port} master br0")
    try:
        yield
    finally:
        site.router.run("ip link del br0")
