"""Mode bridged on the real kernel: memberships end at the ports of a bridge, streams go to members only.

head --- wan [br0 of bridge, no address] lan0 --- h0
                                         lan1 --- h1
                                         lan2 --- h2     a port that no entry names in some tests
"""

from __future__ import annotations

import json
import socket
import sys

import pytest

from igmpconf.engine.family import IGMP
from igmpconf.engine.messages import Query, Record, RecordKind
from igmpconf.engine.wire.ip import build_ipv4
from igmpconf.errors import WireError
from igmpconf.linux import bridge_table
from igmpconf.linux.netlink import RTM_GETLINK, Requests, attributes
from tests.kit.live import LiveProxy, Refused
from tests.kit.netns import Namespace, Net, sysctl, wait_until
from tests.kit.site import TIMES, addressed
from tests.kit.wire import Member, Packet, Source, Stranger, Tap, packed

pytestmark = pytest.mark.kernel
G4, G6, OTHER = "239.7.1.1", "ff0e::7:1", "239.7.1.2"
HOSTS = {"wan": "head", "lan0": "h0", "lan1": "h1", "lan2": "h2"}


def bridged(*downstreams, **leaves) -> dict:
    entries = [{"interface": "wan", "upstream": True}, *(downstreams or ("lan0", "lan1"))]
    return {"name": "tv", "mode": "bridged", "bridge": "br0", "family": ["ipv4", "ipv6"], "interfaces": entries} | TIMES | leaves


class Bridge:
    """The drawing above; everything on it is one network, 10.7.0.0/24."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.box = net.namespace("box")
        self.at = {}
        for number, (port, name) in enumerate(HOSTS.items(), start=1):
            host = self.at[port] = net.namespace(name)
            net.veth(self.box, port, host, "eth0")
            addressed(host, "eth0", 7, number)
        self.make()
        self.taps = {port: Tap(net, host, "eth0") for port, host in self.at.items()}
        self.members: list[Member] = []
        self.proxy: LiveProxy | None = None

    def make(self) -> None:
        """A bridge as it is where nobody cares about multicast."""
        self.box.run("ip link add br0 type bridge mcast_snooping 0 forward_delay 0")
        self.box.run("ip link set br0 up")
        for port in HOSTS:
            self.box.run(f"ip link set {port} master br0")

    def start(self, tmp_path, *proxies: dict) -> LiveProxy:
        self.proxy = LiveProxy(self.net, self.box, state_dir=tmp_path / "state")
        self.proxy.configure({"igmp-proxy": list(proxies or (bridged(),))})
        self.proxy.ready()
        self._forget()  # what was heard while the bridge flooded
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

    def frames(self, port: str) -> list[tuple[float, str, bool, bytes]]:
        """Everything that a port's tap has, whatever it is."""
        assert self.taps[port].packets is not None
        return self.taps[port].frames

    def entries(self) -> list[dict]:
        (found,) = json.loads(self.box.run("bridge -d -j mdb show"))
        return found["mdb"]

    def mdb(self) -> set[tuple[str, str]]:
        """Ports and groups of our entries."""
        return {(one["port"], one["grp"]) for one in self.entries() if one["state"] == "permanent" and "src" not in one}

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
        self._forget()

    def _forget(self) -> None:
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


@pytest.fixture
def older(monkeypatch):
    """The entries are said as kernels before 6.3 want it, which later ones understand."""
    monkeypatch.setattr(bridge_table, "kernel_release", lambda: (6, 1))


def in_force(bridge: Bridge, group: str, *ports: str) -> Source:
    """Wait until a stream that comes from the upstream goes to these ports only: hosts get the time to answer first."""
    for port in ports:
        wait_until(lambda port=port: (port, group) in bridge.mdb(), f"the entry of {port}")
    source = bridge.source(group)
    wait_until(lambda: bridge.sent(source, group, ports[0], 1) == dict.fromkeys(ports, 1), f"only {ports}")
    return source


