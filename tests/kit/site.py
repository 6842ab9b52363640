"""A proxy's surroundings on the real kernel, both families on every cable.

Cable N carries 10.N.0.0/24 and fd00:N::/64; the router is .1, whoever is at the other end .2 and up.  Link-local
addresses are fe80::1, fe80::2 and so on, so that elections come out as the test wants them.

    head --- wan [router] lan0 --- h0
                          lan1 --- h1
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from tests.kit.live import LiveProxy
from tests.kit.netns import Namespace, Net, sysctl, wait_until
from tests.kit.wire import Member, Source, Tap, family_of

TIMES = {"query-interval": "2s", "query-response-interval": "400ms", "last-member-interval": "200ms"}
BOTH = ["ipv4", "ipv6"]
MARK = {"ipv4": "239.9.9.9", "ipv6": "ff15::99"}


def instance(upstream: str | dict, *downstreams: str | dict, **leaves) -> dict:
    """A proxy instance of both families with short times; an interface is its name or its leaves."""
    top = {"interface": upstream} if isinstance(upstream, str) else upstream
    return {"family": BOTH, "interfaces": [top | {"upstream": True}, *downstreams]} | TIMES | {key.replace("_", "-"): value for key, value in leaves.items()}


def addressed(inside: Namespace, ifname: str, cable: int, number: int) -> None:
    """Give an interface its addresses on a cable, and nothing else."""
    inside.run(f"ip -6 addr flush dev {ifname}")
    inside.run(f"ip addr add 10.{cable}.0.{number}/24 dev {ifname}")
    for address in (f"fd00:{cable}::{number}", f"fe80::{number}"):
        inside.run(f"ip addr add {address}/64 dev {ifname} nodad")
    sysctl(inside, f"ipv4/conf/{ifname}/rp_filter", 0)


def cable(net: Net, number: int, a: Namespace, a_name: str, b: Namespace, b_name: str) -> None:
    """`a` is .1, `b` is .2."""
    net.veth(a, a_name, b, b_name)
    addressed(a, a_name, number, 1)
    addressed(b, b_name, number, 2)


def switch(net: Net, name: str, *, snooping: bool = False) -> Namespace:
    """An Ethernet switch: br0 without ports."""
    made = net.namespace(name)
    made.run(f"ip link add br0 type bridge mcast_snooping {int(snooping)}")
    made.run("ip link set br0 up")
    return made


def plug(net: Net, into: Namespace, port: str, device: Namespace, ifname: str, number: int, host: int) -> None:
    """Connect `device` to a switch; it gets address `host` of cable `number`."""
    net.veth(into, port, device, ifname)
    into.run(f"ip link set {port} master br0")
    addressed(device, ifname, number, host)


class Site:
    """head, router, h0 and h1 as drawn above; `proxy` is what runs on the router."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.head, self.router, self.h0, self.h1 = (net.namespace(name) for name in ("head", "router", "h0", "h1"))
        cable(net, 1, self.router, "wan", self.head, "eth0")
        cable(net, 2, self.router, "lan0", self.h0, "eth0")
        cable(net, 3, self.router, "lan1", self.h1, "eth0")
        self.proxies: list[LiveProxy] = []
        self.members: list[Member] = []

    def proxy(self, *proxies: dict) -> LiveProxy:
        """The instance that uses all of it, unless told otherwise."""
        made = LiveProxy(self.net, self.router)
        self.proxies.append(made)
        made.replace(*(proxies or (instance("wan", "lan0", "lan1"),)))
        made.ready()
        return made

    def member(self, host: Namespace, group: str) -> Member:
        made = Member(self.net, host, "eth0", group)
        self.members.append(made)
        return made

    def source(self, address: str, inside: Namespace | None = None, **more: int) -> Source:
        return Source(self.net, inside or self.head, "eth0", address, **more)

    def tap(self, inside: Namespace) -> Tap:
        return Tap(self.net, inside, "eth0")

    def tidy(self) -> None:
        """End what a test started."""
        for proxy in self.proxies:
            if proxy.is_running:
                proxy.stop()
        for member in self.members:
            member.close()
        self.proxies.clear()
        self.members.clear()


_rounds = itertools.count()


def flows(source: Source, group: str, tap: Tap) -> None:
    """Send until one arrives at the tap."""
    payload = b"probe %d" % next(_rounds)

    def one() -> bool:
        source.send(group, payload)
        return any(got == payload for _, got in tap.arrivals(group))

    wait_until(one, f"{group} from {source.address}")


def counted(sources: Iterable[Source], group: str, taps: Iterable[Tap], last: Callable[[bytes], None], number: int = 20) -> list[dict[str, int]]:
    """Datagrams of one round by source, for each tap; every source sends `number`, then `last` makes sure that all are through."""
    payload = b"round %d" % next(_rounds)
    for _ in range(number):
        for source in sources:
            source.send(group, payload)
    last(payload)
    found = []
    for tap in taps:
        counts: dict[str, int] = {}
        for source, got in tap.arrivals(group):
            if got == payload:
                counts[source] = counts.get(source, 0) + 1
        found.append(counts)
    return found


def marked(site: Site, source: Source, *hosts: Namespace) -> Callable[[bytes], None]:
    """A way to be sure that what `source` sent before is through: a group that all `hosts` have."""
    mark = MARK[family_of(source.address).name]
    taps = [site.tap(host) for host in hosts]
    for host, tap in zip(hosts, taps, strict=True):
        site.member(host, mark).join()
        flows(source, mark, tap)

    def through(payload: bytes) -> None:
        source.ttl(16)
        source.send(mark, payload)
        wait_until(lambda: all(payload in {got for _, got in tap.arrivals(mark)} for tap in taps), "the mark")

    return through


def passes(source: Source, group: str, taps: Iterable[Tap], through: Callable[[bytes], None]) -> list[bool]:
    """Whether a round of datagrams reaches each of the taps: all of it or none."""
    got = [sum(one.values()) for one in counted([source], group, taps, through)]
    assert set(got) <= {0, 20}
    return [number == 20 for number in got]
