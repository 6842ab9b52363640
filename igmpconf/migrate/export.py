"""Our configuration as other programs write it; what they cannot express is told by path, and left out.

RouterOS: the commands of its IGMP proxy (7.x), with the VLANs, firewall rules and logging that belong to it.
igmpproxy: igmpproxy.conf.  Both proxies have one instance, IGMP only, and one set of timers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from igmpconf.model.config import DeviceConfig, FirewallRule, GroupRule, InterfaceConfig, ProxyConfig, StaticRoute
from igmpconf.model.effective import effective, is_pattern
from igmpconf.model.leaf import Node, nodes
from igmpconf.model.path import Path, Step, path_text


@dataclass(frozen=True, slots=True)
class Exported:
    """`text` is the other program's configuration, `remarks` what it does not carry over, as `PATH: why`."""

    text: str
    remarks: tuple[str, ...]


@dataclass(slots=True)
class _Writer:
    lines: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def remark(self, at: Path, why: str) -> None:
        self.remarks.append(f"{path_text(at)}: {why}")

    def left_out(self, at: Path, model: Any, carried: Collection[str], who: str) -> None:
        """A remark for every leaf that is set and not among the `carried`."""
        for n in nodes(type(model)):
            value = getattr(model, n.attr)
            if n.name not in carried and n.name not in _keys(model) and value is not None and value not in ((), n.default):
                self.remark((*at, Step(n.name)), f"left out: {who} has no such setting" + (f" ({_text(n, value)})" if n.type is not None else ""))

    def exported(self) -> Exported:
        return Exported("\n".join(self.lines) + "\n" if self.lines else "", tuple(self.remarks))


def _keys(model: Any) -> Collection[str]:
    return {InterfaceConfig: ("interface",), ProxyConfig: ("name",)}.get(type(model), ())


def _text(n: Node, value: Any) -> str:
    assert n.type is not None
    return ", ".join(map(n.type.text, value)) if n.kind == "leaf-list" else str(n.type.text(value))


def _instance(writer: _Writer, config: DeviceConfig, who: str) -> ProxyConfig | None:
    """The one instance that can be exported; the others are remarked."""
    chosen: ProxyConfig | None = None
    for proxy in config.proxies:
        here = (Step("igmp-proxy", (proxy.name,)),)
        if proxy.mode == "bridged":
            writer.remark(here, f"left out: {who} proxies between interfaces only")
        elif "ipv4" not in (proxy.family or ("ipv4",)):
            writer.remark(here, f"left out: {who} speaks IGMP only")
        elif chosen is not None:
            writer.remark(here, f"left out: {who} has one instance, and that is {chosen.name}")
        else:
            chosen = proxy
            if "ipv6" in proxy.family:
                writer.remark((*here, Step("family")), f"{who} speaks IGMP only, no MLD")
    return chosen


def _own_timers(writer: _Writer, proxy: ProxyConfig, who: str, names: Collection[str]) -> None:
    """Timers of one interface that differ from those of all."""
    for entry in proxy.interfaces:
        for name in names:
            if not entry.upstream and effective(proxy, entry, name) != effective(proxy, None, name):
                at = (Step("igmp-proxy", (proxy.name,)), Step("interfaces", (entry.interface,)), Step(name))
                writer.remark(at, f"left out: in {who} it holds for all interfaces")


# RouterOS ----------------------------------------------------------------------------------------------------------------

_ROUTEROS = "RouterOS"


def routeros(config: DeviceConfig) -> Exported:
    """Commands to be pasted into a RouterOS terminal; on a device that has none of it yet."""
    writer = _Writer()
    if config.vlans:
        writer.lines.append("/interface vlan")
        writer.lines += [f"add name={vlan.name} interface={vlan.interface} vlan-id={vlan.vlan_id}" for vlan in config.vlans]
    proxy = _instance(writer, config, _ROUTEROS)
    if proxy is not None:
        _routeros_proxy(writer, proxy)
    _routeros_firewall(writer, config)
    if config.logging is not None:
        topics = [topic for topic in ("igmp-proxy", "debug") if topic in (config.logging.topics or ("igmp-proxy",))]
        if topics:
            writer.lines += ["/system logging", f"add topics={','.join(topics)} action=memory"]
        writer.left_out((Step("logging"),), config.logging, ("topics",), _ROUTEROS)
    return writer.exported()


