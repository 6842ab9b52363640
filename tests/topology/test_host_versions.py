"""Kernel hosts that speak each version of IGMP and MLD, below and above the proxy.

head --- wan [router] lan0 --- h0 (force_igmp_version, force_mld_version)
"""

from __future__ import annotations

import pytest

from igmpconf.engine.family import MLD
from igmpconf.engine.messages import Query
from tests.kit.builders import IS_EX, record
from tests.kit.conformance import covers
from tests.kit.netns import sysctl, wait_until
from tests.kit.site import flows, instance
from tests.kit.wire import Stranger, family_of

pytestmark = pytest.mark.kernel
VERSIONS = [pytest.param("239.1.1.1", 1), pytest.param("239.1.1.1", 2), pytest.param("239.1.1.1", 3), pytest.param("ff15::1", 1), pytest.param("ff15::1", 2)]
SOURCE = {"ipv4": "10.1.0.2", "ipv6": "fd00:1::2"}
HOST = {"ipv4": "10.2.0.2", "ipv6": "fe80::2"}
US = {"ipv4": "10.1.0.1", "ipv6": "fe80::1"}
US_BELOW = {"ipv4": "10.2.0.1", "ipv6": "fe80::1"}


@pytest.fixture(autouse=True)
def _forget_versions(site):
    yield
    sysctl(site.h0, "ipv4/conf/eth0/force_igmp_version", 0)
    sysctl(site.h0, "ipv6/conf/eth0/force_mld_version", 0)


def speaks(site, family, version: int) -> None:
    """Make the host one of an older version, which repeats its report soon."""
    name = "ipv6/conf/eth0/force_mld_version" if family is MLD else "ipv4/conf/eth0/force_igmp_version"
    sysctl(site.h0, name, 0 if version == family.latest_version else version)


def forwarded(proxy, interface: str, group: str) -> bool:
    row = proxy.mfc().get(("*", group))
    return row is not None and interface in row.downstreams


@covers("OLD-02", "OLD-03", "OLD-05", "MEM-21", "MEM-29", "MLD-14", "LEA-01", "UP-16", "UP-20", "UP-21", "UP-23", "R002", "R003", "R004", "R005", "R006")
@pytest.mark.parametrize(("group", "version"), VERSIONS)
def test_a_host_of_each_version_joins_gets_the_stream_and_leaves(site, group, version):
    """The upstream speaks the host's version too, so each is seen on both sides of the proxy."""
    family = family_of(group)
    speaks(site, family, version)
    with_timeout = {"query-interval": "1s", "query-response-interval": "100ms", "robustness": 1} if version == 1 else {}
    proxy = site.proxy(instance({"interface": "wan", family.version_leaf: version}, {"interface": "lan0"} | with_timeout, quick_leave="off"))
    upstream, segment, host = site.tap(site.head), site.tap(site.h0), site.member(site.h0, group)
    source = site.source(SOURCE[family.name])
    host.join()
    flows(source, group, segment)
    wait_until(lambda: host.received > 0, "the application has it")
    row = proxy.groups()["lan0", group]
    assert (row.mode, row.version, str(row.last_reporter)) == ("exclude", version, HOST[family.name])
    assert proxy.told()[group].version == version
    first = {3: "v3 TO_EX {}", 2: "v2 IS_EX {}" if family is not MLD else "v2 TO_EX {}", 1: "v1 IS_EX {}"}[version]
    wait_until(lambda: upstream.reports(group, US[family.name])[:1] == [first], f"{first}: {upstream.reports(group)}")
    assert {text.split()[0] for text in segment.reports(group, HOST[family.name])} == {f"v{version}"}
    host.leave()
    wait_until(lambda: not forwarded(proxy, "lan0", group), "the stream ends")
    assert ("lan0", group) not in proxy.groups()
    says_so = {3: "v3 TO_IN {}", 2: "v2 TO_IN {}", 1: "v1 TO_IN {}"}[version]
    asked = [one for one in segment.queries(US_BELOW[family.name]) if one.group is not None]
    if family is not MLD and version == 1:  # RFC 1112: nobody says that he leaves, time does
        assert set(upstream.reports(group)) == {first}
        assert not asked
    else:
        wait_until(lambda: says_so in upstream.reports(group, US[family.name]), f"{says_so}: {upstream.reports(group)}")
        assert len(asked) >= (2 if not with_timeout else 1)  # RFC 3376 8.9: as many as the robustness says, and the host repeats its leave
    assert not proxy.noted("kernel/refused")


