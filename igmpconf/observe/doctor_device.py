"""Checks of what the proxy stands on: instances, kernel, capabilities, other programs, interfaces, what was changed by hand."""

from __future__ import annotations

from collections.abc import Iterator

from igmpconf.model.config import MAX_INTERFACES
from igmpconf.model.diagnosis import TableFact
from igmpconf.model.effective import is_pattern
from igmpconf.model.leaf import Address
from igmpconf.model.state import InterfaceRow
from igmpconf.observe.doctor_patient import Finding, Patient, stays_on_link, where

_BEARABLE = "CONFIG_BRIDGE_IGMP_SNOOPING"  # without it streams go to every port, but they go


def instances(patient: Patient) -> Iterator[Finding]:
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


def in_force(patient: Patient) -> Iterator[Finding]:
    """Instances that are wanted and do not run, each with the reason that is found."""
    diagnosis = patient.diagnosis
    if diagnosis is None:
        return
    absent = [option for option in diagnosis.options if not option.present]
    for option in absent:
        is_grave = option.name != _BEARABLE
        yield Finding(
            severity="error" if is_grave else "warning",
            code="device/kernel-option",
            where="device",
            seen=f"what needs it does not work: {option.needed_for}",
            cause=f"this kernel is built without {option.name}",
            evidence=f"{option.name} is not set",
            fix="use a kernel with that option, or take the part that needs it out of the desired state",
        )
    for table in diagnosis.tables:
        # a configuration is in force as a whole or not: what one instance lacks keeps the others out too
        if not table.in_force and all(option.name == _BEARABLE for option in absent):
            yield _not_in_force(patient, table)


def _not_in_force(patient: Patient, table: TableFact) -> Finding:
    assert patient.diagnosis is not None
    holders = [f"{one.program} (pid {one.pid})" for one in patient.diagnosis.holders if one.family == table.family]
    protocol = "IPv4" if table.family == "ipv4" else "IPv6"
    if holders:
        return Finding(
            severity="error",
            code="device/routing-socket",
            where=table.instance,
            seen=f"no {protocol} stream of this instance is forwarded at all",
            cause=f"another program holds the {protocol} multicast routing socket, of which the kernel gives one",
            evidence=" and ".join(holders),
            fix=f"stop {' and '.join(holders)}; the agent takes over by itself within seconds",
        )
    return Finding(
        severity="error",
        code="instance/not-in-force",
        where=table.instance,
        seen=f"no {protocol} stream of this instance is forwarded at all",
        cause="the kernel or the device refused the configuration, and the agent goes on trying",
        evidence=f"the configuration wants the instance, and 0 {protocol} interfaces take part",
        fix="igmpconf logs tells what was refused",
    )


def interfaces(patient: Patient) -> Iterator[Finding]:
    """Missing, switched off, or without a link: once for both families."""
    told = set()
    for row in patient.interfaces():
        if row.up or where(row) in told:
            continue
        told.add(where(row))
        is_upstream = row.role == "upstream"
        cause, evidence, fix = _why_not_up(patient, row)
        yield Finding(
            severity="error" if is_upstream else "warning",
            code=f"{row.role}/not-up",
            where=where(row),
            seen="no stream arrives from the provider" if is_upstream else "nobody behind this interface gets a stream",
            cause=cause,
            evidence=evidence,
            fix=fix,
        )


def _why_not_up(patient: Patient, row: InterfaceRow) -> tuple[str, str, str]:
    name = row.interface
    if patient.diagnosis is None or is_pattern(name):
        return "the interface does not exist, is down or has no carrier", f"{name} is not up", f"ip link set {name} up, or correct the name of the interface"
    link = patient.link(name)
    if link is None:
        return "the device has no interface of that name", f"{name} does not exist", f"interface: the name it has; igmpconf waits for {name} meanwhile"
    if not link.administratively_up:
        return "the interface is switched off", f"{name} is administratively down", f"ip link set {name} up"
    return "the interface has no link", f"{name} is switched on and has no carrier", "plug the cable in, or look at what is at its other end"


