"""The forwarding entries of a Linux bridge (its MDB) over rtnetlink: one of ours is a port, a group, and the sources that the port gets.

Ours are permanent and so outlive the program.  Two ways of saying them:

    SourceLists     Linux 6.3: one entry with its sources, from which the kernel makes the (S,G) ones, and with a protocol
                    number of our own, by which it is found again and never mistaken for somebody else's
    PlainEntries    Linux 5.10: (*,G), and (S,G) for each source that some port treats unlike the rest, with every port that gets
                    it.  The kernel adds ports of (*,G) to an (S,G) that comes later, so "everything but S" cannot be said for
                    certain.  Nothing tells ours from permanent entries that others made: all of them are taken for ours.

Sources: linux/if_bridge.h, net/bridge/br_mdb.c.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from igmpconf.engine.sources import EVERYTHING, SourceSet
from igmpconf.ids import IfIndex
from igmpconf.linux.netlink import NLM_F_CREATE, NLM_F_EXCL, Message, Requests, attribute, attributes

RTM_NEWMDB, RTM_DELMDB, RTM_GETMDB = 84, 85, 86
RTMGRP_MDB = 1 << 25  # RTNLGRP_MDB is 26
PROTOCOL = 117  # ours; linux/rtnetlink.h leaves the numbers above 99 to programs (RTPROT_*)

_NLM_F_REPLACE = 0x100
_NLA_F_NESTED = 0x8000
_AF_BRIDGE = 7
_PORT = struct.Struct("=B3xI")  # struct br_port_msg: family, ifindex of the bridge
_ENTRY = struct.Struct("=IBBH16s2s2x")  # struct br_mdb_entry: port, state, flags, vlan, address, ethertype
_PERMANENT = 1
_STAR_EXCLUDE = 1 << 2  # MDB_FLAGS_STAR_EXCL: made by the kernel for a port whose (*,G) lets the source in
_MDBA_MDB = 1
_MDBA_SET_ENTRY, _MDBA_SET_ENTRY_ATTRS = 1, 2
_MDBE_SOURCE, _MDBE_SRC_LIST, _MDBE_GROUP_MODE, _MDBE_RTPROT = 1, 2, 3, 4
_MDBE_SRC_LIST_ENTRY, _MDBE_SRCATTR_ADDRESS = 1, 1
_EATTR_SRC_LIST, _EATTR_GROUP_MODE, _EATTR_SOURCE, _EATTR_RTPROT = 2, 3, 4, 5
_EXCLUDE, _INCLUDE = 0, 1  # MCAST_EXCLUDE, MCAST_INCLUDE
_ETHERTYPE = {4: b"\x08\x00", 16: b"\x86\xdd"}
_BYTES = {ethertype: count for count, ethertype in _ETHERTYPE.items()}
_MOST_SOURCES = 31  # PG_SRC_ENT_LIMIT of net/bridge/br_private.h, which the kernel refuses to reach

# Gone already: no entry, no such port any more, or a port of another bridge by now.
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL})


Routes = Mapping[bytes | None, frozenset[IfIndex]]  # of one group: the ports that get a source, None: any other
Parts = frozenset[bytes | None]  # the sources that a port has an entry for, None: any other
Held = SourceSet | Parts  # what a port has of a group, in the words of its `Mdb`


@dataclass(frozen=True, slots=True)
class MdbEntry:
    """What one port has of one group; `is_ours` tells ours from what the kernel learned and what others made."""

    port: IfIndex
    group: bytes
    held: Held
    is_ours: bool


Made = Mapping[bytes, Mapping[IfIndex, Held]]  # by group and port
_NO_PARTS: Parts = frozenset()


class _Told(NamedTuple):
    """One entry as the kernel tells it."""

    port: IfIndex
    group: bytes
    source: bytes | None
    listed: frozenset[bytes]
    inverted: bool
    is_permanent: bool
    protocol: int
    flags: int


class Mdb(Protocol):
    """The entries of bridges.  Verbs raise OSError; what is gone already is removed without a word."""

    def of_routes(self, routes: Routes) -> dict[IfIndex, Held]:
        """What each port must have of a group with these routes; more than they say where it cannot be said."""
        ...

    def to_routes(self, ports: Mapping[IfIndex, Held]) -> dict[bytes | None, frozenset[IfIndex]]:
        """The other way: the routes that would make these ports have that."""
        ...

    def entries(self, bridge: IfIndex, address_bytes: int) -> list[MdbEntry]:
        """All of a bridge in one family, ours and others'."""
        ...

    def put(self, bridge: IfIndex, port: IfIndex, group: bytes, held: Held, before: Held | None) -> None:
        """The port has `held` of the group from now on; `before` is what it had from us until now."""
        ...

    def remove(self, bridge: IfIndex, port: IfIndex, group: bytes, before: Held) -> None: ...

    def contradicts(self, message: Message, bridge: IfIndex, address_bytes: int, made: Made) -> bool:
        """An announcement says something else than `made` of an entry of ours, or may: worth a look."""
        ...