@covers("UP-12", "UP-14", "UP-17", "MLD-16", "OLD-08", "ELE-12", "MLD-15", "R006", "R025")
@pytest.mark.parametrize(("group", "version"), VERSIONS)
def test_an_older_querier_upstream_makes_us_speak_its_version(site, group, version):
    """The head end asks in `version`; a host of the latest version below does not notice."""
    family = family_of(group)
    upstream, segment, host = site.tap(site.head), site.tap(site.h0), site.member(site.h0, group)
    proxy = site.proxy()
    host.join()
    flows(site.source(SOURCE[family.name]), group, segment)
    before = len(upstream.reports(group))
    asker = Stranger(site.net, site.head, "eth0")
    asker.query(SOURCE["ipv4"] if family is not MLD else "fe80::2", Query(b"", version, None, max_response_ms=100 if version > 1 or family is MLD else 10_000))
    if version > 1 or family is MLD:  # an IGMPv1 query leaves ten seconds
        words = "IS_EX {}"
        wait_until(lambda: f"v{version} {words}" in upstream.reports(group, US[family.name])[before:], f"the answer: {upstream.reports(group)}")
    wait_until(lambda: proxy.told()[group].version == version)
    assert proxy.groups()["lan0", group].version == family.latest_version
    assert proxy.interface("wan", family.name).version == version
    assert {one.version for one in segment.queries(US_BELOW[family.name])} == {family.latest_version}
    host.leave()
    leaves = f"v{version} TO_IN {{}}"
    wait_until(lambda: ("lan0", group) not in proxy.groups(), "the leave")
    if version > 1 or family is MLD:
        wait_until(lambda: leaves in upstream.reports(group), leaves)


@covers("OLD-09", "OLD-10", "MLD-22")
@pytest.mark.parametrize(("group", "version"), [("239.1.1.1", 1), ("239.1.1.1", 2), ("ff15::1", 1)])
def test_versions_that_are_not_heard_bring_no_stream_and_no_fallback(site, group, version):
    """The kernel's host speaks `version`, the head end asks in it, and neither is heard; then, while running, only the host is."""
    family = family_of(group)
    latest = {family.minimum_version_leaf: family.latest_version}
    speaks(site, family, version)
    proxy = site.proxy(instance({"interface": "wan"} | latest, {"interface": "lan0"} | latest))
    upstream, segment, host = site.tap(site.head), site.tap(site.h0), site.member(site.h0, group)
    source = site.source(SOURCE[family.name])
    host.join()
    wait_until(lambda: proxy.counter("rejected-older-version", "lan0", family.name) > 0, "the report was counted")
    assert f"v{version} IS_EX {{}}" in segment.reports(group, HOST[family.name])
    assert ("lan0", group) not in proxy.groups()
    assert proxy.mfc().get(("*", group)) is None
    speaks(site, family, family.latest_version)
    host.leave()
    host.join()
    flows(source, group, segment)
    wait_until(lambda: host.received > 0, "the application has it")
    asker = Stranger(site.net, site.head, "eth0")
    asker.query(SOURCE["ipv4"] if family is not MLD else "fe80::2", Query(b"", version, None, max_response_ms=100))
    wait_until(lambda: proxy.counter("rejected-older-version", "wan", family.name) > 0, "the query was counted")
    assert proxy.interface("wan", family.name).version == family.latest_version
    host.leave()
    says_so = f"v{family.latest_version} TO_IN {{}}"
    wait_until(lambda: says_so in upstream.reports(group, US[family.name]), f"{says_so}: {upstream.reports(group)}")
    assert {text.split()[0] for text in upstream.reports(group, US[family.name])} == {f"v{family.latest_version}"}
    speaks(site, family, version)
    proxy.replace(instance({"interface": "wan"} | latest, "lan0"))
    host.join()
    wait_until(lambda: ("lan0", group) in proxy.groups(), "the host is heard")
    assert proxy.groups()["lan0", group].version == version


@covers("OLD-01", "OLD-02", "OLD-04", "OLD-06")
def test_an_old_host_beside_a_new_one_decides_how_a_group_is_left(site):
    """As long as the v2 host of 239.1.1.1 is remembered, the v3 host's sources do not count."""
    group = "239.1.1.1"
    proxy = site.proxy(instance("wan", "lan0", query_interval="1s", query_response_interval="100ms", robustness=1))
    old = Stranger(site.net, site.h0, "eth0")
    segment, host = site.tap(site.h0), site.member(site.h0, group)
    host.join()
    host.block("10.1.0.2")
    wait_until(lambda: proxy.groups().get(("lan0", group)) and proxy.groups()["lan0", group].excluded, "the v3 host's filter")
    old.report("10.2.0.9", 2, record(IS_EX, group))
    wait_until(lambda: proxy.groups()["lan0", group].version == 2)
    flows(site.source("10.1.0.2"), group, segment)
    wait_until(lambda: proxy.groups()["lan0", group].version == 3, "older host present interval: 1.1 s")  # RFC 3376 8.13
