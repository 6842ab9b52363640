"""Versions that are not heard: `minimum-version` and `minimum-mld-version`, below and above the proxy (RFC 3376 9, RFC 3810 10)."""

from __future__ import annotations

import pytest

from igmpconf.engine.family import IGMP, MLD, Family
from tests.kit.builders import ALLOW, G2, IS_EX, S1, TO_EX, TO_IN, G, a_query, asks, config, leaves, record, route, says
from tests.kit.conformance import covers
from tests.kit.playbook import Play, a_proxy

G6 = "ff0e::1:1"
OLDER = [pytest.param(2, 1, id="v1 below 2"), pytest.param(3, 1, id="v1 below 3"), pytest.param(3, 2, id="v2 below 3")]
EITHER = [pytest.param(IGMP, G, id="IGMP"), pytest.param(MLD, G6, id="MLD")]


def least_of(family: Family) -> dict[str, int]:
    """Nothing but the latest version."""
    return {family.minimum_version_leaf: family.latest_version}


def strict(family: Family, *, where: str = "lan0", **more: object) -> Play:
    """A proxy that hears the latest version only on `where`; the startup queries are over."""
    interfaces = [{"interface": name} | (least_of(family) if name == where else {}) for name in ("wan", "lan0")]
    return a_proxy(*interfaces, family=family, **more).at(s=300).forget()


@covers("OLD-09")
@pytest.mark.parametrize(("least", "version"), OLDER)
def test_reports_and_leaves_below_the_minimum_are_ignored_and_counted(least, version):
    play = a_proxy("wan", {"interface": "lan0", "minimum-version": least}).at(s=300).forget()
    play.on("lan0", record(IS_EX, G), version=version).expect()
    assert play.group("lan0", G) is None
    play.on("lan0", record(TO_EX, G), host=101).forget()
    if version > 1:
        play.on("lan0", record(TO_IN, G), version=version, host=101).expect()
    assert play.group("lan0", G).version == 3
    assert play.counter("lan0", "rejected-older-version") == (2 if version > 1 else 1)
    assert play.counter("lan0", f"received-report-v{version}") == 0
    (note,) = play.noted("packet/rejected")
    assert dict(note.fields)["reason"] == "older-version"


@covers("OLD-09")
@pytest.mark.parametrize("version", [2, 3])
def test_reports_of_the_minimum_and_above_count(version):
    play = a_proxy("wan", {"interface": "lan0", "minimum-version": 2}).at(s=300).forget()
    play.on("lan0", record(IS_EX, G), version=version).expect(route("*", G, "wan", "lan0", "wan"), says("wan", (TO_EX, G)))
    assert play.group("lan0", G).version == version
    assert play.counter("lan0", "rejected-older-version") == 0


@covers("OLD-09", "OLD-10", "MLD-22")
@pytest.mark.parametrize(("family", "group"), EITHER)
def test_a_forged_older_report_changes_neither_filters_nor_leaves(family, group):
    source = S1 if family is IGMP else "2001:db8::1"
    play = strict(family, quick_leave="off")
    play.on("lan0", record(ALLOW, group, source)).forget()
    for version in range(1, family.latest_version):
        play.on("lan0", record(IS_EX, group), version=version, host=66).expect()
    row = play.group("lan0", group)
    assert (row.mode, row.version) == ("include", family.latest_version)
    play.on("lan0", record(TO_IN, group)).expect(asks("lan0", group, source, version=family.latest_version))


@covers("OLD-10", "MLD-22")
@pytest.mark.parametrize(("family", "group"), EITHER)
@pytest.mark.parametrize("about", ["all", "one"])
def test_an_older_query_upstream_does_not_make_us_older(family, group, about):
    play = strict(family, where="wan")
    play.on("lan0", record(TO_EX, group)).advance(s=5).forget()
    for version in range(1, family.latest_version):
        play.on("wan", a_query(group if about == "one" and version >= family.leave_version else None, version=version), host=254)
    play.advance(s=20).expect()  # neither is it answered
    assert play.interface("wan").version == family.latest_version
    assert play.counter("wan", "rejected-older-version") == family.latest_version - 1
    assert play.counter("wan", "received-query-v1") == 0
    assert play.interface("wan").heard_queriers == ()
    play.on("lan0", record(TO_IN, group)).forget()
    assert not play.noted("upstream/version")
    play.on("wan", a_query(version=family.latest_version), host=254).advance(s=10)
    assert play.seen(containing="wan> "), "who asks in the latest version is answered"


