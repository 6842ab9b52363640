"""Settings of a bridge and of its ports that forwarding by membership needs, over rtnetlink, as whole numbers.

They are named by words: `bridge br0 mcast_snooping`, `port lan1 mcast_router`; the last word is iproute2's.  Which
are wanted is pure (`wanted_settings`); what they were before is remembered by whoever sets them.

    mcast_snooping          the bridge looks at its entries at all
    mcast_igmp_version 3    ... by source too (mcast_mld_version 2)
    mcast_hash_max          groups the bridge may hold; when it is reached the kernel stops snooping and floods
    mcast_querier_interval  how long the bridge believes in a querier it heard: as long as our entries shall count
                            without us.  Only while it does are groups without members kept from its ports.
    mcast_router            of the upstream port 2: it gets everything that comes from the others (RFC 4605 4.2);
                            of a downstream port 0: a router's message there must not have everything sent to it

`mcast_flood` stays as it is: with a querier and snooping nothing is flooded but groups of the link (224.0.0.0/24).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from igmpconf.errors import KernelError
from igmpconf.linux.netlink import RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK, Requests, attribute, attributes, index_of
from igmpconf.linux.sysctl import Settings, Sysctls
from igmpconf.model.config import DeviceConfig, ProxyConfig, default_of
from igmpconf.model.effective import interface_for

QUERIER_INTERVAL_CS = 8_640_000  # a day: the agent may be away that long before its entries stop counting
_MOST_GROUPS = 65_536
_NEVER, _ALWAYS = 0, 2  # MDB_RTR_TYPE_DISABLED, MDB_RTR_TYPE_PERM of linux/if_bridge.h

_IFINFO = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_AF_BRIDGE = 7
_NLA_F_NESTED = 0x8000
_IFLA_IFNAME, _IFLA_PROTINFO, _IFLA_LINKINFO = 3, 12, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_BRPORT_MULTICAST_ROUTER = 25
_BRIDGE_ATTRIBUTES = {  # IFLA_BR_* of linux/if_link.h with their sizes
    "vlan_filtering": (7, "=B"),
    "mcast_snooping": (23, "=B"),
    "mcast_hash_max": (27, "=I"),
    "mcast_querier_interval": (32, "=Q"),
    "mcast_igmp_version": (43, "=B"),
    "mcast_mld_version": (44, "=B"),
}


class PortLink(Protocol):
    """What has to be known of an interface."""

    @property
    def ifindex(self) -> int: ...

    @property
    def kind(self) -> str | None: ...

    @property
    def master(self) -> str | None: ...


class BridgePorts(NamedTuple):
    """A bridged instance as far as its bridge is there: the ports that take part, by role."""

    proxy: ProxyConfig
    bridge: str
    families: tuple[str, ...]
    upstream: tuple[str, ...]
    downstreams: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted((*self.upstream, *self.downstreams)))


def bridged(config: DeviceConfig, links: Mapping[str, PortLink]) -> Iterator[BridgePorts]:
    """The bridged instances of a configuration whose bridge exists."""
    for proxy in config.proxies:
        bridge = links.get(proxy.bridge) if proxy.bridge is not None else None
        if proxy.enabled is False or proxy.mode != "bridged" or proxy.bridge is None or bridge is None or bridge.kind != "bridge":
            continue
        roles: tuple[list[str], list[str]] = ([], [])
        for name in sorted(name for name, link in links.items() if link.master == proxy.bridge):
            entry = interface_for(proxy, name)
            if entry is not None and entry.enabled is not False:
                roles[bool(entry.upstream)].append(name)
        yield BridgePorts(proxy, proxy.bridge, proxy.family or default_of(ProxyConfig, "family"), tuple(roles[1]), tuple(roles[0]))


def wanted_settings(config: DeviceConfig, links: Mapping[str, PortLink]) -> dict[str, int]:
    """Setting -> value, in the order in which they are made."""
    wanted: dict[str, int] = {}
    for found in bridged(config, links):
        here = f"bridge {found.bridge}"
        wanted[f"{here} mcast_hash_max"] = _MOST_GROUPS
        wanted[f"{here} mcast_querier_interval"] = QUERIER_INTERVAL_CS
        if "ipv4" in found.families:
            wanted[f"{here} mcast_igmp_version"] = 3
        if "ipv6" in found.families:
            wanted[f"{here} mcast_mld_version"] = 2
        wanted[f"{here} mcast_snooping"] = 1
        wanted |= {f"port {name} mcast_router": _ALWAYS for name in found.upstream}
        wanted |= {f"port {name} mcast_router": _NEVER for name in found.downstreams}
    return wanted


def check(config: DeviceConfig, links: Mapping[str, PortLink], settings: Settings) -> None:
    """Raises KernelError for a bridge that cannot be served."""
    for found in bridged(config, links):
        if settings.read(f"bridge {found.bridge} vlan_filtering"):
            raise KernelError(
                f"forward on {found.bridge}",
                errno.EOPNOTSUPP,
                f"cannot forward on {found.bridge} for {found.proxy.name}: it tells VLANs apart (vlan_filtering), and its entries are for all frames alike",
                hint="use a bridge of its own for each VLAN, or switch vlan_filtering off",
            )


def interface_of(setting: str) -> str | None:
    """The interface that one of these settings belongs to; None for a setting of another kind."""
    words = setting.split(" ")
    return words[1] if len(words) == 3 else None


class NetworkSettings:
    """Settings of the system and those of bridges in one: the names of the latter have spaces."""

    def __init__(self) -> None:
        self._sysctls = Sysctls()
        self._bridges = BridgeSettings()

    def read(self, name: str) -> int | None:
        return (self._bridges if " " in name else self._sysctls).read(name)

    def write(self, name: str, value: int) -> None:
        """Raises KernelError."""
        (self._bridges if " " in name else self._sysctls).write(name, value)


class BridgeSettings:
    """Reads and writes them in this network namespace."""

    def __init__(self, requests: Requests | None = None) -> None:
        self._requests = requests or Requests()

    def read(self, setting: str) -> int | None:
        """None when there is no such bridge, or the interface is no port of one."""
        word, name, leaf = setting.split(" ")
        try:
            return self._of_bridge(name, leaf) if word == "bridge" else self._of_port(name)
        except OSError:
            return None

    def _of_bridge(self, name: str, leaf: str) -> int | None:
        for link in self._dump(0):
            if link.get(_IFLA_IFNAME) == _octets(name):
                info = dict(attributes(link.get(_IFLA_LINKINFO, b"")))
                if info.get(_IFLA_INFO_KIND) != b"bridge\0":
                    return None
                kind, size = _BRIDGE_ATTRIBUTES[leaf]
                value = dict(attributes(info.get(_IFLA_INFO_DATA, b""))).get(kind)
                return int(struct.unpack_from(size, value)[0]) if value is not None else None
        return None

    def _of_port(self, name: str) -> int | None:
        for link in self._dump(_AF_BRIDGE):
            if link.get(_IFLA_IFNAME) == _octets(name):
                value = dict(attributes(link.get(_IFLA_PROTINFO, b""))).get(_IFLA_BRPORT_MULTICAST_ROUTER)
                return value[0] if value is not None else None
        return None

    def _dump(self, family: int) -> Iterator[dict[int, bytes]]:
        for kind, body in self._requests.dump(RTM_GETLINK, _IFINFO.pack(family, 0, 0, 0, 0)):
            if kind == RTM_NEWLINK:
                yield dict(attributes(body, _IFINFO.size))

    def write(self, setting: str, value: int) -> None:
        """Raises KernelError; a setting whose interface went is no error."""
        word, name, leaf = setting.split(" ")
        try:
            ifindex = index_of(name)
            if word == "bridge":
                kind, size = _BRIDGE_ATTRIBUTES[leaf]
                data = attribute(_IFLA_INFO_DATA, attribute(kind, struct.pack(size, value)))
                body = _IFINFO.pack(0, 0, ifindex, 0, 0) + attribute(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, b"bridge\0") + data)
                self._requests.change(RTM_NEWLINK, 0, body)
            else:
                data = attribute(_IFLA_PROTINFO | _NLA_F_NESTED, attribute(_IFLA_BRPORT_MULTICAST_ROUTER, bytes((value,))))
                self._requests.change(RTM_SETLINK, 0, _IFINFO.pack(_AF_BRIDGE, 0, ifindex, 0, 0) + data)
        except OSError as error:
            code = error.errno or errno.EIO
            if code == errno.ENODEV:
                return
            raise KernelError(
                f"set {setting}",
                code,
                f"cannot set {leaf} of {name} to {value}: {os.strerror(code)}",
                hint="the agent needs CAP_NET_ADMIN" if code in {errno.EPERM, errno.EACCES} else "the kernel needs CONFIG_BRIDGE_IGMP_SNOOPING",
            ) from None


def _octets(name: str) -> bytes:
    return name.encode(errors="surrogateescape") + b"\0"