@pytest.mark.parametrize("group", [G4, G6])
def test_a_stream_reaches_the_ports_of_members_and_no_other(bridge, tmp_path, group):
    proxy = bridge.start(tmp_path)
    bridge.member("lan0", group).join()
    source = in_force(bridge, group, "lan0")
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


@pytest.mark.parametrize("group", [G4, G6])
def test_what_a_downstream_sends_reaches_the_upstream_and_the_members(bridge, tmp_path, group):
    bridge.start(tmp_path)
    bridge.member("lan0", group).join()
    in_force(bridge, group, "lan0")
    source = bridge.source(group, "lan1")
    assert bridge.sent(source, group, "lan0") == {"wan": 20, "lan0": 20}
    other = "239.7.1.99" if group == G4 else "ff0e::7:99"
    assert bridge.sent(source, other, "wan") == {"wan": 20}


@pytest.mark.parametrize(("group", "versions"), [(G4, (3, 3)), (G4, (2, 3)), (G6, (2, 2)), (G6, (1, 2))])
def test_memberships_end_at_each_port_and_one_host_speaks_upstream(bridge, tmp_path, group, versions):
    names = {port: bridge.at[port] for port in ("lan0", "lan1")}
    for host, version in zip(names.values(), versions, strict=True):
        force(host, group, version)
    bridge.start(tmp_path)
    upstream = bridge.taps["wan"]
    members = [bridge.member(port, group) for port in names]
    members[0].join()
    wait_until(lambda: upstream.reports(group), "the report upstream")
    members[1].join()
    wait_until(lambda: {"lan0", "lan1"} <= {port for port, of in bridge.mdb() if of == group}, "both entries")
    latest = 2 if ":" in group else 3
    wait_until(lambda: len(upstream.reports(group)) >= 2, "the copy that robustness 2 asks for")
    assert set(upstream.reports(group)) == {f"v{latest} TO_EX {{}}"}
    for port, other in (("lan0", "lan1"), ("lan1", "lan0")):
        tap = bridge.taps[port]
        wait_until(lambda tap=tap: own_queries(tap), f"queries on {port}")
        heard = {one.source for one in tap.packets if not one.is_outgoing and is_membership(one)}
        assert heard <= set(asking(bridge, group)) | set(asking(bridge, G4 if group == G6 else G6)), f"{port} heard more than our queries"
        assert not [one for one in own_reports(tap) if one.source in addresses(other)]
    heard = {one.source for one in upstream.packets if not one.is_outgoing and is_membership(one)}
    assert not heard & (addresses("lan0") | addresses("lan1")), "the upstream hears the aggregated host alone"
    assert not own_queries(upstream), "nobody asks the upstream"
    members[0].leave()
    wait_until(lambda: ("lan0", group) not in bridge.mdb(), "the first leaves")
    assert set(upstream.reports(group)) == {f"v{latest} TO_EX {{}}"}, "the other still listens"
    members[1].leave()
    wait_until(lambda: f"v{latest} TO_IN {{}}" in upstream.reports(group), "the leave upstream")
    for host in names.values():
        force(host, group, 0)


def force(host: Namespace, group: str, version: int) -> None:
    family = "ipv6" if ":" in group else "ipv4"
    sysctl(host, f"{family}/conf/eth0/force_{'mld' if ':' in group else 'igmp'}_version", version)


def addresses(port: str) -> set[str]:
    number = list(HOSTS).index(port) + 1
    return {f"10.7.0.{number}", f"fe80::{number}"}


def asking(bridge: Bridge, group: str) -> list[str]:
    """Where our queries come from: 0.0.0.0 of a bridge without an address, and its link-local address."""
    if group == G4:
        return ["0.0.0.0"]
    (link,) = json.loads(bridge.box.run("ip -6 -j addr show br0"))
    return [one["local"] for one in link["addr_info"]]


def is_membership(packet: Packet) -> bool:
    try:
        return packet.message is not None
    except WireError:
        return True


def own_queries(tap: Tap) -> list[Packet]:
    return [one for one in tap.packets if not one.is_outgoing and is_membership(one) and isinstance(one.message, Query)]


