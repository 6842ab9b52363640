"""System settings that streams need: the reverse path filter of the interfaces where senders have no route back.

A stream's source is often reached by another way than the stream comes, or not at all; the kernel's filter then drops
every datagram without a word.  The value in force is the larger one of `all` and the interface's own (Linux
ip-sysctl): 0 off, 1 strict, 2 loose (any route back will do).  `all` speaks for interfaces that are not ours, so it
is never changed:

    all 0   the interface gets 0: no source is refused
    all 1   the interface gets 2, the most that is to be had: sources without any route stay refused, and that is said
    all 2   nothing to do on the interface; the same is said

Interfaces: every upstream, and every downstream with alternative-subnets, whose hosts the router has no route to.
IPv6 has no such setting.  What belongs to the kernel's own membership as a host (force_igmp_version,
igmp_max_memberships and the like) does not concern us: our messages are our own.  Pure but for `Sysctls`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from igmpconf.errors import KernelError
from igmpconf.model.config import DeviceConfig, InterfaceConfig, ProxyConfig, default_of
from igmpconf.model.effective import interface_for
from igmpconf.model.state import DeviationRow

RP_FILTER_ALL = "net.ipv4.conf.all.rp_filter"
OFF, STRICT, LOOSE = 0, 1, 2


class Settings(Protocol):
    """Whole-number settings under net, named `net/ipv4/conf/wan/rp_filter` with dots between; `read` is None for one that is not there."""

    def read(self, name: str) -> int | None: ...

    def write(self, name: str, value: int) -> None: ...


def rp_filter(interface: str) -> str:
    """The name of an interface's own setting; a dot in the interface's name is written as a slash, as sysctl(8) does."""
    return f"net.ipv4.conf.{interface.replace('.', '/')}.rp_filter"


def wanted_settings(config: DeviceConfig, names: Iterable[str], of_all: int) -> dict[str, int]:
    """Setting -> value, for the interfaces there are (`names`); `of_all` is the value of `all`."""
    if of_all == LOOSE:
        return {}
    value = LOOSE if of_all == STRICT else OFF
    known = sorted(names)
    return {rp_filter(name): value for proxy in config.proxies if _takes_part(proxy) for name in known if _needs(interface_for(proxy, name))}


def _takes_part(proxy: ProxyConfig) -> bool:
    return proxy.enabled is not False and proxy.mode != "bridged" and "ipv4" in (proxy.family or default_of(ProxyConfig, "family"))


def _needs(entry: InterfaceConfig | None) -> bool:
    return entry is not None and entry.enabled is not False and (bool(entry.upstream) or bool(entry.alternative_subnets))


def deviations(wanted: Mapping[str, int], settings: Settings) -> list[DeviationRow]:
    """Where a setting is not what is wanted; an interface that went is none."""
    return [
        DeviationRow(kind="setting", name=name[:255], expected=str(value), found=str(found))
        for name, value in wanted.items()
        if (found := settings.read(name)) is not None and found != value
    ]


class Sysctls:
    """The `Settings` that are real: /proc/sys of this network namespace."""

    def __init__(self, root: Path = Path("/proc/sys")) -> None:
        self._root = root

    def _path(self, name: str) -> Path:
        return self._root / "/".join(part.replace("/", ".") for part in name.split("."))

    def read(self, name: str) -> int | None:
        try:
            return int(self._path(name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def write(self, name: str, value: int) -> None:
        """Raises KernelError; a setting that is not there (its interface went) is no error."""
        try:
            with self._path(name).open("r+", encoding="ascii") as setting:
                setting.write(str(value))
        except FileNotFoundError:
            return
        except OSError as error:
            code = error.errno or errno.EIO
            raise KernelError(
                f"set {name}",
                code,
                f"cannot set {name} to {value}: {error.strerror}",
                hint="/proc/sys must be writable for the agent (systemd: ProtectKernelTunables=no; containers mount it read-only)",
            ) from None
