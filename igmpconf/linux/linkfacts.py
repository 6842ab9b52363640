"""Interfaces and bridges as rtnetlink tells them: ports, snooping, the querier and the groups a bridge knows.

Read for a diagnosis only.  /sys/class/net would say the same in words, but it speaks of the network namespace in which
it was mounted, which is not always ours.
"""

from __future__ import annotations

import ipaddress
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from igmpconf.linux.netlink import RTM_GETLINK, Requests, attributes
from igmpconf.model.leaf import Address

# linux/if_link.h, linux/if.h, linux/if_bridge.h
_IFINFO = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_CARRIER = 3, 10, 18, 33
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_BR_ROUTER, _BR_SNOOPING, _BR_MEMBERSHIP_INTERVAL, _BR_QUERIER_INTERVAL, _BR_QUERIER_STATE = 22, 23, 31, 32, 47
_QUERIER_IPV4, _QUERIER_IPV6 = 1, 5
_IFF_UP = 0x1
_RTM_GETMDB = 86
_PF_BRIDGE = 7
_PORT_MESSAGE = struct.Struct("=BxxxI")  # struct br_port_msg
_MDB, _MDB_ENTRY, _MDB_ENTRY_INFO = 1, 1, 1
_MDB_ENTRY_HEAD = struct.Struct("=IBBH16sH")  # struct br_mdb_entry: port, state, flags, VLAN, address, protocol
_TICK_MS = 10  # bridge intervals are in clock ticks of user space, USER_HZ 100
_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD


@dataclass(slots=True)
class BridgeState:
    """What a bridge says about multicast; `snooping` is None for a kernel that cannot."""

    snooping: bool | None = None
    router: int | None = None
    querier_ipv4: Address | None = None
    querier_ipv6: Address | None = None
    membership_interval_ms: int | None = None
    querier_interval_ms: int | None = None
    groups: dict[Address, list[str]] = field(default_factory=dict)  # ports by group


@dataclass(slots=True)
class LinkState:
    """One interface; `master` is the index of the bridge (or bond) it belongs to."""

    ifindex: int
    name: str = ""
    kind: str | None = None
    is_up: bool = False
    has_carrier: bool = True
    master: int | None = None
    bridge: BridgeState | None = None


def read_links(requests: Requests) -> dict[str, LinkState]:
    """Every interface by its name.  Raises OSError."""
    found = [_link(body) for _, body in requests.dump(RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0))]
    if any(link.bridge is not None and link.bridge.snooping for link in found):
        _learn_groups(requests, {link.ifindex: link for link in found})
    return {link.name: link for link in found}


def ports_of(links: Mapping[str, LinkState], name: str) -> tuple[str, ...]:
    """The ports of bridge `name`."""
    return tuple(sorted(link.name for link in links.values() if link.master == links[name].ifindex))


def _link(body: bytes) -> LinkState:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    link = LinkState(index, is_up=bool(flags & _IFF_UP))
    for kind, value in attributes(body, _IFINFO.size):
        if kind == _IFLA_IFNAME:
            link.name = value.rstrip(b"\0").decode(errors="surrogateescape")
        elif kind == _IFLA_MASTER:
            (link.master,) = struct.unpack("=I", value)
        elif kind == _IFLA_CARRIER:
            link.has_carrier = value[0] != 0
        elif kind == _IFLA_LINKINFO:
            inner = dict(attributes(value))
            link.kind = inner.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace") or None
            if link.kind == "bridge":
                link.bridge = _bridge(dict(attributes(inner.get(_IFLA_INFO_DATA, b""))))
    return link


def _bridge(data: Mapping[int, bytes]) -> BridgeState:
    state = BridgeState()
    if _BR_SNOOPING in data:
        state.snooping = data[_BR_SNOOPING][0] != 0
    if _BR_ROUTER in data:
        state.router = data[_BR_ROUTER][0]
    if _BR_MEMBERSHIP_INTERVAL in data:
        state.membership_interval_ms = int.from_bytes(data[_BR_MEMBERSHIP_INTERVAL], sys.byteorder) * _TICK_MS
    if _BR_QUERIER_INTERVAL in data:
        state.querier_interval_ms = int.from_bytes(data[_BR_QUERIER_INTERVAL], sys.byteorder) * _TICK_MS
    known = dict(attributes(data.get(_BR_QUERIER_STATE, b"")))
    if _QUERIER_IPV4 in known:
        state.querier_ipv4 = ipaddress.ip_address(known[_QUERIER_IPV4][:4])
    if _QUERIER_IPV6 in known:
        state.querier_ipv6 = ipaddress.ip_address(known[_QUERIER_IPV6][:16])
    return state


def _learn_groups(requests: Requests, links: Mapping[int, LinkState]) -> None:
    for _, body in requests.dump(_RTM_GETMDB, _PORT_MESSAGE.pack(_PF_BRIDGE, 0)):
        _, index = _PORT_MESSAGE.unpack_from(body)
        link = links.get(index)
        if link is None or link.bridge is None:
            continue
        for port, group in _entries(body):
            behind = link.bridge.groups.setdefault(group, [])
            name = links[port].name if port in links else str(port)
            if port != index and name not in behind:  # its own index: an application on this device listens
                behind.append(name)


def _entries(body: bytes) -> Iterator[tuple[int, Address]]:
    for kind, database in attributes(body, _PORT_MESSAGE.size):
        if kind != _MDB:
            continue
        for _, entry in attributes(database):
            for what, info in attributes(entry):
                if what != _MDB_ENTRY_INFO or len(info) < _MDB_ENTRY_HEAD.size:
                    continue
                port, _, _, _, address, _ = _MDB_ENTRY_HEAD.unpack_from(info)
                (protocol,) = struct.unpack_from("!H", info, 24)
                if protocol == _ETH_P_IP:
                    yield port, ipaddress.ip_address(address[:4])
                elif protocol == _ETH_P_IPV6:
                    yield port, ipaddress.ip_address(address)
