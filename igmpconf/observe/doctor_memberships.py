"""Checks of who asks, who answers and how regularly: reports refused, queriers, timers, losses, snooping bridges."""

from __future__ import annotations

from collections.abc import Iterator

from igmpconf.model.config import InterfaceConfig, ProxyConfig
from igmpconf.model.diagnosis import LinkFact
from igmpconf.model.effective import effective
from igmpconf.model.state import InterfaceRow
from igmpconf.observe.doctor_patient import Finding, Patient, Severity, counter, current, own_addresses, span, stays_on_link, where

_FEWEST_REFRESHES = 20  # of which a share says something
_FEWEST_QUERIES = 4
_OFTEN = 0.05  # queries lost: more is told
_BEARABLE = 0.001  # chance that a membership ends although somebody listens, per query
_MOST_ROBUST = 7  # the largest value that a query can carry (RFC 3376 4.1.6)
_LONGEST_OLDER_RESPONSE_MS = 25_500  # RFC 2236 2.2: tenths of a second in one octet
_DEFAULT_SILENCE_S = 255  # RFC 3376 8.5 with the default values

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
    "rejected-source-limit": (
        "warning",
        "a further source of a group cannot be had",
        "the group holds as many sources as max-sources-per-group allows",
        "max-sources-per-group: a larger number",
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
    "rejected-older-version": (
        "warning",
        "some subscribers cannot join, or another router is not heard",
        "they speak an older version than minimum-version (minimum-mld-version) lets in",
        "minimum-version: 1 (minimum-mld-version: 1), or leave the line out",
    ),
    "rejected-ssm": (
        "note",
        "somebody asks for a source-specific group without a source",
        "such reports mean nothing in ssm-range",
        "ssm-range: leave the group out, or have the host name its source",
    ),
}


def refused(patient: Patient) -> Iterator[Finding]:
    for row in patient.interfaces("downstream"):
        for one in row.counters:
            known = _REFUSALS.get(one.name)
            if known is None or not one.value:
                continue
            severity, seen, cause, fix = known
            yield Finding(
                severity=severity,
                code=f"report/{one.name.removeprefix('rejected-')}",
                where=where(row),
                seen=seen,
                cause=cause,
                evidence=f"{one.name} of {row.family} is {one.value}",
                fix=fix,
            )


def querier(patient: Patient) -> Iterator[Finding]:
    forwards = {proxy.name for proxy in patient.running() if proxy.forward_when_non_querier}
    for row in patient.interfaces("downstream"):
        asking = row.querier
        if asking is None or asking.self_ or asking.address is None or row.instance in forwards:
            continue
        yield Finding(
            severity="warning",
            code="querier/other",
            where=where(row),
            seen="subscribers behind this interface get no stream from us",
            cause="another router with a lower address asks for memberships there, so forwarding is its part (RFC 4605 3)",
            evidence=f"{asking.address} is the querier for {asking.since_s or 0} s, not {', '.join(row.addresses) or 'us'}",
            fix="forward-when-non-querier: yes, or switch the other querier off",
        )


def second_querier(patient: Patient) -> Iterator[Finding]:
    """We are elected, and somebody else asks all the same."""
    for row in patient.interfaces("downstream"):
        asking = row.querier
        if asking is None or not asking.self_:
            continue
        for heard in row.heard_queriers:
            recent_s = asking.since_s or 0
            if heard.queries < 2 or heard.last_s >= recent_s or not current(heard, asking.query_interval_ms or 125_000):
                continue
            is_switch = heard.address.is_unspecified
            yield Finding(
                severity="note" if is_switch else "warning",
                code="querier/second",
                where=where(row),
                seen="memberships there may end too early, or snooping switches send reports the wrong way",
                cause=(
                    "a switch asks without an address although we ask: our queries do not reach it, or it does not give way"
                    if is_switch
                    else "a second router asks there although our lower address was elected: our queries do not reach it, or it does not give way"
                ),
                evidence=f"{heard.queries} queries of {heard.address}, the last {heard.last_s} s ago; the querier is {asking.address or 'this device'}",
                fix=f"switch the querier of {heard.address} off" if not is_switch else "switch the querier of that switch off",
            )


