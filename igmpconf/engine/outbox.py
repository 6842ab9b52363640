"""What the parts of one engine share: the effects of the event in hand, the alarm clock, and chance.

A part asks to be woken with `wake(part, key, at_ms)`; the deadline itself lives in the part's own state, which
checks it again when the alarm comes (machine.Deadlines).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from igmpconf.engine.effects import Effect, Level, Note
from igmpconf.engine.family import Family
from igmpconf.machine import Deadlines

_NO_EFFECTS: tuple[Effect, ...] = ()


class Alarmed(Protocol):
    def alarm(self, key: bytes, now_ms: int) -> None:
        """The time asked for has come, or something like it."""
        ...


class Outbox:
    """Collects effects; `draw(n)` is a uniform integer in 1..n."""

    __slots__ = ("alarms", "draw", "effects", "family")

    def __init__(self, family: Family, draw: Callable[[int], int]) -> None:
        self.family = family
        self.draw = draw
        self.effects: list[Effect] = []
        self.alarms: Deadlines[tuple[Alarmed, bytes]] = Deadlines()

    def emit(self, effect: Effect) -> None:
        self.effects.append(effect)

    def wake(self, part: Alarmed, key: bytes, at_ms: int) -> None:
        self.alarms.put((part, key), at_ms)

    def forget(self, part: Alarmed, key: bytes) -> None:
        self.alarms.drop((part, key))

    def note(self, level: Level, event: str, **fields: object) -> None:
        """A log line; packed addresses are made printable."""
        shown = {name: self.family.text(value) if isinstance(value, bytes) else value for name, value in fields.items()}
        self.effects.append(Note(level, event, shown))

    def taken(self) -> Sequence[Effect]:
        """The effects collected since the last call."""
        if not self.effects:
            return _NO_EFFECTS
        effects, self.effects = self.effects, []
        return effects
