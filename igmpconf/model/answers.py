"""What our own operations answer with: lines of the log, captured packets.

Described like the state (`state.py`), so that YANG and XML come from here too.  These are operations and no part of
the state because they are read in pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

from igmpconf.model.leaf import Bool, Enum, Integer, Text, keyed_list, leaf

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedPacket:
    """One packet that passed on an interface."""

    number: int = leaf(_COUNT, "counts from 1 since the capture began", required=True)
    time_us: int = leaf(_COUNT, "when it was read, microseconds since 1970", required=True)
    outgoing: bool = leaf(Bool(), "sent by this device", required=True)
    frame: str = leaf(Text(r"([0-9a-f]{2}){16,2048}", "octets in hexadecimal", yang_pattern=""), "Linux cooked header and IP packet", required=True)
    length: int = leaf(_COUNT, "octets of the packet before it was cut", required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePage:
    """What was captured since the last reading."""

    id: str = leaf(_LINE, "name of the capture, for the next reading", required=True)
    lost: int = leaf(_COUNT, "packets since the last reading that came faster than they may be kept", required=True)
    packets: tuple[CapturedPacket, ...] = keyed_list(CapturedPacket, "the packets, oldest first", key=("number",), name="packet")
