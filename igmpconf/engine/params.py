"""What a configuration means for one family: every value resolved, every address packed.

Inheritance is model/effective.py's business.  Resolving happens once per configuration; machines hold the result.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from igmpconf.engine.family import Family
from igmpconf.engine.prefixes import PrefixSet, packed_prefixes
from igmpconf.engine.sources import EVERYTHING, SourceSet
from igmpconf.model.config import GroupRule, InterfaceConfig, ProxyConfig, StaticRoute
from igmpconf.model.effective import effective, interface_for, is_named
from igmpconf.model.leaf import ANY_SOURCE, Address, Prefix

_FF3X = ipaddress.ip_network("ff30::/12")


@dataclass(frozen=True, slots=True)
class Rule:
    """One allow or deny row; `groups` or `sources` None: any."""

    allows: bool
    groups: PrefixSet | None
    sources: PrefixSet | None
    interfaces: tuple[str, ...]  # patterns; empty: every downstream

    def speaks_of(self, interface: str) -> bool:
        return not self.interfaces or is_named(interface, self.interfaces)


@dataclass(frozen=True, slots=True)
class InterfaceParams:
    """One interface entry; times in milliseconds.  `config` is what it was made from: equal configs, equal params."""

    config: tuple[Any, ...] = field(repr=False)
    pattern: str = field(compare=False)
    is_upstream: bool = field(compare=False)
    is_port: bool = field(compare=False)  # of a bridge: it has no subnet, and groups of the link are switched by membership
    threshold_ttl: int = field(compare=False)  # the kernel's: a datagram leaves if its TTL on arrival is greater
    alternative_subnets: PrefixSet = field(compare=False)
    query_interval_ms: int = field(compare=False)
    query_response_interval_ms: int = field(compare=False)
    last_member_interval_ms: int = field(compare=False)
    robustness: int = field(compare=False)
    version: int = field(compare=False)
    minimum_version: int = field(compare=False)  # what speaks an older one is not heard
    quick_leave: str = field(compare=False)  # off, on, auto
    lite_exclude_filter: bool = field(compare=False)
    query_destination: str = field(compare=False)  # of queries about one group: group, all-hosts
    require_router_alert: bool = field(compare=False)
    max_groups: int | None = field(compare=False)
    max_sources_per_group: int | None = field(compare=False)
    rules: tuple[Rule, ...] = field(compare=False)
    static_groups: dict[bytes, SourceSet] = field(compare=False)
    source_address: bytes | None = field(compare=False)

    @property
    def startup_query_interval_ms(self) -> int:
        """RFC 3376 8.6."""
        return self.query_interval_ms // 4

    @property
    def last_member_query_time_ms(self) -> int:
        """RFC 3376 8.10: last member query interval times count, the count being the robustness (8.9)."""
        return self.last_member_interval_ms * self.robustness


@dataclass(frozen=True, slots=True)
class StaticEntry:
    """A permanent forwarding entry; interface names as configured."""

    source: bytes | None
    group: bytes
    iif: str | None  # None: the instance's upstream
    oifs: tuple[str, ...]
    joins: bool


@dataclass(frozen=True, slots=True)
class InstanceParams:
    config: ProxyConfig
    interfaces: dict[str, InterfaceParams]  # by pattern, enabled ones only
    is_bridged: bool
    forward_when_non_querier: bool
    local_groups: PrefixSet
    ssm_range: PrefixSet
    static_entries: tuple[StaticEntry, ...]

    def interface_for(self, name: str) -> InterfaceParams | None:
        """The parameters of the link `name`; None if no enabled entry is its own."""
        entry = interface_for(self.config, name)
        return self.interfaces.get(entry.interface) if entry is not None else None


def resolved(config: ProxyConfig, family: Family) -> InstanceParams | None:
    """The parameters of `config` for `family`; None when the instance is off or does not speak the family."""
    if not effective(config, None, "enabled") or family.name not in effective(config, None, "family"):
        return None
    return InstanceParams(
        config=config,
        interfaces={entry.interface: _interface(entry, config, family) for entry in config.interfaces if effective(config, entry, "enabled")},
        is_bridged=config.mode == "bridged",
        # a second router cannot forward onto a port, which has only one cable
        forward_when_non_querier=config.mode == "bridged" or bool(effective(config, None, "forward-when-non-querier")),
        local_groups=_prefixes(effective(config, None, "local-groups"), family),
        ssm_range=_prefixes(_ssm_prefixes(effective(config, None, "ssm-range")), family),
        static_entries=tuple(_static_entry(route) for route in config.mfc if _speaks(route.group, family)),
    )


def _interface(entry: InterfaceConfig, config: ProxyConfig, family: Family) -> InterfaceParams:
    def value(name: str) -> Any:
        return effective(config, entry, name)

    timers = tuple(value(name) for name in ("query-interval", "query-response-interval", "last-member-interval", "robustness", "quick-leave"))
    rules = (*entry.groups, *config.groups)
    return InterfaceParams(
        config=(entry, timers, rules, config.ssm_range, config.mode),
        pattern=entry.interface,
        is_upstream=bool(value("upstream")),
        is_port=config.mode == "bridged",
        threshold_ttl=min(254, max(1, value("threshold") - 1)),  # "TTL on arrival at least N" said as "greater than"; 255 would mean "not at all"
        alternative_subnets=_prefixes(entry.alternative_subnets, family),
        query_interval_ms=timers[0],
        query_response_interval_ms=timers[1],
        last_member_interval_ms=timers[2],
        robustness=timers[3],
        version=value(family.version_leaf),
        minimum_version=value(family.minimum_version_leaf),
        quick_leave=timers[4],
        lite_exclude_filter=bool(value("lite-exclude-filter")),
        query_destination=value("query-destination"),
        require_router_alert=bool(value("require-router-alert")),
        max_groups=entry.max_groups,
        max_sources_per_group=entry.max_sources_per_group,
        rules=tuple(_rule(rule, family) for rule in rules if _concerns(rule, family)),
        static_groups=_static_groups(entry, family),
        source_address=entry.source_address.packed if entry.source_address is not None and _speaks(entry.source_address, family) else None,
    )


def _speaks(address: Address, family: Family) -> bool:
    return len(address.packed) == family.address_bytes


def _prefixes(prefixes: Iterable[Prefix], family: Family) -> PrefixSet:
    return PrefixSet(packed_prefixes(prefixes), family.address_bytes)


def _ssm_prefixes(prefixes: Iterable[Prefix]) -> Iterable[Prefix]:
    """ff30::/12 stands for ff3x::/32, x any scope (RFC 4607 1, RFC 3306 6)."""
    for prefix in prefixes:
        if prefix == _FF3X:
            yield from (ipaddress.ip_network(f"ff3{scope:x}::/32") for scope in range(16))
        else:
            yield prefix


def _concerns(rule: GroupRule, family: Family) -> bool:
    """A row that names addresses of the other family only says nothing about this one."""
    bits = family.address_bytes * 8
    return all(not named or any(prefix.max_prefixlen == bits for prefix in named) for named in (rule.group, rule.source))


def _rule(rule: GroupRule, family: Family) -> Rule:
    return Rule(
        allows=rule.action == "allow",
        groups=_prefixes(rule.group, family) if rule.group else None,
        sources=_prefixes(rule.source, family) if rule.source else None,
        interfaces=rule.interface,
    )


def _static_groups(entry: InterfaceConfig, family: Family) -> dict[bytes, SourceSet]:
    held: dict[bytes, SourceSet] = {}
    for static in entry.static_groups:
        if _speaks(static.group, family):
            wanted = EVERYTHING if isinstance(static.source, str) else SourceSet(frozenset((static.source.packed,)))
            held[static.group.packed] = held.get(static.group.packed, SourceSet()) | wanted
    return held


def _static_entry(route: StaticRoute) -> StaticEntry:
    source = None if isinstance(route.source, str) or route.source == ANY_SOURCE else route.source.packed
    return StaticEntry(source, route.group.packed, route.upstream_interface, route.downstream_interface, joins=route.join is not False)
