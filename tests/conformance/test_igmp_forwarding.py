"""Section 7 of the requirements, as far as the engine decides it: which entries the kernel is given (RFC 4605 4.2).

What the kernel then does with them is tests/topology's subject; `forwards` below is its rule, as kernel sources have it.
"""

from __future__ import annotations

import itertools

import pytest

from igmpconf.engine.effects import SetRoute
from igmpconf.engine.routes import Routes
from tests.kit.builders import ALLOW, BLOCK, IS_EX, IS_IN, LOCAL, S1, S2, TO_EX, TO_IN, G, a_query, config, packed, record, route, says, unroute
from tests.kit.conformance import covers
from tests.kit.playbook import Play, a_proxy

LOWER = "10.2.0.0"


@pytest.fixture
def play() -> Play:
    return a_proxy("wan", "lan0", "lan1", quick_leave="on").at(s=300).forget()


def routing(play: Play) -> list[str]:
    return [line for line in play.seen() if "route" in line]


def forwards(routes: Routes, source: bytes, group: bytes, arrival: int, ttl: int = 64) -> set[int]:
    """Where Linux sends a datagram, given the installed entries (net/ipv4/ipmr.c: ip_mr_forward, mr_mfc_find_any)."""
    any_iif, any_oifs = routes.installed.get((None, None), (None, ()))
    tree = dict(any_oifs)
    key = next((key for key in ((source, group), (None, group)) if key in routes.installed), None)
    if key is not None and key[0] is None:
        iif, oifs = routes.installed[key]
        if arrival not in dict(oifs) and not (iif in tree and arrival in tree):
            key = None  # the entry is not for this interface
    if key is None:
        if arrival not in tree or arrival == any_iif:
            return set()
        return {any_iif} if ttl > tree[any_iif] else set()
    iif, oifs = routes.installed[key]
    if key[0] is None:
        if arrival != iif and not (iif in tree and arrival in tree):
            return set()
        return {oif for oif, least in oifs if oif != arrival and ttl > least}
    return {oif for oif, least in oifs if ttl > least} if arrival == iif else set()


@covers("FWD-01", "FWD-03", "FWD-05", "R021", "R028")
def test_from_upstream_to_each_subscribed_downstream(play):
    play.on("lan0", record(IS_EX, G))
    assert routing(play) == [route("*", G, "wan", "lan0", "wan")]
    play.on("lan1", record(IS_EX, G))
    assert routing(play) == [route("*", G, "wan", "lan0", "lan1", "wan")]
    wan, lan0, lan1 = 1, 2, 3
    installed = play.engine.routes
    assert forwards(installed, packed(S1), packed(G), wan) == {lan0, lan1}
    assert forwards(installed, packed("10.2.0.9"), packed(G), lan0) == {wan, lan1}
    play.on("lan0", record(TO_IN, G))
    assert routing(play) == [route("*", G, "wan", "lan1", "wan")]
    play.on("lan1", record(TO_IN, G))
    assert routing(play) == [unroute("*", G)]


@covers("FWD-02", "FWD-14")
def test_from_a_downstream_to_the_upstream_unasked(play):
    installed = play.engine.routes
    assert forwards(installed, packed("10.2.0.9"), packed(G), 2) == {1}
    assert forwards(installed, packed(S1), packed(G), 1) == set(), "what nobody wants dies without an upcall"


@covers("FWD-04", "ELE-11")
def test_where_another_router_asks_nothing_passes(play):
    play.on("lan0", record(IS_EX, G)).on("lan1", record(IS_EX, G)).forget()
    play.on("lan0", a_query(robustness=2, interval_ms=125_000), host=LOWER)
    assert sorted(routing(play)) == sorted([route("*", "*", "wan", "lan1", "wan"), route("*", G, "wan", "lan1", "wan")])
    assert forwards(play.engine.routes, packed("10.2.0.9"), packed(G), 2) == set(), "nor is the upstream fed twice"
    play.advance(s=255)
    assert {route("*", "*", "wan", "lan0", "lan1", "wan"), route("*", G, "wan", "lan0", "lan1", "wan")} <= set(routing(play))


@covers("FWD-04")
def test_forwarding_anyway_is_a_switch():
    play = a_proxy("wan", "lan0", forward_when_non_querier=True).at(s=300).forget()
    play.on("lan0", a_query(), host=LOWER).on("lan0", record(IS_EX, G))
    assert routing(play) == [route("*", G, "wan", "lan0", "wan")]
    play.configure(config("wan", "lan0"))
    assert sorted(routing(play)) == sorted([route("*", "*", "wan", "wan"), unroute("*", G)])


