"""The whole agent and the commands: apply places the rules, drift tells what is not to be had, a kernel without 802.1Q is named."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.kit.agent import Agent
from tests.kit.netns import Net

pytestmark = pytest.mark.kernel

CONFIG = """
igmp-proxy:
  - interfaces: [{interface: wan, upstream: yes}, lan0]
firewall: {manage: yes}
"""
FIREWALL = "table inet filter {\n chain forward { type filter hook forward priority 0; policy drop; }\n}\n"


@pytest.fixture
def agent(tmp_path):
    with Net() as net:
        head, router, h0 = (net.namespace(name) for name in ("head", "router", "h0"))
        net.veth(router, "wan", head, "eth0", "10.1.0.1/24", "10.1.0.2/24")
        net.veth(router, "lan0", h0, "eth0", "10.2.0.1/24", "10.2.0.2/24")
        (tmp_path / "rules").write_text(FIREWALL)
        router.run(f"nft -f {tmp_path}/rules")
        yield Agent(router, tmp_path, {})


def igmpconf(agent, tmp_path, verb: str, text: str, *more: str):
    (tmp_path / "home.yaml").write_text(text)
    command = [sys.executable, "-m", "igmpconf.cli.main", verb, "-f", str(tmp_path / "home.yaml"), "-d", f"unix:{agent.socket}", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_apply_drift_and_removal(agent, tmp_path):
    applied = igmpconf(agent, tmp_path, "apply", CONFIG, "--yes")
    assert applied.returncode == 0, applied.stderr
    rules = agent.inside.run("nft -s list chain inet filter forward")
    assert 'iifname "wan" ip daddr 224.0.0.0/4 meta l4proto udp counter accept comment "igmpconf:' in rules
    same = igmpconf(agent, tmp_path, "drift", CONFIG)
    assert (same.returncode, same.stderr) == (0, "")
    waiting = CONFIG + "vlans: [{name: tv, interface: usb0, vlan-id: 7}]\n"
    applied = igmpconf(agent, tmp_path, "apply", waiting, "--yes")
    assert applied.returncode == 0, applied.stderr
    drifted = igmpconf(agent, tmp_path, "drift", waiting)
    assert drifted.returncode == 2
    assert "vlan tv: expected VLAN 7 of usb0, up, found absent: usb0 does not exist" in drifted.stderr
    removed = igmpconf(agent, tmp_path, "apply", "igmp-proxy: []\n", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert "igmpconf" not in agent.inside.run("nft list ruleset")


def test_a_kernel_without_8021q_refuses_and_says_what_it_lacks(agent, tmp_path):
    agent.inside.run("ip link add link wan name probe type vlan id 9", check=False)
    if "probe@" in agent.inside.run("ip link show"):
        pytest.skip("this kernel has 802.1Q; tests/topology/test_vlan.py uses it")
    refused = igmpconf(agent, tmp_path, "apply", CONFIG + "vlans: [{name: tv, interface: wan, vlan-id: 7}]\n", "--yes")
    assert refused.returncode in {6, 7}, refused.stderr
    assert "CONFIG_VLAN_8021Q" in refused.stderr
    assert "igmpconf:" not in agent.inside.run("nft list ruleset")
