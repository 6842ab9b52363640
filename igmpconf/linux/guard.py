"""What forwarding entries alone cannot keep apart, as packet filter rules in a table of our own.

* An upstream with `alternative-subnets` takes streams only from its own subnets and from those: a (*,G) entry asks
  nobody where a datagram comes from.
* `local-groups` wider than one address: a group in them that nobody joined has no entry, so (*,*) would let a
  datagram of a downstream out by the upstream.  And what comes from the upstream for a local group is not passed on,
  because these groups are of the downstreams alone.

The rules stand in hook forward, so that what the device itself receives is not their business, and each counts what
it drops (once for every interface that the datagram would have left by).  Both leaves are only guarded where they are
written: the default local groups are single addresses, and their entries have no upstream.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import collapse_addresses

from igmpconf.linux.nft import Rule, drop_of_forwarded
from igmpconf.model.config import DeviceConfig, InterfaceConfig, ProxyConfig, default_of
from igmpconf.model.effective import interface_for
from igmpconf.model.leaf import Prefix

FOREIGN_SOURCE, LOCAL_GROUP = "dropped-foreign-source", "dropped-local-group"  # counters of an interface
_FAMILIES = {"ipv4": 4, "ipv6": 6}


@dataclass(frozen=True, slots=True)
class Guard:
    """One rule, and what it counts: the counter `counter` of `interface` in `instance` and `family`."""

    rule: Rule
    instance: str
    interface: str
    family: str
    counter: str


def is_guarded(config: DeviceConfig) -> bool:
    """Some instance may need rules; which ones depends on the interfaces there are."""
    return any(_takes_part(proxy) and (proxy.local_groups or any(_restricts(entry) for entry in proxy.interfaces)) for proxy in config.proxies)


def guards(config: DeviceConfig, subnets: Mapping[str, Sequence[Prefix]]) -> tuple[Guard, ...]:
    """The rules that `config` needs; `subnets` are those of each interface there is, by name."""
    return tuple(guard for proxy in config.proxies if _takes_part(proxy) for guard in _of_instance(proxy, subnets))


def _of_instance(proxy: ProxyConfig, subnets: Mapping[str, Sequence[Prefix]]) -> Iterator[Guard]:
    for name in sorted(subnets):
        entry = interface_for(proxy, name)
        if entry is None or not entry.upstream or entry.enabled is False:
            continue
        for family in proxy.family or default_of(ProxyConfig, "family"):
            version = _FAMILIES[family]
            sources = _of(version, (*entry.alternative_subnets, *subnets[name])) if _of(version, entry.alternative_subnets) else ()
            if sources:
                rule = drop_of_forwarded(f"only sources of {name}", version, arrives=name, unless_from=sources)
                yield Guard(rule, proxy.name, name, family, FOREIGN_SOURCE)
            groups = _of(version, proxy.local_groups)
            if groups:
                inward = drop_of_forwarded(f"local groups, {name}", version, arrives=name, to=groups)
                outward = drop_of_forwarded(f"local groups, {name}", version, leaves=name, to=groups)
                yield from (Guard(rule, proxy.name, name, family, LOCAL_GROUP) for rule in (inward, outward))


def _takes_part(proxy: ProxyConfig) -> bool:
    return proxy.enabled is not False and proxy.mode != "bridged"


def _restricts(entry: InterfaceConfig) -> bool:
    return bool(entry.upstream) and bool(entry.alternative_subnets)


def _of(version: int, prefixes: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """Those of one IP version, without what others of them hold already: nftables refuses a set that overlaps."""
    return tuple(collapse_addresses(prefix for prefix in prefixes if prefix.version == version))  # type: ignore[type-var]
