"""Layer 2 beside layer 3 on one device, through the commands: plan, apply, live state, rollback, drift, a killed engine.

head --- wan [router] lan0 --- h0                     routed, the base
head2 --- ont [br-tv of router] tv0 --- h2            bridged
                                tv1 --- h3
head --- wan [router] br-lan: p0 --- h4, p1 --- h5    routed, over a bridge that snoops
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import signal
from types import SimpleNamespace

import pytest

from tests.kit.conformance import covers
from tests.kit.netns import wait_until
from tests.kit.site import addressed, flows
from tests.kit.wire import Member, Source, Tap
from tests.manual.conftest import BASE

pytestmark = pytest.mark.kernel
G, OTHER = "239.1.1.1", "239.1.1.2"
TIMES = {name: BASE["igmp-proxy"][0][name] for name in ("query-interval", "query-response-interval", "last-member-interval", "quick-leave")}
BRIDGED = {"name": "tv", "mode": "bridged", "bridge": "br-tv", "interfaces": [{"interface": "ont", "upstream": True}, "tv0", "tv1"]} | TIMES


def with_bridge(**leaves) -> dict:
    made = copy.deepcopy(BASE)
    made["igmp-proxy"].append(copy.deepcopy(BRIDGED) | leaves)
    return made


@pytest.fixture(scope="module")
def tv(shared_site):
    """The bridge of the drawing, with somebody at every port."""
    net, router = shared_site.net, shared_site.router
    made = SimpleNamespace(hosts={}, taps={})
    router.run("ip link add br-tv type bridge forward_delay 0")
    router.run("ip link set br-tv up")
    for number, (port, name) in enumerate({"ont": "head2", "tv0": "h2", "tv1": "h3"}.items(), start=1):
        host = net.namespace(name)
        net.veth(router, port, host, "eth0")
        router.run(f"ip link set {port} master br-tv")
        addressed(host, "eth0", 9, number)
        made.hosts[port], made.taps[port] = host, Tap(net, host, "eth0")
    made.source = Source(net, made.hosts["ont"], "eth0", "10.9.0.1")
    return made


def kernel_facts(site) -> tuple:
    (link,) = json.loads(site.router.run("ip -d -j link show br-tv"))
    data = link["linkinfo"]["info_data"]
    routers = [json.loads(site.router.run(f"bridge -d -j link show dev {port}"))[0]["mcast_router"] for port in ("ont", "tv0", "tv1")]
    (mdb,) = json.loads(site.router.run("bridge -d -j mdb show"))
    ours = [entry for entry in mdb["mdb"] if entry.get("protocol") == "117"]
    return ({name: value for name, value in data.items() if name.startswith("mcast_")}, routers, ours, site.router.run("nft list ruleset bridge"))


def joined(site, tv, port: str, group: str) -> Member:
    member = Member(site.net, tv.hosts[port], "eth0", group)
    site.members.append(member)
    member.join()
    return member


_rounds = itertools.count()


def only_to(source: Source, taps: dict[str, Tap], group: str, *ports: str) -> None:
    """Wait until a stream reaches these ports of the bridge and no other: hosts get the time to answer before anything is withheld."""

    def one() -> bool:
        payload = b"only %d" % next(_rounds)

        def arrives() -> bool:  # between two entries a datagram may find neither: send another
            source.send(group, payload)
            return any(got == payload for _, got in taps[ports[0]].arrivals(group))

        wait_until(arrives, "the datagram")
        return {port for port, tap in taps.items() if any(got == payload for _, got in tap.arrivals(group))} == set(ports)

    wait_until(one, f"{group} to {ports} only")


@covers("R015", "R016", aspects=("desired", "plan", "apply", "live", "rollback"))
def test_a_bridged_instance_beside_a_routed_one_from_plan_to_rollback(site, desk, tv):
    before = kernel_facts(site)
    site.member(site.h0, G).join()
    source, tap = site.source("10.1.0.2"), site.tap(site.h0)
    flows(source, G, tap)
    (change,) = desk.plans(with_bridge())
    assert (change["action"], change["path"], change["impact"]["level"]) == ("+", "igmp-proxy[tv]", "none")
    desk.applies(with_bridge())
    assert desk.runs(with_bridge())
    joined(site, tv, "tv0", G)
    wait_until(lambda: [row["downstreams"] for row in desk.mfc(G) if row["instance"] == "tv"] == [["tv0"]], "the entry")
    only_to(tv.source, tv.taps, G, "tv0")
    flows(source, G, tap)
    assert {(row["instance"], row["upstream"]): row["downstreams"] for row in desk.mfc(G)} == {("default", "wan"): ["lan0"], ("tv", "ont"): ["tv0"]}
    rows = {row["interface"]: row["role"] for row in desk.rows("interfaces") if row["instance"] == "tv"}
    assert rows == {"ont": "upstream", "tv0": "downstream", "tv1": "downstream"}
    assert {row["interface"] for row in desk.rows("groups") if row["instance"] == "tv"} == {"tv0"}

    def counted() -> list[dict]:
        tv.source.send(G, b"counted")  # counting begins a moment after the commit
        return [row for row in desk.mfc(G) if row["instance"] == "tv" and row["packets"]]

    (row,) = wait_until(counted, "what arrived for it is counted")
    assert (row["state"], row["wrong_if"]) == ("forwarding", None)
    (sender,) = [row for row in desk.rows("sources") if row["interface"] == "ont"]
    assert (sender["source"], sender["group"]) == ("10.9.0.1", G)
    assert sender["packets"] >= row["packets"]
    fewer = with_bridge(interfaces=[{"interface": "ont", "upstream": True}, "tv1"])
    (change,) = desk.plans(fewer)
    assert (change["action"], change["impact"]["level"]) == ("-", "interrupts")
    assert [group["group"] for group in change["impact"]["groups"]] == [G]
    desk.applies(fewer)
    wait_until(lambda: not [row for row in desk.mfc(G) if row["instance"] == "tv"], "the port takes no part any more")
    desk.back()
    only_to(tv.source, tv.taps, G, "tv0")
    flows(source, G, tap)
    desk.applies(BASE)
    assert kernel_facts(site) == before
    flows(source, G, tap)


@covers("R015", aspects=("desired", "plan", "apply"))
def test_an_instance_becomes_bridged_and_routed_again(site, desk, tv):
    before = kernel_facts(site)
    site.router.run("ip addr add 10.91.0.1/24 dev tv0")  # to ask from, when it is no port of ours
    wanted = with_bridge()
    wanted["igmp-proxy"][1] = {"name": "tv", "interfaces": [{"interface": "ont", "upstream": True}, "tv0"]} | TIMES
    desk.applies(wanted)
    desk.applies(with_bridge())
    joined(site, tv, "tv1", G)
    wait_until(lambda: [row["downstreams"] for row in desk.mfc(G) if row["instance"] == "tv"] == [["tv1"]], "the entry")
    changes = {change["path"]: change["impact"]["level"] for change in desk.plans(wanted)}
    assert changes["igmp-proxy[tv]/mode"] == "interrupts"
    desk.applies(wanted)
    assert kernel_facts(site) == before
    site.router.run("ip addr del 10.91.0.1/24 dev tv0")


@covers("R015", "R016", aspects=("live", "drift"))
def test_a_killed_engine_and_hands_in_the_bridge_interrupt_nothing(site, desk, tv):
    desk.applies(with_bridge())
    member = joined(site, tv, "tv0", G)
    wait_until(lambda: desk.mfc(G), "the entry")
    only_to(tv.source, tv.taps, G, "tv0")
    first, sent = member.received, 0

    def while_it_flows(until, what: str) -> None:
        def one() -> bool:
            nonlocal sent
            for _ in range(5):
                tv.source.send(G, b"frame %d" % sent)
                sent += 1
            assert member.received >= first
            return until()

        wait_until(one, what, 20)

    engine = desk.agent.engine_pid()
    os.kill(engine, signal.SIGKILL)
    while_it_flows(lambda: desk.agent.engine_pid(other_than=engine), "the next engine")
    while_it_flows(lambda: any(row["last_reporter"] for row in desk.rows("groups") if row["instance"] == "tv"), "confirmed by its host")
    site.router.run("bridge link set dev ont mcast_router 1")
    while_it_flows(lambda: "port ont mcast_router" in desk.logs(), "the flag is put right")
    site.router.run(f"bridge mdb add dev br-tv port tv1 grp {OTHER} permanent")  # somebody else's: not ours to remove
    assert desk.runs(with_bridge())
    desk("drift", "-f", desk.wants(with_bridge()), "-d", desk.device)
    wait_until(lambda: member.received - first >= sent, f"all of {sent}")
    assert member.payloads[first:] == [b"frame %d" % number for number in range(sent)]
    site.router.run(f"bridge mdb del dev br-tv port tv0 grp {G} permanent")
    wait_until(lambda: "bridge/put-right" in desk.logs(), "the entry is put right")
    only_to(tv.source, tv.taps, G, "tv0")
    desk.applies(BASE)
    (mdb,) = json.loads(site.router.run("bridge -d -j mdb show"))
    assert [(entry["port"], entry["grp"]) for entry in mdb["mdb"] if entry["state"] == "permanent"] == [("tv1", OTHER)]
    site.router.run(f"bridge mdb del dev br-tv port tv1 grp {OTHER} permanent")


@covers("R016", "R043", aspects=("apply", "live"))
def test_a_routed_instance_over_a_bridge_that_snoops(site, desk):
    site.router.run("ip link add br-lan type bridge forward_delay 0 mcast_snooping 1")
    site.router.run("ip link set br-lan up")
    addressed(site.router, "br-lan", 8, 1)
    taps = {}
    for number, port in enumerate(("p0", "p1"), start=2):
        host = site.net.namespace(f"on-{port}")
        site.net.veth(site.router, port, host, "eth0")
        site.router.run(f"ip link set {port} master br-lan")
        addressed(host, "eth0", 8, number)
        taps[port] = (host, Tap(site.net, host, "eth0"))
    wanted = copy.deepcopy(BASE)
    wanted["igmp-proxy"][0]["interfaces"].append({"interface": "br-lan"})
    desk.applies(wanted)
    member = Member(site.net, taps["p0"][0], "eth0", G)
    site.members.append(member)
    member.join()
    source = site.source("10.1.0.2")
    flows(source, G, taps["p0"][1])
    assert [row["downstreams"] for row in desk.mfc(G)] == [["br-lan"]]
    only_to(source, {port: tap for port, (_, tap) in taps.items()}, G, "p0")
    desk.applies(BASE)
    site.router.run("ip link del br-lan")
