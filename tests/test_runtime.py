"""The driver: outcomes come first, one timer at the earliest deadline, no endless quarrel."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from igmpconf.runtime import Clock, Driver, PromptSelector


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

    run_until(loop, lambda: machine.deadline_ms is None)
    ticks = [now_ms for event, now_ms in machine.heard if event == "time"]
    assert ticks[-1] >= wanted_ms
    driver.close()


def run_until(loop, condition):
    async def wait():
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            await asyncio.sleep(0.001)

    loop.run_until_complete(wait())


def test_news_that_waits_is_heard_before_the_deadline_that_it_moves(loop):
    clock = Clock()
    machine = Recorder()
    waiting = ["news"]
    driver = Driver(machine, lambda effects: [], "time", clock=clock, loop=loop, hear_first=lambda: driver.feed([waiting.pop()] if waiting else []) and None)
    machine.deadline_ms = clock() + 5
    driver.feed([])
    run_until(loop, lambda: machine.deadline_ms is None)
    assert [event for event, _ in machine.heard][:2] == ["news", "time"]
    driver.close()


def test_a_bug_in_the_machine_does_not_stop_the_clock(loop, monkeypatch):
    monkeypatch.setattr("igmpconf.runtime._AFTER_A_BUG_MS", 5)
    errors = []
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))

    class Stumbling(Recorder):
        def handle(self, event, now_ms):
            if not self.heard:
                self.heard.append((event, now_ms))
                raise ValueError("a bug")
            return super().handle(event, now_ms)

    machine = Stumbling()
    driver = Driver(machine, lambda effects: [], "time", clock=Clock(), loop=loop)
    machine.deadline_ms = 1
    driver.feed([])
    run_until(loop, lambda: machine.deadline_ms is None)
    assert [str(error) for error in errors] == ["a bug"]
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


# -- readers that the selector calls itself -------------------------------------------------------------------------------


@pytest.fixture
def prompt():
    selector = PromptSelector()
    loop = asyncio.SelectorEventLoop(selector)
    ours, theirs = socket.socketpair()
    yield selector, loop, ours, theirs
    loop.close()
    ours.close()
    theirs.close()


def test_a_prompt_reader_is_called_from_the_poll_and_the_loop_goes_on(prompt):
    selector, loop, ours, theirs = prompt
    order = []

    def read():
        order.append(ours.recv(1))
        loop.call_soon(order.append, "soon")

    selector.add_prompt_reader(ours.fileno(), read)
    loop.call_later(0.01, theirs.send, b"x")
    loop.call_later(0.03, order.append, "timer")
    run_until(loop, lambda: len(order) == 3)
    assert order == [b"x", "soon", "timer"]
    selector.remove_prompt_reader(ours.fileno())
    selector.remove_prompt_reader(ours.fileno())
    theirs.send(b"y")
    loop.run_until_complete(asyncio.sleep(0.01))
    assert len(order) == 3


def test_ordinary_readers_and_writers_work_beside_it(prompt):
    _, loop, ours, theirs = prompt

    async def talk():
        reader, writer = await asyncio.open_connection(sock=theirs)
        writer.write(b"?" * 1_000_000)  # more than the socket takes at once: it has to wait until it may write
        left = 1_000_000
        while left:
            left -= len(await loop.sock_recv(ours, 65_536))
        await writer.drain()
        await loop.sock_sendall(ours, b"!")
        assert await reader.readexactly(1) == b"!"
        writer.close()

    ours.setblocking(False)
    loop.run_until_complete(asyncio.wait_for(talk(), 10))


def test_what_a_prompt_reader_raises_is_told_and_ends_nothing(prompt):
    selector, loop, ours, theirs = prompt
    told = []

    def read():
        ours.recv(1)
        raise ValueError("a bug")

    selector.failed = told.append
    selector.add_prompt_reader(ours.fileno(), read)
    theirs.send(b"x")
    run_until(loop, lambda: told)
    theirs.send(b"x")
    run_until(loop, lambda: len(told) == 2)
    assert [str(error) for error in told] == ["a bug", "a bug"]
