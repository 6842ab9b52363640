"""A query or a report in a line for people: `v3 report 239.1.1.1 to-exclude {}`."""

from __future__ import annotations

from collections.abc import Iterable

from igmpconf.engine.family import Family
from igmpconf.engine.messages import Query, RecordKind, Report

_KINDS = {
    RecordKind.IS_IN: "is-include",
    RecordKind.IS_EX: "is-exclude",
    RecordKind.TO_IN: "to-include",
    RecordKind.TO_EX: "to-exclude",
    RecordKind.ALLOW: "allow",
    RecordKind.BLOCK: "block",
}


def spoken(message: Query | Report, family: Family) -> str:
    """What the message says, in the words of RFC 3376 4.2.12."""
    if isinstance(message, Query):
        asked = "general query" if message.group is None else f"query for {family.text(message.group)}"
        sources = f" from {_set(message.sources, family)}" if message.sources else ""
        numbers = f", answers within {message.max_response_ms / 1000:g}s"
        numbers += f", robustness {message.robustness}" if message.robustness is not None else ""
        numbers += f", interval {message.interval_ms / 1000:g}s" if message.interval_ms is not None else ""
        return f"v{message.version} {asked}{sources}{numbers}" + (", suppress" if message.suppress else "")
    if message.version < family.latest_version:  # one record, whose kind says only whether it is a leave
        (record,) = message.records
        return f"v{message.version} {'leave' if record.kind == RecordKind.TO_IN else 'report'} {family.text(record.group)}"
    records = [f"{family.text(record.group)} {_KINDS[record.kind]} {_set(record.sources, family)}" for record in message.records]
    return f"v{message.version} report " + ("; ".join(records) or "without records")


def _set(sources: Iterable[bytes], family: Family) -> str:
    return "{" + ", ".join(family.text(source) for source in sorted(sources)) + "}"
