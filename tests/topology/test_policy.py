"""What may pass: thresholds, groups of the link, local groups, foreign subnets, permanent entries, limits, several tables.

head --- wan [router] lan0 --- h0
                      lan1 --- h1
"""

from __future__ import annotations

import ipaddress
import os
import signal

import pytest

from igmpconf.engine.messages import Query
from tests.kit.agent import Agent
from tests.kit.builders import IS_EX, IS_IN, TO_EX, TO_IN, packed, record
from tests.kit.conformance import covers
from tests.kit.netns import wait_until
from tests.kit.site import MARK, cable, counted, flows, instance, marked, passes
from tests.kit.wire import Member, Source, Stranger, Tap, family_of

pytestmark = pytest.mark.kernel
BOTH = pytest.mark.parametrize(("group", "head"), [pytest.param("239.1.1.1", "10.1.0.2", id="igmp"), pytest.param("ff15::1", "fd00:1::2", id="mld")])


@covers("FWD-07", "R059")
def test_a_threshold_of_n_lets_a_ttl_of_n_pass_and_n_minus_1_not(site):
    group = "239.1.1.1"
    source = site.source("10.1.0.2")
    site.proxy(instance("wan", {"interface": "lan0", "threshold": 10}, "lan1"))
    through = marked(site, source, site.h0, site.h1)
    taps = [site.tap(site.h0), site.tap(site.h1)]
    for host, tap in zip((site.h0, site.h1), taps, strict=True):
        site.member(host, group).join()
        flows(source, group, tap)
    for ttl, expected in ((1, [False, False]), (2, [False, True]), (9, [False, True]), (10, [True, True]), (64, [True, True])):
        source.ttl(ttl)
        assert passes(source, group, taps, through) == expected, ttl
    (hops,) = {one.ttl for one in taps[1].packets if one.destination == group and one.payload[8:].startswith(b"round")} & {63}
    assert hops == 63  # decremented by one


@covers("FWD-07")
def test_ipv6_never_passes_with_a_hop_limit_of_1(site):
    group = "ff15::1"
    source = site.source("fd00:1::2")
    site.proxy()
    through = marked(site, source, site.h0)
    tap = site.tap(site.h0)
    site.member(site.h0, group).join()
    flows(source, group, tap)
    for ttl, expected in ((1, [False]), (2, [True])):
        source.ttl(ttl)
        assert passes(source, group, [tap], through) == expected, ttl


@covers("FWD-08", "FWD-09", "MEM-20", "MLD-17")
@pytest.mark.parametrize(("group", "head"), [("224.0.0.251", "10.1.0.2"), ("224.0.0.5", "10.1.0.2"), ("ff02::fb", "fd00:1::2"), ("ff12::5", "fd00:1::2")])
def test_groups_of_the_link_stay_on_it(site, group, head):
    proxy = site.proxy()
    source, upstream = site.source(head), site.tap(site.head)
    through = marked(site, source, site.h0)
    site.member(site.h0, group).join()
    reports = site.tap(site.h0)
    wait_until(lambda: reports.reports(group), "the host's report")
    assert passes(source, group, [reports], through) == [False]
    assert ("lan0", group) not in proxy.groups()
    assert group not in proxy.told()
    assert not upstream.reports(group, "10.1.0.1" if "." in group else "fe80::1")
    assert not [key for key in proxy.mfc() if key[1] == group]


@covers("FWD-02", "FWD-03")
@pytest.mark.parametrize(("group", "below", "mark"), [("239.255.255.250", "10.3.0.2", "10.1.0.2"), ("ff05::c", "fd00:3::2", "fd00:1::2")])
def test_local_groups_pass_among_the_downstreams_and_not_upstream(site, group, below, mark):
    proxy = site.proxy()
    source, upstream = site.source(below, site.h1), site.tap(site.head)
    site.member(site.h0, group).join()
    tap = site.tap(site.h0)
    flows(source, group, tap)
    through = marked(site, source, site.h0)
    assert passes(source, group, [tap, upstream], through) == [True, False]
    assert group not in proxy.told()
    assert not upstream.reports(group, "10.1.0.1" if "." in group else "fe80::1")