class SourceLists:
    """The `Mdb` of Linux 6.3 and later."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def of_routes(self, routes: Routes) -> dict[IfIndex, Held]:
        shared = routes.get(None, frozenset())
        exact = {source: leaving for source, leaving in routes.items() if source is not None}
        found: dict[IfIndex, Held] = {}
        for port in sorted(shared.union(*exact.values())):
            is_open = port in shared
            differing = frozenset(source for source, leaving in exact.items() if (port in leaving) is not is_open)
            found[port] = SourceSet(differing, is_open) if len(differing) <= _MOST_SOURCES else EVERYTHING
        return found

    def to_routes(self, ports: Mapping[IfIndex, Held]) -> dict[bytes | None, frozenset[IfIndex]]:
        sets = {port: held for port, held in ports.items() if isinstance(held, SourceSet)}
        routes: dict[bytes | None, frozenset[IfIndex]] = {}
        if any(held.inverted for held in sets.values()):
            routes[None] = frozenset(port for port, held in sets.items() if held.inverted)
        for source in sorted({source for held in sets.values() for source in held.listed}):
            routes[source] = frozenset(port for port, held in sets.items() if source in held)
        return routes

    def entries(self, bridge: IfIndex, address_bytes: int) -> list[MdbEntry]:
        return [_whole(one) for one in _dumped(self._requests, bridge, address_bytes) if one.source is None]

    def put(self, bridge: IfIndex, port: IfIndex, group: bytes, held: Held, before: Held | None) -> None:
        assert isinstance(held, SourceSet)
        details = attribute(_MDBE_GROUP_MODE, bytes((_EXCLUDE if held.inverted else _INCLUDE,))) + attribute(_MDBE_RTPROT, bytes((PROTOCOL,)))
        if held.listed:
            sources = b"".join(attribute(_MDBE_SRC_LIST_ENTRY | _NLA_F_NESTED, attribute(_MDBE_SRCATTR_ADDRESS, one)) for one in sorted(held.listed))
            details += attribute(_MDBE_SRC_LIST | _NLA_F_NESTED, sources)
        body = _named(bridge, port, group) + attribute(_MDBA_SET_ENTRY_ATTRS | _NLA_F_NESTED, details)
        self._requests.change(RTM_NEWMDB, NLM_F_CREATE | _NLM_F_REPLACE, body)

    def remove(self, bridge: IfIndex, port: IfIndex, group: bytes, before: Held) -> None:
        _remove(self._requests, _named(bridge, port, group))

    def contradicts(self, message: Message, bridge: IfIndex, address_bytes: int, made: Made) -> bool:
        for one in _announced(message, bridge, address_bytes):
            ours = made.get(one.group, {}).get(one.port)
            if one.source is None and ours is not None and (message[0] == RTM_DELMDB or _whole(one) != MdbEntry(one.port, one.group, ours, True)):
                return True
        return False


class PlainEntries:
    """The `Mdb` of Linux 5.10 and later."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def of_routes(self, routes: Routes) -> dict[IfIndex, Held]:
        ports = sorted(frozenset[IfIndex]().union(*routes.values()))
        return {port: frozenset(source for source, leaving in routes.items() if port in leaving) for port in ports}

    def to_routes(self, ports: Mapping[IfIndex, Held]) -> dict[bytes | None, frozenset[IfIndex]]:
        sources = dict.fromkeys(source for held in ports.values() for source in _parts(held))
        return {source: frozenset(port for port, held in ports.items() if source in _parts(held)) for source in sources}

    def entries(self, bridge: IfIndex, address_bytes: int) -> list[MdbEntry]:
        together: dict[tuple[IfIndex, bytes, bool], Parts] = {}
        for one in _dumped(self._requests, bridge, address_bytes):
            if not one.flags & _STAR_EXCLUDE:
                key = (one.port, one.group, one.is_permanent)
                together[key] = together.get(key, _NO_PARTS) | {one.source}
        return [MdbEntry(port, group, parts, is_permanent) for (port, group, is_permanent), parts in together.items()]

    def put(self, bridge: IfIndex, port: IfIndex, group: bytes, held: Held, before: Held | None) -> None:
        had, has = _parts(before), _parts(held)
        for source in has - had:
            body = _named(bridge, port, group, source)
            try:
                self._requests.change(RTM_NEWMDB, NLM_F_CREATE | NLM_F_EXCL, body)
            except FileExistsError:  # learned by the kernel before it was ours, and would time out
                _remove(self._requests, body)
                self._requests.change(RTM_NEWMDB, NLM_F_CREATE | NLM_F_EXCL, body)
        for source in had - has:
            _remove(self._requests, _named(bridge, port, group, source))

    def remove(self, bridge: IfIndex, port: IfIndex, group: bytes, before: Held) -> None:
        for source in _parts(before):
            _remove(self._requests, _named(bridge, port, group, source))

    def contradicts(self, message: Message, bridge: IfIndex, address_bytes: int, made: Made) -> bool:
        return message[0] == RTM_DELMDB and any(one.port in made.get(one.group, {}) for one in _announced(message, bridge, address_bytes))


