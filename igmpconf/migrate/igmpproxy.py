"""igmpproxy.conf to our configuration.

    quickleave
    phyint eth0 upstream ratelimit 0 threshold 1
        altnet 10.0.0.0/8
        whitelist 239.1.0.0/16
    phyint eth1 downstream
    phyint lo disabled

`altnet` and the lists belong to the `phyint` above them.  igmpproxy asks with IGMPv2 every 125 s, as our defaults do.
"""

from __future__ import annotations

from typing import Any

from igmpconf.migrate.draft import Draft, Imported
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig, GroupRule, InterfaceConfig
from igmpconf.model.leaf import LeafError, node

_ROLES = {"upstream", "downstream", "disabled"}
_WITHOUT_MEANING = {"user": 1, "chroot": 1, "hashtablesize": 1, "loglevel": 1}


def imported(text: str) -> Imported:
    """What the file comes to; nothing raises, what cannot be used is remarked."""
    draft = Draft()
    proxy: dict[str, Any] = {"name": "default", "interfaces": []}
    lists: list[tuple[dict[str, Any], str, str]] = []  # interface, allow or deny, prefix
    entry: dict[str, Any] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        first, *rest = words
        if first == "quickleave":
            proxy["quick-leave"] = "on"
        elif first == "phyint":
            entry = _interface(draft, number, rest)
            if entry is not None:
                proxy["interfaces"].append(entry)
        elif first in {"altnet", "whitelist", "blacklist"}:
            if entry is None:
                draft.remark(number, f"{first} {' '.join(rest)}: left out; it belongs to no phyint")
            elif first == "altnet":
                altnet(draft, number, entry, rest)
            else:
                lists += [(entry, "allow" if first == "whitelist" else "deny", prefix) for prefix in rest if is_group_prefix(draft, number, prefix)]
        elif first == "defaultdown":
            draft.remark(number, "defaultdown: left out; name each downstream, or use a pattern such as br-*")
        elif first == "rescanvif":
            continue  # interfaces are followed always
        elif first in _WITHOUT_MEANING:
            draft.remark(number, f"{first}: a matter of that program, nothing here corresponds to it")
        else:
            draft.remark(number, f"{first}: not understood")
    rules(proxy, lists)
    if proxy["interfaces"]:
        draft.document["igmp-proxy"] = [proxy]
    return Imported(from_plain(DeviceConfig, draft.document), tuple(draft.remarks))


def _interface(draft: Draft, number: int, words: list[str]) -> dict[str, Any] | None:
    entry: dict[str, Any] = {}
    if not words or not draft.put(InterfaceConfig, entry, "interface", words[0], number, said=f"phyint {words[0]}"):
        if not words:
            draft.remark(number, "phyint without a name: left out")
        return None
    at = 1
    while at < len(words):
        word = words[at]
        value = words[at + 1] if at + 1 < len(words) else ""
        if word in _ROLES:
            if word == "upstream":
                entry["upstream"] = True
            elif word == "disabled":
                entry["enabled"] = False
            at += 1
        elif word in {"threshold", "ratelimit"}:
            if word == "threshold":
                draft.put(InterfaceConfig, entry, "threshold", value, number)
            elif value != "0":
                draft.remark(number, f"ratelimit {value}: left out; the kernel does not obey it either")
            at += 2
        else:
            draft.remark(number, f"phyint {words[0]}: {word}: not understood")
            at += 1
    return entry


def altnet(draft: Draft, number: int, entry: dict[str, Any], prefixes: list[str]) -> None:
    """Further subnets of an interface; on the upstream "all" is what we do anyway."""
    for prefix in prefixes:
        if prefix == "0.0.0.0/0" and entry.get("upstream"):
            draft.remark(number, f"altnet 0.0.0.0/0 on the upstream {entry['interface']}: any source is accepted there anyway")
            continue
        into: dict[str, Any] = {}
        if draft.put(InterfaceConfig, into, "alternative-subnets", prefix, number, said=f"altnet {prefix}"):
            entry.setdefault("alternative-subnets", []).extend(into["alternative-subnets"])


def is_group_prefix(draft: Draft, number: int, prefix: str) -> bool:
    """Whether a rule may name it; what may not is remarked."""
    found = node(GroupRule, "group")
    assert found is not None
    assert found.type is not None
    try:
        found.type.parse(prefix)
    except LeafError as error:
        draft.remark(number, f"{prefix}: left out: {error}" + (f" ({error.hint})" if error.hint else ""))
        return False
    return True


def rules(proxy: dict[str, Any], lists: list[tuple[dict[str, Any], str, str]]) -> None:
    """A list on the upstream speaks for the instance; where something is allowed, the rest is not."""
    for owner in proxy["interfaces"]:
        mine = [(action, prefix) for entry, action, prefix in lists if entry is owner]
        if not mine:
            continue
        found = [{"action": action, "group": [prefix]} for wanted in ("deny", "allow") for action, prefix in mine if action == wanted]
        if any(action == "allow" for action, _ in mine):
            found.append({"action": "deny"})
        (proxy if owner.get("upstream") else owner)["groups"] = found
