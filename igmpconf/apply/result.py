"""How an apply ended: per device, as one error for the exit code, and as a document that merges with those of other shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from igmpconf.apply.rollout import Outcome
from igmpconf.apply.steps import Failure, Phase
from igmpconf.errors import IgmpconfError, InDoubt, InputError, RolledBack, RpcFailed, StalePlan, TransportError
from igmpconf.ids import DeviceName
from igmpconf.model.document import closed_object

FORMAT = "igmpconf-result/1"

# Of several bad ends the worst is the one that is told: who is in doubt needs a person, and so does who is changed and does
# not hold; who was refused needs nothing.
_BAD = (Phase.IN_DOUBT, Phase.FALTERED, Phase.ROLLED_BACK, Phase.REFUSED, Phase.SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of every device of one apply (or of several shards of one)."""

    rollout_id: str
    plan_id: str
    outcomes: tuple[Outcome, ...]
    took_ms: int

    def having(self, phase: Phase) -> tuple[Outcome, ...]:
        """The devices that ended so."""
        return tuple(outcome for outcome in self.outcomes if outcome.phase is phase)

    @property
    def bad(self) -> tuple[Outcome, ...]:
        """The devices that are not as planned, the worst first."""
        return tuple(outcome for phase in _BAD for outcome in self.having(phase))

    @property
    def exit_code(self) -> int:
        """As the command line returns it; 0 when every device is as planned."""
        error = self.error()
        return error.exit_code if error is not None else 0

    def error(self) -> IgmpconfError | None:
        """The one error that stands for all bad ends, with every name of its kind; None when there is none."""
        return _error(self) if self.bad else None

    def raise_if_bad(self) -> None:
        """Raises InDoubt, IgmpconfError for what faltered, RolledBack, StalePlan, TransportError or RpcFailed."""
        error = self.error()
        if error is not None:
            raise error


def _names(outcomes: Sequence[Outcome]) -> str:
    """All of them: who is in doubt must be named, however many."""
    return ", ".join(outcome.device for outcome in outcomes)


def _error(result: Result) -> IgmpconfError:
    first = result.bad[0]
    same = result.having(first.phase)
    devices = [outcome.device for outcome in same]
    failure = first.failure or Failure(kind="cancelled", message="no reason was given")
    are = "is" if len(same) == 1 else "are"
    match first.phase:
        case Phase.IN_DOUBT:
            left = any(outcome.undoes_itself_by_ms is not None for outcome in same)
            message = f"it is not known whether {_names(same)} has the change: {failure.message}" + ("; unconfirmed, it undoes itself" if left else "")
            return InDoubt(devices, message, hint=f"igmpconf apply --resume {result.rollout_id}")
        case Phase.FALTERED:
            stay = "stays as it is" if len(same) == 1 else "stay as they are"
            hint = f"igmpconf doctor {first.device} looks for the cause, igmpconf rollback -d {first.device} takes the change back"
            return IgmpconfError(f"{_names(same)} {are} changed, confirmed, and {stay}, but: {failure.message}", hint=hint)
        case Phase.ROLLED_BACK:
            cause = next((o.failure for o in result.bad if o.failure is not None and o.failure.kind != "cancelled"), failure)
            return RolledBack(devices, f"rolled back, {_names(same)} {are} as before: {cause.message}", hint=cause.hint)
        case Phase.SKIPPED:
            return RolledBack(devices, f"stopped, {_names(same)} {are} as before: {failure.message}")
        case _:
            return _refused(first, failure, devices, are)


def _refused(first: Outcome, failure: Failure, devices: Sequence[str], are: str) -> IgmpconfError:
    match failure.kind:
        case "stale":
            return StalePlan(first.device, failure.message, hint=failure.hint)
        case "transport":
            return TransportError(first.device, f"{failure.message}; nothing was changed", hint=failure.hint, retryable=failure.is_retryable)
        case "cancelled":
            return RolledBack(devices, f"stopped, {', '.join(devices)} {are} as before")
        case _:
            return RpcFailed(first.device, f"{failure.message}; nothing was changed", hint=failure.hint, retryable=failure.is_retryable)


# The document --------------------------------------------------------------------------------------------------------------


def to_json(result: Result) -> str:
    """The document as text; times are relative to nothing, so that it may travel."""
    devices = [
        {
            "device": outcome.device,
            "phase": outcome.phase.value,
            "failure": None if outcome.failure is None else asdict(outcome.failure),
            "warnings": list(outcome.warnings),
        }
        for outcome in result.outcomes
    ]
    document = {
        "format": FORMAT,
        "rollout": result.rollout_id,
        "plan_id": result.plan_id,
        "took_ms": result.took_ms,
        "exit_code": result.exit_code,
        "devices": devices,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str, *, name: str) -> Result:
    """What a document tells; `name` is how messages call the file.  Raises InputError."""
    try:
        document: dict[str, Any] = json.loads(text)
        format_ = document["format"]
        outcomes = tuple(
            Outcome(
                device=DeviceName(one["device"]),
                phase=Phase(one["phase"]),
                failure=None if one["failure"] is None else Failure(**one["failure"]),
                warnings=tuple(one["warnings"]),
                undoes_itself_by_ms=None,
            )
            for one in document["devices"]
        )
        result = Result(rollout_id=document["rollout"], plan_id=document["plan_id"], outcomes=outcomes, took_ms=document["took_ms"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name} is not the result of an apply: {error}", hint="results are written by `igmpconf apply --result FILE`") from None
    if format_ != FORMAT:
        raise InputError(f"{name} has format {format_}, this igmpconf reads {FORMAT}")
    return result


def merged(results: Sequence[Result]) -> Result:
    """Several shards as one.  Raises InputError for a device that is in two."""
    seen: set[str] = set()
    for result in results:
        for outcome in result.outcomes:
            if outcome.device in seen:
                raise InputError(f"{outcome.device} is in more than one result", hint="shards have no device in common; is a file named twice?")
            seen.add(outcome.device)
    return Result(
        rollout_id="+".join(dict.fromkeys(result.rollout_id for result in results)),
        plan_id="+".join(dict.fromkeys(result.plan_id for result in results)),
        outcomes=tuple(outcome for result in results for outcome in result.outcomes),
        took_ms=max((result.took_ms for result in results), default=0),
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema of the document; printed to schemas/result.schema.json."""
    text, optional = {"type": "string"}, {"type": ["string", "null"]}
    failure = closed_object(
        {
            "kind": {"enum": ["transport", "rpc", "stale", "verify", "cancelled"]},
            "message": text,
            "hint": optional,
            "tag": {**text, "description": "error-tag of RFC 6241, or empty"},
            "is_retryable": {"type": "boolean"},
        }
    )
    device = closed_object(
        {
            "device": text,
            "phase": {"enum": [phase.value for phase in (Phase.SKIPPED, Phase.UNCHANGED, Phase.CONFIRMED, Phase.LEFT, *_BAD[:-1])]},
            "failure": {"anyOf": [{"type": "null"}, failure]},
            "warnings": {"type": "array", "items": text},
        }
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "igmpconf result",
        "description": "What `igmpconf apply --result FILE` writes and `igmpconf merge` reads.",
        **closed_object(
            {
                "format": {"const": FORMAT},
                "rollout": {**text, "description": "the ID for --resume, confirm and cancel"},
                "plan_id": text,
                "took_ms": {"type": "integer", "minimum": 0},
                "exit_code": {"type": "integer", "description": "what the command returned for it"},
                "devices": {"type": "array", "items": device},
            }
        ),
    }
