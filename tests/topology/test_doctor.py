"""Each test breaks one thing on the real kernel and expects exactly that finding; a healthy device has none.

head --- wan [router] lan0 --- h0
                      lan1 --- h1

Here: the device itself, memberships, one group.  What it stands on, streams, queriers and the packet filter have files of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from igmpconf.engine.messages import Query
from tests.kit.builders import TO_EX, record
from tests.kit.conformance import covers
from tests.kit.doctor import streaming
from tests.kit.netns import wait_until
from tests.kit.site import flows
from tests.kit.wire import Stranger

pytestmark = pytest.mark.kernel
G = "239.1.1.1"


@covers("R076", "R077", "R078", "R079", "R080", "R098", "R102", "R103")
def test_a_healthy_device_has_no_finding(site, practice):
    """By the command, as it is typed; behind a firewall that drops everything, where we may keep our rules."""
    for hook, policy in (("input", "drop"), ("forward", "accept"), ("output", "drop")):
        site.router.run(f"nft add table inet fw; add chain inet fw {hook} {{ type filter hook {hook} priority 0 ; policy {policy} ; }}")
    site.router.run("nft add rule inet fw forward meta l4proto udp drop")
    practice.start(family=["ipv4", "ipv6"], device={"firewall": {"manage": True}})
    site.member(site.h0, G).join()
    source = site.source("10.1.0.2")
    flows(source, G, site.tap(site.h0))
    command = [sys.executable, "-m", "igmpconf.cli.main", "doctor", "-d", f"unix:{practice.agent.socket}", "--format", "json", "--for", "500ms"]
    with streaming(source, G):
        practice.expect()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    (device,) = json.loads(done.stdout)["devices"]
    assert (done.returncode, device["rows"], device["window_ms"], device["unmeasured"]) == (0, [], 500, [])
    site.router.run("nft delete table inet fw")


@covers("R076")
def test_a_healthy_bridge_has_no_finding(site, practice):
    site.router.run("ip link add br0 type bridge mcast_snooping 1")
    for port in ("wan", "lan0", "lan1"):
        site.router.run(f"ip link set {port} master br0")
    site.router.run("ip link set br0 up")
    try:
        practice.start(mode="bridged", bridge="br0")
        wait_until(lambda: all(row.up for row in practice.state().interfaces), "all ports up")
        site.member(site.h0, G).join()
        source = site.source("10.1.0.2")
        flows(source, G, site.tap(site.h0))
        with streaming(source, G):
            practice.expect()
    finally:
        practice.rest()
        site.router.run("ip link del br0")


@covers("R087")
def test_the_stream_does_not_arrive_or_ends(site, practice):
    practice.start()
    site.member(site.h0, G).join()
    site.member(site.h0, "239.1.1.2").join()
    source = site.source("10.1.0.2")
    flows(source, G, site.tap(site.h0))
    for _ in range(50):
        source.send(G)
    stopped, silent = sorted(practice.expect(("stream/not-received", "default/wan"), ("stream/stopped", "default/wan")), key=lambda one: one.seen)
    assert stopped.seen == f"{G} stopped for everybody"
    assert "0 in the last 0.25 s" in stopped.evidence
    assert "239.1.1.2" in silent.seen
    assert "0 datagrams" in silent.evidence


@covers("R077", "R079")
def test_an_interface_is_down_or_has_no_link(site, practice):
    practice.start()
    practice.expect()
    site.router.run("ip link set lan1 down")
    site.head.run("ip link set eth0 down")
    try:
        lan1, wan = practice.expect(("upstream/not-up", "default/wan"), ("downstream/not-up", "default/lan1"))
        assert (wan.severity, wan.cause) == ("error", "the interface has no link")
        assert (lan1.severity, lan1.fix) == ("warning", "ip link set lan1 up")
    finally:
        site.router.run("ip link set lan1 up")
        site.head.run("ip link set eth0 up")
    practice.expect()


@covers("R079")
def test_an_interface_is_missing(practice):
    practice.start({"interface": "lan0"}, {"interface": "lan9"})
    (found,) = practice.expect(("downstream/not-up", "default/lan9"))
    assert found.evidence == "lan9 does not exist"


def test_the_instance_is_switched_off(practice):
    practice.start(enabled=False)
    practice.expect(("instance/disabled", "default"))


def test_a_subscriber_of_another_subnet(site, practice):
    practice.start()
    practice.expect()
    Stranger(site.net, site.h0, "eth0").report("172.16.0.9", 3, record(TO_EX, G))
    (found,) = practice.expect(("report/sender", "default/lan0"))
    assert found.evidence == "rejected-sender of ipv4 is 1"
    assert found.fix.startswith("alternative-subnets")


def test_a_rule_denies_the_group(site, practice):
    practice.start(groups=[{"sequence": 1, "action": "deny", "group": ["239.0.0.0/8"]}])
    site.member(site.h0, G).join()
    practice.expect(("report/denied", "default/lan0"))


def test_more_groups_than_the_interface_may_hold(site, practice):
    practice.start({"interface": "lan0", "max-groups": 1})
    source = site.source("10.1.0.2")
    site.member(site.h0, G).join()
    flows(source, G, site.tap(site.h0))
    site.member(site.h0, "239.1.1.2").join()
    practice.expect(("report/group-limit", "default/lan0"))


@covers("R084")
def test_another_querier(site, practice):
    practice.start()
    practice.expect()
    Stranger(site.net, site.h1, "eth0").query("10.0.0.9", Query(b"", 3, robustness=2, interval_ms=125_000))
    (found,) = practice.expect(("querier/other", "default/lan1"))
    assert "10.0.0.9" in found.evidence


@covers("R094")
def test_robustness_of_one(practice):
    practice.start({"interface": "lan0", "robustness": 1})
    practice.expect(("robustness/one", "default/lan0"))


@covers("R080", "R081", "R082", "R089")
def test_a_group_that_nobody_asked_for_and_one_that_is_joined_elsewhere(site, practice):
    practice.start()
    (found,) = practice.expect(("group/nobody", G), group=G)
    assert "no subscriber has reported it" in found.cause
    site.member(site.h0, G).join()
    flows(site.source("10.1.0.2"), G, site.tap(site.h0))
    (found,) = practice.expect(("group/not-here", "default/lan1"), group=G)
    assert "was not learned" in found.cause
