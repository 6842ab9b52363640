"""RouterOS commands, typed or of `/export`, to our configuration.

Read: /routing igmp-proxy (enable, disable, set), its interface and mfc tables, /interface vlan, /ip and /ipv6 firewall
filter, /system logging.  Rows are kept as RouterOS would keep them, so that `set [find ...]` selects what it selects
there, and are translated at the end.  Bare integers of timers are centiseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from igmpconf.migrate.draft import Draft, Imported
from igmpconf.migrate.script import Command, ScriptError, commands
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig, FirewallRule, InterfaceConfig, LoggingConfig, ProxyConfig, StaticRoute, VlanConfig
from igmpconf.model.leaf import node

_PROXY = ("routing", "igmp-proxy")
_INTERFACES = (*_PROXY, "interface")
_MFC = (*_PROXY, "mfc")
_VLANS = ("interface", "vlan")
_FILTERS = (("ip", "firewall", "filter"), ("ipv6", "firewall", "filter"))
_LOGGING = ("system", "logging")
_TABLES = (_INTERFACES, _MFC, _VLANS, *_FILTERS, _LOGGING)

_LOOKS = {"print", "export", "monitor", "get", "quick", "find"}  # change nothing
_TIMERS = ("query-interval", "query-response-interval", "last-member-interval")
_DEFAULTS = {"upstream": "no", "disabled": "no"}  # what `find` sees where nothing was set
_UNIMPORTANT = {"comment", "place-before", "numbers", "dynamic"}
_RULE_LEAVES = {
    "chain": "chain",
    "protocol": "protocol",
    "in-interface": "in-interface",
    "out-interface": "out-interface",
    "src-address": "source",
    "dst-address": "destination",
    "comment": "comment",
}
_TRUE = {"yes", "true", "on"}


@dataclass(slots=True)
class _Row:
    line: int
    values: dict[str, tuple[str, int]] = field(default_factory=dict)  # name -> text, line

    def get(self, name: str) -> str | None:
        found = self.values.get(name)
        return found[0] if found is not None else None

    @property
    def is_disabled(self) -> bool:
        return (self.get("disabled") or "no") in _TRUE


def imported(text: str) -> Imported:
    """What the commands in `text` come to; nothing raises, what cannot be used is remarked."""
    reader = _Reader()
    for command in commands(text):
        if isinstance(command, ScriptError):
            reader.draft.remark(command.line, f"not understood: {command}")
        else:
            reader.take(command)
    return reader.finished()


class _Reader:
    def __init__(self) -> None:
        self.draft = Draft()
        self._tables: dict[tuple[str, ...], list[_Row]] = {path: [] for path in _TABLES}
        self._settings = _Row(0)
        self._other: dict[tuple[str, ...], list[int]] = {}

    def take(self, command: Command) -> None:
        if command.verb in _LOOKS:
            return
        if command.path == _PROXY:
            self._set_proxy(command)
        elif command.path in self._tables:
            self._change(command, self._tables[command.path])
        else:
            self._other.setdefault(command.path, []).append(command.line)

    def _set_proxy(self, command: Command) -> None:
        if command.verb in {"enable", "disable"}:
            self._settings.values["enabled"] = ("yes" if command.verb == "enable" else "no", command.line)
        elif command.verb == "set":
            self._settings.values.update((name, (value, command.line)) for name, value in command.values)
        else:
            self.draft.remark(command.line, f"/{' '.join(command.path)} {command.verb}: not understood")

    def _change(self, command: Command, rows: list[_Row]) -> None:
        given = {name: (value, command.line) for name, value in command.values}
        if command.verb == "add":
            rows.append(_Row(command.line, given))
            return
        if command.verb not in {"set", "enable", "disable", "remove", "unset"}:
            self.draft.remark(command.line, f"/{' '.join(command.path)} {command.verb}: not understood")
            return
        chosen = self._chosen(command, rows)
        if chosen is None:
            return
        if not chosen:
            self.draft.remark(command.line, f"{command.verb} selects none of the {len(rows)} rows above it")
        for row in chosen:
            if command.verb == "set":
                row.values.update(given)
            elif command.verb == "remove":
                rows.remove(row)
            elif command.verb == "unset":
                for name in command.items:
                    row.values.pop(name, None)
            else:
                row.values["disabled"] = ("yes" if command.verb == "disable" else "no", command.line)

    def _chosen(self, command: Command, rows: list[_Row]) -> list[_Row] | None:
        """The rows that `[find ...]`, numbers or names select; None when that cannot be told."""
        if command.unread:
            self.draft.remark(command.line, f"left out: cannot tell what [find ... {' '.join(command.unread)}] selects; write name=value")
            return None
        if command.query is not None:
            return [row for row in rows if all((row.get(name) or _DEFAULTS.get(name, "")) == value for name, value in command.query)]
        words = [word for item in (*command.items, *(value for name, value in command.values if name == "numbers")) for word in item.split(",")]
        found = [row for i, row in enumerate(rows) if str(i) in words or row.get("interface") in words or row.get("name") in words]
        if not words:
            self.draft.remark(command.line, f"left out: {command.verb} without [find ...], a number or a name")
            return None
        return found

    # translation

    def finished(self) -> Imported:
        draft = self.draft
        proxy = self._proxy()
        if proxy is not None:
            draft.document["igmp-proxy"] = [proxy]
        self._vlans(proxy)
        self._firewall()
        self._logging()
        for path, lines in self._other.items():
            more = f", and {len(lines) - 1} more lines like it" if len(lines) > 1 else ""
            draft.remark(lines[0], f"/{' '.join(path)}: not part of what igmpconf configures{more}")
        draft.remarks.sort(key=lambda remark: remark.line)
        return Imported(from_plain(DeviceConfig, draft.document), tuple(draft.remarks))

    def _proxy(self) -> dict[str, Any] | None:
        rows, entries = self._tables[_INTERFACES], self._tables[_MFC]
        if not rows and not entries and not self._settings.values:
            return None
        proxy: dict[str, Any] = {"name": "default"}
        for name, (value, line) in self._settings.values.items():
            if name == "enabled":
                if value not in _TRUE:
                    proxy["enabled"] = False
            elif node(ProxyConfig, name) is not None and (name in _TIMERS or name in {"robustness", "quick-leave"}):
                self.draft.put(ProxyConfig, proxy, name, value, line)
            else:
                self.draft.remark(line, f"{name}={value}: there is no such setting here")
        interfaces = [self._interface(row, proxy) for row in rows]
        proxy["interfaces"] = [one for one in interfaces if one is not None]
        proxy["mfc"] = [one for one in map(self._entry, entries) if one is not None]
        return {name: value for name, value in proxy.items() if value != []}

    def _interface(self, row: _Row, proxy: dict[str, Any]) -> dict[str, Any] | None:
        name = row.get("interface")
        if name is None or name == "all":
            what = "a row without interface" if name is None else "interface=all"
            self.draft.remark(row.line, f"{what}: left out; name each interface, or use a pattern such as br-*")
            return None
        entry: dict[str, Any] = {}
        if not self.draft.put(InterfaceConfig, entry, "interface", name, row.values["interface"][1]):
            return None
        is_upstream = (row.get("upstream") or "no") in _TRUE
        for prop, (value, line) in row.values.items():
            if prop == "upstream":
                if is_upstream:
                    entry["upstream"] = True
            elif prop == "disabled":
                if value in _TRUE:
                    entry["enabled"] = False
            elif prop in _TIMERS and is_upstream:  # an upstream asks nothing; the stated intent is the proxy's pace
                if self.draft.put(ProxyConfig, proxy, prop, value, line):
                    self.draft.remark(line, f"{prop} on the upstream {name}: an upstream sends no queries, so it becomes the default of all downstreams")
            elif prop == "alternative-subnets" and is_upstream and "0.0.0.0/0" in value.split(","):
                self.draft.remark(line, f"alternative-subnets={value} on the upstream {name}: any source is accepted there anyway")
            elif prop in {*_TIMERS, "threshold", "alternative-subnets", "robustness", "quick-leave"}:
                self.draft.put(InterfaceConfig, entry, prop, value, line)
            elif prop not in _UNIMPORTANT and prop != "interface":
                self.draft.remark(line, f"{prop}={value}: an interface has no such setting here")
        return entry

    def _entry(self, row: _Row) -> dict[str, Any] | None:
        entry: dict[str, Any] = {}
        if row.is_disabled:
            self.draft.remark(row.line, "a disabled entry: left out")
            return None
        for prop, (value, line) in row.values.items():
            name = {"downstream-interfaces": "downstream-interface"}.get(prop, prop)
            if name in {"source", "group", "downstream-interface", "upstream-interface"}:
                if not self.draft.put(StaticRoute, entry, name, value, line):
                    return None
            elif prop not in _UNIMPORTANT and prop != "disabled":
                self.draft.remark(line, f"{prop}={value}: an entry has no such setting here")
        if "group" not in entry:
            self.draft.remark(row.line, "an entry without group: left out")
            return None
        return entry

    def _vlans(self, proxy: dict[str, Any] | None) -> None:
        used = {one["interface"] for one in (proxy or {}).get("interfaces", [])}
        vlans = []
        for row in self._tables[_VLANS]:
            name = row.get("name") or "vlan1"
            if row.is_disabled or name not in used:
                self.draft.remark(row.line, f"vlan {name}: left out: {'it is disabled' if row.is_disabled else 'no proxy interface is called so'}")
                continue
            entry: dict[str, Any] = {}
            values = {"name": (name, row.line)} | row.values
            whole = all(
                prop in values and self.draft.put(VlanConfig, entry, prop, values[prop][0], values[prop][1]) for prop in ("name", "interface", "vlan-id")
            )
            if not whole:
                self.draft.remark(row.line, f"vlan {name}: left out: it needs interface and vlan-id that are usable here")
                continue
            for prop, (value, line) in row.values.items():
                if prop not in {*entry, *_UNIMPORTANT, "disabled"}:
                    self.draft.remark(line, f"{prop}={value}: a vlan has no such setting here")
            vlans.append(entry)
        if vlans:
            self.draft.document["vlans"] = vlans

    def _firewall(self) -> None:
        rules = [one for path in _FILTERS for row in self._tables[path] if (one := self._rule(row)) is not None]
        if rules:
            self.draft.document["firewall"] = {"rules": [{"sequence": i, **rule} for i, rule in enumerate(rules, 1)]}

    def _rule(self, row: _Row) -> dict[str, Any] | None:
        """Only what accepts: our rules stand before the device's own drops, where a drop of theirs would drop too much."""
        action = row.get("action") or "accept"
        if row.is_disabled or action != "accept":
            self.draft.remark(
                row.line, "a disabled rule: left out" if row.is_disabled else f"action={action}: left out; it stays with the device's own firewall"
            )
            return None
        rule: dict[str, Any] = {"action": "accept"}
        for prop, (value, line) in row.values.items():
            leaf = _RULE_LEAVES.get(prop)
            if leaf is not None:
                if not self.draft.put(FirewallRule, rule, leaf, value, line, said=f"rule with {prop}={value}"):
                    return None
            elif prop not in {*_UNIMPORTANT, "action", "disabled", "log", "log-prefix"}:
                self.draft.remark(line, f"rule with {prop}={value}: left out; without that condition it would accept more than it did")
                return None
        if "chain" not in rule:
            self.draft.remark(row.line, "a rule without chain: left out")
            return None
        return rule

    def _logging(self) -> None:
        topics: list[str] = []
        logging: dict[str, Any] = {}
        for row in self._tables[_LOGGING]:
            wanted = (row.get("topics") or "info").split(",")
            if "igmp-proxy" not in wanted or row.is_disabled:
                self.draft.remark(row.line, f"logging of {','.join(wanted)}: left out; it is not about the proxy, or disabled")
                continue
            for topic in wanted:
                if not self.draft.put(LoggingConfig, {}, "topics", topic, row.line, said=f"topic {topic}"):
                    continue
                if topic not in topics:
                    topics.append(topic)
            action = row.get("action") or "memory"
            if action != "memory":
                self.draft.remark(row.line, f"action={action}: becomes journal: memory, and the system's own log as well")
                logging["action"] = "journal"
            else:
                logging.setdefault("action", "memory")
        if topics:
            self.draft.document["logging"] = {"topics": topics, **logging}
