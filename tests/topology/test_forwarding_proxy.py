"""Membership becomes forwarding: the whole agent between a head end and hosts of the kernel.

head 10.1.0.2 --- wan 10.1.0.1 [router] lan0 10.2.0.1 --- 10.2.0.2 h0
                                        lan1 10.3.0.1 --- 10.3.0.2 h1
"""

from __future__ import annotations

import socket

import pytest

from tests.kit.agent import Agent
from tests.kit.conformance import covers
from tests.kit.netns import Net, Wire, sysctl, wait_until

pytestmark = pytest.mark.kernel
G, PORT = "239.1.1.1", 5000
CONFIG = {"igmp-proxy": [{"name": "default", "interfaces": [{"interface": "wan", "upstream": True}, "lan0", "lan1"]}]}


@pytest.fixture
def net(tmp_path):
    with Net() as net:
        net.head, net.router, net.h0, net.h1 = (net.namespace(name) for name in ("head", "router", "h0", "h1"))
        net.veth(net.router, "wan", net.head, "eth0", "10.1.0.1/24", "10.1.0.2/24")
        net.veth(net.router, "lan0", net.h0, "eth0", "10.2.0.1/24", "10.2.0.2/24")
        net.veth(net.router, "lan1", net.h1, "eth0", "10.3.0.1/24", "10.3.0.2/24")
        yield net


def entries(net) -> str:
    return net.router.run("ip mroute show")


def streaming(net, sender, receiver, group=G):
    """Send until the receiver has one; then everything is in place."""

    def one() -> bool:
        sender.send(group, PORT)
        return receiver.received > 0

    wait_until(one, f"the stream {group}: {entries(net)}")


@covers("R001", "R018", "R021", "R023", "R029")
@pytest.mark.parametrize("version", [3, 2])
def test_a_kernel_host_joins_gets_the_stream_and_leaves(net, tmp_path, version):
    sysctl(net.h0, "ipv4/conf/eth0/force_igmp_version", version)
    upstream = Wire(net, net.head, "eth0")
    agent = Agent(net.router, tmp_path, CONFIG)
    head = net.sender(net.head, "eth0")
    on_h0 = net.host(net.h0, "eth0", G, PORT)
    streaming(net, head, on_h0)
    wait_until(lambda: any(socket.inet_aton(G) in report for report in upstream.igmp(0x22, "10.1.0.1")), "our report upstream")
    on_h1 = net.host(net.h1, "eth0", G, PORT)
    streaming(net, head, on_h1)
    before = on_h0.received, on_h1.received
    for _ in range(100):
        head.send(G, PORT)
    wait_until(lambda: (on_h0.received, on_h1.received) == (before[0] + 100, before[1] + 100))
    on_h0.leave()
    wait_until(lambda: "Oifs: wan lan1" in entries(net) or "Oifs: lan1" in entries(net), f"lan0 leaves the entry: {entries(net)}")
    frozen = on_h0.received
    for _ in range(100):
        head.send(G, PORT)
    wait_until(lambda: on_h1.received == before[1] + 200)
    assert on_h0.received == frozen
    on_h1.leave()
    wait_until(lambda: G not in entries(net), "the entry ends with the last listener")
    assert agent.stop() == 0
    assert "Iif" not in entries(net)
    assert agent.said().count("ERROR") == 0


@covers("R010")
def test_a_downstreams_own_stream_goes_to_the_upstream_and_to_the_other_members(net, tmp_path):
    Agent(net.router, tmp_path, CONFIG)
    wait_until(lambda: "Iif: wan" in entries(net), "the (*,*) entry")
    on_head = net.host(net.head, "eth0", G, PORT)
    h0 = net.sender(net.h0, "eth0")
    streaming(net, h0, on_head)
    on_h1 = net.host(net.h1, "eth0", G, PORT)
    streaming(net, h0, on_h1)
    before = on_head.received, on_h1.received
    for _ in range(100):
        h0.send(G, PORT)
    wait_until(lambda: (on_head.received, on_h1.received) == (before[0] + 100, before[1] + 100))


def test_only_the_source_that_was_asked_for_arrives(net, tmp_path):
    net.head.run("ip addr add 10.1.0.3/24 dev eth0")
    Agent(net.router, tmp_path, CONFIG)
    wait_until(lambda: "Iif: wan" in entries(net), "the (*,*) entry")
    wanted, other = net.sender(net.head, "eth0"), net.sender(net.head, "eth0")
    other.bind("10.1.0.3")
    on_h0 = net.host(net.h0, "eth0", "232.1.1.1", PORT, source="10.1.0.2")
    streaming(net, wanted, on_h0, "232.1.1.1")
    for _ in range(50):
        other.send("232.1.1.1", PORT, b"other")
        wanted.send("232.1.1.1", PORT, b"wanted")
    wait_until(lambda: on_h0.received and on_h0.payloads.count(b"wanted") == 50)
    assert b"other" not in on_h0.payloads


