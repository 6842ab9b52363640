from __future__ import annotations

import contextlib
import dataclasses
import json

import jsonschema
import pytest

from igmpconf.cli.doctor import json_schema
from igmpconf.model.diagnosis import Diagnosis
from igmpconf.model.state import DeviationRow
from tests.apply.agents import running_agent


def test_text_and_json_and_exit_code(igmpconf, agent, monkeypatch):
    igmpconf("apply", "-f", "home.yaml", "--yes")
    said = igmpconf("doctor")
    assert (said.code, said.out.endswith(": nothing is wrong\n")) == (0, True)
    assert "not looked at: what passes on the device" in said.err  # this agent has no kernel below it
    whole = agent.engine.snapshot
    rule = DeviationRow(kind="firewall", name="inet filter forward", expected="accept udp", found=None)
    monkeypatch.setattr(agent.engine, "snapshot", lambda: dataclasses.replace(whole(), deviations=(rule,)))
    said = igmpconf("doctor")
    assert said.code == 1
    assert "error: inet filter forward: streams" in said.out
    assert "evidence: expected accept udp, found nothing" in said.out
    document = json.loads(igmpconf("doctor", "--format", "json").out)
    jsonschema.validate(document, json_schema())
    (row,) = document["devices"][0]["rows"]
    assert (row["code"], row["severity"]) == ("deviation/firewall", "error")
    assert igmpconf("doctor", "--symptom", "unwanted").code == 0


def test_a_device_without_instance(igmpconf, agent):
    said = igmpconf("doctor")
    assert said.code == 1
    assert "[instance/none]" in said.out


def test_a_fleet_is_asked_at_once_and_who_is_not_there_is_told(igmpconf, place, tmp_path):
    """Each device has its own findings; the one that does not answer has an error, and the others are told all the same."""
    with contextlib.ExitStack() as stack:
        lines = ["all:", "  hosts:"]
        for name in ("north", "south"):
            (tmp_path / name).mkdir()
            running = stack.enter_context(running_agent(tmp_path / name, examine=lambda question, _: Diagnosis(window_ms=question.window_ms)))
            lines.append(f"    {name}: {{ansible_connection: local, igmpconf_socket: {running.socket_path}}}")
            if name == "north":
                assert igmpconf("apply", "-f", "home.yaml", "-d", f"unix:{running.socket_path}", "--yes").code == 0
        lines.append(f"    gone: {{ansible_connection: local, igmpconf_socket: {tmp_path}/nobody.sock}}")
        (place / "fleet.yml").write_text("\n".join(lines) + "\n")
        said = igmpconf("doctor", "-i", "fleet.yml", "--format", "json", "--for", "300ms")
    document = json.loads(said.out)
    jsonschema.validate(document, json_schema())
    told = {device["device"]: device for device in document["devices"]}
    assert said.code == 5
    assert list(told["gone"]) == ["device", "error"]
    assert [row["code"] for row in told["north"]["rows"]] == []
    assert [row["code"] for row in told["south"]["rows"]] == ["instance/none"]
    assert told["south"]["window_ms"] == 300


@pytest.mark.parametrize("arguments", [("--group", "10.0.0.1"), ("--group", "what"), ("--for", "61s"), ("--for", "soon")])
def test_what_cannot_be_asked(igmpconf, agent, arguments):
    assert igmpconf("doctor", *arguments).code == 3
