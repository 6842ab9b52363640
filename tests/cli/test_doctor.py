from __future__ import annotations

import dataclasses
import json

import pytest

from igmpconf.model.state import DeviationRow


def test_text_and_json_and_exit_code(igmpconf, agent, monkeypatch):
    igmpconf("apply", "-f", "home.yaml", "--yes")
    said = igmpconf("doctor")
    assert (said.code, said.out.endswith(": nothing is wrong\n")) == (0, True)
    whole = agent.engine.snapshot
    rule = DeviationRow(kind="firewall", name="inet filter forward", expected="accept udp", found=None)
    monkeypatch.setattr(agent.engine, "snapshot", lambda: dataclasses.replace(whole(), deviations=(rule,)))
    said = igmpconf("doctor")
    assert said.code == 1
    assert "error: inet filter forward: streams" in said.out
    assert "evidence: expected accept udp, found nothing" in said.out
    (row,) = json.loads(igmpconf("doctor", "--format", "json").out)["devices"][0]["rows"]
    assert (row["code"], row["severity"]) == ("deviation/firewall", "error")


def test_a_device_without_instance(igmpconf, agent):
    said = igmpconf("doctor")
    assert said.code == 1
    assert "[instance/none]" in said.out


@pytest.mark.parametrize("group", ["10.0.0.1", "what"])
def test_what_is_no_group(igmpconf, agent, group):
    assert igmpconf("doctor", "--group", group).code == 3
