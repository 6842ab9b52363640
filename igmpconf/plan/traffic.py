"""How much a change touches: who listens to the groups it names, and how much flows there.

The rate is the difference of two readings of the forwarding counters.  Pure: the caller reads twice and says how far
apart (`igmpconf plan --measure`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from igmpconf.model.state import DeviceState, MfcRow
from igmpconf.plan.diff import Change, LiveGroup


def is_measurable(changes: Iterable[Change], state: DeviceState) -> bool:
    """A second reading would tell something: a change touches a group whose datagrams are counted."""
    named = {(group.instance, group.group) for change in changes for group in change.impact.groups}
    return any(row.bytes is not None and (row.instance, str(row.group)) in named for row in state.mfc)


def measured(changes: Sequence[Change], first: DeviceState, second: DeviceState | None = None, elapsed_s: float = 0.0) -> tuple[Change, ...]:
    """The changes with hosts, and with rates where a second reading `elapsed_s` seconds later was taken."""
    listening: dict[LiveGroup, list[str]] = {}
    for row in first.hosts:
        listening.setdefault(LiveGroup.of(row.instance, row.interface, row.group), []).append(str(row.host))
    rates = _rates(first, second, elapsed_s) if second is not None and elapsed_s > 0 else {}

    def known(live: LiveGroup) -> LiveGroup:
        return dataclasses.replace(live, hosts=tuple(listening.get(live, ())), bytes_per_s=rates.get(live, 0 if rates else None))

    return tuple(
        dataclasses.replace(change, impact=dataclasses.replace(change.impact, groups=tuple(map(known, change.impact.groups))))
        if change.impact.groups
        else change
        for change in changes
    )


def _rates(first: DeviceState, second: DeviceState, elapsed_s: float) -> dict[LiveGroup, int]:
    """Bytes a second by group and interface; an entry that is new, or was made anew, counts from zero."""
    before = {_key(row): row.bytes or 0 for row in first.mfc}
    found: dict[LiveGroup, int] = {}
    for row in second.mfc:
        if row.bytes is None:
            continue
        grown = row.bytes - before.get(_key(row), 0)
        grown = grown if grown >= 0 else row.bytes
        for name in row.downstreams:
            live = LiveGroup.of(row.instance, name, row.group)
            found[live] = found.get(live, 0) + round(grown / elapsed_s)
    return found


def _key(row: MfcRow) -> tuple[str, str, str, str]:
    return row.instance, row.family, str(row.source), str(row.group)


def rate_text(bytes_per_s: int) -> str:
    """`1.25 MB/s`, three digits at most, decimal units."""
    value, unit = float(bytes_per_s), "B/s"
    for larger in ("kB/s", "MB/s", "GB/s"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"
