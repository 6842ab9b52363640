"""Each test breaks one thing on the real kernel and expects exactly that finding; a healthy device has none.

head --- wan [router] lan0 --- h0
                      lan1 --- h1
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from igmpconf.engine.messages import Query
from tests.kit.agent import Agent
from tests.kit.builders import TO_EX, record
from tests.kit.netns import wait_until
from tests.kit.site import flows
from tests.kit.wire import Stranger

pytestmark = pytest.mark.kernel
G = "239.1.1.1"


@pytest.fixture
def doctor(site, tmp_path):
    """Start an agent with these interfaces; the answer asks the doctor until he has the findings expected, as (code, where)."""
    agents = []

    def start(*interfaces, **leaves):
        chosen = interfaces or ({"interface": "lan0"}, {"interface": "lan1"})
        proxy = {"name": "default", "interfaces": [{"interface": "wan", "upstream": True}, *chosen], **leaves}
        agents.append(Agent(site.router, tmp_path, {"igmp-proxy": [proxy]}))

        def ask(*more):
            command = [sys.executable, "-m", "igmpconf.cli.main", "doctor", "-d", f"unix:{agents[0].socket}", "--format", "json", *more]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.stdout, done.stderr
            rows = json.loads(done.stdout)["devices"][0]["rows"]
            assert done.returncode == (1 if any(row["severity"] != "note" for row in rows) else 0)
            return rows

        def expect(*found, more=()):
            wanted = sorted(found)
            return wait_until(
                lambda: (rows := ask(*more)) is not None and sorted((row["code"], row["where"]) for row in rows) == wanted and (rows or [None]),
                f"exactly {wanted}, the last was {ask(*more)}",
                timeout_s=15,
            )

        return expect

    yield start
    for agent in agents:
        assert agent.stop() == 0


def test_a_healthy_device_has_no_finding(site, doctor):
    expect = doctor()
    site.member(site.h0, G).join()
    flows(site.source("10.1.0.2"), G, site.tap(site.h0))
    expect()


def test_the_stream_does_not_arrive(site, doctor):
    expect = doctor()
    site.member(site.h0, G).join()
    (found,) = expect(("stream/not-received", "default/wan"))
    assert G in found["seen"]
    assert "0 datagrams" in found["evidence"]


@pytest.mark.parametrize(("name", "code", "severity"), [("wan", "upstream/not-up", "error"), ("lan1", "downstream/not-up", "warning")])
def test_an_interface_is_down(site, doctor, name, code, severity):
    expect = doctor()
    expect()
    site.router.run(f"ip link set {name} down")
    try:
        (found,) = expect((code, f"default/{name}"))
        assert found["severity"] == severity
    finally:
        site.router.run(f"ip link set {name} up")
    expect()


def test_an_interface_is_missing(doctor):
    doctor({"interface": "lan0"}, {"interface": "lan9"})(("downstream/not-up", "default/lan9"))


def test_the_instance_is_switched_off(doctor):
    doctor(enabled=False)(("instance/disabled", "default"))


def test_a_subscriber_of_another_subnet(site, doctor):
    expect = doctor()
    expect()
    Stranger(site.net, site.h0, "eth0").report("172.16.0.9", 3, record(TO_EX, G))
    (found,) = expect(("report/sender", "default/lan0"))
    assert found["evidence"] == "rejected-sender of ipv4 is 1"
    assert found["fix"].startswith("alternative-subnets")


def test_a_rule_denies_the_group(site, doctor):
    expect = doctor(groups=[{"sequence": 1, "action": "deny", "group": ["239.0.0.0/8"]}])
    site.member(site.h0, G).join()
    expect(("report/denied", "default/lan0"))


def test_more_groups_than_the_interface_may_hold(site, doctor):
    expect = doctor({"interface": "lan0", "max-groups": 1})
    source = site.source("10.1.0.2")
    site.member(site.h0, G).join()
    flows(source, G, site.tap(site.h0))
    site.member(site.h0, "239.1.1.2").join()
    expect(("report/group-limit", "default/lan0"))


def test_another_querier(site, doctor):
    expect = doctor()
    expect()
    Stranger(site.net, site.h1, "eth0").query("10.0.0.9", Query(b"", 3, robustness=2, interval_ms=125_000))
    (found,) = expect(("querier/other", "default/lan1"))
    assert "10.0.0.9" in found["evidence"]


def test_robustness_of_one(doctor):
    doctor({"interface": "lan0", "robustness": 1})(("robustness/one", "default/lan0"))


def test_a_group_that_nobody_asked_for_and_one_that_is_joined_elsewhere(site, doctor):
    expect = doctor()
    (found,) = expect(("group/nobody", G), more=("--group", G))
    assert "no subscriber has reported it" in found["cause"]
    site.member(site.h0, G).join()
    flows(site.source("10.1.0.2"), G, site.tap(site.h0))
    (found,) = expect(("group/not-here", "default/lan1"), more=("--group", G))
    assert "was not learned" in found["cause"]
