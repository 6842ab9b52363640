"""What no single device can see: proxies that feed each other in a circle, two queriers on one LAN, an address twice.

Judged from the desired states of all devices of a plan and the addresses that their interfaces have now.  Devices are
compared within one site only (`igmpconf_site` of the inventory, without it all are one site), because private networks
repeat.  A LAN is known by its subnet; interfaces without an address belong to none.

A device that was not asked has no addresses but those that its desired state names as `source-address`; with one of them
within a LAN of a device that was, it is on that LAN.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from igmpconf.model.config import DeviceConfig, InterfaceConfig, ProxyConfig, default_of
from igmpconf.model.effective import belongs, effective
from igmpconf.model.leaf import Address, Prefix
from igmpconf.model.path import Path, Step
from igmpconf.model.state import DeviceState

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Place = tuple[str, Path]  # device, where in its desired state


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One device of the plan; without `state` only what the desired states say themselves is compared."""

    device: str
    config: DeviceConfig
    state: DeviceState | None = None
    site: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFinding:
    """A finding about several devices; `code` is explained in schema/explain.py, `at` is the place to change."""

    severity: Literal["error", "warning"]
    code: str
    at: Place
    message: str
    hint: str
    related: tuple[Place, ...] = ()  # the others that take part, the place of each

    @property
    def devices(self) -> frozenset[str]:
        return frozenset(device for device, _ in (self.at, *self.related))


# Either of the two may be changed as well as the other.
_MUTUAL = frozenset({"fleet/two-queriers", "fleet/duplicate-address", "fleet/group-sourced-twice"})


@dataclass(frozen=True, slots=True)
class _Port:
    """One interface that takes part, with one of its addresses; `is_said`: it is only the desired state that names it."""

    member: Member
    proxy: ProxyConfig
    entry: InterfaceConfig
    interface: str
    address: Interface
    is_said: bool = False

    @property
    def node(self) -> tuple[str, str]:
        return self.member.device, self.proxy.name

    @property
    def lan(self) -> tuple[str, Prefix]:
        return self.member.site, self.address.network

    @property
    def place(self) -> Place:
        return self.member.device, (Step("igmp-proxy", (self.proxy.name,)), Step("interfaces", (self.entry.interface,)))

    @property
    def text(self) -> str:
        return f"{self.interface} of {self.member.device} ({self.address.ip})"


@dataclass(slots=True)
class _Lan:
    """Who is on one subnet."""

    upstreams: list[_Port] = field(default_factory=list)
    downstreams: list[_Port] = field(default_factory=list)


def check_fleet(members: Sequence[Member], about: Collection[str] | None = None) -> list[FleetFinding]:
    """Every finding, errors first; [] when all is well, and for a single device nothing but its own loop.

    With `about`, only findings that one of these devices takes part in.
    """
    if about is not None:
        members = sorted(members, key=lambda member: member.device not in about)  # of many that have one thing, one of them is named
    ports = [port for member in members for port in _ports(member)]
    claims = [port for member in members if member.state is None for port in _said(member)]
    networks = {port.lan for port in ports}
    ports += [replace(port, address=on) for port in claims if (on := _within(port, networks)) is not None]
    lans: dict[tuple[str, Prefix], _Lan] = {}
    for port in ports:
        lan = lans.setdefault(port.lan, _Lan())
        (lan.upstreams if port.entry.upstream else lan.downstreams).append(port)
    feeds = _feeds(lans)
    found = [*_loops(feeds), *_wrong_ways(feeds, ports), *_queriers(lans), *_addresses([*ports, *claims]), *_sources(members)]
    if about is not None:
        found = [_turned(finding, about) for finding in found if not finding.devices.isdisjoint(about)]
    return sorted(found, key=lambda finding: finding.severity)


def _turned(finding: FleetFinding, about: Collection[str]) -> FleetFinding:
    """The same at one of these devices, where it makes no difference which of them is changed."""
    place = next((place for place in finding.related if place[0] in about), None)
    if finding.at[0] in about or finding.code not in _MUTUAL or place is None:
        return finding
    return replace(finding, at=place, related=(finding.at, *(other for other in finding.related if other != place)))


def _ports(member: Member) -> Iterator[_Port]:
    addresses = _addresses_of(member.state) if member.state is not None else {}
    for proxy in member.config.proxies:
        if proxy.enabled is False or proxy.mode == "bridged":
            continue
        families = proxy.family or default_of(ProxyConfig, "family")
        for entry in proxy.interfaces:
            if entry.enabled is False:
                continue
            for name, has in addresses.items():
                if belongs(proxy, name, entry):
                    yield from (_Port(member, proxy, entry, name, one) for one in has if f"ipv{one.version}" in families)


def _said(member: Member) -> Iterator[_Port]:
    """The addresses that the desired state itself names; of which network they are it does not say."""
    for proxy in member.config.proxies:
        if proxy.enabled is False or proxy.mode == "bridged":
            continue
        for entry in proxy.interfaces:
            address = entry.source_address
            if entry.enabled is not False and address is not None and not address.is_link_local:
                yield _Port(member, proxy, entry, entry.interface, ipaddress.ip_interface(address), is_said=True)


