"""What the doctor's checks look at, and what they find."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from igmpconf.model.config import DeviceConfig, InterfaceConfig, ProxyConfig, default_of
from igmpconf.model.diagnosis import Diagnosis, LinkFact, StreamFact
from igmpconf.model.effective import interface_for
from igmpconf.model.leaf import Address, Prefix
from igmpconf.model.state import DeviceState, HeardQuerier, InterfaceRow, MfcRow

Severity = Literal["error", "warning", "note"]
Symptom = Literal["no-stream", "not-tracked", "stops", "unwanted"]
SYMPTOMS: dict[str, str] = {
    "no-stream": "a stream does not arrive on a downstream",
    "not-tracked": "memberships are not learned",
    "stops": "a stream stops after a brief period",
    "unwanted": "streams arrive at subscribers who have not asked for them",
}
PATIENCE_S = 5  # a membership younger than this may still wait for its stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`where` is the instance and interface; `fix` the line of the desired state, or the command, that puts it right."""

    severity: Severity
    code: str
    where: str
    seen: str
    cause: str
    evidence: str
    fix: str


@dataclass(frozen=True)
class Patient:
    """`diagnosis` is absent where the agent cannot look; `group` narrows the checks to one stream, `symptom` widens those for it."""

    config: DeviceConfig
    state: DeviceState
    group: Address | None = None
    diagnosis: Diagnosis | None = None
    symptom: str | None = None

    def running(self) -> Iterator[ProxyConfig]:
        return (proxy for proxy in self.config.proxies if proxy.enabled is not False)

    def interfaces(self, role: str | None = None) -> Iterator[InterfaceRow]:
        return (row for row in self.state.interfaces if row.enabled and role in {None, row.role})

    def proxy(self, instance: str) -> ProxyConfig | None:
        return next((proxy for proxy in self.running() if proxy.name == instance), None)

    def entry(self, row: InterfaceRow) -> InterfaceConfig | None:
        """What is configured for the interface of a row."""
        proxy = self.proxy(row.instance)
        return interface_for(proxy, row.interface) if proxy is not None else None

    def link(self, name: str) -> LinkFact | None:
        links = self.diagnosis.links if self.diagnosis is not None else ()
        return next((one for one in links if one.interface == name), None)

    @cached_property
    def joined(self) -> dict[tuple[str, Address], dict[str, int]]:
        """(instance, group) -> downstream -> seconds since it was joined there."""
        found: dict[tuple[str, Address], dict[str, int]] = {}
        for row in self.state.groups:
            if self.group in {None, row.group}:
                found.setdefault((row.instance, row.group), {})[row.interface] = row.uptime_s or 0
        return found

    @cached_property
    def entries(self) -> dict[tuple[str, Address | str], list[MfcRow]]:
        """(instance, group) -> its forwarding entries."""
        found: dict[tuple[str, Address | str], list[MfcRow]] = {}
        for row in self.state.mfc:
            found.setdefault((row.instance, row.group), []).append(row)
        return found

    @cached_property
    def arriving(self) -> dict[tuple[str, Address], list[StreamFact]]:
        """(interface, group) -> streams that arrived while the device looked."""
        found: dict[tuple[str, Address], list[StreamFact]] = {}
        for one in self.diagnosis.streams if self.diagnosis is not None else ():
            found.setdefault((one.interface, one.group), []).append(one)
        return found

    def is_local(self, instance: str, group: Address) -> bool:
        """The group is proxied among the downstreams only."""
        proxy = self.proxy(instance)
        local: tuple[Prefix, ...] = proxy.local_groups or default_of(ProxyConfig, "local-groups") if proxy is not None else ()
        return any(group in prefix for prefix in local)


def where(row: InterfaceRow) -> str:
    return f"{row.instance}/{row.interface}"


def counter(row: InterfaceRow, name: str) -> int:
    return next((one.value for one in row.counters if one.name == name), 0)


def family_of(group: Address) -> str:
    return "ipv4" if group.version == 4 else "ipv6"


def stays_on_link(group: Address) -> bool:
    """224.0.0.0/24, and the IPv6 scopes up to link-local: no stream of a provider (RFC 5771 4, RFC 4291 2.7)."""
    return group.packed[:3] == b"\xe0\x00\x00" if group.version == 4 else group.packed[1] & 0x0F <= 2


def subnets(row: InterfaceRow) -> list[Any]:
    return [ipaddress.ip_interface(address).network for address in row.addresses]


def own_addresses(row: InterfaceRow) -> set[Address]:
    return {ipaddress.ip_interface(address).ip for address in row.addresses}


def current(heard: HeardQuerier, default_interval_ms: int) -> bool:
    """The querier asked within twice its interval."""
    return heard.last_s * 1000 <= 2 * (heard.interval_ms or default_interval_ms) + 1_000


def span(ms: int | None) -> str:
    """A time as people write it: 125s, 1.5s, 200ms."""
    if ms is None:
        return "unknown"
    return f"{ms / 1000:g}s" if ms >= 1_000 else f"{ms}ms"