def own_reports(tap: Tap) -> list[Packet]:
    return [one for one in tap.packets if not one.is_outgoing and is_membership(one) and not isinstance(one.message, Query)]


def test_the_upstream_querier_is_answered_and_not_heard_below(bridge, tmp_path):
    proxy = bridge.start(tmp_path)
    bridge.member("lan0", G4).join()
    wait_until(lambda: G4 in proxy.told())
    wait_until(lambda: len(bridge.taps["wan"].reports(G4)) >= 2)
    before = len(bridge.taps["wan"].reports(G4))
    stranger = Stranger(bridge.net, bridge.at["wan"], "eth0")
    stranger.query("10.7.0.1", Query(b"", 3, None, (), 200, 2, 125_000))
    wait_until(lambda: "v3 IS_EX {}" in bridge.taps["wan"].reports(G4)[before:], "the answer")
    for port in ("lan0", "lan1", "lan2"):
        assert "10.7.0.1" not in {one.source for one in own_queries(bridge.taps[port])}, port


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize("group", [G4, G6])
def test_on_older_kernels_a_port_gets_the_sources_that_it_wants_or_all(bridge, tmp_path, group):
    good, bad = ("10.7.0.101", "10.7.0.102") if group == G4 else ("fd00:7::101", "fd00:7::102")
    for address in (good, bad):
        bridge.at["wan"].run(f"ip addr add {address}/{24 if group == G4 else 64} dev eth0" + (" nodad" if group == G6 else ""))
    proxy = bridge.start(tmp_path)
    chosen, open_ = bridge.member("lan0", group), bridge.member("lan1", group)
    chosen.allow(good)
    open_.join()
    open_.block(bad)
    sources = [Source(bridge.net, bridge.at["wan"], "eth0", one) for one in (good, bad)]
    wait_until(lambda: ("lan1", group) in bridge.mdb() and (good, group) in proxy.mfc(), "the entries")
    wait_until(lambda: bridge.sent(sources[1], group, "lan1", 1) == {"lan1": 1}, "what one blocks alone cannot be said, its host chooses")
    assert bridge.sent(sources[0], group, "lan0") == {"lan0": 20, "lan1": 20}
    chosen.filter("exclude")
    wait_until(lambda: ("lan0", group) in bridge.mdb(), "any source")
    chosen.leave()
    wait_until(lambda: {one["port"] for one in bridge.entries() if one["grp"] == group and one["state"] == "permanent"} == {"lan1"}, "nothing is left")
    bridge.box.run(f"bridge mdb del dev br0 port lan1 grp {group} permanent")
    wait_until(lambda: proxy.noted("bridge/put-right"))
    proxy.kill()
    proxy = bridge.start(tmp_path)
    assert proxy.noted("routes/adopted")
    assert bridge.sent(sources[0], group, "lan1") == {"lan1": 20}
    for address in (good, bad):
        bridge.at["wan"].run(f"ip addr del {address}/{24 if group == G4 else 64} dev eth0")


@pytest.mark.parametrize("group", [G4, G6])
def test_ports_get_the_sources_that_they_want(bridge, tmp_path, group):
    if bridge_table.kernel_release() < (6, 3):
        pytest.skip("bridges of this kernel have no lists of sources")
    good, bad = ("10.7.0.101", "10.7.0.102") if group == G4 else ("fd00:7::101", "fd00:7::102")
    for address in (good, bad):
        bridge.at["wan"].run(f"ip addr add {address}/{24 if group == G4 else 64} dev eth0" + (" nodad" if group == G6 else ""))
    bridge.start(tmp_path)
    bridge.member("lan0", group).allow(good)
    bridge.member("lan1", group).join()
    bridge.members[1].block(bad)
    in_force_sources = [Source(bridge.net, bridge.at["wan"], "eth0", one) for one in (good, bad)]

    def told() -> bool:
        found = [{one["src"] for one in bridge.entries() if one["grp"] == group and one["port"] == port and "src" in one} for port in ("lan0", "lan1")]
        return good in found[0] and bad in found[1]

    wait_until(told, "the kernel's entries by source")
    wait_until(lambda: bridge.sent(in_force_sources[0], group, "lan0", 1) == {"lan0": 1, "lan1": 1})
    assert bridge.sent(in_force_sources[0], group, "lan0") == {"lan0": 20, "lan1": 20}
    in_force_sources[1].send(group, b"unwanted")
    other = bridge.source(group)
    assert bridge.sent(other, group, "lan1") == {"lan1": 20}, "a third source goes to who excludes only one"
    assert bridge.counts(group, b"unwanted") == {}
    for address in (good, bad):
        bridge.at["wan"].run(f"ip addr del {address}/{24 if group == G4 else 64} dev eth0")


