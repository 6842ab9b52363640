"""One table: what is written, and the findings (severity code path) that it causes."""

from __future__ import annotations

import pytest
from hypothesis import given

from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig, InterfaceConfig, ProxyConfig
from igmpconf.schema.explain import CODES
from igmpconf.schema.semantic import FOLLOWING, check
from tests.kit.desired import configs, sound_configs

WAN = {"interface": "wan", "upstream": True}


def one(**leaves):
    return {"igmp-proxy": [{"interfaces": [WAN, "lan0", "lan1"]} | {name.replace("_", "-"): value for name, value in leaves.items()}]}


def lan(**leaves):
    return one(interfaces=[WAN, {"interface": "lan0"} | {name.replace("_", "-"): value for name, value in leaves.items()}])


def port(**leaves):
    entry = {"interface": "lan0"} | {name.replace("_", "-"): value for name, value in leaves.items()}
    return one(mode="bridged", bridge="br0", interfaces=[WAN, entry])


def mfc(**leaves):
    return one(mfc={"group": "239.1.1.1", "downstream-interface": "lan0"} | {name.replace("_", "-"): value for name, value in leaves.items()})


def two(first, second):
    return {"igmp-proxy": [{"name": "a"} | first, {"name": "b"} | second]}


def rule(**leaves):
    return {"firewall": {"rules": {"chain": "forward", "action": "accept"} | {name.replace("_", "-"): value for name, value in leaves.items()}}}


