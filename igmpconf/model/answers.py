"""What our own operations answer with: lines of the log.

Described like the state (`state.py`), so that YANG and XML come from here too.  These are operations and no part of
the state because they are read in pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

from igmpconf.model.leaf import Enum, Integer, Text, keyed_list, leaf

_COUNT = Integer(0, 2**64 - 1)
_LINE = Text(r"[^\x00-\x1f]{0,1000}", "text", yang_pattern="")

MOST_LINES = 1_000  # one answer holds; about 300 kB of XML


@dataclass(frozen=True, slots=True, kw_only=True)
class LogField:
    name: str = leaf(_LINE, "what it is", required=True)
    value: str = leaf(_LINE, "its value", required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """One line of the log."""

    number: int = leaf(_COUNT, "counts from 1 since the agent started", required=True)
    time: str = leaf(_LINE, "when, RFC 3339 with milliseconds", required=True)
    level: str = leaf(Enum(("debug", "info", "warning", "error")), "how bad it is", required=True)
    topic: str = leaf(Enum(("igmp-proxy", "netconf", "firewall", "packet")), "what it belongs to", required=True)
    event: str = leaf(_LINE, "what happened, a stable name", required=True)
    repeated: int | None = leaf(_COUNT, "the same lines left out since the last one that was kept")
    fields: tuple[LogField, ...] = keyed_list(LogField, "its facts, the cause among them", key=("name",), name="field")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Lines of the log, oldest first."""

    started: str = leaf(_LINE, "when numbering began; another value: the agent was restarted", required=True)
    last: int = leaf(_COUNT, "number of the newest line there is", required=True)
    lost: int | None = leaf(_COUNT, "lines after the one asked for that the ring no longer holds")
    lines: tuple[LogRow, ...] = keyed_list(LogRow, "the lines", key=("number",), name="line")
