"""What somebody changes by hand beside the agent is told by plan and drift, and put right.

head --- wan [router] lan0 --- h0
"""

from __future__ import annotations

import copy
import itertools

import pytest

from tests.kit.conformance import covers
from tests.kit.netns import sysctl, wait_until
from tests.kit.site import cable, flows
from tests.kit.wire import Member, Source, Tap
from tests.manual.conftest import BASE

pytestmark = pytest.mark.kernel
G, HEAD = "239.1.1.1", "10.1.0.2"
DROPPING = """
table inet filter {
  chain input { type filter hook input priority filter; policy drop; }
  chain forward { type filter hook forward priority filter; policy drop; }
}
"""
PUT_RIGHT_WITHIN_S = 15.0  # the agent looks every 10 s, and at once when a link changes


_mtus = itertools.count(60_000)


def a_link_changes(site) -> None:
    site.router.run(f"ip link set lo mtu {next(_mtus)}")


@covers("R098", "R099", "R100", "R101", "R103", aspects=("plan", "apply", "live", "rollback", "drift"))
def test_a_rule_that_is_flushed_by_hand_is_placed_again(site, desk, tmp_path):
    (tmp_path / "rules").write_text(DROPPING)
    site.router.run(f"nft -f {tmp_path}/rules")
    wanted = BASE | {
        "firewall": {
            "manage": True,
            "rules": [
                {"chain": "input", "action": "accept", "protocol": "igmp"},
                {"chain": "forward", "action": "accept", "protocol": "igmp"},
                {"chain": "forward", "action": "accept", "protocol": "udp", "destination": "224.0.0.0/4"},
                {"chain": "forward", "action": "accept", "protocol": "udp", "in-interface": "wan"},
                {"chain": "forward", "action": "accept", "protocol": "udp", "out-interface": "lan0"},
            ],
        }
    }
    site.member(site.h0, G).join()
    source, tap = site.source(HEAD), site.tap(site.h0)
    try:
        paths = {change["path"] for change in desk.plans(wanted)}
        assert {"firewall/manage", "firewall/rules[1]", "firewall/rules[5]"} <= paths
        desk.applies(wanted)
        assert desk.runs(wanted)
        flows(source, G, tap)
        listed = site.router.run("nft -s list chain inet filter forward")
        assert 'iifname "wan" meta l4proto udp' in listed
        assert 'oifname "lan0" meta l4proto udp' in listed
        site.router.run("nft flush chain inet filter forward")
        wait_until(lambda: site.router.run("nft -s list chain inet filter forward") == listed, "every rule is back in its place", PUT_RIGHT_WITHIN_S)
        flows(source, G, tap)
        assert "surroundings/put-right" in desk.logs()
        desk.back()
        assert "igmpconf:" not in site.router.run("nft list ruleset")
    finally:
        site.router.run("nft flush ruleset")


@covers("R087", aspects=("live", "drift"))
def test_a_setting_that_is_turned_by_hand_is_told_and_put_right(site, desk):
    sysctl(site.router, "ipv4/conf/wan/rp_filter", 1)
    said = desk("drift", "-f", desk.wants(BASE), "-d", desk.device, code=2)
    assert "net.ipv4.conf.wan.rp_filter: expected 0, found 1" in said.err
    a_link_changes(site)
    wait_until(lambda: site.router.run("cat /proc/sys/net/ipv4/conf/wan/rp_filter") == "0\n", "put right", PUT_RIGHT_WITHIN_S)
    desk("drift", "-f", desk.wants(BASE), "-d", desk.device)


@covers("R110", "R057", aspects=("live", "drift"))
def test_a_multicast_interface_that_is_taken_away_by_hand_returns_with_its_stream(site, desk):
    """A vif cannot be deleted from outside but with its interface."""
    site.member(site.h0, G).join()
    source, tap = site.source(HEAD), site.tap(site.h0)
    flows(source, G, tap)
    site.router.run("ip link del wan")
    wait_until(lambda: not (desk.interface("wan") or {"up": False})["up"], "it is told")
    said = desk("show", "interfaces", "-d", desk.device)
    assert "no" in next(line for line in said.out.splitlines() if " wan " in line).split()
    cable(site.net, 1, site.router, "wan", site.head, "eth0")
    flows(site.source(HEAD), G, tap)
    assert desk.runs(BASE)


@covers("R014", aspects=("drift",))
def test_a_rule_that_leads_to_the_table_of_an_instance_is_told_and_put_right(site, desk):
    head2, host2 = site.net.namespace("head2"), site.net.namespace("h2")
    cable(site.net, 4, site.router, "wan2", head2, "eth0")
    cable(site.net, 5, site.router, "lan2", host2, "eth0")
    both = copy.deepcopy(BASE)
    both["igmp-proxy"].append(both["igmp-proxy"][0] | {"name": "second", "interfaces": [{"interface": "wan2", "upstream": True}, "lan2"]})
    desk.applies(both)
    member, source, tap = Member(site.net, host2, "eth0", G), Source(site.net, head2, "eth0", "10.4.0.2"), Tap(site.net, host2, "eth0")
    site.members.append(member)
    member.join()
    flows(source, G, tap)
    rule = next(line for line in site.router.run("ip mrule show").splitlines() if "iif wan2" in line)
    table = rule.split()[-1]
    site.router.run(f"ip mrule del iif wan2 table {table}")
    said = desk("drift", "-f", desk.wants(both), "-d", desk.device, code=2)
    assert f"ipv4 multicast rule iif wan2: expected table {table}, found absent" in said.err
    a_link_changes(site)
    wait_until(lambda: rule in site.router.run("ip mrule show"), "put right", PUT_RIGHT_WITHIN_S)
    flows(source, G, tap)
    desk("drift", "-f", desk.wants(both), "-d", desk.device)
    desk.applies(BASE)
    for name in ("wan2", "lan2"):
        site.router.run(f"ip link del {name}")
