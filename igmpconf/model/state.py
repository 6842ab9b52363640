"""What is so: the operational state of a device, as `<get>`, `show` and doctor see it.

Rows are flat and carry the instance and interface they belong to, because people filter and join them as tables.
The same constructors as in `config.py` describe them, so that the YANG (`config false`) and XML come from here.
Times are whole seconds at the moment of the snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass

from igmpconf.model.leaf import Address, Bool, Duration, Enum, GroupOrAny, Integer, IpAddress, SourceAddress, Text, container, keyed_list, leaf, leaf_list

_COUNT = Integer(0, 2**64 - 1)
_SECONDS = Integer(0, 2**32 - 1)
_WORD = Text(r"[^\x00-\x1f]{0,255}", "text", yang_pattern="")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTimer:
    address: Address = leaf(IpAddress(), "source that is wanted", required=True)
    expires_s: int | None = leaf(_SECONDS, "left until it is forgotten unless reported again")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """Membership of one group on one downstream."""

    instance: str = leaf(_WORD, "proxy instance", required=True)
    interface: str = leaf(_WORD, "downstream interface", required=True)
    group: Address = leaf(IpAddress(), "the group", required=True)
    mode: str = leaf(Enum(("include", "exclude")), "filter mode (RFC 3376 6.2.1)", required=True)
    sources: tuple[SourceTimer, ...] = keyed_list(SourceTimer, "sources wanted", key=("address",))
    excluded: tuple[Address, ...] = leaf_list(IpAddress(), "sources blocked")
    version: int | None = leaf(Integer(1, 3), "oldest protocol version among the hosts (RFC 3376 7.3.2)")
    expires_s: int | None = leaf(_SECONDS, "group timer; absent in include mode and for static groups")
    uptime_s: int | None = leaf(_SECONDS, "since the first report")
    last_reporter: Address | None = leaf(IpAddress(), "host that reported last")
    hosts: int | None = leaf(_COUNT, "hosts known to listen")


@dataclass(frozen=True, slots=True, kw_only=True)
class MfcRow:
    """One entry of the multicast forwarding cache."""

    instance: str = leaf(_WORD, "proxy instance", required=True)
    family: str = leaf(Enum(("ipv4", "ipv6")), "address family", required=True)
    source: Address | str = leaf(SourceAddress(), "sender, '*' for any", required=True)
    group: Address | str = leaf(GroupOrAny(), "destination, '*' for any", required=True)
    upstream: str | None = leaf(_WORD, "interface it arrives on")
    downstreams: tuple[str, ...] = leaf_list(_WORD, "interfaces it leaves by")
    packets: int | None = leaf(_COUNT, "datagrams forwarded")
    bytes: int | None = leaf(_COUNT, "octets forwarded, and those that arrived on another interface: the kernel counts them together")
    wrong_if: int | None = leaf(_COUNT, "datagrams that arrived on another interface")
    kind: str = leaf(Enum(("static", "learned")), "who made it", required=True)
    state: str = leaf(Enum(("forwarding", "waiting-for-data", "withheld")), "what it does now", required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerierState:
    address: Address | None = leaf(IpAddress(), "the querier; absent while none is known")
    self_: bool = leaf(Bool(), "this device is the querier", required=True, name="self")
    since_s: int | None = leaf(_SECONDS, "since the last change")
    reason: str | None = leaf(_WORD, "why it changed last")
    robustness: int | None = leaf(Integer(1, 255), "robustness in force: ours, or adopted from the querier", source="RFC 3376 4.1.6")
    query_interval_ms: int | None = leaf(Duration(1_000, 31_744_000), "query interval in force: ours, or adopted from the querier", source="RFC 3376 4.1.7")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardQuerier:
    """Another router that sent general queries here."""

    address: Address = leaf(IpAddress(), "where they came from", required=True)
    queries: int = leaf(_COUNT, "general queries heard", required=True)
    last_s: int = leaf(_SECONDS, "since the last one", required=True)
    interval_ms: int | None = leaf(Duration(0, 31_744_000), "between them: as the querier says, else as observed", source="RFC 3376 4.1.7")
    shortest_gap_ms: int | None = leaf(Duration(0, 2**40), "between two of them, the shortest")
    longest_gap_ms: int | None = leaf(Duration(0, 2**40), "between two of them, the longest")
    lost: int | None = leaf(_COUNT, "those that did not come in between, by the gaps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    name: str = leaf(_WORD, "what is counted", required=True)
    value: int = leaf(_COUNT, "since the interface was first seen", required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceRow:
    """One interface of an instance, present or not."""

    instance: str = leaf(_WORD, "proxy instance", required=True)
    interface: str = leaf(_WORD, "interface", required=True)
    family: str = leaf(Enum(("ipv4", "ipv6")), "address family", required=True)
    role: str = leaf(Enum(("upstream", "downstream")), "role", required=True)
    enabled: bool = leaf(Bool(), "configured to take part", required=True)
    up: bool = leaf(Bool(), "exists and is up", required=True)
    addresses: tuple[str, ...] = leaf_list(_WORD, "addresses with prefix length")
    querier: QuerierState | None = container(QuerierState, "who asks for memberships here")
    heard_queriers: tuple[HeardQuerier, ...] = keyed_list(HeardQuerier, "other routers that ask here", key=("address",), name="heard-querier")
    version: int | None = leaf(Integer(1, 3), "protocol version in force")
    counters: tuple[Counter, ...] = keyed_list(Counter, "counters", key=("name",))


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRow:
    """What the proxy told the upstream: one record of the membership database (RFC 4605 4.1)."""

    instance: str = leaf(_WORD, "proxy instance", required=True)
    interface: str = leaf(_WORD, "upstream interface", required=True)
    group: Address = leaf(IpAddress(), "the group", required=True)
    mode: str = leaf(Enum(("include", "exclude")), "filter mode", required=True)
    sources: tuple[Address, ...] = leaf_list(IpAddress(), "sources included or excluded")
    version: int | None = leaf(Integer(1, 3), "protocol version it was reported with")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    """One tracked host of a group (RFC 6636 3)."""

    instance: str = leaf(_WORD, "proxy instance", required=True)
    interface: str = leaf(_WORD, "downstream interface", required=True)
    group: Address = leaf(IpAddress(), "the group", required=True)
    host: Address = leaf(IpAddress(), "the host", required=True)
    mode: str = leaf(Enum(("include", "exclude")), "filter mode", required=True)
    sources: tuple[Address, ...] = leaf_list(IpAddress(), "sources included or excluded")
    expires_s: int | None = leaf(_SECONDS, "left until the host is forgotten")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One sender seen on one interface."""

    instance: str | None = leaf(_WORD, "proxy instance")
    interface: str = leaf(_WORD, "where it arrives", required=True)
    source: Address = leaf(IpAddress(), "the sender", required=True)
    group: Address = leaf(IpAddress(), "the destination", required=True)
    packets: int | None = leaf(_COUNT, "datagrams")
    bytes: int | None = leaf(_COUNT, "octets")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRow:
    """One commit of the history."""

    number: int = leaf(_COUNT, "commit number", required=True)
    time: str = leaf(_WORD, "when, RFC 3339", required=True)
    user: str | None = leaf(_WORD, "who")
    plan: str | None = leaf(_WORD, "plan that was applied")
    comment: str | None = leaf(_WORD, "what for")
    digest: str | None = leaf(_WORD, "running configuration after it")
    event: str | None = leaf(_WORD, "commit, confirmed, confirm, rollback-timeout, rollback-cancel, rollback-session, rollback-restart")
    diff: str | None = leaf(Text(r"(?s:.{0,1000000})", "text", yang_pattern=""), "what changed, one line a change")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviationRow:
    """Something beside the engines that somebody changed by hand, or that cannot be had."""

    kind: str = leaf(Enum(("firewall", "vlan", "setting")), "what it belongs to", required=True)
    name: str = leaf(_WORD, "rule with its chain, interface, or system setting", required=True)
    expected: str | None = leaf(_WORD, "as the configuration wants it")
    found: str | None = leaf(_WORD, "as it is")
    since_s: int | None = leaf(_SECONDS, "since it was noticed")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    version: str | None = leaf(_WORD, "igmpconf version")
    pid: int | None = leaf(_COUNT, "process of the engine")
    uptime_s: int | None = leaf(_SECONDS, "since the engine started")
    running_digest: str | None = leaf(_WORD, "digest of the running configuration")
    pending_persist_id: str | None = leaf(_WORD, "token of the confirmed commit that waits for its confirmation")
    pending_s: int | None = leaf(_SECONDS, "left until the pending commit undoes itself")
    sources: str | None = leaf(_WORD, "whether senders are watched, or why not")
    interfaces: tuple[str, ...] = leaf_list(_WORD, "network interfaces that the device has, taking part or not")
    addresses: tuple[str, ...] = leaf_list(_WORD, "addresses of these interfaces, each as INTERFACE ADDRESS/LENGTH")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """The operational state of one device."""

    agent: AgentState | None = container(AgentState, "the agent itself")
    interfaces: tuple[InterfaceRow, ...] = keyed_list(InterfaceRow, "interfaces", key=("instance", "interface", "family"))
    groups: tuple[GroupRow, ...] = keyed_list(GroupRow, "memberships", key=("instance", "interface", "group"))
    upstream: tuple[UpstreamRow, ...] = keyed_list(UpstreamRow, "memberships held upstream", key=("instance", "interface", "group"))
    mfc: tuple[MfcRow, ...] = keyed_list(MfcRow, "forwarding entries", key=("instance", "family", "source", "group"))
    hosts: tuple[HostRow, ...] = keyed_list(HostRow, "tracked hosts", key=("instance", "interface", "group", "host"))
    sources: tuple[SourceRow, ...] = keyed_list(SourceRow, "senders", key=("interface", "source", "group"))
    deviations: tuple[DeviationRow, ...] = keyed_list(DeviationRow, "what beside the engines is not as configured", key=("kind", "name"))
    history: tuple[CommitRow, ...] = keyed_list(CommitRow, "the last commits, newest last", key=("number",))


def counters(values: dict[str, int]) -> tuple[Counter, ...]:
    """Counter entries of a name -> value mapping, sorted, zeros included."""
    return tuple(Counter(name=name, value=values[name]) for name in sorted(values))
