"""IGMPv1, v2 and v3 on the wire (RFC 1112 appendix I, RFC 2236 2, RFC 3376 4).

`decode` takes an IP payload and answers with a `Query` or a `Report`, or raises WireError whose reason is the
name of a counter.  `encode_query` and `encode_report` answer with payloads that fit the MTU, checksum filled in.
What a message means is not known here.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable

from igmpconf.engine.messages import Query, Record, RecordKind, Report
from igmpconf.engine.wire.checksum import internet_checksum, is_intact
from igmpconf.engine.wire.codes import decode8, encode8
from igmpconf.engine.wire.records import decode_records, packed_records
from igmpconf.errors import WireError

QUERY = 0x11
V1_REPORT = 0x12
V2_REPORT = 0x16
V2_LEAVE = 0x17
V3_REPORT = 0x22

IP_HEADER_BYTES = 24  # IPv4 header with the Router Alert option (RFC 2113)
ALL_ROUTERS = b"\xe0\x00\x00\x02"
ALL_REPORT_ROUTERS = b"\xe0\x00\x00\x16"
_EXCLUDING = (2, 4)  # IS_EX, TO_EX
_ANY = b"\0\0\0\0"
_V1_RESPONSE_MS = 10_000  # RFC 3376 7.2.1: a v1 query leaves ten seconds
_CACHED_BYTES = 256  # hosts repeat themselves; longer reports are rare and would make the cache heavy


def is_group(address: bytes) -> bool:
    """True for 224.0.0.0/4."""
    return address[0] & 0xF0 == 0xE0


def is_source(address: bytes) -> bool:
    """True for what can be the source of a datagram: not 0.0.0.0, not multicast, not broadcast."""
    return address[0] & 0xF0 != 0xE0 and address not in {_ANY, b"\xff\xff\xff\xff"}


def decode(payload: bytes, sender: bytes, destination: bytes | None = None, ttl: int = 1, router_alert: bool = True) -> Query | Report:  # noqa: ARG001, FBT001, FBT002 (one signature for both families)
    """The message in `payload`.  Raises WireError: too-short, checksum, unknown-type, query-length, ...

    IGMP has no rule about TTL on arrival (PKT-34); whether Router Alert is demanded is the receiver's policy.
    """
    kind = payload[0] if payload else 0
    if kind == QUERY:
        return _decode_query(payload, sender)
    version, records = _decode_report(payload) if len(payload) <= _CACHED_BYTES else _decode_report_uncached(payload)
    return Report(sender, version, records)


def sole_join(payload: bytes, sender: bytes, destination: bytes | None, ttl: int, router_alert: bool) -> tuple[int, bytes] | None:  # noqa: ARG001, FBT001
    """(version, group) if the message is intact and all it says is that somebody wants any source of one group; else None."""
    length = len(payload)
    if length == 16 and payload[0] == V3_REPORT and payload[8] in _EXCLUDING and payload[6:8] == b"\0\1" and payload[9:12] == b"\0\0\0":
        version, group = 3, payload[12:]
    elif length == 8 and payload[0] == V2_REPORT:
        version, group = 2, payload[4:]
    else:
        return None
    # the checksum as in `is_intact`, for an even number of octets whose first is not zero
    return (version, group) if group[0] & 0xF0 == 0xE0 and int.from_bytes(payload) % 0xFFFF == 0 else None


def _decode_report_uncached(payload: bytes) -> tuple[int, tuple[Record, ...]]:
    if len(payload) < 8:
        raise WireError("too-short", len(payload))
    if not is_intact(payload):
        raise WireError("checksum", 2)
    kind = payload[0]
    if kind == V3_REPORT:
        return 3, decode_records(payload, payload[6] << 8 | payload[7], 8, 4, is_group=is_group, is_source=is_source)
    if kind not in {V1_REPORT, V2_REPORT, V2_LEAVE}:
        raise WireError("unknown-type", 0)
    group = payload[4:8]  # octets after the eighth are ignored (RFC 2236 2.5)
    if not is_group(group):
        raise WireError("bad-group", 4)
    return (1 if kind == V1_REPORT else 2), (Record(RecordKind.TO_IN if kind == V2_LEAVE else RecordKind.IS_EX, group),)


_decode_report = functools.lru_cache(maxsize=1024)(_decode_report_uncached)


def is_general_query(payload: bytes) -> bool:
    """The message asks about every group; whether it is intact is not looked at."""
    return payload[:1] == bytes((QUERY,)) and not any(payload[4:8])


def _decode_query(payload: bytes, sender: bytes) -> Query:
    length = len(payload)
    if length < 8:
        raise WireError("too-short", length)
    if not is_intact(payload):
        raise WireError("checksum", 2)
    code, group = payload[1], payload[4:8]
    if length == 8 and code == 0:
        return Query(sender, 1, max_response_ms=_V1_RESPONSE_MS)
    if group != _ANY and not is_group(group):
        raise WireError("bad-group", 4)
    asked = None if group == _ANY else group
    if length == 8:
        return Query(sender, 2, asked, max_response_ms=code * 100)  # linear over the full range (PKT-09)
    if length < 12:
        raise WireError("query-length", length)
    number = payload[10] << 8 | payload[11]
    if 12 + 4 * number > length:
        raise WireError("sources-truncated", 10)
    if number and asked is None:
        raise WireError("bad-group", 4)
    sources = tuple(payload[at : at + 4] for at in range(12, 12 + 4 * number, 4))
    robustness, interval = payload[8] & 7, decode8(payload[9])
    return Query(sender, 3, asked, sources, decode8(code) * 100, robustness or None, interval * 1000 or None, suppress=bool(payload[8] & 8))


def encode_query(query: Query, mtu_bytes: int = 1500) -> list[bytes]:
    """The packets that ask `query`: one, or several when the sources do not fit (PKT-16: 366 at MTU 1500)."""
    group = query.group or _ANY
    if query.version == 1:
        return [_summed(bytes((QUERY, 0, 0, 0)) + _ANY)]
    tenths = query.max_response_ms // 100
    if query.version == 2:
        return [_summed(bytes((QUERY, max(1, min(tenths, 255)), 0, 0)) + group)]  # code 0 would make it version 1
    robustness = query.robustness or 0
    flags = (8 if query.suppress else 0) | (robustness if robustness <= 7 else 0)
    interval = encode8((query.interval_ms or 0) // 1000)
    most = max(1, (mtu_bytes - IP_HEADER_BYTES - 12) // 4)
    head = struct.pack("!BBH4sBB", QUERY, encode8(tenths), 0, group, flags, interval)
    parts = [query.sources[start : start + most] for start in range(0, len(query.sources), most)] or [()]
    return [_summed(head + len(part).to_bytes(2) + b"".join(part)) for part in parts]


def encode_report(version: int, records: Iterable[Record], mtu_bytes: int = 1500) -> list[tuple[bytes, bytes]]:
    """(destination, payload) of the packets that say `records` in `version`; version 1 knows no leave."""
    if version >= 3:
        head = bytes((V3_REPORT, 0, 0, 0, 0, 0))
        batches = packed_records(records, mtu_bytes - IP_HEADER_BYTES - 8, 4)
        return [(ALL_REPORT_ROUTERS, _summed(head + len(batch).to_bytes(2) + b"".join(batch))) for batch in batches]
    packets: list[tuple[bytes, bytes]] = []
    for record in records:
        if record.kind in {RecordKind.IS_EX, RecordKind.TO_EX}:
            packets.append((record.group, _summed(bytes((V1_REPORT if version == 1 else V2_REPORT, 0, 0, 0)) + record.group)))
        elif version == 2:
            packets.append((ALL_ROUTERS, _summed(bytes((V2_LEAVE, 0, 0, 0)) + record.group)))
    return packets


def _summed(payload: bytes) -> bytes:
    return payload[:2] + internet_checksum(payload).to_bytes(2) + payload[4:]
