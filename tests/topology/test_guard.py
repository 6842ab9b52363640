"""What forwarding entries alone would let through, on the real kernel: strangers' streams, and local groups that nobody joined.

head --- wan [router] lan0 --- h0
                      lan1 --- h1
"""

from __future__ import annotations

import pytest

from tests.kit.conformance import covers
from tests.kit.live import LiveProxy
from tests.kit.netns import wait_until
from tests.kit.site import counted, flows, instance

pytestmark = pytest.mark.kernel

MARK = {"ipv4": "239.8.9.9", "ipv6": "ff0e::8:9"}
FOREIGN = {"ipv4": "10.99.0.2", "ipv6": "fd00:99::2"}


@pytest.fixture
def proxy(site, tmp_path):
    made = LiveProxy(site.net, site.router, state_dir=tmp_path / "state")
    site.proxies.append(made)
    site.head.run(f"ip addr add {FOREIGN['ipv4']}/24 dev eth0")
    site.head.run(f"ip addr add {FOREIGN['ipv6']}/64 dev eth0 nodad")
    yield made
    site.tidy()
    for address, length in ((FOREIGN["ipv4"], 24), (FOREIGN["ipv6"], 64)):
        site.head.run(f"ip addr del {address}/{length} dev eth0")
    site.router.run("nft flush ruleset")


def configured(*downstreams, upstream=(), **more) -> dict:
    return {"igmp-proxy": [{"name": "default"} | instance({"interface": "wan", "alternative-subnets": list(upstream)}, *downstreams, **more)]}


def marked(source, tap, mark: str):
    """A way to be sure that what `source` sent before is through: a group that the tap has."""

    def send(payload: bytes) -> None:
        source.send(mark, payload)
        wait_until(lambda: payload in {got for _, got in tap.arrivals(mark)}, "the mark")

    return send


def rules(site) -> str:
    return site.router.run("nft list tables")


@covers("FWD-13")
@pytest.mark.parametrize(
    ("family", "group", "own", "allowed"),
    [("ipv4", "239.8.1.1", "10.1.0.2", "10.99.0.0/16"), ("ipv6", "ff0e::8:1", "fd00:1::2", "fd00:99::/64")],
)
def test_an_upstream_with_alternative_subnets_takes_streams_from_there_and_its_own_subnets_only(site, proxy, family, group, own, allowed):
    other = {"ipv4": "10.98.0.0/16", "ipv6": "fd00:98::/64"}[family]
    proxy.configure(configured("lan0", "lan1"))
    proxy.ready()
    member = site.member(site.h0, group)
    member.join()
    tap, near, far = site.tap(site.h0), site.source(own), site.source(FOREIGN[family])
    flows(far, group, tap)  # whoever it is: nothing is said yet
    assert "igmpconf " not in rules(site) + " "
    proxy.configure(configured("lan0", "lan1", upstream=[other]))

    site.member(site.h0, MARK[family]).join()
    flows(near, MARK[family], tap)
    (got,) = counted([near, far], group, [tap], marked(near, tap, MARK[family]))
    assert got == {near.address: 20}
    wait_until(lambda: proxy.counter("dropped-foreign-source", "wan", family) == 20, "each of them counted")
    proxy.configure(configured("lan0", "lan1", upstream=[other, allowed]))
    flows(far, group, tap)
    proxy.configure(configured("lan0", "lan1"))
    flows(far, group, tap)
    assert "inet igmpconf\n" not in rules(site)


@covers("FWD-13")
def test_the_upstreams_own_subnets_are_followed_and_what_somebody_removes_comes_back(site, proxy):
    group = "239.8.1.2"
    proxy.configure(configured("lan0", "lan1", upstream=["10.98.0.0/16"]))
    proxy.ready()
    site.member(site.h0, group).join()
    tap, near, far = site.tap(site.h0), site.source("10.1.0.2"), site.source(FOREIGN["ipv4"])
    flows(near, group, tap)
    site.router.run("ip addr add 10.99.0.1/24 dev wan")
    flows(far, group, tap)  # the sender is a neighbour now
    site.router.run("ip addr del 10.99.0.1/24 dev wan")

    site.member(site.h0, MARK["ipv4"]).join()
    flows(near, MARK["ipv4"], tap)

    def is_closed() -> bool:
        (got,) = counted([far], group, [tap], marked(near, tap, MARK["ipv4"]))
        return not got

    wait_until(is_closed, "a stranger again")
    site.router.run("nft flush ruleset")
    wait_until(is_closed, "the rule is back")
    assert proxy.noted("surroundings/put-right")


@covers("FWD-02")
@pytest.mark.parametrize(
    ("family", "group", "prefix", "head", "below"),
    [("ipv4", "239.192.7.1", "239.192.0.0/14", "10.1.0.2", "10.3.0.2"), ("ipv6", "ff08::7:1", "ff08::/16", "fd00:1::2", "fd00:3::2")],
)
def test_a_local_prefix_stays_among_the_downstreams_joined_or_not(site, proxy, family, group, prefix, head, below):
    mark = MARK[family]
    proxy.configure(configured("lan0", "lan1", local_groups=[prefix]))
    proxy.ready()
    outside, inside = site.source(head), site.source(below, site.h1)
    above, listener = site.tap(site.head), site.tap(site.h0)
    site.member(site.h0, mark).join()
    flows(outside, mark, listener)

    # nobody has joined: (*,*) would take it upstream, as it does with the mark
    assert counted([inside], group, [above], marked(inside, above, mark)) == [{}]
    wait_until(lambda: proxy.counter("dropped-local-group", "wan", family) == 20, "counted")
    site.member(site.h0, group).join()
    flows(inside, group, listener)
    assert counted([inside], group, [above], marked(inside, above, mark)) == [{}]
    assert counted([outside], group, [listener], marked(outside, listener, mark)) == [{}]
    assert group not in proxy.told()
