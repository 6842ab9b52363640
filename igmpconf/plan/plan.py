"""The plan as a document: what was looked at, what will change, what it will be; apply executes it or refuses it.

    igmpconf plan -o plan.json      made here, against the running configuration of each device (`base_digest`)
    a person or a pipeline reads it
    igmpconf apply plan.json        the device is still at `base_digest`, or the plan is stale

The document carries the whole target configuration, so that nobody needs the files it came from, and a digest over
everything, so that an edited plan is not taken for one that somebody has read.  `load` trusts nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from igmpconf.errors import InputError
from igmpconf.model.canon import PlainError, digest, from_plain, to_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.document import closed_object
from igmpconf.model.leaf import Node
from igmpconf.model.path import Path, Step, path_text
from igmpconf.model.state import DeviceState
from igmpconf.plan.diff import Action, Change, Impact, Level, LiveGroup, diff, node_at
from igmpconf.plan.impact import judged

FORMAT = "igmpconf-plan/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlan:
    """What will happen to one device; no changes means that it already is as wanted.

    `inventory_digest` is that of what the inventory says of it, None when it is in none.
    """

    device: str
    base_digest: str
    target_digest: str
    changes: tuple[Change, ...]
    target: DeviceConfig
    inventory_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will happen to the fleet."""

    plan_id: str
    devices: tuple[DevicePlan, ...]

    @property
    def inventory_digest(self) -> str | None:
        """Over what the inventory says of all devices; None when none of them is in one."""
        known = sorted((device.device, device.inventory_digest) for device in self.devices if device.inventory_digest is not None)
        return _digest({"devices": known}) if known else None

    @property
    def configuration_digest(self) -> str:
        """Over the names and target digests of all devices: plans with the same one want the same."""
        return _digest({"devices": sorted((device.device, device.target_digest) for device in self.devices)})

    @property
    def is_empty(self) -> bool:
        """Nothing is to be changed anywhere."""
        return not any(device.changes for device in self.devices)


def planned(device: str, running: DeviceConfig, wanted: DeviceConfig, state: DeviceState) -> DevicePlan:
    """The plan that takes a device from `running` to `wanted`, judged against its live state."""
    changes = judged(diff(running, wanted), running, wanted, state)
    return DevicePlan(device=device, base_digest=digest(running), target_digest=digest(wanted), changes=changes, target=wanted)


