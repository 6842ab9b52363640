"""Just enough IGMP to pretend to be a host at an exact moment: the kernel's own hosts wait before they report."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

_ROUTER_ALERT = b"\x94\x04\x00\x00"  # RFC 2113
IS_EX, TO_IN, TO_EX = 2, 3, 4  # RFC 3376 4.2.12
_V2_REPORT, _V2_LEAVE, _V3_REPORT = 0x16, 0x17, 0x22


def report_socket(interface_address: str) -> socket.socket:
    """A raw socket that sends IGMP as a host must: TTL 1, Router Alert (RFC 3376 4)."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, _ROUTER_ALERT)
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface_address))
    return raw


def join(group: str, *, version: int) -> tuple[bytes, str]:
    """(message, destination) with which a host of that version joins."""
    return _message(group, version, TO_EX, _V2_REPORT, group)


def leave(group: str, *, version: int) -> tuple[bytes, str]:
    """(message, destination) with which a host of that version leaves."""
    return _message(group, version, TO_IN, _V2_LEAVE, "224.0.0.2")


def _message(group: str, version: int, record: int, v2_type: int, v2_destination: str) -> tuple[bytes, str]:
    address = socket.inet_aton(group)
    if version == 2:
        return _summed(struct.pack("!BBH4s", v2_type, 0, 0, address)), v2_destination
    return report(record, [address]), "224.0.0.22"


def report(record: int, groups: Sequence[bytes]) -> bytes:
    """An IGMPv3 report with one record of the same kind, without sources, for each group."""
    records = b"".join(struct.pack("!BBH4s", record, 0, 0, group) for group in groups)
    return _summed(struct.pack("!BBHHH", _V3_REPORT, 0, 0, 0, len(groups)) + records)


def groups_joined(message: bytes) -> set[str]:
    """The groups that an IGMP report asks for, whatever its version."""
    if message[0] == _V2_REPORT:
        return {socket.inet_ntoa(message[4:8])}
    if message[0] != _V3_REPORT:
        return set()
    joined, offset = set(), 8
    for _ in range(int.from_bytes(message[6:8], "big")):
        kind, aux_words, sources, group = struct.unpack_from("!BBH4s", message, offset)
        if kind in (IS_EX, TO_EX):
            joined.add(socket.inet_ntoa(group))
        offset += 8 + 4 * (sources + aux_words)
    return joined


def _summed(message: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack("!H", ~total & 0xFFFF) + message[4:]
