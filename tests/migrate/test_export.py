"""What other programs can express comes back as it was; what they cannot is told by path, leaf by leaf."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings

from igmpconf.cli.main import run
from igmpconf.migrate import igmpproxy, routeros
from igmpconf.migrate.export import WRITERS
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import nodes
from igmpconf.schema.load import load_text
from tests.kit.desired import sound_configs

READERS = {"routeros": routeros.imported, "igmpproxy": igmpproxy.imported}
WAN = {"interface": "wan", "upstream": True}


def desired(text: str) -> DeviceConfig:
    loaded = load_text(text.encode(), "x.yaml")
    assert loaded.config is not None, loaded.diagnostics
    return loaded.config


COMMON = """\
igmp-proxy:
  - name: default
    quick-leave: on
    interfaces:
      - {interface: wan, upstream: yes, alternative-subnets: [10.0.0.0/8, 203.0.113.0/24]}
      - {interface: lan0, threshold: 2}
      - {interface: lan1, enabled: no}
"""
ROUTEROS = """\
igmp-proxy:
  - name: default
    query-interval: 31.25s
    query-response-interval: 5s
    quick-leave: off
    interfaces:
      - {interface: vlan100-ipTV, upstream: yes}
      - {interface: bridge-local, alternative-subnets: [10.20.0.0/16]}
    mfc:
      - {source: 192.168.100.5, group: 239.255.1.1, downstream-interface: bridge-local, upstream-interface: vlan100-ipTV}
vlans:
  - {name: vlan100-ipTV, interface: ether1, vlan-id: 100}
firewall:
  rules:
    - {chain: input, action: accept, protocol: igmp, comment: 'say "a\\b" $1?'}
    - {chain: forward, action: accept, protocol: udp, destination: 224.0.0.0/4, in-interface: vlan100-ipTV}
logging: {topics: [igmp-proxy, debug], action: memory}
"""
IGMPPROXY = """\
igmp-proxy:
  - name: default
    groups: [{action: deny, group: 239.9.0.0/16}, {action: allow, group: [239.0.0.0/8]}, {action: deny}]
    interfaces:
      - {interface: wan, upstream: yes}
      - {interface: lan0, alternative-subnets: [192.168.0.0/16], groups: [{action: deny, group: 239.1.0.0/16}]}
