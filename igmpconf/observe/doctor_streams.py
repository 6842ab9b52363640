"""Checks of the streams: whether they arrive, pass, leave where they are wanted, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

from igmpconf.model.diagnosis import StreamFact
from igmpconf.model.effective import effective
from igmpconf.model.leaf import Address
from igmpconf.model.state import InterfaceRow, MfcRow
from igmpconf.observe.doctor_patient import PATIENCE_S, Finding, Patient, counter, family_of, subnets, where

_STRICT, _LOOSE = 1, 2  # reverse path filter


def _upstream(patient: Patient, instance: str, group: Address) -> InterfaceRow | None:
    return next((row for row in patient.interfaces("upstream") if row.up and (row.instance, row.family) == (instance, family_of(group))), None)


def _window(patient: Patient) -> str:
    return f"{patient.diagnosis.window_ms / 1000:g} s" if patient.diagnosis is not None else "0 s"


def received(patient: Patient) -> Iterator[Finding]:
    """Upstream was told, and nothing comes, or nothing any more: the provider, its network, or something before us."""
    told = {(row.instance, row.group): row.interface for row in patient.state.upstream}
    is_whole = patient.diagnosis is not None and patient.diagnosis.window_ms > 0 and not patient.diagnosis.streams_left_out
    for (instance, group), uptimes in sorted(patient.joined.items(), key=str):
        interface, uptime_s = told.get((instance, group)), max(uptimes.values())
        row = _upstream(patient, instance, group)
        if uptime_s < PATIENCE_S or interface is None or row is None or patient.arriving.get((row.interface, group), []):
            continue
        entries = patient.entries.get((instance, group), [])
        if entries and all(entry.packets == 0 and entry.state == "waiting-for-data" for entry in entries):
            yield Finding(
                severity="warning",
                code="stream/not-received",
                where=f"{instance}/{interface}",
                seen=f"{group} stays dark for everybody",
                cause="we report the group upstream, and no datagram of it arrives: the source does not send, or the network before us loses it",
                evidence=f"joined for {uptime_s} s, 0 datagrams forwarded",
                fix=f"igmpconf sniff {interface} shows our reports; ask whoever runs the upstream network",
            )
        elif entries and is_whole and _is_a_stream(entries, uptime_s):
            packets = sum(entry.packets or 0 for entry in entries)
            yield Finding(
                severity="warning",
                code="stream/stopped",
                where=f"{instance}/{interface}",
                seen=f"{group} stopped for everybody",
                cause="datagrams of it came and come no more, although we still report the group upstream: the source, or the network before us",
                evidence=f"{packets} datagrams forwarded since it was joined {uptime_s} s ago, 0 in the last {_window(patient)}",
                fix=f"igmpconf sniff {interface} shows whether we are asked and answer; ask whoever runs the upstream network",
            )


def _is_a_stream(entries: list[MfcRow], uptime_s: int) -> bool:
    """Not an announcement every now and then, of which none may come while we look."""
    return sum(entry.packets or 0 for entry in entries) >= max(20, 2 * uptime_s)


def told_upstream(patient: Patient) -> Iterator[Finding]:
    for row in patient.interfaces("upstream"):
        failed = counter(row, "send-failed")
        drops = patient.diagnosis.drops if patient.diagnosis is not None else ()
        if failed and not any(one.hook == "output" and one.leaves == row.interface for one in drops):
            yield Finding(
                severity="error",
                code="upstream/not-sent",
                where=where(row),
                seen="streams do not start, or stop when the provider asks next",
                cause="the kernel refused to send reports on the upstream",
                evidence=f"send-failed of {row.family} is {failed}",
                fix="igmpconf logs names the error (packet/not-sent); a firewall in its output hook, or an interface without a way out",
            )
    if patient.group is None:
        return
    for (instance, group), uptimes in patient.joined.items():
        if patient.is_local(instance, group):
            yield Finding(
                severity="note",
                code="group/local",
                where=f"{instance}/{', '.join(sorted(uptimes))}",
                seen=f"{group} does not come from the upstream",
                cause="it is one of local-groups, which are proxied among the downstreams and never asked for upstream",
                evidence=f"joined on {', '.join(sorted(uptimes))}, not reported upstream",
                fix="local-groups: leave the group out, if a provider sends it",
            )


def entries(patient: Patient) -> Iterator[Finding]:
    """Every downstream that joined is in an entry of the kernel."""
    for (instance, group), uptimes in sorted(patient.joined.items(), key=str):
        rows = patient.entries.get((instance, group), [])
        for interface in sorted(uptimes):
            hiding = [row for row in rows if row.kind == "static" and row.state != "withheld" and interface not in row.downstreams]
            if hiding:
                one = hiding[0]
                yield Finding(
                    severity="warning",
                    code="mfc/hides",
                    where=f"{instance}/{interface}",
                    seen=f"{group} from {_anybody(one)} stays dark behind {interface}",
                    cause="a permanent entry says where it goes, and wins over what is joined",
                    evidence=f"mfc: {one.source} -> {group} leaves by {', '.join(one.downstreams)} only; {interface} joined {uptimes[interface]} s ago",
                    fix=f"mfc: downstream-interface: [{', '.join(sorted({*one.downstreams, interface}))}]",
                )
        vanished = [row for row in rows if row.packets is None and row.state != "withheld"]
        if vanished and _is_kept_in_a_kernel(patient, instance, group):
            yield Finding(
                severity="error",
                code="mfc/vanished",
                where=f"{instance}/{', '.join(sorted(uptimes))}",
                seen=f"{group} stays dark for everybody",
                cause="another program took our forwarding entry out of the kernel",
                evidence=f"{len(vanished)} of {len(rows)} entries of {group} that we made are not in the kernel",
                fix="stop the program that does it (smcroutectl flush, another router), then restart the agent: systemctl restart igmpconf-agent",
            )


def _is_kept_in_a_kernel(patient: Patient, instance: str, group: Address) -> bool:
    tables = patient.diagnosis.tables if patient.diagnosis is not None else ()
    proxy = patient.proxy(instance)
    if proxy is None or proxy.mode == "bridged":
        return False  # a bridge counts nothing
    return any(one.in_force and (one.instance, one.family) == (instance, family_of(group)) for one in tables)


def _anybody(row: MfcRow) -> str:
    return "anybody" if row.source == "*" else str(row.source)


def ttl(patient: Patient) -> Iterator[Finding]:
    """A datagram is passed on when its TTL is above 1, and not below the threshold of where it leaves."""
    for (instance, group), uptimes in sorted(patient.joined.items(), key=str):
        row, proxy = _upstream(patient, instance, group), patient.proxy(instance)
        if row is None or proxy is None or patient.is_local(instance, group):
            continue
        for stream in patient.arriving.get((row.interface, group), []):
            for interface in sorted(uptimes):
                entry = next((found for found in patient.interfaces("downstream") if (found.instance, found.interface) == (instance, interface)), None)
                configured = patient.entry(entry) if entry is not None else None
                # IPv6 has no thresholds: an entry says which interfaces, and nothing else
                threshold = int(effective(proxy, configured, "threshold")) if configured is not None and group.version == 4 else 1
                needed = max(2, threshold)
                if stream.lowest_ttl >= needed:
                    continue
                is_all = stream.highest_ttl < needed
                yield Finding(
                    severity="error" if is_all else "warning",
                    code="stream/ttl",
                    where=f"{instance}/{interface}",
                    seen=f"{group} {'stays dark' if is_all else 'has gaps'} behind {interface}",
                    cause=(
                        "its datagrams arrive with a TTL of 1, and such a datagram may not leave the network it is in"
                        if stream.highest_ttl < 2
                        else f"its datagrams arrive with a TTL below the threshold of {interface}"
                    ),
                    evidence=f"TTL {_span(stream)} in {stream.packets} datagrams of {stream.source} in {_window(patient)}; {needed} is needed",
                    fix=f"have {stream.source} send with a higher TTL" + (f", or threshold: {max(1, stream.lowest_ttl)}" if stream.lowest_ttl >= 2 else ""),
                )


def _span(stream: StreamFact) -> str:
    return str(stream.lowest_ttl) if stream.lowest_ttl == stream.highest_ttl else f"{stream.lowest_ttl} to {stream.highest_ttl}"


def refused_sources(patient: Patient) -> Iterator[Finding]:
    """Streams that arrive and are dropped for where they say they come from."""
    joined = patient.joined
    for row in patient.interfaces("upstream"):
        link = patient.link(row.interface)
        for stream in patient.diagnosis.streams if patient.diagnosis is not None else ():
            if stream.interface != row.interface or (row.instance, stream.group) not in joined or family_of(stream.group) != row.family:
                continue
            filtering = link.reverse_path_filter if link is not None and row.family == "ipv4" else 0
            if stream.is_own:
                yield _martian(patient, row, stream)
            elif (filtering == _STRICT and stream.route != row.interface) or (filtering == _LOOSE and stream.route is None):
                yield _no_way_back(patient, row, stream, int(filtering or 0))
            elif _is_foreign(patient, row, stream.source):
                yield Finding(
                    severity="warning",
                    code="stream/foreign-source",
                    where=where(row),
                    seen=f"{stream.group} from {stream.source} stays dark",
                    cause="the upstream has alternative-subnets, which are the only foreign sources that are passed on, and this is none of them",
                    evidence=f"{stream.packets} datagrams in {_window(patient)}; dropped-foreign-source is {counter(row, 'dropped-foreign-source')}",
                    fix=f"alternative-subnets: [..., {stream.source}/{stream.source.max_prefixlen}]",
                )


def _martian(patient: Patient, row: InterfaceRow, stream: StreamFact) -> Finding:
    return Finding(
        severity="error",
        code="stream/martian",
        where=where(row),
        seen=f"{stream.group} from {stream.source} stays dark",
        cause="its datagrams come from an address that this device has itself, or that nobody may send from, and the kernel drops them",
        evidence=f"{stream.packets} datagrams from {stream.source} on {row.interface} in {_window(patient)}",
        fix=f"give the source an address of its own; no interface here may have {stream.source}",
    )


def _no_way_back(patient: Patient, row: InterfaceRow, stream: StreamFact, filtering: int) -> Finding:
    assert patient.diagnosis is not None
    back = f"the way back to it is {stream.route}" if stream.route is not None else "there is no route to it"
    return Finding(
        severity="error",
        code="stream/reverse-path",
        where=where(row),
        seen=f"{stream.group} from {stream.source} stays dark",
        cause=f"the reverse path filter drops it: {back}, not {row.interface}" if stream.route is not None else f"the reverse path filter drops it: {back}",
        evidence=(
            f"rp_filter in force on {row.interface} is {filtering}; {stream.packets} datagrams arrived in {_window(patient)}, "
            f"IPReversePathFilter rose by {patient.diagnosis.reverse_path_drops if patient.diagnosis.reverse_path_drops is not None else 'an unknown number'}"
        ),
        fix=f"ip route add {stream.source} dev {row.interface}" + (", or net.ipv4.conf.all.rp_filter: 0" if filtering else ""),
    )


def _is_foreign(patient: Patient, row: InterfaceRow, source: Address) -> bool:
    entry = patient.entry(row)
    allowed = [prefix for prefix in entry.alternative_subnets if prefix.version == source.version] if entry is not None else []
    return bool(allowed) and not any(source in prefix for prefix in (*allowed, *subnets(row)))


def group(patient: Patient) -> Iterator[Finding]:
    """Who asked about one group hears also where it is not joined."""
    wanted = patient.group
    if wanted is None:
        return
    joined = {(row.instance, row.interface) for row in patient.state.groups if row.group == wanted}
    if not joined:
        yield Finding(
            severity="warning",
            code="group/nobody",
            where=str(wanted),
            seen=f"{wanted} stays dark for everybody",
            cause="no subscriber has reported it on any downstream",
            evidence=f"{len(patient.state.groups)} memberships are known, none of this group",
            fix="igmpconf sniff IFACE --filter report, while a subscriber joins",
        )
        return
    for row in patient.interfaces("downstream"):
        if row.up and row.family == family_of(wanted) and (row.instance, row.interface) not in joined:
            yield Finding(
                severity="note",
                code="group/not-here",
                where=where(row),
                seen=f"{wanted} is not forwarded to this interface",
                cause="membership on that interface was not learned: nobody behind it has reported the group",
                evidence=f"joined on {', '.join(sorted(name for _, name in joined))}",
                fix=f"igmpconf sniff {row.interface} --filter report, while a subscriber there joins",
            )


# streams nobody asked for


def other_router(patient: Patient) -> Iterator[Finding]:
    """Somebody else passes streams on to a downstream of ours."""
    for row in patient.interfaces("downstream"):
        foreign: dict[str, int] = {}
        known = [*subnets(row), *(prefix for prefix in _alternatives(patient, row))]
        for stream in patient.diagnosis.streams if patient.diagnosis is not None else ():
            if stream.interface != row.interface or family_of(stream.group) != row.family or patient.group not in {None, stream.group}:
                continue
            if known and not stream.source.is_link_local and not any(stream.source in subnet for subnet in known if subnet.version == stream.source.version):
                foreign[f"{stream.source} to {stream.group}"] = stream.packets
        if foreign:
            yield Finding(
                severity="warning",
                code="unwanted/other-router",
                where=where(row),
                seen="streams arrive at subscribers from somewhere else than from us, asked for or not, and twice where we forward them too",
                cause="another router passes streams on to this network: their sources are none of its hosts",
                evidence=f"{sum(foreign.values())} datagrams in {_window(patient)}: {', '.join(list(foreign)[:4])}",
                fix="let one router forward there; or alternative-subnets: [THEIR/PREFIX] if the sources are behind this interface",
            )


def _alternatives(patient: Patient, row: InterfaceRow) -> tuple[object, ...]:
    entry = patient.entry(row)
    return entry.alternative_subnets if entry is not None else ()


def flooding(patient: Patient) -> Iterator[Finding]:
    """A downstream bridge that copies each stream to every port."""
    for row in patient.interfaces("downstream"):
        link = patient.link(row.interface)
        leaving = [
            one
            for one in (patient.diagnosis.departures if patient.diagnosis is not None else ())
            if one.interface == row.interface and family_of(one.group) == row.family and patient.group in {None, one.group}
        ]
        if link is None or link.snooping is not False or len(link.ports) < 2 or not leaving:
            continue
        yield Finding(
            severity="warning",
            code="unwanted/flooding",
            where=where(row),
            seen="streams arrive at subscribers who have not asked for them",
            cause=f"bridge {link.interface} does not snoop, and copies every stream to all of its {len(link.ports)} ports",
            evidence=f"{sum(one.packets for one in leaving)} datagrams to {len({one.group for one in leaving})} groups left by it in {_window(patient)}",
            fix=f"ip link set {link.interface} type bridge mcast_snooping 1",
        )


def permanent(patient: Patient) -> Iterator[Finding]:
    """As configured, so only for who asks: an entry or a static group that no host needs."""
    if patient.group is None and patient.symptom != "unwanted":
        return
    hosts = {(row.instance, row.interface, row.group) for row in patient.state.groups if row.last_reporter is not None}
    told: set[tuple[str, str, object]] = set()
    for row in patient.state.mfc:
        if isinstance(row.group, str) or patient.group not in {None, row.group} or row.state == "withheld":
            continue
        for interface in row.downstreams:
            key = (row.instance, interface, row.group)
            if key in hosts or key in told or not (row.kind == "static" or _is_static_group(patient, *key)):
                continue
            told.add(key)
            which = "mfc" if row.kind == "static" else "static-groups"
            yield Finding(
                severity="note",
                code="unwanted/permanent",
                where=f"{row.instance}/{interface}",
                seen=f"{row.group} is forwarded to {interface} although no subscriber there has asked for it",
                cause=f"{which} in the desired state says so",
                evidence=f"{which}: {row.source} -> {row.group}; 0 hosts reported it; {row.packets or 0} datagrams so far",
                fix=f"take it out of {which}, if it is not wanted",
            )


def _is_static_group(patient: Patient, instance: str, interface: str, wanted: Address) -> bool:
    row = next((one for one in patient.interfaces("downstream") if (one.instance, one.interface) == (instance, interface)), None)
    entry = patient.entry(row) if row is not None else None
    return entry is not None and any(one.group == wanted for one in entry.static_groups)


CHECKS = (received, told_upstream, entries, ttl, refused_sources, group, other_router, flooding, permanent)
