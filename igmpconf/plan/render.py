"""A plan as people read it: text in the manner of Terraform, what is the same on many devices said once.

Markdown for a review is markdown.py, JUnit for a pipeline junit.py; both use the lines that are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from igmpconf.model.leaf import Node, nodes
from igmpconf.model.path import path_text
from igmpconf.plan.diff import Change, Impact, key_texts, node_at
from igmpconf.plan.impact import LEVELS, worst
from igmpconf.plan.plan import DevicePlan, Plan
from igmpconf.plan.traffic import rate_text

Paint = Callable[[str, str], str]  # text, colour name -> text

_COLOURS = {"+": "green", "~": "yellow", "-": "red"}
_GROUPS_SHOWN = 6  # a line stays a line; JSON has them all
_DEVICES_SHOWN = 10  # of those with the same changes and an impact of their own

Written = Mapping[str, str]  # path text -> the value as the user wrote it, where it differs from the canonical text
WrittenBy = Mapping[str, Written]  # device -> that


def plain_paint(text: str, colour: str) -> str:  # noqa: ARG001 - a Paint that does not
    """No colour."""
    return text


def counts(plan: Plan) -> tuple[int, int, int]:
    """Changes that add, change and remove, over all devices."""
    actions = [change.action for device in plan.devices for change in device.changes]
    return actions.count("+"), actions.count("~"), actions.count("-")


def summary(plan: Plan) -> str:
    """`Plan: 1 to add, 2 to change, 0 to remove.`"""
    if plan.is_empty:
        return "No changes. Every device is as wanted." if len(plan.devices) != 1 else f"No changes. {plan.devices[0].device} is as wanted."
    add, change, remove = counts(plan)
    changed = sum(1 for device in plan.devices if device.changes)
    where = f" on {changed} of {len(plan.devices)} devices" if len(plan.devices) > 1 else ""
    return f"Plan: {add} to add, {change} to change, {remove} to remove{where}."


@dataclass(frozen=True, slots=True)
class Alike:
    """Devices on which the very same changes are planned; what these do to live groups may differ."""

    devices: tuple[DevicePlan, ...]
    written: Written

    @property
    def title(self) -> str:
        """`edge-a, edge-b (2 devices alike)`."""
        names = [device.device for device in self.devices]
        return names[0] if len(names) == 1 else f"{some_names(names)} ({len(names)} devices alike)"

    def impact_lines(self) -> Iterator[str]:
        """What happens where: one line if it is the same everywhere, else one for each device that notices, the worst first."""
        impacts = sorted(((impact_of(device), device.device) for device in self.devices), key=lambda one: -LEVELS.index(one[0].level))
        noticed = [(impact, name) for impact, name in impacts if impact.level != "none"]
        if not noticed or len(self.devices) == 1:
            yield f"impact: {impact_text(impacts[0][0])}"
            return
        for impact, name in noticed[:_DEVICES_SHOWN]:
            yield f"impact on {name}: {impact_text(impact)}"
        if len(noticed) > _DEVICES_SHOWN:
            rest = worst(impact for impact, _ in noticed[_DEVICES_SHOWN:])
            yield f"impact on {len(noticed) - _DEVICES_SHOWN} more devices: {impact_text(rest)}"
        if len(noticed) < len(self.devices):
            yield f"impact on the other {len(self.devices) - len(noticed)}: none"


def impact_of(device: DevicePlan) -> Impact:
    """The worst of all its changes."""
    return worst(change.impact for change in device.changes)


def alike(plan: Plan, written: WrittenBy | None = None) -> list[Alike]:
    """The devices that change, those with the same changes together, in the order of the plan."""
    found: dict[tuple[str, ...], list[DevicePlan]] = {}
    for device in plan.devices:
        if device.changes:
            said = _of(written, device)
            key = tuple(line for change in device.changes for line in change_lines(change, said, with_impact=False))
            found.setdefault(key, []).append(device)
    return [Alike(tuple(devices), _of(written, devices[0])) for devices in found.values()]


def some_names(names: Sequence[str]) -> str:
    """The first eight, and how many more."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def text(plan: Plan, *, paint: Paint = plain_paint, written: WrittenBy | None = None) -> str:
    """The whole plan for a terminal, ending with the summary line."""
    lines: list[str] = []
    unchanged = [device.device for device in plan.devices if not device.changes]
    if unchanged and len(plan.devices) > 1:
        lines.append(f"{some_names(unchanged)}: no changes")
    for group in alike(plan, written):
        lines.append(f"{group.title}:")
        for change in group.devices[0].changes:
            lines.extend("  " + line for line in change_lines(change, group.written, paint=paint, with_impact=len(group.devices) == 1))
        lines += [f"  {line}" for line in group.impact_lines()]
        lines.append("")
    lines.append(summary(plan))
    return "\n".join(lines) + "\n"


