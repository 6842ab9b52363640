"""What hosts and routers say to one another, whatever the version and family (house decision B).

The codecs in `engine/wire/` translate every IGMP and MLD message into one of these two before a machine sees it: an
IGMPv2 report is `IS_EX {}`, a leave is `TO_IN {}`, with `version` telling what was really spoken.
Addresses are packed octets (4 or 16); times are milliseconds.

Nobody changes a report or a record, the decoders even give the same ones out again; they are not made frozen, because that would
make each take three times as long to be made, and a report has up to 183.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class RecordKind(IntEnum):
    """Group record types; the numbers are those on the wire (RFC 3376 4.2.12, RFC 3810 5.2.12)."""

    IS_IN = 1
    IS_EX = 2
    TO_IN = 3
    TO_EX = 4
    ALLOW = 5
    BLOCK = 6


@dataclass(slots=True, unsafe_hash=True)
class Record:
    """What one report says about one group."""

    kind: RecordKind
    group: bytes
    sources: frozenset[bytes] = frozenset()


@dataclass(slots=True, unsafe_hash=True)
class Report:
    """A membership report, or a leave/done (version 1 or 2 IGMP and version 1 MLD: exactly one record).

    `version` counts per family: IGMP 1..3, MLD 1..2.
    """

    sender: bytes
    version: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A general query (`group` None), group-specific, or group-and-source-specific query.

    `robustness` and `interval_ms` are None when the version has no such field or the field says 0
    (RFC 3376 4.1.6, 4.1.7: use the default or configured value).
    """

    sender: bytes
    version: int
    group: bytes | None = None
    sources: tuple[bytes, ...] = ()
    max_response_ms: int = 10_000
    robustness: int | None = None
    interval_ms: int | None = None
    suppress: bool = False  # S flag: routers do not lower their timers (RFC 3376 4.1.5)