def to_json(plan: Plan) -> str:
    """The document as text; equal plans give equal text."""
    document = _document(plan)
    document["digest"] = _digest(document)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str, *, name: str = "plan") -> Plan:
    """The plan that a document holds; `name` is how messages call the file.  Raises InputError."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InputError(f"{name} is not a plan: it is not JSON ({error})", hint="plans are written by `igmpconf plan -o FILE`") from None
    if not isinstance(document, dict) or not str(document.get("format", "")).startswith("igmpconf-plan/"):
        raise InputError(f"{name} is JSON, but not a plan of igmpconf", hint="plans are written by `igmpconf plan -o FILE`; a desired state is given with -f")
    if document["format"] != FORMAT:
        raise InputError(f"{name} has format {document['format']}, this igmpconf reads {FORMAT}", hint="make the plan again with this version")
    claimed = document.pop("digest", None)
    if claimed != _digest(document):
        raise InputError(
            f"{name} was changed after it was made: its digest is {claimed}, its content has {_digest(document)}",
            hint="make the plan again; change the desired state, not the plan",
        )
    try:
        plan = Plan(plan_id=document["plan_id"], devices=tuple(_device(one) for one in document["devices"]))
    except (KeyError, TypeError, ValueError, PlainError, AttributeError) as error:
        raise InputError(f"{name} is damaged: {error}", hint="make the plan again") from None
    for what in ("inventory_digest", "configuration_digest"):
        if document.get(what, getattr(plan, what)) != getattr(plan, what):
            raise InputError(f"{name} is damaged: its {what} is not that of its devices", hint="make the plan again")
    return plan


def _digest(document: dict[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _document(plan: Plan) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "plan_id": plan.plan_id,
        "inventory_digest": plan.inventory_digest,
        "configuration_digest": plan.configuration_digest,
        "devices": [_plain_device(device) for device in plan.devices],
    }


def _plain_device(device: DevicePlan) -> dict[str, Any]:
    return {
        "device": device.device,
        "inventory_digest": device.inventory_digest,
        "base_digest": device.base_digest,
        "target_digest": device.target_digest,
        "changes": [plain_change(change) for change in device.changes],
        "target": to_plain(device.target),
    }


def plain_change(change: Change) -> dict[str, Any]:
    """A change as JSON says it; `before` and `after` are null when absent."""
    n = node_at(change.path)
    impact = change.impact
    return {
        "action": change.action,
        "path": path_text(change.path),
        "steps": [[step.name, *step.key] for step in change.path],
        "before": _plain(n, change.before),
        "after": _plain(n, change.after),
        "impact": {
            "level": impact.level,
            "reason": impact.reason,
            "groups": [
                {"instance": g.instance, "interface": g.interface, "group": g.group, "hosts": list(g.hosts), "bytes_per_s": g.bytes_per_s}
                for g in impact.groups
            ],
        },
    }


def _plain(n: Node, value: Any) -> Any:
    if value is None:
        return None
    if n.kind == "list":
        return to_plain(value)
    assert n.type is not None
    return [n.type.plain(one) for one in value] if n.kind == "leaf-list" else n.type.plain(value)


def _model(n: Node, plain: Any) -> Any:
    if plain is None:
        return None
    if n.kind == "list":
        return from_plain(n.cls, plain)
    if n.type is None:
        raise ValueError(f"{n.name} has no value of its own")
    return tuple(n.type.parse(one) for one in plain) if n.kind == "leaf-list" else n.type.parse(plain)


def _device(document: dict[str, Any]) -> DevicePlan:
    target = from_plain(DeviceConfig, document["target"])
    if digest(target) != document["target_digest"]:
        raise ValueError(f"the target of {document['device']} does not have its digest")
    return DevicePlan(
        device=document["device"],
        base_digest=document["base_digest"],
        target_digest=document["target_digest"],
        changes=tuple(_change(one) for one in document["changes"]),
        target=target,
        inventory_digest=document.get("inventory_digest"),
    )


def _change(document: dict[str, Any]) -> Change:
    path: Path = tuple(Step(name, tuple(key)) for name, *key in document["steps"])
    n = node_at(path)
    action: Action = document["action"]
    level: Level = document["impact"]["level"]
    if action not in {"+", "~", "-"} or level not in {"none", "rejoin", "interrupts"}:
        raise ValueError(f"{action} {level} is no change")
    impact = Impact(level=level, reason=document["impact"]["reason"], groups=tuple(_live(group) for group in document["impact"]["groups"]))
    return Change(action=action, path=path, before=_model(n, document["before"]), after=_model(n, document["after"]), impact=impact)


def _live(document: dict[str, Any]) -> LiveGroup:
    return LiveGroup(**{**document, "hosts": tuple(document.get("hosts", ()))})


def json_schema() -> dict[str, Any]:
    """JSON Schema of the document; printed to schemas/plan.schema.json."""
    digest_text = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
    text = {"type": "string"}
    group = closed_object(
        {
            "instance": text,
            "interface": text,
            "group": text,
            "hosts": {"type": "array", "items": text, "description": "addresses of those who are known to listen there"},
            "bytes_per_s": {"type": ["integer", "null"], "minimum": 0, "description": "what left by the interface while the plan was made; null: not measured"},
        }
    )
    impact = closed_object({"level": {"enum": ["none", "rejoin", "interrupts"]}, "reason": text, "groups": {"type": "array", "items": group}})
    change = closed_object(
        {
            "action": {"enum": ["+", "~", "-"]},
            "path": {"type": "string", "description": "for people: igmp-proxy[default]/interfaces[lan0]/query-interval"},
            "steps": {"type": "array", "items": {"type": "array", "minItems": 1, "items": text}, "description": "for machines: name and keys of each step"},
            "before": {"description": "the value before, null when absent"},
            "after": {"description": "the value after, null when absent"},
            "impact": impact,
        }
    )
    device = closed_object(
        {
            "device": text,
            "inventory_digest": {"anyOf": [digest_text, {"type": "null"}], "description": "what the inventory says of it; null when it is in none"},
            "base_digest": {**digest_text, "description": "running configuration that the plan was made against"},
            "target_digest": {**digest_text, "description": "running configuration after it"},
            "changes": {"type": "array", "items": change},
            "target": {"type": "object", "description": "the whole desired state (igmpconf.schema.json)"},
        }
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "igmpconf plan",
        "description": "What `igmpconf plan --format json` and `-o` write and `igmpconf apply PLAN` executes.",
        **closed_object(
            {
                "format": {"const": FORMAT},
                "plan_id": {**text, "description": "names the plan, and in the device's history the commit that it became"},
                "inventory_digest": {
                    "anyOf": [digest_text, {"type": "null"}],
                    "description": "over what the inventory says of all devices; null when none of them is in one",
                },
                "configuration_digest": {**digest_text, "description": "over the desired states of all devices"},
                "devices": {"type": "array", "items": device},
                "digest": {**digest_text, "description": "over the canonical JSON of everything else"},
            }
        ),
    }
