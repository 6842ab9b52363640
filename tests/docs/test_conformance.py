"""Every requirement has a test (of NETCONF: or a reason), every claim names a requirement, and the printed page is fresh."""

from __future__ import annotations

from tests.conformance import netconf_requirements
from tests.conformance.requirements import SECTIONS, TITLES
from tests.docs.claims import named_in_decorators
from tests.docs.conformance import NETCONF_PAGE, PAGE, claims, netconf_page, page
from tests.docs.manual_lines import LINES


def test_every_requirement_has_a_test():
    assert set(TITLES) - set(claims()) == set()


def test_every_requirement_of_netconf_has_a_test_or_a_reason_and_not_both():
    tested = set(claims(netconf_requirements.TITLES))
    assert set(netconf_requirements.TITLES) - tested == set(netconf_requirements.ELSEWHERE)
    assert len(netconf_requirements.TITLES) == 117


def test_every_claim_names_a_requirement():
    for path, one in named_in_decorators():
        assert one in TITLES or one in LINES or one in netconf_requirements.TITLES, f"{path}: {one}"


def test_sections_hold_everything():
    assert {one.rpartition("-")[0] for one in TITLES} == set(SECTIONS)
    assert len(TITLES) == 215


def test_the_page_is_fresh():
    assert PAGE.read_text() == page(), "run: python -m tests.docs.conformance"
    assert NETCONF_PAGE.read_text() == netconf_page(), "run: python -m tests.docs.conformance"
