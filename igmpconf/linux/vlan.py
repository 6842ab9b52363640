"""802.1Q interfaces: which are wanted, which are there, what brings one to the other.

Ours are the ones we created and still find as we created them; what else has one of the names is foreign and is never
changed: where it is what was wanted it serves as it is, where it differs the configuration is refused.  A parent that
is not there yet is waited for.  Spoken over rtnetlink; pure but for `VlanLinks`.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from igmpconf.errors import KernelError
from igmpconf.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_DELLINK,
    RTM_GETLINK,
    RTM_NEWLINK,
    Requests,
    attribute,
    attributes,
)
from igmpconf.model.config import VlanConfig
from igmpconf.model.state import DeviationRow

# linux/if_link.h, linux/if.h, linux/if_ether.h
_IFINFO = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_IFLA_IFNAME, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_LINK_NETNSID = 3, 5, 10, 18, 37
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_VLAN_ID, _IFLA_VLAN_PROTOCOL = 1, 5
_IFF_UP = 0x1
_ETH_P_8021Q = 0x8100


@dataclass(frozen=True, slots=True)
class Link:
    """An interface as it is; `vlan_id` and `parent` only of an 802.1Q interface of this network namespace, `master` of a port."""

    ifindex: int
    name: str
    kind: str | None
    is_up: bool
    parent: str | None = None
    vlan_id: int | None = None
    master: str | None = None

    @property
    def described(self) -> str:
        if self.vlan_id is not None:
            return f"VLAN {self.vlan_id} of {self.parent}"
        return f"a {self.kind} interface" if self.kind else "a physical interface"


class LinkTable(Protocol):
    """The interfaces of one network namespace; every verb may raise OSError."""

    def links(self) -> Mapping[str, Link]: ...

    def create(self, name: str, parent_ifindex: int, vlan_id: int) -> None: ...

    def remove(self, ifindex: int) -> None: ...

    def set_up(self, ifindex: int, *, is_up: bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """What we did to an interface: created it (then its parent and VLAN id are what we gave it), or only set it up."""

    interface: str
    vlan_id: int
    is_created: bool


@dataclass(frozen=True, slots=True)
class Steps:
    """What there is to do, in this order; `refusals` say why it cannot be done at all."""

    remove: tuple[Link, ...]
    create: tuple[VlanConfig, ...]
    set_up: tuple[str, ...]
    owned: dict[str, Owned]  # what is ours once it is done
    refusals: tuple[str, ...]


def same(link: Link, parent: str, vlan_id: int) -> bool:
    """`link` is that VLAN of that parent."""
    return (link.parent, link.vlan_id) == (parent, vlan_id)


def steps(wanted: Sequence[VlanConfig], links: Mapping[str, Link], owned: Mapping[str, Owned]) -> Steps:
    """From what is there to what is wanted, changing nothing that is not ours."""
    by_name = {vlan.name: vlan for vlan in wanted}
    ours = {name: links[name] for name, one in owned.items() if one.is_created and name in links and same(links[name], one.interface, one.vlan_id)}
    remove, create, set_up, refusals = [], [], [], []
    after: dict[str, Owned] = {}
    remove += [link for name, link in ours.items() if name not in by_name or not same(link, by_name[name].interface, by_name[name].vlan_id)]
    gone = {link.name for link in remove}
    for vlan in wanted:
        link = links.get(vlan.name) if vlan.name not in gone else None
        if link is None:
            after[vlan.name] = Owned(interface=vlan.interface, vlan_id=vlan.vlan_id, is_created=True)
            twin = next((one for one in links.values() if same(one, vlan.interface, vlan.vlan_id) and one.name not in gone), None)
            if twin is not None:
                refusals.append(f"VLAN {vlan.vlan_id} of {vlan.interface} exists already under the name {twin.name}")
            elif vlan.interface in links:
                create.append(vlan)
                set_up.append(vlan.name)
        elif not same(link, vlan.interface, vlan.vlan_id):
            refusals.append(f"{vlan.name} exists and is {link.described}, not VLAN {vlan.vlan_id} of {vlan.interface}; it is not ours to change")
        else:
            is_created = vlan.name in ours
            if is_created or vlan.name in owned or not link.is_up:
                after[vlan.name] = Owned(interface=vlan.interface, vlan_id=vlan.vlan_id, is_created=is_created)
            if not link.is_up:
                set_up.append(vlan.name)
    return Steps(tuple(remove), tuple(create), tuple(set_up), after, tuple(refusals))


def released(links: Mapping[str, Link], owned: Mapping[str, Owned], wanted: Iterable[VlanConfig]) -> list[Link]:
    """Interfaces of others that we only set up, and that nobody wants any more."""
    names = {vlan.name for vlan in wanted}
    return [
        links[name]
        for name, one in owned.items()
        if not one.is_created and name not in names and name in links and same(links[name], one.interface, one.vlan_id)
    ]


def deviations(wanted: Sequence[VlanConfig], links: Mapping[str, Link]) -> list[DeviationRow]:
    """Where what is there is not what is wanted, and what is waited for."""
    rows = []
    for vlan in wanted:
        expected = f"VLAN {vlan.vlan_id} of {vlan.interface}, up"
        link = links.get(vlan.name)
        if link is None:
            found = "absent" if vlan.interface in links else f"absent: {vlan.interface} does not exist"
        elif not same(link, vlan.interface, vlan.vlan_id):
            found = link.described
        elif not link.is_up:
            parent = links.get(vlan.interface)
            found = "down" if parent is None or parent.is_up else f"down: {vlan.interface} is down"
        else:
            continue
        rows.append(DeviationRow(kind="vlan", name=vlan.name, expected=expected, found=found))
    return rows


def perform(table: LinkTable, todo: Steps) -> None:
    """Do it.  Raises KernelError at the first refusal; what was done until then stays done."""
    if todo.refusals:
        raise KernelError("make a VLAN interface", errno.EEXIST, "; ".join(todo.refusals), hint="give the VLAN another name, or remove that interface yourself")
    for link in todo.remove:
        _attempt(f"remove {link.name}", partial(table.remove, link.ifindex), gone=(errno.ENODEV,))
    for vlan in todo.create:
        verb = f"create {vlan.name}, VLAN {vlan.vlan_id} of {vlan.interface}"
        parent = table.links().get(vlan.interface)
        if parent is not None:
            _attempt(verb, partial(table.create, vlan.name, parent.ifindex, vlan.vlan_id), gone=(errno.ENODEV,))
    links = table.links() if todo.set_up else {}
    for name in todo.set_up:
        if name in links:
            # ENETDOWN: the parent is down, and takes its VLANs along when it comes up (net/8021q/vlan.c vlan_device_event)
            _attempt(f"set {name} up", partial(table.set_up, links[name].ifindex, is_up=True), gone=(errno.ENODEV, errno.ENETDOWN))


def let_down(table: LinkTable, link: Link) -> None:
    """Take back that an interface of others was set up.  Raises KernelError."""
    _attempt(f"set {link.name} down", partial(table.set_up, link.ifindex, is_up=False), gone=(errno.ENODEV,))


def _attempt(verb: str, act: Callable[[], None], gone: tuple[int, ...]) -> None:
    try:
        act()
    except OSError as error:
        code = error.errno or errno.EIO
        if code in gone:
            return
        raise _refused(verb, code) from None


def _refused(verb: str, code: int) -> KernelError:
    if code in {errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}:
        return KernelError(
            verb,
            code,
            f"cannot {verb}: this kernel has no 802.1Q (CONFIG_VLAN_8021Q), or its module 8021q cannot be loaded",
            hint="`modprobe 8021q` as root, or use a kernel with that option, as every Debian kernel is",
        )
    if code in {errno.EPERM, errno.EACCES}:
        return KernelError(verb, code, f"cannot {verb}: {os.strerror(code)}", hint="the agent needs CAP_NET_ADMIN")
    return KernelError(verb, code, f"cannot {verb}: {os.strerror(code)}")


class VlanLinks:
    """The `LinkTable` that is real."""

    def __init__(self) -> None:
        self._requests = Requests()

    def close(self) -> None:
        self._requests.close()

    def links(self) -> dict[str, Link]:
        found: dict[int, tuple[str, str | None, bool, int | None, int | None]] = {}
        masters: dict[int, int] = {}
        for kind, body in self._requests.dump(RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0)):
            if kind == RTM_NEWLINK:
                _, _, index, flags, _ = _IFINFO.unpack_from(body)
                parts = dict(attributes(body, _IFINFO.size))
                info = dict(attributes(parts.get(_IFLA_LINKINFO, b"")))
                word = info[_IFLA_INFO_KIND].rstrip(b"\0").decode(errors="replace") if _IFLA_INFO_KIND in info else None
                vlan_id = parent = None
                if word == "vlan" and _IFLA_LINK_NETNSID not in parts and _IFLA_LINK in parts:
                    vlan_id = _vlan_id(dict(attributes(info.get(_IFLA_INFO_DATA, b""))))
                    (parent,) = struct.unpack("=I", parts[_IFLA_LINK])
                name = parts[_IFLA_IFNAME].rstrip(b"\0").decode(errors="surrogateescape")
                found[index] = (name, word, bool(flags & _IFF_UP), parent, vlan_id)
                if _IFLA_MASTER in parts:
                    (masters[index],) = struct.unpack("=I", parts[_IFLA_MASTER])
        named = {index: found[master][0] for index, master in masters.items() if master in found}
        return {
            name: Link(index, name, word, is_up, found[parent][0], vlan_id, named.get(index))
            if parent in found and parent is not None and vlan_id is not None
            else Link(index, name, word, is_up, master=named.get(index))
            for index, (name, word, is_up, parent, vlan_id) in found.items()
        }

    def create(self, name: str, parent_ifindex: int, vlan_id: int) -> None:
        data = attribute(_IFLA_VLAN_ID, struct.pack("=H", vlan_id))
        info = attribute(_IFLA_INFO_KIND, b"vlan\0") + attribute(_IFLA_INFO_DATA, data)
        body = (
            _IFINFO.pack(0, 0, 0, 0, 0)
            + attribute(_IFLA_IFNAME, name.encode(errors="surrogateescape") + b"\0")
            + attribute(_IFLA_LINK, struct.pack("=I", parent_ifindex))
            + attribute(_IFLA_LINKINFO, info)
        )
        self._requests.change(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)

    def remove(self, ifindex: int) -> None:
        self._requests.change(RTM_DELLINK, 0, _IFINFO.pack(0, 0, ifindex, 0, 0))

    def set_up(self, ifindex: int, *, is_up: bool) -> None:
        self._requests.change(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, ifindex, _IFF_UP if is_up else 0, _IFF_UP))


def _vlan_id(data: Mapping[int, bytes]) -> int | None:
    """The id, of an 802.1Q interface only: an 802.1ad one is another thing."""
    if _IFLA_VLAN_ID not in data:
        return None
    protocol = int.from_bytes(data.get(_IFLA_VLAN_PROTOCOL, _ETH_P_8021Q.to_bytes(2)))
    return int(struct.unpack("=H", data[_IFLA_VLAN_ID][:2])[0]) if protocol == _ETH_P_8021Q else None
