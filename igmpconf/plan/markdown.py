"""A plan as a comment of a merge request: never larger than a comment may be, what hurts most first.

What does not fit in full is still named, with its impact; the JSON document has all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from igmpconf.model.path import path_text
from igmpconf.plan.diff import Change, node_at
from igmpconf.plan.impact import LEVELS, worst
from igmpconf.plan.plan import Plan
from igmpconf.plan.render import Alike, Written, WrittenBy, alike, change_lines, impact_of, impact_text, some_names, summary, touched_text, value_text

MOST = 60_000  # characters; GitHub takes 65 536 in a comment, GitLab a million
LEAST = 1_000
_LAST_LINE = 200


def markdown(plan: Plan, *, written: WrittenBy | None = None, most: int = MOST, unread: Mapping[str, str] | None = None) -> str:
    """The plan in at most `most` characters, `LEAST` or more; devices with the same changes share a section.

    `unread` (name -> why) are devices that could not be read.
    """
    assert most >= LEAST
    groups = sorted(alike(plan, written), key=lambda group: -LEVELS.index(worst(map(impact_of, group.devices)).level))
    said = "\n".join([f"### igmpconf plan `{plan.plan_id}`", "", f"**{summary(plan)}**", "", *_unread(unread or {}), *_table(plan)]).rstrip() + "\n"
    for at, group in enumerate(groups):
        section = "\n" + "\n".join(_section(group)) + "\n"
        # The short line of each group that may follow has its room kept, so that a large one does not hide them.
        if len(said) + len(section) + sum(len(_bullet(other)) for other in groups[at + 1 :]) + _LAST_LINE > most:
            return said + _left_out(groups[at:], most - len(said))
        said += section
    return said


def _unread(unread: Mapping[str, str]) -> Iterator[str]:
    if unread:
        yield from (f"**Not read: {_plain(some_names(list(unread)))}** ({_plain(next(iter(unread.values()))[:_LAST_LINE])})", "")


def _table(plan: Plan) -> Iterator[str]:
    """How many devices notice what; nothing when nobody does."""
    impacts = [impact_of(device) for device in plan.devices if device.changes]
    if all(impact.level == "none" for impact in impacts):
        return
    yield from ("| impact | devices | live groups | touched |", "|---|--:|--:|---|")
    for level in reversed(LEVELS):
        those = [impact for impact in impacts if impact.level == level]
        if those:
            yield f"| {level} | {len(those)} | {sum(len(impact.groups) for impact in those)} | {touched_text(*those)} |"


def _section(group: Alike) -> Iterator[str]:
    yield from (f"#### {_plain(group.title)}", "")
    for line in group.impact_lines():
        where, _, what = line.partition(": ")
        level, _, rest = what.partition(" ")
        yield f"{_plain(where[0].upper() + where[1:])}: **{level}**" + (f" {_plain(rest)}" if rest else "") + "  "
    lines = [line for change in group.devices[0].changes for line in _diff_lines(change, group.written)]
    # A value may hold backticks; the block must not end there.
    fence = "`" * max([3, *(len(run) + 1 for line in lines for run in re.findall("`+", line))])
    yield from ("", f"{fence}diff", *lines, fence)


def _diff_lines(change: Change, written: Written) -> list[str]:
    """A diff block colours + and - only, so a value that changes is shown as both."""
    n, where = node_at(change.path), path_text(change.path)
    if change.action == "~":
        return [f"- {where}: {value_text(n, change.before, where, {})}", f"+ {where}: {value_text(n, change.after, where, written)}"]
    return [line.strip() for line in change_lines(change, written, with_impact=False)]


def _bullet(group: Alike) -> str:
    """One device or group of alike ones without its diff."""
    impact = worst(map(impact_of, group.devices))
    count = len(group.devices[0].changes)
    said = f"- {_plain(group.title)}: {count} change{'s' if count != 1 else ''}, impact **{impact.level}**"
    return said + (f" ({_plain(impact_text(impact)[:_LAST_LINE])})\n" if impact.level != "none" else "\n")


def _left_out(groups: list[Alike], room: int) -> str:
    """The groups that have no section, as many of them by name as there is room for, and how many are not."""
    said = "\n#### Not shown in full\n\n"
    last = "\n_The comment would be too large; the JSON document of the plan has everything._\n"
    for at, group in enumerate(groups):
        line = _bullet(group)
        more = f"- and {sum(len(other.devices) for other in groups[at:])} more devices\n"
        if len(said) + len(line) + len(more) + len(last) > room:
            return said + more + last
        said += line
    return said + last


def _plain(text: str) -> str:
    """Text in which nothing is markup: names and values are what people wrote."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)
