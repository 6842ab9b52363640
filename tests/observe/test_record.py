"""Recordings: what is on the disk after each kind of end, and that the machine never notices."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass

import pytest

from igmpconf.errors import IgmpconfError
from igmpconf.observe.record import MachineOpened, Recorder, RecordingEnded, RunBegan, Step, Vocabulary, entries


@dataclass(frozen=True, slots=True)
class Asked:
    number: int


@dataclass(frozen=True, slots=True)
class Rang:
    pass


@dataclass(frozen=True, slots=True)
class Answered:
    number: int


@dataclass(frozen=True, slots=True)
class Silent:
    pass


WORDS = Vocabulary.of(Asked | Rang, Answered | Silent)


class Dice:
    """A machine that answers with the number asked for plus chance, and dies of 13."""

    def __init__(self, draw):
        self.draw = draw

    def handle(self, event, now_ms):
        if isinstance(event, Rang):
            return ()
        if event.number == 13:
            raise ValueError("thirteen")
        return (Answered(event.number + self.draw(6)),)

    def next_deadline_ms(self):
        return 7


def tapped(recorder, drawn=4):
    tap = recorder.tap(("dice", "ipv4"), lambda limit: min(drawn, limit), 5)
    return tap.around(Dice(tap.draw))


def recorder(path, told=None, **more):
    return Recorder(path, WORDS, program="1.2", tell=(told if told is not None else []).append, **more)


def test_events_chance_and_effects_are_kept(tmp_path):
    made = recorder(tmp_path / "r")
    machine = tapped(made)
    assert machine.handle(Asked(1), 10) == (Answered(5),)
    assert machine.handle(Rang(), 20) == ()
    assert machine.next_deadline_ms() == 7
    made.close()
    began, opened, first, second = entries(tmp_path / "r", WORDS)
    assert isinstance(began, RunBegan)
    assert began.program == "1.2"
    assert opened == MachineOpened(2, ("dice", "ipv4"), 5)
    assert first == Step(3, ("dice", "ipv4"), 10, Asked(1), ((6, 4),), (Answered(5),))
    assert second == Step(4, ("dice", "ipv4"), 20, Rang(), (), ())


def test_the_event_that_a_machine_dies_of_is_kept(tmp_path):
    made = recorder(tmp_path / "r")
    with pytest.raises(ValueError, match="thirteen"):
        tapped(made).handle(Asked(13), 10)
    *_, step = entries(tmp_path / "r", WORDS)
    assert (step.event, step.raised) == (Asked(13), "ValueError('thirteen')")
    made.close()


def test_it_is_on_the_disk_before_the_effects_are_performed_and_only_for_its_owner(tmp_path):
    made = recorder(tmp_path / "r")
    machine = tapped(made)
    for number in range(3):
        machine.handle(Asked(number), number)
        assert len((tmp_path / "r").read_text().splitlines()) == 3 + number
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o600
    made.close()


def test_a_full_file_ends_the_recording_and_nothing_else(tmp_path):
    told = []
    made = recorder(tmp_path / "r", told, limit_bytes=400)
    machine = tapped(made)
    assert [machine.handle(Asked(1), number) for number in range(20)] == [(Answered(5),)] * 20
    assert told == ["limit of 400 octets reached"]
    *_, end = entries(tmp_path / "r", WORDS)
    assert end == RecordingEnded(end.line, "limit of 400 octets reached")
    assert (tmp_path / "r").stat().st_size < 500


def test_the_limit_counts_what_former_runs_wrote(tmp_path):
    first = recorder(tmp_path / "r", limit_bytes=500)
    tapped(first)
    first.close()
    told = []
    machine = tapped(recorder(tmp_path / "r", told, limit_bytes=500))
    for number in range(20):
        machine.handle(Asked(1), number)
    assert len(told) == 1
    assert (tmp_path / "r").stat().st_size < 600


def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path):
    told = []
    made = recorder(tmp_path / "r", told)
    machine = tapped(made)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, made._fd)
    os.close(full)
    assert machine.handle(Asked(1), 1) == (Answered(5),)
    assert machine.handle(Asked(1), 2) == (Answered(5),)
    assert told == [os.strerror(errno.ENOSPC)]


def test_a_process_killed_within_a_line_does_not_spoil_the_file(tmp_path):
    first = recorder(tmp_path / "r")
    tapped(first).handle(Asked(1), 1)
    first.close()
    text = (tmp_path / "r").read_bytes()
    (tmp_path / "r").write_bytes(text + text.splitlines()[-1][:20])
    *_, end = entries(tmp_path / "r", WORDS)
    assert isinstance(end, RecordingEnded)
    second = recorder(tmp_path / "r")
    tapped(second).handle(Asked(2), 2)
    second.close()
    found = list(entries(tmp_path / "r", WORDS))
    assert [type(entry).__name__ for entry in found] == ["RunBegan", "MachineOpened", "Step", "RecordingEnded", "RunBegan", "MachineOpened", "Step"]
    assert found[-1].event == Asked(2)


def test_a_file_that_is_something_else_is_not_touched(tmp_path):
    (tmp_path / "r").write_text("my thesis\n")
    with pytest.raises(IgmpconfError, match="is no recording") as refused:
        recorder(tmp_path / "r")
    assert refused.value.hint
    assert (tmp_path / "r").read_text() == "my thesis\n"
    with pytest.raises(IgmpconfError, match="No such file or directory"):
        recorder(tmp_path / "nowhere" / "r")


def test_lines_are_json(tmp_path):
    made = recorder(tmp_path / "r")
    tapped(made).handle(Asked(1), 1)
    made.close()
    assert all(isinstance(json.loads(line), dict) for line in (tmp_path / "r").read_text().splitlines())