# timers


def intervals(patient: Patient) -> Iterator[Finding]:
    for proxy in patient.running():
        for entry in proxy.interfaces:
            if not entry.upstream and entry.enabled is not False:
                yield from _intervals(proxy, entry)
    for row in patient.interfaces("downstream"):
        link, entry_of = patient.link(row.interface), patient.entry(row)
        owner = patient.proxy(row.instance)
        if link is not None and entry_of is not None and owner is not None and link.snooping and row.querier is not None and row.querier.self_:
            yield from _outlived(owner, entry_of, row, link)


def _intervals(proxy: ProxyConfig, entry: InterfaceConfig) -> Iterator[Finding]:
    query, response, last = (int(effective(proxy, entry, name)) for name in ("query-interval", "query-response-interval", "last-member-interval"))
    robustness = int(effective(proxy, entry, "robustness"))
    place = f"{proxy.name}/{entry.interface}"
    if 2 * response > query:
        yield Finding(
            severity="warning",
            code="interval/response-long",
            where=place,
            seen="memberships are learned late, and one lost report may end a stream",
            cause="hosts still answer one query when the next is due, so that few answers count for the query they belong to",
            evidence=f"query-response-interval {span(response)} is more than half of query-interval {span(query)}",
            fix=f"query-response-interval: {span(max(100, query // 10))}, or query-interval: {span(10 * response)}",
        )
    if last * robustness > query:
        yield Finding(
            severity="warning",
            code="interval/leave-long",
            where=place,
            seen="a stream that nobody wants any more goes on longer than to the next query",
            cause="the questions after a leave take longer than the time between general queries",
            evidence=f"last-member-interval {span(last)} x robustness {robustness} is {span(last * robustness)}, query-interval {span(query)}",
            fix="last-member-interval: 1s",
        )
    version = effective(proxy, entry, "version")
    if version == 2 and "ipv4" in effective(proxy, None, "family"):
        for name, value in (("query-response-interval", response), ("last-member-interval", last)):
            if value > _LONGEST_OLDER_RESPONSE_MS:
                yield Finding(
                    severity="warning",
                    code="interval/not-codable",
                    where=place,
                    seen="hosts answer sooner, and all within a shorter time, than is configured",
                    cause="a query of IGMPv2 cannot say more than 25.5 s (RFC 2236 2.2)",
                    evidence=f"{name} is {span(value)}, version is 2",
                    fix=f"{name}: 25.5s, or version: 3",
                )


def _outlived(proxy: ProxyConfig, entry: InterfaceConfig, row: InterfaceRow, link: LinkFact) -> Iterator[Finding]:
    """A bridge that forgets listeners between two queries."""
    needed = int(effective(proxy, entry, "query-interval")) + int(effective(proxy, entry, "query-response-interval"))
    kept = link.membership_interval_ms
    if kept is not None and kept < needed:
        yield Finding(
            severity="warning",
            code="interval/longer-than-snooping",
            where=where(row),
            seen="streams stop after a brief period, until the next query",
            cause=f"bridge {link.interface} forgets a listener sooner than we ask again",
            evidence=f"mcast_membership_interval is {span(kept)}; query-interval and query-response-interval are {span(needed)} together",
            fix=f"query-interval: {span(max(1_000, kept // 3))}, or a mcast_membership_interval of {span(2 * needed)} on {link.interface}",
        )


# losses