@covers("FWD-16", "QRY-02", "R007", "R024")
def test_membership_messages_are_never_forwarded(site):
    """Not even those that a liar sends with a TTL of 64 to a group that flows."""
    upstream, other, segment = site.tap(site.head), site.tap(site.h1), site.tap(site.h0)
    proxy = site.proxy()
    source = site.source("10.1.0.2")
    through = marked(site, source, site.h0, site.h1)
    site.member(site.h1, "239.1.1.1").join()
    flows(source, "239.1.1.1", other)
    liar = Stranger(site.net, site.h0, "eth0")
    ((_, payload),) = family_of("239.1.1.1").encode_report(2, [record(IS_EX, "239.1.1.1")], 1_500)
    for ttl in (1, 64):
        liar.send("10.2.0.2", "239.1.1.1", payload, ttl=ttl)
    wait_until(lambda: proxy.counter("received-report-v2", "lan0") >= 2)
    liar.query("10.2.0.99", Query(b"", 3, None, max_response_ms=100))
    wait_until(lambda: proxy.counter("received-query-v3", "lan0"))
    through(b"after the lies")
    for tap in (upstream, other):
        assert not [one for one in tap.packets if one.protocol == 2 and one.source.startswith("10.2.") and not one.is_outgoing]
    assert not upstream.queries("10.1.0.1")
    assert segment.queries("10.2.0.1")


@covers("PKT-28", "PKT-27", "ROB-03", "R060")
def test_a_report_from_a_foreign_subnet_is_refused_and_counted_until_the_subnet_is_named(site):
    proxy = site.proxy()
    tap, source = site.tap(site.h0), site.source("10.1.0.2")
    site.member(site.h0, "239.1.1.2").join()
    flows(source, "239.1.1.2", tap)
    stranger = Stranger(site.net, site.h0, "eth0")
    stranger.report("192.168.50.5", 3, record(TO_EX, "239.1.1.1"))
    wait_until(lambda: proxy.counter("rejected-sender", "lan0") == 1, "it is counted")
    assert ("lan0", "239.1.1.1") not in proxy.groups()
    (note,) = proxy.noted("report/foreign-sender")
    assert note.fields["sender"] == "192.168.50.5"
    uptime = proxy.groups()["lan0", "239.1.1.2"].uptime_s
    proxy.replace(instance("wan", {"interface": "lan0", "alternative-subnets": ["192.168.50.0/24"]}, "lan1"))
    stranger.report("192.168.50.5", 3, record(TO_EX, "239.1.1.1"))
    flows(source, "239.1.1.1", tap)
    assert str(proxy.groups()["lan0", "239.1.1.1"].last_reporter) == "192.168.50.5"
    assert proxy.groups()["lan0", "239.1.1.2"].uptime_s >= uptime  # the neighbour's state was not touched
    stranger.report("0.0.0.0", 3, record(TO_EX, "239.1.1.3"))  # a host without an address may ask
    flows(source, "239.1.1.3", tap)


@covers("MLD-03", "MLD-05")
def test_mld_counts_only_from_a_link_local_address_with_router_alert_and_hop_limit_1(site):
    proxy = site.proxy()
    stranger = Stranger(site.net, site.h0, "eth0")
    before = proxy.counter("received-report-v2", "lan0", "ipv6")
    stranger.report("fd00:2::9", 2, record(TO_EX, "ff15::9"))
    wait_until(lambda: proxy.counter("rejected-sender", "lan0", "ipv6") == 1)
    stranger.report("::", 2, record(TO_EX, "ff15::9"))
    wait_until(lambda: proxy.counter("rejected-sender", "lan0", "ipv6") == 2)
    (payload,) = [payload for _, payload in family_of("::").encode_report(2, [record(TO_EX, "ff15::9")], 1_500)]
    stranger.send("fe80::9", "ff02::16", payload, ttl=64)
    wait_until(lambda: proxy.counter("rejected-hop-limit", "lan0", "ipv6") == 1)
    assert ("lan0", "ff15::9") not in proxy.groups()
    assert proxy.counter("received-report-v2", "lan0", "ipv6") >= before
    stranger.report("fe80::9", 2, record(TO_EX, "ff15::9"))
    wait_until(lambda: ("lan0", "ff15::9") in proxy.groups())


# -- permanent entries ---------------------------------------------------------------------------------------------------


