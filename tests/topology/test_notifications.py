"""What engines on the real kernel tell a subscriber of the agent."""

from __future__ import annotations

import pytest

from igmpconf.xmltext import parse
from tests.kit.agent import Agent
from tests.kit.netconf import IC, Client, eventually

pytestmark = pytest.mark.kernel
G = "239.1.1.1"


@pytest.fixture
def watcher(site, tmp_path):
    interfaces = [{"interface": "wan", "upstream": True}, {"interface": "lan0"}, {"interface": "lan1", "max-groups": 1}]
    agent = Agent(site.router, tmp_path, {"igmp-proxy": [{"name": "default", "interfaces": interfaces}]})
    eventually(agent.socket.exists)
    with Client.connected(agent.socket) as client:
        client.ok('<create-subscription xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0"/>')
        yield client
    assert agent.stop() == 0


def told(watcher, name):
    """The facts of the next notification of that name."""
    while (event := parse(watcher.receive() or b"")[1]).tag != f"{IC}{name}":
        pass
    return {child.tag.removeprefix(IC): child.text for child in event}


def test_memberships_limits_and_roles_reach_a_subscriber(site, watcher):
    site.member(site.h0, G).join()
    joined = told(watcher, "membership-joined")
    assert (joined["instance"], joined["interface"], joined["group"]) == ("default", "lan0", G)
    member = site.member(site.h1, "239.1.1.2")
    member.join()
    assert told(watcher, "membership-joined")["interface"] == "lan1"
    site.member(site.h1, "239.1.1.3").join()
    limit = told(watcher, "limit-reached")
    assert (limit["leaf-name"], limit["limit"], limit["group"], limit["interface"]) == ("max-groups", "1", "239.1.1.3", "lan1")
    site.router.run("ip link set lan1 down")
    role = told(watcher, "interface-role-changed")
    assert (role["interface"], role["role"], role["up"]) == ("lan1", "downstream", "false")