@covers("FWD-06")
def test_an_excluded_source_has_an_entry_that_leaves_the_downstream_out(play):
    play.on("lan0", record(IS_EX, G, S1)).on("lan1", record(IS_EX, G))
    assert routing(play)[-2:] == [route("*", G, "wan", "lan0", "lan1", "wan"), route(S1, G, "wan", "lan1")]
    play.on("lan1", record(TO_IN, G))
    assert routing(play) == [route("*", G, "wan", "lan0", "wan"), route(S1, G, "wan")]
    play.on("lan0", record(ALLOW, G, S1))
    assert routing(play) == [unroute(S1, G)]


@covers("FWD-06")
def test_an_included_source_has_an_entry_of_its_own(play):
    play.on("lan0", record(IS_IN, G, S1))
    assert routing(play) == [route(S1, G, "wan", "lan0")]
    play.on("lan1", record(IS_EX, G))
    assert routing(play) == [route("*", G, "wan", "lan1", "wan"), route(S1, G, "wan", "lan0", "lan1")]


@covers("FWD-03", "FWD-06")
def test_an_exact_entry_never_lists_its_parent(play):
    behind_lan0 = "10.2.0.66"
    play.on("lan1", record(IS_IN, G, behind_lan0))
    assert routing(play) == [route(behind_lan0, G, "lan0", "lan1", "wan")]
    play.on("lan0", record(IS_IN, G, behind_lan0))
    assert routing(play) == []
    for _, effect in play.effects:
        if isinstance(effect, SetRoute) and effect.source is not None:
            assert effect.iif not in dict(effect.oifs)


@covers("FWD-06", "FWD-13")
def test_a_source_in_an_alternative_subnet_lives_behind_that_downstream():
    play = a_proxy("wan", {"interface": "lan0", "alternative-subnets": ["192.168.0.0/16"]}, "lan1").at(s=300).forget()
    play.on("lan1", record(IS_IN, G, "192.168.7.7"))
    assert routing(play) == [route("192.168.7.7", G, "lan0", "lan1", "wan")]


@covers("FWD-01", "FWD-02", "FWD-03", "FWD-06")
def test_every_combination_of_two_downstreams_forwards_what_the_rfc_says():
    """Exhaustive: two downstreams, each any set over {S1, a source behind lan0}; each source from each interface."""
    inner = "10.2.0.66"
    sets = [(kind, listed) for kind in (IS_IN, IS_EX) for n in range(3) for listed in itertools.combinations((S1, inner), n)]
    for (kind0, listed0), (kind1, listed1) in itertools.product(sets, sets):
        play = a_proxy("wan", "lan0", "lan1")
        play.on("lan0", record(kind0, G, *listed0)).on("lan1", record(kind1, G, *listed1))
        wants = {2: kind0 is IS_EX, 3: kind1 is IS_EX}
        listed = {2: listed0, 3: listed1}
        for source, arrival in ((S1, 1), (S2, 1), (inner, 2), ("10.2.0.77", 2), ("10.3.0.5", 3)):
            expected = {oif for oif in (2, 3) if oif != arrival and (source in listed[oif]) is not wants[oif]}
            if arrival != 1:
                expected.add(1)
            found = forwards(play.engine.routes, packed(source), packed(G), arrival)
            assert found == expected, (kind0.name, listed0, kind1.name, listed1, source, arrival)


@covers("FWD-07")
@pytest.mark.parametrize(("threshold", "kernel"), [(0, 1), (1, 1), (2, 1), (5, 4), (255, 254)])
def test_a_threshold_is_the_least_ttl_on_arrival(threshold, kernel):
    play = a_proxy("wan", {"interface": "lan0", "threshold": threshold})
    play.on("lan0", record(IS_EX, G))
    (last,) = [effect for _, effect in play.effects if isinstance(effect, SetRoute) and effect.group == packed(G)]
    assert last.oifs == ((1, 1), (2, kernel))


@covers("FWD-05", "FWD-07")
def test_a_changed_threshold_changes_entries_and_no_membership(play):
    play.on("lan0", record(IS_EX, G)).advance(s=5).forget()
    play.configure(config("wan", {"interface": "lan0", "threshold": 9}, "lan1", quick_leave="on"))
    play.expect(route("*", "*", "wan", "lan0", "lan1", "wan"), route("*", G, "wan", "lan0", "wan"))
    assert play.group("lan0", G) is not None


@covers("FWD-10", "SSM-01", "SSM-02", "SSM-03", "SSM-04")
def test_any_source_reports_for_source_specific_groups_do_nothing(play):
    group = "232.9.9.9"
    play.on("lan0", record(TO_EX, group), record(IS_EX, group, S1), record(IS_EX, G)).on("lan0", record(IS_EX, group), version=2).on(
        "lan0", record(IS_EX, group), version=1
    )
    assert play.group("lan0", group) is None
    assert play.group("lan0", G) is not None, "other records of the report are processed"
    play.on("lan0", record(ALLOW, group, S1)).advance(s=5).forget()
    play.on("lan0", record(TO_IN, group), version=2).expect()
    assert play.group("lan0", group).version == 3, "no compatibility mode either"


