"""The lightweight router: `lite-exclude-filter` (RFC 5790 5)."""

from __future__ import annotations

import pytest

from igmpconf.engine.family import MLD
from igmpconf.engine.lightweight import LightweightGroupState
from tests.kit.builders import ALLOW, BLOCK, IS_EX, IS_IN, S1, S2, S3, TO_EX, TO_IN, G, asks, config, packed, record, route, says, unroute
from tests.kit.conformance import covers
from tests.kit.playbook import Play, a_proxy

GMI, GT, OLD = 270_000, 100_000, 50_000  # membership interval; what the group timer and source timers have left
LITE = {"interface": "lan0", "lite-exclude-filter": True}

# (state before, kind, sources, state after, sources asked for, whether the group is); a state is its sources, with * while
# the group timer runs; capitals were refreshed.  RFC 5790 5.3 and 5.4; lists of IS_EX and TO_EX never come here.
ROWS = [
    ("ab", IS_IN, "bc", "aBC", "", False),
    ("ab", IS_EX, "", "*ab", "", False),
    ("*ab", IS_IN, "bc", "*aBC", "", False),
    ("*ab", IS_EX, "", "*ab", "", False),
    ("ab", ALLOW, "bc", "aBC", "", False),
    ("ab", BLOCK, "bc", "ab", "b", False),
    ("ab", TO_IN, "bc", "aBC", "a", False),
    ("ab", TO_EX, "", "*ab", "", False),
    ("*ab", ALLOW, "bc", "*aBC", "", False),
    ("*ab", BLOCK, "bc", "*ab", "b", False),
    ("*ab", TO_IN, "bc", "*aBC", "a", True),
    ("*ab", TO_EX, "", "*ab", "", False),
    ("*", BLOCK, "b", "*", "", False),
    ("*", TO_IN, "", "*", "", True),
]


def lite(*downstreams: object, **instance: object) -> Play:
    """Such a proxy, the startup queries over."""
    return a_proxy("wan", *(downstreams or (LITE,)), **{"quick_leave": "off"} | instance).at(s=300).forget()


def a_state(text: str) -> LightweightGroupState:
    state = LightweightGroupState(packed(G), 0)
    state.exclude, state.exclude_until_ms = text.startswith("*"), GT if text.startswith("*") else 0
    state.wanted = {letter.encode(): OLD for letter in text.removeprefix("*")}
    return state


def shown(state: LightweightGroupState) -> str:
    sources = (letter.decode().upper() if at_ms == GMI else letter.decode() for letter, at_ms in sorted(state.wanted.items()))
    return "*" * state.exclude + "".join(sources)


@covers("LEA-07")
@pytest.mark.parametrize(("before", "kind", "listed", "after", "sources", "group"), ROWS)
def test_a_record_changes_the_state_as_the_lightweight_table_says(before, kind, listed, after, sources, group):
    state = a_state(before)
    was = state.membership()
    asked = state.apply(kind, frozenset(letter.encode() for letter in listed), GMI)
    assert (shown(state), asked.sources, asked.group) == (after, frozenset(letter.encode() for letter in sources), group)
    assert not state.exclude or state.exclude_until_ms == (GMI if kind in {IS_EX, TO_EX} else GT)
    assert asked.changed is (state.membership() != was)
    assert not state.blocked


@covers("LEA-07")
@pytest.mark.parametrize("kind", [IS_EX, TO_EX])
def test_who_excludes_sources_gets_all(kind):
    play = lite()
    play.on("lan0", record(kind, G, S1, S2)).expect(route("*", G, "wan", "lan0", "wan"), says("wan", (TO_EX, G)))
    row = play.group("lan0", G)
    assert (row.mode, row.sources, row.excluded) == ("exclude", (), ())
    play.on("lan0", record(BLOCK, G, S3)).expect()
    play.on("lan0", record(TO_EX, G, S3), host=101).expect()
    play.advance(s=5).forget().advance(s=265).expect(asks("lan0"), asks("lan0"), unroute("*", G), says("wan", (TO_IN, G)))


@covers("LEA-07")
def test_sources_that_somebody_named_outlive_those_who_wanted_all():
    play = lite()
    play.on("lan0", record(TO_EX, G, S3)).advance(s=100)
    play.on("lan0", record(IS_IN, G, S1, S2), host=101).advance(s=100).on("lan0", record(IS_IN, G, S2), host=101).forget()
    assert [str(one.address) for one in play.group("lan0", G).sources] == [S1, S2]
    play.advance(s=69).forget()
    play.advance(s=1).expect(unroute("*", G), route(S1, G, "wan", "lan0"), route(S2, G, "wan", "lan0"), says("wan", (TO_IN, G, S1, S2)))
    play.advance(s=100).forget()
    row = play.group("lan0", G)
    assert (row.mode, [str(one.address) for one in row.sources]) == ("include", [S2])