@covers("FWD-15", "DB-10", "R019", "R031", "R032")
@BOTH
def test_a_permanent_entry_forwards_without_any_report_and_wins_over_what_is_learned(site, group, head):
    second = "10.1.0.3" if "." in group else "fd00:1::3"
    site.head.run(f"ip addr replace {second}/{24 if '.' in group else 64} dev eth0")
    upstream = site.tap(site.head)
    proxy = site.proxy(instance("wan", "lan0", "lan1", mfc=[{"source": head, "group": group, "downstream-interface": "lan0"}]))
    one, two = site.source(head), site.source(second)
    taps = [site.tap(site.h0), site.tap(site.h1)]
    through = marked(site, two, site.h0, site.h1)
    assert passes(one, group, taps, through) == [True, False]
    assert passes(two, group, taps, through) == [False, False]
    assert proxy.groups().keys() == {("lan0", MARK[family_of(group).name]), ("lan1", MARK[family_of(group).name])}
    wait_until(lambda: any(head in text and ("ALLOW" in text or "IS_IN" in text) for text in upstream.reports(group)), "it is joined upstream")
    site.member(site.h1, group).join()
    flows(two, group, taps[1])
    assert passes(one, group, taps, through) == [True, False]  # the entry is the operator's word about this source
    assert passes(two, group, taps, through) == [False, True]
    assert proxy.mfc()[head, group].kind == "static"
    proxy.replace(instance("wan", "lan0", "lan1"))
    wait_until(lambda: proxy.mfc().get((head, group)) is None)
    assert passes(one, group, taps, through) == [False, True]


@covers("FWD-15", "ROB-04", "R030")
def test_permanent_entries_survive_the_engine_and_the_agent(site, tmp_path):
    config = instance("wan", "lan0", mfc=[{"group": group, "downstream-interface": "lan0"} for group in ("239.1.1.1", "ff15::1")])
    agent = Agent(site.router, tmp_path, {"igmp-proxy": [{"name": "default"} | config]})
    tap = site.tap(site.h0)
    streams = [(site.source("10.1.0.2"), "239.1.1.1"), (site.source("fd00:1::2"), "ff15::1")]
    for source, group in streams:
        flows(source, group, tap)
    first = agent.engine_pid()
    os.kill(first, signal.SIGKILL)
    for source, group in streams:  # nobody has missed anything
        assert sum(counted([source], group, [tap], lambda payload, group=group: wait_until(lambda: _number(tap, group, payload) == 20))[0].values()) == 20
    wait_until(lambda: agent.engine_pid(other_than=first), "the next engine")
    for source, group in streams:
        flows(source, group, tap)
    assert agent.stop() == 0
    assert "Iif" not in site.router.run("ip mroute show")
    agent.start()
    for source, group in streams:
        flows(source, group, tap)
    assert agent.stop() == 0


def _number(tap: Tap, group: str, payload: bytes) -> int:
    return sum(got == payload for _, got in tap.arrivals(group))


# -- limits --------------------------------------------------------------------------------------------------------------


@covers("MEM-27", "ROB-02")
@BOTH
def test_an_attack_fills_the_limits_and_nothing_more_and_who_was_there_keeps_his_stream(site, group, head):
    family = family_of(group)
    lan = {"interface": "lan0", "max-groups": 20, "max-sources-per-group": 10}
    proxy = site.proxy(instance("wan", lan, "lan1"))
    tap, source = site.tap(site.h0), site.source(head)
    site.member(site.h0, group).join()
    flows(source, group, tap)
    attacker = Stranger(site.net, site.h0, "eth0")
    address, version = ("10.2.0.66", 3) if family.name == "ipv4" else ("fe80::66", 2)
    base = int(ipaddress.ip_address("239.7.0.0" if family.name == "ipv4" else "ff15::7:0"))
    groups = [family.text((base + n).to_bytes(family.address_bytes, "big")) for n in range(2_000)]
    received = f"received-report-v{version}"
    for start in range(0, len(groups), 50):
        attacker.report(address, version, *(record(IS_EX, one) for one in groups[start : start + 50]))
    wait_until(
        lambda: proxy.counter("rejected-group-limit", "lan0", family.name) >= 2_000 - 19,
        f"the rest is refused: {proxy.interface('lan0', family.name).counters}",
    )
    state = proxy.state()
    assert len([row for row in state.groups if row.interface == "lan0" and len(row.group.packed) == family.address_bytes]) == 20
    assert len([row for row in state.upstream if len(row.group.packed) == family.address_bytes]) == 20
    assert ("lan0", group) in proxy.groups()
    assert len(proxy.noted("limit/groups")) == 1  # once, not two thousand times
    lots = [f"10.9.0.{n}" if family.name == "ipv4" else f"fd00:9::{n}" for n in range(80)]
    attacker.report(address, version, record(IS_IN, groups[0], *lots))
    attacker.report(address, version, record(TO_IN, groups[0], *lots))
    wait_until(lambda: proxy.counter("rejected-source-limit", "lan0", family.name) >= 1)
    row = proxy.groups()["lan0", groups[0]]
    assert len(row.sources) + len(row.excluded) <= 10
    assert passes(source, group, [tap], lambda payload: wait_until(lambda: _number(tap, group, payload) == 20)) == [True]
    assert proxy.counter(received, "lan0", family.name) >= 40
    site.member(site.h1, groups[500]).join()  # another interface has its own limit
    wait_until(lambda: ("lan1", groups[500]) in proxy.groups())


