"""`igmpconf plan` as a pipeline calls it: gates, sizes, and what a saved plan is tied to."""

from __future__ import annotations

import contextlib
import getpass
import json

import pytest

from tests.apply.agents import running_agent
from tests.cli.conftest import agent, igmpconf, place  # noqa: F401 - fixtures

LAN1 = """\
igmp-proxy:
  - name: default
    interfaces: [{interface: wan, upstream: yes}, lan1]
"""


@pytest.fixture
def fleet(place, agent, monkeypatch):  # noqa: F811
    monkeypatch.delenv("IGMPCONF_DEVICE")
    (place / "inventory").mkdir()
    (place / "inventory" / "hosts.yaml").write_text(
        f"all: {{vars: {{ansible_connection: local, igmpconf_config: ../home.yaml}}, hosts: {{r1: {{igmpconf_socket: {agent.socket_path}}}}}}}\n"
    )
    return place


def test_a_saved_plan_is_refused_when_the_inventory_says_something_else_of_its_devices(fleet, igmpconf):  # noqa: F811
    assert igmpconf("plan", "-o", "plan.json").code == 0
    hosts = fleet / "inventory" / "hosts.yaml"
    before = hosts.read_text()
    hosts.write_text(before.replace("ansible_connection: local", "ansible_connection: local, site: moved"))
    said = igmpconf("apply", "plan.json", "--yes")
    assert said.code == 4
    assert "the inventory says something else of r1 than when the plan was made" in said.err
    hosts.write_text(before.replace("hosts: {", "hosts: {another: , "))  # of others it may say what it likes
    assert igmpconf("apply", "plan.json", "--yes").code == 0


def test_a_plan_that_touches_live_groups_more_than_it_may_is_saved_shown_and_refused(fleet, igmpconf):  # noqa: F811
    assert igmpconf("apply", "--yes").code == 0
    assert igmpconf("plan", "--max-impact", "none", "--detailed-exitcode").code == 0
    (fleet / "home.yaml").write_text(LAN1)
    said = igmpconf("plan", "--max-impact", "rejoin", "-o", "plan.json", "--measure", "0")
    assert said.code == 1
    assert "the plan interrupts 239.1.1.1 on lan0" in said.err
    assert "! interrupts 239.1.1.1 on lan0" in said.out
    assert json.loads((fleet / "plan.json").read_text())["inventory_digest"].startswith("sha256:")
    assert igmpconf("plan", "--detailed-exitcode").code == 2


def test_a_comment_has_the_size_that_was_asked_for(fleet, igmpconf):  # noqa: F811
    entries = "".join(f"      - {{interface: lan{i}, robustness: 3}}\n" for i in range(30))
    (fleet / "home.yaml").write_text(f"igmp-proxy:\n  - interfaces:\n      - {{interface: wan, upstream: yes}}\n{entries}")
    assert len(igmpconf("plan", "--format", "markdown").out) > 1_000
    said = igmpconf("plan", "--format", "markdown", "--max-size", "1000")
    assert len(said.out) <= 1_000
    assert "- r1: 1 change, impact **none**" in said.out
    assert igmpconf("plan", "--max-size", "10").code == 64


def test_drift_names_who_changed_what_when_and_what_nobody_did(fleet, igmpconf, agent):  # noqa: F811
    assert igmpconf("apply", "--yes", "-m", "as it should be").code == 0
    (fleet / "by-hand.yaml").write_text((fleet / "home.yaml").read_text().replace("3125", "60s") + "logging: {size: 500}\n")
    assert igmpconf("apply", "-d", f"unix:{agent.socket_path}", "-f", "by-hand.yaml", "--yes", "-m", "a long night").code == 0
    (fleet / "home.yaml").write_text((fleet / "home.yaml").read_text() + "      - lan1\n")
    said = igmpconf("drift")
    assert said.code == 2
    lines = said.err.splitlines()
    at = next(i for i, line in enumerate(lines) if "a long night" in line)
    assert lines[at].startswith("r1: commit ")
    assert f" by {getpass.getuser()} (" in lines[at]
    assert lines[at + 1 : at + 3] == ["    ~ igmp-proxy[default]/interfaces[lan0]/query-interval 31.25s -> 1m", "    + logging/size 500"]
    assert lines[at + 3].startswith("r1: no commit that it keeps has touched igmp-proxy[default]/interfaces[lan1]: it is the desired state that was changed")
    assert "as it should be" not in said.err


