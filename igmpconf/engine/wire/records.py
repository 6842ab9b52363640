"""Group records: the part of a report that IGMPv3 and MLDv2 write alike but for the size of an address.

Layout of a record (RFC 3376 4.2.4, RFC 3810 5.2.4): kind, auxiliary length in 32-bit words, number of sources,
group, sources, auxiliary data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from igmpconf.engine.messages import Record, RecordKind
from igmpconf.errors import WireError

_KINDS: dict[int, RecordKind] = {int(kind): kind for kind in RecordKind}
_NO_SOURCES: frozenset[bytes] = frozenset()
_WHOLE_ONLY = frozenset({RecordKind.IS_EX, RecordKind.TO_EX})  # RFC 3376 4.2.16: an EXCLUDE list cannot be split


def decode_records(
    payload: bytes, count: int, start: int, size: int, *, is_group: Callable[[bytes], bool], is_source: Callable[[bytes], bool]
) -> tuple[Record, ...]:
    """The `count` records that begin at octet `start`, addresses being `size` octets.

    Records that make no sense alone (unknown kind, not a group, not a source) are left out (RFC 3376 4.2.12, PKT-26).
    Raises WireError when the counts overrun the message: then nothing of it is believed.
    """
    records: list[Record] = []
    end = len(payload)
    position = start
    for _ in range(count):
        sources_at = position + 4 + size
        if sources_at > end:
            raise WireError("records-truncated", position)
        number = payload[position + 2] << 8 | payload[position + 3]
        after_sources = sources_at + number * size
        after = after_sources + payload[position + 1] * 4
        if after > end:
            raise WireError("records-truncated", position)
        kind = _KINDS.get(payload[position])
        group = payload[position + 4 : sources_at]
        if kind is not None and is_group(group):
            if number == 0:
                records.append(Record(kind, group, _NO_SOURCES))
            else:
                sources = frozenset([payload[at : at + size] for at in range(sources_at, after_sources, size)])
                if all(map(is_source, sources)):
                    records.append(Record(kind, group, sources))
        position = after
    return tuple(records)


def encode_record(record: Record) -> bytes:
    """One record, its sources in numeric order, no auxiliary data."""
    return b"".join((bytes((record.kind, 0)), len(record.sources).to_bytes(2), record.group, *sorted(record.sources)))


def packed_records(records: Iterable[Record], capacity_bytes: int, size: int) -> Iterator[list[bytes]]:
    """Encoded records, grouped so that each group fits into `capacity_bytes` (RFC 3376 4.2.16).

    A record that fits nowhere whole is split by sources, but an EXCLUDE list is cut short instead: it keeps its
    numerically lowest sources, the same ones each time.
    """
    batch: list[bytes] = []
    used = 0
    for record in records:
        for piece in _pieces(record, capacity_bytes, size):
            encoded = encode_record(piece)
            if used + len(encoded) > capacity_bytes and batch:
                yield batch
                batch, used = [], 0
            batch.append(encoded)
            used += len(encoded)
    if batch:
        yield batch


def _pieces(record: Record, capacity_bytes: int, size: int) -> Iterator[Record]:
    most = max(1, (capacity_bytes - 4 - size) // size)
    if len(record.sources) <= most:
        yield record
        return
    ordered = sorted(record.sources)
    if record.kind in _WHOLE_ONLY:
        yield Record(record.kind, record.group, frozenset(ordered[:most]))
        return
    for start in range(0, len(ordered), most):
        yield Record(record.kind, record.group, frozenset(ordered[start : start + most]))
