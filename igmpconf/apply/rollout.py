"""One apply over all its devices, as a pure machine: it owns a ladder per device and the decision to keep or to undo.

With `atomic: device` every device is decided as soon as it is verified.  With `atomic: fleet` the decision is one for
all: keep when every device is verified, undo everything when one is not (two phases; the agents' own timers are the
third, for when we die).  `Record` is written before anything that depends on it is performed, so that a later
`apply --resume` knows what was promised.

Devices have their turn in waves: a wave begins when every device of the one before is decided (or, when the fleet is
atomic, verified), and not at all once more than `max_failures` devices have failed.  Inside a wave at most `parallel`
devices are between their beginning and their verification.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from igmpconf.apply.device import DeviceLadder, LadderPolicy
from igmpconf.apply.soak import Soak
from igmpconf.apply.steps import (
    ENDS,
    STOPPED,
    Begin,
    Cancel,
    CancelRequested,
    CommitProvisionally,
    Confirm,
    Decided,
    Effect,
    Event,
    Failure,
    Leg,
    Phase,
    Recheck,
    Settle,
    TimePassed,
)
from igmpconf.ids import DeviceName, PersistId
from igmpconf.machine import Deadlines
from igmpconf.plan.plan import DevicePlan, Plan

Atomic = Literal["device", "fleet"]

PARALLEL = 32  # ours: one controller's CPU is used up by fewer (5 ms a device), and threads and memory stay bounded
_FAILED = frozenset({Phase.REFUSED, Phase.ROLLED_BACK, Phase.IN_DOUBT})


@dataclass(frozen=True, slots=True)
class Share:
    """A number of devices, or a percentage of all of them; at least one device."""

    amount: int
    is_percent: bool = False

    @classmethod
    def parse(cls, text: str) -> Share:
        """`3`, or `10%`.  Raises ValueError."""
        match = re.fullmatch(r"([0-9]{1,9})(%?)", text)
        if match is None or not int(match[1]) or (match[2] and int(match[1]) > 100):
            raise ValueError(f"{text!r} is neither a number of devices nor a percentage of them")
        return cls(int(match[1]), is_percent=bool(match[2]))

    def of(self, count: int) -> int:
        """How many of `count` devices; percentages are rounded down, as Ansible's `serial` does."""
        return max(1, count * self.amount // 100 if self.is_percent else self.amount)

    def __str__(self) -> str:
        return f"{self.amount}%" if self.is_percent else str(self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How many at a time, and how much may fail.

    `waves` are sizes, the last of which repeats; none: one wave.  `max_failures` None: failures stop nobody; otherwise
    no further device begins once more have failed.  Between a wave that is kept and the next `soak_ms` pass, and then
    its devices are looked at once more (soak.py).
    """

    waves: tuple[Share, ...] = ()
    max_failures: int | None = None
    parallel: int = PARALLEL
    soak_ms: int = 0

    def cut(self, names: Sequence[DeviceName]) -> tuple[tuple[DeviceName, ...], ...]:
        """The devices in waves, in their order."""
        rest = list(names)
        waves: list[tuple[DeviceName, ...]] = []
        while rest:
            size = self.waves[min(len(waves), len(self.waves) - 1)].of(len(names)) if self.waves else len(rest)
            waves.append(tuple(rest[:size]))
            del rest[:size]
        return tuple(waves)


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


@dataclass(frozen=True, slots=True)
class Soaking:
    """Tell that wave `wave` of `waves` (from 1) is kept, and when its devices are looked at again; nothing is to be done."""

    wave: int
    waves: int
    soak_ms: int


RolloutEffect = ForDevice | Record | Soaking
RolloutEvent = DeviceEvent | Begin | CancelRequested | TimePassed


class Ladder(Protocol):
    """What a rollout must know of a device's way: `device.DeviceLadder` here, or `leg.RemoteLadder` somewhere else."""

    plan: DevicePlan
    phase: Phase
    failure: Failure | None
    warnings: tuple[str, ...]
    undoes_itself_by_ms: int | None

    @property
    def is_waiting(self) -> bool: ...
    @property
    def is_begun(self) -> bool: ...
    def recheck(self) -> Recheck: ...
    def next_deadline_ms(self) -> int | None: ...
    def handle(self, event: Event, now_ms: int) -> Sequence[Effect]: ...


def local_ladder(plan: DevicePlan, persist_id: PersistId, policy: LadderPolicy) -> Ladder:
    """A ladder whose every step is performed here."""
    return DeviceLadder(plan=plan, persist_id=persist_id, policy=policy)


def _recorded(effect: Effect) -> Literal["committing", "confirming", "cancelling"] | None:
    """What the journal must say before the effect leaves."""
    match effect:
        case CommitProvisionally() | Leg(is_kept=None):
            return "committing"
        case Confirm() | Leg(is_kept=True):
            return "confirming"
        case Cancel() | Leg(is_kept=False):
            return "cancelling"
        case _:
            return None


@dataclass(slots=True)
class Rollout:
    """A plan on its way; `policy` is the same for every device."""

    plan: Plan
    persist_id: PersistId
    policy: LadderPolicy = field(default_factory=LadderPolicy)
    atomic: Atomic = "device"
    pace: Pace = field(default_factory=Pace)
    make_ladder: Callable[[DevicePlan, PersistId, LadderPolicy], Ladder] = local_ladder
    ladders: dict[DeviceName, Ladder] = field(init=False)
    waves: tuple[tuple[DeviceName, ...], ...] = field(init=False)
    wave: int = -1  # the one whose turn it is, from 0
    _decision: bool | None = None  # fleet only
    _is_stopped: bool = False  # nobody begins any more
    _is_troubled: bool = False  # a device has failed, or is about to
    _unbegun: list[DeviceName] = field(default_factory=list)  # of this wave, the next one last
    # Insertion order makes the same events give the same effects; a set of text would not.
    _active: dict[DeviceName, None] = field(default_factory=dict)  # begun; neither waiting nor ended
    _waiting: dict[DeviceName, None] = field(default_factory=dict)
    _ended: dict[DeviceName, None] = field(default_factory=dict)
    _failed: dict[DeviceName, None] = field(default_factory=dict)
    _settled: dict[DeviceName, None] = field(default_factory=dict)  # of an earlier run; what became of them is no failure of this one
    _soak: Soak | None = None  # of the wave before the next one
    _faltered: dict[DeviceName, Failure] = field(default_factory=dict)
    _warned: dict[DeviceName, tuple[str, ...]] = field(default_factory=dict)  # when they were looked at again
    _doubtful: dict[DeviceName, None] = field(default_factory=dict)  # of those, who cannot be settled
    _deadlines: Deadlines[DeviceName] = field(default_factory=Deadlines)

    def __post_init__(self) -> None:
        self.ladders = {DeviceName(device.device): self.make_ladder(device, self.persist_id, self.policy) for device in self.plan.devices if device.changes}
        self.waves = self.pace.cut(tuple(self.ladders))

    def next_deadline_ms(self) -> int | None:
        """The earliest deadline of any device, or of the time between two waves."""
        soak_ms = self._soak.next_deadline_ms() if self._soak is not None else None
        return min((at for at in (self._deadlines.next_ms(), soak_ms) if at is not None), default=None)

    @property
    def is_over(self) -> bool:
        """Every device has ended, and nobody is looked at again."""
        return len(self._ended) == len(self.ladders) and (self._soak is None or self._soak.is_over)

    @property
    def is_idle(self) -> bool:
        """Nobody is at work: everybody waits, has ended, or was not begun."""
        return not self._active

    def outcomes(self) -> tuple[Outcome, ...]:
        """Where every device stands."""
        return tuple(
            Outcome(
                name,
                self.phase_of(name),
                self._faltered.get(name, at.failure),
                tuple(dict.fromkeys((*at.warnings, *self._warned.get(name, ())))),
                at.undoes_itself_by_ms,
            )
            for name, at in self.ladders.items()
        )

    def phase_of(self, device: DeviceName) -> Phase:
        """Where it stands."""
        return Phase.FALTERED if device in self._faltered else self.ladders[device].phase

    def handle(self, event: RolloutEvent, now_ms: int) -> Sequence[RolloutEffect]:
        """Feed the event to whom it concerns, then see whether a decision is due, or somebody's turn."""
        effects: list[RolloutEffect] = []
        match event:
            case DeviceEvent(device=device, event=inner) if self.ladders[device].phase in ENDS:
                effects += self._looked(device, inner, now_ms)
            case DeviceEvent(device=device, event=inner):
                effects += self._feed(device, inner, now_ms)
            case Begin():
                effects += self._next_wave(now_ms)
            case CancelRequested():
                if self._soak is not None:
                    self._soak.call_off()
                effects += self._stop(STOPPED, now_ms)
                for name in self.ladders:
                    effects += self._feed(name, event, now_ms)
            case TimePassed():
                for name in self._deadlines.pop_due(now_ms):
                    effects += self._feed(name, event, now_ms)
        effects += self._advance(now_ms)
        return effects

    def resume(self, unsettled: Mapping[DeviceName, bool], now_ms: int, unbegun: Collection[DeviceName] = ()) -> Sequence[RolloutEffect]:
        """Bring the devices of an earlier run, by what its journal promised, to kept (True) or undone (False).

        Then it is the turn of the `unbegun`, in what is left of the waves; of nobody if one of the others stays in doubt.
        """
        assert self.atomic == "device" or not unbegun, "who was not begun when an atomic fleet ended is as it shall be"
        self.ladders = {name: ladder for name, ladder in self.ladders.items() if name in unsettled or name in unbegun}
        left = (tuple(name for name in wave if name in unbegun) for wave in self.waves)
        self.waves, self._is_stopped = tuple(wave for wave in left if wave), not unbegun
        self._settled = dict.fromkeys(unsettled)
        self._decision = None if self.atomic == "device" else any(unsettled.values())
        effects = [effect for name, is_kept in unsettled.items() for effect in self._feed(name, Settle(is_kept), now_ms)]
        return effects + self._advance(now_ms) if unbegun else effects

    def _feed(self, device: DeviceName, event: Event, now_ms: int) -> list[RolloutEffect]:
        ladder = self.ladders[device]
        effects: list[RolloutEffect] = []
        for effect in ladder.handle(event, now_ms):
            recorded = _recorded(effect)
            if recorded is not None:
                effects.append(Record(device, recorded))
            effects.append(ForDevice(device, effect))
        if self._note_where(device, ladder):
            effects.append(Record(device, "ended", ladder.phase.value))
        return effects

    def _note_where(self, device: DeviceName, ladder: Ladder) -> bool:
        """Keep the indexes true; whether it has just ended."""
        deadline_ms = ladder.next_deadline_ms()
        if deadline_ms is not None:
            self._deadlines.put(device, deadline_ms)
        else:
            self._deadlines.drop(device)
        self._active.pop(device, None)
        self._waiting.pop(device, None)
        self._is_troubled = self._is_troubled or ladder.failure is not None
        if ladder.phase in ENDS:
            if device in self._ended:
                return False
            self._ended[device] = None
            if device in self._settled:
                if ladder.phase is Phase.IN_DOUBT:
                    self._doubtful[device] = None
            elif ladder.phase in _FAILED:
                self._failed[device] = None
            return True
        if ladder.is_waiting:
            self._waiting[device] = None
        elif ladder.is_begun:
            self._active[device] = None
        return False

    # Whose turn it is -------------------------------------------------------------------------------------------------

    def _advance(self, now_ms: int) -> list[RolloutEffect]:
        effects = self._decide(now_ms)
        limit = self.pace.max_failures
        if limit is not None and len(self._failed) > limit and not self._is_stopped:
            effects += self._stop(f"{len(self._failed)} had failed before its turn, and {limit} may", now_ms)
        if self._doubtful and not self._is_stopped:
            effects += self._stop(f"it is not known how {', '.join(self._doubtful)} ended, and that comes first", now_ms)
        while not self._is_stopped:
            while self._unbegun and len(self._active) < self.pace.parallel:
                effects += self._feed(self._unbegun.pop(), Begin(), now_ms)
            if self._unbegun or self._active or self.wave + 1 >= len(self.waves):
                break
            effects += self._soaking(now_ms)
            if self._soak is not None and not self._soak.is_over:
                break
            effects += self._next_wave(now_ms)
        if self._soak is not None:
            effects += [ForDevice(name, look) for name, look in self._soak.due(now_ms)]
        return effects

    def _soaking(self, now_ms: int) -> list[RolloutEffect]:
        """Begin the time after this wave, if there is to be one; whoever is not changed for good needs none."""
        if self._soak is not None or not self.pace.soak_ms or self.wave < 0:
            return []
        kept = {name: self.ladders[name].recheck() for name in self.waves[self.wave] if self.ladders[name].phase is Phase.CONFIRMED}
        if not kept:
            return []
        self._soak = Soak(ahead=kept, at_ms=now_ms + self.pace.soak_ms, parallel=self.pace.parallel, attempts=self.policy.attempts)
        return [Soaking(self.wave + 1, len(self.waves), self.pace.soak_ms)]

    def _looked(self, device: DeviceName, event: Event, now_ms: int) -> list[RolloutEffect]:
        failure = self._soak.looked(device, event, now_ms) if self._soak is not None else None
        if self._soak is not None:
            self._warned.update(self._soak.warnings)
        if failure is None:
            return []
        self._faltered[device] = failure
        self._failed[device] = None
        return [Record(device, "ended", Phase.FALTERED.value)]

    def _next_wave(self, now_ms: int) -> list[RolloutEffect]:
        self.wave += 1
        self._soak = None
        self._unbegun = list(reversed(self.waves[self.wave])) if self.wave < len(self.waves) else []
        return []

    def _stop(self, why: str, now_ms: int) -> list[RolloutEffect]:
        """Nobody begins any more; whoever has begun goes on."""
        self._is_stopped = True
        unbegun = [name for name, ladder in self.ladders.items() if not ladder.is_begun and ladder.phase not in ENDS]
        return [effect for name in unbegun for effect in self._feed(name, CancelRequested(why), now_ms)]

    # What is decided --------------------------------------------------------------------------------------------------

    def _decide(self, now_ms: int) -> list[RolloutEffect]:
        if self.atomic == "device":
            return [effect for name in list(self._waiting) for effect in self._feed(name, Decided(is_kept=True), now_ms)]
        effects: list[RolloutEffect] = []
        if self._decision is None:
            if self._is_troubled:
                self._decision = False
                effects.append(Record(None, "decided-undo"))
                effects += self._stop("another device of the fleet failed before its turn", now_ms)
                # Whoever is still climbing turns back at the next step.
                for name in list(self._active):
                    effects += self._feed(name, CancelRequested(), now_ms)
            elif self._waiting and len(self._waiting) + len(self._ended) == len(self.ladders):
                self._decision = True
                effects.append(Record(None, "decided-keep"))
        if self._decision is not None:
            for name in list(self._waiting):
                effects += self._feed(name, Decided(self._decision), now_ms)
        return effects
