"""The commits that devices keep, and which of them touched a place last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from igmpconf.apply.session import device_state
from igmpconf.cli.devices import Device, talk
from igmpconf.model.path import path_text
from igmpconf.model.state import CommitRow
from igmpconf.netconf.client import NetconfClient
from igmpconf.plan.diff import Change

_LINES_SHOWN = 10  # of one commit; `igmpconf history --diff` has all


def commits_of(device: Device) -> tuple[CommitRow, ...]:
    """The commits that a device keeps.  Raises TransportError, RpcFailed."""
    with NetconfClient.connect(device.target, say=talk) as client:
        return device_state(client, ("history",)).history


def who_changed(device: Device, changes: Sequence[Change]) -> Iterator[str]:
    """Of each place that differs, the commit that touched it last, newest first: who, when, what; then what no commit touched."""
    rows = sorted(commits_of(device), key=lambda row: row.number, reverse=True)
    left = [path_text(change.path) for change in changes]
    for row in rows:
        told = (row.diff or "").splitlines()
        touched = {path: [line for line in told if _is_below(line, path)] for path in left}
        lines = list(dict.fromkeys(line for path in left for line in touched[path]))
        if not lines:
            continue
        left = [path for path in left if not touched[path]]
        yield f"{device.name}: {_commit_text(row)}"
        yield from (f"    {line}" for line in lines[:_LINES_SHOWN])
        if len(lines) > _LINES_SHOWN:
            yield f"    and {len(lines) - _LINES_SHOWN} more"
    if left:
        what = left[0] if len(left) == 1 else f"{left[0]} and {len(left) - 1} more places"
        last = f"; the last was {_commit_text(rows[0])}" if rows else ""
        yield f"{device.name}: no commit that it keeps has touched {what}: it is the desired state that was changed, and not applied{last}"


def _is_below(line: str, path: str) -> bool:
    """A line of a commit's diff (`~ PATH old -> new`) speaks of a path or of something in it."""
    rest = line[2:]
    return rest.startswith(path) and rest[len(path) : len(path) + 1] in {"", " ", "/"}


def _commit_text(row: CommitRow) -> str:
    by = f", plan {row.plan}" if row.plan else ""
    return f"commit {row.number} at {row.time} by {row.user or 'unknown'} ({row.event or 'commit'}{by})" + (f": {row.comment}" if row.comment else "")