def robustness(patient: Patient) -> Iterator[Finding]:
    for proxy in patient.running():
        holders: tuple[tuple[str, ProxyConfig | InterfaceConfig], ...] = (
            (proxy.name, proxy),
            *((f"{proxy.name}/{one.interface}", one) for one in proxy.interfaces),
        )
        for place, holder in holders:
            if holder.robustness == 1:
                yield Finding(
                    severity="warning",
                    code="robustness/one",
                    where=place,
                    seen="streams stop now and then, after a brief period",
                    cause="a single lost report or query ends a membership",
                    evidence="robustness is 1",
                    fix="robustness: 2, or 3 on a lossy link",
                )


def lossy(patient: Patient) -> Iterator[Finding]:
    """Answers to queries that did not come, of groups that were listened to all the time."""
    for row in patient.interfaces("downstream"):
        expected, lost = counter(row, "refresh-expected"), counter(row, "refresh-lost")
        now = row.querier.robustness if row.querier is not None and row.querier.robustness is not None else 2
        if expected < _FEWEST_REFRESHES or not lost:
            continue
        share = lost / expected
        enough = next((number for number in range(1, _MOST_ROBUST) if share**number <= _BEARABLE), _MOST_ROBUST)
        if enough <= now:
            continue
        yield Finding(
            severity="warning",
            code="robustness/lossy",
            where=where(row),
            seen="streams stop now and then, after a brief period",
            cause="the link behind this interface loses queries or reports, more than the robustness makes up for",
            evidence=f"{lost} of {expected} refreshes of {row.family} memberships did not come ({100 * share:.1f} %), robustness is {now}",
            fix=f"robustness: {enough}",
        )


def regularity(patient: Patient) -> Iterator[Finding]:
    """Queries of others that we depend on: on the upstream, and where another router is the querier."""
    for row in patient.interfaces():
        if row.role == "downstream" and (row.querier is None or row.querier.self_):
            continue
        for heard in row.heard_queriers:
            lost = heard.lost or 0
            if heard.queries < _FEWEST_QUERIES or lost / (heard.queries + lost) < _OFTEN:
                continue
            if row.role == "downstream" and row.querier is not None and heard.address != row.querier.address:
                continue
            yield Finding(
                severity="warning",
                code="queries/irregular",
                where=where(row),
                seen="streams stop now and then, after a brief period",
                cause=(
                    "the network before us loses IGMP: queries of the provider's router are missing, and reports to it may be as well"
                    if row.role == "upstream"
                    else "the link behind this interface loses queries of the router that asks there"
                ),
                evidence=(
                    f"{lost} of {heard.queries + lost} queries of {heard.address} did not come; they should come every {span(heard.interval_ms)}, "
                    f"and came after {span(heard.shortest_gap_ms)} to {span(heard.longest_gap_ms)}"
                ),
                fix="have the lossy link mended" + (", or ask for a higher robustness there" if row.role == "upstream" else "; robustness: 3 on both routers"),
            )


def upstream_queries(patient: Patient) -> Iterator[Finding]:
    """Nobody asks on the upstream any more, or nobody ever did."""
    for row in patient.interfaces("upstream"):
        held_s = max((max(uptimes.values()) for (instance, group), uptimes in patient.joined.items() if _is_of(row, instance, group.version)), default=0)
        if not row.up or not held_s:
            continue
        last = min(row.heard_queriers, key=lambda one: one.last_s, default=None)
        if last is not None and last.last_s <= (2 * (last.interval_ms or 125_000) + 2_000) / 1000:
            continue
        if unheard := counter(row, "rejected-older-version"):
            yield _too_old(row, unheard)
        elif last is None:
            if held_s >= _DEFAULT_SILENCE_S:
                yield _silent(row, f"0 queries in {held_s} s", "note", "nobody asked on the upstream since groups are held there")
        else:
            evidence = f"the last of {last.queries} queries came {last.last_s} s ago from {last.address}; they came every {span(last.interval_ms)}"
            yield _silent(row, evidence, "warning", "the router that asked on the upstream fell silent, or its queries are lost on the way")


