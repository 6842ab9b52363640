"""Two real sources, two real hosts, every filter that an application can set: what arrives on which cable.

s1 10.1.0.2 --+
              +-- switch --- wan [router] lan0 --- h0
s2 10.1.0.3 --+                           lan1 --- h1
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.kit.conformance import covers
from tests.kit.live import LiveProxy
from tests.kit.netns import Net, wait_until
from tests.kit.site import cable, counted, flows, instance, plug, switch
from tests.kit.wire import Member, Source, Tap

pytestmark = pytest.mark.kernel
MARK = {4: "239.9.9.9", 6: "ff15::99"}


@pytest.fixture(scope="module")
def cables():
    with Net() as net:
        made = SimpleNamespace(net=net, **{name: net.namespace(name) for name in ("router", "h0", "h1", "s1", "s2")})
        middle = switch(net, "switch")
        for host, (port, device, ifname) in enumerate((("p0", made.router, "wan"), ("p1", made.s1, "eth0"), ("p2", made.s2, "eth0")), 1):
            plug(net, middle, port, device, ifname, 1, host)
        cable(net, 2, made.router, "lan0", made.h0, "eth0")
        cable(net, 3, made.router, "lan1", made.h1, "eth0")
        yield made


class Play:
    """Hosts do something; then who gets what, and what upstream knows and was told, is compared."""

    def __init__(self, cables: SimpleNamespace, group: str, s1: str, s2: str) -> None:
        self.net, self.group, self.s1, self.s2 = cables.net, group, s1, s2
        family = 6 if ":" in group else 4
        self.us = "fe80::1" if family == 6 else "10.1.0.1"
        self.proxy = LiveProxy(self.net, cables.router, instance("wan", "lan0", "lan1", query_interval="60s"))
        self.proxy.ready()
        self.h0, self.h1 = (Member(self.net, host, "eth0", group) for host in (cables.h0, cables.h1))
        self.sources = [Source(self.net, cables.s1, "eth0", s1), Source(self.net, cables.s2, "eth0", s2)]
        self.taps = [Tap(self.net, cables.h0, "eth0"), Tap(self.net, cables.h1, "eth0")]
        self.upstream = Tap(self.net, cables.s2, "eth0")
        self.mark = MARK[family]
        self.marks = [Member(self.net, host, "eth0", self.mark) for host in (cables.h0, cables.h1)]
        for member, tap in zip(self.marks, self.taps, strict=True):
            member.join()
            for source in self.sources:
                flows(source, self.mark, tap)
        self.proxy.ready()

    def _all_through(self, payload: bytes) -> None:
        """What was sent before a mark, from either source, is through when its mark is."""
        for source in self.sources:
            source.send(self.mark, payload + source.address.encode())
        wanted = {payload + source.address.encode() for source in self.sources}
        wait_until(lambda: all(wanted <= {got for _, got in tap.arrivals(self.mark)} for tap in self.taps), "the marks")

    def becomes(self, h0: set[str], h1: set[str], upstream: str, reported: str | None) -> None:
        """`upstream` is the database record, `reported` the state-change record that went out for it (None: not one)."""
        before = getattr(self, "_seen", 0)
        wait_until(lambda: self._told() == upstream, f"upstream {upstream}")
        wait_until(lambda: self._forwarded() == (h0, h1), f"entries for {h0} and {h1}; {self._forwarded()}")
        got = counted(self.sources, self.group, self.taps, self._all_through)
        assert got == [dict.fromkeys(h0, 20), dict.fromkeys(h1, 20)]
        assert self._told() == upstream
        if reported is not None:
            wait_until(
                lambda: reported in self.upstream.reports(self.group, self.us)[before:], f"{reported}: {self.upstream.reports(self.group, self.us)[before:]}"
            )
        else:  # nothing new upstream: only copies of what was said before
            fresh = set(self.upstream.reports(self.group, self.us)[before:])
            assert fresh <= set(self.upstream.reports(self.group, self.us)[:before])
        self._seen = len(self.upstream.reports(self.group, self.us))

    def _told(self) -> str:
        row = self.proxy.told().get(self.group)
        return f"{row.mode} {{{' '.join(map(str, row.sources))}}}" if row is not None else "nothing"

    def _forwarded(self) -> tuple[set[str], ...]:
        """What the kernel's entries let through to each downstream: an exact entry wins over (*,G)."""
        rows = {source: row for (source, group), row in self.proxy.mfc().items() if group == self.group}
        shared = rows["*"].downstreams if "*" in rows else ()
        return tuple({one for one in (self.s1, self.s2) if name in (rows[one].downstreams if one in rows else shared)} for name in ("lan0", "lan1"))


