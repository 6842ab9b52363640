"""The doctor and those who ask and answer: other queriers, losses, timers, bridges that snoop.

head --- wan [router] lan0 --- h0
                      lan1 --- h1
"""

from __future__ import annotations

import contextlib
import time

import pytest

from igmpconf.engine.messages import Query
from tests.kit.builders import IS_EX, record
from tests.kit.conformance import covers
from tests.kit.doctor import streaming
from tests.kit.netns import sysctl, wait_until
from tests.kit.site import flows
from tests.kit.wire import Stranger

pytestmark = pytest.mark.kernel
G = "239.1.1.1"
MANY = [f"239.2.0.{number}" for number in range(1, 22)]
FAST = {"query_interval": "1s", "query_response_interval": "200ms", "last_member_interval": "100ms"}


def asks(stranger: Stranger, address: str, interval_ms: int) -> None:
    stranger.query(address, Query(b"", 3, max_response_ms=100, robustness=2, interval_ms=interval_ms))


@covers("R084", "R095")
def test_a_second_querier_that_does_not_give_way(site, practice):
    practice.start()
    practice.expect()
    wait_until(lambda: _since_s(practice, "lan1") >= 1, "we are the querier for a while")
    other = Stranger(site.net, site.h1, "eth0")
    asks(other, "10.3.0.9", 125_000)
    practice.expect()  # once is how an election begins
    asks(other, "10.3.0.9", 125_000)
    (found,) = practice.expect(("querier/second", "default/lan1"))
    assert found.evidence == "2 queries of 10.3.0.9, the last 0 s ago; the querier is 10.3.0.1"


def _since_s(practice, name: str) -> int:
    return next(row.querier.since_s for row in practice.state().interfaces if row.interface == name)


@covers("R095", "R096")
def test_the_providers_queries_come_irregularly_and_then_no_more(site, practice):
    practice.start()
    site.member(site.h0, G).join()
    source = site.source("10.1.0.2")
    flows(source, G, site.tap(site.h0))
    provider = Stranger(site.net, site.head, "eth0")
    last_s = 0.0
    for wait_s in (0.0, 0.25, 0.25, 0.25, 1.0, 0.25):  # one gap in which three were lost
        wait_until(lambda last_s=last_s, wait_s=wait_s: time.monotonic() >= last_s + wait_s, "the next query is due")
        asks(provider, "10.1.0.2", 250)
        last_s = time.monotonic()
    (found,) = practice.expect_codes({"queries/irregular"}, ignoring={"upstream/no-queries"})  # which comes soon, too
    assert "of 10.1.0.2 did not come" in found.evidence
    lost, all_of_them = (int(found.evidence.split()[place]) for place in (0, 2))
    assert lost >= 2
    assert all_of_them == lost + 6
    _, silent = practice.expect(("queries/irregular", "default/wan"), ("upstream/no-queries", "default/wan"))
    assert "fell silent" in silent.cause


@covers("OLD-09", "OLD-10")
def test_a_querier_upstream_and_a_host_below_that_are_too_old_to_be_heard(site, practice):
    practice.start({"interface": "lan0", "minimum-version": 3}, {"interface": "lan1"}, upstream={"minimum-version": 3})
    site.member(site.h1, G).join()
    flows(site.source("10.1.0.2"), G, site.tap(site.h1))
    practice.expect()
    Stranger(site.net, site.head, "eth0").query("10.1.0.2", Query(b"", 2, max_response_ms=100))
    (found,) = practice.expect(("upstream/older-querier", "default/wan"))
    assert found.evidence == "rejected-older-version of ipv4 is 1, and nobody else asks there"
    Stranger(site.net, site.h0, "eth0").report("10.2.0.9", 2, record(IS_EX, G))
    practice.expect(("upstream/older-querier", "default/wan"), ("report/older-version", "default/lan0"))


