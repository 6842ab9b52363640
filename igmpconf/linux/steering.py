"""Rules that send what arrives on an interface to its own multicast table (`ip mrule add iif X table T`).

They outlive the program; one that points to a table without a router is passed over by the kernel (ipmr_rule_action
answers EAGAIN), so a leftover does no harm.
"""

from __future__ import annotations

import errno
import struct

from igmpconf.ids import TableId
from igmpconf.linux.netlink import NLM_F_CREATE, NLM_F_EXCL, RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE, Requests, attribute, attributes

_RULE = struct.Struct("=BBBBBBBBI")  # struct fib_rule_hdr: family, lengths, tos, table, reserved, action, flags
_FR_ACT_TO_TBL = 1
_FRA_IIFNAME, _FRA_PRIORITY, _FRA_TABLE = 3, 6, 15  # linux/fib_rules.h
_PRIORITY = 1_000  # before the default table's rule at 32767 (net/ipv4/ipmr.c ipmr_rules_init)


def steer(requests: Requests, rtnl_family: int, ifname: str, table: TableId) -> None:
    """Multicast of the family that arrives on `ifname` is looked up in `table`; twice is harmless."""
    try:
        requests.change(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, _rule(rtnl_family, ifname, table))
    except FileExistsError:
        pass


def unsteer(requests: Requests, rtnl_family: int, ifname: str, table: TableId) -> None:
    """Take the rule away, if it is there."""
    try:
        requests.change(RTM_DELRULE, 0, _rule(rtnl_family, ifname, table))
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ESRCH}:
            raise


def steered(requests: Requests, rtnl_family: int) -> set[tuple[str, int]]:
    """(interface, table) of every rule there is by an interface, whoever made it."""
    found: set[tuple[str, int]] = set()
    for kind, body in requests.dump(RTM_GETRULE, _RULE.pack(rtnl_family, 0, 0, 0, 0, 0, 0, 0, 0)):
        parts = dict(attributes(body, _RULE.size)) if kind == RTM_NEWRULE else {}
        if _FRA_IIFNAME in parts and _FRA_TABLE in parts:
            (table,) = struct.unpack("=I", parts[_FRA_TABLE])
            found.add((parts[_FRA_IIFNAME].rstrip(b"\0").decode(errors="surrogateescape"), table))
    return found


def _rule(rtnl_family: int, ifname: str, table: TableId) -> bytes:
    return (
        _RULE.pack(rtnl_family, 0, 0, 0, 0, 0, 0, _FR_ACT_TO_TBL, 0)
        + attribute(_FRA_IIFNAME, ifname.encode(errors="surrogateescape") + b"\0")
        + attribute(_FRA_PRIORITY, struct.pack("=I", _PRIORITY))
        + attribute(_FRA_TABLE, struct.pack("=I", table))
    )