def test_ipv6_and_groups_of_the_link_live_on(bridge, tmp_path):
    bridge.start(tmp_path)
    bridge.member("lan0", G6).join()
    in_force(bridge, G6, "lan0")
    listening = bridge.net.socket(bridge.at["lan0"], socket.AF_INET6, socket.SOCK_DGRAM)
    listening.bind(("fd00:7::2", 5001))
    listening.setblocking(False)
    for port, host in bridge.at.items():
        if port == "lan0":
            continue
        host.run("ip -6 neigh flush dev eth0")
        calling = bridge.net.socket(host, socket.AF_INET6, socket.SOCK_DGRAM)
        calling.sendto(port.encode(), ("fd00:7::2", 5001))
        assert wait_until(lambda: received(listening)) == port.encode(), "its neighbour solicitation must arrive"
    source = bridge.source(G4, "lan1")
    assert set(bridge.sent(source, "224.0.0.251", "lan0", 5)) == {"wan", "lan0", "lan2"}


def received(sock: socket.socket) -> bytes | None:
    try:
        return sock.recv(100)
    except BlockingIOError:
        return None


def test_local_groups_stay_among_the_downstreams(bridge, tmp_path):
    bridge.start(tmp_path)
    ssdp = "239.255.255.250"
    bridge.member("lan0", ssdp).join()
    bridge.member("lan1", G4).join()
    in_force(bridge, G4, "lan1")
    wait_until(lambda: ("lan0", ssdp) in bridge.mdb(), "the entry")
    assert bridge.sent(bridge.source(ssdp, "lan1"), ssdp, "lan0") == {"lan0": 20}
    bridge.source(ssdp).send(ssdp, b"from above")
    bridge.sent(bridge.source(G4), G4, "lan1", 1)
    assert bridge.counts(ssdp, b"from above") == {}
    assert ssdp not in bridge.proxy.told()


def test_everything_is_put_back(bridge, tmp_path):
    before = bridge.facts()
    proxy = bridge.start(tmp_path)
    bridge.member("lan0", G4).join()
    source = in_force(bridge, G4, "lan0")
    during = bridge.facts()
    assert (during["mcast_snooping"], during["wan"], during["lan0"], during["lan2"]) == (1, 2, 0, 1)
    assert "IGMP of br0" in during["rules"]
    proxy.configure({})
    assert bridge.facts() == before
    wait_until(lambda: set(bridge.sent(source, G4, "lan0", 1)) == {"lan0", "lan1", "lan2"}, "it floods as before")


def test_what_is_changed_by_hand_is_put_right(bridge, tmp_path):
    proxy = bridge.start(tmp_path)
    bridge.member("lan0", G4).join()
    in_force(bridge, G4, "lan0")
    bridge.box.run(f"bridge mdb del dev br0 port lan0 grp {G4} permanent")
    (note,) = wait_until(lambda: proxy.noted("bridge/put-right"), "the entry is missed")
    assert (note.fields["port"], note.fields["group"], note.fields["found"]) == ("lan0", G4, "absent")
    assert ("lan0", G4) in bridge.mdb()
    for command, name in (
        ("bridge link set dev wan mcast_router 1", "port wan mcast_router"),
        ("ip link set br0 type bridge mcast_snooping 0", "bridge br0 mcast_snooping"),
        ("nft delete table bridge igmpconf", "bridge igmpconf"),
    ):
        bridge.box.run(command)
        wait_until(lambda name=name: name in {one.fields["name"] for one in proxy.noted("surroundings/put-right")}, name)
    assert proxy.state().deviations == ()
    in_force(bridge, G4, "lan0")