def _within(port: _Port, networks: Iterable[tuple[str, Prefix]]) -> Interface | None:
    """The address of a port with the network that it lies in, if that is known from somebody else."""
    ip = port.address.ip
    sites = (network for site, network in networks if site == port.member.site and network.version == ip.version and ip in network)
    network = max(sites, key=lambda one: one.prefixlen, default=None)
    return None if network is None else ipaddress.ip_interface(f"{ip}/{network.prefixlen}")


def _addresses_of(state: DeviceState) -> Mapping[str, tuple[Interface, ...]]:
    """Addresses by interface; those of a link only (fe80::/10) and of no subnet (/32, /128) name no LAN."""
    told = state.agent.addresses if state.agent is not None else ()
    pairs = [tuple(text.split(" ", 1)) for text in told] + [(row.interface, text) for row in state.interfaces for text in row.addresses]
    found: dict[str, dict[Interface, None]] = {}
    for name, text in pairs:
        address = ipaddress.ip_interface(text)
        if not address.is_link_local and not address.is_loopback and address.network.prefixlen < address.max_prefixlen:
            found.setdefault(name, {})[address] = None
    return {name: tuple(has) for name, has in found.items()}


Feeds = dict[tuple[str, str], dict[tuple[str, str], tuple[_Port, _Port]]]  # feeder -> fed -> (its downstream, the other's upstream)


def _feeds(lans: Mapping[tuple[str, Prefix], _Lan]) -> Feeds:
    """Who takes its streams from whom: an upstream and a downstream on one LAN."""
    feeds: Feeds = {}
    for lan in lans.values():
        for down in lan.downstreams:
            for up in lan.upstreams:
                feeds.setdefault(down.node, {}).setdefault(up.node, (down, up))
    return feeds


def _loops(feeds: Feeds) -> Iterator[FleetFinding]:
    for way in _circles(feeds):
        links = [feeds[one][other] for one, other in pairwise(way)]
        names = " > ".join(device for device, _ in way)
        yield FleetFinding(
            severity="error",
            code="fleet/loop",
            at=links[-1][1].place,
            message=f"proxies feed each other in a circle: {names}, over " + ", ".join(str(down.address.network) for down, _ in links),
            hint="streams and memberships would go around for ever; give one of them an upstream outside the circle",
            related=tuple(up.place for _, up in links[:-1]),
        )


def _circles(feeds: Feeds) -> Iterator[list[tuple[str, str]]]:
    """For every way that comes back on itself, the nodes of it, the first one again at the end (depth first search)."""
    done: set[tuple[str, str]] = set()
    for start in sorted(feeds):
        way = [start]
        ahead = [iter(sorted(feeds[start]))]
        while start not in done:
            following = next(ahead[-1], None)
            if following is None:
                done.add(way.pop())
                ahead.pop()
            elif following in way:
                yield [*way[way.index(following) :], following]
            elif following not in done:
                way.append(following)
                ahead.append(iter(sorted(feeds.get(following, {}))))


def _wrong_ways(feeds: Feeds, ports: Sequence[_Port]) -> Iterator[FleetFinding]:
    """A device whose sources live behind one that it feeds: the chain runs from the viewers to the sources."""
    below: dict[tuple[str, str], list[_Port]] = {}
    for port in ports:
        if not port.entry.upstream:
            below.setdefault(port.node, []).append(port)
    for port in ports:
        if not port.entry.upstream or not (port.entry.alternative_subnets or port.proxy.mfc):
            continue  # it says nothing of its sources
        own = {other.lan for other in ports if other.node == port.node}
        for fed in _fed_by(feeds, port.node):
            for behind in below.get(fed, ()):
                place = _sources_within(port, behind.address.network)
                if place is not None and behind.lan not in own:
                    yield FleetFinding(
                        severity="warning",
                        code="fleet/wrong-way",
                        at=(port.member.device, place),
                        message=f"{port.member.device} takes streams from {behind.address.network}, which is behind {behind.member.device}, "
                        f"and {behind.member.device} takes its streams from {port.member.device}",
                        hint=f"the chain may be the wrong way round: the upstream of {port.member.device} leads to {behind.member.device}, not the other way",
                        related=(behind.place,),
                    )


def _fed_by(feeds: Feeds, node: tuple[str, str]) -> set[tuple[str, str]]:
    """Everybody downstream of a node, near and far."""
    found: set[tuple[str, str]] = set()
    ahead = [node]
    while ahead:
        for other in feeds.get(ahead.pop(), {}):
            if other not in found and other != node:
                found.add(other)
                ahead.append(other)
    return found


