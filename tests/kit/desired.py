"""Hypothesis: configurations as people write them.

`configs()` fit the types, keys and ranges; `sound_configs()` also satisfy the semantic rules, so that a device would
take them.  Names come from small pools, so that keys collide between two draws.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from igmpconf.model.canon import canonical
from igmpconf.model.config import (
    DeviceConfig,
    FirewallConfig,
    FirewallRule,
    GroupRule,
    InterfaceConfig,
    LoggingConfig,
    ProxyConfig,
    StaticGroup,
    StaticRoute,
    VlanConfig,
)
from igmpconf.model.leaf import nodes

NAMES = ["wan", "lan0", "lan1", "br-x", "vlan100-ipTV", "ü"]
PATTERNS = ["ppp*", "br-?", "eth[0-9]", "tun,1"]
GROUPS = [ip_address(text) for text in ("239.1.1.1", "232.0.0.9", "239.255.255.250", "ff05::1234", "ff3e::8000:1")]
SOURCES = ["*", *(ip_address(text) for text in ("10.0.0.1", "192.0.2.7", "2001:db8::1"))]
PREFIXES = [ip_network(text) for text in ("0.0.0.0/0", "10.20.0.0/16", "192.0.2.1/32", "2001:db8::/32")]
GROUP_PREFIXES = [ip_network(text) for text in ("239.0.0.0/8", "232.0.0.0/8", "224.0.0.0/4", "ff05::/16", "ff02::c/128")]


def maybe(strategy):
    return st.none() | strategy


def some(pool, most=3):
    return st.lists(st.sampled_from(pool), max_size=most, unique=True).map(tuple)


def leaf_of(cls, name):
    return next(n for n in nodes(cls) if n.attr == name)


def duration_of(cls, name):
    kind = leaf_of(cls, name).type
    return st.integers(kind.low_ms, kind.high_ms) | st.sampled_from([kind.low_ms, kind.high_ms])


def word_of(cls, name):
    return st.sampled_from(leaf_of(cls, name).type.words)


def numbered(rule, most=3):
    return st.lists(rule, max_size=most, unique_by=lambda one: one.sequence).map(tuple)


def keyed(entry, key, most=4):
    return st.lists(entry, max_size=most, unique_by=key).map(tuple)


def group_rules():
    return st.builds(
        GroupRule,
        sequence=st.integers(1, 65535),
        action=word_of(GroupRule, "action"),
        group=some(GROUP_PREFIXES),
        source=some(PREFIXES),
        interface=some(NAMES + PATTERNS),
    )


def static_groups():
    return st.builds(StaticGroup, group=st.sampled_from(GROUPS), source=st.sampled_from(SOURCES))


def interfaces(name=None, upstream=None):
    return st.builds(
        InterfaceConfig,
        interface=name if name is not None else st.sampled_from(NAMES + PATTERNS),
        upstream=upstream if upstream is not None else maybe(st.booleans()),
        enabled=maybe(st.booleans()),
        threshold=maybe(st.integers(0, 255)),
        alternative_subnets=some(PREFIXES),
        query_interval_ms=maybe(duration_of(InterfaceConfig, "query_interval_ms")),
        query_response_interval_ms=maybe(duration_of(InterfaceConfig, "query_response_interval_ms")),
        last_member_interval_ms=maybe(duration_of(InterfaceConfig, "last_member_interval_ms")),
        robustness=maybe(st.integers(1, 255)),
        version=maybe(st.integers(1, 3)),
        mld_version=maybe(st.integers(1, 2)),
        minimum_version=maybe(st.integers(1, 3)),
        minimum_mld_version=maybe(st.integers(1, 2)),
        quick_leave=maybe(word_of(InterfaceConfig, "quick_leave")),
        lite_exclude_filter=maybe(st.booleans()),
        query_destination=maybe(word_of(InterfaceConfig, "query_destination")),
        require_router_alert=maybe(st.booleans()),
        max_groups=maybe(st.integers(1, 1_000_000)),
        max_sources_per_group=maybe(st.integers(1, 100_000)),
        groups=numbered(group_rules()),
        static_groups=keyed(static_groups(), lambda one: (one.group, one.source)),
        source_address=maybe(st.sampled_from([ip_address("192.0.2.1"), ip_address("fe80::1")])),
    )


def static_routes(names=tuple(NAMES)):
    return st.builds(
        StaticRoute,
        source=st.sampled_from(SOURCES),
        group=st.sampled_from(GROUPS),
        downstream_interface=some(list(names)),
        upstream_interface=maybe(st.sampled_from(names)),
        join=maybe(st.booleans()),
    )


def proxies(name=None):
    return st.builds(
        ProxyConfig,
        name=name if name is not None else st.sampled_from(["default", "tv", "_x.y-z"]),
        enabled=maybe(st.booleans()),
        family=some(["ipv4", "ipv6"]),
        mode=maybe(word_of(ProxyConfig, "mode")),
        bridge=maybe(st.sampled_from(NAMES)),
        query_interval_ms=maybe(duration_of(ProxyConfig, "query_interval_ms")),
        query_response_interval_ms=maybe(duration_of(ProxyConfig, "query_response_interval_ms")),
        last_member_interval_ms=maybe(duration_of(ProxyConfig, "last_member_interval_ms")),
        robustness=maybe(st.integers(1, 255)),
        quick_leave=maybe(word_of(ProxyConfig, "quick_leave")),
        forward_when_non_querier=maybe(st.booleans()),
        local_groups=some(GROUP_PREFIXES),
        ssm_range=some(GROUP_PREFIXES),
        groups=numbered(group_rules()),
        interfaces=keyed(interfaces(), lambda one: one.interface),
        mfc=keyed(static_routes(), lambda one: (one.source, one.group)),
    )


def vlans():
    return st.builds(VlanConfig, name=st.sampled_from(NAMES), interface=st.sampled_from(["ether1", "ether2"]), vlan_id=st.integers(1, 4094))


def comments():
    return st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff") | st.sampled_from("\n\t"), min_size=1, max_size=20)


def firewall_rules():
    return st.builds(
        FirewallRule,
        sequence=st.integers(1, 65535),
        chain=word_of(FirewallRule, "chain"),
        action=word_of(FirewallRule, "action"),
        protocol=maybe(word_of(FirewallRule, "protocol")),
        in_interface=maybe(st.sampled_from(NAMES + PATTERNS)),
        out_interface=maybe(st.sampled_from(NAMES + PATTERNS)),
        source=maybe(st.sampled_from(PREFIXES)),
        destination=maybe(st.sampled_from(PREFIXES + GROUP_PREFIXES)),
        comment=maybe(comments()),
    )


def firewalls():
    return st.builds(FirewallConfig, manage=maybe(st.booleans()), rules=numbered(firewall_rules()))


def loggings():
    return st.builds(
        LoggingConfig,
        topics=some(leaf_of(LoggingConfig, "topics").type.words, 5),
        action=maybe(word_of(LoggingConfig, "action")),
        size=maybe(st.integers(10, 100_000)),
    )


def configs():
    """Any configuration the model can hold, canonical."""
    return st.builds(
        DeviceConfig,
        proxies=keyed(proxies(), lambda one: one.name, 2),
        vlans=keyed(vlans(), lambda one: one.name, 3),
        firewall=maybe(firewalls()),
        logging=maybe(loggings()),
    ).map(canonical)


@st.composite
def sound_proxies(draw, name, names):
    """One instance over `names`, the first of which is its upstream."""
    families = draw(st.sampled_from([(), ("ipv4",), ("ipv4", "ipv6"), ("ipv6",)]))
    interval = draw(st.integers(2_000, 600_000))
    versions = {family[-1] for family in families or ("ipv4",)}
    groups = [group for group in GROUPS if str(group.version) in versions]
    bridged = draw(st.booleans())
    entries = tuple(
        InterfaceConfig(
            interface=one,
            upstream=True if i == 0 else draw(st.sampled_from([None, False])),
            threshold=draw(maybe(st.integers(0, 1 if bridged else 255))),
            robustness=draw(maybe(st.integers(1, 255))),
            version=(version := draw(maybe(st.integers(1, 3)))),
            minimum_version=draw(maybe(st.integers(1, version or 3))),
            quick_leave=draw(maybe(word_of(InterfaceConfig, "quick_leave"))),
            static_groups=draw(some(groups).map(lambda found: tuple(StaticGroup(group=group, source="*") for group in found))) if i else (),
            alternative_subnets=() if bridged else draw(some(PREFIXES)),
            groups=draw(numbered(group_rules(), 2)),
        )
        for i, one in enumerate(names)
    )
    routes = draw(
        st.lists(
            st.builds(
                StaticRoute,
                source=st.just("*"),
                group=st.sampled_from(groups),
                downstream_interface=st.just(tuple(names[1:])),
                upstream_interface=st.sampled_from([None, names[0]]),
                join=maybe(st.booleans()),
            ),
            max_size=2 if len(names) > 1 else 0,
            unique_by=lambda route: route.group,
        )
    )
    return ProxyConfig(
        name=name,
        family=families,
        mode="bridged" if bridged else draw(st.sampled_from([None, "routed"])),
        bridge=f"bridge-{name}" if bridged else None,
        query_interval_ms=interval,
        query_response_interval_ms=draw(st.integers(100, interval - 1)),
        robustness=draw(maybe(st.integers(1, 255))),
        local_groups=draw(some(GROUP_PREFIXES)),
        groups=draw(numbered(group_rules(), 2)),
        interfaces=entries,
        mfc=tuple(routes),
    )


@st.composite
def sound_configs(draw):
    """A configuration that passes `semantic.check` without errors, canonical; warnings may remain."""
    pool = list(draw(st.permutations(NAMES)))
    instances = draw(st.integers(0, 2))
    proxies = []
    for i in range(instances):
        mine = pool[i * 3 : i * 3 + draw(st.integers(1, 3))]
        proxies.append(draw(sound_proxies(f"p{i}", mine)))
    rules = draw(numbered(firewall_rules()))
    sound_rules = tuple(rule for rule in rules if rule.chain == "forward" and rule.source is None and rule.protocol not in {"igmp", "icmpv6"})
    return canonical(
        DeviceConfig(
            proxies=tuple(proxies),
            vlans=tuple(VlanConfig(name=f"vlan{i}", interface="ether1", vlan_id=i) for i in draw(st.sets(st.integers(1, 4094), max_size=2))),
            firewall=FirewallConfig(manage=draw(maybe(st.booleans())), rules=sound_rules),
            logging=draw(maybe(loggings())),
        )
    )
