"""The fleet on one page: which devices answer and are as wanted, who watches what, how much flows, what deviates.

Pure: made from what each device answered.  Numbers of streams are counters since the entries were made, not rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from igmpconf.model.document import closed_object
from igmpconf.model.state import CommitRow, DeviceState, InterfaceRow

FORMAT = "igmpconf-report/1"
_COMMIT = ("number", "time", "event", "user", "plan", "comment")  # of a commit, what the document tells

MOST_GROUPS = 50  # of the fleet; `igmpconf show groups` has all


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one device said: an error, or its state; `changes` that the desired state asks for, None when there is none."""

    device: str
    error: str | None = None
    state: DeviceState = field(default_factory=DeviceState)
    changes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLine:
    """One group over all devices."""

    group: str
    devices: int
    interfaces: int
    hosts: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLine:
    """One device; texts are empty where there is nothing to say."""

    device: str
    status: str  # ok, differs, deviates, unreachable
    said: str  # why it is not ok
    version: str
    uptime: str
    interfaces: int
    down: tuple[str, ...]
    groups: int
    hosts: int
    bytes: int
    last_commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the page shows."""

    at: str
    devices: tuple[DeviceLine, ...]
    groups: tuple[GroupLine, ...]
    groups_left_out: int = 0

    def count(self, status: str) -> int:
        return sum(1 for line in self.devices if line.status == status)


def report(answers: Sequence[Answer], *, at: str) -> Report:
    """The page of what the devices answered; `at` says when."""
    groups = _group_lines(answers)
    return Report(at=at, devices=tuple(map(_device_line, answers)), groups=groups[:MOST_GROUPS], groups_left_out=max(0, len(groups) - MOST_GROUPS))


def _device_line(answer: Answer) -> DeviceLine:
    state = answer.state
    status, said = _status(answer)
    agent = state.agent
    return DeviceLine(
        device=answer.device,
        status=status,
        said=said,
        version=(agent.version if agent is not None else None) or "",
        uptime=_span(agent.uptime_s) if agent is not None and agent.uptime_s is not None else "",
        interfaces=len(state.interfaces),
        down=tuple(_named(row) for row in state.interfaces if row.enabled and not row.up),
        groups=len({(row.instance, row.group) for row in state.groups}),
        hosts=len({(row.interface, row.host) for row in state.hosts}),  # each once on an interface, whatever it watches
        bytes=sum(row.bytes or 0 for row in state.mfc),
        last_commit=_commit(max(state.history, key=lambda row: row.number)) if state.history else "",
    )


def _status(answer: Answer) -> tuple[str, str]:
    if answer.error is not None:
        return "unreachable", answer.error
    if answer.changes:
        return "differs", f"{answer.changes} change{'s' if answer.changes != 1 else ''} to what is wanted"
    if answer.state.deviations:
        return "deviates", "; ".join(f"{row.kind} {row.name}" for row in answer.state.deviations)
    return "ok", ""


def _named(row: InterfaceRow) -> str:
    return f"{row.interface} ({row.role})"


def _commit(row: CommitRow) -> str:
    return f"{row.time} by {row.user or 'unknown'}" + (f": {row.comment}" if row.comment else "")


def _group_lines(answers: Sequence[Answer]) -> tuple[GroupLine, ...]:
    states = [answer.state for answer in answers]
    places: dict[str, set[tuple[int, str]]] = {}
    hosts: dict[str, set[tuple[int, str, str]]] = {}
    flowed: dict[str, int] = {}
    for i, state in enumerate(states):
        for row in state.groups:
            places.setdefault(str(row.group), set()).add((i, row.interface))
        for host in state.hosts:
            hosts.setdefault(str(host.group), set()).add((i, host.interface, str(host.host)))
        for entry in state.mfc:
            flowed[str(entry.group)] = flowed.get(str(entry.group), 0) + (entry.bytes or 0)
    lines = [
        GroupLine(group=group, devices=len({i for i, _ in where}), interfaces=len(where), hosts=len(hosts.get(group, ())), bytes=flowed.get(group, 0))
        for group, where in places.items()
    ]
    return tuple(sorted(lines, key=lambda line: (-line.hosts, -line.interfaces, line.group)))


# The document --------------------------------------------------------------------------------------------------------------


def document(answers: Sequence[Answer], *, at: str) -> dict[str, Any]:
    """The same as values for programs: numbers in place of texts, and every group; `at` is RFC 3339."""
    return {"format": FORMAT, "at": at, "devices": [_device_row(answer) for answer in answers], "groups": [asdict(line) for line in _group_lines(answers)]}


def _device_row(answer: Answer) -> dict[str, Any]:
    line, state = _device_line(answer), answer.state
    if answer.error is not None:
        return {"device": answer.device, "status": line.status, "error": answer.error}
    newest = max(state.history, key=lambda row: row.number, default=None)
    return {
        "device": answer.device,
        "status": line.status,
        "changes": answer.changes,
        "deviations": [{"kind": row.kind, "name": row.name, "expected": row.expected, "found": row.found} for row in state.deviations],
        "version": state.agent.version if state.agent is not None else None,
        "uptime_s": state.agent.uptime_s if state.agent is not None else None,
        "interfaces": line.interfaces,
        "down": [
            {"instance": row.instance, "interface": row.interface, "family": row.family, "role": row.role}
            for row in state.interfaces
            if row.enabled and not row.up
        ],
        "groups": line.groups,
        "hosts": line.hosts,
        "bytes": line.bytes,
        "last_commit": None if newest is None else {name: getattr(newest, name) for name in _COMMIT},
    }


def json_schema() -> dict[str, Any]:
    """JSON Schema of the document; printed to schemas/report.schema.json."""
    text, optional, count = {"type": "string"}, {"type": ["string", "null"]}, {"type": "integer", "minimum": 0}
    optional_count = {"type": ["integer", "null"], "minimum": 0}
    down = closed_object({"instance": text, "interface": text, "family": {"enum": ["ipv4", "ipv6"]}, "role": {"enum": ["upstream", "downstream"]}})
    device = closed_object(
        {
            "device": text,
            "status": {"enum": ["ok", "differs", "deviates"]},
            "changes": {**optional_count, "description": "what `igmpconf plan` would change; null when nothing says what is wanted"},
            "deviations": {
                "type": "array",
                "items": closed_object({"kind": {"enum": ["firewall", "vlan", "setting"]}, "name": text, "expected": optional, "found": optional}),
                "description": "changed by hand beside the proxy, or not to be had",
            },
            "version": {**optional, "description": "of its igmpconf-agent"},
            "uptime_s": optional_count,
            "interfaces": {**count, "description": "rows of `show interfaces`"},
            "down": {"type": "array", "items": down, "description": "enabled interfaces that are down or absent"},
            "groups": {**count, "description": "with members, each once an instance"},
            "hosts": {**count, "description": "that are known to listen, each once an interface"},
            "bytes": {**count, "description": "forwarded since the entries were made"},
            "last_commit": {"anyOf": [{"type": "null"}, closed_object({"number": count, "time": text} | dict.fromkeys(_COMMIT[2:], optional))]},
        }
    )
    unreachable = closed_object({"device": text, "status": {"const": "unreachable"}, "error": text})
    group = closed_object({"group": text, "devices": count, "interfaces": count, "hosts": count, "bytes": count})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "igmpconf report",
        "description": "What `igmpconf report --format json` prints; a device that could not be asked has `error` in place of everything else.",
        **closed_object(
            {
                "format": {"const": FORMAT},
                "at": {**text, "format": "date-time"},
                "devices": {"type": "array", "items": {"oneOf": [device, unreachable]}},
                "groups": {"type": "array", "items": group, "description": "over all devices, what most hosts watch first"},
            }
        ),
    }


def _span(seconds: int) -> str:
    """`3 d 4 h`, the two largest units."""
    parts = [(seconds // 86_400, "d"), (seconds // 3_600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    first = next((i for i, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count or first == len(parts) - 1)


def size_text(octets: int) -> str:
    """`1.25 GB`, three digits at most, decimal units."""
    value, unit = float(octets), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"