def _is_of(row: InterfaceRow, instance: str, version: int) -> bool:
    return instance == row.instance and row.family == ("ipv4" if version == 4 else "ipv6")


def _silent(row: InterfaceRow, evidence: str, severity: Severity, cause: str) -> Finding:
    return Finding(
        severity=severity,
        code="upstream/no-queries",
        where=where(row),
        seen="streams stop some minutes after they were joined, where switches before us wait for answers to queries",
        cause=cause,
        evidence=evidence,
        fix="have a querier switched on in the network before us, or its snooping off",
    )


def _too_old(row: InterfaceRow, unheard: int) -> Finding:
    leaf = "minimum-version" if row.family == "ipv4" else "minimum-mld-version"
    return Finding(
        severity="warning",
        code="upstream/older-querier",
        where=where(row),
        seen="no stream arrives although groups are joined, or streams stop some minutes after",
        cause=f"who asks on the upstream does so in an older version than {leaf} there lets in: it is not answered, and may not understand our reports",
        evidence=f"rejected-older-version of {row.family} is {unheard}, and nobody else asks there",
        fix=f"{leaf}: 1 on {row.interface}, or leave the line out",
    )


# snooping


def snooping(patient: Patient) -> Iterator[Finding]:
    """A bridge that learns listeners, as our downstream: good with our queries, harmful without."""
    for row in patient.interfaces("downstream"):
        link = patient.link(row.interface)
        if link is None or not link.snooping or not row.up or row.querier is None:
            continue
        known = link.querier if row.family == "ipv4" else link.querier_ipv6
        if known is None:
            yield Finding(
                severity="error",
                code="snooping/no-querier",
                where=where(row),
                seen="streams stop after a brief period, or go to every port",
                cause=f"bridge {link.interface} snoops and knows no querier: our queries do not reach it, or it forgets them before the next one",
                evidence=(
                    f"{row.family} querier known to {link.interface}: none; mcast_querier_interval {span(link.querier_interval_ms)}, "
                    f"we ask every {span(row.querier.query_interval_ms)}"
                ),
                fix=f"ip link set {link.interface} type bridge mcast_querier_interval 25500, or query-interval: shorter than that",
            )
        elif row.querier.self_ and known not in own_addresses(row) and not known.is_unspecified:
            yield Finding(
                severity="warning",
                code="snooping/other-querier",
                where=where(row),
                seen="reports may go to another port than to us",
                cause=f"bridge {link.interface} snoops and takes somebody else for the querier",
                evidence=f"{link.interface} knows {known}, and we ask from {row.querier.address}",
                fix="switch the other querier off, or give this interface the lower address",
            )
        yield from _not_reported(patient, row, link)


def _not_reported(patient: Patient, row: InterfaceRow, link: LinkFact) -> Iterator[Finding]:
    """The bridge learned what did not get to us."""
    if any(counter(row, name) for name in _REFUSALS):
        return  # told already, with the reason
    held = {one.group for one in patient.state.groups if (one.instance, one.interface) == (row.instance, row.interface)}
    version = 4 if row.family == "ipv4" else 6
    unknown = [one for one in link.groups if one.group.version == version and one.group not in held and not stays_on_link(one.group)]
    if unknown:
        named = ", ".join(str(one.group) for one in unknown[:4])
        ports = ", ".join(sorted({port for one in unknown for port in one.ports})[:8])
        yield Finding(
            severity="error",
            code="snooping/not-reported",
            where=where(row),
            seen=f"{named} stays dark for those behind {ports}",
            cause=f"bridge {link.interface} knows their reports, and something keeps them from us: a packet filter of family bridge, most often",
            evidence=f"{len(unknown)} groups are in the table of {link.interface} and not in ours",
            fix="let IGMP and MLD pass hook input of family bridge: nft list ruleset bridge",
        )


CHECKS = (refused, querier, second_querier, intervals, robustness, lossy, regularity, upstream_queries, snooping)
