"""VyOS' and EdgeOS' IGMP proxy, as `show configuration commands` prints it, to our configuration.

    set protocols igmp-proxy interface eth0 role 'upstream'
    set protocols igmp-proxy interface eth0 alt-subnet '10.0.0.0/8'
    set protocols igmp-proxy interface eth1 role 'downstream'
    set protocols igmp-proxy disable-quickleave

Below it igmpproxy runs, so that the lists mean what they mean there.
"""

from __future__ import annotations

from typing import Any

from igmpconf.migrate.draft import Draft, Imported
from igmpconf.migrate.igmpproxy import altnet, is_group_prefix, rules
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig, InterfaceConfig


def imported(text: str) -> Imported:
    """What the commands come to; nothing raises, what cannot be used is remarked."""
    draft = Draft()
    proxy: dict[str, Any] = {"name": "default"}
    entries: dict[str, dict[str, Any]] = {}
    lists: list[tuple[dict[str, Any], str, str]] = []
    nets: list[tuple[int, dict[str, Any], str]] = []
    others: list[int] = []
    is_quick = True
    for number, line in enumerate(text.splitlines(), 1):
        match draft.words(number, line):
            case []:
                pass
            case ["set", "protocols", "igmp-proxy", "disable-quickleave"]:
                is_quick = False
            case ["set", "protocols", "igmp-proxy", "disable"]:
                proxy["enabled"] = False
            case ["set", "protocols", "igmp-proxy", "interface", name, *setting]:
                if name not in entries:
                    entry: dict[str, Any] = {}
                    if not draft.put(InterfaceConfig, entry, "interface", name, number):
                        continue
                    entries[name] = entry
                entry = entries[name]
                match setting:
                    case []:
                        pass
                    case ["role", "upstream"]:
                        entry["upstream"] = True
                    case ["role", "downstream"]:
                        pass
                    case ["role", "disabled"]:
                        entry["enabled"] = False
                    case ["threshold", value]:
                        draft.put(InterfaceConfig, entry, "threshold", value, number)
                    case ["alt-subnet", prefix]:
                        nets.append((number, entry, prefix))  # the role may stand below
                    case ["whitelist", prefix]:
                        lists += [(entry, "allow", prefix)] if is_group_prefix(draft, number, prefix) else []
                    case _:
                        draft.remark(number, f"{' '.join(setting)}: an interface has no such setting here")
            case ["set", "protocols", "igmp-proxy", *setting]:
                draft.remark(number, f"{' '.join(setting)}: there is no such setting here")
            case _:
                others.append(number)
    for number, owner, prefix in nets:
        altnet(draft, number, owner, [prefix])
    if entries:
        proxy |= {"quick-leave": "on" if is_quick else "off", "interfaces": list(entries.values())}
        rules(proxy, lists)
        draft.document["igmp-proxy"] = [proxy]
    if others:
        draft.remark(others[0], f"{len(others)} lines are not about the IGMP proxy" if len(others) > 1 else "not about the IGMP proxy")
    draft.remarks.sort(key=lambda remark: remark.line)
    return Imported(from_plain(DeviceConfig, draft.document), tuple(draft.remarks))
