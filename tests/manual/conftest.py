"""One site and one agent for all tests of a file; every test begins and ends with the base configuration."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.kit.agent import Agent
from tests.kit.desk import Desk
from tests.kit.netns import Net
from tests.kit.site import Site

# Short times, so that what follows from them is seen soon; a leave is asked about, so that the asking is seen.
BASE: dict[str, Any] = {
    "igmp-proxy": [
        {
            "name": "default",
            "query-interval": "1s",
            "query-response-interval": "400ms",
            "last-member-interval": "200ms",
            "quick-leave": "off",
            "interfaces": [{"interface": "wan", "upstream": True}, {"interface": "lan0"}, {"interface": "lan1"}],
        }
    ],
    "logging": {"topics": ["igmp-proxy", "debug"]},
}


def base(**interfaces: dict[str, Any]) -> dict[str, Any]:
    """The base with more leaves for some interfaces: `base(lan0={"threshold": 10})`."""
    made = copy.deepcopy(BASE)
    for entry in made["igmp-proxy"][0]["interfaces"]:
        entry |= interfaces.get(entry["interface"], {})
    return made


def instance_with(**leaves: Any) -> dict[str, Any]:
    """The base with more leaves for the instance: `instance_with(enabled=False)`."""
    made = copy.deepcopy(BASE)
    made["igmp-proxy"][0] |= {name.replace("_", "-"): value for name, value in leaves.items()}
    return made


@pytest.fixture(scope="module")
def shared_site():
    with Net() as net:
        yield Site(net)


@pytest.fixture(scope="module")
def shared_agent(shared_site, tmp_path_factory):
    agent = Agent(shared_site.router, tmp_path_factory.mktemp("agent"), {})
    yield agent
    assert agent.stop() == 0, agent.said()


@pytest.fixture
def site(shared_site):
    """head --- wan [router] lan0 --- h0, lan1 --- h1; the router runs the base."""
    yield shared_site
    shared_site.tidy()


@pytest.fixture
def desk(site, shared_agent, tmp_path, capsys):
    """The commands, with the base in force and nobody's membership known from the test before."""
    made = Desk(shared_agent, tmp_path, capsys.readouterr)
    made.applies(instance_with(enabled=False))
    made.applies(BASE)
    return made