def _routeros_proxy(writer: _Writer, proxy: ProxyConfig) -> None:
    here = (Step("igmp-proxy", (proxy.name,)),)
    writer.left_out(here, proxy, ("enabled", "family", "query-interval", "query-response-interval", "quick-leave", "interfaces", "mfc"), _ROUTEROS)
    settings = [f"{name}={_routeros_time(value)}" for name, value in _timers(proxy, ("query-interval", "query-response-interval")) if value is not None]
    if proxy.quick_leave in {"on", "off"}:
        settings.append(f"quick-leave={'yes' if proxy.quick_leave == 'on' else 'no'}")
    elif proxy.quick_leave == "auto":
        writer.remark((*here, Step("quick-leave")), "left out: RouterOS knows yes and no; without host tracking yes cuts off the second viewer")
    if settings:
        writer.lines += ["/routing igmp-proxy", "set " + " ".join(settings)]
    _own_timers(writer, proxy, _ROUTEROS, ("query-interval", "query-response-interval", "quick-leave"))
    writer.lines.append("/routing igmp-proxy interface")
    for entry in proxy.interfaces:
        _routeros_interface(writer, proxy, entry, here)
    if proxy.mfc:
        writer.lines.append("/routing igmp-proxy mfc")
        writer.lines += [line for route in proxy.mfc if (line := _routeros_route(writer, route, here)) is not None]


def _timers(proxy: ProxyConfig, names: Collection[str]) -> Iterator[tuple[str, int | None]]:
    """What holds for all: the instance's own word, or the upstream's, where RouterOS habits put it."""
    for name in names:
        value = effective(proxy, None, name)
        n = next(n for n in nodes(ProxyConfig) if n.name == name)
        yield name, value if value != n.default or getattr(proxy, n.attr) is not None else None


def _routeros_interface(writer: _Writer, proxy: ProxyConfig, entry: InterfaceConfig, here: Path) -> None:
    at = (*here, Step("interfaces", (entry.interface,)))
    if is_pattern(entry.interface):
        writer.remark(at, "left out: RouterOS has no patterns; name each interface, or add it in on-up scripts")
        return
    carried = ("upstream", "enabled", "threshold", "alternative-subnets", "query-interval", "query-response-interval", "quick-leave")
    writer.left_out(at, entry, carried, _ROUTEROS)
    said = [f"add interface={entry.interface} upstream={'yes' if entry.upstream else 'no'}"]
    if entry.threshold is not None:
        said.append(f"threshold={entry.threshold}")
    subnets = [str(subnet) for subnet in entry.alternative_subnets if subnet.version == 4]
    if entry.upstream and not subnets:
        said.append("alternative-subnets=0.0.0.0/0")  # RouterOS takes no foreign source without it, we take all
    elif subnets:
        said.append("alternative-subnets=" + ",".join(subnets))
        if not entry.upstream:
            writer.remark((*at, Step("alternative-subnets")), "RouterOS documents it for the upstream only; on a downstream it may have no effect")
    if entry.enabled is False or proxy.enabled is False:
        said.append("disabled=yes")
    writer.lines.append(" ".join(said))


def _routeros_route(writer: _Writer, route: StaticRoute, here: Path) -> str | None:
    at = (*here, Step("mfc", (str(route.source), str(route.group))))
    if isinstance(route.source, str) or route.group.version != 4:
        writer.remark(at, "left out: an entry of RouterOS names an IPv4 source")
        return None
    if route.join is not False:
        writer.remark((*at, Step("join")), "RouterOS holds no membership upstream for it; add one below /routing gmp")
    upstream = f" upstream-interface={route.upstream_interface}" if route.upstream_interface is not None else ""
    return f"add group={route.group} source={route.source}{upstream} downstream-interfaces={','.join(route.downstream_interface)}"


def _routeros_time(value_ms: int) -> str:
    seconds, ms = divmod(value_ms, 1000)
    return f"{seconds}s" + (f"{ms}ms" if ms else "")


def _routeros_firewall(writer: _Writer, config: DeviceConfig) -> None:
    if config.firewall is None:
        return
    of_version: dict[str, list[str]] = {"/ip firewall filter": [], "/ipv6 firewall filter": []}
    for rule in config.firewall.rules:
        for menu in _menus(rule):
            of_version[menu].append(_routeros_rule(rule))
    if config.firewall.manage:
        of_version["/ip firewall filter"] += [
            "add chain=input action=accept protocol=igmp",
            "add chain=forward action=accept protocol=udp dst-address=224.0.0.0/4",
        ]
        writer.remark((Step("firewall"), Step("manage")), "becomes two rules for all interfaces, at the end of the table: move them before the rules that drop")
    for menu, lines in of_version.items():
        if lines:
            writer.lines += [menu, *lines]


def _menus(rule: FirewallRule) -> list[str]:
    versions = {prefix.version for prefix in (rule.source, rule.destination) if prefix is not None}
    versions |= {4} if rule.protocol == "igmp" else {6} if rule.protocol == "icmpv6" else set()
    return [menu for version, menu in ((4, "/ip firewall filter"), (6, "/ipv6 firewall filter")) if not versions or version in versions]