def test_a_restart_interrupts_nothing_and_sweeps_what_nobody_wants_any_more(bridge, tmp_path):
    proxy = bridge.start(tmp_path)
    stays, goes = bridge.member("lan0", G4), bridge.member("lan1", G4)
    stays.join()
    goes.join()
    source = in_force(bridge, G4, "lan0", "lan1")
    first = stays.received
    sent = 0

    def stream(until, what: str) -> None:
        def one() -> bool:
            nonlocal sent
            for _ in range(5):
                source.send(G4, b"frame %d" % sent)
                sent += 1
            assert stays.received >= 0
            return until()

        wait_until(one, what)

    stream(lambda: sent > 100, "it flows")
    proxy.kill()
    bridge.at["lan1"].run("ip link set eth0 down")  # so that nobody hears the leave
    goes.close()
    bridge.at["lan1"].run("ip link set eth0 up")
    for address in ("fd00:7::3", "fe80::3"):
        bridge.at["lan1"].run(f"ip addr add {address}/64 dev eth0 nodad")
    stream(lambda: sent > 300, "it flows without us")
    assert ("lan1", G4) in bridge.mdb()
    proxy = bridge.start(tmp_path)
    assert proxy.noted("routes/adopted")
    stream(lambda: ("lan1", G4) not in bridge.mdb(), "the stale one is swept")
    stream(lambda: "lan0" in {row.interface for row in proxy.state().groups if str(row.group) == G4 and row.last_reporter is not None}, "confirmed")
    wait_until(lambda: stays.received - first >= sent, f"all of {sent}")
    assert stays.payloads[first:] == [b"frame %d" % number for number in range(sent)]


def test_the_bridge_knows_of_a_querier_also_when_another_asks(bridge, tmp_path):
    """Who asks behind a port is not heard by the bridge, and we keep silent there; its entries must count all the same."""
    bridge.box.run("ip addr add 10.7.0.200/24 dev br0")
    try:
        proxy = bridge.start(tmp_path, bridged("lan0") | {"query-interval": "100s", "family": ["ipv4"]})
        bridge.member("lan0", G4).join()
        in_force(bridge, G4, "lan0")
        Stranger(bridge.net, bridge.at["lan0"], "eth0").query("10.7.0.2", Query(b"", 3, None, (), 200, 2, 100_000))
        wait_until(lambda: not proxy.is_querier("lan0"), "the lower address asks from now on")
        before = bridge.box.call(querier_left_cs)
        wait_until(lambda: bridge.box.call(querier_left_cs) < before, "time passes")
        Stranger(bridge.net, bridge.at["lan0"], "eth0").query("10.7.0.2", Query(b"", 3, None, (), 200, 2, 100_000))
        wait_until(lambda: bridge.box.call(querier_left_cs) >= before, "its query counts for the bridge")
    finally:
        bridge.box.run("ip addr del 10.7.0.200/24 dev br0")


def test_the_bridge_hears_our_general_queries_and_no_others(bridge, tmp_path):
    """A query about one group would have it time out members of its own."""
    bridge.start(tmp_path, bridged({"interface": "lan0", "query-destination": "all-hosts"}) | {"query-interval": "1s"})
    told = Tap(bridge.net, bridge.box, "br0")
    member = bridge.member("lan0", G4)
    member.join()
    in_force(bridge, G4, "lan0")
    member.leave()
    wait_until(lambda: packed(G4) in {one.message.group for one in own_queries(bridge.taps["lan0"])}, "the host is asked")
    wait_until(lambda: len(told.queries()) > 3)
    assert {one.group for one in told.queries()} == {None}


