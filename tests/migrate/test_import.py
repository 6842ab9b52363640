"""What other programs were told becomes YAML that validates, plans and applies; a second plan is empty."""

from __future__ import annotations

import pytest

from igmpconf.migrate import igmpproxy, routeros, vyos
from igmpconf.schema.load import dump
from tests.cli.conftest import agent, igmpconf, place  # noqa: F401 - fixtures

ENABLE = "/routing igmp-proxy enable\n"
UP, DOWN = "/routing igmp-proxy interface add interface=ether1 upstream=yes\n", "/routing igmp-proxy interface add interface=bridge-local upstream=no\n"
MINIMAL = ENABLE + UP + "/routing igmp-proxy interface add interface=ether2 upstream=no\n"
TYPICAL = ENABLE + UP + DOWN + "/routing igmp-proxy interface set [find upstream=yes] query-interval=3125\n"
SUBNETS = "/routing igmp-proxy interface set [find upstream=no] alternative-subnets=10.20.0.0/16,192.168.100.0/24\n"
RESIDENTIAL = (
    "/interface vlan add vlan-id=100 interface=ether1 name=vlan100-ipTV\n"
    + ENABLE
    + "/routing igmp-proxy interface add interface=vlan100-ipTV upstream=yes\n"
    + DOWN
    + "/ip firewall filter add chain=forward in-interface=vlan100-ipTV protocol=udp action=accept\n"
    "/ip firewall filter add chain=forward out-interface=bridge-local protocol=udp action=accept\n"
)
SEVERAL = (
    "/routing igmp-proxy interface add interface=vlan10 upstream=no\n"
    "/routing igmp-proxy interface add interface=vlan20 upstream=no\n"
    "/routing igmp-proxy interface add interface=ether1 upstream=yes\n"
)
STATIC = "/routing igmp-proxy mfc add source=192.168.100.5 group=239.255.1.1 downstream-interface=bridge-local\n"
FIREWALL = (
    "/ip firewall filter add chain=input protocol=igmp action=accept\n"
    "/ip firewall filter add chain=forward protocol=igmp action=accept\n"
    "/ip firewall filter add chain=forward protocol=udp dst-address=224.0.0.0/4 action=accept\n"
)
LOGGING = "/system logging add topics=igmp-proxy,debug action=memory\n"

# name -> commands, lines of the YAML, remarks as (line, word)
EXAMPLES = {
    "minimal": (MINIMAL, ["- {interface: ether1, upstream: yes}", "- {interface: ether2}"], []),
    "typical": (TYPICAL, ["query-interval: 31.25s"], [(4, "upstream sends no queries")]),
    "subnets": (SEVERAL + SUBNETS, ["- interface: vlan10", "- interface: vlan20", "alternative-subnets: [10.20.0.0/16, 192.168.100.0/24]"], []),
    "residential": (
        RESIDENTIAL,
        [
            "- {name: vlan100-ipTV, interface: ether1, vlan-id: 100}",
            "- {chain: forward, action: accept, protocol: udp, in-interface: vlan100-ipTV}",
            "- {chain: forward, action: accept, protocol: udp, out-interface: bridge-local}",
        ],
        [],
    ),
    "several": (SEVERAL, ["- {interface: ether1, upstream: yes}"], []),
    "static": (TYPICAL + STATIC, ["- source: 192.168.100.5", "group: 239.255.1.1", "downstream-interface: [bridge-local]"], [(4, "no queries")]),
    "firewall": (
        MINIMAL + FIREWALL,
        [
            "- {chain: input, action: accept, protocol: igmp}",
            "- {chain: forward, action: accept, protocol: igmp}",
            "- {chain: forward, action: accept, protocol: udp, destination: 224.0.0.0/4}",
        ],
        [],
    ),
    "logging": (MINIMAL + LOGGING, ["topics: [debug, igmp-proxy]", "action: memory"], []),
}