# -- who hears what we ask -------------------------------------------------------------------------------------------------


@covers("QRY-25")
@BOTH
def test_a_query_about_a_group_to_all_hosts_is_answered_by_the_kernel_like_any(site, group, head):
    family = family_of(group)
    proxy = site.proxy(instance("wan", {"interface": "lan0", "query-destination": "all-hosts"}, "lan1", quick_leave="off", query_interval="60s"))
    tap, source, us = site.tap(site.h0), site.source(head), "10.2.0.1" if family.name == "ipv4" else "fe80::1"
    site.member(site.h0, group).join()
    flows(source, group, tap)
    before = len(tap.reports(group))
    leaver = Stranger(site.net, site.h0, "eth0")
    leaver.report("10.2.0.66" if family.name == "ipv4" else "fe80::66", family.latest_version, record(TO_IN, group))
    wait_until(lambda: f"v{family.latest_version} IS_EX {{}}" in tap.reports(group)[before:], "the other host answers")
    wait_until(lambda: len(_asked(tap, us, group)) == 2)
    assert _asked(tap, us, group) == [family.text(family.all_hosts)] * 2
    assert ("lan0", group) in proxy.groups()
    assert passes(source, group, [tap], lambda payload: wait_until(lambda: _number(tap, group, payload) == 20)) == [True]


def _asked(tap: Tap, us: str, group: str) -> list[str]:
    """Where our queries about the group were sent."""
    asked = [(one.destination, one.message) for one in tap.packets if one.source == us]
    return [where for where, message in asked if isinstance(message, Query) and message.group == packed(group)]


# -- several tables --------------------------------------------------------------------------------------------------------


@pytest.fixture
def second(site):
    """Another provider and another network on the same router: wan2 --- head2, lan2 --- h2."""
    head, host = site.net.namespace("head2"), site.net.namespace("h2")
    cable(site.net, 4, site.router, "wan2", head, "eth0")
    cable(site.net, 5, site.router, "lan2", host, "eth0")
    yield head, host
    site.tidy()
    site.router.run("ip link del wan2")
    site.router.run("ip link del lan2")


@BOTH
def test_instances_in_tables_of_their_own_do_not_know_each_other(site, second, group, head):
    """The same group of two providers: each host gets its own, and an instance that goes takes nothing from the other."""
    head2, host2 = second
    one, two = {"name": "one"} | instance("wan", "lan0", "lan1"), {"name": "two"} | instance("wan2", "lan2")
    proxy = site.proxy(one, two)
    theirs = head.replace("10.1.", "10.4.").replace("fd00:1:", "fd00:4:")
    source, source2 = site.source(head), Source(site.net, head2, "eth0", theirs)
    taps = [site.tap(site.h0), Tap(site.net, host2, "eth0")]
    site.member(site.h0, group).join()
    site.members.append(Member(site.net, host2, "eth0", group))
    site.members[-1].join()
    flows(source, group, taps[0])
    flows(source2, group, taps[1])

    def through(payload: bytes) -> None:
        wait_until(lambda: sum(_number(tap, group, payload) for tap in taps) >= 40)

    assert counted([source, source2], group, taps, through) == [{head: 20}, {theirs: 20}]
    rows = {(row.instance, row.interface) for row in proxy.state().groups if str(row.group) == group}
    assert rows == {("one", "lan0"), ("two", "lan2")}
    rules = site.router.run("ip mrule show" if "." in group else "ip -6 mrule show")
    assert "iif wan2" in rules
    assert "iif lan2" in rules
    proxy.replace(two)
    assert counted([source, source2], group, taps, lambda payload: wait_until(lambda: _number(taps[1], group, payload) == 20)) == [{}, {theirs: 20}]
    proxy.replace(one, two)
    flows(source, group, taps[0])
    assert counted([source, source2], group, taps, through) == [{head: 20}, {theirs: 20}]
    proxy.stop()
    assert "iif wan2" not in site.router.run("ip mrule show") + site.router.run("ip -6 mrule show")