def querier_left_cs() -> int:
    """How long the bridge still believes in the querier that it heard last (IFLA_BR_MCAST_QUERIER_STATE), in centiseconds."""
    requests = Requests()
    (data,) = [
        dict(attributes(dict(attributes(dict(attributes(body, 16)).get(18, b""))).get(2, b"")))
        for _, body in requests.dump(RTM_GETLINK, bytes(16))
        if dict(attributes(body, 16))[3] == b"br0\0"
    ]
    return int.from_bytes(dict(attributes(data[47]))[3], sys.byteorder)  # BRIDGE_QUERIER_IP_OTHER_TIMER


def test_a_port_that_no_entry_names_stays_an_ordinary_port(bridge, tmp_path):
    bridge.start(tmp_path)
    bridge.member("lan0", G4).join()
    source = in_force(bridge, G4, "lan0")
    assert bridge.facts()["lan2"] == 1
    bridge.member("lan2", G4).join()
    wait_until(lambda: "lan2" in bridge.sent(source, G4, "lan0", 1), "the kernel's own snooping serves it")
    assert not {one.source for one in own_reports(bridge.taps["wan"])} & addresses("lan2"), "and its reports do not get to the upstream"
    assert ("lan2", G4) not in bridge.mdb()


def test_a_port_leaves_the_bridge_and_comes_back(bridge, tmp_path):
    proxy = bridge.start(tmp_path)
    bridge.member("lan0", G4).join()
    in_force(bridge, G4, "lan0")
    bridge.box.run("ip link set lan0 nomaster")
    wait_until(lambda: not proxy.interface("lan0").up)
    wait_until(lambda: G4 not in proxy.told(), "nobody listens any more")
    bridge.box.run("ip link set lan0 master br0")
    in_force(bridge, G4, "lan0")
    assert bridge.facts()["lan0"] == 0
    assert not [note for note in proxy.notes() if note.level == "error"]


def test_the_device_itself_may_listen(bridge, tmp_path):
    bridge.box.run("ip addr add 10.7.0.200/24 dev br0")
    try:
        bridge.start(tmp_path)
        bridge.member("lan0", G4).join()
        in_force(bridge, G4, "lan0")
        on_the_device = Member(bridge.net, bridge.box, "br0", G4)
        bridge.members.append(on_the_device)
        on_the_device.join()
        wait_until(lambda: [one for one in own_queries(bridge.taps["lan0"]) if one.source == "10.7.0.200"], "we ask from the bridge's address")
        before = on_the_device.received
        bridge.sent(bridge.source(G4), G4, "lan0")
        wait_until(lambda: on_the_device.received - before >= 20, "the bridge hands up what it forwards")
    finally:
        bridge.box.run("ip addr del 10.7.0.200/24 dev br0")


def test_a_bridge_without_ipv6_serves_ipv6_all_the_same(bridge, tmp_path):
    sysctl(bridge.box, "ipv6/conf/br0/disable_ipv6", 1)
    try:
        bridge.start(tmp_path)
        bridge.member("lan0", G6).join()
        source = in_force(bridge, G6, "lan0")
        assert bridge.sent(source, G6, "lan0") == {"lan0": 20}
        wait_until(lambda: [one for one in own_queries(bridge.taps["lan0"]) if one.source.startswith("fe80:")], "a query from the address of the MAC")
    finally:
        sysctl(bridge.box, "ipv6/conf/br0/disable_ipv6", 0)


@pytest.mark.parametrize("group", [G4, G6])
def test_a_firewall_that_is_shown_bridged_frames_lets_streams_pass_when_it_is_managed(bridge, tmp_path, group):
    setting = "bridge/bridge-nf-call-ip6tables" if group == G6 else "bridge/bridge-nf-call-iptables"
    try:
        sysctl(bridge.box, setting, 1)
    except AssertionError:
        pytest.skip("this kernel shows bridged frames to no firewall (CONFIG_BRIDGE_NETFILTER)")
    proxy = bridge.start(tmp_path)
    bridge.member("lan0", group).join()
    source = in_force(bridge, group, "lan0")
    bridge.box.run("nft add table inet filter")
    try:
        bridge.box.run("nft add chain inet filter forward { type filter hook forward priority 0; policy drop; }")
        source.send(group, b"dropped")
        proxy.configure({"igmp-proxy": [bridged()], "firewall": {"manage": True}})
        assert bridge.sent(source, group, "lan0") == {"lan0": 20}
        assert bridge.counts(group, b"dropped") == {}
    finally:
        proxy.configure({})
        left = bridge.box.run("nft list ruleset")
        bridge.box.run("nft delete table inet filter")
    assert "igmpconf" not in left


