"""MLDv1 and MLDv2 on the wire (RFC 2710 3, RFC 3810 5).

`decode` takes an ICMPv6 message and answers with a `Query` or a `Report`, or raises WireError whose reason is the
name of a counter.  The encoders leave the checksum zero: the kernel fills it in on raw ICMPv6 sockets, because it
covers the pseudo-header with the source address that only the kernel chooses.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable

from igmpconf.engine.messages import Query, Record, RecordKind, Report
from igmpconf.engine.wire.codes import decode8, decode16, encode8, encode16
from igmpconf.engine.wire.records import decode_records, packed_records
from igmpconf.errors import WireError

QUERY = 130
V1_REPORT = 131
V1_DONE = 132
V2_REPORT = 143

IP_HEADER_BYTES = 48  # IPv6 header and the Hop-by-Hop header that carries Router Alert
ALL_ROUTERS = b"\xff\x02" + bytes(13) + b"\x02"
ALL_REPORT_ROUTERS = b"\xff\x02" + bytes(13) + b"\x16"
_EXCLUDING = (2, 4)  # IS_EX, TO_EX
_ANY = bytes(16)
_TYPES = frozenset({QUERY, V1_REPORT, V1_DONE, V2_REPORT})
_ICMPV6 = 58
_CACHED_BYTES = 256  # hosts repeat themselves; longer reports are rare and would make the cache heavy


def is_group(address: bytes) -> bool:
    """True for ff00::/8."""
    return address[0] == 0xFF


def is_source(address: bytes) -> bool:
    """True for what can be the source of a datagram: neither :: nor multicast."""
    return address[0] != 0xFF and address != _ANY


def is_link_local(address: bytes) -> bool:
    """True for fe80::/10."""
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def decode(payload: bytes, sender: bytes, destination: bytes | None = None, ttl: int = 1, router_alert: bool = True) -> Query | Report:  # noqa: FBT001, FBT002
    """The message in `payload`; `ttl` is the hop limit on arrival.

    Raises WireError: sender, hop-limit, router-alert (RFC 3810 6.2), too-short, checksum, unknown-type, query-length,
    ...  The checksum is verified only when `destination` is known (the pseudo-header needs it); raw ICMPv6 sockets
    have verified it already.
    """
    length = len(payload)
    if length < 8:
        raise WireError("too-short", length)
    if destination is not None and not _is_intact(payload, sender, destination):
        raise WireError("checksum", 2)
    kind = payload[0]
    if kind not in _TYPES:
        raise WireError("unknown-type", 0)
    if not is_link_local(sender):
        raise WireError("sender", 0)
    if ttl != 1:
        raise WireError("hop-limit", 0)
    if not router_alert:
        raise WireError("router-alert", 0)
    if kind == QUERY:
        return _decode_query(payload, sender)
    version, records = _decode_report(payload) if length <= _CACHED_BYTES else _decode_report_uncached(payload)
    return Report(sender, version, records)


def _is_intact(payload: bytes, sender: bytes, destination: bytes) -> bool:
    """The checksum covers the pseudo-header of RFC 8200 8.1 too; its words may be added in any order (`checksum.py`)."""
    length = len(payload)
    number = int.from_bytes(sender + destination + (payload + b"\0" if length % 2 else payload))
    return (number + length + _ICMPV6) % 0xFFFF == 0


def _decode_report_uncached(payload: bytes) -> tuple[int, tuple[Record, ...]]:
    kind = payload[0]
    if kind == V2_REPORT:
        return 2, decode_records(payload, payload[6] << 8 | payload[7], 8, 16, is_group=is_group, is_source=is_source)
    if len(payload) < 24:
        raise WireError("too-short", len(payload))
    group = payload[8:24]
    if not is_group(group):
        raise WireError("bad-group", 8)
    return 1, (Record(RecordKind.TO_IN if kind == V1_DONE else RecordKind.IS_EX, group),)


_decode_report = functools.lru_cache(maxsize=1024)(_decode_report_uncached)


def sole_join(payload: bytes, sender: bytes, destination: bytes | None, ttl: int, router_alert: bool) -> tuple[int, bytes] | None:  # noqa: FBT001
    """(version, group) if the message is acceptable and all it says is that somebody wants any source of one group; else None."""
    length = len(payload)
    if length == 28 and payload[0] == V2_REPORT and payload[8] in _EXCLUDING and payload[6:8] == b"\0\1" and payload[9:12] == b"\0\0\0":
        version, group = 2, payload[12:]
    elif length == 24 and payload[0] == V1_REPORT:
        version, group = 1, payload[8:]
    else:
        return None
    if group[0] != 0xFF or ttl != 1 or not router_alert or not is_link_local(sender):
        return None
    if destination is not None and not _is_intact(payload, sender, destination):
        return None
    return version, group


def is_general_query(payload: bytes) -> bool:
    """The message asks about every group; whether it is intact is not looked at."""
    return payload[:1] == bytes((QUERY,)) and not any(payload[8:24])


def _decode_query(payload: bytes, sender: bytes) -> Query:
    length = len(payload)
    if length < 24:
        raise WireError("too-short", length)
    code, group = payload[4] << 8 | payload[5], payload[8:24]
    if group != _ANY and not is_group(group):
        raise WireError("bad-group", 8)
    asked = None if group == _ANY else group
    if length == 24:
        return Query(sender, 1, asked, max_response_ms=code)  # linear over 16 bits (MLD-09)
    if length < 28:
        raise WireError("query-length", length)
    number = payload[26] << 8 | payload[27]
    if 28 + 16 * number > length:
        raise WireError("sources-truncated", 26)
    if number and asked is None:
        raise WireError("bad-group", 8)
    sources = tuple(payload[at : at + 16] for at in range(28, 28 + 16 * number, 16))
    robustness, interval = payload[24] & 7, decode8(payload[25])
    return Query(sender, 2, asked, sources, decode16(code), robustness or None, interval * 1000 or None, suppress=bool(payload[24] & 8))


def encode_query(query: Query, mtu_bytes: int = 1500) -> list[bytes]:
    """The packets that ask `query`: one, or several when the sources do not fit (MLD-11: 89 at MTU 1500)."""
    group = query.group or _ANY
    if query.version == 1:
        return [struct.pack("!BBHHH16s", QUERY, 0, 0, min(query.max_response_ms, 0xFFFF), 0, group)]
    robustness = query.robustness or 0
    flags = (8 if query.suppress else 0) | (robustness if robustness <= 7 else 0)
    head = struct.pack("!BBHHH16sBB", QUERY, 0, 0, encode16(query.max_response_ms), 0, group, flags, encode8((query.interval_ms or 0) // 1000))
    most = max(1, (mtu_bytes - IP_HEADER_BYTES - 28) // 16)
    parts = [query.sources[start : start + most] for start in range(0, len(query.sources), most)] or [()]
    return [head + len(part).to_bytes(2) + b"".join(part) for part in parts]


def encode_report(version: int, records: Iterable[Record], mtu_bytes: int = 1500) -> list[tuple[bytes, bytes]]:
    """(destination, payload) of the packets that say `records` in `version`."""
    if version >= 2:
        head = bytes((V2_REPORT, 0, 0, 0, 0, 0))
        batches = packed_records(records, mtu_bytes - IP_HEADER_BYTES - 8, 16)
        return [(ALL_REPORT_ROUTERS, head + len(batch).to_bytes(2) + b"".join(batch)) for batch in batches]
    packets: list[tuple[bytes, bytes]] = []
    for record in records:
        joins = record.kind in {RecordKind.IS_EX, RecordKind.TO_EX}
        payload = bytes((V1_REPORT if joins else V1_DONE, 0, 0, 0, 0, 0, 0, 0)) + record.group
        packets.append((record.group if joins else ALL_ROUTERS, payload))
    return packets
