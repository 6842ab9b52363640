"""Every parameter that can be changed while streams flow: planned, applied, seen to act on the cable, planned again, rolled back.

head --- wan [router] lan0 --- h0
                      lan1 --- h1

A line names what is changed and what the plan has to say; its script, a generator, looks before, yields for the change, looks
at what follows, yields for the rollback, and looks whether all is as before.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from igmpconf.engine.messages import Query, RecordKind, Report
from tests.kit.builders import TO_EX, TO_IN, record
from tests.kit.conformance import covers
from tests.kit.desk import Desk, messages, queries
from tests.kit.netns import wait_until
from tests.kit.site import Site, flows, marked, passes
from tests.kit.wire import Stranger, Tap, packed
from tests.manual.conftest import base, instance_with

pytestmark = pytest.mark.kernel
G, HEAD = "239.1.1.1", "10.1.0.2"
LAN0, LAN1, WAN = "10.2.0.1", "10.3.0.1", "10.1.0.1"  # the router's addresses
OURS = "igmp-proxy[default]/interfaces[lan0]"

Script = Callable[[Site, Desk], Iterator[None]]


def both_families(**interfaces: dict[str, Any]) -> dict[str, Any]:
    made = base(**interfaces)
    made["igmp-proxy"][0]["family"] = ["ipv4", "ipv6"]
    return made


@dataclass(frozen=True)
class Line:
    """One change: `ids` it answers to, the desired state, what the plan says, and the script."""

    ids: str
    desired: dict[str, Any]
    path: str
    after: Any
    script: Script
    level: str = "none"
    groups: tuple[str, ...] = field(default=())  # live groups that the plan must name

    @property
    def name(self) -> str:
        return f"{self.ids}-{self.path.rpartition('/')[2]}".replace(" ", "-")


def watching(site: Site, host, group: str = G):
    """Somebody on `host` has `group`; the tap and the sender."""
    member, tap, source = site.member(host, group), site.tap(host), site.source(HEAD)
    member.join()
    flows(source, group, tap)
    return member, tap, source


def asked_once_more(tap: Tap, sender: str, since_s: float, **wanted: Any) -> Query:
    """The first general query after `since_s` with these values."""

    def found() -> Query | None:
        return next((one for _, one in queries(tap, sender, since_s=since_s) if all(getattr(one, key) == value for key, value in wanted.items())), None)

    return wait_until(found, f"a query with {wanted}: {queries(tap, sender)}")


def left(site: Site, desk: Desk, host, sender: str) -> tuple[float, list[tuple[float, Query]], float]:
    """Somebody on `host` joins and leaves: when that was, the questions of `sender` that followed, and when the upstream was told.

    A host that says each thing once, because a host of the kernel repeats itself at times that nobody knows.
    """
    somebody, tap, upstream = Stranger(site.net, host, "eth0"), site.tap(host), site.tap(site.head)
    address = sender.removesuffix("1") + "55"
    somebody.report(address, 3, record(TO_EX, G))
    wait_until(lambda: desk.mfc(G), "the membership")
    start = time.time()
    somebody.report(address, 3, record(TO_IN, G))

    def told() -> float | None:
        return next((at for at, one in messages(upstream, WAN) if at > start and is_leave(one)), None)

    at_s = wait_until(told, "the upstream is told")
    return start, queries(tap, sender, G, start), at_s


def is_leave(message: Query | Report) -> bool:
    return isinstance(message, Report) and any(one.kind is RecordKind.TO_IN and one.group == packed(G) and not one.sources for one in message.records)


# -- the scripts -----------------------------------------------------------------------------------------------------------


def threshold(site: Site, desk: Desk) -> Iterator[None]:
    source = site.source(HEAD)
    through = marked(site, source, site.h0, site.h1)
    taps = [watching(site, host)[1] for host in (site.h0, site.h1)]

    def at(ttl: int) -> list[bool]:
        source.ttl(ttl)
        return passes(source, G, taps, through)

    assert [at(1), at(2), at(9)] == [[False, False], [True, True], [True, True]]
    yield
    assert [at(1), at(9), at(10), at(64)] == [[False, False], [False, True], [True, True], [True, True]]
    yield
    assert at(9) == [True, True]


def alternative_subnets(site: Site, desk: Desk) -> Iterator[None]:
    stranger, tap, source = Stranger(site.net, site.h0, "eth0"), site.tap(site.h0), site.source(HEAD)

    def says() -> None:
        stranger.report("192.168.50.5", 3, record(TO_EX, G))

    refused = desk.counter("rejected-sender", "lan0")
    says()
    wait_until(lambda: desk.counter("rejected-sender", "lan0") == refused + 1, "it is counted")
    assert "report/foreign-sender" in desk.logs()
    (finding,) = [one for one in desk.findings() if one["code"] == "report/sender"]
    assert (finding["where"], finding["fix"].partition(":")[0]) == ("default/lan0", "alternative-subnets")
    assert not desk.mfc(G)
    yield
    says()
    flows(source, G, tap)
    assert [row["last_reporter"] for row in desk.rows("groups") if row["group"] == G] == ["192.168.50.5"]
    stranger.report("192.168.99.5", 3, record(TO_EX, "239.1.1.9"))
    wait_until(lambda: desk.counter("rejected-sender", "lan0") == refused + 2, "others are refused as before")
    yield
    says()
    wait_until(lambda: desk.counter("rejected-sender", "lan0") == refused + 3, "it is refused again")


def query_interval(site: Site, desk: Desk) -> Iterator[None]:
    taps = [site.tap(site.h0), site.tap(site.h1)]
    asked_once_more(taps[0], LAN0, time.time(), interval_ms=1_000)
    yield
    changed = time.time()

    def paced() -> bool:
        times = [at for at, one in queries(taps[0], LAN0, since_s=changed) if one.interval_ms == 2_000]
        return any(1.85 < b - a < 2.9 for a, b in itertools.pairwise(times))

    wait_until(paced, "two queries 2 s apart")
    assert [row["query_interval_s"] for row in desk.rows("querier")] == [2, 1]  # lan0, lan1
    asked_once_more(taps[1], LAN1, changed, interval_ms=1_000)
    yield
    asked_once_more(taps[0], LAN0, time.time(), interval_ms=1_000)


def query_response_interval(site: Site, desk: Desk) -> Iterator[None]:
    taps = [site.tap(site.h0), site.tap(site.h1)]
    asked_once_more(taps[0], LAN0, time.time(), max_response_ms=400)
    yield
    changed = time.time()
    asked_once_more(taps[0], LAN0, changed, max_response_ms=900)
    asked_once_more(taps[1], LAN1, changed, max_response_ms=400)
    yield
    asked_once_more(taps[0], LAN0, time.time(), max_response_ms=400)


def last_member_interval(site: Site, desk: Desk) -> Iterator[None]:
    def rounds(host, sender: str) -> tuple[list[int], float, float]:
        """Response times asked for, the distance of the questions, and how long until the upstream was told, in s."""
        start, asked, told = left(site, desk, host, sender)
        return [one.max_response_ms for _, one in asked], asked[1][0] - asked[0][0], told - start

    response, apart, took = rounds(site.h0, LAN0)
    assert response == [200, 200]
    assert apart > 0.1
    assert took > 0.35
    yield
    response, apart, took = rounds(site.h0, LAN0)
    assert response == [500, 500]
    assert apart > 0.35
    assert took > 0.95  # two questions, each with its time to answer
    response, apart, took = rounds(site.h1, LAN1)
    assert response == [200, 200]
    yield
    assert rounds(site.h0, LAN0)[0] == [200, 200]


def robustness(site: Site, desk: Desk) -> Iterator[None]:
    tap = site.tap(site.h0)
    assert len(left(site, desk, site.h0, LAN0)[1]) == 2
    yield
    asked_once_more(tap, LAN0, time.time(), robustness=3)
    assert len(left(site, desk, site.h0, LAN0)[1]) == 3
    assert len(left(site, desk, site.h1, LAN1)[1]) == 2
    assert [row["robustness"] for row in desk.rows("querier")] == [3, 2]
    yield
    assert len(left(site, desk, site.h0, LAN0)[1]) == 2


def quick_leave(site: Site, desk: Desk) -> Iterator[None]:
    def waited(host, sender: str) -> float:
        """From the first question to what the upstream is told, in s."""
        _, asked, told = left(site, desk, host, sender)
        return told - asked[0][0]

    assert waited(site.h0, LAN0) > 0.25  # two intervals of 0.2 s
    yield
    assert waited(site.h0, LAN0) < 0.25  # in the same turn as the question
    assert waited(site.h1, LAN1) > 0.25
    yield
    assert waited(site.h0, LAN0) > 0.25


def spoken_version(site: Site, desk: Desk) -> Iterator[None]:
    taps = [site.tap(site.h0), site.tap(site.h1)]
    yield
    changed = time.time()
    asked_once_more(taps[0], LAN0, changed, version=2)
    asked_once_more(taps[1], LAN1, changed, version=3)
    assert [desk.interface(name)["version"] for name in ("lan0", "lan1")] == [2, 3]
    yield
    asked_once_more(taps[0], LAN0, time.time(), version=3)


def source_address(site: Site, desk: Desk) -> Iterator[None]:
    tap = site.tap(site.h0)
    yield
    asked_once_more(tap, "10.2.0.77", 0)
    yield
    asked_once_more(tap, LAN0, time.time())


def downstream_off(site: Site, desk: Desk) -> Iterator[None]:
    """The other downstream keeps its stream without a gap."""
    _, tap0, source = watching(site, site.h0)
    _, tap1, _ = watching(site, site.h1)
    source2 = site.source(HEAD)
    through = marked(site, source2, site.h1)
    assert passes(source, G, [tap0, tap1], through) == [True, True]
    yield
    assert passes(source, G, [tap0, tap1], through) == [False, True]
    row = desk.interface("lan0")
    assert row is None or not row["enabled"]
    yield
    flows(source, G, tap0)  # the first query after the rollback finds the member
    assert passes(source, G, [tap1], through) == [True]


def instance_off(site: Site, desk: Desk) -> Iterator[None]:
    _, tap, source = watching(site, site.h0)
    upstream = site.tap(site.head)
    yield
    wait_until(lambda: any(is_leave(one) for _, one in messages(upstream, WAN)), "a polite goodbye")
    assert "Iif" not in site.router.run("ip mroute show")
    assert desk.rows("mfc") == []
    yield
    flows(source, G, tap)


def other_roles(site: Site, desk: Desk) -> Iterator[None]:
    """The head end moves behind lan1: what h0 watches comes from there."""
    _, tap, source = watching(site, site.h0)
    moved = site.source("10.3.0.2", site.h1)
    there = site.tap(site.h1)
    yield
    flows(moved, G, tap)
    wait_until(lambda: there.reports(G, LAN1), "the new upstream is told")
    assert {row["interface"]: row["role"] for row in desk.rows("interfaces")} == {"lan0": "downstream", "lan1": "upstream", "wan": "downstream"}
    yield
    flows(source, G, tap)


def static_entry(site: Site, desk: Desk) -> Iterator[None]:
    tap, source, upstream = site.tap(site.h0), site.source(HEAD), site.tap(site.head)
    assert desk.mfc(G) == []
    yield
    flows(source, G, tap)
    assert [row for row in desk.rows("groups") if row["group"] == G] == []
    (row,) = desk.mfc(G)
    assert (row["source"], row["kind"], row["downstreams"], row["upstream"]) == (HEAD, "static", ["lan0"], "wan")
    wait_until(lambda: any(HEAD in text for text in upstream.reports(G, WAN)), "the membership is held upstream")
    wait_until(lambda: (one := desk.mfc(G)[0])["packets"] and one["bytes"] and one["state"] == "forwarding", "it counts")
    yield
    assert desk.mfc(G) == []
    wait_until(lambda: any("BLOCK" in text or "TO_IN" in text for text in upstream.reports(G, WAN)), "the membership is given up")


def static_group(site: Site, desk: Desk) -> Iterator[None]:
    tap, source = site.tap(site.h0), site.source(HEAD)
    yield
    flows(source, G, tap)
    yield
    assert desk.mfc(G) == []


def the_same_for_mld(site: Site, desk: Desk) -> Iterator[None]:
    """All timers at once, for listeners of IPv6; the other downstream keeps the values of the instance."""
    group, ours = "ff15::1", "fe80::1"
    taps = [site.tap(site.h0), site.tap(site.h1)]
    assert desk.interface("lan0", "ipv6") is None
    yield
    asked_once_more(taps[0], ours, 0, interval_ms=2_000, max_response_ms=900, robustness=3)
    asked_once_more(taps[1], ours, 0, interval_ms=1_000, max_response_ms=400, robustness=2)
    somebody = Stranger(site.net, site.h0, "eth0")
    somebody.report("fe80::55", 2, record(TO_EX, group))
    wait_until(lambda: desk.mfc(group), "the membership")
    flows(site.source("fd00:1::2"), group, taps[0])
    start = time.time()
    somebody.report("fe80::55", 2, record(TO_IN, group))
    wait_until(lambda: not desk.mfc(group), "the group ends")
    asked = queries(taps[0], ours, group, start)
    assert [one.max_response_ms for _, one in asked] == [500, 500, 500]
    yield
    assert desk.interface("lan0", "ipv6") is None


def denied(site: Site, desk: Desk) -> Iterator[None]:
    _, tap, source = watching(site, site.h0)
    through = marked(site, source, site.h0)
    yield
    assert passes(source, G, [tap], through) == [False]
    assert [row for row in desk.rows("groups") if row["group"] == G] == []
    yield
    flows(source, G, tap)  # the host answers the next query


def limited(site: Site, desk: Desk) -> Iterator[None]:
    watching(site, site.h0)
    yield
    refused = desk.counter("rejected-group-limit", "lan0")
    site.member(site.h0, "239.1.1.2").join()
    wait_until(lambda: desk.counter("rejected-group-limit", "lan0") > refused, "the second group is refused")
    assert desk.mfc(G)
    assert desk.mfc("239.1.1.2") == []
    yield
    wait_until(lambda: desk.mfc("239.1.1.2"), "it is let in at the next query")


LINES = [
    Line("R059 R065", base(lan0={"threshold": 10}), f"{OURS}/threshold", 10, threshold, "interrupts", (G,)),
    Line("R060 R065", base(lan0={"alternative-subnets": ["192.168.50.0/24"]}), f"{OURS}/alternative-subnets", ["192.168.50.0/24"], alternative_subnets),
    Line("R061 R065 R036", base(lan0={"query-interval": "2s"}), f"{OURS}/query-interval", "2s", query_interval),
    Line("R062 R065", base(lan0={"query-response-interval": "900ms"}), f"{OURS}/query-response-interval", "900ms", query_response_interval),
    Line("R063 R065 R023", base(lan0={"last-member-interval": "500ms"}), f"{OURS}/last-member-interval", "500ms", last_member_interval),
    Line("R064 R065", base(lan0={"robustness": 3}), f"{OURS}/robustness", 3, robustness),
    Line("R023", base(lan0={"quick-leave": "on"}), f"{OURS}/quick-leave", "on", quick_leave),
    Line("R002 R003", base(lan0={"version": 2}), f"{OURS}/version", 2, spoken_version),
    Line("R036", base(lan0={"source-address": "10.2.0.77"}), f"{OURS}/source-address", "10.2.0.77", source_address),
    Line("R046 R039", base(lan0={"enabled": False}), f"{OURS}/enabled", False, downstream_off, "interrupts", (G,)),
    Line("R040 R023", instance_with(enabled=False), "igmp-proxy[default]/enabled", False, instance_off, "interrupts", (G,)),
    Line(
        "R008 R058", base(wan={"upstream": False}, lan1={"upstream": True}), "igmp-proxy[default]/interfaces[lan1]/upstream", True, other_roles, "rejoin", (G,)
    ),
    Line(
        "R019 R027 R029 R032 R048",
        instance_with(mfc=[{"source": HEAD, "group": G, "downstream-interface": "lan0"}]),
        f"igmp-proxy[default]/mfc[{HEAD},{G}]",
        {"source": HEAD, "group": G, "downstream-interface": ["lan0"]},
        static_entry,
    ),
    Line("R032", base(lan0={"static-groups": [G]}), f"{OURS}/static-groups[{G},*]", {"group": G, "source": "*"}, static_group),
    Line(
        "R097",
        base(lan0={"groups": [{"action": "deny", "group": ["239.1.0.0/16"]}]}),
        f"{OURS}/groups[1]",
        {"sequence": 1, "action": "deny", "group": ["239.1.0.0/16"]},
        denied,
        "interrupts",
        (G,),
    ),
    Line(
        "R005 R006 R065",
        both_families(lan0={"query-interval": "2s", "query-response-interval": "900ms", "last-member-interval": "500ms", "robustness": 3}),
        "igmp-proxy[default]/family",
        ["ipv4", "ipv6"],
        the_same_for_mld,
    ),
    Line("R018", base(lan0={"max-groups": 1}), f"{OURS}/max-groups", 1, limited),
]


@covers(aspects=("desired", "plan", "apply", "live", "rollback", "drift"))
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_a_change_is_planned_applied_seen_and_rolled_back(site, desk, line):
    script = line.script(site, desk)
    next(script)
    changes = {change["path"]: change for change in desk.plans(line.desired)}
    assert changes[line.path]["after"] == line.after, changes
    impact = changes[line.path]["impact"]
    live = {group["group"] for group in impact["groups"]}
    assert (impact["level"], set(line.groups) <= live) == (line.level, True), impact
    desk.applies(line.desired)
    next(script)
    assert desk.runs(line.desired), "the second plan is not empty"
    commits = desk.history()
    desk.applies(line.desired)
    assert desk.history() == commits, "a second apply made a commit"
    drifted = desk("drift", "-f", desk.wants(base()), "-d", desk.device, code=2)  # for who wants the base, somebody else's change
    assert line.path.rpartition("/")[2].partition("[")[0] in drifted.out
    desk.back()
    assert desk.runs(base())
    assert next(script, "over") == "over"
