"""Which interfaces of a desired state the device does not have now: usual for what is dialled later, and what a slip of the pen looks like."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator

from igmpconf.model.config import DeviceConfig, InterfaceConfig
from igmpconf.model.effective import is_named, is_pattern


def absent(wanted: DeviceConfig, there: Collection[str]) -> Iterator[str]:
    """A warning for each enabled interface that is not `there` and that the desired state does not make itself.

    With nothing in `there` the device does not tell what it has, and nothing is said.
    """
    if not there:
        return
    known = {*there, *(vlan.name for vlan in wanted.vlans)}
    for proxy in wanted.proxies:
        if proxy.bridge is not None and proxy.enabled is not False and proxy.bridge not in known:
            yield f"igmp-proxy[{proxy.name}]/bridge: there is no interface {proxy.bridge} now; it is followed when it appears{_near(proxy.bridge, known)}"
        for entry in proxy.interfaces:
            if proxy.enabled is False or entry.enabled is False or any(is_named(name, (entry.interface,)) for name in known):
                continue
            yield f"igmp-proxy[{proxy.name}]/interfaces[{entry.interface}]: {_said(entry, known)}"


def _said(entry: InterfaceConfig, known: Collection[str]) -> str:
    if is_pattern(entry.interface):
        said = f"no interface there matches {entry.interface} now; those that do are followed as they appear"
    else:
        said = f"there is no interface {entry.interface} now; it is followed when it appears{_near(entry.interface, known)}"
    return said + (f"; apply verifies the upstream unless told --allow-down {entry.interface}" if entry.upstream else "")


def _near(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
