"""Interfaces that come late, go, and return as another: point-to-point, unnumbered, by pattern; who does not use them loses nothing.

headend ~~~ ppp0 [router] lan0 --- h0          instance tv: ppp* up, lan0 and br-* down
head    --- wan  [router] lan1 --- h1          instance default: wan up, lan1 down
"""

from __future__ import annotations

import copy
import threading
import time

import pytest

from tests.kit.conformance import covers
from tests.kit.netns import Wire, sysctl, wait_until
from tests.kit.site import flows
from tests.kit.tun import PointToPoint
from tests.kit.wire import Source, ifindex_of
from tests.manual.conftest import BASE

pytestmark = pytest.mark.kernel
G, OTHER = "239.1.1.1", "239.1.2.1"
BACK_WITHIN_S = 2.0
_V3_REPORT = 0x22


def two_providers() -> dict:
    made = copy.deepcopy(BASE)
    (default,) = made["igmp-proxy"]
    default["interfaces"] = [{"interface": "wan", "upstream": True}, "lan1"]
    made["igmp-proxy"].append(default | {"name": "tv", "interfaces": [{"interface": "ppp*", "upstream": True}, "lan0", "br-*"]})
    return made


class Steady:
    """A numbered stream to h1; `complete` holds it against what arrived."""

    def __init__(self, site) -> None:
        self._member, self._tap, self._source = site.member(site.h1, OTHER), site.tap(site.h1), site.source("10.1.0.2")
        self._member.join()
        flows(self._source, OTHER, self._tap)
        self._sent = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._send, name="steady", daemon=True)
        self._thread.start()

    def _send(self) -> None:
        while not self._is_over.wait(0.005):
            self._source.send(OTHER, b"steady %d" % self._sent)
            self._sent += 1

    def complete(self) -> None:
        self._is_over.set()
        self._thread.join(5)
        wanted = {b"steady %d" % number for number in range(self._sent)}
        assert len(wanted) > 20
        wait_until(lambda: wanted <= {payload for _, payload in self._tap.arrivals(OTHER)}, "every datagram of the other viewer")


@pytest.fixture
def provider(site):
    """Who is at the other end of the point-to-point link; a call dials."""
    inside = getattr(site, "headend", None) or site.net.namespace("headend")
    site.headend = inside
    lines = []

    def dial(ours: str | None, theirs: str) -> Source:
        lines.append(PointToPoint(site.router, "ppp0", inside, "line0"))
        sysctl(site.router, "ipv4/conf/ppp0/rp_filter", 0)
        if ours is not None:
            site.router.run(f"ip addr add {ours} peer {theirs}/32 dev ppp0")
        inside.run(f"ip addr add {theirs}/32 dev line0")
        return Source(site.net, inside, "line0", theirs)

    dial.hang_up = lambda: lines.pop().hang_up()
    dial.wire = lambda: Wire(site.net, inside, "line0")
    yield dial
    for line in lines:
        line.hang_up()


@covers("R057", "R041", "R010", "R013", aspects=("desired", "plan", "apply", "live", "rollback"))
@pytest.mark.alone
def test_a_dialled_upstream_comes_late_goes_and_returns_as_another(site, desk, provider):
    refused = desk.applies(two_providers(), "--verify-timeout", "1s", code=7)
    assert "--allow-down ppp*" in refused.err
    applied = desk.applies(two_providers(), "--allow-down", "ppp*")
    assert "no interface there matches ppp* now" in applied.err
    assert desk.runs(two_providers())
    pid, tap = desk.agent.engine_pid(), site.tap(site.h0)
    site.member(site.h0, G).join()
    wait_until(lambda: [row for row in desk.rows("groups") if row["group"] == G], "the membership, without any upstream yet")
    steady = Steady(site)
    indexes = set()
    for number, (ours, theirs) in enumerate((("10.64.0.2", "10.64.0.1"), ("10.77.7.9", "10.77.7.1"), (None, "10.88.0.1"))):
        source, start = provider(ours, theirs), time.monotonic()
        heard = provider.wire()
        flows(source, G, tap)
        assert time.monotonic() - start < BACK_WITHIN_S
        row = desk.interface("ppp0")
        assert (row["instance"], row["role"], row["up"], row["addresses"]) == ("tv", "upstream", True, [f"{ours}/32"] if ours else [])
        # a report may have left before the wire was tapped; a group that nobody had is told from the address of the day
        another = site.member(site.h0, f"239.1.9.{number}")
        another.join()
        wait_until(lambda heard=heard, ours=ours: heard.igmp(_V3_REPORT, ours or "0.0.0.0"), f"a report from {ours or '0.0.0.0'}")
        another.close()
        indexes.add(ifindex_of(site.router, "ppp0"))
        provider.hang_up()
        wait_until(lambda: (row := desk.interface("ppp0")) is None or not row["up"], "it is seen to be gone")
        assert [row for row in desk.rows("groups") if row["group"] == G], "the memberships below stay"
    assert len(indexes) == 3
    steady.complete()
    assert desk.agent.engine_pid() == pid
    assert "kernel/refused" not in desk.logs()
    desk.back()
    assert desk.runs(BASE)


@covers("R057", "R043", "R039", aspects=("desired", "apply", "live"))
@pytest.mark.alone
def test_a_bridge_that_matches_a_pattern_is_served_each_time_it_appears(site, desk, provider):
    desk.applies(two_providers(), "--allow-down", "ppp*")
    source = provider("10.64.0.2", "10.64.0.1")
    host = getattr(site, "h2", None) or site.net.namespace("h2")
    site.h2 = host
    steady = Steady(site)
    for _ in range(2):
        site.net.veth(site.router, "port0", host, "eth0", "", "10.5.0.2/24")
        for command in ("link add br-tv type bridge mcast_snooping 0", "addr add 10.5.0.1/24 dev br-tv", "link set port0 master br-tv", "link set br-tv up"):
            site.router.run(f"ip {command}")
        start = time.monotonic()
        tap, member = site.tap(host), site.member(host, G)
        member.join()
        flows(source, G, tap)
        assert time.monotonic() - start < BACK_WITHIN_S
        assert desk.interface("br-tv")["querier"]["self"]
        assert [row["downstreams"] for row in desk.mfc(G)] == [["br-tv"]]
        member.close()
        site.router.run("ip link del br-tv")
        site.router.run("ip link del port0")
        wait_until(lambda: desk.mfc(G) == [], "what it held is gone with it")
    steady.complete()


@covers("R011", aspects=("live",))
def test_an_interface_that_is_not_configured_takes_no_part(site, desk):
    desired = copy.deepcopy(BASE)
    desired["igmp-proxy"][0]["interfaces"].pop()  # lan1
    desk.applies(desired)
    tap, source, heard = site.tap(site.h1), site.source("10.1.0.2"), Wire(site.net, site.h1, "eth0")
    site.member(site.h1, G).join()
    site.member(site.h0, G).join()
    wait_until(lambda: heard.igmp(_V3_REPORT, "10.3.0.2"), "the report of h1")
    flows(source, G, site.tap(site.h0))
    assert desk.interface("lan1") is None
    assert {row["interface"] for row in desk.rows("groups")} == {"lan0"}
    assert not heard.igmp(0x11), "a query"
    assert not list(tap.arrivals(G))
