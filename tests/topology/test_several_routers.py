r"""More than one multicast router: a second querier, two proxies side by side, two in a chain.

A rival:           head --- wan [router] lan0 --- switch --- h0, rival
                                         lan1 --- h1
Side by side:      head --- switch --- wan [a] lan --- switch --- host
                              \------- wan [b] lan ------/
In a chain:        head --- wan [a] lan --- wan [b] lan --- host
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from igmpconf.engine.messages import Query
from tests.kit.conformance import covers
from tests.kit.live import LiveProxy
from tests.kit.netns import Net, wait_until
from tests.kit.site import cable, counted, flows, instance, plug, switch
from tests.kit.wire import Member, Source, Stranger, Tap, family_of, packed

pytestmark = pytest.mark.kernel
BOTH = pytest.mark.parametrize(("group", "head"), [pytest.param("239.1.1.1", "10.1.0.2", id="igmp"), pytest.param("ff15::1", "fd00:1::2", id="mld")])


def places(net: Net, *names: str) -> SimpleNamespace:
    return SimpleNamespace(net=net, proxies=[], members=[], **{name: net.namespace(name) for name in names})


def tidied(made: SimpleNamespace):
    yield made
    for proxy in made.proxies:
        if proxy.is_running:
            proxy.stop()
    for member in made.members:
        member.close()
    made.proxies.clear()
    made.members.clear()


def started(at: SimpleNamespace, inside, *interfaces, **leaves) -> LiveProxy:
    proxy = LiveProxy(at.net, inside)
    at.proxies.append(proxy)
    proxy.replace(instance(*interfaces, **leaves))
    proxy.ready()
    return proxy


def joined(at: SimpleNamespace, inside, group: str) -> Member:
    member = Member(at.net, inside, "eth0", group)
    at.members.append(member)
    member.join()
    return member


def round_of(source: Source, group: str, taps: list[Tap], witness: Tap) -> list[int]:
    """Datagrams of 20 that arrive at each tap; the witness is where they certainly do."""
    got = counted(
        [source], group, taps, lambda payload: wait_until(lambda: sum(one == payload for _, one in witness.arrivals(group)) >= 20, "all of the round")
    )
    return [sum(one.values()) for one in got]


# -- a rival -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_rivals():
    with Net() as net:
        made = places(net, "head", "router", "h0", "rival", "h1")
        cable(net, 1, made.router, "wan", made.head, "eth0")
        middle = switch(net, "switch")
        for port, device, ifname, host in (("p0", made.router, "lan0", 5), ("p1", made.h0, "eth0", 7), ("p2", made.rival, "eth0", 3)):
            plug(net, middle, port, device, ifname, 2, host)
        cable(net, 3, made.router, "lan1", made.h1, "eth0")
        yield made


@pytest.fixture
def rivals(shared_rivals):
    yield from tidied(shared_rivals)


class Play:
    """The router is .5 on lan0; somebody at .3 or .9 asks there when told to, and promises to ask every second."""

    def __init__(self, at: SimpleNamespace, group: str, head: str, **leaves) -> None:
        self.at, self.group, self.family = at, group, family_of(group)
        self.segments = [Tap(at.net, at.h0, "eth0"), Tap(at.net, at.h1, "eth0")]
        self.upstream = Tap(at.net, at.head, "eth0")
        self.source = Source(at.net, at.head, "eth0", head)
        self.proxy = started(at, at.router, "wan", "lan0", "lan1", **leaves)
        for host, segment in zip((at.h0, at.h1), self.segments, strict=True):
            joined(at, host, group)
            flows(self.source, group, segment)
        self._rival = Stranger(at.net, at.rival, "eth0")

    def address(self, host: int) -> str:
        return f"fe80::{host}" if self.family.name == "ipv6" else f"10.2.0.{host}"

    def asks(self, host: int, group: str | None = None) -> None:
        about = None if group is None else packed(group)
        self._rival.query(self.address(host), Query(b"", self.family.latest_version, about, max_response_ms=200, robustness=1, interval_ms=1_000))

    def counts(self) -> list[int]:
        return round_of(self.source, self.group, self.segments, self.segments[1])

    @property
    def querier(self):
        return self.proxy.interface("lan0", self.family.name).querier

    def heard(self) -> int:
        """Queries that the router has taken in."""
        return self.proxy.counter(f"received-query-v{self.family.latest_version}", "lan0", self.family.name)


@covers("ELE-01", "ELE-03", "ELE-04", "ELE-07", "ELE-11", "ELE-15", "FWD-04", "FWD-05", "DB-09", "MLD-12", "R020", "R034", "R035", "R038")
@BOTH
def test_a_lower_address_becomes_querier_and_forwarding_is_withheld_until_it_falls_silent(rivals, group, head):
    play = Play(rivals, group, head)
    assert play.counts() == [20, 20]
    play.asks(3)
    wait_until(lambda: not play.querier.self_, "the election is lost")
    assert str(play.querier.address) == play.address(3)
    assert play.counts() == [0, 20]
    assert ("lan0", group) in play.proxy.groups()  # it goes on learning
    assert group in play.proxy.told()
    (lost,) = play.proxy.noted("querier/lost")
    assert (lost.level, lost.fields["querier"], lost.fields["own"]) == ("warning", play.address(3), play.address(5))
    ours = len(play.segments[0].queries(play.address(5)))
    wait_until(lambda: play.querier.self_, "other querier present: 1 * 1 s + 0.1 s", 5)  # RFC 3376 8.5 with the rival's numbers
    assert play.proxy.noted("querier/taken")
    wait_until(lambda: len(play.segments[0].queries(play.address(5))) > ours, "a general query at once")
    flows(play.source, group, play.segments[0])
    assert play.counts() == [20, 20]


@covers("ELE-02", "ELE-05", "PKT-32")
@BOTH
def test_who_cannot_win_an_election_changes_nothing(rivals, group, head):
    play = Play(rivals, group, head)
    before = play.heard()
    play.asks(9)  # higher
    play.asks(3, group)  # lower, but of one group
    wait_until(lambda: play.heard() == before + 2, "both queries are in")
    if play.family.name == "ipv4":
        Stranger(rivals.net, rivals.rival, "eth0").query("0.0.0.0", Query(b"", 3, None, max_response_ms=200))  # a snooping switch
        wait_until(lambda: play.heard() == before + 3, "the switch's too")
    assert play.querier.self_
    assert play.counts() == [20, 20]


@covers("FWD-04", "FWD-02")
@BOTH
def test_the_switch_that_forwards_all_the_same(rivals, group, head):
    play = Play(rivals, group, head, forward_when_non_querier=True)
    play.asks(3)
    wait_until(lambda: not play.querier.self_, "the election is lost")
    assert play.counts() == [20, 20]
    from_lan = Source(rivals.net, rivals.rival, "eth0", "10.2.0.3" if play.family.name == "ipv4" else "fd00:2::3")
    assert round_of(from_lan, group, [play.upstream, play.segments[1]], play.segments[1]) == [20, 20]


@covers("FWD-04")
@BOTH
def test_what_is_sent_on_another_queriers_lan_is_for_that_querier_to_carry(rivals, group, head):
    play = Play(rivals, group, head)
    from_lan = Source(rivals.net, rivals.rival, "eth0", "10.2.0.3" if play.family.name == "ipv4" else "fd00:2::3")
    taps = [play.segments[0], play.upstream, play.segments[1]]
    assert round_of(from_lan, group, taps, play.segments[1]) == [20, 20, 20]
    play.asks(3)
    wait_until(lambda: not play.querier.self_, "the election is lost")
    assert round_of(from_lan, group, taps, play.segments[0]) == [20, 0, 0]


# -- two proxies side by side ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_pair():
    with Net() as net:
        made = places(net, "head", "a", "b", "host")
        above, below = switch(net, "above"), switch(net, "below")
        for port, device, host in (("p0", made.head, 2), ("p1", made.a, 3), ("p2", made.b, 4)):
            plug(net, above, port, device, "eth0" if device is made.head else "wan", 1, host)
        for port, device, host in (("p0", made.host, 7), ("p1", made.a, 3), ("p2", made.b, 4)):
            plug(net, below, port, device, "eth0" if device is made.host else "lan", 2, host)
        yield made


@pytest.fixture
def pair(shared_pair):
    yield from tidied(shared_pair)


@covers("FWD-03", "FWD-04", "ELE-01", "ELE-04", "DB-09")
@BOTH
def test_two_proxies_between_the_same_networks_double_nothing_and_stand_in_for_each_other(pair, group, head):
    is_ipv6 = ":" in group
    family = "ipv6" if is_ipv6 else "ipv4"
    above, below = Tap(pair.net, pair.head, "eth0"), Tap(pair.net, pair.host, "eth0")
    a, b = (started(pair, inside, "wan", "lan", query_interval="1s", query_response_interval="200ms") for inside in (pair.a, pair.b))
    wait_until(lambda: a.is_querier("lan", family) and not b.is_querier("lan", family), "a, the lower, is elected")
    joined(pair, pair.host, group)
    wait_until(lambda: group in a.told() and group in b.told(), "both tell the upstream")
    down, up = Source(pair.net, pair.head, "eth0", head), Source(pair.net, pair.host, "eth0", "fd00:2::7" if is_ipv6 else "10.2.0.7")
    flows(down, group, below)
    assert round_of(down, group, [below, above], below) == [20, 0]
    flows(up, group, above)
    assert round_of(up, group, [above, below], above) == [20, 0]
    a.stop()
    wait_until(lambda: b.is_querier("lan", family), "other querier present: 2.1 s", 8)
    flows(down, group, below)
    assert round_of(down, group, [below, above], below) == [20, 0]
    flows(up, group, above)
    assert round_of(up, group, [above, below], above) == [20, 0]


# -- two in a chain ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_chain():
    with Net() as net:
        made = places(net, "head", "a", "b", "host")
        cable(net, 1, made.a, "wan", made.head, "eth0")
        cable(net, 2, made.a, "lan", made.b, "wan")
        cable(net, 3, made.b, "lan", made.host, "eth0")
        yield made


@pytest.fixture
def chain(shared_chain):
    yield from tidied(shared_chain)


@covers("DB-02", "UP-02", "UP-09", "FWD-01", "FWD-02", "QRY-02", "R001", "R013", "R026")
@BOTH
def test_a_proxy_is_a_host_to_the_proxy_above_it(chain, group, head):
    is_ipv6 = ":" in group
    version, us, below_a = ("v2", "fe80::1", "fe80::2") if is_ipv6 else ("v3", "10.1.0.1", "10.2.0.2")
    above, between, below = Tap(chain.net, chain.head, "eth0"), Tap(chain.net, chain.b, "wan"), Tap(chain.net, chain.host, "eth0")
    a, b = (started(chain, inside, "wan", "lan") for inside in (chain.a, chain.b))
    host = joined(chain, chain.host, group)
    down, up = Source(chain.net, chain.head, "eth0", head), Source(chain.net, chain.host, "eth0", "fd00:3::2" if is_ipv6 else "10.3.0.2")
    flows(down, group, below)
    assert round_of(down, group, [below], below) == [20]
    flows(up, group, above)
    assert round_of(up, group, [above], above) == [20]
    wait_until(lambda: f"{version} IS_EX {{}}" in between.reports(group, below_a), "b answers a's query")
    assert not above.queries(us)
    host.block(head)
    wait_until(lambda: f"{version} BLOCK {{{head}}}" in above.reports(group, us), "the filter reaches the head end")
    wait_until(lambda: str(a.told()[group].sources[0]) == str(b.told()[group].sources[0]) == head)
    host.leave()
    wait_until(lambda: f"{version} TO_IN {{}}" in above.reports(group, us), "the leave reaches the head end")
    wait_until(lambda: ("*", group) not in a.mfc() and ("*", group) not in b.mfc())
