"""`igmpconf replay`: the transcript, the state at the end, and a difference that is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from igmpconf.cli.main import run

RECORDING = Path(__file__).parent / "two-televisions" / "steps.jsonl"


def altered(tmp_path, change):
    lines = [json.loads(line) for line in RECORDING.read_text("utf-8").splitlines()]
    change(lines)
    made = tmp_path / "altered.jsonl"
    made.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(made)


def first(lines, kind, effects=True):
    return next(line for line in lines if kind in line.get("event", {}) and (not effects or line.get("effects")))


def test_the_transcript_reads_like_what_happened(capsys):
    assert run(["replay", str(RECORDING)]) == 0
    said = capsys.readouterr().out
    assert ">> lan0 < 10.2.0.11: v3 report TO_EX 239.1.1.1 {}" in said
    assert "<< route (*, 239.1.1.1) wan -> wan lan0" in said
    assert "<< wan > 224.0.0.22: v3 report TO_EX 239.1.1.1 {}" in said
    assert said.rstrip().endswith("every effect as recorded")


def test_until_stops_the_clock_and_shows_the_state_then(capsys):
    assert run(["replay", str(RECORDING), "--until", "4", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "at 4000 ms" in said
    assert ">>" not in said
    (row,) = [line.split() for line in said.splitlines() if line.startswith("lan1  ")]
    assert row[1:3] == ["239.2.2.2", "10.3.0.13"]


def test_json_has_every_step_and_the_state(capsys):
    assert run(["replay", str(RECORDING), "--until", "4", "--format", "json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert told["events"] == len(told["steps"])
    assert told["differences"] == 0
    assert {row["group"] for row in told["state"]["default/ipv4"]["groups"]} == {"239.1.1.1", "239.2.2.2"}
    assert any("SetRoute" in effect for step in told["steps"] for effect in step["effects"])


def _another_oif(lines):
    line = first(lines, "PacketReceived")
    route = next(effect["SetRoute"] for effect in line["effects"] if "SetRoute" in effect)
    route["oifs"] = route["oifs"][:1]


def _another_chance(lines):
    line = next(line for line in lines if line.get("draws"))
    line["draws"] = []


def _another_packet(lines):
    line = first(lines, "PacketReceived")
    line["event"]["PacketReceived"]["payload"] = "2200eafb0000000103000000ef010101"  # a leave in place of the join


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (_another_oif, "+ route (*, 239.1.1.1) wan -> wan lan0"),
        (_another_chance, "+ drew a number up to 1000"),
        (_another_packet, "- wan > 224.0.0.22: v3 report TO_EX 239.1.1.1"),
        (lambda lines: first(lines, "PacketReceived").update(raised="KeyError(1)"), "raised nothing; recorded: KeyError(1)"),
    ],
)
def test_a_difference_is_told_with_its_line_and_exit_code_1(tmp_path, capsys, change, word):
    assert run(["replay", altered(tmp_path, change), "--quiet"]) == 1
    said = capsys.readouterr().out
    assert word in said
    assert "DIFFERS (line " in said
    assert "events differ" in said


def test_a_later_run_is_played_alone(capsys):
    recording = str(RECORDING.parent.parent / "kill-and-adoption" / "steps.jsonl")
    assert run(["replay", recording, "--run", "2"]) == 0
    said = capsys.readouterr().out
    assert "the kernel holds (*, *) wan -> wan lan0 lan1; " in said
    assert "no entries" not in said
    assert run(["replay", recording, "--run", "3"]) == 3
    assert "has no run 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "is empty"),
        ("hello\n", ":1: not a line of a recording"),
        ('{"machine": ["default", "ipv4"], "opened_at_ms": 1}\n', "the first line has no 'igmpconf-recording'"),
        ('{"igmpconf-recording": 2, "program": "9", "started": "x"}\n', "version 2 of the format, this program reads version 1"),
        (
            '{"igmpconf-recording": 1, "program": "9", "started": "x"}\n{"machine": ["default", "ipv4"], "at_ms": 1, "event": {"Rained": {}}}\n',
            ":2: not a line of a recording: unknown 'Rained'",
        ),
        (
            '{"igmpconf-recording": 1, "program": "9", "started": "x"}\n{"machine": ["default", "ipv4"], "at_ms": 1, "event": {"TimePassed": {}}}\n',
            "never opened machine",
        ),
    ],
)
def test_what_is_no_recording_is_refused_at_its_line(tmp_path, capsys, text, word):
    made = tmp_path / "x.jsonl"
    made.write_text(text, encoding="utf-8")
    assert run(["replay", str(made)]) == 3
    assert word in capsys.readouterr().err
