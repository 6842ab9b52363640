"""Every system call of commit, confirm, cancel, timeout, rollback and upgrade is, in turn, the one that goes wrong.

After each: datastore, engine and kernel are wholly old or wholly new and agree with each other, with the disk, and with what the client was
told; what was not confirmed undoes itself; and the next transaction works.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from igmpconf.agent.journal import Journal, StateDirectoryError
from igmpconf.model.config import DeviceConfig
from tests.faults.conftest import struck
from tests.faults.faults import FAULTS, Fault
from tests.faults.scenarios import SCENARIOS, TIMEOUT_S, C, Scenario
from tests.faults.world import Device, Killed

_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # what a disk does is told to a model
_PAUSES_S = (1, 6, 10, 70)  # the datastore tries again after 5 s, the engine after 1, 2, 4 and up to 60 s


@contextmanager
def device() -> Iterator[Device]:
    with tempfile.TemporaryDirectory(prefix="faults-", dir=_MEMORY) as directory:
        made = Device(Path(directory))
        try:
            yield made
        finally:
            made.close()


@functools.cache
def truth_of(config: DeviceConfig) -> object:
    """What the kernel of a device does that never had another configuration, while the same host listens."""
    with device() as made:
        made.start()
        if config != DeviceConfig():
            assert made.commit(config) == "ok"
        made.hosts_report()
        made.pass_time(1)
        return made.kernel.truth()


@functools.cache
def calls_of(scenario: Scenario) -> tuple[str, ...]:
    with device() as made:
        scenario.prepare(made)
        made.faults.arm(0, lambda _: None)
        assert scenario.act(made) in {None, "ok"}
        calls = tuple(made.faults.calls)
        made.faults.disarm()
        assert made.running == scenario.new
        return calls


def agrees(made: Device, *allowed: DeviceConfig) -> None:
    """Datastore, engine, kernel and disk say the same, and it is one of `allowed`; what was refused has been tried again."""
    for pause_s in _PAUSES_S:
        made.hosts_report()
        made.pass_time(pause_s)
        if _is_settled(made):
            break
    assert made.running in allowed, f"neither old nor new: {made.running}"
    assert made.kernel.truth() == truth_of(made.running), "the kernel does something else"
    assert _is_settled(made), "the engines have something else"


def _is_settled(made: Device) -> bool:
    assert made.life is not None
    assert made.life.runner is not None
    in_force = {one.config for one in made.life.runner._instances.values()}
    return made.kernel.truth() == truth_of(made.running) and in_force == set(made.running.proxies)


def strike(made: Device, scenario: Scenario, fault: Fault, at: int) -> str:
    """The fault at call `at`; what was told to whoever asked: ok, an error, nothing, that the agent cannot start, or that the line is dead."""
    made.faults.arm(at, fault.act(made), lasts=fault.lasts)
    try:
        return scenario.act(made) or "nothing"
    except Killed:
        return "dead"
    except StateDirectoryError:
        return "cannot start"
    finally:
        made.faults.disarm()
        made.disk.takes_only, made.disk.is_full = None, False


def judge(made: Device, scenario: Scenario, fault: Fault, told: str) -> None:
    """What must hold after the fault, once the world is well again."""
    old, new, before = scenario.old, scenario.new, scenario.before or scenario.old
    if told in {"dead", "cannot start"}:
        made.lose_all() if fault.dies == "all" else made.lose_worker()
        made.start()
    was_pending = made.is_pending
    agrees(made, old, new, *((before,) if was_pending else ()))
    if was_pending:  # a change that nobody confirms undoes itself
        assert scenario.waits
        made.pass_time(TIMEOUT_S)
        agrees(made, new if scenario.is_undo else old)
    elif told == "ok":
        assert made.running == new or fault.loses_session
    elif told not in {"dead", "nothing", "cannot start"}:
        assert made.running == before, f"the client was told {told}"
    if scenario.is_undo:
        assert made.running == new, "what has to be undone is undone"
    says_which(made)
    assert made.commit(C, plan="next") == "ok"
    agrees(made, C)
    on_disk(made, C)


def says_which(made: Device) -> None:
    """The history's last row is about what runs, and rows are numbered without gaps."""
    history = made.store.machine.history
    assert [row.number for row in history] == list(range(1, len(history) + 1))
    assert not history or history[-1].config == made.running


def on_disk(made: Device, expected: DeviceConfig) -> None:
    """What a restart would find is this, settled."""
    assert made.life is not None
    assert made.life.journal is not None
    made.life.journal.close()
    journal = made.life.journal = Journal(made.state_dir)
    assert (journal.found.running, journal.found.pending) == (expected, None)
    assert journal.findings == []


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.name)
def test_wholly_old_or_wholly_new_whatever_goes_wrong(scenario: Scenario, fault: Fault) -> None:
    calls = calls_of(scenario)
    places = [at for at, call in enumerate(calls, start=1) if fault.strikes(call)]
    for at in struck(fault.name, places, SCENARIOS.index(scenario) + FAULTS.index(fault)):
        with device() as made:
            scenario.prepare(made)
            told = strike(made, scenario, fault, at)
            try:
                judge(made, scenario, fault, told)
            except BaseException as why:
                why.add_note(f"{scenario.name}, {fault.name} at call {at} ({calls[at - 1]}), told {told}; calls: {' '.join(calls)}")
                raise


def test_the_calls_are_those_of_the_whole_transaction() -> None:
    """A matrix over calls that nobody counts would be empty and green."""
    found = {call for scenario in SCENARIOS for call in calls_of(scenario)}
    files = {"create", "write", "flush", "rename", "flush_directory", "make_directory"}
    kernel = {f"kernel {verb}" for verb in ("open_table", "routes", "add_vif", "del_vif", "join_routers", "set_route", "clear_route", "send")}
    assert found == files | kernel | {"link create", "link up", "link remove", "setting"}
    assert len(calls_of(next(one for one in SCENARIOS if one.name == "commit"))) > 40
