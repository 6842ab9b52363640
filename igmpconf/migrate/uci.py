"""OpenWrt's configuration of igmpproxy and omcproxy, as in /etc/config or as `uci export` and `uci show` print it, to ours.

    config igmpproxy                     config proxy
        option quickleave 1                  option uplink wan
    config phyint                            list downlink lan
        option network wan
        option direction upstream
        list altnet 10.0.0.0/8

OpenWrt names networks, we name interfaces: which interface a network is stands in /etc/config/network.  Both services
open OpenWrt's firewall for what they need, which `firewall: {manage: yes}` does here.  omcproxy speaks IGMPv3 and MLDv2.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from igmpconf.migrate.draft import Draft, Imported
from igmpconf.migrate.igmpproxy import altnet, is_group_prefix, rules
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig, InterfaceConfig, ProxyConfig

# uci show: network.lan.device='br-lan', igmpproxy.@phyint[0]=phyint
_SHOWN = re.compile(r"(?P<package>[\w-]+)\.(?P<section>@?[\w-]+(?:\[-?\d+\])?)(?:\.(?P<option>[\w-]+))?=(?P<value>.*)")
_PROTOCOLS_OF_THEIR_OWN = frozenset({"pppoe", "pppoa", "ppp", "pptp", "l2tp", "3g", "6in4", "6to4", "6rd", "dslite", "map", "gre", "vti"})  # device pppoe-wan
_WITHOUT_MEANING = frozenset({"zone", "verbose", "name", "disabled", "enabled"})  # looked at elsewhere, or a matter of that program


@dataclass(slots=True)
class Section:
    """One `config KIND NAME` with what follows it."""

    package: str
    kind: str
    name: str
    line: int
    options: dict[str, list[tuple[str, int]]] = field(default_factory=dict)  # values with their lines

    def get(self, name: str) -> str | None:
        """The only, or last, value."""
        values = self.options.get(name)
        return values[-1][0] if values else None

    def is_on(self, name: str, *, default: bool) -> bool:
        """As OpenWrt reads a boolean."""
        said = self.get(name)
        return default if said is None else said in {"1", "yes", "on", "true", "enabled"}


def imported(text: str, network: str = "") -> Imported:
    """What the file comes to; `network` is /etc/config/network, if it is known.  Nothing raises."""
    draft = Draft()
    sections = list(_sections(text, draft))
    names = _Names([*_sections(network, Draft()), *sections])
    proxies = [*_igmpproxy(sections, names, draft), *_omcproxy(sections, names, draft)]
    others = [one for one in sections if one.package != "network" and one.kind not in {"igmpproxy", "phyint", "proxy"}]
    for one in others:
        draft.remark(one.line, f"config {one.kind}: not about a multicast proxy")
    if proxies:
        for number, proxy in enumerate(proxies[1:], 2):
            proxy["name"] = f"{proxy['name']}{number}" if proxy["name"] == "default" else proxy["name"]
        draft.document = {"igmp-proxy": proxies, "firewall": {"manage": True}}
    draft.remarks.sort(key=lambda remark: remark.line)
    return Imported(from_plain(DeviceConfig, draft.document), tuple(draft.remarks))


def _sections(text: str, draft: Draft) -> Iterator[Section]:
    package, current = "", None
    shown: dict[tuple[str, str], Section] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if found := _SHOWN.fullmatch(line.strip()):
            _add_shown(shown, found, number)
            continue
        words = draft.words(number, line)
        match words:
            case []:
                pass
            case ["package", name]:
                package = name
            case ["config", kind, *rest]:
                if current is not None:
                    yield current
                current = Section(package, kind, rest[0] if rest else "", number)
            case ["option" | "list" as how, name, value] if current is not None:
                values = current.options.setdefault(name, [])
                if how == "option":
                    values.clear()
                values.append((value, number))
            case _:
                draft.remark(number, f"{' '.join(words)}: not understood")
    if current is not None:
        yield current
    yield from shown.values()


def _add_shown(shown: dict[tuple[str, str], Section], found: re.Match[str], number: int) -> None:
    key = (found["package"], found["section"])
    if found["option"] is None:
        name = "" if found["section"].startswith("@") else found["section"]
        shown[key] = Section(found["package"], found["value"].strip("'"), name, number)
    elif key in shown:
        shown[key].options[found["option"]] = [(value, number) for value in shlex.split(found["value"])]


class _Names:
    """Which interface a network is."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self._networks = {one.name: one for one in sections if one.kind == "interface"}

    def interface(self, name: str) -> str | None:
        """The device of a network; None when nothing says it."""
        section = self._networks.get(name)
        if section is None:
            return name if self._networks else None  # an interface may be named itself where networks are known
        protocol = section.get("proto") or ""
        if protocol in _PROTOCOLS_OF_THEIR_OWN:
            return f"{protocol}-{name}"
        if protocol == "wireguard":
            return name
        if section.get("type") == "bridge":
            return f"br-{name}"
        device = section.get("device") or section.get("ifname")
        if device is not None and device.startswith("@") and device[1:] != name:
            return self.interface(device[1:])
        return device.split()[0] if device else None