P = "igmp-proxy[default]"
CASES = [
    ("well", one(), []),
    # RFC 4605 3
    ("no upstream", one(interfaces=["lan0"]), [f"error upstream/none {P}/interfaces"]),
    ("no interface", one(interfaces=[]), [f"error upstream/none {P}/interfaces"]),
    ("two upstreams", one(interfaces=[WAN, {"interface": "wan2", "upstream": True}]), [f"error upstream/several {P}/interfaces[wan2]/upstream"]),
    ("off, so no upstream", one(enabled=False, interfaces=[]), []),
    # threshold and the families
    ("threshold, IPv4", one(interfaces=[WAN, {"interface": "lan0", "threshold": 16}]), []),
    (
        "threshold, both families",
        one(family=["ipv4", "ipv6"], interfaces=[WAN, {"interface": "lan0", "threshold": 16}, {"interface": "lan1", "threshold": 1}]),
        [f"warning threshold/no-effect-on-ipv6 {P}/interfaces[lan0]/threshold"],
    ),
    (
        "threshold, IPv6 alone",
        one(family="ipv6", interfaces=[WAN, {"interface": "lan0", "threshold": 0}]),
        [f"warning threshold/no-effect-on-ipv6 {P}/interfaces[lan0]/threshold"],
    ),
    # roles and patterns
    ("patterns of both roles", one(interfaces=[{"interface": "e*", "upstream": True}, "et*"]), [f"error interface/both-roles {P}/interfaces[et*]"]),
    ("patterns of one role", one(interfaces=[WAN, "l*", "la*"]), [f"warning interface/two-patterns {P}/interfaces[la*]"]),
    ("exact in the other role", one(interfaces=[WAN, "w*"]), [f"warning interface/exact-wins {P}/interfaces[wan]"]),
    ("exact in the same role", one(interfaces=[WAN, "l*", "lan0"]), []),
    (
        "shared interface",
        two({"interfaces": [WAN, "lan0"]}, {"interfaces": [{"interface": "wan2", "upstream": True}, "lan0"]}),
        ["error interface/in-two-instances igmp-proxy[b]/interfaces[lan0]"],
    ),
    (
        "shared by pattern",
        two({"interfaces": [WAN, "lan0"]}, {"interfaces": [{"interface": "wan2", "upstream": True}, "la*"]}),
        ["error interface/in-two-instances igmp-proxy[b]/interfaces[la*]"],
    ),
    ("shared, other family", two({"interfaces": [WAN, "lan0"]}, {"family": "ipv6", "interfaces": [WAN, "lan0"]}), []),
    ("shared, one off", two({"interfaces": [WAN, "lan0"]}, {"enabled": False, "interfaces": [WAN, "lan0"]}), []),
    (
        "shared, entry off",
        two({"interfaces": [WAN, "lan0"]}, {"interfaces": [{"interface": "wan2", "upstream": True}, {"interface": "lan0", "enabled": False}]}),
        [],
    ),
    # RFC 3376 8.1, 8.2, 8.3
    ("response = interval", one(query_interval="10s"), [f"error querier/response-exceeds-interval {P}/query-interval"]),
    ("response > interval", one(query_response_interval="3m"), [f"error querier/response-exceeds-interval {P}/query-response-interval"]),
    ("response < interval", one(query_interval="10.001s"), []),
    ("of an interface", lan(query_response_interval="125s"), [f"error querier/response-exceeds-interval {P}/interfaces[lan0]/query-response-interval"]),
    ("inherited by an interface", lan(query_interval="10s"), [f"error querier/response-exceeds-interval {P}/interfaces[lan0]/query-interval"]),
    (
        "told once",
        one(query_interval="5s", interfaces=[WAN, "lan0", {"interface": "lan1", "threshold": 3}]),
        [f"error querier/response-exceeds-interval {P}/query-interval"],
    ),
    (
        "put right by an interface",
        one(query_interval="5s", interfaces=[WAN, {"interface": "lan0", "query-response-interval": "1s"}]),
        [f"error querier/response-exceeds-interval {P}/query-interval"],
    ),
    ("a minimum below the version", lan(version=2, minimum_version=2, mld_version=1), []),
    (
        "a minimum above the version",
        lan(version=2, minimum_version=3),
        [f"error version/below-minimum {P}/interfaces[lan0]/minimum-version"],
    ),
    ("a minimum above the MLD version", lan(mld_version=1, minimum_mld_version=2), [f"error version/below-minimum {P}/interfaces[lan0]/minimum-mld-version"]),
    ("robustness 1", one(robustness=1), [f"warning querier/robustness-one {P}/robustness"]),
    ("robustness 1 of an interface", lan(robustness=1), [f"warning querier/robustness-one {P}/interfaces[lan0]/robustness"]),
    (
        "query-interval upstream",
        one(interfaces=[WAN | {"query-interval": "30s"}, "lan0"]),
        [f"warning querier/interval-on-upstream {P}/interfaces[wan]/query-interval"],
    ),
    # static entries
    ("mfc elsewhere", mfc(downstream_interface="lan9"), [f"error mfc/unknown-interface {P}/mfc[*,239.1.1.1]/downstream-interface"]),
    ("mfc from elsewhere", mfc(upstream_interface="wan9"), [f"error mfc/unknown-interface {P}/mfc[*,239.1.1.1]/upstream-interface"]),
    ("mfc by pattern", one(interfaces=[WAN, "ppp*"], mfc={"group": "239.1.1.1", "downstream-interface": "ppp7"}), []),
    ("mfc nowhere", mfc(downstream_interface=[]), [f"error mfc/no-downstream {P}/mfc[*,239.1.1.1]"]),
    ("mfc back", mfc(downstream_interface=["lan0", "wan"]), [f"error mfc/loop {P}/mfc[*,239.1.1.1]/downstream-interface"]),
    ("mfc back to its own", mfc(upstream_interface="lan0"), [f"error mfc/loop {P}/mfc[*,239.1.1.1]/downstream-interface"]),
    (
        "mfc through a disabled one",
        one(interfaces=[WAN, {"interface": "lan0", "enabled": False}], mfc={"group": "239.1.1.1", "downstream-interface": "lan0"}),
        [f"warning mfc/disabled-interface {P}/mfc[*,239.1.1.1]/downstream-interface"],
    ),
    # groups and families
    ("link-local group", mfc(group="224.0.0.255"), [f"error group/link-local {P}/mfc[*,224.0.0.255]/group"]),
    ("just outside", mfc(group="224.0.1.0"), []),
    ("ff02", one(family="ipv6", mfc={"group": "ff12::1", "downstream-interface": "lan0"}), [f"error group/link-local {P}/mfc[*,ff12::1]/group"]),
    ("ff01 static", lan(static_groups="224.0.0.1"), [f"error group/link-local {P}/interfaces[lan0]/static-groups[224.0.0.1,*]/group"]),
    (
        "two families in one entry",
        one(family=["ipv4", "ipv6"], mfc={"source": "fd00::1", "group": "239.1.1.1", "downstream-interface": "lan0"}),
        [f"error family/source-and-group {P}/mfc[fd00::1,239.1.1.1]/source"],
    ),
    ("family not spoken", mfc(group="ff05::1"), [f"error family/not-spoken {P}/mfc[*,ff05::1]/group"]),
    ("source-address of another family", lan(source_address="fe80::1"), [f"error family/not-spoken {P}/interfaces[lan0]/source-address"]),
    ("source-address not on a link", lan(source_address="239.1.1.1"), [f"error address/not-a-sender {P}/interfaces[lan0]/source-address"]),
    (
        "MLD from a global address",
        one(family="ipv6", interfaces=[WAN, {"interface": "lan0", "source-address": "2001:db8::1"}]),
        [f"error address/not-link-local {P}/interfaces[lan0]/source-address"],
    ),
    ("subnet without use", lan(alternative_subnets="2001:db8::/32"), [f"warning family/unused {P}/interfaces[lan0]/alternative-subnets"]),
    (
        "static upstream",
        one(interfaces=[WAN | {"static-groups": "239.1.1.1"}, "lan0"]),
        [f"warning static/on-upstream {P}/interfaces[wan]/static-groups[239.1.1.1,*]"],
    ),
    ("static SSM without source", lan(static_groups="232.1.1.1"), [f"warning group/any-source-in-ssm {P}/interfaces[lan0]/static-groups[232.1.1.1,*]"]),
    ("static SSM with source", lan(static_groups={"group": "232.1.1.1", "source": "10.0.0.1"}), []),
    (
        "static SSM of IPv6",
        one(family="ipv6", interfaces=[WAN, {"interface": "lan0", "static-groups": "ff3e::8000:1"}]),
        [f"warning group/any-source-in-ssm {P}/interfaces[lan0]/static-groups[ff3e::8000:1,*]"],
    ),
    ("not SSM: unicast-prefix-based", one(family="ipv6", interfaces=[WAN, {"interface": "lan0", "static-groups": "ff3e:30:2001:db8::1"}]), []),
    ("rule behind all", one(groups=[{"action": "deny"}, {"action": "allow", "group": "239.0.0.0/8"}]), [f"warning groups/unreachable {P}/groups[2]"]),
    ("rule for nobody", one(groups={"action": "deny", "interface": "eth*"}), [f"warning groups/unknown-interface {P}/groups[1]/interface"]),
    ("rule by pattern", one(groups={"action": "deny", "interface": "l*"}), []),
    # bridges
    ("bridged without bridge", one(mode="bridged"), [f"error bridge/missing {P}/mode"]),
    ("bridge without bridged", one(bridge="br0"), [f"error bridge/not-bridged {P}/bridge"]),
    ("its own port", one(mode="bridged", bridge="lan0"), [f"error bridge/is-its-own-port {P}/interfaces[lan0]"]),
    (
        "bridge twice",
        two(
            {"mode": "bridged", "bridge": "br0", "interfaces": [WAN]},
            {"mode": "bridged", "bridge": "br0", "interfaces": [{"interface": "wan2", "upstream": True}]},
        ),
        ["error bridge/in-two-instances igmp-proxy[b]/bridge"],
    ),
    (
        "bridge twice, by family",
        two(
            {"mode": "bridged", "bridge": "br0", "interfaces": [WAN]},
            {"mode": "bridged", "bridge": "br0", "family": "ipv6", "interfaces": [{"interface": "wan2", "upstream": True}]},
        ),
        ["error bridge/in-two-instances igmp-proxy[b]/bridge"],
    ),
    (
        "bridge below a routed instance",
        two({"mode": "bridged", "bridge": "br0", "interfaces": [WAN, "lan0"]}, {"interfaces": [{"interface": "wan2", "upstream": True}, "br*"]}),
        ["error bridge/also-routed igmp-proxy[b]/interfaces[br*]"],
    ),
    (
        "bridge below a routed instance of another family",
        two({"mode": "bridged", "bridge": "br0", "interfaces": [WAN]}, {"family": "ipv6", "interfaces": [{"interface": "wan2", "upstream": True}, "br0"]}),
        [],
    ),
    ("port with a threshold", port(threshold=2), [f"error bridge/threshold {P}/interfaces[lan0]/threshold"]),
    ("port with the default threshold", port(threshold=1), []),
    ("port with subnets", port(alternative_subnets="10.0.0.0/8"), [f"error bridge/subnets {P}/interfaces[lan0]/alternative-subnets"]),
    (
        "bridged entry from elsewhere",
        one(
            mode="bridged",
            bridge="br0",
            interfaces=[WAN, "lan0", "lan1"],
            mfc={"group": "239.1.1.1", "downstream-interface": "lan0", "upstream-interface": "lan1"},
        ),
        [f"error bridge/arrival {P}/mfc[*,239.1.1.1]/upstream-interface"],
    ),
    (
        "bridged entry from the upstream",
        one(mode="bridged", bridge="br0", mfc={"group": "239.1.1.1", "downstream-interface": "lan0", "upstream-interface": "wan"}),
        [],
    ),
    (
        "bridged and not querier",
        one(mode="bridged", bridge="br0", forward_when_non_querier=True),
        [f"warning bridge/forwards-anyway {P}/forward-when-non-querier"],
    ),
    # VLANs
    (
        "vlan twice",
        {"vlans": [{"name": "a", "interface": "e", "vlan-id": 1}, {"name": "b", "interface": "e", "vlan-id": 1}]},
        ["error vlan/repeated vlans[b]/vlan-id"],
    ),
    ("vlan on itself", {"vlans": {"name": "a", "interface": "a", "vlan-id": 1}}, ["error vlan/cycle vlans[a]/interface"]),
    ("vlan on vlan", {"vlans": [{"name": "a", "interface": "e", "vlan-id": 1}, {"name": "b", "interface": "a", "vlan-id": 1}]}, []),
    # packet filter
    ("input leaves", rule(chain="input", out_interface="x"), ["error firewall/out-interface-on-input firewall/rules[1]/out-interface"]),
    ("rule of two families", rule(source="10.0.0.0/8", destination="ff05::/16"), ["error firewall/two-families firewall/rules[1]/destination"]),
    ("igmp over IPv6", rule(protocol="igmp", destination="ff05::/16"), ["error firewall/protocol-of-other-family firewall/rules[1]/destination"]),
    ("from a group", rule(source="239.0.0.0/8"), ["error firewall/multicast-source firewall/rules[1]/source"]),
]


@pytest.mark.parametrize(("plain", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_findings(plain, expected):
    findings = check(from_plain(DeviceConfig, plain))
    assert [f"{finding.severity} {finding.code} {finding.path}" for finding in findings] == expected
    assert all(finding.message and finding.hint for finding in findings)


def test_the_33rd_interface_is_one_too_many_also_when_it_came_over_netconf():
    entries = tuple(InterfaceConfig(interface=f"i{i:02}", upstream=i == 0) for i in range(33))
    assert [finding.code for finding in check(DeviceConfig(proxies=(ProxyConfig(name="p", interfaces=entries),)))] == ["limit/too-many"]
    assert check(DeviceConfig(proxies=(ProxyConfig(name="p", interfaces=entries[:32]),))) == []


@given(configs())
def test_any_model_can_be_checked(config):
    for finding in check(config):
        assert finding.code in CODES
        assert finding.hint


@given(sound_configs())
def test_a_sound_one_has_no_errors(config):
    assert [finding for finding in check(config) if finding.is_error] == []


def test_following_codes_exist():
    assert set(CODES) >= FOLLOWING