def _parts(held: Held | None) -> Parts:
    return held if isinstance(held, frozenset) else _NO_PARTS


def _whole(one: _Told) -> MdbEntry:
    held = SourceSet(one.listed, one.inverted) if one.listed or not one.inverted else EVERYTHING
    return MdbEntry(one.port, one.group, held, one.is_permanent and one.protocol == PROTOCOL)


def _dumped(requests: Requests, bridge: IfIndex, address_bytes: int) -> Iterator[_Told]:
    for _, body in requests.dump(RTM_GETMDB, _PORT.pack(_AF_BRIDGE, 0)):
        if _PORT.unpack_from(body)[1] == bridge:
            yield from _entries_in(body, address_bytes)


def _announced(message: Message, bridge: IfIndex, address_bytes: int) -> Iterator[_Told]:
    kind, body = message
    if kind in {RTM_NEWMDB, RTM_DELMDB} and _PORT.unpack_from(body)[1] == bridge:
        yield from _entries_in(body, address_bytes)


def _entries_in(body: bytes, address_bytes: int) -> Iterator[_Told]:
    for kind, table in attributes(body, _PORT.size):
        if kind == _MDBA_MDB:
            for _, group in attributes(table):
                for _, info in attributes(group):
                    entry = _entry(info, address_bytes)
                    if entry is not None:
                        yield entry


def _entry(info: bytes, address_bytes: int) -> _Told | None:
    port, state, flags, vlan, address, ethertype = _ENTRY.unpack_from(info)
    parts = dict(attributes(info, _ENTRY.size))
    if _BYTES.get(ethertype) != address_bytes or vlan:
        return None
    listed = frozenset(dict(attributes(one)).get(_MDBE_SRCATTR_ADDRESS, b"")[:address_bytes] for _, one in attributes(parts.get(_EATTR_SRC_LIST, b"")))
    return _Told(
        IfIndex(port),
        address[:address_bytes],
        parts[_EATTR_SOURCE][:address_bytes] if _EATTR_SOURCE in parts else None,
        listed,
        parts.get(_EATTR_GROUP_MODE, b"\0")[0] == _EXCLUDE,
        state == _PERMANENT,
        parts.get(_EATTR_RTPROT, b"\0")[0],
        flags,
    )


def _named(bridge: IfIndex, port: IfIndex, group: bytes, source: bytes | None = None) -> bytes:
    entry = _ENTRY.pack(port, _PERMANENT, 0, 0, group.ljust(16, b"\0"), _ETHERTYPE[len(group)])
    body = _PORT.pack(_AF_BRIDGE, bridge) + attribute(_MDBA_SET_ENTRY, entry)
    return body if source is None else body + attribute(_MDBA_SET_ENTRY_ATTRS | _NLA_F_NESTED, attribute(_MDBE_SOURCE, source))


def _remove(requests: Requests, named: bytes) -> None:
    try:
        requests.change(RTM_DELMDB, 0, named)
    except OSError as error:
        if error.errno not in _GONE:
            raise
