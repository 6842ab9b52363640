"""IPv4 with IGMP, or IPv6 with MLD: constants, passed as a value and never tested (house decision B).

Code outside `engine/wire/` and `linux/` asks a `Family` for what it needs and has no `if family is MLD`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


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

    def text(self, address: bytes) -> str:
        """Printable form of a packed address."""
        return str(ipaddress.ip_address(address))


def _packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


IGMP = Family("ipv4", "IGMP", 4, 3, _packed("224.0.0.1"), _packed("224.0.0.2"), _packed("224.0.0.22"), 24, 12)
MLD = Family("ipv6", "MLD", 16, 2, _packed("ff02::1"), _packed("ff02::2"), _packed("ff02::16"), 48, 28)