@pytest.fixture(params=[("239.1.1.1", "10.1.0.2", "10.1.0.3"), ("ff15::1", "fd00:1::2", "fd00:1::3")], ids=["igmp", "mld"])
def play(request, cables):
    made = Play(cables, *request.param)
    yield made
    made.proxy.stop()
    for member in (made.h0, made.h1, *made.marks):
        member.close()


@covers("FWD-01", "FWD-06", "MEM-05", "MEM-06", "MEM-09", "MEM-10", "UP-02", "DB-02", "DB-03", "MLD-13", "R003", "R005")
def test_include_exclude_allow_and_block_of_two_hosts(play):
    s1, s2 = play.s1, play.s2
    play.h0.allow(s1)
    play.becomes({s1}, set(), f"include {{{s1}}}", f"{V(play)} ALLOW {{{s1}}}")
    play.h0.allow(s2)
    play.becomes({s1, s2}, set(), f"include {{{s1} {s2}}}", f"{V(play)} ALLOW {{{s2}}}")
    play.h0.disallow(s2)
    play.becomes({s1}, set(), f"include {{{s1}}}", f"{V(play)} BLOCK {{{s2}}}")
    play.h1.join()
    play.becomes({s1}, {s1, s2}, "exclude {}", f"{V(play)} TO_EX {{}}")
    play.h1.block(s1)
    play.becomes({s1}, {s2}, "exclude {}", None)  # EXCLUDE{s1} and INCLUDE{s1} make everything
    play.h0.allow(s2)
    play.becomes({s1, s2}, {s2}, "exclude {}", None)
    play.h0.disallow(s1)
    play.becomes({s2}, {s2}, f"exclude {{{s1}}}", f"{V(play)} BLOCK {{{s1}}}")
    play.h1.unblock(s1)
    play.becomes({s2}, {s1, s2}, "exclude {}", f"{V(play)} ALLOW {{{s1}}}")
    play.h1.leave()
    play.becomes({s2}, set(), f"include {{{s2}}}", f"{V(play)} TO_IN {{{s2}}}")
    play.h0.disallow(s2)
    play.becomes(set(), set(), "nothing", f"{V(play)} BLOCK {{{s2}}}")


@covers("FWD-06", "MEM-07", "MEM-08", "MEM-11", "MEM-12", "UP-06")
def test_a_filter_that_is_replaced_as_a_whole(play):
    s1, s2 = play.s1, play.s2
    play.h0.join()
    play.becomes({s1, s2}, set(), "exclude {}", f"{V(play)} TO_EX {{}}")
    play.h0.filter("include", s1)
    play.becomes({s1}, set(), f"include {{{s1}}}", f"{V(play)} TO_IN {{{s1}}}")
    play.h0.filter("exclude", s1)
    play.becomes({s2}, set(), f"exclude {{{s1}}}", f"{V(play)} TO_EX {{{s1}}}")
    play.h0.filter("exclude", s2)
    play.becomes({s1}, set(), f"exclude {{{s2}}}", f"{V(play)} BLOCK {{{s2}}}")
    play.h0.filter("include", s2)
    play.becomes({s2}, set(), f"include {{{s2}}}", f"{V(play)} TO_IN {{{s2}}}")
    play.h1.join()
    play.becomes({s2}, {s1, s2}, "exclude {}", f"{V(play)} TO_EX {{}}")
    play.h1.filter("exclude", s1, s2)
    play.becomes({s2}, set(), f"exclude {{{s1}}}", f"{V(play)} BLOCK {{{s1}}}")
    play.h0.filter("include")
    play.becomes(set(), set(), f"exclude {{{s1} {s2}}}", f"{V(play)} BLOCK {{{s2}}}")


def V(play) -> str:
    return "v2" if ":" in play.group else "v3"


@covers("LEA-07")
def test_a_lightweight_downstream_gives_all_to_who_excludes_some(play):
    s1, s2 = play.s1, play.s2
    play.proxy.replace(instance("wan", "lan0", {"interface": "lan1", "lite-exclude-filter": True}, query_interval="60s"))
    play.h1.allow(s2)
    play.becomes(set(), {s2}, f"include {{{s2}}}", f"{V(play)} ALLOW {{{s2}}}")
    play.h1.filter("exclude", s1)
    play.becomes(set(), {s1, s2}, "exclude {}", f"{V(play)} TO_EX {{}}")
    row = play.proxy.groups()["lan1", play.group]
    assert (row.mode, [str(one.address) for one in row.sources], row.excluded) == ("exclude", [s2], ())
    play.h1.filter("include", s2)
    play.becomes(set(), {s2}, f"include {{{s2}}}", f"{V(play)} TO_IN {{{s2}}}")
    play.h1.leave()
    play.becomes(set(), set(), "nothing", f"{V(play)} BLOCK {{{s2}}}")
