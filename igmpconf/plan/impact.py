"""What a change does to the streams that flow now: none, rejoin, or interrupts, with the groups by name.

`none` nobody notices; `rejoin` the memberships move to another upstream, a gap of one join; `interrupts` the named
groups stop where they are named, until (and unless) the hosts ask again.  Judged from the live state of the device
and the two configurations; when the state cannot tell, the worse level is said.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Sequence

from igmpconf.model.config import DeviceConfig, GroupRule, InterfaceConfig, ProxyConfig, StaticRoute
from igmpconf.model.effective import belongs, interface_for, is_named
from igmpconf.model.leaf import Address, Prefix
from igmpconf.model.state import DeviceState, GroupRow, InterfaceRow, MfcRow
from igmpconf.plan.diff import HARMLESS, Change, Impact, Level, LiveGroup

LEVELS: tuple[Level, ...] = ("none", "rejoin", "interrupts")


def judged(changes: Sequence[Change], a: DeviceConfig, b: DeviceConfig, state: DeviceState) -> tuple[Change, ...]:
    """The changes from `a` to `b` with their impact on what `state` says is flowing."""
    return tuple(dataclasses.replace(change, impact=_impact(change, a, b, state)) for change in changes)


def worst(impacts: Iterable[Impact]) -> Impact:
    """The highest level of all, with every group that is touched at that level."""
    impacts = tuple(impacts)
    level: Level = max((impact.level for impact in impacts), key=LEVELS.index, default=LEVELS[0])
    at_level = [impact for impact in impacts if impact.level == level]
    groups = tuple(sorted({group for impact in at_level for group in impact.groups}))
    return Impact(level=level, reason="; ".join(dict.fromkeys(i.reason for i in at_level if i.reason)), groups=groups)


def touched(changes: Iterable[Change]) -> frozenset[LiveGroup]:
    """Every group that some change interrupts or moves."""
    return frozenset(group for change in changes if change.impact.level != "none" for group in change.impact.groups)


def active_upstream(proxy: ProxyConfig | None) -> InterfaceConfig | None:
    """The entry of the upstream, if there is one that is enabled."""
    if proxy is None:
        return None
    return next((entry for entry in proxy.interfaces if entry.upstream and entry.enabled is not False), None)


def _impact(change: Change, a: DeviceConfig, b: DeviceConfig, state: DeviceState) -> Impact:
    head = change.path[0]
    if head.name == "igmp-proxy":
        instance = head.key[0]
        old = next((p for p in a.proxies if p.name == instance), None)
        new = next((p for p in b.proxies if p.name == instance), None)
        if old is None or old.enabled is False:
            return HARMLESS  # nothing flows through it
        return _Instance(old, new, state).impact(change)
    if head.name == "vlans" and change.before is not None:
        return _interrupts(f"{head.key[0]} is removed and its groups stop" if change.action == "-" else f"{head.key[0]} is re-created", _on(state, head.key[0]))
    if head.name == "firewall" and change.path[-1].name == "manage" and not change.after:
        return _interrupts("the accept rules that the streams may pass by are removed", _live(state.groups))
    return HARMLESS


def is_stream(group: Address) -> bool:
    """Not a group of the link itself (RFC 4291 2.7), which a bridge switches by membership: neighbour discovery is no stream."""
    return group.version == 4 or group.packed[1] & 0x0F > 2


def _live(rows: Iterable[GroupRow]) -> tuple[LiveGroup, ...]:
    wanted = (row for row in rows if (row.mode == "exclude" or row.sources) and is_stream(row.group))
    return tuple(sorted({LiveGroup.of(row.instance, row.interface, row.group) for row in wanted}))


def _on(state: DeviceState, interface: str) -> tuple[LiveGroup, ...]:
    """Groups that arrive at or leave by an interface, in any instance."""
    upstream_in = {row.instance for row in state.interfaces if row.interface == interface and row.role == "upstream"}
    return _live(row for row in state.groups if row.interface == interface or row.instance in upstream_in)


def _interrupts(reason: str, groups: tuple[LiveGroup, ...]) -> Impact:
    return Impact(level="interrupts", reason=reason, groups=groups) if groups else HARMLESS


def _rejoin(reason: str, groups: tuple[LiveGroup, ...]) -> Impact:
    return Impact(level="rejoin", reason=reason, groups=groups) if groups else HARMLESS


class _Instance:
    """Judges the changes of one running instance; `new` is None when the instance goes."""

    def __init__(self, old: ProxyConfig, new: ProxyConfig | None, state: DeviceState) -> None:
        self.old = old
        self.new = new
        self.state = state
        self.rows = tuple(row for row in state.groups if row.instance == old.name)
        static = {LiveGroup.of(old.name, out, m.group) for m in state.mfc if m.instance == old.name and m.kind == "static" for out in m.downstreams}
        self.everything = tuple(sorted(static.union(_live(self.rows))))

    def impact(self, change: Change) -> Impact:
        if len(change.path) == 1:
            return _interrupts(f"instance {self.old.name} is removed", self.everything)
        assert self.new is not None
        step = change.path[1]
        match step.name:
            case "enabled":
                return _interrupts(f"instance {self.old.name} is switched off", self.everything) if change.after is False else HARMLESS
            case "mode" | "bridge":
                return _interrupts(f"instance {self.old.name} starts anew in another place", self.everything)
            case "family":
                kept = set(self.new.family or ("ipv4",))
                return _interrupts("the address family is switched off", _live(r for r in self.rows if f"ipv{r.group.version}" not in kept))
            case "local-groups" | "ssm-range":
                return self._ranges(change)
            case "groups":
                return self._rules()
            case "forward-when-non-querier":
                return self._non_querier() if not change.after else HARMLESS
            case "interfaces":
                return self._interface(change, step.key[0])
            case "mfc":
                return self._static_route(change, step.key)
            case _:
                return HARMLESS  # timers, robustness and quick-leave take effect from the next query

    def _ranges(self, change: Change) -> Impact:
        moved = _live(r for r in self.rows if _within(r.group, change.before or ()) != _within(r.group, change.after or ()))
        return _interrupts(f"groups change sides of {change.path[1].name}", moved)

    def _rules(self) -> Impact:
        denied = _live(r for r in self.rows if self._admitted(self.old, r) and not self._admitted(self.new, r))
        return _interrupts("the new rules deny them", denied)

    @staticmethod
    def _admitted(proxy: ProxyConfig | None, row: GroupRow) -> bool:
        if proxy is None:
            return False
        entry = interface_for(proxy, row.interface)
        sources = [timer.address for timer in row.sources]
        for rules in ((entry.groups if entry else ()), proxy.groups):
            for rule in rules:
                if _speaks_of(rule, row.interface, row.group, sources):
                    if rule.action == "deny":
                        return False
                    break
        return True

    def _non_querier(self) -> Impact:
        if self.old.mode == "bridged":
            return HARMLESS  # every port is forwarded to, whoever asks there
        others = {r.interface for r in self.state.interfaces if r.instance == self.old.name and r.querier is not None and not r.querier.self_}
        return _interrupts("another router is the querier there", _live(r for r in self.rows if r.interface in others))

    def _interface(self, change: Change, name: str) -> Impact:
        old = next((entry for entry in self.old.interfaces if entry.interface == name), None)
        if len(change.path) == 2:
            return self._entry(change, name)
        assert old is not None
        leaf = change.path[2].name
        mine = self._served_by(name)
        if leaf == "enabled":
            if change.after is not False:
                return HARMLESS
            return self._upstream_moves() if old.upstream else _interrupts(f"{name} is switched off", mine)
        if old.enabled is False:
            return HARMLESS
        if leaf == "upstream":
            return worst((self._upstream_moves(), _interrupts(f"{name} no longer serves hosts", mine if change.after else ())))
        if leaf == "threshold" and (change.after if change.after is not None else 1) > (change.before if change.before is not None else 1):
            return _interrupts(f"datagrams that arrive with a TTL below {change.after} stop at {name}", self.everything if old.upstream else mine)
        if leaf == "alternative-subnets":
            return self._subnets(old, change)
        if leaf in {"version", "mld-version"}:
            return _rejoin(f"{name} speaks another version", self.everything if old.upstream else mine)
        if leaf in {"minimum-version", "minimum-mld-version"}:
            return self._older_unheard(old, change.after or 1, 4 if leaf == "minimum-version" else 6)
        if leaf == "groups":
            return self._rules()
        if leaf == "static-groups" and change.after is None:
            group = change.path[2].key[0]
            return _interrupts("the static membership ends", tuple(live for live in mine if live.group == group))
        return HARMLESS

    def _entry(self, change: Change, name: str) -> Impact:
        entry: InterfaceConfig = change.after if change.after is not None else change.before
        if entry.upstream:
            return self._upstream_moves()
        if change.action == "+":
            return HARMLESS
        taken = {r.interface for r in self.rows if self.new is not None and interface_for(self.new, r.interface) is not None}
        gone = tuple(live for live in self._served_by(name) if live.interface not in taken)
        return _interrupts(f"{name} is removed", gone)

    def _upstream_moves(self) -> Impact:
        before, after = active_upstream(self.old), active_upstream(self.new)
        if after is None:
            return _interrupts("no upstream is left", self.everything)
        if before is not None and before.interface == after.interface:
            return HARMLESS
        return _rejoin(f"memberships move to {after.interface}", self.everything)

    def _subnets(self, old: InterfaceConfig, change: Change) -> Impact:
        after: tuple[Prefix, ...] = change.after or ()
        if old.upstream:
            # Empty means every source is forwarded; from then on only those listed.
            learned = [m for m in self.state.mfc if m.instance == self.old.name and m.kind == "learned"]
            foreign = {str(m.group) for m in learned if not isinstance(m.source, str) and not _within(m.source, after)}
            return _interrupts("their sources are outside the listed subnets", tuple(g for g in self.everything if g.group in foreign)) if after else HARMLESS
        own = self._own_subnets(old)
        orphans = [r for r in self.rows if belongs(self.old, r.interface, old) and r.last_reporter is not None and not _within(r.last_reporter, (*after, *own))]
        return _interrupts(
            "their hosts are outside the listed subnets",
            _live(r for r in orphans if r.last_reporter is not None and _within(r.last_reporter, change.before or ())),
        )

    def _older_unheard(self, old: InterfaceConfig, least: int, family: int) -> Impact:
        """Reports of older hosts do not refresh their groups any more; an upstream that fell back returns to its version."""
        name = old.interface
        if not old.upstream:
            older = _live(
                r for r in self.rows if r.group.version == family and r.version is not None and r.version < least and belongs(self.old, r.interface, old)
            )
            return _interrupts(f"hosts of versions below {least} are not heard on {name} any more", older)
        spoken = [r.version for r in self.state.interfaces if r.instance == self.old.name and r.role == "upstream" and r.family == f"ipv{family}"]
        if all(version is None or version >= least for version in spoken):
            return HARMLESS
        told = tuple(live for live in self.everything if ipaddress.ip_address(live.group).version == family)
        return _rejoin(f"{name} speaks another version", told)

    def _own_subnets(self, entry: InterfaceConfig) -> tuple[Prefix, ...]:
        rows: list[InterfaceRow] = [r for r in self.state.interfaces if r.instance == self.old.name and belongs(self.old, r.interface, entry)]
        return tuple(ipaddress.ip_interface(text).network for row in rows for text in row.addresses)

    def _served_by(self, name: str) -> tuple[LiveGroup, ...]:
        """Groups on the live interfaces that the entry `name` configures."""
        return _live(r for r in self.rows if (entry := interface_for(self.old, r.interface)) is not None and entry.interface == name)

    def _static_route(self, change: Change, key: tuple[str, ...]) -> Impact:
        source, group = key
        of_group = [m for m in self.state.mfc if m.instance == self.old.name and str(m.group) == group and m.downstreams]
        flows = [m for m in of_group if source in {"*", str(m.source)}]
        if change.action == "+" and len(change.path) == 2:  # what was learned for any source carried this one too
            return self._overridden(change.after, [m for m in of_group if source == "*" or str(m.source) in {"*", source}])
        if len(change.path) == 2:
            out = {name for m in flows if m.kind == "static" for name in m.downstreams}
            return _interrupts("the permanent entry is removed", tuple(sorted(LiveGroup.of(self.old.name, n, group) for n in out)))
        if change.path[2].name == "downstream-interface":
            out = {name for m in flows for name in m.downstreams} & (set(change.before or ()) - set(change.after or ()))
            return _interrupts("the permanent entry no longer leaves there", tuple(sorted(LiveGroup.of(self.old.name, n, group) for n in out)))
        if change.path[2].name == "upstream-interface":
            out = {name for m in flows for name in m.downstreams}
            return _rejoin("the permanent entry takes another upstream", tuple(sorted(LiveGroup.of(self.old.name, n, group) for n in out)))
        return HARMLESS

    def _overridden(self, route: StaticRoute, flows: Sequence[MfcRow]) -> Impact:
        lost = {name for m in flows if m.kind == "learned" for name in m.downstreams} - set(route.downstream_interface)
        return _interrupts("the permanent entry wins over what was learned", tuple(sorted(LiveGroup.of(self.old.name, n, str(route.group)) for n in lost)))


def _within(address: Address, prefixes: Iterable[Prefix]) -> bool:
    return any(address.version == prefix.version and address in prefix for prefix in prefixes)


def _speaks_of(rule: GroupRule, interface: str, group: Address, sources: Sequence[Address]) -> bool:
    if rule.group and not _within(group, rule.group):
        return False
    if rule.interface and not is_named(interface, rule.interface):
        return False
    return not rule.source or (bool(sources) and all(_within(source, rule.source) for source in sources))
