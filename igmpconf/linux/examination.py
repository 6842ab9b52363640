"""What a device finds out about itself for a doctor: `examine` puts together what the files beside it read.

Bounded in everything: the time is the caller's, sets and lists have limits, packets are sampled.  Blocks for the time
of the window, so it is for a thread; `cancelled` ends it early.  It judges nothing.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from igmpconf.engine.family import IGMP, MLD
from igmpconf.linux.heard import Heard
from igmpconf.linux.linkfacts import LinkState, ports_of, read_links
from igmpconf.linux.netlink import RTM_GETLINK, RTM_GETROUTE, RTNL_FAMILY_IPMR, Requests, attribute, attributes
from igmpconf.linux.nft import Chain, ChainKey, Ruleset, parsed
from igmpconf.linux.options import build_configuration, needed_options
from igmpconf.linux.refusal import raw_socket_holders
from igmpconf.linux.sysctl import RP_FILTER_ALL, Sysctls, rp_filter
from igmpconf.linux.verdict import Packet, dropping
from igmpconf.linux.window import Arrived, Dropped, Window, nft
from igmpconf.model.config import DeviceConfig, ProxyConfig, default_of
from igmpconf.model.diagnosis import (
    BridgeGroup,
    DepartureFact,
    Diagnosis,
    DropFact,
    LinkFact,
    SocketHolder,
    StreamFact,
    TableFact,
)
from igmpconf.model.effective import interface_for
from igmpconf.model.leaf import Address, Prefix

MOST_ROWS = 8_192  # of streams, of departures, of a bridge's groups
_MOST_JOINED = 200  # groups whose way through the packet filter is followed one by one
_LINE_CHARACTERS = 1_000
_ROUTE = 12  # octets of struct rtmsg
_RTA_DST, _RTA_OIF = 1, 4
_LINK = 16  # octets of struct ifinfomsg
_IFLA_AF_SPEC, _IPMRA_TABLE_VIFS, _IPMRA_VIFA_IFINDEX = 26, 6, 1
_RTN_LOCAL = 2
_ANY = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}
_GROUPS = {4: ipaddress.ip_network("224.0.0.0/4"), 6: ipaddress.ip_network("ff00::/8")}
_FAMILIES = {"ipv4": 4, "ipv6": 6}
_NAMES = {4: "ipv4", 6: "ipv6"}
_COUNTED = re.compile(r" packets [0-9]+ bytes [0-9]+")  # told beside the rule
_UDP, _IGMP, _ICMPV6, _HOP_BY_HOP = 17, 2, 58, 0
_MLD_QUERY, _MLD_REPORT = 130, 143


@dataclass(frozen=True, slots=True)
class Question:
    """`joined` are (upstream or downstream interface, group); `tables` what the caller knows of its own."""

    config: DeviceConfig
    window_ms: int
    tables: tuple[TableFact, ...] = ()
    joined: frozenset[tuple[str, Address]] = frozenset()


def examine(question: Question, cancelled: Event) -> Diagnosis:
    """Look for as long as asked, and tell.  Raises OSError when the kernel does not even tell its interfaces."""
    requests = Requests()
    window, heard = Window(), Heard(question.window_ms)
    try:
        links = read_links(requests)
        parts = _parts(question.config, links)
        rules_before, why_not = _rules()
        before = _reverse_path_drops()
        window.open()
        try:
            window.read_for(question.window_ms / 1000, heard.sockets(), cancelled)
            arrived, left = window.flows()
        finally:
            window.close()
            heard.close()
        after = _reverse_path_drops()
        rules_after, _ = _rules()
        bridges = read_links(requests)  # as it is after the time: a querier may have spoken meanwhile
        ours = {one.name for one in parts}
        unmeasured = [why for why in (window.why_not or why_not, heard.why_not, _legacy()) if why is not None]
        return Diagnosis(
            window_ms=question.window_ms,
            unmeasured=tuple(dict.fromkeys(unmeasured)),
            streams_left_out=window.is_full or len(arrived) > MOST_ROWS,
            reverse_path_drops=after - before if before is not None and after is not None else None,
            options=tuple(needed_options(question.config, links, build_configuration())),
            holders=tuple(_holders(question.tables)),
            tables=tuple(_table_facts(requests, question.tables, parts, links)),
            links=tuple(_link_facts(ours, bridges, links)),
            streams=tuple(_stream_facts(requests, arrived, ours, links)),
            departures=tuple(_departure_facts(left, ours)),
            messages=heard.facts({name for name, link in links.items() if link.master is not None}),
            drops=_drop_facts(parts, question.joined, rules_before, rules_after, window.drops, {link.ifindex: name for name, link in links.items()}, requests),
        )
    finally:
        requests.close()


# who takes part


@dataclass(frozen=True, slots=True)
class _Part:
    """One real interface of a running instance."""

    name: str
    is_upstream: bool
    versions: frozenset[int]
    instance: str


def _parts(config: DeviceConfig, links: Mapping[str, LinkState]) -> list[_Part]:
    return [
        _Part(name, bool(entry.upstream), frozenset(_FAMILIES[family] for family in _families(proxy)), proxy.name)
        for proxy in config.proxies
        if proxy.enabled is not False and proxy.mode != "bridged"  # which forwards below IP: its ports have none of this
        for name in sorted(links)
        if (entry := interface_for(proxy, name)) is not None and entry.enabled is not False
    ]


def _families(proxy: ProxyConfig) -> tuple[str, ...]:
    families: tuple[str, ...] = proxy.family or default_of(ProxyConfig, "family")
    return families


def _holders(tables: Iterable[TableFact]) -> Iterator[SocketHolder]:
    """Programs that may be what keeps us from a table; with our own tables in force nobody is in the way."""
    for family in sorted({one.family for one in tables if not one.in_force}):
        for pid, program in raw_socket_holders(IGMP if family == "ipv4" else MLD):
            if pid != os.getppid():  # our keeper
                yield SocketHolder(family=family, pid=pid, program=program[:255])


def _table_facts(requests: Requests, tables: Iterable[TableFact], parts: Sequence[_Part], links: Mapping[str, LinkState]) -> Iterator[TableFact]:
    """With the multicast interfaces that each has, and those that are up and should be among them."""
    inside = {"ipv4": _vifs(requests, links), "ipv6": _mifs()}
    for one in tables:
        known = inside[one.family]
        if not one.in_force or known is None or (one.family == "ipv6" and sum(other.family == "ipv6" for other in tables) > 1):
            yield one  # of IPv6 the kernel tells its default table only
            continue
        mine = {part.name for part in parts if part.instance == one.instance and links[part.name].is_up and links[part.name].has_carrier}
        yield replace(one, interfaces=len(mine & known), waiting=tuple(sorted(mine - known)))


def _vifs(requests: Requests, links: Mapping[str, LinkState]) -> set[str] | None:
    """Interfaces that are vifs of any table, by a dump of RTNL_FAMILY_IPMR (Linux 4.13)."""
    names = {link.ifindex: name for name, link in links.items()}
    found: set[str] = set()
    try:
        for _, body in requests.dump(RTM_GETLINK, bytes((RTNL_FAMILY_IPMR,)).ljust(_LINK, b"\0")):
            spec = dict(attributes(dict(attributes(body, _LINK)).get(_IFLA_AF_SPEC, b"")))
            for _, one in attributes(spec.get(_IPMRA_TABLE_VIFS, b"")):
                index = int.from_bytes(dict(attributes(one)).get(_IPMRA_VIFA_IFINDEX, b""), sys.byteorder)
                found.add(names.get(index, ""))
    except OSError:
        return None
    return found


def _mifs() -> set[str] | None:
    try:
        lines = Path("/proc/self/net/ip6_mr_vif").read_text(encoding="utf-8", errors="surrogateescape").splitlines()[1:]
    except OSError:
        return None
    return {fields[1] for line in lines if len(fields := line.split()) > 1}


# interfaces


def _link_facts(names: Iterable[str], links: Mapping[str, LinkState], before: Mapping[str, LinkState]) -> Iterator[LinkFact]:
    """Groups of a bridge are those that it knew `before` as well: one that came meanwhile may still be on its way to us."""
    settings = Sysctls()
    of_all = settings.read(RP_FILTER_ALL) or 0
    by_index = {link.ifindex: link for link in links.values()}
    for name in sorted(set(names) & links.keys()):
        link = links[name]
        master = by_index.get(link.master) if link.master is not None else None
        bridge = link.bridge
        own = settings.read(rp_filter(name))
        fact = LinkFact(
            interface=name,
            kind=link.kind,
            administratively_up=link.is_up,
            carrier=link.has_carrier,
            bridge=master.name if master is not None and master.kind == "bridge" else None,
            reverse_path_filter=max(of_all, own) if own is not None else None,
        )
        if bridge is not None:
            former = before.get(name)
            lasting = bridge.groups.keys() & former.bridge.groups.keys() if former is not None and former.bridge is not None else set()
            fact = replace(
                fact,
                ports=ports_of(links, name),
                snooping=bridge.snooping,
                router=bridge.router,
                querier=bridge.querier_ipv4,
                querier_ipv6=bridge.querier_ipv6,
                membership_interval_ms=bridge.membership_interval_ms,
                querier_interval_ms=bridge.querier_interval_ms,
                groups=tuple(
                    BridgeGroup(group=group, ports=tuple(bridge.groups[group])) for group in sorted(lasting, key=str)[:MOST_ROWS] if bridge.groups[group]
                ),
            )
        yield fact


def _reverse_path_drops() -> int | None:
    """TcpExt IPReversePathFilter of this network namespace."""
    try:
        lines = Path("/proc/self/net/netstat").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        if names.startswith("TcpExt:"):
            value = dict(zip(names.split(), values.split(), strict=False)).get("IPReversePathFilter")
            return int(value) if value is not None else None
    return None


def _legacy() -> str | None:
    """The older packet filter beside nftables, which cannot be followed."""
    for path in ("/proc/self/net/ip_tables_names", "/proc/self/net/ip6_tables_names"):
        try:
            if Path(path).read_text(encoding="ascii", errors="replace").strip():
                return "rules of iptables-legacy: they are there, and only those of nftables are followed"
        except OSError:
            continue
    return None


# streams


def _stream_facts(requests: Requests, arrived: Iterable[Arrived], ours: set[str], links: Mapping[str, LinkState]) -> Iterator[StreamFact]:
    together: dict[tuple[str, str, str], tuple[int, int, int]] = {}
    for one in arrived:
        key = (one.interface, one.source, one.group)
        if one.interface in ours and (key in together or len(together) < MOST_ROWS):
            low, high, packets = together.get(key, (255, 0, 0))
            together[key] = (min(low, one.ttl), max(high, one.ttl), packets + one.packets)
    names = {link.ifindex: name for name, link in links.items()}
    routes: dict[str, tuple[str | None, bool]] = {}
    for (interface, source, group), (low, high, packets) in sorted(together.items()):
        if source not in routes:
            routes[source] = _route(requests, ipaddress.ip_address(source), names)
        route, is_own = routes[source]
        yield StreamFact(
            interface=interface,
            source=ipaddress.ip_address(source),
            group=ipaddress.ip_address(group),
            lowest_ttl=low,
            highest_ttl=high,
            packets=packets,
            route=route,
            is_own=is_own,
        )


def _departure_facts(left: Iterable[Arrived], ours: set[str]) -> Iterator[DepartureFact]:
    for one in sorted(left, key=lambda one: (one.interface, one.source, one.group))[:MOST_ROWS]:
        if one.interface in ours:
            yield DepartureFact(interface=one.interface, source=ipaddress.ip_address(one.source), group=ipaddress.ip_address(one.group), packets=one.packets)


def _route(requests: Requests, source: Address, names: Mapping[int, str]) -> tuple[str | None, bool]:
    """The interface by which `source` is reached, and whether it is an address that nobody else may send from."""
    if source.is_loopback or source.is_multicast or source.is_unspecified or (source.version == 4 and source.is_reserved):
        return None, True
    body = bytes((2 if source.version == 4 else 10, source.max_prefixlen)).ljust(_ROUTE, b"\0") + attribute(_RTA_DST, source.packed)
    try:
        answer = requests.ask(RTM_GETROUTE, body)
    except OSError:
        return None, False
    if answer[7] == _RTN_LOCAL:
        return None, True
    out = dict(attributes(answer, _ROUTE)).get(_RTA_OIF, b"")
    return names.get(int.from_bytes(out, sys.byteorder)), False


# the packet filter


@dataclass(frozen=True, slots=True)
class _Rules:
    chains: Ruleset
    counters: dict[tuple[ChainKey, int], int]


def _rules() -> tuple[_Rules, str | None]:
    said, why_not = nft("-j", "-a", "-t", "list", "ruleset")
    if why_not is not None:
        return _Rules({}, {}), why_not
    counters: dict[tuple[ChainKey, int], int] = {}
    for item in json.loads(said)["nftables"]:
        body = item.get("rule")
        for one in body["expr"] if body is not None else ():
            if isinstance(one.get("counter"), dict):
                counters[(body["family"], body["table"], body["chain"]), body["handle"]] = one["counter"]["packets"]
    return _Rules(parsed(said), counters), None


def _drop_facts(  # noqa: PLR0917
    parts: Sequence[_Part],
    joined: frozenset[tuple[str, Address]],
    before: _Rules,
    after: _Rules,
    traced: Mapping[Dropped, int],
    names: Mapping[int, str],
    requests: Requests,
) -> tuple[DropFact, ...]:
    facts: dict[tuple[str, ...], DropFact] = {}
    texts: dict[ChainKey, dict[int, str]] = {}

    def add(hook: str, what: str, version: int, ways: tuple[str, str], group: str, key: ChainKey, handle: int | None, packets: int) -> None:  # noqa: PLR0917
        rule = f"policy {after.chains[key].policy}" if handle is None else _texts(texts, key).get(handle, f"rule {handle}")
        fact = DropFact(
            hook=hook,
            what=what,
            family=_NAMES[version],
            arrives=ways[0],
            leaves=ways[1],
            group=group,
            chain=" ".join(key),
            rule=rule[:_LINE_CHARACTERS],
            packets=packets,
            by_the_rules=packets == 0,
            counter_before=before.counters.get((key, handle)) if handle is not None else None,
            counter_after=after.counters.get((key, handle)) if handle is not None else None,
        )
        place = (hook, what, fact.family, *ways, group, fact.chain, fact.rule)
        known = facts.get(place)
        if known is not None:
            fact = replace(known, packets=known.packets + packets, by_the_rules=known.by_the_rules or packets == 0)
        facts[place] = fact

    ours = {one.name for one in parts}
    for drop, packets in traced.items():
        ways = (names.get(drop.arrives, ""), names.get(drop.leaves, ""))
        version, protocol = drop.header[0], drop.header[1]
        chain = _chain_of(after.chains, drop, version)
        what = "membership" if protocol in {_IGMP, _ICMPV6, _HOP_BY_HOP} else "stream"
        sender = ipaddress.ip_address(drop.header[2:6] if version == 4 else drop.header[2:18])
        if (
            chain is None
            or not ours & {*ways}
            or (ways[0] and _route(requests, sender, names)[1])
            or (what == "stream" and not all(ways) and chain.hook != "prerouting")
        ):
            continue
        hook = chain.hook or ("forward" if all(ways) else "input" if ways[0] else "output")
        group = str(ipaddress.ip_address(drop.header[6:10] if version == 4 else drop.header[18:34])) if what == "stream" else "*"
        add(hook, what, version, ways, group, chain.key, drop.handle, packets)
    for hook, what, packet, group in _expected(parts, joined):
        found = dropping(after.chains, hook, packet)
        if found is not None:
            add(hook, what, packet.version, (packet.arrives or "", packet.leaves or ""), group, found.chain, found.rule.handle if found.rule else None, 0)
    return tuple(facts[place] for place in sorted(facts))


def _expected(parts: Sequence[_Part], joined: frozenset[tuple[str, Address]]) -> Iterator[tuple[str, str, Packet, str]]:
    """What has to pass: (hook, what, the packet, its group as it is told)."""
    groups = sorted({(name, group) for name, group in joined}, key=str)[:_MOST_JOINED]
    for part in parts:
        for version in sorted(part.versions):
            protocol, kind = (_IGMP, None) if version == 4 else (_ICMPV6, _MLD_QUERY if part.is_upstream else _MLD_REPORT)
            sent = None if version == 4 else _MLD_REPORT if part.is_upstream else _MLD_QUERY
            yield "input", "membership", _packet(version, protocol, part.name, None, _GROUPS[version], kind), "*"
            yield "output", "membership", _packet(version, protocol, None, part.name, _GROUPS[version], sent), "*"
            if part.is_upstream:
                continue
            for upstream in parts:
                if not upstream.is_upstream or upstream.instance != part.instance or version not in upstream.versions:
                    continue
                whole = _packet(version, _UDP, upstream.name, part.name, _GROUPS[version])
                yield "forward", "stream", whole, "*"
                for name, group in groups:
                    if name == part.name and group.version == version:
                        yield "forward", "stream", replace(whole, group=ipaddress.ip_network(group)), str(group)


def _packet(version: int, protocol: int, arrives: str | None, leaves: str | None, group: Prefix, kind: int | None = None) -> Packet:  # noqa: PLR0917
    return Packet(version=4 if version == 4 else 6, protocol=protocol, arrives=arrives, leaves=leaves, group=group, source=_ANY[version], icmpv6_type=kind)


def _chain_of(chains: Ruleset, drop: Dropped, version: int) -> Chain | None:
    """The chain a trace means: it tells the packet's family, and the table may be of both."""
    for family in ("ip" if version == 4 else "ip6", "inet"):
        chain = chains.get((family, drop.table, drop.chain))
        if chain is not None and (drop.handle is None or any(rule.handle == drop.handle for rule in chain.rules)):
            return chain
    return None


def _texts(known: dict[ChainKey, dict[int, str]], key: ChainKey) -> dict[int, str]:
    """The rules of a chain by handle, as nft prints them."""
    if key not in known:
        said, _ = nft("-a", "list", "chain", *key)
        known[key] = {
            int(match[2]): _COUNTED.sub("", match[1]).strip() for line in said.splitlines() if (match := re.fullmatch(r"\s*(.*) # handle ([0-9]+)", line))
        }
    return known[key]
