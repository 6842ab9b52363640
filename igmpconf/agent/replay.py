"""A recording happens again: the same events at the same times to fresh engines, and what they do now beside what they did.

Notes are shown but not compared: what a log line says may change, what the kernel and the wire are told may not.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from igmpconf.agent.transcript import Transcript
from igmpconf.engine.effects import Effect, Note
from igmpconf.engine.engine import Engine
from igmpconf.engine.events import Event
from igmpconf.engine.family import IGMP, MLD
from igmpconf.model.state import DeviceState
from igmpconf.observe.record import Entry, MachineId, MachineOpened, RunBegan, Step, Vocabulary

ENGINE: Vocabulary[Event, Effect] = Vocabulary.of(Event, Effect)
_FAMILIES = {family.name: family for family in (IGMP, MLD)}


@dataclass(frozen=True, slots=True)
class Played:
    """One step again; `differences` are empty when everything was as recorded."""

    step: Step[Event, Effect]
    effects: tuple[Effect, ...]
    told: str  # the event, for people
    asked: tuple[str, ...]  # the effects, for people, marked
    differences: tuple[str, ...]


class Replay:
    """The engines of the run in hand.

    Life cycle: `RunBegan` -> fresh, `MachineOpened` -> one more engine, `Step` -> played.  The chance that a machine
    drew is given to it again; when it asks for another one, that is a difference too.
    """

    def __init__(self) -> None:
        self.now_ms = 0
        self._engines: dict[MachineId, Engine] = {}
        self._chances: dict[MachineId, _Chance] = {}
        self._transcripts: dict[MachineId, Transcript] = {}

    def play(self, entry: Entry[Event, Effect]) -> Played | None:
        """Let `entry` happen; None for what is no step.  Raises KeyError for a step of a machine that was not opened."""
        match entry:
            case RunBegan():
                self.__init__()  # type: ignore[misc]
            case MachineOpened(_, machine, at_ms):
                self.now_ms = at_ms
                family = _FAMILIES[machine[1]]
                chance = self._chances[machine] = _Chance()
                self._engines[machine] = Engine(family, draw=chance.draw)
                self._transcripts[machine] = Transcript(family)
            case Step():
                return self._step(entry)
            case _:
                pass
        return None

    def _step(self, step: Step[Event, Effect]) -> Played:
        engine, chance, transcript = self._engines[step.machine], self._chances[step.machine], self._transcripts[step.machine]
        self.now_ms = step.at_ms
        told = transcript.event(step.event)
        chance.recorded = list(step.draws)
        try:
            effects = tuple(engine.handle(step.event, step.at_ms))
        except Exception as error:  # noqa: BLE001 - that an engine raises is what a recording of a bug shows
            happened = () if step.raised == repr(error) else (f"raised {error!r}; recorded: {step.raised or 'no exception'}",)
            return Played(step, (), told, (f"!! {error!r}",), happened)
        differences = _differences(step.effects, effects, transcript) + chance.differences()
        if step.raised is not None:
            differences += (f"raised nothing; recorded: {step.raised}",)
        asked = tuple(f"{'..' if isinstance(effect, Note) else '<<'} {transcript.effect(effect)}" for effect in effects)
        return Played(step, effects, told, asked, differences)

    def states(self) -> dict[MachineId, DeviceState]:
        """What the engines would answer to `<get>` now; the kernel's counters are absent."""
        return {machine: engine.snapshot(self.now_ms) for machine, engine in self._engines.items()}


class _Chance:
    """Gives the recorded draws again."""

    def __init__(self) -> None:
        self.recorded: list[tuple[int, int]] = []
        self._surplus: list[int] = []

    def draw(self, limit: int) -> int:
        if self.recorded and self.recorded[0][0] == limit:
            return self.recorded.pop(0)[1]
        self._surplus.append(limit)
        return limit

    def differences(self) -> tuple[str, ...]:
        """What was drawn and is not recorded, or the other way; forgotten once told."""
        surplus, self._surplus = self._surplus, []
        return (
            *(f"+ drew a number up to {limit}" for limit in surplus),
            *(f"- drew a number up to {limit}" for limit, _ in self.recorded),
        )


def _differences(recorded: Sequence[Effect], replayed: Sequence[Effect], transcript: Transcript) -> tuple[str, ...]:
    """Lines of a diff: `-` recorded and not done now, `+` done now and not recorded."""
    before = [effect for effect in recorded if not isinstance(effect, Note)]
    after = [effect for effect in replayed if not isinstance(effect, Note)]
    if before == after:
        return ()
    lines = difflib.ndiff([transcript.effect(effect) for effect in before], [transcript.effect(effect) for effect in after])
    found = tuple(line for line in lines if line[0] in "+-")
    return found or ("the same words, other octets or sender",)
