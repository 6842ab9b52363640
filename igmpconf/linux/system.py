"""The real kernel: links, multicast tables, and the rules that steer interfaces to tables."""

from __future__ import annotations

import errno
import socket
import struct

from igmpconf.engine.family import Family
from igmpconf.ids import TableId
from igmpconf.linux.facts import Links
from igmpconf.linux.kernel import LinkWatch, MulticastTable
from igmpconf.linux.mroute import Table
from igmpconf.linux.netlink import NLM_F_CREATE, NLM_F_EXCL, RTM_DELRULE, RTM_NEWRULE, RTNL_FAMILY_IP6MR, RTNL_FAMILY_IPMR, Requests, attribute

_RULE = struct.Struct("=BBBBBBBBI")  # struct fib_rule_hdr: family, lengths, tos, table, reserved, action, flags
_FR_ACT_TO_TBL = 1
_FRA_IIFNAME, _FRA_PRIORITY, _FRA_TABLE = 3, 6, 15  # linux/fib_rules.h
_RULE_PRIORITY = 1_000  # before the default table's rule at 32767 (net/ipv4/ipmr.c ipmr_rules_init)


class SystemKernel:
    """The kernel of the network namespace that this process is in."""

    def __init__(self) -> None:
        self._requests = Requests()

    def watch_links(self) -> LinkWatch:
        return Links()

    def open_table(self, family: Family, table: TableId, held: socket.socket | None = None) -> MulticastTable:
        return Table(family, table, self._requests, held)

    def steer(self, family: Family, ifname: str, table: TableId) -> None:
        try:
            self._requests.change(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, _rule(family, ifname, table))
        except FileExistsError:
            pass

    def unsteer(self, family: Family, ifname: str, table: TableId) -> None:
        try:
            self._requests.change(RTM_DELRULE, 0, _rule(family, ifname, table))
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ESRCH}:
                raise


def _rule(family: Family, ifname: str, table: TableId) -> bytes:
    rtnl_family = RTNL_FAMILY_IPMR if family.address_bytes == 4 else RTNL_FAMILY_IP6MR
    return (
        _RULE.pack(rtnl_family, 0, 0, 0, 0, 0, 0, _FR_ACT_TO_TBL, 0)
        + attribute(_FRA_IIFNAME, ifname.encode(errors="surrogateescape") + b"\0")
        + attribute(_FRA_PRIORITY, struct.pack("=I", _RULE_PRIORITY))
        + attribute(_FRA_TABLE, struct.pack("=I", table))
    )
