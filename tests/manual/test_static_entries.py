"""Static entries stay, and are stronger than what is learned, whatever is restarted.

head --- wan [router] lan0 --- h0
                      lan1 --- h1
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.kit.conformance import covers
from tests.kit.netns import wait_until
from tests.kit.site import flows, marked, passes
from tests.manual.conftest import BASE, instance_with

pytestmark = pytest.mark.kernel
G, HEAD, SECOND = "239.1.1.1", "10.1.0.2", "10.1.0.3"
STATIC = instance_with(mfc=[{"source": HEAD, "group": G, "downstream-interface": "lan0"}])


@pytest.fixture
def second_source(site):
    site.head.run(f"ip addr replace {SECOND}/24 dev eth0")
    return site.source(SECOND)


@covers("R031", aspects=("plan", "apply", "live", "rollback"))
def test_a_static_entry_is_stronger_than_what_is_learned_and_the_plan_says_whom_it_cuts_off(site, desk, second_source):
    source, taps = site.source(HEAD), [site.tap(site.h0), site.tap(site.h1)]
    through = marked(site, second_source, site.h0, site.h1)
    site.member(site.h1, G).join()
    flows(source, G, taps[1])
    (change,) = desk.plans(STATIC)
    impact = change["impact"]
    assert (impact["level"], [(one["interface"], one["group"]) for one in impact["groups"]]) == ("interrupts", [("lan1", G)])
    desk.applies(STATIC)
    assert passes(source, G, taps, through) == [True, False]
    assert passes(second_source, G, taps, through) == [False, True]
    desk.back()
    flows(source, G, taps[1])
    assert desk.runs(BASE)


@covers("R030", "R032", aspects=("live",))
def test_a_static_entry_is_there_after_the_engine_and_after_the_agent_were_started_anew(site, desk):
    desk.applies(STATIC)
    source, tap, upstream = site.source(HEAD), site.tap(site.h0), site.tap(site.head)
    flows(source, G, tap)
    first = desk.agent.engine_pid()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: desk.agent.engine_pid(other_than=first), "the next engine")
    flows(source, G, tap)
    assert [row["kind"] for row in desk.mfc(G)] == ["static"]
    assert desk.agent.stop() == 0
    assert "Iif" not in site.router.run("ip mroute show")
    before = len(upstream.reports(G, "10.1.0.1"))
    desk.agent.start()
    flows(source, G, tap)
    wait_until(lambda: any(HEAD in one for one in upstream.reports(G, "10.1.0.1")[before:]), "the upstream is told again")
    assert desk.runs(STATIC)


@covers("R030", aspects=("live",))
def test_a_static_entry_does_not_age(site, desk):
    """Longer than a membership lives that nobody renews: 2 × 1 s + 0.4 s (RFC 3376 8.4)."""
    desk.applies(STATIC)
    source, tap = site.source(HEAD), site.tap(site.h0)
    flows(source, G, tap)
    learned = site.member(site.h1, "239.1.1.2")
    learned.join()
    wait_until(lambda: desk.mfc("239.1.1.2"), "a membership")
    site.h1.run("ip link set eth0 down")  # it falls silent without a leave; the router's end keeps its address
    try:
        wait_until(lambda: not desk.mfc("239.1.1.2"), "the membership is gone")
    finally:
        site.h1.run("ip link set eth0 up")
    flows(source, G, tap)
    assert [row["kind"] for row in desk.mfc(G)] == ["static"]
