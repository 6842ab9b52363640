"""What applies: a leaf of an interface, of its instance, or the default, in that order.

The one place that knows inheritance; the semantic rules and the engine's parameters both ask here.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from igmpconf.model.config import InterfaceConfig, ProxyConfig
from igmpconf.model.leaf import node


def effective(proxy: ProxyConfig, interface: InterfaceConfig | None, name: str) -> Any:
    """The canonical value in force of the leaf `name` (as YAML says it): `effective(p, i, "query-interval")` in ms.

    With `interface` None, of the instance itself.  None or () where nothing is said and there is no default.  The
    upstream's own settings count as any interface's: whether they mean something there is the caller's business.
    Raises KeyError for a leaf that neither has.
    """
    of_interface = node(InterfaceConfig, name) if interface is not None else None
    if of_interface is not None:
        own = getattr(interface, of_interface.attr)
        if own is not None and own != ():
            return own
        if not of_interface.inherits:
            return _defaulted(own, of_interface.default)
    of_proxy = node(ProxyConfig, name)
    if of_proxy is None:
        raise KeyError(f"there is no leaf {name} here")
    return _defaulted(getattr(proxy, of_proxy.attr), of_proxy.default)


def _defaulted(value: Any, default: Any) -> Any:
    return default if (value is None or value == ()) and default is not None else value


def is_upstream(interface: InterfaceConfig) -> bool:
    """The interface is its instance's upstream."""
    return interface.upstream is True


def interface_for(proxy: ProxyConfig, name: str) -> InterfaceConfig | None:
    """The entry of `proxy` that the real interface `name` belongs to: the exact one, else the first pattern in order."""
    for entry in proxy.interfaces:
        if entry.interface == name:
            return entry
    return next((entry for entry in proxy.interfaces if is_pattern(entry.interface) and fnmatchcase(name, entry.interface)), None)


def is_pattern(name: str) -> bool:
    """`name` is a pattern for interface names (`ppp*`) and not a name."""
    return any(sign in name for sign in "*?[")
