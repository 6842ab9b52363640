"""A plan as a JUnit report, which every CI shows: a device is a test case, and one that differs from the desired state has failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from igmpconf.plan.plan import DevicePlan, Plan
from igmpconf.plan.render import Written, WrittenBy, change_lines, impact_of, impact_text


def junit(plan: Plan, *, written: WrittenBy | None = None, unread: Mapping[str, str] | None = None) -> str:
    """The report; a failure's type is the impact (`none`, `rejoin`, `interrupts`), its text what would change.

    `unread` (name -> why) are the devices that could not be read: errors.
    """
    unread = unread or {}
    errors = f' errors="{len(unread)}"' if unread else ""
    changed = sum(1 for device in plan.devices if device.changes)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name="igmpconf plan" tests="{len(plan.devices) + len(unread)}" failures="{changed}"{errors}>',
        f'  <properties><property name="plan_id" value="{escape(plan.plan_id)}"/></properties>',
    ]
    for device in plan.devices:
        case = f'  <testcase classname="igmpconf.plan" name="{escape(device.device)}"'
        if not device.changes:
            lines.append(f"{case}/>")
            continue
        said = "\n".join(_failure_lines(device, (written or {}).get(device.device, {})))
        count = len(device.changes)
        message = f"{count} change{'s' if count != 1 else ''}"
        lines += [f"{case}>", f'    <failure type="{impact_of(device).level}" message="{message}">{escape(said)}</failure>', "  </testcase>"]
    for name, why in unread.items():
        lines += [f'  <testcase classname="igmpconf.plan" name="{escape(name)}">', f'    <error message="{escape(why)}"/>', "  </testcase>"]
    return "\n".join([*lines, "</testsuite>"]) + "\n"


def _failure_lines(device: DevicePlan, written: Written) -> Iterator[str]:
    for change in device.changes:
        yield from change_lines(change, written)
    yield f"impact: {impact_text(impact_of(device))}"
