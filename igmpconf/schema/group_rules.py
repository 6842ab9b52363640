"""Rules about groups and sources: what may be forwarded at all, and which family an address belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_network

from igmpconf.model.config import DeviceConfig, GroupRule, InterfaceConfig, ProxyConfig, default_of
from igmpconf.model.effective import overlap
from igmpconf.model.leaf import Address, Prefix
from igmpconf.model.path import Path, Step
from igmpconf.schema.diagnostic import Diagnostic
from igmpconf.schema.finding import error, families_of, instance_path, interface_path, warning

_LINK_LOCAL_V4 = ip_network("224.0.0.0/24")  # RFC 5771 4: never forwarded, whatever the TTL
_UNICAST_BASED = ip_network("ff30::/12")
_LINK_LOCAL_SCOPE = 2  # RFC 4291 2.7: scopes 0 (reserved), 1 (interface-local) and 2 (link-local) stay on the link


def is_link_local(group: Address) -> bool:
    """The group never leaves its link (224.0.0.0/24; ff00::/16, ff01::/16, ff02::/16 with any flags)."""
    if group.version == 4:
        return group in _LINK_LOCAL_V4
    return group.packed[1] & 0x0F <= _LINK_LOCAL_SCOPE


def _family(address: Address | Prefix) -> str:
    return f"ipv{address.version}"


def _held(proxy: ProxyConfig) -> Iterator[tuple[Path, Address, Address | str, InterfaceConfig | None]]:
    for route in proxy.mfc:
        yield (*instance_path(proxy.name), Step("mfc", (str(route.source), str(route.group)))), route.group, route.source, None
    for entry in proxy.interfaces:
        for static in entry.static_groups:
            path = (*interface_path(proxy.name, entry.interface), Step("static-groups", (str(static.group), str(static.source))))
            yield path, static.group, static.source, entry


def groups_can_be_forwarded(config: DeviceConfig) -> Iterator[Diagnostic]:
    """Static entries are about groups that may leave a link."""
    for proxy in config.proxies:
        for path, group, _, _ in _held(proxy):
            if is_link_local(group):
                yield error(
                    "group/link-local",
                    (*path, Step("group")),
                    f"{group} stays on its link (224.0.0.0/24, ff02::/16 and lower scopes) and is never forwarded",
                    "use a group outside these ranges, such as 239.0.0.0/8 or ff05::/16",
                )


def families_agree(config: DeviceConfig) -> Iterator[Diagnostic]:
    """A source and its group are of one family, and the instance speaks it."""
    for proxy in config.proxies:
        families = families_of(proxy)
        for path, group, source, _ in _held(proxy):
            if not isinstance(source, str) and source.version != group.version:
                yield error(
                    "family/source-and-group",
                    (*path, Step("source")),
                    f"source {source} and group {group} are of different families",
                    "use two IPv4 or two IPv6 addresses",
                )
            if _family(group) not in families:
                yield error(
                    "family/not-spoken",
                    (*path, Step("group")),
                    f"{group} is {_family(group)}, instance {proxy.name} speaks {', '.join(families)} only",
                    f"add {_family(group)} to family of the instance, or remove the entry",
                )
        for entry in proxy.interfaces:
            if entry.source_address is not None:
                yield from _source_address(proxy, entry, entry.source_address, families)
            yield from _unused(entry.alternative_subnets, families, (*interface_path(proxy.name, entry.interface), Step("alternative-subnets")))
        for name, prefixes in (("local-groups", proxy.local_groups), ("ssm-range", proxy.ssm_range)):
            yield from _unused(prefixes, families, (*instance_path(proxy.name), Step(name)))


def _source_address(proxy: ProxyConfig, entry: InterfaceConfig, address: Address, families: tuple[str, ...]) -> Iterator[Diagnostic]:
    path = (*interface_path(proxy.name, entry.interface), Step("source-address"))
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        yield error("address/not-a-sender", path, f"{address} cannot be the source of a message on a link", "use a unicast address of the link")
    elif address.version == 6 and not address.is_link_local:
        yield error(
            "address/not-link-local", path, f"{address} is not link-local, which every MLD message must come from (RFC 3810 5)", "use an address in fe80::/10"
        )
    elif _family(address) not in families:
        yield error(
            "family/not-spoken",
            path,
            f"{address} is {_family(address)}, instance {proxy.name} speaks {', '.join(families)} only",
            "use an address of that family, or remove the line",
        )


def _unused(prefixes: tuple[Prefix, ...], families: tuple[str, ...], path: Path) -> Iterator[Diagnostic]:
    foreign = [str(prefix) for prefix in prefixes if _family(prefix) not in families]
    if foreign:
        yield warning(
            "family/unused",
            path,
            f"{', '.join(foreign)} has no effect: the instance speaks {', '.join(families)} only",
            "add the family to the instance, or remove it",
        )


def static_groups_make_sense(config: DeviceConfig) -> Iterator[Diagnostic]:
    """Memberships without a host belong on downstreams, and in the SSM range they need a source."""
    for proxy in config.proxies:
        ssm: tuple[Prefix, ...] = proxy.ssm_range or default_of(ProxyConfig, "ssm-range")
        for path, group, source, entry in _held(proxy):
            if entry is None:
                continue
            if entry.upstream:
                yield warning(
                    "static/on-upstream",
                    path,
                    f"{entry.interface} is the upstream; a static group there is held by no downstream and nothing is forwarded for it",
                    "put it on a downstream interface",
                )
            elif isinstance(source, str) and any(_is_ssm(group, prefix) for prefix in ssm):
                yield warning(
                    "group/any-source-in-ssm",
                    path,
                    f"{group} is in the source-specific range, where a membership without source is ignored (RFC 4607)",
                    "add source:",
                )


def _is_ssm(group: Address, prefix: Prefix) -> bool:
    if group not in prefix:
        return False
    # RFC 3306 6: within ff30::/12 only addresses with plen 0 are source-specific, which is ff3x::/32
    return prefix != _UNICAST_BASED or group.packed[2:4] == bytes(2)


def rules_are_reached(config: DeviceConfig) -> Iterator[Diagnostic]:
    """First match wins: what stands behind a rule for everything is never asked, and names must fit an interface."""
    for proxy in config.proxies:
        lists = [(instance_path(proxy.name), proxy.groups)] + [(interface_path(proxy.name, i.interface), i.groups) for i in proxy.interfaces]
        for path, rules in lists:
            yield from _reached(path, rules)
        downstreams = [entry.interface for entry in proxy.interfaces if not entry.upstream]
        for rule in proxy.groups:
            for name in rule.interface:
                if not any(overlap(name, other) for other in downstreams):
                    yield warning(
                        "groups/unknown-interface",
                        (*instance_path(proxy.name), Step("groups", (str(rule.sequence),)), Step("interface")),
                        f"{name} is not a downstream interface of instance {proxy.name}, the rule matches nothing there",
                        f"use one of {', '.join(downstreams) or '(none yet)'}",
                    )


def _reached(path: Path, rules: tuple[GroupRule, ...]) -> Iterator[Diagnostic]:
    final = next((rule for rule in rules if not rule.group and not rule.source and not rule.interface), None)
    for rule in rules:
        if final is not None and rule.sequence > final.sequence:
            yield warning(
                "groups/unreachable",
                (*path, Step("groups", (str(rule.sequence),))),
                f"rule {rule.sequence} is never asked: rule {final.sequence} matches everything",
                "put it before that rule",
            )


RULES: tuple[Callable[[DeviceConfig], Iterator[Diagnostic]], ...] = (
    groups_can_be_forwarded,
    families_agree,
    static_groups_make_sense,
    rules_are_reached,
)
