"""One apply over all its devices, as a pure machine: it owns a ladder per device and the decision to keep or to undo.

With `atomic: device` every device is decided as soon as it is verified.  With `atomic: fleet` the decision is one for
all: keep when every device is verified, undo everything when one is not (two phases; the agents' own timers are the
third, for when we die).  `Record` is written before anything that depends on it is performed, so that a later
`apply --resume` knows what was promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from igmpconf.apply.device import (
    ENDS,
    Begin,
    Cancel,
    CancelRequested,
    CommitProvisionally,
    Confirm,
    Decided,
    DeviceLadder,
    Effect,
    Event,
    Failure,
    LadderPolicy,
    Phase,
    Settle,
    TimePassed,
)
from igmpconf.ids import DeviceName, PersistId
from igmpconf.plan.plan import Plan

Atomic = Literal["device", "fleet"]


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """Something happened at one device."""

    device: DeviceName
    event: Event


@dataclass(frozen=True, slots=True)
class ForDevice:
    """Do this at one device."""

    device: DeviceName
    effect: Effect


@dataclass(frozen=True, slots=True)
class Record:
    """Write this to the journal, durably, before the next effect."""

    device: DeviceName | None  # None: the rollout as a whole
    what: Literal["committing", "confirming", "cancelling", "decided-keep", "decided-undo", "ended"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended for one device."""

    device: DeviceName
    phase: Phase
    failure: Failure | None
    warnings: tuple[str, ...]
    undoes_itself_by_ms: int | None  # in doubt or left: when the device will have undone the change by itself


RolloutEffect = ForDevice | Record
RolloutEvent = DeviceEvent | Begin | CancelRequested | TimePassed

_RECORDED: dict[type[Effect], Literal["committing", "confirming", "cancelling"]] = {
    CommitProvisionally: "committing",
    Confirm: "confirming",
    Cancel: "cancelling",
}


@dataclass(slots=True)
class Rollout:
    """A plan on its way; `policy` is the same for every device."""

    plan: Plan
    persist_id: PersistId
    policy: LadderPolicy = field(default_factory=LadderPolicy)
    atomic: Atomic = "device"
    ladders: dict[DeviceName, DeviceLadder] = field(init=False)
    _decision: bool | None = None  # fleet only

    def __post_init__(self) -> None:
        self.ladders = {
            DeviceName(device.device): DeviceLadder(plan=device, persist_id=self.persist_id, policy=self.policy)
            for device in self.plan.devices
            if device.changes
        }

    def next_deadline_ms(self) -> int | None:
        """The earliest deadline of any device."""
        return min((at for ladder in self.ladders.values() if (at := ladder.next_deadline_ms()) is not None), default=None)

    @property
    def is_over(self) -> bool:
        """Every device has ended."""
        return all(ladder.phase in ENDS for ladder in self.ladders.values())

    def outcomes(self) -> tuple[Outcome, ...]:
        """Where every device stands."""
        return tuple(Outcome(name, at.phase, at.failure, at.warnings, at.undoes_itself_by_ms) for name, at in self.ladders.items())

    def handle(self, event: RolloutEvent, now_ms: int) -> Sequence[RolloutEffect]:
        """Feed the event to whom it concerns, then see whether a decision is due."""
        effects: list[RolloutEffect] = []
        if isinstance(event, DeviceEvent):
            effects += self._feed(event.device, event.event, now_ms)
        else:
            for name in self.ladders:
                effects += self._feed(name, event, now_ms)
        effects += self._decide(now_ms)
        return effects

    def resume(self, unsettled: dict[DeviceName, bool], now_ms: int) -> Sequence[RolloutEffect]:
        """Bring the devices of an earlier run, by what its journal promised, to kept (True) or undone (False)."""
        self.ladders = {name: ladder for name, ladder in self.ladders.items() if name in unsettled}
        self._decision = None if self.atomic == "device" else any(unsettled.values())
        return [effect for name, is_kept in unsettled.items() for effect in self._feed(name, Settle(is_kept), now_ms)]

    def _feed(self, device: DeviceName, event: Event, now_ms: int) -> list[RolloutEffect]:
        ladder = self.ladders[device]
        was = ladder.phase
        effects: list[RolloutEffect] = []
        for effect in ladder.handle(event, now_ms):
            recorded = _RECORDED.get(type(effect))
            if recorded is not None:
                effects.append(Record(device, recorded))
            effects.append(ForDevice(device, effect))
        if ladder.phase in ENDS and was not in ENDS:
            effects.append(Record(device, "ended", ladder.phase.value))
        return effects

    def _decide(self, now_ms: int) -> list[RolloutEffect]:
        waiting = [name for name, ladder in self.ladders.items() if ladder.is_waiting]
        if self.atomic == "device":
            return [effect for name in waiting for effect in self._tell(name, is_kept=True, now_ms=now_ms)]
        effects: list[RolloutEffect] = []
        if self._decision is None:
            ladders = self.ladders.values()
            if any(ladder.failure is not None for ladder in ladders):
                self._decision = False
                effects.append(Record(None, "decided-undo"))
                # Whoever is still climbing turns back at the next step.
                for name, ladder in self.ladders.items():
                    if not ladder.is_waiting:
                        effects += self._feed(name, CancelRequested(), now_ms)
            elif waiting and all(ladder.is_waiting or ladder.phase in ENDS for ladder in ladders):
                self._decision = True
                effects.append(Record(None, "decided-keep"))
        if self._decision is not None:
            for name in waiting:
                effects += self._feed(name, Decided(self._decision), now_ms)
        return effects

    def _tell(self, name: DeviceName, *, is_kept: bool, now_ms: int) -> list[RolloutEffect]:
        return self._feed(name, Decided(is_kept), now_ms)