@covers("SSM-01")
def test_the_source_specific_range_is_configurable():
    play = a_proxy("wan", "lan0", ssm_range=["239.0.0.0/8"])
    play.on("lan0", record(TO_EX, "239.1.1.1"), record(TO_EX, "232.1.1.1"))
    assert play.group("lan0", "239.1.1.1") is None
    assert play.group("lan0", "232.1.1.1") is not None


@covers("SSM-05", "SSM-06", "SSM-08", "SSM-10")
def test_source_specific_groups_come_and_go_by_source():
    play = a_proxy("wan", "lan0", quick_leave="off").at(s=300).forget()
    group = "232.9.9.9"
    play.on("lan0", record(TO_IN, group, S1)).expect(route(S1, group, "wan", "lan0"), says("wan", (ALLOW, group, S1)))
    play.advance(s=5).forget()
    play.on("lan0", record(BLOCK, group, S1)).advance(s=2)
    seen = play.seen()
    assert [line for line in seen if "query" in line] == [f"lan0> v3 query {group} {{{S1}}}"] * 2
    assert seen[-2:] == [says("wan", (BLOCK, group, S1)), unroute(S1, group)]


def test_local_groups_never_leave_by_the_upstream(play):
    assert route("*", LOCAL, "wan") in play.transcript(), "an entry without listeners, or (*,*) would let them out"
    play.on("lan0", record(IS_EX, LOCAL)).on("lan1", record(IS_EX, LOCAL)).advance(s=5)
    play.expect(route("*", LOCAL, "wan", "lan0"), route("*", LOCAL, "wan", "lan0", "lan1"))
    assert forwards(play.engine.routes, packed("10.2.0.9"), packed(LOCAL), 2) == {3}
    play.on("lan1", record(TO_IN, LOCAL)).forget()
    assert forwards(play.engine.routes, packed("10.3.0.9"), packed(LOCAL), 3) == {2}


# -- permanent entries -----------------------------------------------------------------------------------------------------


@covers("FWD-15")
def test_permanent_entries_win_over_what_is_learned():
    mfc = [{"source": S1, "group": G, "downstream-interface": "lan1"}]
    play = a_proxy("wan", "lan0", "lan1", mfc=mfc, quick_leave="on").at(s=300)
    play.on("lan0", record(IS_EX, G)).on("lan0", record(IS_IN, G, S1))
    assert play.engine.routes.installed[packed(S1), packed(G)] == (1, ((3, 1),))
    rows = {(str(row.source), str(row.group)): row for row in play.engine.snapshot(play.now_ms).mfc}
    assert rows[S1, G].kind == "static"
    assert rows["*", G].kind == "learned"
    play.on("lan0", record(TO_IN, G)).advance(s=5).forget()
    play.configure(config("wan", "lan0", "lan1", quick_leave="on"))
    assert unroute(S1, G) in play.seen()


@covers("FWD-15")
def test_a_permanent_entry_may_arrive_on_a_downstream_and_waits_for_its_interfaces():
    mfc = [{"source": "10.2.0.5", "group": G, "upstream-interface": "lan0", "downstream-interface": ["wan", "lan1", "ppp7"]}]
    play = Play().configure(config("wan", "lan0", "lan1", "ppp*", mfc=mfc)).plug("wan").found().forget()
    assert [row.state for row in play.engine.snapshot(0).mfc if str(row.group) == G] == ["withheld"]
    play.plug("lan0")
    assert route("10.2.0.5", G, "lan0", "wan") in routing(play)
    play.plug("lan1").plug("ppp7")
    assert route("10.2.0.5", G, "lan0", "wan", "lan1", "ppp7") in routing(play)
    assert play.engine.snapshot(0).upstream == (), "what arrives on a downstream is not joined upstream"


@covers("FWD-15")
def test_a_permanent_entry_for_any_source_lets_inner_sources_out():
    play = a_proxy("wan", "lan0", mfc=[{"group": G, "downstream-interface": "lan0"}])
    assert play.engine.routes.installed[None, packed(G)] == (1, ((1, 1), (2, 1)))
    assert [str(row.group) for row in play.engine.snapshot(0).upstream] == [G]


def test_changes_are_minimal(play):
    play.on("lan0", record(TO_EX, G)).on("lan1", record(TO_EX, G)).forget()
    play.on("lan0", record(IS_EX, G)).on("lan1", record(IS_EX, G), host=120).on("lan0", record(TO_EX, G), host=121).advance(s=0.5).expect()
    play.configure(config("wan", "lan0", "lan1", quick_leave="on")).expect()