"""


@pytest.mark.parametrize(("kind", "text"), [("routeros", COMMON), ("igmpproxy", COMMON), ("routeros", ROUTEROS), ("igmpproxy", IGMPPROXY)])
def test_what_can_be_expressed_comes_back_as_it_was(kind, text):
    config = desired(text)
    found = WRITERS[kind](config)
    back = READERS[kind](found.text)
    assert back.config == config, found.text


def test_the_text_is_what_their_manuals_show():
    assert WRITERS["routeros"](desired(ROUTEROS)).text == (
        "/interface vlan\n"
        "add name=vlan100-ipTV interface=ether1 vlan-id=100\n"
        "/routing igmp-proxy\n"
        "set query-interval=31s250ms query-response-interval=5s quick-leave=no\n"
        "/routing igmp-proxy interface\n"
        "add interface=bridge-local upstream=no alternative-subnets=10.20.0.0/16\n"
        "add interface=vlan100-ipTV upstream=yes alternative-subnets=0.0.0.0/0\n"
        "/routing igmp-proxy mfc\n"
        "add group=239.255.1.1 source=192.168.100.5 upstream-interface=vlan100-ipTV downstream-interfaces=bridge-local\n"
        "/ip firewall filter\n"
        'add chain=input action=accept protocol=igmp comment="say \\"a\\\\b\\" \\$1\\?"\n'
        "add chain=forward action=accept protocol=udp in-interface=vlan100-ipTV dst-address=224.0.0.0/4\n"
        "/system logging\n"
        "add topics=igmp-proxy,debug action=memory\n"
    )
    assert WRITERS["igmpproxy"](desired(IGMPPROXY)).text == (
        "phyint lan0 downstream ratelimit 0\n"
        "    altnet 192.168.0.0/16\n"
        "    blacklist 239.1.0.0/16\n"
        "phyint wan upstream ratelimit 0\n"
        "    altnet 0.0.0.0/0\n"
        "    blacklist 239.9.0.0/16\n"
        "    whitelist 239.0.0.0/8\n"
    )


P = "igmp-proxy[default]"


@pytest.mark.parametrize(
    ("kind", "plain", "path"),
    [
        ("routeros", {"interfaces": [WAN, "ppp*"]}, f"{P}/interfaces[ppp*]"),
        ("routeros", {"interfaces": [WAN, {"interface": "lan0", "query-interval": "60s"}]}, f"{P}/interfaces[lan0]/query-interval"),
        ("routeros", {"interfaces": [WAN, {"interface": "lan0", "max-groups": 4}]}, f"{P}/interfaces[lan0]/max-groups"),
        ("routeros", {"interfaces": [WAN, "lan0"], "quick-leave": "auto"}, f"{P}/quick-leave"),
        ("routeros", {"interfaces": [WAN, "lan0"], "robustness": 3}, f"{P}/robustness"),
        ("routeros", {"interfaces": [WAN, "lan0"], "groups": [{"action": "deny", "group": "239.1.0.0/16"}]}, f"{P}/groups"),
        ("routeros", {"interfaces": [WAN, "lan0"], "family": ["ipv4", "ipv6"]}, f"{P}/family"),
        ("routeros", {"interfaces": [WAN, "lan0"], "mfc": [{"source": "*", "group": "239.1.1.1", "downstream-interface": "lan0"}]}, f"{P}/mfc[*,239.1.1.1]"),
        ("igmpproxy", {"interfaces": [WAN, "lan0"], "query-interval": "60s"}, f"{P}/query-interval"),
        ("igmpproxy", {"interfaces": [WAN, {"interface": "lan0", "robustness": 3}]}, f"{P}/interfaces[lan0]/robustness"),
        ("igmpproxy", {"interfaces": [WAN, {"interface": "lan0", "static-groups": ["239.1.1.1"]}]}, f"{P}/interfaces[lan0]/static-groups"),
        (
            "igmpproxy",
            {"interfaces": [WAN, "lan0"], "groups": [{"action": "allow", "group": "239.0.0.0/8"}, {"action": "deny", "group": "239.1.0.0/16"}]},
            f"{P}/groups",
        ),
        ("igmpproxy", {"interfaces": [WAN, "lan0"], "groups": [{"action": "deny", "source": "192.0.2.1/32"}]}, f"{P}/groups"),
        (
            "igmpproxy",
            {"interfaces": [WAN, "lan0"], "mfc": [{"source": "192.0.2.1", "group": "239.1.1.1", "downstream-interface": "lan0"}]},
            f"{P}/mfc[192.0.2.1,239.1.1.1]",
        ),
    ],
)
def test_what_cannot_be_expressed_is_told_by_its_path(kind, plain, path):
    found = WRITERS[kind](from_plain(DeviceConfig, {"igmp-proxy": [plain]}))
    assert [remark for remark in found.remarks if remark.startswith(f"{path}: ")], found.remarks


def test_what_both_lack_altogether():
    two = from_plain(
        DeviceConfig,
        {
            "igmp-proxy": [
                {"name": "a", "interfaces": [WAN, "lan0"]},
                {"name": "b", "interfaces": [{**WAN, "interface": "w2"}, "lan1"]},
                {"name": "c", "family": "ipv6"},
            ]
        },
    )
    for write in WRITERS.values():
        found = write(two)
        assert "lan1" not in found.text
        assert [remark.partition(":")[0] for remark in found.remarks] == ["igmp-proxy[b]", "igmp-proxy[c]"]


@settings(max_examples=30)
@given(sound_configs())
def test_nothing_is_lost_silently(config):
    """Whatever comes back otherwise than it was has a remark, and what is exported can be read without complaint."""
    for kind, write in WRITERS.items():
        found = write(config)
        back = READERS[kind](found.text)
        if not found.remarks and len(config.proxies) == 1:
            before, after = config.proxies[0], back.config.proxies[0]
            for n in nodes(type(before)):
                if n.name not in {"name", "groups", "interfaces", "enabled"}:
                    assert getattr(before, n.attr) in {getattr(after, n.attr), n.default, ()}, (kind, n.name)
            assert {entry.interface for entry in before.interfaces} == {entry.interface for entry in after.interfaces}


def test_the_command_prints_tells_and_is_strict_when_asked(tmp_path, capsys):
    (tmp_path / "x.yaml").write_text(COMMON)
    assert run(["export", "igmpproxy", "-f", str(tmp_path / "x.yaml"), "--strict"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("quickleave\nphyint lan0 downstream ratelimit 0 threshold 2\n")
    assert err == ""
    (tmp_path / "x.yaml").write_text(COMMON.replace("threshold: 2", "max-groups: 2"))
    assert run(["export", "routeros", "-f", str(tmp_path / "x.yaml")]) == 0
    assert "igmp-proxy[default]/interfaces[lan0]/max-groups: left out: RouterOS has no such setting (2)" in capsys.readouterr().err
    assert run(["export", "routeros", "-f", str(tmp_path / "x.yaml"), "--strict"]) == 3
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"igmp-proxy": [{"family": "ipv6", "interfaces": [WAN, "lan0"]}]}))
    assert run(["export", "igmpproxy", "-f", str(tmp_path / "x.yaml")]) == 3
    assert "nothing of it can be expressed" in capsys.readouterr().err
