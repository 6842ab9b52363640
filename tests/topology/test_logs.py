"""`igmpconf logs` of an agent on the real kernel: who joined, what was forwarded, which interface went, and why."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from tests.kit.agent import Agent
from tests.kit.conformance import covers
from tests.kit.netns import wait_until

pytestmark = pytest.mark.kernel
G = "239.1.1.1"


def config(**logging):
    interfaces = [{"interface": "wan", "upstream": True}, {"interface": "lan0"}, {"interface": "lan1"}]
    return {"igmp-proxy": [{"name": "default", "interfaces": interfaces}], "logging": logging}


@pytest.fixture
def logged(site, tmp_path):
    agents = []

    def start(**logging):
        agents.append(Agent(site.router, tmp_path, config(**logging)))

        def lines(event=None):
            done = subprocess.run(
                [sys.executable, "-m", "igmpconf.cli.main", "logs", "-d", f"unix:{agents[0].socket}", "--format", "json"],
                capture_output=True,
                text=True,
                check=True,
            )
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            return [row for row in rows if event in {None, row["event"]}]

        return agents[0], lines

    yield start
    for agent in agents:
        assert agent.stop() == 0


@covers("R106", "R107", "R108")
def test_a_membership_an_entry_and_an_interface_are_logged_each_with_its_cause(site, logged):
    agent, lines = logged(topics=["igmp-proxy", "debug"], action="memory")
    site.member(site.h0, G).join()
    (joined,) = wait_until(lambda: lines("membership/joined"), "the join")
    assert (joined["fields"]["interface"], joined["fields"]["group"]) == ("lan0", G)
    assert joined["fields"]["cause"].startswith("report of 10.")
    made = [row["fields"] for row in lines("mfc/set") if row["fields"]["group"] == G]
    assert made[0]["downstreams"] == "lan0"
    assert "report of" in made[0]["cause"]
    site.router.run("ip link set lan1 down")
    (down,) = wait_until(lambda: lines("downstream/down"), "the interface")
    assert down["fields"]["interface"] == "lan1"
    assert down["fields"]["cause"]
    site.router.run("ip link set lan1 up")
    assert [row["level"] for row in lines() if row["level"] in {"warning", "error"}] == []  # all of this was to be expected
    assert "membership/joined" not in agent.said()


@covers("R105")
def test_without_debug_no_entry_is_logged_and_the_journal_gets_its_lines(site, logged):
    agent, lines = logged(topics=["igmp-proxy"], action="journal")
    site.member(site.h0, G).join()
    wait_until(lambda: lines("membership/joined"), "the join")
    assert lines("mfc/set") == []
    assert f"group={G}" in agent.said()


def test_topic_packet_logs_every_message_in_words(site, logged):
    _, lines = logged(topics=["packet"])
    site.member(site.h0, G).join()
    wait_until(lambda: f"v3 report {G} to-exclude {{}}" in [row["fields"]["message"] for row in lines("message/received")], "the report")
    assert any("general query" in row["fields"]["message"] for row in lines("message/sent"))
    assert lines("membership/joined") == []


def test_following_shows_what_comes_and_only_once(site, logged, tmp_path):
    agent, lines = logged(topics=["igmp-proxy"])
    command = [sys.executable, "-u", "-m", "igmpconf.cli.main", "logs", "-f", "-d", f"unix:{agent.socket}", "--format", "json"]
    out = tmp_path / "followed"
    with out.open("wb") as file:
        following = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file)
    try:
        wait_until(lambda: out.read_text().count("\n") >= len(lines()), "what there is")
        site.member(site.h0, G).join()
        wait_until(lambda: "membership/joined" in out.read_text(), "what comes")
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 0
    finally:
        following.kill()
        following.wait(10)
    numbers = [json.loads(line)["number"] for line in out.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
