"""What applies: a leaf of an interface, of its instance, of the instance's upstream, or the default, in that order.

The upstream comes in because RouterOS scripts set the query timers there and mean all interfaces.

The one place that knows inheritance; the semantic rules and the engine's parameters both ask here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from igmpconf.model.config import InterfaceConfig, ProxyConfig
from igmpconf.model.leaf import node


def effective(proxy: ProxyConfig, interface: InterfaceConfig | None, name: str) -> Any:
    """The canonical value in force of the leaf `name` (as YAML says it): `effective(p, i, "query-interval")` in ms.

    With `interface` None, of the instance itself.  None or () where nothing is said and there is no default.
    Raises KeyError for a leaf that neither has.
    """
    inherited = node(InterfaceConfig, name)
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
    value = getattr(proxy, of_proxy.attr)
    upstream = upstream_of(proxy)
    if value is None and upstream is not None and inherited is not None and inherited.inherits:
        value = getattr(upstream, inherited.attr)
    return _defaulted(value, of_proxy.default)


def _defaulted(value: Any, default: Any) -> Any:
    return default if (value is None or value == ()) and default is not None else value


def upstream_of(proxy: ProxyConfig) -> InterfaceConfig | None:
    """The interface toward the sources; the first one where several claim it (an error that the rules tell)."""
    return next((entry for entry in proxy.interfaces if entry.upstream), None)


def interface_for(proxy: ProxyConfig, name: str) -> InterfaceConfig | None:
    """The entry of `proxy` that the real interface `name` belongs to: its exact name wins, then the longest pattern."""
    for entry in proxy.interfaces:
        if entry.interface == name:
            return entry
    matching = [entry for entry in proxy.interfaces if fnmatchcase(name, entry.interface)]
    return max(matching, key=lambda entry: len(entry.interface), default=None)


def belongs(proxy: ProxyConfig, name: str, entry: InterfaceConfig) -> bool:
    """The real interface `name` is one that `entry` of `proxy` configures, and not a neighbour that `entry`'s pattern matches as well."""
    found = interface_for(proxy, name)
    return found is not None and found.interface == entry.interface


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Some of the patterns matches `name`: how rules speak of interfaces, which unlike entries do not take them from each other."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def is_pattern(name: str) -> bool:
    """`name` is a pattern for interface names (`ppp*`) and not a name."""
    return "*" in name or "?" in name or "[" in name


def overlap(a: str, b: str) -> bool:
    """Some interface name matches both patterns (as fnmatch reads them)."""
    if not is_pattern(a) and not is_pattern(b):
        return a == b
    left, right = _tokens(a), _tokens(b)
    named = set(a + b)
    alphabet = named | {chr(ord(sign) + 1) for sign in named} | {"\ue000"}  # every range has a member here, and what nobody names has one
    reached = {(0, 0)}
    frontier = [(0, 0)]
    while frontier:
        i, j = frontier.pop()
        if i == len(left) and j == len(right):
            return True
        for step in _steps(left, right, i, j, alphabet):
            if step not in reached:
                reached.add(step)
                frontier.append(step)
    return False


def _steps(left: list[str], right: list[str], i: int, j: int, alphabet: set[str]) -> Iterator[tuple[int, int]]:
    a = left[i] if i < len(left) else ""
    b = right[j] if j < len(right) else ""
    if a == "*":
        yield i + 1, j
    if b == "*":
        yield i, j + 1
    if a and b and any(fnmatchcase(sign, a) and fnmatchcase(sign, b) for sign in alphabet):
        yield i + (a != "*"), j + (b != "*")


def _tokens(pattern: str) -> list[str]:
    """The pieces of a pattern that match one sign each, and its stars."""
    return re.findall(r"\[!?\]?[^\]]*\]|.", pattern, re.DOTALL)
