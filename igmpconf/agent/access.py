"""Who a session belongs to, and what the agent lets that user do.

The user is the one at the other end of the socket, by the kernel's word (SO_PEERCRED); the groups are those that the
device has for that user.  Root and the agent's own user may always do everything: with them a broken configuration is
repaired (RFC 8341 3.3.3).  For everybody else nacm.py decides, by the rules that are running.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from xml.etree.ElementTree import Element, SubElement

from igmpconf.agent.nacm import OPERATORS, Rights
from igmpconf.model.access import Access
from igmpconf.schema.names import ACCESS_NAMESPACE
from igmpconf.schema.xml import ACCESS, ACCESS_COUNTERS

_UCRED = struct.Struct("3i")  # struct ucred of <sys/socket.h>: pid, uid, gid


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The NETCONF user of a session (RFC 6241 2.2)."""

    name: str
    groups: frozenset[str]
    is_recovery: bool
    transport: Literal["unix", "ssh"]
    source: str = ""  # where the user comes from: process or address

    @property
    def is_operator(self) -> bool:
        """One of those for whom the device keeps sessions free."""
        return self.is_recovery or OPERATORS in self.groups


def user_of_socket(connection: socket.socket) -> User:
    """The user at the other end of a unix socket, by SO_PEERCRED (unix(7))."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return user_of_ids(uid, gid, source=f"process {pid}")


def user_of_ids(uid: int, gid: int, *, source: str = "") -> User:
    """The user with these numbers, whether or not the device knows a name for them."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name, gids = f"uid-{uid}", [gid]
    else:
        gids = [gid, *os.getgrouplist(name, gid)]
    return User(name=name, groups=frozenset(map(_group_name, gids)), is_recovery=uid in {0, os.getuid()}, transport="unix", source=source)


def ssh_user(name: str, source: str) -> User:
    """The user of the embedded SSH server: whoever holds an authorized key, in the lab, is an operator."""
    return User(name=name, groups=frozenset({OPERATORS}), is_recovery=False, transport="ssh", source=source)


def operators_gid() -> int | None:
    """The group that owns the socket, or None when the device has no such group."""
    try:
        return grp.getgrnam(OPERATORS).gr_gid
    except KeyError:
        return None


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid-{gid}"


class AccessControl:
    """The rules that are running, and how often something was refused since the agent started (RFC 8341 3.5.1)."""

    def __init__(self, running: Callable[[], Access | None]) -> None:
        self._running = running
        self.denied = dict.fromkeys(ACCESS_COUNTERS, 0)

    def rights(self, user: User) -> Rights:
        """What the user may do from here to the end of the message in hand (3.4)."""
        return Rights(user.name, user.groups, self._running(), is_recovery=user.is_recovery)

    def count(self, counter: Literal["denied-operations", "denied-data-writes", "denied-notifications"]) -> None:
        """Something was refused."""
        self.denied[counter] += 1

    def put_counters(self, config: list[Element]) -> None:
        """Add the counters to `<nacm>` among the top-level elements, and that container when it is not there."""
        nacm = next((one for one in config if one.tag == ACCESS), None)
        if nacm is None:
            nacm = Element(ACCESS)
            config.append(nacm)
        for name, count in self.denied.items():
            SubElement(nacm, f"{{{ACCESS_NAMESPACE}}}{name}").text = str(count % 2**32)
