"""Every scenario that was recorded on a real kernel happens again, effect for effect.

A scenario is a directory: topology.txt says who is who, config.yaml is what was configured, steps.jsonl is what
`igmpconf-agent run --record` wrote (record.py makes all of them anew).  A recording from the field becomes a test by
being put here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from igmpconf.agent.replay import ENGINE, Replay
from igmpconf.engine.effects import Note, SetRoute
from igmpconf.engine.events import ConfigReplaced, LinkChanged, PacketReceived, RoutesFound
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.observe.record import RunBegan, Step, entries

NAMES = sorted(path.parent.name for path in Path(__file__).parent.glob("*/steps.jsonl"))
HERE = Path(__file__).parent


@pytest.mark.parametrize("name", NAMES)
def test_it_happens_again(name):
    replay = Replay()
    differences, steps = [], 0
    for entry in entries(HERE / name / "steps.jsonl", ENGINE):
        played = replay.play(entry)
        if played is not None:
            steps += 1
            differences += [f"line {entry.line}: {played.told}: {line}" for line in played.differences]
    assert steps >= 10
    assert not differences, "\n" + "\n".join(differences)


@pytest.mark.parametrize("name", NAMES)
def test_its_files_speak_of_the_same_network(name):
    steps = [entry for entry in entries(HERE / name / "steps.jsonl", ENGINE) if isinstance(entry, Step)]
    config = from_plain(DeviceConfig, yaml.safe_load((HERE / name / "config.yaml").read_text("utf-8")))
    assert next(step.event for step in steps if isinstance(step.event, ConfigReplaced)).config in config.proxies
    drawing = (HERE / name / "topology.txt").read_text("utf-8")
    for proxy in config.proxies:
        assert all(entry.interface in drawing for entry in proxy.interfaces)
    assert any(isinstance(step.event, PacketReceived) for step in steps)
    assert all(link.name in drawing for step in steps if isinstance(link := step.event, LinkChanged) and link.addresses and link.name != "lo")


def notes(name):
    return [effect for entry in entries(HERE / name / "steps.jsonl", ENGINE) if isinstance(entry, Step) for effect in entry.effects if isinstance(effect, Note)]


def test_the_scenarios_show_what_they_are_kept_for():
    """A recording made anew must not have lost its point."""
    joined = [note.fields["sender"] for note in notes("two-televisions") if note.event == "membership/joined"]
    assert joined == ["10.2.0.11", "10.3.0.13"]
    left = [
        step
        for step in entries(HERE / "two-televisions" / "steps.jsonl", ENGINE)
        if isinstance(step, Step) and any(isinstance(e, Note) and e.event == "membership/left" for e in step.effects)
    ]
    assert [step.event.sender for step in left if isinstance(step.event, PacketReceived)] == [
        bytes((10, 2, 0, 12)),
        bytes((10, 3, 0, 13)),
    ]  # at once, by the last host's leave
    runs = [entry for entry in entries(HERE / "kill-and-adoption" / "steps.jsonl", ENGINE) if isinstance(entry, RunBegan)]
    assert len(runs) == 2
    found = [
        entry.event for entry in entries(HERE / "kill-and-adoption" / "steps.jsonl", ENGINE) if isinstance(entry, Step) and isinstance(entry.event, RoutesFound)
    ]
    assert [len(event.routes) for event in found] == [0, 4]
    after = [entry for entry in entries(HERE / "kill-and-adoption" / "steps.jsonl", ENGINE) if isinstance(entry, Step) and entry.line > runs[1].line]
    assert not [effect for entry in after for effect in entry.effects if isinstance(effect, SetRoute)]  # adopted as it was
    assert [note.event for note in notes("querier-election") if note.event.startswith("querier/")] == ["querier/lost", "querier/taken"]
