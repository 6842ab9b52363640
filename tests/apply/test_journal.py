from __future__ import annotations

import dataclasses
import json
import os

import pytest

from igmpconf.apply.device import LadderPolicy
from igmpconf.apply.journal import Journal, read, rollouts_dir
from igmpconf.apply.rollout import Pace, Record, Share
from igmpconf.apply.run import Settings, plain_settings, settings_of
from igmpconf.errors import IgmpconfError, InputError
from igmpconf.ids import DeviceName
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState
from igmpconf.plan.plan import Plan, planned
from tests.plan.test_impact import BASE, STATE

A, B = DeviceName("a"), DeviceName("b")
CONFIG = from_plain(DeviceConfig, {"igmp-proxy": [BASE]})
PLAN = Plan(plan_id="p1", devices=(planned("a", CONFIG, DeviceConfig(), STATE), planned("b", DeviceConfig(), CONFIG, DeviceState())))
TARGETS = {"a": {"kind": "unix", "device": "a", "path": "/x"}, "b": {"kind": "unix", "device": "b", "path": "/y"}}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def written(*records: Record) -> Journal:
    journal = Journal.create("r1", PLAN, atomic="device", confirm_timeout_s=60, targets=TARGETS)
    for record in records:
        journal.write(record)
    journal.close()
    return journal


@pytest.mark.parametrize(
    ("records", "unsettled"),
    [
        ((), {}),
        ((Record(A, "committing"),), {A: False}),
        ((Record(A, "committing"), Record(A, "confirming")), {A: True}),
        ((Record(A, "committing"), Record(A, "confirming"), Record(A, "ended", "confirmed")), {}),
        ((Record(A, "committing"), Record(A, "cancelling")), {A: False}),
        ((Record(A, "committing"), Record(A, "cancelling"), Record(A, "ended", "rolled back")), {}),
        ((Record(A, "committing"), Record(A, "ended", "not begun")), {}),
        ((Record(A, "committing"), Record(A, "ended", "in doubt")), {A: False}),
        ((Record(A, "committing"), Record(A, "ended", "left unconfirmed")), {A: False}),
        ((Record(A, "committing"), Record(B, "committing"), Record(None, "decided-keep"), Record(A, "confirming"), Record(A, "ended", "confirmed")), {B: True}),
        ((Record(A, "committing"), Record(B, "committing"), Record(A, "confirming"), Record(None, "decided-undo")), {A: False, B: False}),
    ],
)
def test_what_is_left_to_settle(records, unsettled):
    written(*records)
    story = read("r1")
    assert story.unsettled == unsettled
    assert (story.plan, story.targets, story.confirm_timeout_s) == (PLAN, TARGETS, 60)


def test_a_torn_last_line_was_never_promised_and_does_no_harm():
    path = written(Record(A, "committing"), Record(A, "confirming")).path
    whole = path.read_bytes()
    for cut in range(len(whole) - 1, whole.rindex(b'{"what": "confirming"'), -1):
        path.write_bytes(whole[:cut])
        assert read("r1").unsettled in ({A: False}, {A: True})
        again = Journal.reopen("r1")
        again.write(Record(A, "ended", "rolled back"))
        again.close()
        assert read("r1").unsettled == {}


def test_a_name_is_used_once():
    written()
    with pytest.raises(IgmpconfError, match="cannot be written"):
        written()


def test_two_processes_do_not_act_on_one_journal():
    path = written(Record(A, "committing")).path
    held = Journal.reopen("r1")
    before = path.read_bytes()
    with pytest.raises(IgmpconfError, match="apply r1 is still at work in another process"):
        Journal.reopen("r1")
    held.close()
    Journal.reopen("r1").close()
    assert path.read_bytes() == before


def test_how_it_was_begun_is_kept_and_a_journal_that_does_not_say_cannot_go_on():
    pace = Pace(waves=(Share(1), Share(10, is_percent=True)), max_failures=2, parallel=7)
    policy = LadderPolicy(confirm_timeout_s=90, is_confirmed=False, connect_timeout_s=1.5, device_timeout_ms=9_000)
    settings = Settings(policy=policy, pace=pace, allow_down=("lan*",), comment="why")
    Journal.create("r2", PLAN, atomic="device", confirm_timeout_s=90, targets=TARGETS, settings=plain_settings(settings)).close()
    assert settings_of(read("r2")) == settings
    written()
    with pytest.raises(InputError, match="does not say how it was begun"):
        settings_of(read("r1"))
    damaged = dataclasses.replace(read("r2"), settings={"policy": {"nonsense": 1}, "pace": {"waves": ["x"]}})
    with pytest.raises(InputError, match="in a way that this igmpconf does not know"):
        settings_of(damaged)


def test_only_its_owner_reads_it():
    path = written().path
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_disk_that_is_full_stops_the_rollout(monkeypatch):
    def full(_fd, _data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(IgmpconfError, match="No space left") as caught:
        written()
    assert "nothing more is sent" in caught.value.hint


@pytest.mark.parametrize("text", ["", "garbage\n", '{"format": "other"}\n', json.dumps({"what": "committing"}) + "\n"])
def test_what_is_no_journal_is_told(text):
    rollouts_dir().mkdir(parents=True)
    (rollouts_dir() / "r1.jsonl").write_text(text)
    with pytest.raises(InputError):
        read("r1")


def test_a_missing_journal_names_the_latest():
    with pytest.raises(InputError) as caught:
        read("nothing")
    assert "there is none" in caught.value.hint
    written()
    with pytest.raises(InputError) as caught:
        read("nothing")
    assert caught.value.hint == "the latest are: r1"
