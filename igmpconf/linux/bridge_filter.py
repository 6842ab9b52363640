"""Packet filter rules of the bridge itself: membership messages end at the ports that take part.

What a host says must not reach the hosts of other ports (they would keep silent, or answer), nor the upstream, which
hears one aggregated host instead; nor the bridge, which would make entries by rules of its own.  So messages that
arrive on our ports are dropped before the bridge sees them, and those that it would send out of our ports, its own and
those of ports that take no part, after it.  We read and write at the port itself, where no rule stands.  Messages with
a VLAN tag pass: they are about other networks.  Local groups stay among the downstreams, in both directions.

The rules stand in a table of our own, `bridge igmpconf`, replaced as a whole in one transaction.  Pure but for `PortFilter`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import collapse_addresses
from typing import Any

from igmpconf.linux.bridge_settings import BridgePorts, PortLink, bridged
from igmpconf.linux.nft import MARK, TABLE, Expression, Nftables
from igmpconf.model.config import DeviceConfig
from igmpconf.model.effective import effective
from igmpconf.model.state import DeviationRow

_HOOKS = {"prerouting": "iifname", "forward": "oifname", "output": "oifname"}
_PRIORITY = -300  # before the rules of others: what they count or drop is not for us to hear or not
_IGMP = 2
_MLD_TYPES = {"set": [{"range": [130, 132]}, 143]}  # query, version 1 report, done; version 2 report (RFC 9777 5)
_FIELDS = {4: "ip", 6: "ip6"}


@dataclass(frozen=True, slots=True)
class PortRule:
    """One rule: the chain, which is named after its hook, and its expressions as JSON."""

    hook: str
    text: str
    what: str

    @property
    def comment(self) -> str:
        return f"{MARK}{hashlib.sha256(self.text.encode()).hexdigest()[:8]} {self.what}"


def wanted_rules(config: DeviceConfig, links: Mapping[str, PortLink]) -> tuple[PortRule, ...]:
    """Those that the bridged instances need for the ports there are."""
    return tuple(rule for found in bridged(config, links) if found.names for rule in _of_bridge(found))


def _of_bridge(found: BridgePorts) -> Iterator[PortRule]:
    for hook, key in _HOOKS.items():
        ours = _interfaces(key, found.names)
        if "ipv4" in found.families:
            yield _dropping(hook, [ours, _untagged(), _match(_payload("ip", "protocol"), _IGMP)], f"IGMP of {found.bridge}")
        if "ipv6" in found.families:
            yield _dropping(hook, [ours, _untagged(), _match(_payload("icmpv6", "type"), _MLD_TYPES)], f"MLD of {found.bridge}")
    local = effective(found.proxy, None, "local-groups")
    for version in sorted(_FIELDS):
        groups = list(collapse_addresses(prefix for prefix in local if prefix.version == version)) if f"ipv{version}" in found.families else []
        if groups and found.upstream:
            named = [{"prefix": {"addr": str(one.network_address), "len": one.prefixlen}} for one in groups]
            to_them = [_untagged(), _match(_payload(_FIELDS[version], "daddr"), {"set": named})]
            for key in ("iifname", "oifname"):
                yield _dropping("forward", [_interfaces(key, found.upstream), *to_them], f"local groups of {found.bridge}")


def _dropping(hook: str, matches: Sequence[Expression], what: str) -> PortRule:
    return PortRule(hook, json.dumps([*matches, {"counter": None}, {"drop": None}]), what)


def _match(left: Expression, right: Any, op: str = "==") -> Expression:
    return {"match": {"op": op, "left": left, "right": right}}


def _payload(protocol: str, field: str) -> Expression:
    return {"payload": {"protocol": protocol, "field": field}}


def _untagged() -> Expression:
    return _match(_payload("ether", "type"), "8021q", "!=")


def _interfaces(key: str, names: Iterable[str]) -> Expression:
    return _match({"meta": {"key": key}}, {"set": list(names)})


class PortFilter(Nftables):
    """Our table of the family `bridge`, by the program `nft`."""

    def __init__(self, program: str = "nft") -> None:
        super().__init__(program)
        self._placed: tuple[tuple[str, str, str], ...] | None = None  # chain, comment and text, as nft printed them

    def _there(self) -> tuple[tuple[str, str, str], ...] | None:
        """None: there is no such table."""
        found, is_there = [], False
        for item in json.loads(self._run("read the rules of the bridge", "list", "ruleset", "bridge"))["nftables"]:
            is_there |= item.get("table", {}).get("name") == TABLE
            rule = item.get("rule")
            if rule is not None and rule["table"] == TABLE:
                text = json.dumps([{"counter": None} if "counter" in one else one for one in rule["expr"]], sort_keys=True)
                found.append((rule["chain"], rule.get("comment", ""), text))
        return tuple(sorted(found)) if is_there else None

    def _is_so(self, wanted: Sequence[PortRule]) -> bool:
        there = self._there()
        if not wanted:
            return there is None
        is_wanted = self._placed is not None and sorted(rule.comment for rule in wanted) == sorted(comment for _, comment, _ in self._placed)
        return is_wanted and there == self._placed

    def deviating(self, wanted: Sequence[PortRule]) -> list[DeviationRow]:
        """At most one row: the table is ours as a whole.  Raises KernelError."""
        if self._is_so(wanted):
            return []
        return [
            DeviationRow(
                kind="firewall",
                name=f"bridge {TABLE}",
                expected=f"{len(wanted)} rules" if wanted else "absent",
                found="absent" if self._there() is None else "edited",
            )
        ]

    def place(self, wanted: Sequence[PortRule]) -> None:
        """Make it so; no frame meets half of it.  Raises KernelError, and then nothing was changed."""
        if self._is_so(wanted):
            return
        table = {"table": {"family": "bridge", "name": TABLE}}
        commands: list[Expression] = [{"add": table}, {"delete": table}]
        if wanted:
            commands.append({"add": table})
            for hook in _HOOKS:
                base = {"family": "bridge", "table": TABLE, "name": hook, "type": "filter", "hook": hook, "prio": _PRIORITY, "policy": "accept"}
                commands.append({"add": {"chain": base}})
            for rule in wanted:
                body = {"family": "bridge", "table": TABLE, "chain": rule.hook, "comment": rule.comment, "expr": json.loads(rule.text)}
                commands.append({"add": {"rule": body}})
        self._run("place the rules of the bridge", "-f", "-", text=json.dumps({"nftables": commands}))
        self._placed = self._there() if wanted else None
