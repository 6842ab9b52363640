"""The agent records on the real kernel, and what it recorded happens again."""

from __future__ import annotations

import pytest

from igmpconf.agent.replay import ENGINE, Replay
from igmpconf.cli.main import run
from igmpconf.observe.record import Step, entries
from tests.kit.netns import Net
from tests.scenarios.record import SCENARIOS, Site, a_config

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("name", ["join-and-leave", "kill-and-adoption"])
def test_a_session_of_today_can_be_recorded_and_replayed(tmp_path, capsys, name):
    play, settings = SCENARIOS[name]
    with Net() as net:
        site = Site(net, tmp_path, a_config(settings))
        play(site)
        site.stop()
    replay = Replay()
    played = [done for entry in entries(site.recording, ENGINE) if (done := replay.play(entry)) is not None]
    assert all(not done.differences for done in played)
    assert sum(isinstance(entry, Step) for entry in entries(site.recording, ENGINE)) == len(played) > 10
    assert run(["replay", str(site.recording)]) == 0
    assert "every effect as recorded" in capsys.readouterr().out
