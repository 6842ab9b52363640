"""VLANs on a kernel that has 802.1Q; `make test-vm` boots one where this machine's has not.

head eth0 (VLAN 100) --- ether1 [router] lan0 --- h0
"""

from __future__ import annotations

import json

import pytest

from tests.kit.live import LiveProxy, Refused
from tests.kit.netns import Net, sysctl, wait_until

pytestmark = pytest.mark.kernel
NAME, G, PORT = "vlan100-ipTV", "239.9.1.1", 5000
VLAN = {"name": NAME, "interface": "ether1", "vlan-id": 100}
PROXY = {"name": "default", "interfaces": [{"interface": NAME, "upstream": True}, {"interface": "lan0"}]}


@pytest.fixture
def net(tmp_path):
    with Net() as net:
        net.head, net.router, net.h0 = (net.namespace(name) for name in ("head", "router", "h0"))
        net.veth(net.head, "eth0", net.router, "ether1")
        net.veth(net.router, "lan0", net.h0, "eth0", "10.2.0.1/24", "10.2.0.2/24")
        made = net.head.run("ip link add link eth0 name tv type vlan id 100", check=False)
        if "tv@" not in net.head.run("ip link show"):
            pytest.skip(f"this kernel has no 802.1Q (CONFIG_VLAN_8021Q){made}; `make test-vm` boots one that has")
        net.head.run("ip addr add 10.1.0.2/24 dev tv")
        net.head.run("ip link set tv up")
        net.proxy = LiveProxy(net, net.router, state_dir=tmp_path / "state")
        net.proxy.configure({})
        yield net


def link(net, name: str = NAME) -> dict | None:
    found = [one for one in json.loads(net.router.run("ip -d -j link show")) if one["ifname"] == name]
    return found[0] if found else None


def is_vlan(net, parent: str, vlan_id: int, name: str = NAME) -> bool:
    found = link(net, name)
    return found is not None and found["link"] == parent and found["linkinfo"]["info_data"]["id"] == vlan_id and "UP" in found["flags"]


def test_a_vlan_is_created_carries_the_stream_and_goes_with_the_configuration(net):
    sysctl(net.router, "ipv4/conf/default/rp_filter", 1)
    net.proxy.configure({"vlans": [VLAN], "igmp-proxy": [PROXY]})
    assert is_vlan(net, "ether1", 100)
    net.router.run(f"ip addr add 10.1.0.1/24 dev {NAME}")
    net.proxy.ready()
    tv, head = net.host(net.h0, "eth0", G, PORT), net.sender(net.head, "tv")
    wait_until(lambda: G in net.proxy.told(), "told upstream, tagged")

    def one() -> bool:
        head.send(G, PORT)
        return tv.received > 0

    wait_until(one, "the stream")
    assert net.proxy.state().deviations == ()
    index = link(net)["ifindex"]
    net.proxy.configure({"vlans": [VLAN], "igmp-proxy": [PROXY]})
    assert link(net)["ifindex"] == index
    net.proxy.configure({})
    assert link(net) is None


def test_changed_and_renamed(net):
    net.proxy.configure({"vlans": [VLAN]})
    net.proxy.configure({"vlans": [VLAN | {"vlan-id": 200}]})
    assert is_vlan(net, "ether1", 200)
    net.proxy.configure({"vlans": [VLAN | {"interface": "lan0"}]})
    assert is_vlan(net, "lan0", 100)
    net.proxy.configure({"vlans": [VLAN | {"interface": "lan0", "name": "tv"}]})
    assert is_vlan(net, "lan0", 100, "tv")
    assert link(net) is None


def test_a_foreign_one_is_adopted_or_refused_and_stays(net):
    net.router.run(f"ip link add link ether1 name {NAME} type vlan id 100")
    with pytest.raises(Refused, match="is VLAN 100 of ether1, not VLAN 101 of ether1"):
        net.proxy.configure({"vlans": [VLAN | {"vlan-id": 101}, {"name": "tv2", "interface": "ether1", "vlan-id": 2}]})
    assert link(net, "tv2") is None
    with pytest.raises(Refused, match=f"exists already under the name {NAME}"):
        net.proxy.configure({"vlans": [VLAN | {"name": "other"}]})
    net.proxy.configure({"vlans": [VLAN]})
    assert is_vlan(net, "ether1", 100)  # it was down
    net.proxy.configure({})
    assert link(net) is not None
    assert "UP" not in link(net)["flags"]


def test_an_802_1ad_interface_is_another_thing(net):
    net.router.run(f"ip link add link ether1 name {NAME} type vlan protocol 802.1ad id 100")
    with pytest.raises(Refused, match="is a vlan interface, not VLAN 100 of ether1"):
        net.proxy.configure({"vlans": [VLAN]})


def test_what_somebody_deletes_comes_back_and_a_late_parent_is_waited_for(net):
    net.proxy.configure({"vlans": [VLAN]})
    net.router.run(f"ip link del {NAME}")
    wait_until(lambda: is_vlan(net, "ether1", 100), "it is back")
    net.proxy.configure({"vlans": [VLAN | {"interface": "late0"}]})
    assert link(net) is None
    assert [row.found for row in net.proxy.state().deviations] == ["absent: late0 does not exist"]
    net.router.run("ip link add late0 type veth peer name late1")
    net.router.run("ip link set late0 up")
    wait_until(lambda: is_vlan(net, "late0", 100), "with its parent")
    assert net.proxy.state().deviations == ()


def test_after_a_crash_what_was_made_is_removed_and_what_was_not_stays(net, tmp_path):
    net.router.run("ip link add link ether1 name mine type vlan id 7")
    net.proxy.configure({"vlans": [VLAN, {"name": "mine", "interface": "ether1", "vlan-id": 7}]})
    net.proxy.kill()
    assert is_vlan(net, "ether1", 100)
    again = LiveProxy(net, net.router, state_dir=tmp_path / "state")
    again.configure({})
    assert link(net) is None
    assert link(net, "mine") is not None


def test_a_refused_change_puts_the_old_vlan_back(net):
    net.proxy.configure({"vlans": [VLAN]})
    net.router.run("ip link add link ether1 name mine type vlan id 7")
    with pytest.raises(Refused, match="mine exists"):
        net.proxy.configure({"vlans": [VLAN | {"vlan-id": 300}, {"name": "mine", "interface": "ether1", "vlan-id": 8}]})
    assert is_vlan(net, "ether1", 100)