EXPORT = r"""# 2026-11-25 22:30:00 by RouterOS 7.15.3
# software id = ABCD-1234
/interface bridge
add name=bridge-local
/interface vlan
add comment="IPTV \"main\"" interface=ether1 name=vlan100-ipTV vlan-id=100
add interface=ether1 name=voice vlan-id=300
/routing igmp-proxy
set query-interval=2m5s quick-leave=yes
/routing igmp-proxy interface
add alternative-subnets=0.0.0.0/0 interface=vlan100-ipTV upstream=yes
add interface=bridge-local threshold=\
    2
add disabled=yes interface=ether9
/ip firewall filter
add action=accept chain=input connection-state=established,related
add action=accept chain=input protocol=igmp
add action=drop chain=input
/system logging
set 0 topics=info
add topics=igmp-proxy,!packet action=remote
"""


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_the_examples_as_they_are_written_plan_apply_and_then_nothing_is_left(igmpconf, agent, place, name):  # noqa: F811
    text, lines, remarks = EXAMPLES[name]
    (place / "router.rsc").write_text(text)
    agent.engine.present = {"ether1", "ether2", "bridge-local", "vlan100-ipTV", "vlan10", "vlan20"}
    said = igmpconf("import", "routeros", "router.rsc")
    assert said.code == 0, said.err
    for line in lines:
        assert line in said.out
    told = said.err.splitlines()
    assert [(f"router.rsc:{line}:", word) for line, word in remarks] == [
        (one.split(" ")[0], word) for one, (_, word) in zip(told, remarks, strict=True) if word in one
    ]
    (place / "new.yaml").write_text(said.out)
    assert igmpconf("validate", "new.yaml").code == 0
    assert igmpconf("plan", "-f", "new.yaml", "--detailed-exitcode").code == 2
    assert igmpconf("apply", "-f", "new.yaml", "--yes").code == 0
    assert igmpconf("plan", "-f", "new.yaml", "--detailed-exitcode").code == 0


def test_a_selection_reaches_every_row_it_names():
    found = routeros.imported(SEVERAL + SUBNETS + "/routing igmp-proxy interface set [find interface=vlan20] threshold=7\n")
    by_name = {one.interface: one for one in found.config.proxies[0].interfaces}
    assert [str(prefix) for prefix in by_name["vlan10"].alternative_subnets] == ["10.20.0.0/16", "192.168.100.0/24"]
    assert by_name["vlan10"].alternative_subnets == by_name["vlan20"].alternative_subnets
    assert by_name["ether1"].alternative_subnets == ()
    assert (by_name["vlan10"].threshold, by_name["vlan20"].threshold) == (None, 7)


def test_an_export_is_read_and_what_it_says_beyond_us_is_told():
    found = routeros.imported(EXPORT)
    assert dump(found.config) == (
        "igmp-proxy:\n"
        "  - name: default\n"
        "    query-interval: 2m5s\n"
        "    quick-leave: on\n"
        "    interfaces:\n"
        "      - {interface: bridge-local, threshold: 2}\n"
        "      - {interface: ether9, enabled: no}\n"
        "      - {interface: vlan100-ipTV, upstream: yes}\n"
        "vlans:\n"
        "  - {name: vlan100-ipTV, interface: ether1, vlan-id: 100}\n"
        "firewall:\n"
        "  rules:\n"
        "    - {chain: input, action: accept, protocol: igmp}\n"
        "logging:\n"
        "  topics: [igmp-proxy]\n"
        "  action: journal\n"
    ).replace("quick-leave: on", "quick-leave: 'on'")
    assert [remark.line for remark in found.remarks] == [4, 7, 11, 16, 18, 20, 21, 21]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("/routing/igmp-proxy/interface/add interface=a threshold=300", "expected an integer 0..255"),
        ("/routing igmp-proxy interface set [find where upstream!=yes] threshold=2", "cannot tell what"),
        ("/routing igmp-proxy interface set [find upstream=maybe] threshold=2", "selects none"),
        ("/routing igmp-proxy interface set threshold=2", "without [find ...]"),
        ("/routing igmp-proxy interface add interface=all", "name each interface"),
        ('/routing igmp-proxy interface add interface="a', "without its partner"),
        ("/routing igmp-proxy interface set [find", "without its ]"),
        (':put "hello"', "scripts are not understood"),
        ("/ip firewall filter add chain=forward protocol=udp src-port=99", "would accept more than it did"),
        ("/ip firewall filter add chain=forward protocol=gre", "protocol=gre"),
        ("/routing igmp-proxy mfc add source=10.0.0.1 group=10.0.0.2 downstream-interface=a", "group=10.0.0.2"),
        ("/routing igmp-proxy interface add interface=a mystery=1", "no such setting"),
        ("= what", "no command before"),
    ],
)
def test_what_cannot_be_expressed_is_told_with_its_line(line, word):
    found = routeros.imported(MINIMAL + line + "\n")
    assert [(remark.line, word in remark.message) for remark in found.remarks] == [(4, True)], found.remarks
    assert {"ether1", "ether2"} <= {one.interface for one in found.config.proxies[0].interfaces}


def test_version_seven_writes_slashes_and_several_commands_may_share_a_line():
    found = routeros.imported("/routing/igmp-proxy/interface/add interface=a upstream=yes; /routing/igmp-proxy/interface add interface=b\n")
    assert [(one.interface, one.upstream) for one in found.config.proxies[0].interfaces] == [("a", True), ("b", None)]
    assert found.remarks == ()


