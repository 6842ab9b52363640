"""The words that the semantic rules share: findings at keyed paths."""

from __future__ import annotations

from collections.abc import Iterable

from igmpconf.model.config import ProxyConfig, default_of
from igmpconf.model.path import Path, Step, path_text
from igmpconf.schema.diagnostic import Diagnostic


def error(code: str, path: Path, message: str, hint: str, related: Iterable[Path] = ()) -> Diagnostic:
    """A finding that keeps the configuration from being used."""
    return Diagnostic(severity="error", code=code, path=path_text(path), message=message, hint=hint, related=tuple(map(path_text, related)))


def warning(code: str, path: Path, message: str, hint: str, related: Iterable[Path] = ()) -> Diagnostic:
    """A finding that works, though probably not as meant."""
    return Diagnostic(severity="warning", code=code, path=path_text(path), message=message, hint=hint, related=tuple(map(path_text, related)))


def instance_path(instance: str) -> Path:
    """`igmp-proxy[instance]`."""
    return (Step("igmp-proxy", (instance,)),)


def interface_path(instance: str, interface: str) -> Path:
    """`igmp-proxy[instance]/interfaces[interface]`."""
    return (*instance_path(instance), Step("interfaces", (interface,)))


def families_of(proxy: ProxyConfig) -> tuple[str, ...]:
    """The address families that the instance speaks: of `ipv4`, `ipv6`."""
    families: tuple[str, ...] = proxy.family or default_of(ProxyConfig, "family")
    return families