def addresses(patient: Patient) -> Iterator[Finding]:
    for row in patient.interfaces("downstream"):
        if row.up and not row.addresses and row.querier is not None and not row.querier.self_ and row.querier.address is None:
            protocol = "IPv4" if row.family == "ipv4" else "IPv6 link-local"
            yield Finding(
                severity="error",
                code="querier/none",
                where=where(row),
                seen="memberships behind this interface end after a few minutes, and nobody asks for them again",
                cause=f"nobody is querier there: the interface has no {protocol} address to ask from",
                evidence=f"{row.interface} has 0 {protocol} addresses",
                fix=f"ip addr add ADDRESS dev {row.interface}, or source-address: ADDRESS",
            )


def bridge_ports(patient: Patient) -> Iterator[Finding]:
    """A port's datagrams and reports are the bridge's; the port itself hears none."""
    told = set()
    for row in patient.interfaces():
        link = patient.link(row.interface)
        proxy = patient.proxy(row.instance)
        if link is None or link.bridge is None or row.interface in told or (proxy is not None and proxy.mode == "bridged"):
            continue
        told.add(row.interface)
        yield Finding(
            severity="error",
            code="interface/bridge-port",
            where=where(row),
            seen="memberships on this interface are not learned, and no stream passes it",
            cause=f"it is a port of bridge {link.bridge}, which takes everything that arrives there",
            evidence=f"the master of {row.interface} is {link.bridge}",
            fix=f"interface: {link.bridge}",
        )


def limit(patient: Patient) -> Iterator[Finding]:
    for table in patient.diagnosis.tables if patient.diagnosis is not None else ():
        if table.waiting and (table.interfaces or 0) >= MAX_INTERFACES:
            names = ", ".join(table.waiting[:8]) + (" and more" if len(table.waiting) > 8 else "")
            yield Finding(
                severity="error",
                code="interface/limit",
                where=table.instance,
                seen=f"nobody behind {names} gets a stream",
                cause=f"the kernel forwards between {MAX_INTERFACES} interfaces per table and family (MAXVIFS), and they are taken",
                evidence=f"{table.interfaces} {table.family} interfaces are in, {len(table.waiting)} wait",
                fix="move interfaces to a second instance, or narrow the pattern",
            )


def not_downstream(patient: Patient) -> Iterator[Finding]:
    """Somebody joins where nobody listens to it."""
    if patient.diagnosis is None:
        return
    taking_part = {row.interface for row in patient.state.interfaces if row.enabled}
    taking_part |= {proxy.bridge for proxy in patient.running() if proxy.bridge is not None}  # of which its ports tell
    for fact in patient.diagnosis.messages:
        groups = [group for group in fact.groups if patient.group in {None, group} and not stays_on_link(group) and not _is_local(patient, group)]
        if fact.kind != "report" or fact.interface in taking_part or not groups:
            continue
        yield Finding(
            severity="warning" if patient.group is not None else "note",
            code="interface/not-downstream",
            where=fact.interface,
            seen=f"{fact.sender} asks for {', '.join(map(str, groups[:4]))} there and gets nothing",
            cause="the interface is no downstream of any instance, so what is reported there is ignored",
            evidence=f"{fact.packets} reports of {fact.sender} on {fact.interface} in {patient.diagnosis.window_ms / 1000:g} s",
            fix=f"interfaces: [..., {fact.interface}]",
        )


def _is_local(patient: Patient, group: Address) -> bool:
    return any(patient.is_local(proxy.name, group) for proxy in patient.running())


def deviations(patient: Patient) -> Iterator[Finding]:
    no_vlans = patient.diagnosis is not None and any(one.name == "CONFIG_VLAN_8021Q" and not one.present for one in patient.diagnosis.options)
    for row in patient.state.deviations:
        if row.kind == "vlan" and no_vlans:
            continue  # told as what it is
        yield Finding(
            severity="error",
            code=f"deviation/{row.kind}",
            where=row.name,
            seen="streams or memberships may be dropped on this device",
            cause="it is not as the configuration wants it: changed by hand, or it cannot be had",
            evidence=f"expected {row.expected or 'nothing'}, found {row.found or 'nothing'}",
            fix="igmpconf apply puts it back; keep others from changing it",
        )


CHECKS = (instances, in_force, interfaces, addresses, bridge_ports, limit, not_downstream, deviations)
