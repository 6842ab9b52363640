"""What the measures of scale say and hear in either family, by the product's own codec: crafted messages, raw sockets, taps.

Groups are numbers here; number 0 is 239.0.0.0 or ff0e::, and the number stands in the last octets.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from bench import igmp
from igmpconf.engine.family import IGMP, MLD, Family
from igmpconf.engine.messages import Query, Record, RecordKind, Report
from igmpconf.engine.wire.ip import build_ipv4, build_mld
from igmpconf.errors import WireError
from igmpconf.lab.topology import host_named

_MTU = 1500
_KINDS = {"join": RecordKind.TO_EX, "refresh": RecordKind.IS_EX, "leave": RecordKind.TO_IN}
_JOINING = frozenset({RecordKind.IS_IN, RecordKind.IS_EX, RecordKind.TO_EX, RecordKind.ALLOW})  # as far as these measures hear them
_IPV6_HOPOPTS = 54  # linux/in6.h
_HOPS = 8  # of a stream
_ALERT6 = bytes((0, 0, 5, 2, 0, 0, 1, 0))  # RFC 2711 "MLD", padded


class Datagram(NamedTuple):
    protocol: int
    sender: bytes
    destination: bytes
    payload: bytes


def datagram(packet: bytes) -> Datagram:
    """What an IP packet carries; of IPv6, one hop-by-hop header is passed over."""
    if packet[0] >> 4 == 4:
        return Datagram(packet[9], packet[12:16], packet[16:20], packet[(packet[0] & 15) * 4 :])
    protocol, at = packet[6], 40
    if protocol == 0:
        protocol, at = packet[40], 48 + 8 * packet[41]
    return Datagram(protocol, packet[8:24], packet[24:40], packet[at:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """A family as the measures use it."""

    family: Family
    older: int  # the version whose messages name one group
    known_per_report: int  # records in one report of those that refresh
    first_group: bytes
    protocol: int
    ether_type: int
    report_socket: Callable[[str], socket.socket]  # of a host of the lab, from within
    stream_socket: Callable[[str], socket.socket]  # sends datagrams to groups
    build: Callable[[bytes, bytes, bytes], bytes]  # (sender, destination, message) -> datagram
    sockets_file: str  # whose lines end with what each raw socket has dropped
    entries_file: str  # a line for each forwarding entry

    @property
    def latest(self) -> int:
        return self.family.latest_version

    @property
    def most_per_report(self) -> int:
        """Records without sources that fit into 1,500 octets."""
        return (_MTU - self.family.header_bytes - 8) // (4 + self.family.address_bytes)

    def group(self, number: int) -> bytes:
        return (int.from_bytes(self.first_group) + number).to_bytes(len(self.first_group))

    def number(self, group: bytes) -> int:
        return int.from_bytes(group) - int.from_bytes(self.first_group)

    def text(self, address: bytes) -> str:
        return socket.inet_ntop(self.domain, address)

    @staticmethod
    def mac(group: bytes) -> bytes:
        """The Ethernet address of a group (RFC 1112 6.4, RFC 2464 7)."""
        return b"\x33\x33" + group[-4:] if len(group) == 16 else bytes((1, 0, 0x5E, group[1] & 0x7F, *group[2:]))

    @property
    def domain(self) -> int:
        return socket.AF_INET if self.family.address_bytes == 4 else socket.AF_INET6

    def messages(self, kind: str, version: int, first: int, count: int, per_packet: int) -> list[tuple[bytes, bytes]]:
        """(message, destination) of what a host of `version` says about `count` groups: `kind` join, refresh (an answer to a query), or leave."""
        records = [Record(_KINDS[kind], self.group(number)) for number in range(first, first + count)]
        parts = [records[start : start + per_packet] for start in range(0, count, per_packet)] if version == self.latest else [records]
        return [(message, destination) for part in parts for destination, message in self.family.encode_report(version, part, _MTU)]

    def general_query(self, max_response_ms: int) -> bytes:
        """One with the default robustness and interval."""
        (message,) = self.family.encode_query(Query(self.family.unspecified, self.latest, None, (), max_response_ms, 2, 125_000), _MTU)
        return message

    def told_about(self, packet: Datagram) -> Iterator[tuple[int, bool]]:
        """(group number, True for a join) of everything that a report or leave says."""
        if packet.protocol != self.protocol:
            return
        try:
            message = self.family.decode(packet.payload, packet.sender, packet.destination, 1, True)
        except WireError:
            return
        if isinstance(message, Report):
            for record in message.records:
                yield self.number(record.group), record.kind in _JOINING


def _igmp_socket(host: str) -> socket.socket:
    return igmp.report_socket(host_named(host).address.partition("/")[0])


def _ipv4_stream(host: str) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host_named(host).address.partition("/")[0]))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _HOPS)
    return sender


def _ipv6_stream(_: str) -> socket.socket:
    sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
    return sender


def _mld_socket(_: str) -> socket.socket:
    """A raw socket that sends MLD as a host must: from a link-local address, hop limit 1, Router Alert (RFC 3810 5)."""
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_HOPOPTS, _ALERT6)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))
    raw.setsockopt(socket.IPPROTO_ICMPV6, 1, b"\xff" * 32)  # ICMP6_FILTER: it only speaks
    return raw


def link_local(number: int) -> bytes:
    """fe80::`number`"""
    return b"\xfe\x80" + struct.pack("!6xQ", number)


IGMP_SPEECH = Speech(
    family=IGMP,
    older=2,
    known_per_report=100,
    first_group=bytes((239, 0, 0, 0)),
    protocol=socket.IPPROTO_IGMP,
    ether_type=0x0800,
    report_socket=_igmp_socket,
    stream_socket=_ipv4_stream,
    build=build_ipv4,
    sockets_file="/proc/net/raw",
    entries_file="/proc/net/ip_mr_cache",
)
MLD_SPEECH = Speech(
    family=MLD,
    older=1,
    known_per_report=70,
    first_group=b"\xff\x0e" + bytes(14),
    protocol=socket.IPPROTO_ICMPV6,
    ether_type=0x86DD,
    report_socket=_mld_socket,
    stream_socket=_ipv6_stream,
    build=build_mld,
    sockets_file="/proc/net/raw6",
    entries_file="/proc/net/ip6_mr_cache",
)
