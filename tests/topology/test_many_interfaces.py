"""As many interfaces as the kernel has room for in a table: an upstream and 31 downstreams; and one too many.

head --- wan [router] lan0 .. lan30 --- h0 .. h30 [hosts]
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from igmpconf.linux.kernel import MAX_VIFS
from tests.kit.conformance import covers
from tests.kit.live import LiveProxy, Refused
from tests.kit.netns import Net, wait_until
from tests.kit.site import cable, instance
from tests.kit.wire import Member, Source, Tap

pytestmark = pytest.mark.kernel
DOWNSTREAMS = MAX_VIFS - 1


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    with Net() as net:
        made = SimpleNamespace(net=net, directory=tmp_path_factory.mktemp("batch"), **{name: net.namespace(name) for name in ("head", "router", "hosts")})
        cable(net, 1, made.router, "wan", made.head, "eth0")
        cables(made, range(DOWNSTREAMS))
        yield made


def cables(places, numbers) -> None:
    """All cables at once: one call of ip(8) for the cables, one for each end."""
    batch = places.directory / "batch"
    batch.write_text("".join(f"link add name lan{n} netns {places.router.pid} type veth peer name h{n} netns {places.hosts.pid}\n" for n in numbers))
    places.net._root.run(f"ip -batch {batch}")
    for inside, name, host in ((places.router, "lan", 1), (places.hosts, "h", 2)):
        lines = []
        for n in numbers:
            lines += [
                f"link set {name}{n} addrgenmode none up",
                f"addr add 10.{100 + n}.0.{host}/24 dev {name}{n}",
                f"addr add fe80::{host}/64 dev {name}{n} nodad",
            ]
        batch.write_text("\n".join(lines) + "\n")
        inside.run(f"ip -batch {batch}")
    wait_until(lambda: places.router.run("ip -br link").count("LOWER_UP") >= len(list(numbers)) + 1, "carrier")


@pytest.fixture
def proxy(places):
    made = LiveProxy(places.net, places.router)
    yield made
    if made.is_running:
        made.stop()
    for n in range(DOWNSTREAMS, DOWNSTREAMS + 2):
        places.router.run(f"ip link del lan{n}", check=False)


def joined(places, group: str, numbers) -> list[Member]:
    members = [Member(places.net, places.hosts, f"h{n}", group) for n in numbers]
    for member in members:
        member.join()
    return members


def spread(source: Source, group: str, tap: Tap, numbers, payload: bytes) -> Counter[str]:
    """Ten datagrams, and how many of them came out of each cable."""
    for _ in range(10):
        source.send(group, payload)

    def arrived() -> Counter[str]:
        return Counter(one.ifname for one in tap.packets if one.payload[8:] == payload and not one.is_outgoing)

    wait_until(lambda: arrived().total() >= 10 * len(numbers), f"{payload!r} on {len(numbers)} cables")
    return arrived()


@covers("FWD-01", "FWD-05", "QRY-01", "QRY-22")
@pytest.mark.parametrize(("group", "head"), [pytest.param("239.1.1.1", "10.1.0.2", id="igmp"), pytest.param("ff15::1", "fd00:1::2", id="mld")])
def test_thirty_one_downstreams(places, proxy, group, head):
    numbers = range(DOWNSTREAMS)
    tap = Tap(places.net, places.hosts)
    proxy.replace(instance("wan", *(f"lan{n}" for n in numbers), query_interval="60s"))
    proxy.ready()
    wait_until(lambda: {one.ifname for one in tap.packets if one.destination in {"224.0.0.1", "ff02::1"}} == {f"h{n}" for n in numbers}, "a query on each")
    members = joined(places, group, numbers)
    wait_until(lambda: proxy.mfc().get(("*", group)) is not None and len(proxy.mfc()["*", group].downstreams) == DOWNSTREAMS, "31 oifs")
    source = Source(places.net, places.head, "eth0", head)
    assert spread(source, group, tap, numbers, b"all") == Counter({f"h{n}": 10 for n in numbers})
    for member in members[1:]:
        member.leave()
    wait_until(lambda: proxy.mfc()["*", group].downstreams == ("lan0",), "one is left")
    assert spread(source, group, tap, [0], b"one") == Counter(h0=10)
    members[0].close()


def test_a_pattern_that_matches_a_33rd_interface_is_refused_with_the_reason(places, proxy):
    cables(places, [DOWNSTREAMS])
    with pytest.raises(Refused) as refusal:
        proxy.replace(instance("wan", "lan*", query_interval="60s"))
    said = str(refusal.value)
    assert "all 32 multicast interfaces of the table are taken" in said
    assert "MAXVIFS" in said
    assert "second instance" in said
    assert proxy.state().interfaces == ()
    assert "Iif" not in places.router.run("ip mroute show")


def test_a_33rd_interface_that_appears_later_waits_until_there_is_room(places, proxy):
    proxy.replace(instance("wan", "lan*", family=["ipv4"]))
    proxy.ready()
    members = joined(places, "239.1.1.1", [0, 1])
    wait_until(lambda: proxy.mfc().get(("*", "239.1.1.1")) is not None and len(proxy.mfc()["*", "239.1.1.1"].downstreams) == 2)
    tap, source = Tap(places.net, places.hosts), Source(places.net, places.head, "eth0", "10.1.0.2")
    cables(places, [DOWNSTREAMS])
    wait_until(lambda: [one for one in proxy.noted("kernel/refused") if one.fields["errno"] == "ENFILE"], "the refusal is logged")
    assert spread(source, "239.1.1.1", tap, [0, 1], b"unharmed") == Counter(h0=10, h1=10)
    places.router.run("ip link del lan1")
    members.append(*joined(places, "239.1.1.1", [DOWNSTREAMS]))
    room = f"lan{DOWNSTREAMS}"
    wait_until(
        lambda: any("239.1.1.1" in line and room in line for line in places.router.run("ip mroute show").splitlines()), "it got the room of the one that went"
    )
    assert spread(source, "239.1.1.1", tap, [0, DOWNSTREAMS], b"room")[f"h{DOWNSTREAMS}"] == 10
    cables(places, [1])
