"""Who a session belongs to, and whether it may change anything.

Two levels for now: root, the agent's own user and members of the group `igmpconf` may write; everybody else who can
open the socket may read.  Rules per path and operation (NACM, RFC 8341) are not here yet.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass
from typing import Literal

WRITERS_GROUP = "igmpconf"
_UCRED = struct.Struct("3i")  # struct ucred of <sys/socket.h>: pid, uid, gid


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The NETCONF user of a session (RFC 6241 2.2)."""

    name: str
    may_write: bool
    transport: Literal["unix", "ssh"]
    source: str = ""  # where the user comes from: process or address


def user_of_socket(connection: socket.socket) -> User:
    """The user at the other end of a unix socket, by SO_PEERCRED (unix(7))."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid-{uid}"
    return User(name=name, may_write=uid in {0, os.getuid()} or _is_writer(name, gid), transport="unix", source=f"process {pid}")


def ssh_user(name: str, source: str) -> User:
    """The user of the embedded SSH server: whoever holds an authorized key, in the lab, may write."""
    return User(name=name, may_write=True, transport="ssh", source=source)


def writers_gid() -> int | None:
    """The group that owns the socket, or None when the device has no such group."""
    try:
        return grp.getgrnam(WRITERS_GROUP).gr_gid
    except KeyError:
        return None


def _is_writer(name: str, gid: int) -> bool:
    wanted = writers_gid()
    if wanted is None:
        return False
    return wanted == gid or name in grp.getgrgid(wanted).gr_mem
