"""What is wanted: the only place that says a leaf's name, type, range, unit, default, meaning and source.

Absent is None (or an empty tuple), so that what the user wrote and what merely applies by default stay apart
(RFC 6243 "explicit").  Defaults are resolved where they are used (`engine/params.py`), from the nodes here.
Order and uniqueness of keyed lists are established by `model/canon.py`, never by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from igmpconf.model.access import Access, access_field
from igmpconf.model.leaf import (
    ANY_SOURCE,
    Address,
    Bool,
    Duration,
    Enum,
    GroupAddress,
    Integer,
    IpAddress,
    IpPrefix,
    Prefix,
    SourceAddress,
    Text,
    container,
    identifier,
    interface_name,
    interface_pattern,
    keyed_list,
    leaf,
    leaf_list,
    node,
)

MAX_INTERFACES = 32  # MAXVIFS of linux/mroute.h, and MAXMIFS of linux/mroute6.h: per table and family

# The largest value that QQIC can say is 31744 s (RFC 3376 4.1.7), the largest Max Resp Code 3174.4 s (4.1.1).
_QUERY_INTERVAL = Duration(1_000, 31_744_000)
_QUERY_RESPONSE_INTERVAL = Duration(100, 3_174_400)
_LAST_MEMBER_INTERVAL = Duration(100, 1_023_000)
_QUICK_LEAVE = Enum(("off", "on", "auto"), true_is="on", false_is="off")
_COMMENT = Text(r"[^\x00-\x08\x0b\x0c\x0e-\x1f]{1,255}", "text of 1..255 characters", yang_pattern=r"[\s\S]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRule:
    """One row of an ordered allow/deny list over groups; the first row that matches decides."""

    sequence: int = leaf(Integer(1, 65535), "place in the list; filled by position when absent", required=True)
    action: str = leaf(Enum(("allow", "deny")), "what happens to a report that matches", required=True)
    group: tuple[Prefix, ...] = leaf_list(IpPrefix(multicast=True), "groups the rule speaks of; absent: every group")
    source: tuple[Prefix, ...] = leaf_list(IpPrefix(), "sources the rule speaks of; absent: every source, and reports without sources")
    interface: tuple[str, ...] = leaf_list(interface_pattern(), "downstream interfaces the rule speaks of; absent: all")


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticGroup:
    """A membership that an interface holds without any host asking for it."""

    group: Address = leaf(GroupAddress(), "the group", required=True)
    source: Address | str = leaf(SourceAddress(), "the only source wanted, or '*' for any", required=True, default=ANY_SOURCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceConfig:
    """One interface of a proxy instance: the upstream, or one of the downstreams."""

    interface: str = leaf(interface_pattern(), "name or pattern; need not exist yet: it is followed as it comes and goes", required=True)
    upstream: bool | None = leaf(Bool(), "toward the sources; exactly one interface per instance", default=False, source="RFC 4605 3")
    enabled: bool | None = leaf(Bool(), "takes part at all", default=True)
    threshold: int | None = leaf(
        Integer(0, 255), "minimum TTL a datagram must arrive with to be forwarded out of here", default=1, source="ip_mroute: ttl > max(1, N-1)"
    )
    alternative_subnets: tuple[Prefix, ...] = leaf_list(
        IpPrefix(), "downstream: further subnets whose reports are accepted; upstream: when set, the only foreign sources forwarded"
    )
    query_interval_ms: int | None = leaf(_QUERY_INTERVAL, "between general queries", inherits=True, source="RFC 3376 8.2")
    query_response_interval_ms: int | None = leaf(
        _QUERY_RESPONSE_INTERVAL, "time hosts may take to answer a general query; less than query-interval", inherits=True, source="RFC 3376 8.3"
    )
    last_member_interval_ms: int | None = leaf(_LAST_MEMBER_INTERVAL, "between the queries that follow a leave", inherits=True, source="RFC 3376 8.8")
    robustness: int | None = leaf(Integer(1, 255), "losses in a row that do no harm, plus one; 1 warns", inherits=True, source="RFC 3376 8.1")
    version: int | None = leaf(Integer(1, 3), "IGMP version spoken", default=3, source="RFC 4605 4.1")
    mld_version: int | None = leaf(Integer(1, 2), "MLD version spoken", default=2, source="RFC 4605 4.1")
    minimum_version: int | None = leaf(
        Integer(1, 3), "oldest IGMP version heard; messages of older ones are ignored, and none makes us speak it", default=1, source="RFC 3376 9, RFC 9776 7.3"
    )
    minimum_mld_version: int | None = leaf(
        Integer(1, 2), "oldest MLD version heard; messages of older ones are ignored, and none makes us speak it", default=1, source="RFC 3810 10"
    )
    quick_leave: str | None = leaf(
        _QUICK_LEAVE, "end a stream without asking for other listeners: off, on, or auto (host tracking decides)", inherits=True, source="RFC 6636 3, RFC 8652"
    )
    lite_exclude_filter: bool | None = leaf(
        Bool(), "keep no lists of excluded sources: who excludes some gets all (lightweight IGMPv3, MLDv2)", default=False, source="RFC 5790 5, RFC 8652"
    )
    query_destination: str | None = leaf(
        Enum(("group", "all-hosts")),
        "where queries about one group are sent: to it, or to all hosts, those that sleep included",
        default="group",
        source="RFC 6636 5",
    )
    require_router_alert: bool | None = leaf(Bool(), "refuse IGMP messages without the Router Alert option", default=False, source="RFC 3376 9.1")
    max_groups: int | None = leaf(Integer(1, 1_000_000), "groups this interface may hold; new ones beyond it are refused")
    max_sources_per_group: int | None = leaf(Integer(1, 100_000), "sources one group may hold; new ones beyond it are refused")
    groups: tuple[GroupRule, ...] = keyed_list(
        GroupRule, "which groups may be joined here, before the instance's own rules", key=("sequence",), user_ordered=True, numbered="sequence"
    )
    static_groups: tuple[StaticGroup, ...] = keyed_list(StaticGroup, "memberships held without a host", key=("group", "source"), shorthand="group")
    source_address: Address | None = leaf(
        IpAddress(), "source of the messages we send here, in place of the interface's own", source="RFC 9398 sender-source-address"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticRoute:
    """A permanent entry of the multicast forwarding cache; wins over learned state for its source and group."""

    source: Address | str = leaf(SourceAddress(), "sender, or '*' for any", required=True, default=ANY_SOURCE)
    group: Address = leaf(GroupAddress(), "destination", required=True)
    downstream_interface: tuple[str, ...] = leaf_list(interface_name(), "where it is forwarded to")
    upstream_interface: str | None = leaf(interface_name(), "where it arrives; absent: the instance's upstream")
    join: bool | None = leaf(Bool(), "also hold the membership upstream", default=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """One proxy instance, with its own interfaces and its own kernel table."""

    name: str = leaf(identifier(), "the instance", required=True, default="default")
    enabled: bool | None = leaf(Bool(), "global switch; no leaves upstream politely and removes the kernel state", default=True)
    family: tuple[str, ...] = leaf_list(Enum(("ipv4", "ipv6")), "IGMP, MLD or both", default=("ipv4",))
    mode: str | None = leaf(Enum(("routed", "bridged")), "routed: between interfaces; bridged: among the ports of one bridge", default="routed")
    bridge: str | None = leaf(interface_name(), "bridged only: the bridge whose ports the interfaces are")
    query_interval_ms: int | None = leaf(_QUERY_INTERVAL, "default of the interfaces", default=125_000, source="RFC 3376 8.2")
    query_response_interval_ms: int | None = leaf(_QUERY_RESPONSE_INTERVAL, "default of the interfaces", default=10_000, source="RFC 3376 8.3")
    last_member_interval_ms: int | None = leaf(_LAST_MEMBER_INTERVAL, "default of the interfaces", default=1_000, source="RFC 3376 8.8")
    robustness: int | None = leaf(Integer(1, 255), "default of the interfaces", default=2, source="RFC 3376 8.1")
    quick_leave: str | None = leaf(_QUICK_LEAVE, "default of the interfaces", default="auto", source="RFC 6636 3")
    forward_when_non_querier: bool | None = leaf(Bool(), "forward onto a downstream whose querier is another router", default=False, source="RFC 4605 3")
    local_groups: tuple[Prefix, ...] = leaf_list(
        IpPrefix(multicast=True),
        "proxied among the downstreams, never reported or forwarded upstream",
        default=(ip_network("239.255.255.250/32"), *(ip_network(f"ff0{scope}::c/128") for scope in "23458e")),  # SSDP
    )
    ssm_range: tuple[Prefix, ...] = leaf_list(
        IpPrefix(multicast=True),
        "source-specific groups; in ff30::/12 only those with the next 16 bits zero (ff3x::/32) count",
        default=(ip_network("232.0.0.0/8"), ip_network("ff30::/12")),
        source="RFC 4607, RFC 3306",
    )
    groups: tuple[GroupRule, ...] = keyed_list(
        GroupRule, "which groups may be joined at all; first match wins, no match allows", key=("sequence",), user_ordered=True, numbered="sequence"
    )
    interfaces: tuple[InterfaceConfig, ...] = keyed_list(
        InterfaceConfig, "the interfaces that take part", key=("interface",), shorthand="interface", max_elements=MAX_INTERFACES
    )
    mfc: tuple[StaticRoute, ...] = keyed_list(StaticRoute, "permanent forwarding entries", key=("source", "group"))


@dataclass(frozen=True, slots=True, kw_only=True)
class VlanConfig:
    """An 802.1Q interface that we create, own and remove."""

    name: str = leaf(interface_name(), "the interface to create", required=True)
    interface: str = leaf(interface_name(), "its parent", required=True)
    vlan_id: int = leaf(Integer(1, 4094), "802.1Q VLAN id", required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirewallRule:
    """One rule that we place before the drops of the chain."""

    sequence: int = leaf(Integer(1, 65535), "place in the list; filled by position when absent", required=True)
    chain: str = leaf(Enum(("input", "forward")), "packets for this device, or passing through it", required=True)
    action: str = leaf(Enum(("accept", "drop")), "what happens to a packet that matches", required=True)
    protocol: str | None = leaf(Enum(("igmp", "icmpv6", "udp", "tcp")), "absent: any")
    in_interface: str | None = leaf(interface_pattern(), "absent: any")
    out_interface: str | None = leaf(interface_pattern(), "forward only; absent: any")
    source: Prefix | None = leaf(IpPrefix(), "absent: any")
    destination: Prefix | None = leaf(IpPrefix(), "absent: any")
    comment: str | None = leaf(_COMMENT, "kept with the rule")


@dataclass(frozen=True, slots=True, kw_only=True)
class FirewallConfig:
    manage: bool | None = leaf(Bool(), "keep the accept rules that IGMP, MLD and multicast UDP need before the drops", default=False)
    rules: tuple[FirewallRule, ...] = keyed_list(FirewallRule, "further rules, in order", key=("sequence",), user_ordered=True, numbered="sequence")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingConfig:
    topics: tuple[str, ...] = leaf_list(Enum(("igmp-proxy", "debug", "netconf", "firewall", "packet")), "what is logged", default=("igmp-proxy",))
    action: str | None = leaf(Enum(("memory", "journal")), "a ring in memory, or the system journal as well", default="memory")
    size: int | None = leaf(Integer(10, 100_000), "lines the ring in memory holds", default=1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """Everything we want of one device."""

    proxies: tuple[ProxyConfig, ...] = keyed_list(ProxyConfig, "proxy instances", key=("name",), name="igmp-proxy")
    vlans: tuple[VlanConfig, ...] = keyed_list(VlanConfig, "VLAN interfaces that we own", key=("name",))
    firewall: FirewallConfig | None = container(FirewallConfig, "packet filter rules that the streams need")
    logging: LoggingConfig | None = container(LoggingConfig, "what is logged, and where")
    access: Access | None = access_field()


def default_of(cls: Any, name: str) -> Any:
    """The default of a leaf by its YAML name, as a canonical value: `default_of(ProxyConfig, "robustness")` is 2."""
    found = node(cls, name)
    if found is None:
        raise KeyError(f"{cls.__name__} has no leaf {name}")
    return found.default
