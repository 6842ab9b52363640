"""The doctor and what the proxy stands on: kernel, capabilities, other programs, interfaces.

head --- wan [router] lan0 --- h0
                      lan1 --- h1
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from igmpconf.errors import TransportError
from igmpconf.linux.netlink import RTNL_FAMILY_IPMR
from igmpconf.linux.options import build_configuration, has_rules
from tests.kit.agent import Agent
from tests.kit.conformance import covers
from tests.kit.doctor import LANS
from tests.kit.netns import wait_until

pytestmark = pytest.mark.kernel
G = "239.1.1.1"
CONFIG = {"igmp-proxy": [{"name": "default", "interfaces": [{"interface": "wan", "upstream": True}, *LANS]}]}


def test_another_program_holds_the_routing_socket(site, practice, tmp_path):
    """The agent runs, wants its configuration in force, and goes on trying."""
    # MRT_INIT on a raw IGMP socket
    program = "import socket, sys; s = socket.socket(2, 3, 2); s.setsockopt(0, 200, 1); print(1, flush=True); sys.stdin.read()"
    other = site.router.popen([sys.executable, "-c", program], stdin=-1, stdout=-1)
    assert other.stdout.readline() == b"1\n"
    practice.agent = Agent(site.router, tmp_path, CONFIG)
    (found,) = practice.expect(("device/routing-socket", "default"))
    assert f"(pid {other.pid})" in found.evidence
    assert "python" in found.evidence
    other.communicate()
    practice.stop()


@pytest.mark.skipif((build_configuration() or {"VLAN_8021Q": True}).get("VLAN_8021Q", False), reason="this kernel has 802.1Q, or does not say")
def test_the_kernel_lacks_an_option(practice, tmp_path):
    practice.agent = Agent(practice.site.router, tmp_path, CONFIG | {"vlans": [{"name": "iptv", "interface": "wan", "vlan-id": 100}]})
    (found,) = practice.expect(("device/kernel-option", "device"))
    assert "CONFIG_VLAN_8021Q" in found.cause
    assert "VLAN iptv" in found.seen
    practice.stop()


@pytest.mark.skipif(Path("/proc/self/net/ip6_mr_vif").exists(), reason="this kernel routes IPv6 multicast; `make test-vm` boots one that does not")
def test_the_kernel_routes_no_ipv6_streams(practice, tmp_path):
    proxy = CONFIG["igmp-proxy"][0] | {"family": ["ipv4", "ipv6"]}
    practice.agent = Agent(practice.site.router, tmp_path, {"igmp-proxy": [proxy]})
    (found,) = practice.expect(("device/kernel-option", "device"))
    assert "CONFIG_IPV6_MROUTE" in found.cause
    practice.stop()


@pytest.mark.skipif(bool(has_rules(RTNL_FAMILY_IPMR)), reason="this kernel has several tables; `make test-vm` boots one that has not")
def test_the_kernel_has_no_second_table(practice, tmp_path):
    proxies = [{"name": name, "interfaces": [{"interface": up, "upstream": True}, down]} for name, up, down in (("a", "wan", "lan0"), ("b", "lan1", "lan7"))]
    practice.agent = Agent(practice.site.router, tmp_path, {"igmp-proxy": proxies})
    (found,) = practice.expect(("device/kernel-option", "device"))
    assert "CONFIG_IP_MROUTE_MULTIPLE_TABLES" in found.cause
    assert "instances a and b side by side" in found.seen
    practice.stop()


@covers("R077", "R084")
def test_a_downstream_without_an_address(site, practice):
    practice.start()
    practice.expect()
    site.router.run("ip addr del 10.3.0.1/24 dev lan1")
    try:
        (found,) = practice.expect(("querier/none", "default/lan1"))
        assert found.evidence == "lan1 has 0 IPv4 addresses"
    finally:
        site.router.run("ip addr add 10.3.0.1/24 dev lan1")
    practice.expect()


@covers("R092")
def test_a_downstream_is_a_port_of_a_bridge(site, practice):
    site.router.run("ip link add br9 type bridge")
    site.router.run("ip link set lan1 master br9")
    try:
        practice.start()
        (found,) = practice.expect(("interface/bridge-port", "default/lan1"))
        assert found.fix == "interface: br9"
    finally:
        site.router.run("ip link del br9")
    practice.expect()


@covers("R085", "R092")
def test_somebody_joins_where_no_downstream_is(site, practice):
    practice.start({"interface": "lan0"})
    practice.expect()
    member = site.member(site.h1, G)

    def visit() -> list:
        member.join()  # again and again, so that a report falls into the time
        try:
            return practice.visit(window_ms=500)
        finally:
            member.leave()

    found = next((one for _ in range(20) for one in visit()), None)
    assert found is not None
    assert (found.code, found.where, found.severity) == ("interface/not-downstream", "lan1", "note")
    assert G in found.seen


def test_more_interfaces_than_the_kernel_takes(site, practice):
    """By a pattern, so that nobody could count them beforehand: 31 with the upstream, then a cable more."""
    rooms = [(f"room{number}", f"room{number + 1}") for number in range(0, 32, 2)]
    site.router.call(_batch, _pairs(rooms[:-1]))
    try:
        practice.start({"interface": "room*"})
        practice.expect(timeout_s=30)
        site.router.call(_batch, _pairs(rooms[-1:]))
        (found,) = practice.expect(("interface/limit", "default"), timeout_s=30)
        assert found.evidence == "32 ipv4 interfaces are in, 1 wait"
    finally:
        practice.rest()
        site.router.call(_batch, "".join(f"link del {one}\n" for one, _ in rooms))


def _pairs(names: list[tuple[str, str]]) -> str:
    lines = [f"link add {one} type veth peer name {two}" for one, two in names]
    lines += [f"addr add 10.{100 + int(name.removeprefix('room'))}.0.1/24 dev {name}" for pair in names for name in pair]
    return "\n".join([*lines, *(f"link set {name} up" for pair in names for name in pair)]) + "\n"


def _batch(commands: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_look_ends_with_the_agent_and_leaves_nothing_behind(site, practice, how):
    """Stopped, it cleans up itself; killed, the next one does."""
    practice.start()
    practice.expect(window_ms=0)
    with ThreadPoolExecutor() as pool:
        looking = pool.submit(practice.visit, window_ms=60_000)
        wait_until(lambda: "igmpconf_doctor" in site.router.run("nft list tables"), "the look has begun")
        if how == "stopped":
            practice.stop()
        else:
            before = practice.agent.engine_pid()
            os.kill(before, signal.SIGKILL)
            wait_until(lambda: practice.agent.engine_pid(other_than=before), "another engine")
        with pytest.raises(TransportError):
            looking.result(20)
    wait_until(lambda: "igmpconf_doctor" not in site.router.run("nft list tables"), "the packet filter is as before")
