"""What can be done to one device and what can come of it: the effects and events of `device.py`, as plain values.

They say nothing about order; the ladder does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from igmpconf.ids import PersistId
from igmpconf.model.state import DeviceState


class Phase(Enum):
    """Where a device stands; the last eight are ends."""

    IDLE = "idle"
    CONNECTED = "connected"
    LOCKED = "locked"
    CHECKED = "checked"
    EDITED = "edited"
    VALIDATED = "validated"
    PROVISIONAL = "provisional"
    VERIFIED = "verified"
    SKIPPED = "not begun"  # the rollout stopped before its turn
    UNCHANGED = "unchanged"  # it already was as wanted
    CONFIRMED = "confirmed"
    FALTERED = "confirmed, then faltered"  # looked at again before the next wave, it was no longer as it was verified
    LEFT = "left unconfirmed"
    REFUSED = "refused"
    ROLLED_BACK = "rolled back"
    IN_DOUBT = "in doubt"


ENDS = frozenset({Phase.SKIPPED, Phase.UNCHANGED, Phase.CONFIRMED, Phase.FALTERED, Phase.LEFT, Phase.REFUSED, Phase.ROLLED_BACK, Phase.IN_DOUBT})

STOPPED = "stopped before its turn"  # why a device was not begun when a person has stopped the rollout

FailureKind = Literal["transport", "rpc", "stale", "verify", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a step did not work, in words for people."""

    kind: FailureKind
    message: str
    hint: str | None = None
    tag: str = ""  # RFC 6241 error-tag
    is_retryable: bool = False


# Effects --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a session; answers nothing."""


@dataclass(frozen=True, slots=True)
class Lock:
    """Lock the candidate."""


@dataclass(frozen=True, slots=True)
class ReadBefore:
    """Read running and the state; answers `Before`."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Make the candidate the target of the plan."""


@dataclass(frozen=True, slots=True)
class Validate:
    """Have the device check the candidate."""


@dataclass(frozen=True, slots=True)
class CommitProvisionally:
    """Confirmed commit with a token, so that it survives this session and no other."""

    persist_id: PersistId
    timeout_s: int


@dataclass(frozen=True, slots=True)
class Close:
    """End the session, whatever state it is in."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Wait until the facts of the target are so; answers the warnings."""

    before: DeviceState
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Recheck:
    """Verify once more what was confirmed a while ago, over a session for this alone; answers the warnings."""

    before: DeviceState
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Extend:
    """Begin the time of the unconfirmed commit anew (RFC 6241 8.4.1: a follow-up confirmed commit)."""

    persist_id: PersistId
    timeout_s: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """Keep the change."""

    persist_id: PersistId


@dataclass(frozen=True, slots=True)
class Cancel:
    """Undo the change."""

    persist_id: PersistId


@dataclass(frozen=True, slots=True)
class Discard:
    """Make the candidate equal to running."""


@dataclass(frozen=True, slots=True)
class Unlock:
    """Unlock the candidate."""


@dataclass(frozen=True, slots=True)
class Inspect:
    """Read which configuration runs and what is pending; answers `Seen`."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """End what is under way at this device: it fails, and that is its outcome; this effect has none of its own."""


@dataclass(frozen=True, slots=True)
class Leg:
    """A whole part of the way at once, done elsewhere: climb until verified (None), or bring it to keep or undo; answers `LegEnd`."""

    is_kept: bool | None


Effect = (
    Connect
    | Lock
    | ReadBefore
    | Edit
    | Validate
    | CommitProvisionally
    | Close
    | Verify
    | Recheck
    | Extend
    | Confirm
    | Cancel
    | Discard
    | Unlock
    | Inspect
    | Interrupt
    | Leg
)

# Events ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """Climb."""


@dataclass(frozen=True, slots=True)
class Settle:
    """A journal of an earlier run was found: bring the device to the decision without climbing."""

    is_kept: bool


@dataclass(frozen=True, slots=True)
class Performed:
    """The effect under way succeeded."""

    answer: Answer = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The effect under way did not succeed."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class TakenBack:
    """Nobody has begun the leg under way, and nobody will."""


@dataclass(frozen=True, slots=True)
class Decided:
    """Keep or undo, once provisional."""

    is_kept: bool


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The user changed their mind, or the rollout did: `why` is told of devices that were not begun."""

    why: str = "cancelled"


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline of ours may be due."""


Event = Begin | Settle | Performed | Failed | TakenBack | Decided | CancelRequested | TimePassed


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The device before the change."""

    digest: str
    state: DeviceState


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What runs, and the token of the commit that waits for confirmation."""

    digest: str
    pending: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LegEnd:
    """Where a leg led; `undoes_itself_in_ms` counts from the moment it was told, `before` is for those that will be looked at again."""

    phase: Phase
    failure: Failure | None = None
    warnings: tuple[str, ...] = ()
    undoes_itself_in_ms: int | None = None
    before: DeviceState | None = None


Answer = Before | Seen | LegEnd | tuple[str, ...] | None
