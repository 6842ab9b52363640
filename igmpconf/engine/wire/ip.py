"""The IP header around IGMP and MLD: what raw sockets hand over with a datagram, and what AF_PACKET wants in front of one."""

from __future__ import annotations

import struct
from typing import NamedTuple

from igmpconf.engine.wire.checksum import internet_checksum
from igmpconf.errors import WireError

ROUTER_ALERT = b"\x94\x04\x00\x00"  # RFC 2113
INTERNETWORK_CONTROL = 0xC0  # RFC 3376 4: precedence of everything we send
IGMP_PROTOCOL = 2
_ICMPV6 = 58
_MLD_ALERT = bytes((_ICMPV6, 0, 5, 2, 0, 0, 1, 0))  # hop-by-hop header: Router Alert "MLD", then PadN


class Ipv4Datagram(NamedTuple):
    sender: bytes
    destination: bytes
    payload: bytes
    ttl: int
    router_alert: bool


def parse_ipv4(datagram: bytes | memoryview) -> Ipv4Datagram:
    """Sender, destination, payload, TTL and presence of Router Alert.  Raises WireError: ip-header, ip-fragment.

    The protocol field is not looked at: the socket chose it, and the kernel's upcalls have 0 there.
    """
    data = bytes(datagram)
    if len(data) < 20 or data[0] >> 4 != 4:
        raise WireError("ip-header", 0)
    header_bytes = (data[0] & 0x0F) * 4
    total_bytes = data[2] << 8 | data[3]
    if header_bytes < 20 or total_bytes < header_bytes or total_bytes > len(data):
        raise WireError("ip-header", 2)
    if (data[6] << 8 | data[7]) & 0x3FFF:  # more fragments, or an offset
        raise WireError("ip-fragment", 6)
    alert = header_bytes > 20 and _has_router_alert(data[20:header_bytes])
    return Ipv4Datagram(data[12:16], data[16:20], data[header_bytes:total_bytes], data[8], alert)


def _has_router_alert(options: bytes) -> bool:
    at = 0
    while at < len(options):
        kind = options[at]
        if kind == 0:  # end of options
            return False
        if kind == 1:  # no operation
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if length < 2:
            return False
        if kind == 0x94:
            return options[at : at + 4] == ROUTER_ALERT
        at += length
    return False


def build_ipv4(source: bytes, destination: bytes, payload: bytes, *, protocol: int = IGMP_PROTOCOL, ttl: int = 1) -> bytes:
    """A whole datagram with Router Alert, precedence Internetwork Control, TTL 1, do-not-fragment, header checksum."""
    total_bytes = 24 + len(payload)
    head = struct.pack("!BBHHHBBH4s4s4s", 0x46, INTERNETWORK_CONTROL, total_bytes, 0, 0x4000, ttl, protocol, 0, source, destination, ROUTER_ALERT)
    return head[:10] + internet_checksum(head).to_bytes(2) + head[12:] + payload


def build_mld(source: bytes, destination: bytes, payload: bytes) -> bytes:
    """A whole IPv6 datagram around an MLD message: Router Alert (RFC 2711), hop limit 1, and the ICMPv6 checksum that the payload lacks."""
    pseudo = source + destination + struct.pack("!II", len(payload), _ICMPV6)  # RFC 8200 8.1
    summed = payload[:2] + internet_checksum(pseudo + payload).to_bytes(2) + payload[4:]
    head = struct.pack("!IHBB", 6 << 28 | INTERNETWORK_CONTROL << 20, len(_MLD_ALERT) + len(summed), 0, 1)
    return head + source + destination + _MLD_ALERT + summed
