"""The driver: outcomes come first, one timer at the earliest deadline, no endless quarrel."""

from __future__ import annotations

import asyncio
import time

import pytest

from igmpconf.runtime import Clock, Driver


class Recorder:
    """A machine that notes what it hears and does what its script says."""

    def __init__(self, script=None) -> None:
        self.heard: list[tuple[str, int]] = []
        self.script = script or {}
        self.deadline_ms: int | None = None

    def handle(self, event, now_ms):
        self.heard.append((event, now_ms))
        if event == "time" and self.deadline_ms is not None and self.deadline_ms <= now_ms:
            self.deadline_ms = None
        return self.script.get(event, ())

    def next_deadline_ms(self):
        return self.deadline_ms


@pytest.fixture
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


def test_outcomes_are_heard_before_the_next_event(loop):
    machine = Recorder({"first": ("try",), "refused": ("try again",)})
    performed = []

    def perform(effects):
        performed.extend(effects)
        return ["refused"] if effects == ("try",) else []

    driver = Driver(machine, perform, "time", clock=lambda: 0, loop=loop)
    assert driver.feed(["first", "second"]) == ["refused"]
    assert [event for event, _ in machine.heard] == ["first", "refused", "second"]
    assert performed == ["try", "try again"]


def test_a_machine_that_never_gives_in_is_a_bug_that_shows(loop):
    machine = Recorder({"first": ("try",), "refused": ("try",)})
    driver = Driver(machine, lambda effects: ["refused"] * len(effects), "time", clock=lambda: 0, loop=loop)
    with pytest.raises(AssertionError, match="without waiting"):
        driver.feed(["first"])


def test_the_timer_follows_the_earliest_deadline(loop):
    clock = Clock()
    machine = Recorder()
    driver = Driver(machine, lambda effects: [], "time", clock=clock, loop=loop)
    machine.deadline_ms = clock() + 60_000
    driver.feed(["late"])
    machine.deadline_ms = wanted_ms = clock() + 30
    driver.feed(["early"])

    async def until_heard():
        deadline = time.monotonic() + 5
        while machine.deadline_ms is not None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)

    loop.run_until_complete(until_heard())
    ticks = [now_ms for event, now_ms in machine.heard if event == "time"]
    assert ticks[-1] >= wanted_ms
    driver.close()


def test_a_closed_driver_sets_no_timer(loop):
    machine = Recorder()
    driver = Driver(machine, lambda effects: [], "time", clock=lambda: 0, loop=loop)
    machine.deadline_ms = 1
    driver.close()
    driver.feed(["event"])
    assert driver._timer is None


def test_the_clock_never_goes_back():
    clock = Clock()
    seen = [clock() for _ in range(1000)]
    assert seen == sorted(seen)
    assert seen[0] < 1000