@pytest.fixture
def pair(place, monkeypatch, tmp_path):  # noqa: F811
    """Two devices in one inventory, each with addresses of its own that a test sets."""
    monkeypatch.delenv("IGMPCONF_DEVICE", raising=False)
    (place / "inventory").mkdir()
    (place / "inventory" / "desired.yaml.j2").write_text(
        "# {{ inventory_hostname }}\n\nigmp-proxy:\n  - interfaces:\n{% for name in downstreams %}\n      - {{ name }}\n{% endfor %}\n      - {interface: wan, upstream: yes}\n"
    )
    with contextlib.ExitStack() as stack:
        agents = {}
        for name in ("r1", "r2"):
            (tmp_path / name).mkdir()
            agents[name] = stack.enter_context(running_agent(tmp_path / name))
        hosts = "".join(f"    {name}: {{igmpconf_socket: {agent.socket_path}}}\n" for name, agent in agents.items())
        (place / "inventory" / "hosts.yaml").write_text(
            f"all:\n  vars: {{ansible_connection: local, igmpconf_config: desired.yaml.j2, downstreams: [lan0]}}\n  hosts:\n{hosts}"
        )
        yield agents["r1"].engine, agents["r2"].engine


def test_a_fleet_that_goes_in_a_circle_is_not_planned_and_the_line_to_change_is_told(pair, igmpconf, place):  # noqa: F811
    one, other = pair
    one.addresses, other.addresses = ("wan 10.2.0.2/24", "lan0 10.1.0.1/24"), ("wan 10.1.0.2/24", "lan0 10.2.0.1/24")
    said = igmpconf("plan")
    assert said.code == 3
    assert "inventory/desired.yaml.j2:8:9: error: r1: igmp-proxy[default]/interfaces[wan]: proxies feed each other in a circle: r1 > r2 > r1" in said.err
    assert "[fleet/loop]" in said.err
    assert igmpconf("apply", "--yes").code == 3
    assert one.config.proxies == ()
    assert igmpconf("plan", "-l", "r1").code == 0  # alone it cannot be seen


def test_two_queriers_are_a_warning_at_the_line_of_the_template(pair, igmpconf, place):  # noqa: F811
    one, other = pair
    one.addresses, other.addresses = ("lan0 10.1.0.1/24",), ("lan0 10.1.0.2/24",)
    said = igmpconf("plan", "--detailed-exitcode")
    assert said.code == 2
    assert "inventory/desired.yaml.j2:6:1: warning: r2: igmp-proxy[default]/interfaces[lan0]: 2 devices serve 10.1.0.0/24" in said.err
    hosts = place / "inventory" / "hosts.yaml"
    hosts.write_text(hosts.read_text().replace("downstreams", "igmpconf_site: '{{ inventory_hostname }}', downstreams"))
    assert "warning" not in igmpconf("plan").err


def test_a_device_that_does_not_answer_hides_nothing_of_the_others(fleet, igmpconf, agent):  # noqa: F811
    hosts = fleet / "inventory" / "hosts.yaml"
    hosts.write_text(hosts.read_text().replace("hosts: {", "hosts: {dead: {igmpconf_socket: /none}, "))
    assert igmpconf("plan").code == 5
    said = igmpconf("plan", "--skip-unreachable", "--detailed-exitcode", "-o", "plan.json", "--format", "markdown")
    assert said.code == 2
    assert "left out: dead: the agent is not running" in said.err
    assert "**Not read: dead** (dead: the agent is not running" in said.out
    assert [device["device"] for device in json.loads((fleet / "plan.json").read_text())["devices"]] == ["r1"]
    assert igmpconf("apply", "plan.json", "--yes").code == 0
    unsure = igmpconf("drift", "--format", "junit")
    assert unsure.code == 5
    assert 'tests="2" failures="0" errors="1"' in unsure.out
    (fleet / "home.yaml").write_text(LAN1)
    assert igmpconf("drift").code == 2
    hosts.write_text(hosts.read_text().replace(str(agent.socket_path), "/none"))
    assert igmpconf("plan", "--skip-unreachable").code == 5  # nobody answers
