"""What fuzzing found, each as the shortest story that showed it."""

from __future__ import annotations

from igmpconf.engine.effects import SendPacket
from igmpconf.model.canon import canonical
from igmpconf.schema.xml import state_to_xml, xml_to_state
from tests.kit.builders import TO_EX, G, a_query, record
from tests.kit.playbook import a_proxy


def test_an_upstream_that_vanished_says_nothing_any_more():
    """Its pending answers to an older querier were sent all the same, on an index that was nobody's."""
    play = a_proxy("wan", "lan0").on("lan0", record(TO_EX, G))
    play.on("wan", a_query(version=2, max_response_ms=10_000), host=200).advance(ms=1)
    play.unplug("wan")
    gone = len(play.effects)
    play.advance(s=60)
    assert not [effect for _, effect in play.effects[gone:] if isinstance(effect, SendPacket) and effect.ifindex == play.names["wan"]]
    assert play.engine.next_deadline_ms() is not None  # the querier of lan0 goes on


def test_a_permanent_entry_that_is_withheld_has_one_row():
    """It had two, one as permanent and one for its listeners, and whoever read them refused the whole state."""
    play = a_proxy("wan", "lan0", mfc=[{"source": "*", "group": G, "downstream-interface": ["lan0"]}])
    play.plug("lan0", "10.2.0.50/24").on("lan0", record(TO_EX, G))
    play.on("lan0", a_query(), host=1)  # another querier: nothing may pass lan0
    play.unplug("wan")
    state = play.engine.snapshot(play.now_ms)
    assert [(str(row.group), row.kind, row.state) for row in state.mfc if str(row.group) == G] == [(G, "static", "withheld")]
    assert xml_to_state(state_to_xml(state)) == canonical(state)


def test_both_families_have_a_star_star_of_their_own():
    """Two instances of the same name, one a family: their rows are told apart."""
    rows = [row for family in ("ipv4", "ipv6") for row in _star_stars(family)]
    assert len({(row.instance, row.family, row.source, row.group) for row in rows}) == 2


def _star_stars(family):
    from igmpconf.engine.family import IGMP, MLD

    play = a_proxy("wan", "lan0", family=IGMP if family == "ipv4" else MLD)
    return [row for row in play.engine.snapshot(0).mfc if row.group == "*"]
