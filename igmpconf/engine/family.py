"""IPv4 with IGMP, or IPv6 with MLD: constants and codec, passed as a value and never tested (house decision B).

Code outside `engine/wire/` and `linux/` asks a `Family` for what it needs and has no `if family is MLD`.
"""

from __future__ import annotations

import functools
import ipaddress
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from igmpconf.engine.messages import Query, Record, Report
from igmpconf.engine.wire import igmp, mld

Decoder = Callable[[bytes, bytes, bytes | None, int, bool], Query | Report]
SoleJoin = Callable[[bytes, bytes, bytes | None, int, bool], tuple[int, bytes] | None]
QueryEncoder = Callable[[Query, int], list[bytes]]
ReportEncoder = Callable[[int, Iterable[Record], int], list[tuple[bytes, bytes]]]

_EIGHT_WORDS = struct.Struct("!8H")
_EIGHT_WORDS_TEXT = ":%x:%x:%x:%x:%x:%x:%x:%x:"  # a colon around each: what is found is whole words
_RUNS_OF_ZEROS = tuple(":" + "0:" * count for count in range(8, 1, -1))  # longest first


@dataclass(frozen=True, slots=True)
class Family:
    name: str  # "ipv4", "ipv6": as the configuration says it
    protocol: str  # "IGMP", "MLD": as people say it
    address_bytes: int
    latest_version: int  # IGMP 3, MLD 2
    all_hosts: bytes  # where general queries go
    all_routers: bytes  # where leaves go
    all_report_routers: bytes  # where reports of the latest version go
    header_bytes: int  # IP header with Router Alert, for MTU arithmetic
    latest_query_bytes: int  # fixed part of a query of the latest version
    leave_version: int  # the first version whose hosts say that they leave: IGMP 2, MLD 1
    version_leaf: str  # the leaf of an interface that says the version
    minimum_version_leaf: str  # the leaf that says which versions are too old to be heard
    unspecified: bytes  # 0.0.0.0, ::
    older_querier_responses: int  # OVQPI is 2 * 125 s plus this many response times of the older query
    specific_queries_age: bool  # an older version's specific query, too, says that the querier is old (RFC 3810 8.2.1)
    hears_itself: bool  # messages between our own interfaces to one link arrive; Linux drops IPv4 packets from an address of its own
    asks_unnumbered: bool  # a query may come from the unspecified address (RFC 4541 2.1.1; RFC 3810 5.1.14)
    smallest_answer_ms: int  # least delay of an answer to an older query: IGMP (0, max], MLD [0, max] (MLD-18)
    decode: Decoder = field(repr=False)  # (payload, sender, destination, ttl, router_alert); raises WireError only
    sole_join: SoleJoin = field(repr=False)  # as `decode`; (version, group) if all the message says is that somebody wants any source of it
    encode_query: QueryEncoder = field(repr=False)  # (query, mtu_bytes) -> payloads
    encode_report: ReportEncoder = field(repr=False)  # (version, records, mtu_bytes) -> (destination, payload) pairs
    is_general_query: Callable[[bytes], bool] = field(repr=False)  # the message asks about every group; it is not looked at whether it is intact
    is_group: Callable[[bytes], bool] = field(repr=False)
    is_source: Callable[[bytes], bool] = field(repr=False)
    stays_on_link: Callable[[bytes], bool] = field(repr=False)  # groups that are never forwarded nor reported upstream
    is_switched: Callable[[bytes], bool] = field(repr=False)  # those of them that a bridge forwards by membership (RFC 4541 3)
    may_send: Callable[[bytes], bool] = field(repr=False)  # interface addresses that our own messages may come from

    def text(self, address: bytes) -> str:
        """Printable form of a packed address."""
        if len(address) == 4:  # every join is logged, and this is ten times faster than a general way
            return f"{address[0]}.{address[1]}.{address[2]}.{address[3]}"
        return _ipv6_text(address)


@functools.lru_cache(maxsize=256)
def _ipv6_text(address: bytes) -> str:
    """As RFC 5952 4 wants it: the first of the longest runs of two or more zeros is `::`.  Senders repeat themselves, hence the cache."""
    text = _EIGHT_WORDS_TEXT % _EIGHT_WORDS.unpack(address)
    for zeros in _RUNS_OF_ZEROS:
        before, found, after = text.partition(zeros)
        if found:
            return f"{before[1:]}::{after[:-1]}"
    return text[1:-1]


def _packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def _ipv4_stays_on_link(group: bytes) -> bool:
    return group[:3] == b"\xe0\x00\x00"  # 224.0.0.0/24, RFC 5771 4


def _ipv6_stays_on_link(group: bytes) -> bool:
    return group[1] & 0x0F <= 2  # scopes reserved, interface-local, link-local: RFC 4291 2.7


def _ipv6_is_switched(group: bytes) -> bool:
    return group[1] & 0x0F == 2 and group != _ALL_NODES  # solicited-node groups, all routers, mDNS; all nodes are asked for by nobody


_ALL_NODES = _packed("ff02::1")

IGMP = Family(
    name="ipv4",
    protocol="IGMP",
    address_bytes=4,
    latest_version=3,
    all_hosts=_packed("224.0.0.1"),
    all_routers=_packed("224.0.0.2"),
    all_report_routers=_packed("224.0.0.22"),
    header_bytes=igmp.IP_HEADER_BYTES,
    latest_query_bytes=12,
    leave_version=2,
    version_leaf="version",
    minimum_version_leaf="minimum-version",
    unspecified=bytes(4),
    older_querier_responses=10,  # RFC 9776 8.12: 350 s for a query that leaves 10 s
    specific_queries_age=False,  # RFC 9776 7.2.1
    hears_itself=False,
    asks_unnumbered=True,
    smallest_answer_ms=1,
    decode=igmp.decode,
    sole_join=igmp.sole_join,
    encode_query=igmp.encode_query,
    encode_report=igmp.encode_report,
    is_general_query=igmp.is_general_query,
    is_group=igmp.is_group,
    is_source=igmp.is_source,
    stays_on_link=_ipv4_stays_on_link,
    is_switched=lambda _: False,  # a bridge floods 224.0.0.0/24 (RFC 4541 2.1.2)
    may_send=lambda address: address != bytes(4),
)
MLD = Family(
    name="ipv6",
    protocol="MLD",
    address_bytes=16,
    latest_version=2,
    all_hosts=_packed("ff02::1"),
    all_routers=_packed("ff02::2"),
    all_report_routers=_packed("ff02::16"),
    header_bytes=mld.IP_HEADER_BYTES,
    latest_query_bytes=28,
    leave_version=1,
    version_leaf="mld-version",
    minimum_version_leaf="minimum-mld-version",
    unspecified=bytes(16),
    older_querier_responses=1,  # RFC 3810 9.12: 260 s for a query that leaves 10 s
    specific_queries_age=True,
    hears_itself=True,
    asks_unnumbered=False,
    smallest_answer_ms=0,
    decode=mld.decode,
    sole_join=mld.sole_join,
    encode_query=mld.encode_query,
    encode_report=mld.encode_report,
    is_general_query=mld.is_general_query,
    is_group=mld.is_group,
    is_source=mld.is_source,
    stays_on_link=_ipv6_stays_on_link,
    is_switched=_ipv6_is_switched,
    may_send=mld.is_link_local,
)
