"""The promise of an atomic fleet, with fifty agents of which five run on the real kernel, whatever fails.

It ends with every device new, or every device old, or names those that are not like the others.  Faults: devices that are
unreachable, slow, changed meanwhile, unwilling, or die before any step and come back or do not; a controller that is
killed before or after any line of its journal.  A few cases take all fifty; those that go through every step take six.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from igmpconf.apply import device as ladder
from igmpconf.apply import run
from igmpconf.apply.device import LadderPolicy
from igmpconf.apply.journal import read, rollouts_dir
from igmpconf.apply.result import Result
from igmpconf.apply.session import DeviceSession, config_and_state
from igmpconf.apply.steps import Phase
from igmpconf.errors import TransportError
from igmpconf.ids import DeviceName
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.target import Target, UnixTarget
from igmpconf.plan.plan import Plan, planned
from igmpconf.schema.xml import config_to_xml
from tests.fleet.agents import Fleet
from tests.fleet.fatal import Fatal, Killed
from tests.kit.agent import Agent
from tests.kit.netns import Net

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(240)]


def home(interval: str) -> DeviceConfig:
    interfaces = [{"interface": "wan", "upstream": True}, {"interface": "lan0", "query-interval": interval}]
    return from_plain(DeviceConfig, {"igmp-proxy": [{"interfaces": interfaces}]})


OLD, NEW, OTHER = home("60s"), home("90s"), home("75s")
SIMULATED = [f"s{number:02}" for number in range(1, 46)]
REAL = [f"k{number}" for number in range(1, 6)]


class Sabotaged(DeviceSession):
    """A session that lets something happen before each of its steps."""

    before: Callable[[str, int], None] = staticmethod(lambda _device, _step: None)
    steps: ClassVar[dict[str, int]] = {}

    def perform(self, effect):
        step = self.steps.get(self.target.device, 0)
        self.steps[self.target.device] = step + 1
        type(self).before(self.target.device, step)
        return super().perform(effect)


class World:
    def __init__(self, fleet: Fleet, real: dict[str, Agent]) -> None:
        self.fleet, self.real = fleet, real
        self.cases = itertools.count(1)

    def target(self, name: str) -> Target:
        return UnixTarget(device=name, path=str(self.real[name].socket)) if name in self.real else self.fleet[name].target

    def answering(self, name: str) -> NetconfClient:
        """A session with a device that may be starting."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return NetconfClient.connect(self.target(name))
            except TransportError:
                assert time.monotonic() < deadline, f"{name} does not come back"
                time.sleep(0.05)

    def seen(self, name: str) -> tuple[DeviceConfig, str | None]:
        """What it runs, and what waits there."""
        with self.answering(name) as client:
            config, state = config_and_state(client)
        return config, state.agent.pending_persist_id

    def kill(self, name: str) -> None:
        """As `kill -9`: a simulated agent's sessions end; of a real one the engine dies, and its keeper starts another."""
        if name in self.real:
            pid = self.real[name].engine_pid()
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            self.fleet.kill(name)

    def start(self, name: str) -> None:
        if name not in self.real and self.fleet[name].service is None:
            self.fleet.start(name)

    def make_old(self, names) -> None:
        """Everybody as before the first case."""
        for name in names:
            if name not in self.real:
                self.fleet[name].engine.refuse = lambda _config: False
                self.start(name)
            with self.answering(name) as client:
                running, state = config_and_state(client)
                pending = state.agent.pending_persist_id
                if running == OLD and pending is None:
                    continue
                if pending is not None:
                    client.cancel(pending)
                client.lock()
                client.discard()
                client.edit(config_to_xml(OLD))
                client.commit()

    def plan(self, names) -> Plan:
        found = []
        for name in names:
            with self.answering(name) as client:
                running, state = config_and_state(client)
            assert running == OLD
            found.append(planned(name, running, NEW, state))
        return Plan(plan_id=f"case-{next(self.cases)}", devices=tuple(found))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("fleet")
    with Net() as net, Fleet(directory, SIMULATED) as fleet:
        real = {}
        for name in REAL:
            inside = net.namespace(name)
            for number, ifname in enumerate(("wan", "lan0")):
                inside.run(f"ip link add {ifname} type veth peer name {ifname}-far")
                inside.run(f"ip addr add 10.{number}.0.1/24 dev {ifname}")
                inside.run(f"ip link set {ifname} up")
                inside.run(f"ip link set {ifname}-far up")
            (directory / name).mkdir()
            real[name] = Agent(inside, directory / name)
        made = World(fleet, real)
        made.make_old([*SIMULATED, *REAL])
        try:
            yield made
        finally:
            for agent in real.values():
                agent.stop()


