"""Who may ask, and for what: the policy between the wire and the membership tables of one downstream.

It drops what may not be joined, trims sources that are denied, and applies the rules of source-specific groups
(RFC 4604 3).  Limits depend on what is held already and live in listeners.py.
"""

from __future__ import annotations

from igmpconf.engine.interface import Interface
from igmpconf.engine.messages import Record, RecordKind
from igmpconf.engine.params import Rule
from igmpconf.engine.prefixes import PrefixSet

_CACHED = 20_000  # groups and senders remembered; more than one interface ever holds, and a bound for what strangers send
_NO_SOURCES: frozenset[bytes] = frozenset()
_EXCLUDING = frozenset({RecordKind.IS_EX, RecordKind.TO_EX})


class Admission:
    def __init__(self, interface: Interface, ssm_range: PrefixSet) -> None:
        self._interface = interface
        self._family = interface.outbox.family
        self.reset(ssm_range)

    def reset(self, ssm_range: PrefixSet) -> None:
        """Forget conclusions: the parameters or the addresses changed."""
        self._ssm_range = ssm_range
        self._rules = tuple(rule for rule in self._interface.params.rules if rule.speaks_of(self._interface.name))
        self._group_rules: dict[bytes, tuple[Rule, ...] | None] = {}
        self._senders: dict[bytes, bool] = {}

    def accepts_sender(self, sender: bytes) -> bool:
        """Reports count only from the interface's subnets and its alternative ones (PKT-28, decision 9)."""
        known = self._senders.get(sender)
        if known is None:
            subnets, own = self._interface.params.alternative_subnets, self._interface.subnets
            known = self._interface.params.is_port or not own or sender == self._family.unspecified or sender in own or sender in subnets
            if len(self._senders) >= _CACHED:
                self._senders.clear()
            self._senders[sender] = known
        return known

    def is_source_specific(self, group: bytes) -> bool:
        return group in self._ssm_range

    def is_plain(self, group: bytes) -> bool:
        """No rule speaks of anybody's wish for `group` from any source: it may be joined."""
        return not self._rules and not self._family.stays_on_link(group) and group not in self._ssm_range

    def admitted(self, record: Record, *, is_latest: bool, now_ms: int) -> Record | None:
        """The part of `record` that may have an effect, or None; `is_latest` False: it came in an older version."""
        group = record.group
        if self._family.stays_on_link(group):
            return record if self._is_switched(group) else None  # MEM-19, MEM-20
        kind, sources = record.kind, record.sources
        if group in self._ssm_range and (not is_latest or kind in _EXCLUDING):  # RFC 4604 3.1, 3.5, 3.7
            self._interface.reject(now_ms, "ssm", group=group)
            return None
        rules = self._rules_of(group)
        if not rules or kind is RecordKind.BLOCK:
            return record
        if kind in _EXCLUDING:
            return self._admitted_excluding(record, rules, now_ms)
        allowed = frozenset(source for source in sources if _decide(rules, source))
        if len(allowed) == len(sources):
            return record
        self._interface.reject(now_ms, "denied", group=group)
        # a TO_IN without sources still says that its host left
        return Record(kind, group, allowed) if allowed or kind is RecordKind.TO_IN else None

    def allows_group(self, group: bytes) -> bool:
        """True if somebody may hold `group` for any source."""
        if self._is_switched(group):
            return True
        rules = self._rules_of(group)
        return not self._family.stays_on_link(group) and group not in self._ssm_range and _decide(rules, None)

    def allows_source(self, group: bytes, source: bytes) -> bool:
        """True if somebody may hold (`source`, `group`)."""
        return self._is_switched(group) or (not self._family.stays_on_link(group) and _decide(self._rules_of(group), source))

    def _is_switched(self, group: bytes) -> bool:
        """Groups of the link itself pass a bridge whatever the policy says of streams: IPv6 lives on them."""
        return self._interface.params.is_port and self._family.is_switched(group)

    def _admitted_excluding(self, record: Record, rules: tuple[Rule, ...], now_ms: int) -> Record | None:
        if not _decide(rules, None):
            self._interface.reject(now_ms, "denied", group=record.group)
            return None
        denied = {host for rule in rules if rule.sources is not None and not rule.allows for host in rule.sources.hosts() if not _decide(rules, host)}
        return Record(record.kind, record.group, record.sources | denied) if denied else record

    def _rules_of(self, group: bytes) -> tuple[Rule, ...]:
        if not self._rules:
            return ()
        known = self._group_rules.get(group)
        if known is None:
            known = tuple(rule for rule in self._rules if rule.groups is None or group in rule.groups)
            if len(self._group_rules) >= _CACHED:
                self._group_rules.clear()
            self._group_rules[group] = known
        return known


def _decide(rules: tuple[Rule, ...], source: bytes | None) -> bool:
    """First match wins, no match allows; `source` None is a membership of any source."""
    for rule in rules:
        if rule.sources is None or (source is not None and source in rule.sources):
            return rule.allows
    return True
