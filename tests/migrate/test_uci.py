"""OpenWrt's igmpproxy and omcproxy become YAML that validates, plans and applies; a second plan is empty."""

from __future__ import annotations

import pytest

from igmpconf.migrate import uci
from igmpconf.schema.load import dump
from tests.cli.conftest import agent, igmpconf, place  # noqa: F401 - fixtures

NETWORK = """
config interface 'loopback'
\toption device 'lo'
\toption proto 'static'

config interface 'lan'
\toption device 'br-lan'
\toption proto 'static'

config interface 'wan'
\toption device 'eth0.7'
\toption proto 'pppoe'

config interface 'iptv'
\toption device 'eth0.4'
\toption proto 'dhcp'

config interface 'guest'
\toption type 'bridge'
\toption ifname 'eth1.3 eth2.3'

config interface 'lan6'
\toption device '@lan'
"""
IGMPPROXY = """\
config igmpproxy
\toption quickleave 1
#\toption verbose [0-3](none, minimal[default], more, maximum)

config phyint
\toption network iptv
\toption zone 'wan'
\toption direction upstream
\tlist altnet 10.0.0.0/8
\tlist altnet "217.166.0.0/16"

config phyint lan
\toption network lan
\toption zone lan
\toption direction downstream
\tlist whitelist 239.0.0.0/8

config phyint
\toption network guest
\toption direction disabled
"""
EXPECTED = """\
igmp-proxy:
  - name: default
    quick-leave: 'on'
    interfaces:
      - {interface: br-guest, enabled: no}
      - interface: br-lan
        groups:
          - action: allow
            group: [239.0.0.0/8]
          - {action: deny}
      - interface: eth0.4
        upstream: yes
        alternative-subnets: [10.0.0.0/8, 217.166.0.0/16]
firewall: {manage: yes}
"""


def plain(config) -> list[dict[str, object]]:
    return [{"name": proxy.name, "interfaces": [(one.interface, one.upstream, one.enabled) for one in proxy.interfaces]} for proxy in config.proxies]


def test_igmpproxy_with_the_networks_beside_it(igmpconf, agent, place):  # noqa: F811
    (place / "igmpproxy").write_text(IGMPPROXY)
    (place / "network").write_text(NETWORK)
    agent.engine.present = {"eth0.4", "br-lan", "br-guest"}
    said = igmpconf("import", "uci", "igmpproxy", "--strict")
    assert (said.code, said.err) == (0, "")
    config = uci.imported(IGMPPROXY, NETWORK).config
    assert said.out == EXPECTED
    assert plain(config) == [{"name": "default", "interfaces": [("br-guest", None, False), ("br-lan", None, None), ("eth0.4", True, None)]}]
    by_name = {one.interface: one for one in config.proxies[0].interfaces}
    assert [str(one) for one in by_name["eth0.4"].alternative_subnets] == ["10.0.0.0/8", "217.166.0.0/16"]
    assert [(rule.action, [str(one) for one in rule.group]) for rule in by_name["br-lan"].groups] == [("allow", ["239.0.0.0/8"]), ("deny", [])]
    assert (config.proxies[0].quick_leave, config.firewall.manage) == ("on", True)
    (place / "new.yaml").write_text(said.out)
    assert igmpconf("plan", "-f", "new.yaml", "--detailed-exitcode").code == 2
    assert igmpconf("apply", "-f", "new.yaml", "--yes").code == 0
    assert igmpconf("plan", "-f", "new.yaml", "--detailed-exitcode").code == 0


def test_without_the_networks_their_names_are_kept_and_told(igmpconf, place):  # noqa: F811
    (place / "igmpproxy").write_text(IGMPPROXY)
    said = igmpconf("import", "uci", "igmpproxy")
    assert said.code == 0
    assert [line.partition(": ")[0] for line in said.err.splitlines()] == ["igmpproxy:6", "igmpproxy:13", "igmpproxy:19"]
    assert "--network FILE" in said.err
    assert "interface: iptv" in said.out
    (place / "net.txt").write_text(NETWORK)
    assert "interface: eth0.4" in igmpconf("import", "uci", "igmpproxy", "--network", "net.txt").out
    assert igmpconf("import", "routeros", "igmpproxy", "--network", "net.txt").code == 64


