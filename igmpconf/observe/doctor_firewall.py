"""What the packet filter of the device drops of all that the proxy needs: seen, or by its rules."""

from __future__ import annotations

from collections.abc import Iterator

from igmpconf.model.diagnosis import DropFact
from igmpconf.observe.doctor_patient import Finding, Patient

# What we drop ourselves to keep streams apart (linux/guard.py): as wanted, and where it harms, told as stream/foreign-source.
_GUARD, _GUARDING = "inet igmpconf ", (" only sources of ", " local groups, ")


def drops(patient: Patient) -> Iterator[Finding]:
    """One finding for each way and each rule that drops on it; groups that nobody joined may be dropped."""
    if patient.diagnosis is None:
        return
    roles = {row.interface: (row.role, row.instance) for row in patient.interfaces()}
    joined = {group for _, group in patient.joined}
    together: dict[tuple[str, str, str, str, str, str], list[DropFact]] = {}
    for fact in patient.diagnosis.drops:
        is_wanted = fact.chain.startswith(_GUARD) and any(words in fact.rule for words in _GUARDING)
        if (
            is_wanted
            or (fact.arrives not in roles and fact.leaves not in roles)
            or (fact.what == "stream" and fact.group != "*" and fact.group not in {str(group) for group in joined})
        ):
            continue
        together.setdefault((fact.hook, fact.what, fact.arrives, fact.leaves, fact.chain, fact.rule), []).append(fact)
    for facts in together.values():
        yield _finding(patient, facts, roles)


def _finding(patient: Patient, facts: list[DropFact], roles: dict[str, tuple[str, str]]) -> Finding:
    assert patient.diagnosis is not None
    one = facts[0]
    is_upstream = roles.get(one.arrives or one.leaves, ("", ""))[0] == "upstream"
    if one.what == "stream":
        code, seen = "firewall/drops-streams", f"streams do not get from {one.arrives} to {one.leaves or 'anywhere'}"
        groups = sorted({fact.group for fact in facts} - {"*"})
        seen += f", {', '.join(groups[:4])} among them" if groups else ""
    elif one.hook == "output":
        code = "firewall/drops-sent"
        seen = "the provider never hears of our memberships" if is_upstream else "subscribers are never asked, and their streams stop after some minutes"
    elif is_upstream:
        code, seen = "firewall/drops-queries", "streams stop some minutes after they were joined: the provider's queries are not answered"
    else:
        code, seen = "firewall/drops-reports", "memberships are not learned, and streams do not start or stop after some minutes"
    place = one.arrives or one.leaves
    return Finding(
        severity="error",
        code=code,
        where=f"{roles[place][1]}/{place}" if place in roles else place,
        seen=seen,
        cause=f"the packet filter drops them in hook {one.hook}: {one.rule} in chain {one.chain}",
        evidence=_evidence(facts, patient.diagnosis.window_ms),
        fix=_fix(patient, one),
    )


def _evidence(facts: list[DropFact], window_ms: int) -> str:
    packets = sum(fact.packets for fact in facts)
    parts = [f"{packets} packets were seen to be dropped in {window_ms / 1000:g} s"]
    before, after = facts[0].counter_before, facts[0].counter_after
    if before is not None and after is not None:
        parts.append(f"the counter of the rule rose from {before} to {after}" if after != before else f"the counter of the rule is {after}")
    if any(fact.by_the_rules for fact in facts):
        parts.append("by the rules none can pass")
    return ", ".join(parts)


def _fix(patient: Patient, fact: DropFact) -> str:
    firewall = patient.config.firewall
    if "igmpconf:" in fact.rule:
        return "firewall: rules: take out the rule that drops it"
    if firewall is None or not firewall.manage:
        return "firewall: {manage: yes}"
    return f"take that rule out of chain {fact.chain}; firewall: {{manage: yes}} reaches hooks input, forward and output"


CHECKS = (drops,)
