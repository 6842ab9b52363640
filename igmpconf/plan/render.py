"""A plan as people and pipelines read it: text in the manner of Terraform, Markdown for a review, JUnit for CI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any

from igmpconf.model.leaf import Node, nodes
from igmpconf.model.path import path_text
from igmpconf.plan.diff import Change, Impact, key_texts, node_at
from igmpconf.plan.impact import worst
from igmpconf.plan.plan import DevicePlan, Plan

Paint = Callable[[str, str], str]  # text, colour name -> text

_COLOURS = {"+": "green", "~": "yellow", "-": "red"}
_GROUPS_SHOWN = 6  # a line stays a line; JSON has them all

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


def text(plan: Plan, *, paint: Paint = plain_paint, written: WrittenBy | None = None) -> str:
    """The whole plan for a terminal, ending with the summary line."""
    lines: list[str] = []
    for device in plan.devices:
        if not device.changes:
            if len(plan.devices) > 1:
                lines.append(f"{device.device}: no changes")
            continue
        lines.append(f"{device.device}:")
        for change in device.changes:
            lines.extend(_change_lines(change, paint, _of(written, device)))
        lines.append(f"  impact: {impact_text(worst(change.impact for change in device.changes))}")
        lines.append("")
    lines.append(summary(plan))
    return "\n".join(lines) + "\n"


def _of(written: WrittenBy | None, device: DevicePlan) -> Written:
    return (written or {}).get(device.device, {})


def change_line(change: Change, written: Written | None = None) -> str:
    """One change as one line: `~ igmp-proxy[default]/interfaces[lan0]/query-interval: 2m5s -> 3125 (31.25s)`."""
    n = node_at(change.path)
    where = path_text(change.path)
    after = _value(n, change.after, where, written or {})
    if change.action == "~":
        said = f"{_value(n, change.before, where, {})} -> {after}"
    else:
        said = after if change.action == "+" else _value(n, change.before, where, {})
    return f"{change.action} {where}" + (f": {said}" if said else "")


def impact_text(impact: Impact) -> str:
    """`interrupts 239.1.1.1 on lan0 (lan0 is removed)`."""
    if impact.level == "none":
        return "none"
    named = [f"{group.group} on {group.interface}" for group in impact.groups]
    more = f" and {len(named) - _GROUPS_SHOWN} more" if len(named) > _GROUPS_SHOWN else ""
    return f"{impact.level} {', '.join(named[:_GROUPS_SHOWN])}{more}" + (f" ({impact.reason})" if impact.reason else "")


def _change_lines(change: Change, paint: Paint, written: Written) -> Iterator[str]:
    n = node_at(change.path)
    colour = _COLOURS[change.action]
    where = path_text(change.path)
    if n.kind == "list":
        yield "  " + paint(f"{change.action} {where}", colour)
        entry = change.after if change.after is not None else change.before
        for line in _entry_lines(entry, skip=set(n.key), at=where, written=written if change.after is not None else {}):
            yield "      " + paint(f"{change.action} {line}", colour)
    else:
        yield "  " + paint(change_line(change, written), colour)
    if change.impact.level != "none":
        yield "      " + paint(f"! {impact_text(change.impact)}", "red" if change.impact.level == "interrupts" else "yellow")


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
            yield f"{n.name} {_value(n, value, f'{at}/{n.name}', written)}"


def _value(n: Node, value: Any, where: str, written: Written) -> str:
    if value is None or n.type is None:
        return ""
    if n.kind == "leaf-list":
        return "[" + ", ".join(n.type.text(one) for one in value) + "]"
    canonical = n.type.text(value)
    said = written.get(where)
    return f"{said} ({canonical})" if said is not None and said != canonical else canonical


def markdown(plan: Plan, *, written: WrittenBy | None = None) -> str:
    """The plan as a comment of a merge request."""
    lines = [f"### igmpconf plan `{plan.plan_id}`", "", f"**{summary(plan)}**", ""]
    for device in plan.devices:
        if not device.changes:
            continue
        impact = worst(change.impact for change in device.changes)
        lines += [f"#### {device.device}", "", f"Impact: **{impact.level}**" + (f": {impact_text(impact)}" if impact.level != "none" else ""), "", "```diff"]
        for change in device.changes:
            # A diff block colours + and - only; a change is shown as both.
            lines += _diff_lines(change, _of(written, device))
        lines += ["```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _diff_lines(change: Change, written: Written) -> list[str]:
    n, where = node_at(change.path), path_text(change.path)
    if change.action == "~":
        return [f"- {where}: {_value(n, change.before, where, {})}", f"+ {where}: {_value(n, change.after, where, written)}"]
    return [line.strip() for line in _change_lines(change, plain_paint, written) if not line.strip().startswith("!")]


def junit(plan: Plan, *, written: WrittenBy | None = None) -> str:
    """The plan as a JUnit report: a device is a test case, and one that differs from the desired state has failed."""
    changed = sum(1 for device in plan.devices if device.changes)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name="igmpconf plan" tests="{len(plan.devices)}" failures="{changed}">',
    ]
    for device in plan.devices:
        lines.append(
            f'  <testcase classname="igmpconf.plan" name="{escape(device.device)}">'
            if device.changes
            else f'  <testcase classname="igmpconf.plan" name="{escape(device.device)}"/>'
        )
        if device.changes:
            said = "\n".join(_failure_lines(device, _of(written, device)))
            lines += [f'    <failure message="{len(device.changes)} changes">{escape(said)}</failure>', "  </testcase>"]
    return "\n".join([*lines, "</testsuite>"]) + "\n"


def _failure_lines(device: DevicePlan, written: Written) -> Iterator[str]:
    for change in device.changes:
        yield from _change_lines(change, plain_paint, written)
    yield f"impact: {impact_text(worst(change.impact for change in device.changes))}"
