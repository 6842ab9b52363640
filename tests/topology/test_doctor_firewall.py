"""The doctor and the packet filter of the device: what it drops of all that the proxy needs, each way broken for itself.

head --- wan [router] lan0 --- h0
                      lan1 --- h1
"""

from __future__ import annotations

import pytest

from igmpconf.engine.messages import Query
from tests.kit.conformance import covers
from tests.kit.doctor import streaming
from tests.kit.netns import wait_until
from tests.kit.site import flows
from tests.kit.wire import Stranger

pytestmark = pytest.mark.kernel
G = "239.1.1.1"


@pytest.fixture
def nft(site):
    """A firewall in table `inet fw` as others write it: `nft("input", "policy drop", rule, rule)`."""

    def load(hook: str, policy: str, *rules: str) -> None:
        site.router.run("nft add table inet fw")
        site.router.run(f"nft add chain inet fw {hook} '{{ type filter hook {hook} priority 0 ; policy {policy} ; }}'")
        for rule in rules:
            site.router.run(f"nft add rule inet fw {hook} {rule}")

    yield load
    site.router.run("nft delete table inet fw", check=False)


@covers("R090", "R100", "R102")
def test_streams_are_dropped_by_a_rule_that_counts(site, practice, nft):
    practice.start()
    site.member(site.h0, G).join()
    source = site.source("10.1.0.2")
    flows(source, G, site.tap(site.h0))
    nft("forward", "accept", "ct state established,related accept", "iifname wan oifname lan0 meta l4proto udp counter drop")
    with streaming(source, G):
        (found,) = practice.expect(("firewall/drops-streams", "default/wan"))
    assert found.seen == f"streams do not get from wan to lan0, {G} among them"
    assert 'iifname "wan" oifname "lan0" meta l4proto udp counter drop in chain inet fw forward' in found.cause
    packets = int(found.evidence.partition(" ")[0])
    assert 5 < packets < 60
    assert "the counter of the rule rose from " in found.evidence
    assert "by the rules none can pass" in found.evidence
    assert found.fix == "firewall: {manage: yes}"


@covers("R090")
def test_what_only_a_look_can_tell_is_seen_to_be_dropped(site, practice, nft):
    """Half of all datagrams: no reading of the rules would say so."""
    practice.start()
    site.member(site.h0, G).join()
    source = site.source("10.1.0.2")
    flows(source, G, site.tap(site.h0))
    nft("forward", "accept", "udp dport 5000 numgen inc mod 2 0 drop", "ip daddr 239.9.9.9 drop")
    with streaming(source, G, "239.9.9.9"):  # the second one is nobody's
        (found,) = practice.expect(("firewall/drops-streams", "default/wan"))
    assert "by the rules" not in found.evidence


@covers("R090", "R098", "R102")
def test_reports_are_dropped_by_the_policy_though_none_comes(practice, nft):
    practice.start()
    nft("input", "drop", "ct state vmap '{ established : accept, related : accept, invalid : drop }'", "iifname lo accept", "iifname { wan, lan1 } accept")
    (found,) = practice.expect(("firewall/drops-reports", "default/lan0"), window_ms=0)
    assert "policy drop in chain inet fw input" in found.cause
    assert found.evidence.startswith("0 packets")


@covers("R090", "R096")
def test_the_providers_queries_are_dropped(site, practice, nft):
    practice.start()
    nft("input", "accept", "iifname wan ip protocol igmp counter drop")
    provider = Stranger(site.net, site.head, "eth0")

    (found,) = practice.expect(("firewall/drops-queries", "default/wan"))
    assert "the counter of the rule is 0" in found.evidence
    provider.query("10.1.0.2", Query(b"", 3, robustness=2, interval_ms=125_000))
    wait_until(lambda: "the counter of the rule is 1" in practice.visit(window_ms=0)[0].evidence, "the query is counted")


@covers("R088", "R090", "R102")
def test_our_reports_are_dropped_on_their_way_out(site, practice, nft):
    practice.start()
    practice.expect()
    nft("output", "accept", "oifname wan meta l4proto igmp counter drop")
    site.member(site.h0, G).join()
    flows(site.source("10.1.0.2"), G, site.tap(site.h0))
    (found,) = practice.expect(("firewall/drops-sent", "default/wan"))
    assert "the provider never hears" in found.seen


@covers("R104")
def test_mld_is_dropped(practice, nft):
    practice.start(family=["ipv6"])
    nft("input", "accept", "iifname lan1 icmpv6 type '{ mld-listener-report, mld2-listener-report }' drop")
    practice.expect(("firewall/drops-reports", "default/lan1"))


@covers("R090", "R102")
def test_a_rule_of_the_desired_state_drops_the_stream(site, practice):
    rule = {"sequence": 10, "chain": "forward", "action": "drop", "protocol": "udp", "destination": "239.1.1.0/24", "out-interface": "lan0"}
    practice.start(device={"firewall": {"rules": [rule]}})
    site.member(site.h0, G).join()
    (found,) = practice.expect(("firewall/drops-streams", "default/wan"), window_ms=0)
    assert found.fix == "firewall: rules: take out the rule that drops it"
    assert f"from wan to lan0, {G} among them" in found.seen
