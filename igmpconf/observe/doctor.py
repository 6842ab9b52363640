"""What is wrong with a proxy, by its configuration and its state: each check is a function that gives findings.

A finding says in the words of somebody whose television stays dark what is seen, why, by which numbers, and what to change.
A device on which all is well has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from igmpconf.model.config import DeviceConfig, InterfaceConfig, ProxyConfig
from igmpconf.model.leaf import Address
from igmpconf.model.state import DeviceState, InterfaceRow, MfcRow

Severity = Literal["error", "warning", "note"]
_PATIENCE_S = 5  # a membership younger than this may still wait for its stream


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


@dataclass(frozen=True, slots=True)
class Patient:
    """What the checks look at; `group` narrows them to one stream."""

    config: DeviceConfig
    state: DeviceState
    group: Address | None = None

    def running(self) -> Iterator[ProxyConfig]:
        return (proxy for proxy in self.config.proxies if proxy.enabled is not False)

    def interfaces(self, role: str | None = None) -> Iterator[InterfaceRow]:
        return (row for row in self.state.interfaces if row.enabled and role in {None, row.role})


Check = Callable[[Patient], Iterable[Finding]]


def diagnose(patient: Patient) -> list[Finding]:
    """Every finding, the worst first."""
    order = ("error", "warning", "note")
    return sorted((one for check in CHECKS for one in check(patient)), key=lambda one: (order.index(one.severity), one.code, one.where))


def _where(row: InterfaceRow) -> str:
    return f"{row.instance}/{row.interface}"


def _disabled(patient: Patient) -> Iterator[Finding]:
    for proxy in patient.config.proxies:
        if proxy.enabled is False:
            yield Finding(
                severity="error",
                code="instance/disabled",
                where=proxy.name,
                seen="no stream of this instance is forwarded at all",
                cause="the instance is switched off",
                evidence="enabled: no",
                fix="enabled: yes",
            )
    if not patient.config.proxies:
        yield Finding(
            severity="error",
            code="instance/none",
            where="device",
            seen="no stream is forwarded at all",
            cause="the device has no proxy instance",
            evidence="the running configuration names none",
            fix="igmpconf apply -f FILE",
        )


def _not_up(patient: Patient) -> Iterator[Finding]:
    told = set()
    for row in patient.interfaces():
        if row.up or _where(row) in told:
            continue
        told.add(_where(row))  # once for both families
        is_upstream = row.role == "upstream"
        yield Finding(
            severity="error" if is_upstream else "warning",
            code=f"{row.role}/not-up",
            where=_where(row),
            seen="no stream arrives from the provider" if is_upstream else "nobody behind this interface gets a stream",
            cause="the interface does not exist, is down or has no carrier",
            evidence=f"{row.interface} is not up",
            fix=f"ip link set {row.interface} up, or correct the name of the interface",
        )


# counter -> severity, seen, cause, fix
_REFUSALS: dict[str, tuple[Severity, str, str, str]] = {
    "rejected-sender": (
        "warning",
        "some subscribers cannot join",
        "their addresses are in none of the interface's subnets, so their reports are not believed",
        "alternative-subnets: [THEIR/PREFIX]",
    ),
    "rejected-denied": ("warning", "some groups cannot be joined", "a rule in groups denies them", "groups: add an allow rule before the one that denies"),
    "rejected-group-limit": (
        "warning",
        "a further group cannot be joined",
        "the interface holds as many groups as max-groups allows",
        "max-groups: a larger number",
    ),
    "rejected-router-alert": (
        "warning",
        "some subscribers cannot join",
        "their reports carry no Router Alert option, which is required here",
        "require-router-alert: no",
    ),
    "rejected-newer-version": (
        "warning",
        "some subscribers cannot join",
        "they speak a newer version than the interface is held to",
        "version: 3, or leave the line out",
    ),
    "rejected-ssm": (
        "note",
        "somebody asks for a source-specific group without a source",
        "such reports mean nothing in ssm-range",
        "ssm-range: leave the group out, or have the host name its source",
    ),
}


def _refused(patient: Patient) -> Iterator[Finding]:
    for row in patient.interfaces("downstream"):
        for counter in row.counters:
            known = _REFUSALS.get(counter.name)
            if known is None or not counter.value:
                continue
            severity, seen, cause, fix = known
            yield Finding(
                severity=severity,
                code=f"report/{counter.name.removeprefix('rejected-')}",
                where=_where(row),
                seen=seen,
                cause=cause,
                evidence=f"{counter.name} of {row.family} is {counter.value}",
                fix=fix,
            )


def _querier(patient: Patient) -> Iterator[Finding]:
    forwards = {proxy.name for proxy in patient.running() if proxy.forward_when_non_querier}
    for row in patient.interfaces("downstream"):
        querier = row.querier
        if querier is None or querier.self_ or querier.address is None or row.instance in forwards:
            continue
        yield Finding(
            severity="warning",
            code="querier/other",
            where=_where(row),
            seen="subscribers behind this interface get no stream from us",
            cause="another router with a lower address asks for memberships there, so forwarding is its part (RFC 4605 3)",
            evidence=f"{querier.address} is the querier for {querier.since_s or 0} s, not {', '.join(row.addresses) or 'us'}",
            fix="forward-when-non-querier: yes, or switch the other querier off",
        )


def _robustness(patient: Patient) -> Iterator[Finding]:
    for proxy in patient.running():
        holders: tuple[tuple[str, ProxyConfig | InterfaceConfig], ...] = (
            (proxy.name, proxy),
            *((f"{proxy.name}/{one.interface}", one) for one in proxy.interfaces),
        )
        for where, holder in holders:
            if holder.robustness == 1:
                yield Finding(
                    severity="warning",
                    code="robustness/one",
                    where=where,
                    seen="streams stop now and then, after a brief period",
                    cause="a single lost report or query ends a membership",
                    evidence="robustness is 1",
                    fix="robustness: 2, or 3 on a lossy link",
                )


def _deviations(patient: Patient) -> Iterator[Finding]:
    for row in patient.state.deviations:
        yield Finding(
            severity="error",
            code=f"deviation/{row.kind}",
            where=row.name,
            seen="streams or memberships may be dropped on this device",
            cause="it is not as the configuration wants it: changed by hand, or it cannot be had",
            evidence=f"expected {row.expected or 'nothing'}, found {row.found or 'nothing'}",
            fix="igmpconf apply puts it back; keep others from changing it",
        )


def _stream(patient: Patient) -> Iterator[Finding]:
    """Upstream was told, and nothing comes: the provider, its network, or something before us."""
    uptimes: dict[tuple[str, Address], int] = {}
    for membership in patient.state.groups:
        key = (membership.instance, membership.group)
        uptimes[key] = max(uptimes.get(key, 0), membership.uptime_s or 0)
    told = {(row.instance, row.group): row.interface for row in patient.state.upstream}
    up = {(row.instance, row.interface) for row in patient.interfaces("upstream") if row.up}
    for (instance, group), uptime_s in sorted(uptimes.items(), key=str):
        interface = told.get((instance, group))
        if uptime_s < _PATIENCE_S or interface is None or (instance, interface) not in up or patient.group not in {None, group}:
            continue
        entries = [row for row in patient.state.mfc if (row.instance, row.group) == (instance, group)]
        if entries and all(_is_silent(row) for row in entries):
            yield Finding(
                severity="warning",
                code="stream/not-received",
                where=f"{instance}/{interface}",
                seen=f"{group} stays dark for everybody",
                cause="we report the group upstream, and no datagram of it arrives: the source does not send, or the network before us loses it",
                evidence=f"joined for {uptime_s} s, 0 datagrams forwarded",
                fix=f"igmpconf sniff {interface} shows our reports; ask whoever runs the upstream network",
            )


def _is_silent(row: MfcRow) -> bool:
    return row.packets == 0 and row.state == "waiting-for-data"


def _group(patient: Patient) -> Iterator[Finding]:
    """Who asked about one group hears also where it is not joined."""
    group = patient.group
    if group is None:
        return
    joined = {(row.instance, row.interface) for row in patient.state.groups if row.group == group}
    if not joined:
        yield Finding(
            severity="warning",
            code="group/nobody",
            where=str(group),
            seen=f"{group} stays dark for everybody",
            cause="no subscriber has reported it on any downstream",
            evidence=f"{len(patient.state.groups)} memberships are known, none of this group",
            fix="igmpconf sniff IFACE --filter report, while a subscriber joins",
        )
        return
    family = "ipv4" if group.version == 4 else "ipv6"
    for row in patient.interfaces("downstream"):
        if row.up and row.family == family and (row.instance, row.interface) not in joined:
            yield Finding(
                severity="note",
                code="group/not-here",
                where=_where(row),
                seen=f"{group} is not forwarded to this interface",
                cause="membership on that interface was not learned: nobody behind it has reported the group",
                evidence=f"joined on {', '.join(sorted(name for _, name in joined))}",
                fix=f"igmpconf sniff {row.interface} --filter report, while a subscriber there joins",
            )


CHECKS: tuple[Check, ...] = (_disabled, _not_up, _refused, _querier, _robustness, _deviations, _stream, _group)
