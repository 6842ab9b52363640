"""The power goes off at every call, and each thing that the disk may hold then is what the next start finds; and a journal cut anywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from igmpconf.agent.document import DamagedError, checked
from igmpconf.agent.image import Image
from igmpconf.agent.journal import Journal
from igmpconf.model.config import DeviceConfig
from tests.faults.conftest import CASES, struck
from tests.faults.scenarios import SCENARIOS, C, Scenario
from tests.faults.test_matrix import agrees, calls_of, device, says_which
from tests.faults.world import Device, Killed


def found_in(content: dict[Path, bytes], state_dir: Path, place: Path) -> Image:
    """What a start finds when this is on the disk."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "commits").mkdir(parents=True)
    for path, data in content.items():
        (place / path.relative_to(state_dir)).write_bytes(data)
    journal = Journal(place)
    journal.close()
    return journal.found


def after_start(image: Image) -> DeviceConfig:
    return image.pending.rollback if image.pending is not None else image.running


def allowed(scenario: Scenario) -> set[DeviceConfig]:
    return {scenario.new} if scenario.is_undo else {scenario.old, scenario.new}


def cut(made: Device, scenario: Scenario, at: int) -> None:
    made.faults.arm(at, made.faults.die)
    try:
        scenario.act(made)
    except Killed:
        pass


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_a_power_cut_at_any_call(scenario: Scenario, tmp_path: Path) -> None:
    places = range(1, len(calls_of(scenario)) + 2)  # the last: after all of it
    for at in struck("power cut", places, SCENARIOS.index(scenario)):
        with device() as made:
            scenario.prepare(made)
            cut(made, scenario, at)
            variants = made.disk.left_by_a_power_cut()
            CASES["what a power cut leaves"] += len(variants)
            for content in variants:
                found = after_start(found_in(content, made.state_dir, tmp_path / "state"))
                assert found in allowed(scenario), f"call {at}: {found}; files {sorted(path.name for path in content)}"
                if at > len(calls_of(scenario)) and not scenario.waits:
                    assert found == scenario.new, "what was told to be done is gone"
            made.lose_power(variants[at % len(variants)])
            made.start()
            agrees(made, *allowed(scenario))
            says_which(made)
            assert made.commit(C, plan="next") == "ok"
            agrees(made, C)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_a_journal_cut_at_any_octet_is_noticed_and_the_one_before_it_used(scenario: Scenario, tmp_path: Path) -> None:
    for content in journals_of(scenario):
        path = next(one for one in content if one.name == "journal.json")
        whole = content[path]
        for length in range(len(whole) - 2):  # without the last newlines it is still whole
            with pytest.raises(DamagedError):
                checked(whole[:length], path, "journal")
        CASES["journal cut at an octet"] += len(whole) - 2
        for length in (0, 1, len(whole) // 2, len(whole) - 3):
            found = found_in(content | {path: whole[:length]}, path.parent, tmp_path / "state")
            assert after_start(found) in allowed(scenario)
            assert (tmp_path / "state" / "journal.json.damaged-1").read_bytes() == whole[:length]


def journals_of(scenario: Scenario) -> list[dict[Path, bytes]]:
    """What is on the disk each time that the scenario has written the journal anew, and an older one is there too."""
    found = []
    with device() as made:
        scenario.prepare(made)
        seen = [b""]

        def look(_: str) -> None:
            files = {path: inode.data for path, inode in made.disk.names.items() if path.suffix != ".new"}
            names = {path.name: data for path, data in files.items()}
            if {"journal.json", "journal.json.previous"} <= names.keys() and names["journal.json"] != seen[-1]:
                seen.append(names["journal.json"])
                found.append(files)

        made.faults.arm(1, look, lasts=True)
        scenario.act(made)
        look("")
        made.faults.disarm()
    return found


def test_the_model_of_the_disk_notices_a_rename_without_a_flush(tmp_path: Path) -> None:
    """What it would say of a journal that forgets to."""
    with device() as made:
        disk, path = made.disk, made.state_dir / "journal.json"
        made.state_dir.mkdir()
        descriptor = disk.create(path.with_suffix(".new"))
        disk.write(descriptor, memoryview(b"abc"))
        disk.close(descriptor)
        disk.rename(path.with_suffix(".new"), path)
        left = [content.get(path) for content in disk.left_by_a_power_cut()]
        assert {b"", b"a", b"ab", b"abc", None} == set(left)