def test_exit_codes(igmpconf, place):  # noqa: F811
    (place / "one.rsc").write_text(TYPICAL)
    assert igmpconf("import", "routeros", "one.rsc").code == 0
    strict = igmpconf("import", "routeros", "one.rsc", "--strict")
    assert (strict.code, "31.25s" in strict.out) == (3, True)
    (place / "none.rsc").write_text("/ip address\nadd address=10.0.0.1/24 interface=a\n")
    nothing = igmpconf("import", "routeros", "none.rsc")
    assert (nothing.code, nothing.out) == (3, "")
    (place / "two.rsc").write_text(MINIMAL + "/routing igmp-proxy interface add interface=wan2 upstream=yes\n")
    two = igmpconf("import", "routeros", "two.rsc")
    assert two.code == 3
    assert "2 upstream interfaces: ether1, wan2" in two.err
    assert igmpconf("import", "routeros", "absent.rsc").code == 3


def test_igmpproxy(igmpconf, agent, place):  # noqa: F811
    (place / "igmpproxy.conf").write_text(
        "quickleave\n"
        "# the provider\n"
        "phyint wan upstream  ratelimit 0  threshold 1\n"
        "        altnet 10.0.0.0/8 192.168.0.0/16   # where the servers are\n"
        "        whitelist 239.1.0.0/16\n"
        "phyint lan0 downstream ratelimit 0 threshold 2\n"
        "        blacklist 239.1.2.0/24\n"
        "phyint lan1 disabled\n"
        "phyint lan2 downstream ratelimit 5000\n"
        "user nobody\n"
        "colour blue\n"
    )
    agent.engine.present = {"wan", "lan0", "lan2"}
    said = igmpconf("import", "igmpproxy", "igmpproxy.conf")
    assert said.code == 0, said.err
    assert [line.partition(": ")[0] for line in said.err.splitlines()] == [f"igmpproxy.conf:{line}" for line in (9, 10, 11)]
    (place / "new.yaml").write_text(said.out)
    found = igmpproxy.imported((place / "igmpproxy.conf").read_text()).config.proxies[0]
    by_name = {one.interface: one for one in found.interfaces}
    assert [str(prefix) for prefix in by_name["wan"].alternative_subnets] == ["10.0.0.0/8", "192.168.0.0/16"]
    assert (by_name["lan0"].threshold, by_name["lan1"].enabled, found.quick_leave) == (2, False, "on")
    assert [(rule.action, [str(prefix) for prefix in rule.group]) for rule in found.groups] == [("allow", ["239.1.0.0/16"]), ("deny", [])]
    assert [(rule.action, [str(prefix) for prefix in rule.group]) for rule in by_name["lan0"].groups] == [("deny", ["239.1.2.0/24"])]
    assert igmpconf("apply", "-f", "new.yaml", "--yes").code == 0
    assert igmpconf("plan", "-f", "new.yaml", "--detailed-exitcode").code == 0


def test_vyos(igmpconf, agent, place):  # noqa: F811
    (place / "vyos.txt").write_text(
        "set interfaces ethernet eth0 address 'dhcp'\n"
        "set protocols igmp-proxy disable-quickleave\n"
        "set protocols igmp-proxy interface wan alt-subnet '0.0.0.0/0'\n"
        "set protocols igmp-proxy interface wan role 'upstream'\n"
        "set protocols igmp-proxy interface lan0 role 'downstream'\n"
        "set protocols igmp-proxy interface lan0 threshold '3'\n"
        "set protocols igmp-proxy interface lan0 alt-subnet '172.16.0.0/16'\n"
        "set protocols igmp-proxy interface lan0 whitelist '239.1.0.0/16'\n"
        "set protocols igmp-proxy interface lan1 role 'disabled'\n"
        "set protocols igmp-proxy colour 'blue'\n"
    )
    said = igmpconf("import", "vyos", "vyos.txt")
    assert said.code == 0, said.err
    assert [line.partition(": ")[0] for line in said.err.splitlines()] == [f"vyos.txt:{line}" for line in (1, 3, 10)]
    proxy = vyos.imported((place / "vyos.txt").read_text()).config.proxies[0]
    by_name = {one.interface: one for one in proxy.interfaces}
    assert (proxy.quick_leave, by_name["wan"].upstream, by_name["lan0"].threshold, by_name["lan1"].enabled) == ("off", True, 3, False)
    assert [str(prefix) for prefix in by_name["lan0"].alternative_subnets] == ["172.16.0.0/16"]
    assert [(rule.action, [str(prefix) for prefix in rule.group]) for rule in by_name["lan0"].groups] == [("allow", ["239.1.0.0/16"]), ("deny", [])]
    (place / "new.yaml").write_text(said.out)
    assert igmpconf("apply", "-f", "new.yaml", "--yes").code == 0
    assert igmpconf("plan", "-f", "new.yaml", "--detailed-exitcode").code == 0