@pytest.fixture(autouse=True)
def impatient(tmp_path, monkeypatch):
    """Nobody waits long for the dead; the rest is as it is."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    monkeypatch.setattr(ladder, "RETRY_MS", 50)
    monkeypatch.setattr(ladder, "GRACE_MS", 200)
    monkeypatch.setattr(run, "DeviceSession", Sabotaged)
    monkeypatch.setattr(run, "Journal", Fatal)
    yield
    Sabotaged.before = staticmethod(lambda _device, _step: None)
    Fatal.at = None


@dataclasses.dataclass
class Ending:
    """How a case ended: the last word on every device, and what the journal had decided."""

    said: dict[str, Phase]
    is_kept: bool
    text: str


def carry_out(world: World, names, *, confirm_timeout_s: int = 30, attempts: int = 1) -> Ending:
    """One rollout, and `--resume` when its controller was killed or somebody is in doubt."""
    plan = world.plan(names)
    Sabotaged.steps, Fatal.lines = {}, 0
    settings = run.Settings(
        policy=LadderPolicy(confirm_timeout_s=confirm_timeout_s, verify_timeout_ms=5_000, attempts=attempts, device_timeout_ms=20_000), atomic="fleet"
    )
    said = {device.device: Phase.SKIPPED for device in plan.devices}
    text = ""
    try:
        result = run.perform(plan, {name: world.target(name) for name in names}, settings)
    except Killed:
        result = None
    Fatal.at, Sabotaged.before = None, staticmethod(lambda _device, _step: None)
    if result is not None:
        _note(said, result)
        text = _told(result)
    for name in names:
        world.start(name)
    for _ in range(2):
        story = read(plan.plan_id)
        said.update({name: Phase(how) for name, how in story.ended.items()})
        if not story.unsettled:
            break
        settled = run.settle(story)
        _note(said, settled)
    journal = (rollouts_dir() / f"{plan.plan_id}.jsonl").read_text()
    assert read(plan.plan_id).unsettled == {}, "the resumed apply settled everybody"
    return Ending(said, '"decided-keep"' in journal, text)


def _note(said: dict[str, Phase], result: Result) -> None:
    said.update({outcome.device: outcome.phase for outcome in result.outcomes})


def _told(result: Result) -> str:
    error = result.error()
    doubtful = result.having(Phase.IN_DOUBT)
    if doubtful:
        assert error is not None
        assert all(outcome.device in error.message for outcome in doubtful), "every doubtful device is named"
        assert error.hint == f"igmpconf apply --resume {result.rollout_id}"
    return "" if error is None else f"{error.message} {error.hint or ''}"


def check(world: World, ending: Ending, *, otherwise: dict[str, DeviceConfig] | None = None) -> None:
    """The promise, by what the devices really run."""
    for name, phase in ending.said.items():
        config, pending = world.seen(name)
        assert pending is None, f"{name} still waits"
        before = (otherwise or {}).get(name, OLD)
        match phase:
            case Phase.CONFIRMED:
                assert config == NEW, name
                assert ending.is_kept, f"{name} is new though nobody decided to keep"
            case Phase.ROLLED_BACK | Phase.REFUSED | Phase.SKIPPED:
                assert config == before, f"{name}: {phase}"
            case _:
                pytest.fail(f"{name} ended as {phase}")
    if not ending.is_kept:
        assert Phase.CONFIRMED not in ending.said.values()


def expect(ending: Ending, phase: Phase | None, *but: str) -> None:
    """All alike but the named ones."""
    found = {name: end for name, end in ending.said.items() if name not in but}
    if phase is Phase.CONFIRMED:
        assert set(found.values()) == {Phase.CONFIRMED}, ending
    else:
        assert set(found.values()) <= {Phase.ROLLED_BACK, Phase.REFUSED, Phase.SKIPPED}, ending


def test_fifty_devices_whatever_is_wrong_with_some_of_them(world, record_property):
    """Healthy; slow; unreachable; changed meanwhile; unwilling; a real engine killed in the middle; all of it at once."""
    everybody = [*SIMULATED, *REAL]

    def slowly(name: str) -> None:
        engine = world.fleet[name].engine
        engine.snapshot = lambda plain=engine.snapshot: (time.sleep(0.02), plain())[1]

    def drifted(name: str) -> None:
        with NetconfClient.connect(world.target(name)) as client:
            client.edit(config_to_xml(OTHER))
            client.commit()

    def unwilling(name: str) -> None:
        world.fleet[name].engine.refuse = lambda config: config == NEW

    def dies(name: str, at: int) -> None:
        Sabotaged.before = staticmethod(lambda device, step: world.kill(name) if (device, step) == (name, at) else None)

    cases: list[tuple[str, Callable[[], None], Phase | None, dict[str, DeviceConfig]]] = [
        ("healthy, some slow", lambda: [slowly(name) for name in SIMULATED[:5]], Phase.CONFIRMED, {}),
        ("one unreachable", lambda: world.kill("s07"), None, {}),
        ("one changed meanwhile", lambda: drifted("s11"), None, {"s11": OTHER}),
        ("one unwilling", lambda: unwilling("s13"), None, {}),
        ("a real engine killed before it is verified", lambda: dies("k2", 8), None, {}),
        (
            "all at once",
            lambda: (slowly("s06"), world.kill("s07"), drifted("s11"), drifted("k5"), unwilling("s13"), dies("k3", 7)),
            None,
            {"s11": OTHER, "k5": OTHER},
        ),
    ]
    for name, prepare, phase, otherwise in cases:
        world.make_old(everybody)
        plain = world.plan

        def prepared(names, plain=plain, prepare=prepare):
            made = plain(names)
            prepare()
            return made

        world.plan = prepared
        try:
            ending = carry_out(world, everybody)
        finally:
            world.plan = plain
        expect(ending, phase)
        check(world, ending, otherwise=otherwise)
        assert len(ending.said) == 50, name
    record_property("cases", {"a fleet of 50": len(cases)})


def test_a_controller_of_fifty_killed_at_some_lines_of_its_journal(world, record_property):
    """The first commit, the last, the decision, an end in the middle."""
    everybody = [*SIMULATED, *REAL]
    lines = [1, 50, 51, 100]
    for line in lines:
        world.make_old(everybody)
        Fatal.at = (line, "after")
        ending = carry_out(world, everybody)
        expect(ending, Phase.CONFIRMED if ending.is_kept else None)
        check(world, ending)
        assert ending.is_kept is (line >= 51), line
    record_property("cases", {"death of the controller of 50": len(lines)})


SIX = [*SIMULATED[:5], "k1"]


def test_a_device_that_dies_before_any_step_and_comes_back_or_does_not(world, record_property):
    deaths = [("s03", at, comes_back) for at in range(11) for comes_back in (True, False)] + [("k1", at, True) for at in (2, 6, 8, 9)]
    for name, at, comes_back in deaths:
        world.make_old(SIX)
        done = threading.Event()

        def strike(device, step, *, name=name, at=at, comes_back=comes_back, done=done):
            if (device, step) == (name, at) and not done.is_set():
                done.set()
                world.kill(name)
                if comes_back:
                    threading.Timer(0.1, world.start, (name,)).start()

        Sabotaged.before = staticmethod(strike)
        ending = carry_out(world, SIX, confirm_timeout_s=30 if comes_back else 2, attempts=2)
        expect(ending, Phase.CONFIRMED if ending.is_kept else None, name)
        check(world, ending)
        if ending.is_kept and ending.said[name] is not Phase.CONFIRMED:
            assert name in ending.text, "whoever is not like the others is named"
    record_property("cases", {"death of a device": len(deaths)})


def test_a_controller_killed_at_every_line_of_its_journal(world, record_property):
    killed = 0
    lines = 3 * len(SIX) + 1
    shuffled = random.Random(1).sample(list(itertools.product(range(1, lines + 1), ("before", "after"))), 2 * lines)
    for at in shuffled:
        world.make_old(SIX)
        Fatal.at = at
        ending = carry_out(world, SIX)
        expect(ending, Phase.CONFIRMED if ending.is_kept else None)
        check(world, ending)
        killed += 1
    record_property("cases", {"death of the controller": killed})
    assert DeviceName("s01") in ending.said