def _routeros_rule(rule: FirewallRule) -> str:
    said = [f"add chain={rule.chain} action={rule.action}"]
    for name, value in (
        ("protocol", rule.protocol),
        ("in-interface", rule.in_interface),
        ("out-interface", rule.out_interface),
        ("src-address", rule.source),
        ("dst-address", rule.destination),
    ):
        if value is not None:
            said.append(f"{name}={value}")
    if rule.comment is not None:
        escaped = "".join({'"': '\\"', "\\": "\\\\", "$": "\\$", "?": "\\?", "\n": "\\n", "\t": "\\t"}.get(sign, sign) for sign in rule.comment)
        said.append(f'comment="{escaped}"')
    return " ".join(said)


# igmpproxy ---------------------------------------------------------------------------------------------------------------

_IGMPPROXY = "igmpproxy"
_FIXED = ("query-interval", "query-response-interval", "last-member-interval", "robustness")  # compiled in, at our defaults


def igmpproxy(config: DeviceConfig) -> Exported:
    """igmpproxy.conf."""
    writer = _Writer()
    for name, value in (("vlans", config.vlans), ("firewall", config.firewall), ("logging", config.logging)):
        if value:
            writer.remark((Step(name),), f"left out: not a matter of {_IGMPPROXY}")
    proxy = _instance(writer, config, _IGMPPROXY)
    if proxy is None:
        return writer.exported()
    here = (Step("igmp-proxy", (proxy.name,)),)
    writer.left_out(here, proxy, ("enabled", "family", "quick-leave", "interfaces", "mfc", "groups"), _IGMPPROXY)
    for route in proxy.mfc:
        writer.remark((*here, Step("mfc", (str(route.source), str(route.group)))), f"left out: {_IGMPPROXY} has no permanent entries")
    _own_timers(writer, proxy, _IGMPPROXY, (*_FIXED, "quick-leave"))
    if proxy.quick_leave == "on":
        writer.lines.append("quickleave")
    elif proxy.quick_leave == "auto":
        writer.remark((*here, Step("quick-leave")), "left out: igmpproxy knows on and off; on cuts off the second viewer of an interface")
    for entry in proxy.interfaces:
        _phyint(writer, proxy, entry, here)
    return writer.exported()


def _phyint(writer: _Writer, proxy: ProxyConfig, entry: InterfaceConfig, here: Path) -> None:
    at = (*here, Step("interfaces", (entry.interface,)))
    if is_pattern(entry.interface):
        writer.remark(at, "left out: igmpproxy has no patterns; name each interface")
        return
    carried = ("upstream", "enabled", "threshold", "alternative-subnets", "groups", "quick-leave", *_FIXED)
    writer.left_out(at, entry, carried, _IGMPPROXY)
    role = "upstream" if entry.upstream else "downstream"
    if entry.enabled is False or proxy.enabled is False:
        role = "disabled"
    threshold = f" threshold {entry.threshold}" if entry.threshold is not None else ""
    writer.lines.append(f"phyint {entry.interface} {role} ratelimit 0{threshold}")
    subnets = [str(subnet) for subnet in entry.alternative_subnets if subnet.version == 4]
    if entry.upstream and not subnets:
        subnets = ["0.0.0.0/0"]  # igmpproxy takes no foreign source without it, we take all
    writer.lines += [f"    altnet {subnet}" for subnet in subnets]
    writer.lines += _lists(writer, proxy.groups if entry.upstream else entry.groups, (*(here if entry.upstream else at), Step("groups")))


def _lists(writer: _Writer, rules: tuple[GroupRule, ...], at: Path) -> list[str]:
    """Rules as black and white lists: first what is denied, then what is allowed, then nothing more."""
    if not rules:
        return []
    *named, last = rules
    has_end = last.action == "deny" and not last.group
    body = named if has_end else list(rules)
    actions = [rule.action for rule in body]
    plain = all(rule.group and not rule.source and not rule.interface and all(p.version == 4 for p in rule.group) for rule in body)
    if not plain or last.source or last.interface or actions != sorted(actions, reverse=True) or has_end != ("allow" in actions):
        writer.remark(at, "left out: igmpproxy has denied groups, then allowed ones, and no others")
        return []
    return [f"    {'blacklist' if rule.action == 'deny' else 'whitelist'} {prefix}" for rule in body for prefix in rule.group]


WRITERS: dict[str, Callable[[DeviceConfig], Exported]] = {"routeros": routeros, "igmpproxy": igmpproxy}
