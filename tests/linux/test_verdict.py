"""What is said of rules is what the kernel's own packet filter does: rules as nft lists them, and packets that are described."""

from __future__ import annotations

import ipaddress

import pytest

from igmpconf.linux.nft import parsed
from igmpconf.linux.verdict import Packet, dropping
from tests.kit.netns import Net

pytestmark = pytest.mark.kernel

ANY = ipaddress.ip_network("0.0.0.0/0")
STREAM = Packet(version=4, protocol=17, arrives="wan", leaves="lan0", group=ipaddress.ip_network("239.1.1.1/32"), source=ANY)
ANY_STREAM = Packet(version=4, protocol=17, arrives="wan", leaves="lan0", group=ipaddress.ip_network("224.0.0.0/4"), source=ANY)
STREAM6 = Packet(version=6, protocol=17, arrives="wan", leaves="lan0", group=ipaddress.ip_network("ff15::1/128"), source=ipaddress.ip_network("::/0"))
REPORT = Packet(version=4, protocol=2, arrives="lan0", leaves=None, group=ipaddress.ip_network("224.0.0.0/4"), source=ANY)
REPORT6 = Packet(
    version=6, protocol=58, arrives="lan0", leaves=None, group=ipaddress.ip_network("ff00::/8"), source=ipaddress.ip_network("::/0"), icmpv6_type=143
)
SENT = Packet(version=4, protocol=2, arrives=None, leaves="wan", group=ipaddress.ip_network("224.0.0.0/4"), source=ANY)

# hook, policy, rules, packet, who drops it: the number of the rule, "policy", or None
CASES = {
    "policy": ("forward", "drop", (), STREAM, "policy"),
    "accepted by name": ("forward", "drop", ('iifname "wan" accept',), STREAM, None),
    "accepted by a pattern": ("forward", "drop", ('iifname "wa*" accept',), STREAM, None),
    "accepted elsewhere": ("forward", "drop", ('iifname "eth*" accept', 'oifname != "lan0" accept'), STREAM, "policy"),
    "a stream is never established": ("forward", "drop", ("ct state established,related accept",), STREAM, "policy"),
    "a stream is new": ("forward", "drop", ("ct state new,established accept",), STREAM, None),
    "a map of states": ("forward", "accept", ("ct state vmap { established : accept, new : drop }",), STREAM, 0),
    "a map that has no row for it": ("forward", "drop", ("ct state vmap { established : accept, invalid : drop }",), STREAM, "policy"),
    "a set of names": ("forward", "accept", ('iifname { "eth0", "wan" } drop',), STREAM, 0),
    "all groups": ("forward", "drop", ("ip daddr 224.0.0.0/4 meta l4proto udp accept",), ANY_STREAM, None),
    "some groups accepted": ("forward", "drop", ("ip daddr 239.1.0.0/16 accept",), ANY_STREAM, None),
    "its group is not among them": ("forward", "drop", ("ip daddr 239.2.0.0/16 accept",), STREAM, "policy"),
    "a range of groups": ("forward", "accept", ("ip daddr 239.1.1.0-239.1.1.9 drop",), STREAM, 0),
    "some groups dropped": ("forward", "accept", ("ip daddr 239.1.0.0/16 drop",), ANY_STREAM, None),
    "another protocol": ("forward", "drop", ("meta l4proto tcp accept", "tcp dport 80 accept", "icmp type echo-request accept"), STREAM, "policy"),
    "a port that is not known": ("forward", "drop", ("udp dport 5000 accept",), STREAM, None),
    "dropped by chance, and else by the policy": ("forward", "drop", ("udp dport 5000 drop",), STREAM, "policy"),
    "a limit": ("forward", "accept", ("limit rate 10/second accept", "drop"), STREAM, None),
    "a counter goes on": ("forward", "accept", ("counter", 'log prefix "x"', "meta l4proto udp counter reject"), STREAM, 2),
    "what drops the rest": ("forward", "accept", ("meta l4proto != udp accept", "drop"), STREAM, 1),
    "the other family": ("forward", "accept", ("meta nfproto ipv6 drop", "ip6 daddr ff00::/8 drop"), STREAM, None),
    "the family": ("forward", "accept", ("meta nfproto ipv6 drop",), STREAM6, 0),
    "multicast by its route": ("forward", "accept", ("fib daddr type multicast drop",), STREAM, 0),
    "local by its route": ("forward", "drop", ("fib daddr type local accept",), STREAM, "policy"),
    "igmp": ("input", "drop", ("ip protocol icmp accept", "ip protocol igmp accept"), REPORT, None),
    "igmp by another name": ("input", "accept", ("meta l4proto igmp drop",), REPORT, 0),
    "one destination of igmp": ("input", "drop", ("ip daddr 224.0.0.22 accept",), REPORT, None),
    "reports of MLD": ("input", "drop", ("icmpv6 type { mld-listener-query, mld2-listener-report } accept",), REPORT6, None),
    "queries of MLD": ("input", "drop", ("icmpv6 type mld-listener-query accept", "icmpv6 type 130-132 accept"), REPORT6, "policy"),
    "numbers of MLD": ("input", "accept", ("icmpv6 type 130-143 drop",), REPORT6, 0),
    "no way out": ("output", "accept", ('oifname "wan" ip protocol igmp drop',), SENT, 0),
    "what we send arrives nowhere": ("output", "drop", ('iifname "wan" accept', 'oifname "lan0" accept'), SENT, "policy"),
    "a jump that comes back": ("forward", "drop", ("jump aside",), STREAM, "policy"),
    "a firewall as firewalld writes it": ("input", "accept", ("ct status dnat accept", "iifname lo accept", "reject with icmpx admin-prohibited"), REPORT, 2),
    "a mark": ("forward", "drop", ("meta mark 7 accept",), STREAM, None),
}