def test_a_message_with_a_vlan_tag_is_not_for_us(bridge, tmp_path):
    proxy = bridge.start(tmp_path)
    bridge.member("lan0", OTHER).join()
    in_force(bridge, OTHER, "lan0")
    ((_, payload),) = IGMP.encode_report(3, [Record(RecordKind.TO_EX, packed(G4))], 1500)
    datagram = build_ipv4(packed("10.7.0.77"), packed("224.0.0.22"), payload)
    raw = bridge.net.socket(bridge.at["lan0"], socket.AF_PACKET, socket.SOCK_RAW)
    frame = bytes.fromhex("01005e000016 020000000077 8100 0064 0800".replace(" ", "")) + datagram
    raw.sendto(frame, ("eth0", 0))
    wait_until(lambda: any(datagram in data for _, _, _, data in bridge.frames("wan")), "it passes to where routers are, as on any bridge")
    assert ("lan0", G4) not in proxy.groups()
    raw.sendto(frame[:12] + frame[16:], ("eth0", 0))
    wait_until(lambda: ("lan0", G4) in proxy.groups(), "without the tag it is")


def test_a_bridge_that_is_made_anew_is_served_again(bridge, tmp_path):
    proxy = bridge.start(tmp_path)
    member = bridge.member("lan0", G4)
    member.join()
    in_force(bridge, G4, "lan0")
    bridge.box.run("ip link del br0")
    wait_until(lambda: not any(row.up for row in proxy.state().interfaces), "no port is left")
    bridge.make()
    source = in_force(bridge, G4, "lan0")
    assert bridge.sent(source, G4, "lan0") == {"lan0": 20}
    assert bridge.facts()["mcast_hash_max"] == 65_536
    bridge.proxy.configure({})
    assert bridge.facts()["mcast_hash_max"] == 4_096


def test_static_groups_and_entries_need_no_host(bridge, tmp_path):
    static = {"group": G4, "source": "10.7.0.1", "downstream-interface": "lan1"}
    proxy = bridge.start(tmp_path, bridged("lan1", {"interface": "lan0", "static-groups": OTHER}, mfc=static))
    source = in_force(bridge, OTHER, "lan0")
    assert bridge.sent(source, OTHER, "lan0") == {"lan0": 20}
    assert bridge.sent(source, G4, "lan1") == {"lan1": 20}
    bridge.at["wan"].run("ip addr add 10.7.0.101/24 dev eth0")
    Source(bridge.net, bridge.at["wan"], "eth0", "10.7.0.101").send(G4, b"another source")
    bridge.sent(source, G4, "lan1", 1)
    assert bridge.counts(G4, b"another source") == {}
    bridge.at["wan"].run("ip addr del 10.7.0.101/24 dev eth0")
    assert (proxy.mfc()["10.7.0.1", G4].kind, set(proxy.told())) == ("static", {G4, OTHER})


def test_a_bridge_that_tells_vlans_apart_is_refused_before_anything_changes(bridge, tmp_path):
    before = bridge.facts()
    bridge.proxy = LiveProxy(bridge.net, bridge.box, state_dir=tmp_path / "state")
    bridge.proxy.configure({})
    try:
        bridge.box.run("ip link set br0 type bridge vlan_filtering 1")
    except AssertionError:
        pytest.skip("this kernel's bridge knows no VLANs (CONFIG_BRIDGE_VLAN_FILTERING)")
    with pytest.raises(Refused, match="vlan_filtering"):
        bridge.proxy.configure({"igmp-proxy": [bridged()]})
    bridge.box.run("ip link set br0 type bridge vlan_filtering 0")
    assert bridge.facts() == before
