"""Mode bridged on the real kernel: memberships end at the ports of a bridge, streams go to members only.

head --- wan [br0 of bridge, no address] lan0 --- h0
                                         lan1 --- h1
                                         lan2 --- h2     a port that no entry names in some tests
"""

from __future__ import annotations

import json

import pytest

from tests.kit.live import LiveProxy
from tests.kit.netns import Net, wait_until
from tests.kit.site import TIMES, addressed
from tests.kit.wire import Member, Source, Tap

pytestmark = pytest.mark.kernel
G4, G6 = "239.7.1.1", "ff0e::7:1"
HOSTS = {"wan": "head", "lan0": "h0", "lan1": "h1", "lan2": "h2"}


def bridged(*downstreams, **leaves) -> dict:
    entries = [{"interface": "wan", "upstream": True}, *(downstreams or ("lan0", "lan1"))]
    return {"name": "tv", "mode": "bridged", "bridge": "br0", "family": ["ipv4", "ipv6"], "interfaces": entries} | TIMES | leaves


class Bridge:
    """The drawing above; everything on it is one network, 10.7.0.0/24."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.box = net.namespace("box")
        self.box.run("ip link add br0 type bridge mcast_snooping 0 forward_delay 0")
        self.box.run("ip link set br0 up")
        self.at = {}
        for number, (port, name) in enumerate(HOSTS.items(), start=1):
            host = self.at[port] = net.namespace(name)
            net.veth(self.box, port, host, "eth0")
            self.box.run(f"ip link set {port} master br0")
            addressed(host, "eth0", 7, number)
        self.taps = {port: Tap(net, host, "eth0") for port, host in self.at.items()}
        self.members: list[Member] = []
        self.proxy: LiveProxy | None = None

    def start(self, tmp_path, *proxies: dict) -> LiveProxy:
        self.proxy = LiveProxy(self.net, self.box, state_dir=tmp_path / "state")
        self.proxy.configure({"igmp-proxy": list(proxies or (bridged(),))})
        self.proxy.ready()
        return self.proxy

    def member(self, port: str, group: str) -> Member:
        made = Member(self.net, self.at[port], "eth0", group)
        self.members.append(made)
        return made

    def source(self, group: str, port: str = "wan") -> Source:
        number = list(HOSTS).index(port) + 1
        return Source(self.net, self.at[port], "eth0", f"fd00:7::{number}" if ":" in group else f"10.7.0.{number}")

    def sent(self, source: Source, group: str, last: str, number: int = 20) -> dict[str, int]:
        """How many of a round reached each port; `last` is where the round's end must arrive."""
        self.round = getattr(self, "round", 0) + 1
        payload = b"round %d" % self.round
        for _ in range(number):
            source.send(group, payload)
        wait_until(lambda: self.count(last, group, payload) >= number, f"{number} at {last}: {self.counts(group, payload)}")
        return self.counts(group, payload)

    def count(self, port: str, group: str, payload: bytes) -> int:
        return sum(got == payload for _, got in self.taps[port].arrivals(group))

    def counts(self, group: str, payload: bytes) -> dict[str, int]:
        found = {port: self.count(port, group, payload) for port in self.taps}
        return {port: number for port, number in found.items() if number}

    def mdb(self) -> set[tuple[str, str]]:
        """Ports and groups of our entries."""
        (found,) = json.loads(self.box.run("bridge -d -j mdb show"))
        return {(one["port"], one["grp"]) for one in found["mdb"] if one.get("protocol") == "117" and "src" not in one}

    def facts(self) -> dict:
        (link,) = json.loads(self.box.run("ip -d -j link show br0"))
        data = link["linkinfo"]["info_data"]
        ports = {port: json.loads(self.box.run(f"bridge -d -j link show dev {port}"))[0]["mcast_router"] for port in HOSTS}
        kept = ("mcast_snooping", "mcast_hash_max", "mcast_querier_intvl", "mcast_igmp_version", "mcast_mld_version", "mcast_querier")
        return {name: data[name] for name in kept} | ports | {"rules": self.box.run("nft list ruleset bridge"), "mdb": self.mdb()}

    def tidy(self) -> None:
        for member in self.members:
            member.close()
        self.members.clear()
        if self.proxy is not None and self.proxy.is_running:
            self.proxy.configure({})
            self.proxy.stop()
        for tap in self.taps.values():
            tap.packets.clear()
            tap.frames.clear()


@pytest.fixture(scope="module")
def shared_bridge():
    with Net() as net:
        yield Bridge(net)


@pytest.fixture
def bridge(shared_bridge):
    yield shared_bridge
    shared_bridge.tidy()


@pytest.mark.parametrize("group", [G4, G6])
def test_a_stream_reaches_the_ports_of_members_and_no_other(bridge, tmp_path, group):
    proxy = bridge.start(tmp_path)
    bridge.member("lan0", group).join()
    wait_until(lambda: ("lan0", group) in bridge.mdb(), "the entry")
    source = bridge.source(group)

    def settled() -> bool:
        return bridge.sent(source, group, "lan0", 1) == {"lan0": 1}

    wait_until(settled, "hosts had the time to answer before anything is withheld")
    assert bridge.sent(source, group, "lan0") == {"lan0": 20}
    bridge.member("lan1", group).join()
    wait_until(lambda: ("lan1", group) in bridge.mdb(), "the entry")
    assert bridge.sent(source, group, "lan1") == {"lan0": 20, "lan1": 20}
    assert {row.interface for row in proxy.state().groups if str(row.group) == group} == {"lan0", "lan1"}
    row = proxy.mfc()["*", group]
    assert (row.upstream, row.downstreams, row.state, row.packets) == ("wan", ("lan0", "lan1"), "forwarding", None)
    bridge.members[0].leave()
    wait_until(lambda: ("lan0", group) not in bridge.mdb(), "the leave")
    assert bridge.sent(source, group, "lan1") == {"lan1": 20}