@pytest.fixture(scope="module")
def router():
    with Net() as net:
        made = net.namespace("router")
        yield made


@pytest.mark.parametrize("name", list(CASES))
def test_who_drops_it(router, name):
    hook, policy, rules, packet, wanted = CASES[name]
    router.run("nft flush ruleset")
    script = ["add table inet fw", "add chain inet fw aside", "add rule inet fw aside ip protocol tcp drop", "add rule inet fw aside return"]
    script.append(f"add chain inet fw it {{ type filter hook {hook} priority 0 ; policy {policy} ; }}")
    script += [f"add rule inet fw it {rule}" for rule in rules]
    router.run(f"nft '{'; '.join(script)}'")
    found = dropping(parsed(router.run("nft -j -a -t list ruleset")), hook, packet)
    if found is None or found.rule is None:
        assert (None if found is None else "policy") == wanted
        return
    handles = [rule.handle for rule in parsed(router.run("nft -j -a list ruleset"))["inet", "fw", "it"].rules]
    assert handles.index(found.rule.handle) == wanted


def test_jumps_and_gotos(router):
    router.run("nft flush ruleset")
    router.run(
        "nft 'add table inet fw; add chain inet fw of_wan; add rule inet fw of_wan meta l4proto udp drop; "
        "add chain inet fw it { type filter hook forward priority 0 ; policy accept ; }; add rule inet fw it iifname wan goto of_wan'"
    )
    found = dropping(parsed(router.run("nft -j -a list ruleset")), "forward", STREAM)
    assert found is not None
    assert found.chain == ("inet", "fw", "of_wan")
    router.run("nft 'insert rule inet fw of_wan accept'")
    assert dropping(parsed(router.run("nft -j -a list ruleset")), "forward", STREAM) is None


def test_every_base_chain_has_a_say(router):
    router.run("nft flush ruleset")
    for number, policy in ((0, "accept"), (10, "drop")):
        router.run(f"nft 'add table ip t{number}; add chain ip t{number} it {{ type filter hook forward priority {number} ; policy {policy} ; }}'")
    found = dropping(parsed(router.run("nft -j -a list ruleset")), "forward", STREAM)
    assert found is not None
    assert (found.chain, found.rule) == (("ip", "t10", "it"), None)
    assert dropping(parsed(router.run("nft -j -a list ruleset")), "forward", STREAM6) is None