def _of(written: WrittenBy | None, device: DevicePlan) -> Written:
    return (written or {}).get(device.device, {})


def change_line(change: Change, written: Written | None = None) -> str:
    """One change as one line: `~ igmp-proxy[default]/interfaces[lan0]/query-interval: 2m5s -> 3125 (31.25s)`."""
    n = node_at(change.path)
    where = path_text(change.path)
    after = value_text(n, change.after, where, written or {})
    if change.action == "~":
        said = f"{value_text(n, change.before, where, {})} -> {after}"
    else:
        said = after if change.action == "+" else value_text(n, change.before, where, {})
    return f"{change.action} {where}" + (f": {said}" if said else "")


def impact_text(impact: Impact) -> str:
    """`interrupts 239.1.1.1 on lan0: 2 hosts, 1.25 MB/s (lan0 is removed)`."""
    if impact.level == "none":
        return "none"
    named = [f"{group.group} on {group.interface}" for group in impact.groups]
    more = f" and {len(named) - _GROUPS_SHOWN} more" if len(named) > _GROUPS_SHOWN else ""
    touched = touched_text(impact)
    return f"{impact.level} {', '.join(named[:_GROUPS_SHOWN])}{more}" + (f": {touched}" if touched else "") + (f" ({impact.reason})" if impact.reason else "")


def touched_text(*impacts: Impact) -> str:
    """`2 hosts, 1.25 MB/s` of the impacts on different devices, as far as it is known; on an interface a host counts once, whatever it watches."""
    hosts = sum(len({(group.instance, group.interface, host) for group in impact.groups for host in group.hosts}) for impact in impacts)
    rates = [group.bytes_per_s for impact in impacts for group in impact.groups if group.bytes_per_s is not None]
    said = [f"{hosts} host{'s' if hosts != 1 else ''}"] if hosts else []
    return ", ".join([*said, *([rate_text(sum(rates))] if rates else [])])


def change_lines(change: Change, written: Written, *, paint: Paint = plain_paint, with_impact: bool = True) -> Iterator[str]:
    """One change: its line, below it what an entry holds, and what it does to live groups."""
    n = node_at(change.path)
    colour = _COLOURS[change.action]
    where = path_text(change.path)
    if n.kind == "list":
        yield paint(f"{change.action} {where}", colour)
        entry = change.after if change.after is not None else change.before
        for line in _entry_lines(entry, skip=set(n.key), at=where, written=written if change.after is not None else {}):
            yield "    " + paint(f"{change.action} {line}", colour)
    else:
        yield paint(change_line(change, written), colour)
    if with_impact and change.impact.level != "none":
        yield "    " + paint(f"! {impact_text(change.impact)}", "red" if change.impact.level == "interrupts" else "yellow")


def _entry_lines(entry: Any, *, skip: set[str], at: str, written: Written) -> Iterator[str]:
    """What an entry holds, a line a leaf; an entry within it is a line of its own with everything it holds."""
    for n in nodes(type(entry)):
        value = getattr(entry, n.attr)
        if value is None or value == () or n.name in skip:
            continue
        if n.kind == "list":
            for one in value:
                step = f"{n.name}[{','.join(key_texts(n, one))}]"
                inner = ", ".join(_entry_lines(one, skip=set(n.key), at=f"{at}/{step}", written=written))
                yield f"{step}: {inner}" if inner else step
        else:
            yield f"{n.name} {value_text(n, value, f'{at}/{n.name}', written)}"


def value_text(n: Node, value: Any, where: str, written: Written) -> str:
    if value is None or n.type is None:
        return ""
    if n.kind == "leaf-list":
        return "[" + ", ".join(n.type.text(one) for one in value) + "]"
    canonical = n.type.text(value)
    said = written.get(where)
    return f"{said} ({canonical})" if said is not None and said != canonical else canonical
