"""Which interfaces there are, whether they are up, and which addresses they have; kept current by announcements."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from igmpconf.engine.events import InterfaceAddress
from igmpconf.ids import IfIndex
from igmpconf.linux.kernel import Interface, LinkNews
from igmpconf.linux.netlink import RTM_DELADDR, RTM_DELLINK, RTM_GETADDR, RTM_GETLINK, RTM_NEWADDR, RTM_NEWLINK, Message, Monitor, Requests, attributes

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 1, 3, 4, 10
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFF_UP, _IFF_RUNNING = 0x1, 0x40  # RUNNING: operational state "up" or "unknown" (net/core/dev.c dev_get_flags)
_IFA_F_SECONDARY, _IFA_F_DADFAILED, _IFA_F_TENTATIVE, _IFA_F_OPTIMISTIC = 0x01, 0x08, 0x40, 0x04
_AF_UNSPEC, _AF_INET, _AF_INET6 = 0, 2, 10


class _Link:
    """One interface while its facts arrive piecemeal."""

    __slots__ = ("addresses", "is_up", "mac", "master", "mtu", "name")

    def __init__(self) -> None:
        self.name = ""
        self.is_up = False
        self.mtu = 0
        self.mac = b""
        self.master: IfIndex | None = None
        self.addresses: dict[tuple[int, bytes, int], int] = {}  # (family, address, prefix length) -> flags, oldest first

    def usable(self, family: int) -> tuple[InterfaceAddress, ...]:
        found = [(flags, address, length) for (of, address, length), flags in self.addresses.items() if of == family]
        if family == _AF_INET:
            found.sort(key=lambda one: one[0] & _IFA_F_SECONDARY)
        else:
            found = [one for one in found if not one[0] & _IFA_F_DADFAILED and (one[0] & (_IFA_F_TENTATIVE | _IFA_F_OPTIMISTIC)) != _IFA_F_TENTATIVE]
        return tuple(InterfaceAddress(address, length) for _, address, length in found)


class Links:
    """The kernel's `LinkWatch`.

    Life cycle: subscribes, then dumps, so that no change falls between; every `read` folds announcements in, and a
    lost announcement leads to a new dump whose differences are reported like any other change.
    """

    def __init__(self) -> None:
        self._monitor = Monitor()
        self._requests = Requests()
        self._links: dict[int, _Link] = {}
        self._told: dict[int, Interface] = {}
        self._dump()
        self._news(set(self._links))

    def fileno(self) -> int:
        return self._monitor.socket.fileno()

    def close(self) -> None:
        self._monitor.close()
        self._requests.close()

    def current(self) -> list[Interface]:
        return list(self._told.values())

    def read(self) -> LinkNews:
        messages = self._monitor.read()
        if messages is None:
            known = set(self._links)
            self._dump()
            return self._news(known | set(self._links))
        return self._news(self._fold(messages))

    def _dump(self) -> None:
        self._links.clear()
        self._fold(self._requests.dump(RTM_GETLINK, _LINK.pack(_AF_UNSPEC, 0, 0, 0, 0)))
        self._fold(self._requests.dump(RTM_GETADDR, _ADDRESS.pack(_AF_INET, 0, 0, 0, 0)))
        self._fold(self._requests.dump(RTM_GETADDR, _ADDRESS.pack(_AF_INET6, 0, 0, 0, 0)))

    def _fold(self, messages: Iterable[Message]) -> set[int]:
        touched: set[int] = set()
        for kind, body in messages:
            if kind in {RTM_NEWLINK, RTM_DELLINK}:
                family, _, index, flags, _ = _LINK.unpack_from(body)
                if family != _AF_UNSPEC:
                    continue  # a bridge says RTM_DELLINK (AF_BRIDGE) when a port leaves it: the interface stays
                touched.add(index)
                if kind == RTM_DELLINK:
                    self._links.pop(index, None)
                else:
                    self._link_told(index, flags, body)
            elif kind in {RTM_NEWADDR, RTM_DELADDR}:
                family, length, _, _, index = _ADDRESS.unpack_from(body)
                link = self._links.get(index)
                if link is not None:
                    touched.add(index)
                    _address_told(link, kind, family, length, body)
        return touched

    def _link_told(self, index: int, flags: int, body: bytes) -> None:
        link = self._links.get(index)
        if link is None:
            link = self._links[index] = _Link()
        link.is_up = flags & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING
        parts = dict(attributes(body, _LINK.size))
        if _IFLA_IFNAME in parts:
            link.name = parts[_IFLA_IFNAME].rstrip(b"\0").decode(errors="surrogateescape")
        if _IFLA_MTU in parts:  # a whole announcement; those of wireless events say little else but the name
            (link.mtu,) = struct.unpack("=I", parts[_IFLA_MTU])
            link.mac = parts.get(_IFLA_ADDRESS, b"")
            link.master = IfIndex(*struct.unpack("=I", parts[_IFLA_MASTER])) if _IFLA_MASTER in parts else None

    def _news(self, touched: set[int]) -> LinkNews:
        changed: list[Interface] = []
        removed: list[IfIndex] = []
        for index in sorted(touched):
            link = self._links.get(index)
            if link is None:
                if self._told.pop(index, None) is not None:
                    removed.append(IfIndex(index))
                continue
            now = Interface(IfIndex(index), link.name, link.is_up, link.mtu, link.usable(_AF_INET), link.usable(_AF_INET6), link.master, link.mac)
            if self._told.get(index) != now:
                self._told[index] = now
                changed.append(now)
        return LinkNews(tuple(changed), tuple(removed))


def _address_told(link: _Link, message: int, family: int, length: int, body: bytes) -> None:
    address = local = b""
    flags = body[2]  # the first eight of them; IFA_FLAGS has all
    for kind, value in attributes(body, _ADDRESS.size):
        if kind == _IFA_ADDRESS:
            address = value
        elif kind == _IFA_LOCAL:
            local = value  # on point-to-point links IFA_ADDRESS is the peer
        elif kind == _IFA_FLAGS:
            (flags,) = struct.unpack("=I", value)
    key = (family, local or address, length)
    if message == RTM_NEWADDR:
        link.addresses[key] = flags
    else:
        link.addresses.pop(key, None)
