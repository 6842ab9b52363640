"""What a device finds out about itself when a doctor asks: facts of the kernel, and what passed while it looked.

An answer of an operation and no part of the state, because looking takes time and changes the packet filter for that
time.  Described like the state (`state.py`), so that YANG and XML come from here too.  It judges nothing: what is
wrong is said by `observe/doctor.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from igmpconf.model.leaf import Address, Bool, Duration, Enum, Integer, IpAddress, Text, keyed_list, leaf, leaf_list

_COUNT = Integer(0, 2**64 - 1)
_WORD = Text(r"[^\x00-\x1f]{0,255}", "text", yang_pattern="")
_LINE = Text(r"[^\x00-\x1f]{0,1000}", "text", yang_pattern="")
_FAMILY = Enum(("ipv4", "ipv6"))
_OCTET = Integer(0, 255)

LONGEST_MS = 60_000  # a device looks at most this long
DEFAULT_MS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelOption:
    """A build option of the kernel that the running configuration needs."""

    name: str = leaf(_WORD, "as the kernel's configuration calls it", required=True)
    present: bool = leaf(Bool(), "the kernel has it, built in or as a module", required=True)
    needed_for: str = leaf(_WORD, "what needs it", required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketHolder:
    """Another program with a multicast routing socket, or at least a raw socket of the membership protocol."""

    family: str = leaf(_FAMILY, "address family", required=True)
    pid: int = leaf(_COUNT, "its process", required=True)
    program: str = leaf(_WORD, "its name", required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFact:
    """One kernel table that the running configuration wants."""

    instance: str = leaf(_WORD, "proxy instance", required=True)
    family: str = leaf(_FAMILY, "address family", required=True)
    in_force: bool = leaf(Bool(), "the instance runs", required=True)
    interfaces: int | None = leaf(_COUNT, "multicast interfaces it has; the kernel allows 32")
    waiting: tuple[str, ...] = leaf_list(_WORD, "interfaces that are up and did not get in")


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeGroup:
    """A group that a snooping bridge knows."""

    group: Address = leaf(IpAddress(), "the group", required=True)
    ports: tuple[str, ...] = leaf_list(_WORD, "ports behind which somebody listens")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFact:
    """One interface there is."""

    interface: str = leaf(_WORD, "its name", required=True)
    kind: str | None = leaf(_WORD, "kind of virtual interface; absent for a physical one")
    administratively_up: bool = leaf(Bool(), "switched on", required=True)
    carrier: bool = leaf(Bool(), "has a link", required=True)
    bridge: str | None = leaf(_WORD, "the bridge it is a port of")
    ports: tuple[str, ...] = leaf_list(_WORD, "ports of this bridge")
    snooping: bool | None = leaf(Bool(), "this bridge learns who listens behind which port; absent: the kernel cannot")
    router: int | None = leaf(_OCTET, "what this bridge makes of itself as a multicast router: 0 never, 1 by queries, 2 always")
    querier: Address | None = leaf(IpAddress(), "IPv4 querier that this bridge knows")
    querier_ipv6: Address | None = leaf(IpAddress(), "IPv6 querier that this bridge knows")
    membership_interval_ms: int | None = leaf(Duration(0, 2**40), "this bridge forgets a listener that is silent so long")
    querier_interval_ms: int | None = leaf(Duration(0, 2**40), "this bridge forgets a querier that is silent so long")
    reverse_path_filter: int | None = leaf(_OCTET, "in force: 0 off, 1 strict, 2 loose")
    groups: tuple[BridgeGroup, ...] = keyed_list(BridgeGroup, "groups that this bridge knows", key=("group",))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFact:
    """Datagrams of one sender to one group that arrived while we looked, counted by the kernel."""

    interface: str = leaf(_WORD, "where they arrived", required=True)
    source: Address = leaf(IpAddress(), "the sender", required=True)
    group: Address = leaf(IpAddress(), "the destination", required=True)
    lowest_ttl: int = leaf(_OCTET, "TTL or hop limit on arrival, the lowest", required=True)
    highest_ttl: int = leaf(_OCTET, "TTL or hop limit on arrival, the highest", required=True)
    packets: int = leaf(_COUNT, "datagrams", required=True)
    route: str | None = leaf(_WORD, "interface by which the sender is reached; absent: no route to it, or it is an address of this device")
    is_own: bool = leaf(Bool(), "the sender's address is one of this device, or one that nobody may send from", required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartureFact:
    """Datagrams of one sender to one group that left while we looked."""

    interface: str = leaf(_WORD, "where they left", required=True)
    source: Address = leaf(IpAddress(), "the sender", required=True)
    group: Address = leaf(IpAddress(), "the destination", required=True)
    packets: int = leaf(_COUNT, "datagrams", required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFact:
    """IGMP or MLD messages of one kind, of one sender, that arrived while we looked."""

    interface: str = leaf(_WORD, "where they arrived", required=True)
    sender: Address = leaf(IpAddress(), "who sent them", required=True)
    kind: str = leaf(Enum(("query", "report", "leave", "malformed")), "what they are", required=True)
    packets: int = leaf(_COUNT, "messages", required=True)
    groups: tuple[Address, ...] = leaf_list(IpAddress(), "groups they speak of, some at least")


@dataclass(frozen=True, slots=True, kw_only=True)
class DropFact:
    """Packets of ours that the packet filter dropped while we looked, or that its rules leave no way."""

    hook: str = leaf(Enum(("prerouting", "input", "forward", "output", "postrouting")), "where on its way", required=True)
    what: str = leaf(Enum(("membership", "stream")), "IGMP and MLD messages, or datagrams of a stream", required=True)
    family: str = leaf(_FAMILY, "address family", required=True)
    arrives: str = leaf(_WORD, "interface it came in by, '' for what this device sends", required=True)
    leaves: str = leaf(_WORD, "interface it was to leave by, '' for what is for this device", required=True)
    group: str = leaf(_WORD, "destination, '*' for any group", required=True)
    chain: str = leaf(_WORD, "family, table and chain of the packet filter", required=True)
    rule: str = leaf(_LINE, "the rule as nft prints it, or the policy of the chain", required=True)
    packets: int = leaf(_COUNT, "packets that were seen to be dropped; of many, a sample", required=True)
    by_the_rules: bool = leaf(Bool(), "the rules alone say that such packets are dropped, seen or not", required=True)
    counter_before: int | None = leaf(_COUNT, "counter of the rule, packets, when we began")
    counter_after: int | None = leaf(_COUNT, "counter of the rule, packets, when we ended")


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found out."""

    window_ms: int = leaf(Integer(0, LONGEST_MS), "how long we looked", required=True)
    unmeasured: tuple[str, ...] = leaf_list(_LINE, "what could not be looked at, and why")
    streams_left_out: bool | None = leaf(Bool(), "more streams passed than are told; those of one direction are 4,096 at most in each family")
    reverse_path_drops: int | None = leaf(_COUNT, "packets that the reverse path filter dropped while we looked")
    options: tuple[KernelOption, ...] = keyed_list(KernelOption, "options of the kernel", key=("name",), name="option")
    holders: tuple[SocketHolder, ...] = keyed_list(SocketHolder, "other programs", key=("family", "pid"), name="holder")
    tables: tuple[TableFact, ...] = keyed_list(TableFact, "tables", key=("instance", "family"), name="table")
    links: tuple[LinkFact, ...] = keyed_list(LinkFact, "interfaces", key=("interface",), name="link")
    streams: tuple[StreamFact, ...] = keyed_list(StreamFact, "streams that arrived", key=("interface", "source", "group"), name="stream")
    departures: tuple[DepartureFact, ...] = keyed_list(DepartureFact, "streams that left", key=("interface", "source", "group"), name="departure")
    messages: tuple[MessageFact, ...] = keyed_list(MessageFact, "membership messages that arrived", key=("interface", "sender", "kind"), name="message")
    drops: tuple[DropFact, ...] = keyed_list(
        DropFact, "what the packet filter drops", key=("hook", "what", "family", "arrives", "leaves", "group", "chain", "rule"), name="drop"
    )
