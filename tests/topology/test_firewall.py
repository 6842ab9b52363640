"""A firewall that drops, on the real kernel: the streams and memberships come through with our rules, and only with them.

head --- wan [router: policy drop] lan0 --- h0
                                   lan1 --- h1
"""

from __future__ import annotations

import pytest

from tests.kit.conformance import covers
from tests.kit.live import LiveProxy, Refused
from tests.kit.netns import wait_until
from tests.kit.site import flows, instance

pytestmark = pytest.mark.kernel

DROPPING = """
flush ruleset
table inet filter {
  chain input { type filter hook input priority filter; policy drop; ct state invalid drop; iifname "lo" accept; }
  chain forward { type filter hook forward priority filter; policy drop; jump looked_at; tcp dport 22 accept; }
  chain output { type filter hook output priority filter; policy drop; udp dport 67 accept; }
  chain looked_at { ip saddr 10.9.9.9 drop; }
  chain quiet { type filter hook forward priority 10; policy accept; counter; }
}
table ip6 old {
  chain in6 { type filter hook input priority 5; policy accept; icmpv6 type echo-request reject; }
}
"""
MANAGED = {"manage": True}


@pytest.fixture
def ruleset(site, tmp_path):
    def load(text: str) -> None:
        (tmp_path / "rules").write_text(text)
        site.router.run(f"nft -f {tmp_path}/rules")

    yield load
    site.tidy()
    site.router.run("nft flush ruleset")


def listing(site) -> str:
    return site.router.run("nft -s list ruleset")  # without what the counters say


def foreign(site) -> list[str]:
    return [line for line in listing(site).splitlines() if "igmpconf:" not in line]


def started(site, tmp_path) -> LiveProxy:
    proxy = LiveProxy(site.net, site.router, state_dir=tmp_path / "state")
    site.proxies.append(proxy)
    proxy.configure({})
    return proxy


def configured(**firewall) -> dict:
    return {"igmp-proxy": [{"name": "default"} | instance("wan", "lan0", "lan1")]} | ({"firewall": firewall} if firewall else {})


def join(site, host, group):
    member = site.member(host, group)
    member.join()
    return member


@covers("R098", "R100", "R104")
@pytest.mark.parametrize(("group", "source"), [("239.7.1.1", "10.1.0.2"), ("ff0e::7:1", "fd00:1::2")])
def test_with_policy_drop_the_stream_comes_through_after_the_change_and_not_before(site, ruleset, tmp_path, group, source):
    ruleset(DROPPING)
    proxy = started(site, tmp_path)
    proxy.configure(configured())
    proxy.ready()
    join(site, site.h0, group)
    tap, sender = site.tap(site.h0), site.source(source)
    for _ in range(20):
        sender.send(group, b"lost")
    before = foreign(site)
    proxy.configure(configured(**MANAGED))
    flows(sender, group, tap)
    assert b"lost" not in [payload for _, payload in tap.arrivals(group)]
    wait_until(lambda: proxy.groups().get(("lan0", group)), "the membership, with Router Alert")
    wait_until(lambda: group in proxy.told(), "told upstream")
    assert foreign(site) == before
    assert proxy.state().deviations == ()
    proxy.configure({})
    assert "igmpconf" not in listing(site)
    assert foreign(site) == before


@covers("R103")
def test_rules_stand_before_the_drops_of_every_chain_that_drops_and_in_no_other(site, ruleset, tmp_path):
    ruleset(DROPPING)
    proxy = started(site, tmp_path)
    proxy.configure(configured(**MANAGED))
    chains = {}
    for line in listing(site).splitlines():
        if line.strip().startswith("chain"):
            chains[line.split()[1]] = rules = []
        elif line.startswith("\t\t") and not line.strip().startswith("type filter"):
            rules.append("ours" if "igmpconf:" in line else line.strip())
    assert chains["quiet"] == ["counter"]
    assert chains["looked_at"] == ["ip saddr 10.9.9.9 drop"]
    assert chains["input"][-2:] == ["ct state invalid drop", 'iifname "lo" accept']
    assert set(chains["input"][:-2]) == {"ours"}
    assert chains["forward"][-2:] == ["jump looked_at", "tcp dport 22 accept"]
    assert chains["output"][0] == "udp dport 67 accept"
    assert chains["in6"][-1].startswith("icmpv6 type echo-request reject")
    assert len(chains["in6"]) == 1 + 2 * 3  # MLD only, on three interfaces


def test_what_was_applied_is_not_touched_again_and_a_change_keeps_the_counters_of_the_rest(site, ruleset, tmp_path):
    ruleset(DROPPING)
    proxy = started(site, tmp_path)
    proxy.configure(configured(**MANAGED))
    first = site.router.run("nft -s -a list chain inet filter forward")
    proxy.configure(configured(**MANAGED))
    assert site.router.run("nft -s -a list chain inet filter forward") == first
    proxy.configure(configured(manage=True, rules=[{"sequence": 10, "chain": "forward", "protocol": "udp", "in-interface": "wan", "action": "accept"}]))
    kept = [line for line in site.router.run("nft -s -a list chain inet filter forward").splitlines() if "manage" in line]
    assert [line.rpartition("#")[2] for line in kept] == [line.rpartition("#")[2] for line in first.splitlines() if "manage" in line]
    assert "rule 10" in listing(site)