def test_rubbish_is_counted_and_changes_nothing(net, tmp_path):
    agent = Agent(net.router, tmp_path, CONFIG)
    head, on_h0 = net.sender(net.head, "eth0"), net.host(net.h0, "eth0", G, PORT)
    streaming(net, head, on_h0)
    raw = net.socket(net.h1, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
    raw.setsockopt(socket.IPPROTO_IP, 32, bytes(8) + net.h1.call(socket.if_nametoindex, "eth0").to_bytes(4, "little"))  # IP_MULTICAST_IF
    for length in (0, 1, 7, 8, 9, 12, 64, 1400):
        for kind in (0, 0x11, 0x12, 0x16, 0x17, 0x22, 0xFF):
            raw.sendto((bytes((kind,)) * length)[:length] if length else b"\0", ("224.0.0.22", 0))
    before = on_h0.received
    for _ in range(100):
        head.send(G, PORT)
    wait_until(lambda: on_h0.received == before + 100)
    on_h1 = net.host(net.h1, "eth0", G, PORT)
    streaming(net, head, on_h1)
    assert "Traceback" not in agent.said()


def test_an_interface_that_appears_later_is_followed_and_may_come_back(net, tmp_path):
    config = {"igmp-proxy": [{"name": "default", "interfaces": [{"interface": "wan", "upstream": True}, "ppp*"]}]}
    Agent(net.router, tmp_path, config)
    head = net.sender(net.head, "eth0")
    for number in range(2):
        late = net.namespace(f"late{number}")
        net.veth(net.router, "ppp0", late, "eth0", "10.4.0.1/24", "10.4.0.2/24")
        on_late = net.host(late, "eth0", G, PORT)
        streaming(net, head, on_late)
        net.router.run("ip link del ppp0")
        wait_until(lambda: G not in entries(net), "the entry ends with the interface")


def test_two_instances_forward_side_by_side_in_their_own_tables(net, tmp_path):
    other_head, other_host = net.namespace("head2"), net.namespace("h2")
    net.veth(net.router, "wan2", other_head, "eth0", "10.5.0.1/24", "10.5.0.2/24")
    net.veth(net.router, "lan2", other_host, "eth0", "10.6.0.1/24", "10.6.0.2/24")
    second = {"name": "second", "interfaces": [{"interface": "wan2", "upstream": True}, "lan2"]}
    agent = Agent(net.router, tmp_path, {"igmp-proxy": [CONFIG["igmp-proxy"][0], second]})
    on_h0, on_h2 = net.host(net.h0, "eth0", G, PORT), net.host(other_host, "eth0", G, PORT)
    head, head2 = net.sender(net.head, "eth0"), net.sender(other_head, "eth0")
    streaming(net, head, on_h0)
    streaming(net, head2, on_h2)
    for _ in range(50):
        head.send(G, PORT, b"one")
        head2.send(G, PORT, b"two")
    wait_until(lambda: on_h0.received and on_h0.payloads.count(b"one") == 50)
    wait_until(lambda: on_h2.received and on_h2.payloads.count(b"two") == 50)
    assert b"two" not in on_h0.payloads
    assert b"one" not in on_h2.payloads
    assert agent.stop() == 0
    assert "iif wan2" not in net.router.run("ip mrule show")
    assert net.router.run("ip mroute show table all") == ""


@covers("R005")
def test_ipv6_hosts_get_their_stream_through_mld(net, tmp_path):
    group = "ff0e::101"
    for end, name, address in (
        (net.router, "wan", "2001:db8:1::1/64"),
        (net.head, "eth0", "2001:db8:1::2/64"),
        (net.router, "lan0", "2001:db8:2::1/64"),
        (net.h0, "eth0", "2001:db8:2::2/64"),
    ):
        end.run(f"ip addr add {address} dev {name} nodad")
    agent = Agent(net.router, tmp_path, {"igmp-proxy": [CONFIG["igmp-proxy"][0] | {"family": ["ipv4", "ipv6"]}]})
    packed = socket.inet_pton(socket.AF_INET6, group)
    receiver = net.socket(net.h0, socket.AF_INET6, socket.SOCK_DGRAM)
    receiver.bind((group, PORT))
    receiver.setblocking(False)
    membership = packed + net.h0.call(socket.if_nametoindex, "eth0").to_bytes(4, "little")
    receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    sender = net.socket(net.head, socket.AF_INET6, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, net.head.call(socket.if_nametoindex, "eth0"))
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 16)

    def arrived() -> bool:
        sender.sendto(b"frame", (group, PORT))
        try:
            return receiver.recv(100) == b"frame"
        except BlockingIOError:
            return False

    wait_until(arrived, "the IPv6 stream")
    receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, membership)
    wait_until(lambda: group not in net.router.run("ip -6 mroute show"), "the entry ends with the last listener")
    assert agent.stop() == 0
    assert agent.said().count("ERROR") == 0
