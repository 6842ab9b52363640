"""Which build options of the kernel a configuration needs, and whether they are there.

What can be tried without changing anything is tried; the rest is read in the kernel's own build configuration, where
the distribution keeps it.  What neither tells is not claimed.
"""

from __future__ import annotations

import gzip
import platform
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from igmpconf.linux.linkfacts import LinkState
from igmpconf.linux.netlink import RTM_GETRULE, RTNL_FAMILY_IP6MR, RTNL_FAMILY_IPMR, Requests
from igmpconf.model.config import DeviceConfig, ProxyConfig, default_of
from igmpconf.model.diagnosis import KernelOption

_RULE_BYTES = 12  # struct fib_rule_hdr
_NET = Path("/proc/self/net")


def build_configuration(places: tuple[Path, ...] | None = None) -> dict[str, bool] | None:
    """Option -> is there, as the kernel was built; None when nobody kept it."""
    release = platform.release()
    for place in places or (Path("/proc/config.gz"), Path(f"/boot/config-{release}"), Path(f"/lib/modules/{release}/config")):
        try:
            data = place.read_bytes()
            text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8", "replace")
        except (OSError, EOFError, zlib.error):
            continue
        return {name.removeprefix("CONFIG_"): value in {"y", "m"} for name, _, value in (line.partition("=") for line in text.splitlines()) if value}
    return None


def needed_options(config: DeviceConfig, links: Mapping[str, LinkState], built: Mapping[str, bool] | None) -> list[KernelOption]:
    """What `config` needs, and whether it is there; without what nobody can tell."""
    found = []
    for name, needed_for, probe in _needs(config, links):
        answer = probe()
        if answer is None and built is not None:
            answer = built.get(name, False)
        if answer is not None:
            found.append(KernelOption(name=f"CONFIG_{name}", present=answer, needed_for=needed_for))
    return sorted(found, key=lambda one: one.name)


Probe = Callable[[], bool | None]


def _needs(config: DeviceConfig, links: Mapping[str, LinkState]) -> Iterator[tuple[str, str, Probe]]:
    running = [proxy for proxy in config.proxies if proxy.enabled is not False]
    for family, option, table, rules in (
        ("ipv4", "IP_MROUTE", "ip_mr_vif", RTNL_FAMILY_IPMR),
        ("ipv6", "IPV6_MROUTE", "ip6_mr_vif", RTNL_FAMILY_IP6MR),
    ):
        of_family = [proxy for proxy in running if family in _families(proxy)]
        if of_family:
            yield option, f"family {family} of instance {of_family[0].name}", lambda table=table: (_NET / table).exists()  # type: ignore[misc]
        if len(of_family) > 1:
            yield f"{option}_MULTIPLE_TABLES", f"instances {of_family[0].name} and {of_family[1].name} side by side", lambda rules=rules: has_rules(rules)  # type: ignore[misc]
    if config.vlans:
        yield "VLAN_8021Q", f"VLAN {config.vlans[0].name}", lambda: (_NET / "vlan").exists() or None  # it may be a module that waits
    if config.firewall is not None:
        yield "NF_TABLES", "firewall", lambda: None
    for proxy in running:
        for entry in proxy.interfaces:
            link = links.get(entry.interface)
            if link is not None and link.bridge is not None:
                can = link.bridge.snooping is not None
                yield "BRIDGE_IGMP_SNOOPING", f"bridge {link.name}, to forward only where somebody listens", lambda can=can: can  # type: ignore[misc]
                return


def _families(proxy: ProxyConfig) -> tuple[str, ...]:
    families: tuple[str, ...] = proxy.family or default_of(ProxyConfig, "family")
    return families


def has_rules(family: int) -> bool | None:
    """A kernel with several multicast tables has rules that choose one; None when it cannot be asked.  `family` as RTNL_FAMILY_IPMR."""
    try:
        requests = Requests()
    except OSError:
        return None
    try:
        return bool(requests.dump(RTM_GETRULE, bytes((family,)).ljust(_RULE_BYTES, b"\0")))
    except OSError:
        return False
    finally:
        requests.close()