def test_omcproxy_speaks_both_families_and_may_have_several_instances(igmpconf, agent, place):  # noqa: F811
    text = (
        "config proxy\n\toption scope global\n\toption uplink wan\n\tlist downlink lan6\n\n"
        "config proxy tv\n\toption uplink 'eth0.4'\n\tlist downlink 'guest,eth3'\n\toption colour blue\n"
    )
    found = uci.imported(text, NETWORK)
    assert plain(found.config) == [
        {"name": "default", "interfaces": [("br-lan", None, None), ("pppoe-wan", True, None)]},
        {"name": "tv", "interfaces": [("br-guest", None, None), ("eth0.4", True, None), ("eth3", None, None)]},
    ]
    assert {proxy.family for proxy in found.config.proxies} == {("ipv4", "ipv6")}
    assert [(remark.line, remark.message.partition(":")[0]) for remark in found.remarks] == [(2, "scope global"), (9, "colour")]
    (place / "new.yaml").write_text(dump(found.config))
    assert igmpconf("validate", "new.yaml").code == 0
    assert igmpconf("plan", "-f", "new.yaml", "--detailed-exitcode").code == 2


def test_what_uci_export_and_uci_show_print():
    exported = "package network\n\n" + NETWORK + "\npackage igmpproxy\n\n" + IGMPPROXY
    assert uci.imported(exported).config == uci.imported(IGMPPROXY, NETWORK).config
    shown = (
        "network.lan=interface\nnetwork.lan.device='br-lan'\nnetwork.iptv=interface\nnetwork.iptv.device='eth0.4'\n"
        "igmpproxy.@igmpproxy[0]=igmpproxy\nigmpproxy.@igmpproxy[0].quickleave='0'\n"
        "igmpproxy.@phyint[0]=phyint\nigmpproxy.@phyint[0].network='iptv'\nigmpproxy.@phyint[0].direction='upstream'\n"
        "igmpproxy.@phyint[0].altnet='10.0.0.0/8' '172.16.0.0/12'\n"
        "igmpproxy.lan=phyint\nigmpproxy.lan.network='lan'\nigmpproxy.lan.direction='downstream'\n"
    )
    found = uci.imported(shown)
    assert plain(found.config) == [{"name": "default", "interfaces": [("br-lan", None, None), ("eth0.4", True, None)]}]
    assert [str(one) for one in found.config.proxies[0].interfaces[1].alternative_subnets] == ["10.0.0.0/8", "172.16.0.0/12"]
    assert (found.config.proxies[0].quick_leave, found.remarks) == ("off", ())


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("config phyint", "without network"),
        ("\toption direction sideways", "taken as downstream"),
        ("\tlist altnet 10.0.0.300/8", "altnet 10.0.0.300/8"),
        ("\tlist whitelist 10.0.0.0/8", "10.0.0.0/8: left out"),
        ("\toption mystery 1", "mystery"),
        ("\toption network 'lan", "not understood"),
        ("config dnsmasq", "not about a multicast proxy"),
        ("hello", "not understood"),
    ],
)
def test_what_cannot_be_carried_over_is_told_with_its_line(line, word):
    text = "config phyint\n\toption network iptv\n\toption direction upstream\nconfig phyint\n\toption network lan\n"
    text += ("\toption direction downstream\n" if "direction" not in line else "#\n") + line + "\n"
    found = uci.imported(text, NETWORK)
    told = [(remark.line, remark.message) for remark in found.remarks]
    assert len(told) == 1, told
    assert word in told[0][1]
    assert told[0][0] in {4, 7}
    assert {"eth0.4", "br-lan"} == {one.interface for one in found.config.proxies[0].interfaces}


def test_a_file_without_a_proxy_is_an_error(igmpconf, place):  # noqa: F811
    (place / "dhcp").write_text("config dnsmasq\n\toption domain lan\n")
    assert igmpconf("import", "uci", "dhcp").code == 3
