"""The forwarding entries of a Linux bridge (its MDB), and what the bridge and its ports can be told, over rtnetlink.

One entry of ours is one port and one group with the sources that the port wants of it; the kernel makes the (S,G)
entries that this means.  Ours are permanent and carry a protocol number of their own, so that they are found again
after a restart, outlive the program, and are never mistaken for somebody else's.  Needs Linux 6.3: before it, entries
have neither sources nor a protocol.  Sources: linux/if_bridge.h, linux/if_link.h, net/bridge/br_mdb.c.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from igmpconf.engine.sources import EVERYTHING, SourceSet
from igmpconf.ids import IfIndex
from igmpconf.linux.netlink import NLM_F_CREATE, Message, Requests, attribute, attributes

RTM_NEWMDB, RTM_DELMDB, RTM_GETMDB = 84, 85, 86
RTMGRP_MDB = 1 << 25  # RTNLGRP_MDB is 26
PROTOCOL = 117  # ours; linux/rtnetlink.h leaves the numbers above 99 to programs (RTPROT_*)

_NLM_F_REPLACE = 0x100
_NLA_F_NESTED = 0x8000
_AF_BRIDGE = 7
_PORT = struct.Struct("=B3xI")  # struct br_port_msg: family, ifindex of the bridge
_ENTRY = struct.Struct("=IBBH16s2s2x")  # struct br_mdb_entry: port, state, flags, vlan, address, ethertype
_PERMANENT = 1
_MDBA_MDB = 1
_MDBA_SET_ENTRY, _MDBA_SET_ENTRY_ATTRS = 1, 2
_MDBE_SRC_LIST, _MDBE_GROUP_MODE, _MDBE_RTPROT = 2, 3, 4
_MDBE_SRC_LIST_ENTRY, _MDBE_SRCATTR_ADDRESS = 1, 1
_EATTR_SRC_LIST, _EATTR_GROUP_MODE, _EATTR_SOURCE, _EATTR_RTPROT = 2, 3, 4, 5
_EXCLUDE, _INCLUDE = 0, 1  # MCAST_EXCLUDE, MCAST_INCLUDE
_ETHERTYPE = {4: b"\x08\x00", 16: b"\x86\xdd"}
_BYTES = {ethertype: count for count, ethertype in _ETHERTYPE.items()}
_MOST_SOURCES = 31  # PG_SRC_ENT_LIMIT of net/bridge/br_private.h, which the kernel refuses to reach

# Gone already: no entry, no such port any more, or a port of another bridge by now.
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL})


@dataclass(frozen=True, slots=True)
class MdbEntry:
    """What one port gets of one group; `is_ours` tells ours from what the kernel learned and what others made."""

    port: IfIndex
    group: bytes
    wanted: SourceSet
    is_ours: bool


def within_limit(wanted: SourceSet) -> SourceSet:
    """As the kernel can hold it: beyond 31 sources the port gets all of the group, and its hosts choose for themselves."""
    return wanted if len(wanted.listed) <= _MOST_SOURCES else EVERYTHING


def entries(requests: Requests, bridge: IfIndex, address_bytes: int) -> list[MdbEntry]:
    """All entries of a bridge in one family, ours and others'; without the (S,G) ones that follow from ours.  Raises OSError."""
    found = []
    for _, body in requests.dump(RTM_GETMDB, _PORT.pack(_AF_BRIDGE, 0)):
        if _PORT.unpack_from(body)[1] == bridge:
            found += _entries_in(body, address_bytes)
    return found


def told(message: Message, bridge: IfIndex, address_bytes: int) -> tuple[bool, list[MdbEntry]]:
    """What an announcement says of a bridge: whether the entries are there now, and which."""
    kind, body = message
    if kind not in {RTM_NEWMDB, RTM_DELMDB} or _PORT.unpack_from(body)[1] != bridge:
        return False, []
    return kind == RTM_NEWMDB, _entries_in(body, address_bytes)


def _entries_in(body: bytes, address_bytes: int) -> list[MdbEntry]:
    found = []
    for kind, table in attributes(body, _PORT.size):
        if kind != _MDBA_MDB:
            continue
        for _, group in attributes(table):
            for _, info in attributes(group):
                entry = _entry(info, address_bytes)
                if entry is not None:
                    found.append(entry)
    return found


def _entry(info: bytes, address_bytes: int) -> MdbEntry | None:
    port, state, _, vlan, address, ethertype = _ENTRY.unpack_from(info)
    parts = dict(attributes(info, _ENTRY.size))
    if _BYTES.get(ethertype) != address_bytes or vlan or _EATTR_SOURCE in parts:
        return None
    listed = frozenset(dict(attributes(one)).get(_MDBE_SRCATTR_ADDRESS, b"")[:address_bytes] for _, one in attributes(parts.get(_EATTR_SRC_LIST, b"")))
    inverted = parts.get(_EATTR_GROUP_MODE, b"\0")[0] == _EXCLUDE
    is_ours = state == _PERMANENT and parts.get(_EATTR_RTPROT, b"\0")[0] == PROTOCOL
    return MdbEntry(IfIndex(port), address[:address_bytes], SourceSet(listed, inverted) if listed or not inverted else EVERYTHING, is_ours)


def put(requests: Requests, bridge: IfIndex, port: IfIndex, group: bytes, wanted: SourceSet) -> None:
    """The port gets `wanted` of the group from now on, whatever it got before.  Raises OSError."""
    details = attribute(_MDBE_GROUP_MODE, bytes((_EXCLUDE if wanted.inverted else _INCLUDE,))) + attribute(_MDBE_RTPROT, bytes((PROTOCOL,)))
    if wanted.listed:
        sources = b"".join(attribute(_MDBE_SRC_LIST_ENTRY | _NLA_F_NESTED, attribute(_MDBE_SRCATTR_ADDRESS, source)) for source in sorted(wanted.listed))
        details += attribute(_MDBE_SRC_LIST | _NLA_F_NESTED, sources)
    body = _named(bridge, port, group) + attribute(_MDBA_SET_ENTRY_ATTRS | _NLA_F_NESTED, details)
    requests.change(RTM_NEWMDB, NLM_F_CREATE | _NLM_F_REPLACE, body)


def remove(requests: Requests, bridge: IfIndex, port: IfIndex, group: bytes) -> None:
    """The port gets nothing of the group any more; twice is harmless.  Raises OSError."""
    try:
        requests.change(RTM_DELMDB, 0, _named(bridge, port, group))
    except OSError as error:
        if error.errno not in _GONE:
            raise


def _named(bridge: IfIndex, port: IfIndex, group: bytes) -> bytes:
    entry = _ENTRY.pack(port, _PERMANENT, 0, 0, group.ljust(16, b"\0"), _ETHERTYPE[len(group)])
    return _PORT.pack(_AF_BRIDGE, bridge) + attribute(_MDBA_SET_ENTRY, entry)