def _sources_within(port: _Port, network: Prefix) -> Path | None:
    """Where an upstream's desired state says that sources are in `network`."""
    if any(subnet.prefixlen >= network.prefixlen and subnet.network_address in network for subnet in port.entry.alternative_subnets):
        return (*port.place[1], Step("alternative-subnets"))
    for route in port.proxy.mfc:
        if not isinstance(route.source, str) and route.source.version == network.version and route.source in network:
            return (port.place[1][0], Step("mfc", (str(route.source), str(route.group))))
    return None


def _queriers(lans: Mapping[tuple[str, Prefix], _Lan]) -> Iterator[FleetFinding]:
    for (_, network), lan in lans.items():
        first: dict[str, _Port] = {}
        for port in sorted(lan.downstreams, key=lambda port: port.address.ip):
            first.setdefault(port.member.device, port)
        if len(first) < 2:
            continue
        wins, *others = first.values()
        names = ", ".join(port.text for port in (wins, *others))
        twice = [port for port in others if effective(port.proxy, None, "forward-when-non-querier")]
        # The lowest address stays querier (RFC 3376 6.6.2); MLD elects by addresses of the link, which we do not compare.
        who = f"{wins.member.device} stays querier and forwards there" if network.version == 4 else "one of them stays querier and forwards there"
        if twice:
            yield FleetFinding(
                severity="error",
                code="fleet/forwarded-twice",
                at=(twice[0].member.device, (twice[0].place[1][0], Step("forward-when-non-querier"))),
                message=f"{network} would get every datagram twice: {names} serve it, and {twice[0].member.device} forwards even when it is not the querier",
                hint="set forward-when-non-querier: no where several devices serve one LAN",
                related=tuple(port.place for port in (wins, *others) if port is not twice[0]),
            )
        else:
            yield FleetFinding(
                severity="warning",
                code="fleet/two-queriers",
                at=others[0].place,
                message=f"{len(first)} devices serve {network}: {names}; {who}, the others wait",
                hint="fine as a reserve; if one is to feed the other, make this its upstream; if these are different networks, set igmpconf_site",
                related=(wins.place, *(port.place for port in others[1:])),
            )


def _addresses(ports: Sequence[_Port]) -> Iterator[FleetFinding]:
    owners: dict[tuple[str, Address], _Port] = {}
    told: set[tuple[Address, str, str]] = set()
    claims: list[tuple[Address, _Port, str]] = [(port.address.ip, port, "source-address" if port.is_said else "") for port in ports]
    claims += [(said, port, "source-address") for port in ports if (said := port.entry.source_address) is not None and not said.is_link_local]
    for address, port, leaf in claims:
        owner = owners.setdefault((port.member.site, address), port)
        pair = (address, owner.member.device, port.member.device)
        if owner.member.device == port.member.device or pair in told:
            continue
        told.add(pair)
        device, path = port.place
        yield FleetFinding(
            severity="warning",
            code="fleet/duplicate-address",
            at=(device, (*path, Step(leaf)) if leaf else path),
            message=f"{address} is an address of {owner.interface} of {owner.member.device} and of {port.interface} of {device}",
            hint="routers of one network need addresses of their own, or no querier is elected; if these are different networks, set igmpconf_site",
            related=(owner.place,),
        )


def _sources(members: Sequence[Member]) -> Iterator[FleetFinding]:
    """Static entries of different sources for one group: right for source-specific groups, a mistake for others."""
    found: dict[tuple[str, Address], list[tuple[Address, Place]]] = {}
    for member in members:
        for proxy in member.config.proxies:
            if proxy.enabled is not False:
                for group, source, path in _static(proxy):
                    found.setdefault((member.site, group), []).append((source, (member.device, path)))
    for (_, group), held in found.items():
        first_source, first = held[0]
        for source, place in held[1:]:
            if source != first_source and place[0] != first[0]:
                yield FleetFinding(
                    severity="warning",
                    code="fleet/group-sourced-twice",
                    at=place,
                    message=f"{group} comes from {first_source} on {first[0]} and from {source} on {place[0]}",
                    hint="who joins it without naming a source gets both; use one source, a group of the source-specific range, or set igmpconf_site",
                    related=(first,),
                )
                break


def _static(proxy: ProxyConfig) -> Iterator[tuple[Address, Address, Path]]:
    """(group, source, where) of the static entries that name a source, outside the source-specific range."""
    here = (Step("igmp-proxy", (proxy.name,)),)
    for route in proxy.mfc:
        if not isinstance(route.source, str) and not _is_specific(proxy, route.group):
            yield route.group, route.source, (*here, Step("mfc", (str(route.source), str(route.group))))
    for entry in proxy.interfaces:
        for static in entry.static_groups:
            if not isinstance(static.source, str) and not _is_specific(proxy, static.group):
                steps = (Step("interfaces", (entry.interface,)), Step("static-groups", (str(static.group), str(static.source))))
                yield static.group, static.source, (*here, *steps)


def _is_specific(proxy: ProxyConfig, group: Address) -> bool:
    ranges: Iterable[Prefix] = effective(proxy, None, "ssm-range")
    return any(group.version == prefix.version and group in prefix for prefix in ranges)