@covers("OLD-10")
def test_an_upstream_of_version_2_takes_no_v1_query_and_no_v1_report_of_a_neighbour():
    play = a_proxy({"interface": "wan", "version": 2, "minimum-version": 2}, "lan0").at(s=300).forget()
    play.on("lan0", record(TO_EX, G)).expect(route("*", G, "wan", "lan0", "wan"), says("wan", (IS_EX, G), version=2))
    play.on("wan", record(IS_EX, G), version=1, host=66)  # would make our copy unnecessary
    play.on("wan", a_query(version=1), host=254)
    play.advance(s=10).expect(says("wan", (IS_EX, G), version=2))
    assert play.interface("wan").version == 2


@covers("OLD-09", "MLD-22")
@pytest.mark.parametrize(("family", "group"), EITHER)
def test_an_older_router_with_a_lower_address_is_not_heard(family, group):
    play = strict(family)
    lower = "10.2.0.0" if family is IGMP else "fe80::1"
    for version in range(1, family.latest_version):
        play.on("lan0", a_query(version=version), host=lower)
    play.on("lan0", record(TO_EX, group)).forget()
    play.on("lan0", a_query(group, version=1 if family is MLD else 2, max_response_ms=100), host=lower)
    assert play.interface("lan0").querier.self_
    assert play.group("lan0", group).expires_s > 200, "nor does it lower timers"
    play.on("lan0", a_query(version=family.latest_version), host=lower)
    assert not play.interface("lan0").querier.self_


@covers("OLD-09", "OLD-10", "MLD-22")
@pytest.mark.parametrize(("family", "group"), EITHER)
def test_no_compatibility_is_left_once_older_versions_are_not_heard(family, group):
    """While running: groups and the upstream return to the latest version at once, the memberships run out by themselves."""
    play = a_proxy("wan", "lan0", family=family).at(s=300)
    older = family.latest_version - 1
    play.on("lan0", record(IS_EX, group), version=older).on("wan", a_query(version=older), host=254).advance(s=5).forget()
    assert (play.group("lan0", group).version, play.interface("wan").version) == (older, older)
    families = {"family": ["ipv6"]} if family is MLD else {}
    play.configure(config({"interface": "wan"} | least_of(family), {"interface": "lan0"} | least_of(family), **families)).expect()
    assert (play.group("lan0", group).version, play.interface("wan").version) == (family.latest_version, family.latest_version)
    (note,) = play.noted("upstream/version")[1:]
    assert dict(note.fields)["version"] == family.latest_version
    play.on("lan0", record(IS_EX, group), version=older)
    play.advance(s=270)
    assert play.group("lan0", group) is None
    assert says("wan", (TO_IN, group), version=family.latest_version) in play.seen()


@covers("OLD-09")
def test_of_several_older_hosts_those_that_are_still_heard_count():
    play = a_proxy("wan", "lan0").at(s=300)
    play.on("lan0", record(IS_EX, G), version=1).on("lan0", record(IS_EX, G), version=2, host=101)
    play.on("lan0", record(IS_EX, G2), version=1)
    play.configure(config("wan", {"interface": "lan0", "minimum-version": 2}))
    assert (play.group("lan0", G).version, play.group("lan0", G2).version) == (2, 3)


@covers("OLD-09")
def test_who_gave_way_to_an_older_router_asks_again_once_it_is_not_heard():
    play = a_proxy("wan", "lan0").at(s=300)
    play.on("lan0", record(TO_EX, G)).on("lan0", a_query(version=2), host="10.2.0.0").forget()
    assert not play.interface("lan0").querier.self_
    play.configure(config("wan", {"interface": "lan0", "minimum-version": 2})).expect()
    play.configure(config("wan", {"interface": "lan0", "minimum-version": 3})).expect(
        asks("lan0"), route("*", G, "wan", "lan0", "wan"), route("*", "*", "wan", "lan0", "wan")
    )
    assert play.interface("lan0").querier.self_
    assert play.group("lan0", G) is not None


@covers("OLD-09")
def test_by_default_every_version_is_heard():
    play = a_proxy("wan", "lan0").at(s=300).forget()
    play.on("lan0", record(IS_EX, G), version=1).forget()
    assert play.group("lan0", G).version == 1
    play.on("wan", a_query(version=2), host=254).on("lan0", record(IS_EX, G2), version=2).advance(s=11)
    assert says("wan", (IS_EX, G2), version=2) in play.seen()
    play.on("lan0", record(TO_IN, G2), version=2).advance(s=2)
    assert leaves("wan", G2) in play.seen()