def _named(names: _Names, draft: Draft, network: str, line: int) -> dict[str, Any] | None:
    """A new entry for the interface that the network is."""
    entry: dict[str, Any] = {}
    found = names.interface(network)
    if found is None:
        draft.remark(line, f"{network}: taken as the name of an interface; which one that network is stands in /etc/config/network (--network FILE)")
    return entry if draft.put(InterfaceConfig, entry, "interface", found or network, line, said=f"network {network}") else None


def _igmpproxy(sections: Sequence[Section], names: _Names, draft: Draft) -> Iterator[dict[str, Any]]:
    proxy: dict[str, Any] = {"name": "default", "interfaces": []}
    lists: list[tuple[dict[str, Any], str, str]] = []
    for section in sections:
        if section.kind == "igmpproxy":
            proxy["quick-leave"] = "on" if section.is_on("quickleave", default=False) else "off"
            _remark_unknown(section, {"quickleave"}, draft)
        elif section.kind == "phyint":
            network = section.options.get("network")
            if network is None:
                draft.remark(section.line, "config phyint without network: left out")
                continue
            entry = _named(names, draft, *network[-1])
            if entry is None:
                continue
            proxy["interfaces"].append(entry)
            _direction(section, entry, draft)
            for prefix, line in section.options.get("altnet", ()):
                altnet(draft, line, entry, prefix.split())
            for name, action in (("whitelist", "allow"), ("blacklist", "deny")):
                prefixes = [(prefix, line) for value, line in section.options.get(name, ()) for prefix in value.split()]
                lists += [(entry, action, prefix) for prefix, line in prefixes if is_group_prefix(draft, line, prefix)]
            _remark_unknown(section, {"network", "direction", "altnet", "whitelist", "blacklist"}, draft)
    rules(proxy, lists)
    if proxy["interfaces"]:
        yield proxy


def _direction(section: Section, entry: dict[str, Any], draft: Draft) -> None:
    said = section.get("direction")
    if said == "upstream":
        entry["upstream"] = True
    elif said == "disabled":
        entry["enabled"] = False
    elif said != "downstream":
        draft.remark(section.line, f"direction {said or 'is missing'}: expected upstream, downstream or disabled; taken as downstream")


def _omcproxy(sections: Sequence[Section], names: _Names, draft: Draft) -> Iterator[dict[str, Any]]:
    for section in (one for one in sections if one.kind == "proxy"):
        proxy: dict[str, Any] = {"name": "default", "family": ["ipv4", "ipv6"], "interfaces": []}
        if section.name:
            draft.put(ProxyConfig, proxy, "name", section.name, section.line)
        for role in ("uplink", "downlink"):
            for value, line in section.options.get(role, ()):
                for network in value.replace(",", " ").split():
                    entry = _named(names, draft, network, line)
                    if entry is not None:
                        proxy["interfaces"].append(entry | ({"upstream": True} if role == "uplink" else {}))
        for said, line in section.options.get("scope", ()):
            draft.remark(line, f"scope {said}: left out; groups of every scope beyond the link are forwarded, and the rules in groups say otherwise")
        _remark_unknown(section, {"uplink", "downlink", "scope"}, draft)
        if proxy["interfaces"]:
            yield proxy


def _remark_unknown(section: Section, known: set[str], draft: Draft) -> None:
    unknown: Mapping[str, list[tuple[str, int]]] = {name: values for name, values in section.options.items() if name not in known | _WITHOUT_MEANING}
    for name, values in unknown.items():
        draft.remark(values[0][1], f"{name}: there is no such setting here")