@covers("LEA-07")
def test_a_source_that_runs_out_while_somebody_wants_all_is_forgotten_and_still_forwarded():
    play = lite()
    play.on("lan0", record(IS_IN, G, S1), host=101).advance(s=200).on("lan0", record(IS_EX, G)).forget()
    assert [str(one.address) for one in play.group("lan0", G).sources] == [S1], "who wants all takes nothing from who named some"
    play.advance(s=71)
    assert not play.seen(containing="route"), "the full tables would block it now"
    row = play.group("lan0", G)
    assert (row.mode, row.sources, row.excluded) == ("exclude", (), ())


@covers("LEA-07")
def test_a_leave_of_who_wanted_all_is_asked_about_and_leaves_the_named_sources():
    play = lite()
    play.on("lan0", record(TO_EX, G)).on("lan0", record(ALLOW, G, S1), host=101).advance(s=5).forget()
    play.on("lan0", record(TO_IN, G)).expect(asks("lan0", G), asks("lan0", G, S1))
    play.advance(ms=500).on("lan0", record(IS_IN, G, S1), host=101).expect()
    play.advance(ms=500).expect(asks("lan0", G))
    play.advance(s=1).expect(unroute("*", G), route(S1, G, "wan", "lan0"), says("wan", (TO_IN, G, S1)))


@covers("LEA-07", "LEA-03")
def test_quick_leave_keeps_what_others_named():
    play = lite(quick_leave="auto")
    play.on("lan0", record(TO_EX, G, S3)).on("lan0", record(ALLOW, G, S1, S2), host=101).advance(s=5).forget()
    play.on("lan0", record(BLOCK, G, S2), host=101).expect()
    play.on("lan0", record(TO_IN, G)).expect(asks("lan0", G), unroute("*", G), route(S1, G, "wan", "lan0"), says("wan", (TO_IN, G, S1)))


@covers("LEA-07")
def test_mld_alike():
    group, source = "ff0e::1:1", "2001:db8::1"
    play = a_proxy("wan", LITE, family=MLD).at(s=300).forget()
    play.on("lan0", record(IS_EX, group, source)).expect(route("*", group, "wan", "lan0", "wan"), says("wan", (TO_EX, group), version=2))
    assert play.group("lan0", group).excluded == ()


@covers("LEA-07")
def test_other_interfaces_and_the_default_keep_lists():
    play = lite("lan0", LITE | {"interface": "lan1"})
    play.on("lan0", record(TO_EX, G, S1)).advance(s=5).on("lan1", record(TO_EX, G, S2))
    assert [[str(one) for one in play.group(name, G).excluded] for name in ("lan0", "lan1")] == [[S1], []]
    assert says("wan", (ALLOW, G, S1)) in play.seen(), "the second interface wants it"


@covers("LEA-07")
def test_what_the_configuration_denies_stays_denied():
    play = lite(LITE | {"groups": [{"action": "deny", "source": f"{S1}/32"}]})
    play.on("lan0", record(TO_EX, G, S2)).forget()
    assert [str(one) for one in play.group("lan0", G).excluded] == [S1]
    play.on("lan0", record(ALLOW, G, S1, S2), host=101)
    row = play.group("lan0", G)
    assert ([str(one) for one in row.excluded], [str(one.address) for one in row.sources]) == ([S1], [S2])


@covers("LEA-07")
def test_lists_are_dropped_when_it_is_switched_on_and_return_when_it_is_switched_off():
    play = lite("lan0")
    play.on("lan0", record(TO_EX, G, S1, S2)).on("lan0", record(ALLOW, G, S3), host=101).advance(s=5).forget()
    assert [str(one) for one in play.group("lan0", G).excluded] == [S1, S2]
    play.configure(config("wan", LITE, quick_leave="off"))
    assert says("wan", (ALLOW, G, S1, S2)) in play.seen(), "to all who excluded them"
    row = play.group("lan0", G)
    assert (row.mode, [str(one.address) for one in row.sources], row.excluded, row.hosts) == ("exclude", [S3], (), 2)
    play.configure(config("wan", "lan0", quick_leave="off")).expect()
    row = play.group("lan0", G)
    assert (row.mode, row.sources, row.excluded) == ("exclude", (), ())
    play.on("lan0", record(IS_EX, G, S1, S2)).advance(s=271)
    assert says("wan", (TO_EX, G)) not in play.seen()
    assert play.group("lan0", G) is None


@covers("LEA-07")
def test_a_link_that_was_down_meanwhile_comes_back_with_the_new_tables():
    play = lite("lan0")
    play.plug("lan0", up=False).configure(config("wan", LITE)).plug("lan0", up=True)
    play.on("lan0", record(IS_EX, G, S1))
    assert play.group("lan0", G).excluded == ()


@covers("LEA-07")
def test_after_a_restart_found_entries_are_believed_and_then_replaced():
    play = Play().configure(config("wan", LITE)).plug("wan").plug("lan0")
    play.found(("*", G, "wan", ("wan", "lan0")), (S1, G, "wan", ()))
    assert [str(one) for one in play.group("lan0", G).excluded] == [S1]
    play.on("lan0", record(IS_EX, G, S1)).advance(s=20)
    row = play.group("lan0", G)
    assert (row.mode, row.excluded) == ("exclude", ())
