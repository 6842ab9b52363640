"""Commands of RouterOS as the reference writes them, and an export of a router, run on a real agent: planned, applied, nothing left, seen.

head eth0 --- ether1 [router] bridge-local --- h0
                              ether2, vlan10, vlan20, ether9: cables that end in nobody
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kit.agent import Agent
from tests.kit.builders import TO_EX, record
from tests.kit.conformance import covers
from tests.kit.desk import Desk
from tests.kit.netns import Net, wait_until
from tests.kit.site import addressed, flows
from tests.kit.wire import Member, Source, Stranger, Tap
from tests.migrate.test_import import EXAMPLES, EXPORT

pytestmark = pytest.mark.kernel
G, STATIC, STATIC_SOURCE, VLAN = "239.1.1.1", "239.255.1.1", "192.168.100.5", "vlan100-ipTV"
DROPPING = """
table ip filter {
  chain input { type filter hook input priority filter; policy drop; }
  chain forward { type filter hook forward priority filter; policy drop; }
}
"""


def end_of(name: str) -> str:
    return f"{name[:8]}-end"


class Router:
    """The router of the examples; its agent runs nothing yet."""

    def __init__(self, net: Net, directory) -> None:
        self.net = net
        self.head, self.inside, self.h0 = (net.namespace(name) for name in ("head", "router", "h0"))
        net.veth(self.inside, "ether1", self.head, "eth0")
        net.veth(self.inside, "bridge-local", self.h0, "eth0")
        for inside, name, cable, number in (
            (self.inside, "ether1", 1, 1),
            (self.head, "eth0", 1, 2),
            (self.inside, "bridge-local", 2, 1),
            (self.h0, "eth0", 2, 2),
        ):
            addressed(inside, name, cable, number)
        self.head.run(f"ip addr add {STATIC_SOURCE}/32 dev eth0")
        for cable, name in enumerate(("ether2", "vlan10", "vlan20", "ether9"), 11):
            self.dangling(name)
            addressed(self.inside, name, cable, 1)
        self.agent = Agent(self.inside, directory, {})

    def dangling(self, name: str) -> None:
        self.inside.run(f"ip link add {name} type veth peer name {end_of(name)}")
        for end in (name, end_of(name)):
            self.inside.run(f"ip link set {end} up")

    def flows(self, group: str = G, source: str = "10.1.0.2", *, joined: bool = True) -> None:
        """A stream of the head end reaches h0, which joined it."""
        member, tap = Member(self.net, self.h0, "eth0", group), Tap(self.net, self.h0, "eth0")
        if joined:
            member.join()
        flows(Source(self.net, self.head, "eth0", source), group, tap)
        member.close()


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    with Net() as net:
        made = Router(net, tmp_path_factory.mktemp("agent"))
        yield made
        assert made.agent.stop() == 0, made.agent.said()


@pytest.fixture
def desk(router, tmp_path, capsys):
    made = Desk(router.agent, tmp_path, capsys.readouterr)
    made.applies({"igmp-proxy": []})
    yield made
    router.inside.run("nft flush ruleset")


def applied(desk, tmp_path, text: str) -> str:
    """Imported, planned, applied, planned again; the YAML."""
    (tmp_path / "router.rsc").write_text(text)
    yaml = desk("import", "routeros", tmp_path / "router.rsc").out
    assert desk.plans(yaml)
    desk.applies(yaml)
    assert desk.runs(yaml)
    return yaml


def has_8021q(router) -> bool:
    router.inside.run("ip link add link ether1 name probe type vlan id 9", check=False)
    return router.inside.run("ip link show").find("probe@") >= 0 and router.inside.run("ip link del probe") == ""


# What an example is seen to do, once it is applied ------------------------------------------------------------------


def roles_are_told(router, desk) -> None:
    roles = {row["interface"]: (row["role"], row["enabled"], row["up"]) for row in desk.rows("interfaces")}
    assert roles.pop("ether1") == ("upstream", True, True)
    assert set(roles.values()) == {("downstream", True, True)}


def queries_come_quicker(router, desk) -> None:
    """What was said on the upstream counts for the downstreams."""
    assert [(row["interface"], row["query_interval_s"]) for row in desk.rows("querier")] == [("bridge-local", 31.25)]
    router.flows()


def both_downstreams_accept_the_subnets(router, desk) -> None:
    for name, sender in (("vlan10", "10.20.5.5"), ("vlan20", "192.168.100.9")):
        stranger = Stranger(router.net, router.inside, end_of(name))
        stranger.report(sender, 3, record(TO_EX, G))
        wait_until(lambda name=name: name in {row["interface"] for row in desk.rows("groups")}, f"a member from {sender}")
        stranger.report("10.99.5.5", 3, record(TO_EX, G))
        wait_until(lambda name=name: desk.counter("rejected-sender", name) == 1, "others are refused")


def a_static_entry_flows(router, desk) -> None:
    router.flows(STATIC, STATIC_SOURCE, joined=False)
    assert desk.rows("groups") == []
    assert [(row["source"], row["kind"], row["downstreams"]) for row in desk.mfc(STATIC)] == [(STATIC_SOURCE, "static", ["bridge-local"])]


def a_firewall_that_drops_lets_it_through(router, desk) -> None:
    listed = router.inside.run("nft -s list ruleset")
    for rule in ("meta l4proto igmp", "ip daddr 224.0.0.0/4 meta l4proto udp"):
        assert rule in listed, listed
    roles_are_told(router, desk)


def entries_are_logged(router, desk) -> None:
    Stranger(router.net, router.inside, end_of("ether2")).report("10.11.0.9", 3, record(TO_EX, G))
    wait_until(lambda: "membership/joined" in desk.logs(), "the membership")
    assert "mfc/set" in desk.logs()


EXPECTED: dict[str, tuple[str, Callable[[Router, Desk], None]]] = {
    "minimal": ("R067 R040 R041 R042", roles_are_told),
    "typical": ("R068 R043 R044 R066", queries_come_quicker),
    "subnets": ("R069 R045", both_downstreams_accept_the_subnets),
    "several": ("R071", roles_are_told),
    "static": ("R072 R048", a_static_entry_flows),
    "firewall": ("R073 R050 R051 R052", a_firewall_that_drops_lets_it_through),
    "logging": ("R074 R056", entries_are_logged),
}


@covers(aspects=("desired", "plan", "apply", "live", "rollback"))
@pytest.mark.parametrize("name", list(EXPECTED))
def test_an_example_is_imported_planned_applied_and_seen(router, desk, tmp_path, name):
    _, seen = EXPECTED[name]
    if name == "firewall":
        (tmp_path / "rules").write_text(DROPPING)
        router.inside.run(f"nft -f {tmp_path}/rules")
    yaml = applied(desk, tmp_path, EXAMPLES[name][0])
    seen(router, desk)
    before = desk.history()
    desk.applies(yaml)
    assert desk.history() == before, "applied again, it made a commit"
    desk.back()
    assert desk.rows("interfaces") == []


@covers("R070", "R053", "R054", "R055", aspects=("desired", "plan", "apply", "live", "rollback"))
def test_the_streams_come_by_a_vlan(router, desk, tmp_path):
    """Where the kernel has no 802.1Q the interface of that name is a cable, and the agent is not asked to make it."""
    text = EXAMPLES["residential"][0]
    (tmp_path / "rules").write_text(DROPPING)
    is_vlan = has_8021q(router)
    if not is_vlan:
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("/interface vlan"))
        router.net.veth(router.inside, VLAN, router.head, "tv")
    yaml = applied(desk, tmp_path, text)
    if is_vlan:
        assert f"{VLAN}@ether1" in router.inside.run("ip link show")
        router.head.run("ip link add link eth0 name tv type vlan id 100")
        router.head.run("ip link set tv up")
    addressed(router.inside, VLAN, 7, 1)
    addressed(router.head, "tv", 7, 2)
    router.inside.run(f"nft -f {tmp_path}/rules", check=not is_vlan)
    if "chain forward" in router.inside.run("nft list ruleset"):  # user-mode Linux has VLANs and no chains
        wait_until(lambda: router.inside.run("nft list chain ip filter forward").count("igmpconf:") == 2, "the rules stand before the drops")
        listed = router.inside.run("nft -s list chain ip filter forward")
        assert f'iifname "{VLAN}" meta l4proto udp' in listed
        assert 'oifname "bridge-local" meta l4proto udp' in listed
        router.inside.run("nft add rule ip filter input meta l4proto igmp accept")  # the example has no rule for it
    member, tap = Member(router.net, router.h0, "eth0", G), Tap(router.net, router.h0, "eth0")
    member.join()
    flows(Source(router.net, router.head, "tv", "10.7.0.2"), G, tap)
    member.close()
    assert desk.runs(yaml)
    desk.back()
    router.inside.run(f"ip link del {VLAN}", check=not is_vlan)
    assert VLAN not in router.inside.run("ip link show")


@covers("R040", "R048", "R055", aspects=("desired", "plan", "apply"))
def test_an_export_is_imported_planned_and_applied(router, desk, tmp_path):
    text = EXPORT
    if not has_8021q(router):
        text = text.replace('add comment="IPTV \\"main\\"" interface=ether1 name=vlan100-ipTV vlan-id=100\n', "")
        router.dangling(VLAN)
    applied(desk, tmp_path, text)
    rows = {row["interface"]: (row["role"], row["enabled"]) for row in desk.rows("interfaces")}
    assert rows["bridge-local"] == ("downstream", True)
    assert rows[VLAN] == ("upstream", True)
    assert rows.get("ether9", ("downstream", False)) == ("downstream", False)
    desk.back()
    router.inside.run(f"ip link del {VLAN}", check=False)


def test_openwrts_igmpproxy_is_imported_and_opens_the_firewall_as_it_did(router, desk, tmp_path):
    (tmp_path / "rules").write_text(DROPPING)
    router.inside.run(f"nft -f {tmp_path}/rules")
    (tmp_path / "network").write_text(
        "config interface 'iptv'\n\toption device 'ether1'\n\toption proto 'dhcp'\nconfig interface 'lan'\n\toption device 'bridge-local'\n"
    )
    (tmp_path / "igmpproxy").write_text(
        "config igmpproxy\n\toption quickleave 1\n"
        "config phyint\n\toption network iptv\n\toption direction upstream\n\tlist altnet 10.0.0.0/8\n"
        "config phyint\n\toption network lan\n\toption direction downstream\n"
    )
    yaml = desk("import", "uci", tmp_path / "igmpproxy", "--strict").out
    desk.applies(yaml)
    assert desk.runs(yaml)
    router.flows()
    router.head.run("ip addr add 172.31.0.5/32 dev eth0")
    member, tap, foreign = Member(router.net, router.h0, "eth0", G), Tap(router.net, router.h0, "eth0"), Source(router.net, router.head, "eth0", "172.31.0.5")
    member.join()
    flows(Source(router.net, router.head, "eth0", "10.1.0.2"), G, tap)
    foreign.send(G, b"from outside altnet")
    flows(Source(router.net, router.head, "eth0", "10.1.0.2"), G, tap)
    assert b"from outside altnet" not in {payload for _, payload in tap.arrivals(G)}
    member.close()
    desk.back()