@covers("R094")
def test_refreshes_are_lost_behind_a_downstream(site, practice):
    practice.start(**FAST)
    sysctl(site.h0, "ipv4/conf/eth0/force_igmp_version", 2)  # one report for each group
    sysctl(site.h0, "ipv4/igmp_max_memberships", 100)
    try:
        for group in MANY:
            site.member(site.h0, group).join()
        wait_until(lambda: len(practice.state().groups) == len(MANY), "all joined")
        practice.expect_codes(set(), ignoring={"stream/not-received"})
        site.h0.run("nft add table ip lossy")
        site.h0.run("nft add chain ip lossy out '{ type filter hook output priority 0 ; policy accept ; }'")
        site.h0.run("nft add rule ip lossy out ip protocol igmp numgen inc mod 3 0 drop")
        (found,) = practice.expect_codes({"robustness/lossy"}, ignoring={"stream/not-received"}, timeout_s=30)
    finally:
        site.h0.run("nft delete table ip lossy", check=False)
        sysctl(site.h0, "ipv4/conf/eth0/force_igmp_version", 0)
    assert found.where == "default/lan0"
    assert int(found.fix.removeprefix("robustness: ")) > 2
    assert "refreshes of ipv4 memberships did not come" in found.evidence


@covers("R093")
@pytest.mark.parametrize(
    ("leaves", "code"),
    [
        ({"query-interval": "10s", "query-response-interval": "8s"}, "interval/response-long"),
        ({"query-interval": "10s", "query-response-interval": "1s", "last-member-interval": "8s"}, "interval/leave-long"),
        ({"query-interval": "200s", "query-response-interval": "60s", "version": 2}, "interval/not-codable"),
    ],
)
def test_intervals_that_do_not_fit(practice, leaves, code):
    practice.start({"interface": "lan0"} | leaves)
    practice.expect((code, "default/lan0"), window_ms=0)


@covers("R091", "R093")
def test_a_snooping_bridge(site, practice):
    """Healthy while it hears us and remembers; then it forgets listeners, or the querier, or is kept from passing reports on."""
    with bridged(site, "mcast_snooping 1 mcast_igmp_version 3"):
        practice.start({"interface": "br0"}, family=["ipv4", "ipv6"])
        site.member(site.h0, G).join()
        site.member(site.h1, "ff15::1").join()
        source, source6 = site.source("10.1.0.2"), site.source("fd00:1::2")
        flows(source, G, site.tap(site.h0))
        with streaming(source, G), streaming(source6, "ff15::1"):
            practice.expect()
        site.router.run("ip link set br0 type bridge mcast_membership_interval 6000")
        found = practice.expect_codes({"interval/longer-than-snooping"}, ignoring={"stream/stopped"})
        assert all("mcast_membership_interval is 60s" in one.evidence for one in found)


@covers("R091")
def test_a_snooping_bridge_that_forgets_the_querier(site, practice):
    with bridged(site, "mcast_snooping 1 mcast_querier_interval 20"):
        practice.start({"interface": "br0"})
        (found,) = practice.expect(("snooping/no-querier", "default/br0"))
        assert "mcast_querier_interval 200ms, we ask every 125s" in found.evidence


@covers("R085", "R091")
def test_a_bridge_that_keeps_reports_from_us(site, practice):
    with bridged(site, "mcast_snooping 1"):
        practice.start({"interface": "br0"})
        practice.expect()
        site.router.run("nft add table bridge shut")
        try:
            site.router.run("nft add chain bridge shut in '{ type filter hook input priority 0 ; policy accept ; }'")
            site.router.run("nft add rule bridge shut in ip protocol igmp drop")
            site.member(site.h0, G).join()
            (found,) = practice.expect(("snooping/not-reported", "default/br0"))
        finally:
            site.router.run("nft delete table bridge shut")
        assert found.seen == f"{G} stays dark for those behind lan0"


@contextlib.contextmanager
def bridged(site, settings):
    """lan0 and lan1 become ports of br0, which has the addresses of both."""
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