def test_they_come_back_when_the_firewall_is_loaded_anew_and_when_one_is_edited(site, ruleset, tmp_path):
    ruleset(DROPPING)
    proxy = started(site, tmp_path)
    proxy.configure(configured(**MANAGED))
    whole = listing(site)
    ruleset(DROPPING)
    wait_until(lambda: listing(site) == whole, "the rules")
    wait_until(lambda: proxy.noted("surroundings/put-right"), "it is told")
    line = next(line for line in site.router.run("nft -s -a list chain inet filter input").splitlines() if "manage: IGMP" in line)
    site.router.run(f"nft delete rule inet filter input handle {line.rpartition(' ')[2]}")
    wait_until(lambda: listing(site) == whole, "the deleted rule")
    site.router.run('nft insert rule inet filter forward ip daddr 224.0.0.0/4 drop comment "mine"')
    wait_until(lambda: listing(site).index("manage: streams") < listing(site).index('"mine"'), "before the new drop")
    assert '"mine"' in listing(site)


def test_drops_of_our_own_get_a_table_of_our_own_where_nobody_else_drops(site, ruleset, tmp_path):
    ruleset("flush ruleset\ntable ip filter {\n chain forward { type filter hook forward priority 0; policy accept; counter; }\n}\n")
    proxy = started(site, tmp_path)
    join(site, site.h0, "239.7.2.1")
    proxy.configure(configured(rules=[{"sequence": 1, "chain": "forward", "destination": "239.7.2.2/32", "action": "drop", "comment": 'not "this"'}]))
    proxy.ready()
    assert "table inet igmpconf" in listing(site)
    join(site, site.h0, "239.7.2.2")
    tap, sender = site.tap(site.h0), site.source("10.1.0.2")
    wait_until(lambda: "239.7.2.2" in proxy.told())
    for _ in range(10):
        sender.send("239.7.2.2", b"refused")
    flows(sender, "239.7.2.1", tap)
    assert list(tap.arrivals("239.7.2.2")) == []
    # a firewall that drops appears: the rule moves there
    ruleset("table inet late {\n chain f { type filter hook forward priority 1; policy drop; }\n}\n")
    wait_until(lambda: "table inet igmpconf" not in listing(site) and "rule 1: not 'this'" in listing(site), "moved")
    proxy.configure(configured())
    assert "igmpconf" not in listing(site)


REFERENCE = [
    {"chain": "input", "protocol": "igmp", "action": "accept"},
    {"chain": "forward", "protocol": "igmp", "action": "accept"},
    {"chain": "forward", "protocol": "udp", "destination": "224.0.0.0/4", "action": "accept"},
    {"chain": "forward", "in-interface": "vlan100-ipTV", "protocol": "udp", "action": "accept"},
    {"chain": "forward", "out-interface": "bridge-local", "protocol": "udp", "action": "accept"},
]


@covers("R099", "R101")
def test_the_five_rules_of_an_iptv_router(site, ruleset, tmp_path):
    ruleset(DROPPING)
    proxy = started(site, tmp_path)
    proxy.configure({"firewall": {"rules": [{"sequence": 10 * number} | rule for number, rule in enumerate(REFERENCE, 1)]}})
    placed = [line.strip().partition(" counter")[0] for line in site.router.run("nft list table inet filter").splitlines() if "igmpconf:" in line]
    assert placed == [
        "meta l4proto igmp",
        "meta l4proto igmp",
        "ip daddr 224.0.0.0/4 meta l4proto udp",
        'iifname "vlan100-ipTV" meta l4proto udp',
        'oifname "bridge-local" meta l4proto udp',
    ]


def test_a_refused_change_leaves_the_firewall_as_it_was(site, ruleset, tmp_path):
    ruleset(DROPPING)
    proxy = started(site, tmp_path)
    proxy.configure(configured(**MANAGED))
    whole = listing(site)
    bad = configured(manage=True, rules=[{"sequence": 1, "chain": "forward", "protocol": "udp", "action": "accept"}])
    bad["igmp-proxy"][0]["interfaces"][1] = {"interface": "lan0"}
    bad["vlans"] = [{"name": "wan", "interface": "lan0", "vlan-id": 7}]
    with pytest.raises(Refused, match="wan exists and is a veth interface, not VLAN 7 of lan0"):
        proxy.configure(bad)
    assert listing(site) == whole


def test_after_a_crash_the_next_start_finds_and_removes_what_is_ours(site, ruleset, tmp_path):
    ruleset(DROPPING)
    before = listing(site)
    proxy = started(site, tmp_path)
    proxy.configure(configured(**MANAGED))
    proxy.kill()
    assert "igmpconf:" in listing(site)
    started(site, tmp_path)  # with an empty configuration
    assert listing(site) == before


def test_stopping_leaves_the_rules_and_a_restart_keeps_them(site, ruleset, tmp_path):
    ruleset(DROPPING)
    proxy = started(site, tmp_path)
    proxy.configure(configured(**MANAGED))
    whole = listing(site)
    proxy.stop()
    assert listing(site) == whole
    again = LiveProxy(site.net, site.router, state_dir=tmp_path / "state")
    site.proxies.append(again)
    again.configure(configured(**MANAGED))
    assert listing(site) == whole
