"""What is wrong with a proxy, by its configuration, its state and a look at the device: each check is a function that gives findings.

A finding says in the words of somebody whose television stays dark what is seen, why, by which numbers, and what to change.
A device on which all is well has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from igmpconf.observe import doctor_device, doctor_firewall, doctor_memberships, doctor_streams
from igmpconf.observe.doctor_patient import SYMPTOMS, Finding, Patient, Symptom

__all__ = ["CHECKS", "CODES", "SYMPTOMS", "Finding", "Patient", "diagnose", "plain"]

MOST_ALIKE = 5  # findings of one code in one place

Check = Callable[[Patient], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (*doctor_device.CHECKS, *doctor_memberships.CHECKS, *doctor_streams.CHECKS, *doctor_firewall.CHECKS)

_ALL: tuple[Symptom, ...] = ("no-stream", "not-tracked", "stops")
_DARK: tuple[Symptom, ...] = ("no-stream",)
_UNTRACKED: tuple[Symptom, ...] = ("not-tracked", "no-stream")
_STOPS: tuple[Symptom, ...] = ("stops",)
_UNWANTED: tuple[Symptom, ...] = ("unwanted",)

# Every code there is: of which symptoms it may be the cause, and what is looked at.
CODES: Mapping[str, tuple[tuple[Symptom, ...], str]] = {
    "instance/none": (_ALL, "the device has an instance"),
    "instance/disabled": (_ALL, "the instances are switched on"),
    "instance/not-in-force": (_ALL, "the instances run as configured"),
    "device/kernel-option": (_ALL, "the kernel has the options that the configuration needs"),
    "device/routing-socket": (_ALL, "no other program holds the multicast routing socket"),
    "upstream/not-up": (_DARK, "the upstream exists, is up and has a link"),
    "downstream/not-up": (_UNTRACKED, "the downstreams exist, are up and have a link"),
    "interface/bridge-port": (_UNTRACKED, "no interface is a port of a bridge"),
    "interface/limit": (_UNTRACKED, "every interface got into the kernel's table of 32"),
    "interface/not-downstream": (_UNTRACKED, "nobody joins on an interface that is no downstream"),
    "deviation/firewall": (_ALL, "rules of ours are as configured"),
    "deviation/vlan": (_ALL, "VLANs of ours are as configured"),
    "deviation/setting": (_ALL, "system settings are as the streams need them"),
    "report/sender": (_UNTRACKED, "subscribers are in the subnets of their interface"),
    "report/denied": (_UNTRACKED, "no report is denied by a rule in groups"),
    "report/group-limit": (_UNTRACKED, "max-groups is not reached"),
    "report/source-limit": (_UNTRACKED, "max-sources-per-group is not reached"),
    "report/router-alert": (_UNTRACKED, "no report is refused for want of Router Alert"),
    "report/newer-version": (_UNTRACKED, "no report is newer than the version of its interface"),
    "report/older-version": (_UNTRACKED, "no message is older than the minimum version of its interface"),
    "report/ssm": (_UNTRACKED, "source-specific groups are asked for with a source"),
    "querier/none": (("stops", "not-tracked"), "somebody can ask on every downstream"),
    "querier/other": (_DARK, "we are the querier, or forward all the same"),
    "querier/second": (_STOPS, "nobody else asks where we are the querier"),
    "queries/irregular": (_STOPS, "the queries that we depend on come regularly"),
    "upstream/no-queries": (_STOPS, "somebody asks on the upstream"),
    "upstream/older-querier": (("no-stream", "stops"), "who asks on the upstream is not older than its minimum version"),
    "upstream/not-sent": (("no-stream", "stops"), "reports leave on the upstream"),
    "interval/response-long": (("not-tracked", "stops"), "query-response-interval fits into query-interval"),
    "interval/leave-long": (_UNWANTED, "the questions after a leave fit into query-interval"),
    "interval/not-codable": (("not-tracked",), "the intervals can be said in the version"),
    "interval/longer-than-snooping": (_STOPS, "a snooping bridge remembers listeners until the next query"),
    "robustness/one": (_STOPS, "one lost message ends no membership"),
    "robustness/lossy": (_STOPS, "robustness makes up for the losses measured"),
    "snooping/no-querier": (("stops", "unwanted", "not-tracked"), "a snooping bridge knows a querier"),
    "snooping/other-querier": (_UNTRACKED, "a snooping bridge takes us for the querier"),
    "snooping/not-reported": (_UNTRACKED, "a snooping bridge passes reports on to us"),
    "stream/not-received": (_DARK, "datagrams of every joined group arrive"),
    "stream/stopped": (_STOPS, "they go on arriving"),
    "stream/ttl": (_DARK, "their TTL is high enough to be passed on"),
    "stream/reverse-path": (_DARK, "the reverse path filter lets them in"),
    "stream/martian": (_DARK, "their source address may send"),
    "stream/foreign-source": (_DARK, "their source is in the upstream's alternative-subnets, if it has any"),
    "mfc/hides": (_DARK, "no permanent entry leaves a subscriber out"),
    "mfc/vanished": (_DARK, "the entries that we made are in the kernel"),
    "group/nobody": (_UNTRACKED, "with --group: somebody joined it"),
    "group/not-here": (_UNTRACKED, "with --group: where it is not joined"),
    "group/local": (_DARK, "with --group: it is none of local-groups"),
    "firewall/drops-streams": (_DARK, "the packet filter lets streams pass"),
    "firewall/drops-reports": (_UNTRACKED, "the packet filter lets reports in"),
    "firewall/drops-queries": (_STOPS, "the packet filter lets the provider's queries in"),
    "firewall/drops-sent": (("no-stream", "stops"), "the packet filter lets our messages out"),
    "unwanted/other-router": (_UNWANTED, "no other router forwards to our downstreams"),
    "unwanted/flooding": (_UNWANTED, "a downstream bridge copies streams only to who asked"),
    "unwanted/permanent": (_UNWANTED, "with --group or --symptom unwanted: permanent entries and static groups that no host needs"),
}


def diagnose(patient: Patient) -> list[Finding]:
    """What is found, the worst first; with a symptom, what may be its cause.  Of many alike in one place, the first few."""
    order = ("error", "warning", "note")
    found = [one for check in CHECKS for one in check(patient) if patient.symptom is None or patient.symptom in CODES[one.code][0]]
    alike: dict[tuple[str, str], list[Finding]] = {}
    for one in dict.fromkeys(found):
        alike.setdefault((one.code, one.where), []).append(one)
    shown = [one for those in alike.values() for one in _first_few(those)]
    return sorted(shown, key=lambda one: (order.index(one.severity), one.code, one.where))


def _first_few(those: list[Finding]) -> list[Finding]:
    """All of them, or the first with the number of those that are not told."""
    left_out = len(those) - MOST_ALIKE
    if left_out <= 0:
        return those
    last = those[MOST_ALIKE - 1]
    return [*those[: MOST_ALIKE - 1], replace(last, evidence=f"{last.evidence}; and {left_out} more like it")]


def plain(found: Finding) -> dict[str, Any]:
    """A finding as JSON has it."""
    return {**asdict(found), "symptoms": list(CODES[found.code][0])}
