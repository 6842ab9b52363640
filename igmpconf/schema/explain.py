"""What a leaf or the code of a complaint means: the text of `igmpconf explain`, and of the reference.

Leaves explain themselves; codes are explained here, and a test sees that none is missing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Node, nodes

CODES: dict[str, str] = {
    # files
    "file/missing": "The file does not exist.",
    "file/unreadable": "The file exists but cannot be read: a directory, or no permission.",
    "file/too-big": "The file is larger than 4 MiB, far more than any desired state.",
    "file/binary": "The file holds a NUL byte, so that it is not text.  UTF-16 looks like that.",
    "file/not-utf-8": "A byte is not UTF-8.  The place is that of the first such byte.",
    "file/control-character": "A character that YAML does not allow, often pasted unseen.",
    "file/empty": "The file holds nothing but comments and blanks.  An empty desired state would remove everything, so it must be said: {}.",
    # YAML
    "yaml/syntax": "The text is not YAML; the place is where the reader lost its way, which may be a line late.",
    "yaml/tab": "A tab stands in the indentation.  YAML takes spaces only.",
    "yaml/several-documents": "A second document begins with '---'.  One file is the desired state of one device.",
    "yaml/repeated-key": "A key stands twice in one mapping.  YAML readers silently keep the last; we refuse.",
    "yaml/key": "A key is a list or mapping.  Often a template expression without quotes.",
    "yaml/merge": "'<<' stands before something that is not a mapping.",
    "yaml/tag": "A tag such as !!python/object asks the reader to make something other than plain data.",
    "yaml/recursive": "An alias stands inside the anchor it names.",
    "yaml/too-deep": "Brackets or indentation are nested too deeply.",
    "yaml/too-many-nodes": "Aliases multiply to more than 100,000 values.",
    # structure
    "key/unknown": "The key is not known at this place.  The nearest known key is in the hint.",
    "key/missing": "A key that every entry needs is absent.",
    "key/repeated": "Two entries of a list have the same key, such as two interfaces of one name.",
    "type/mapping": "Keys with values are expected here.",
    "type/scalar": "A single value is expected here, not a list or mapping.",
    "type/empty": "The key has no value.",
    "value/invalid": "The value does not fit the type or range of its leaf.",
    "schema/invalid": "The value is written in a form that the JSON Schema does not allow, such as a number in quotes.",
    "list/empty": "An empty list where absent means a default: the two cannot be told apart, so the empty one is refused.",
    "limit/too-many": "The kernel keeps 32 multicast interfaces for each table and family (MAXVIFS, MAXMIFS).",
    # rules
    "upstream/none": "An enabled instance has no upstream interface.  A proxy has exactly one (RFC 4605 3).",
    "upstream/several": "An instance has several upstream interfaces.  A proxy has exactly one (RFC 4605 3).",
    "interface/both-roles": "One interface would be upstream and downstream of the same instance.",
    "interface/two-patterns": "Two patterns of one instance can match the same interface; the longer one wins.",
    "interface/exact-wins": "A name also matches a pattern with the other role; the exact name wins.",
    "interface/in-two-instances": "Two instances that speak the same family claim one interface.",
    "querier/response-exceeds-interval": "Hosts could still be answering one query when the next one is sent (RFC 3376 8.3).",
    "version/below-minimum": "An interface would speak a version that it does not hear, so that nobody's answer counted.",
    "querier/robustness-one": "With robustness 1 no packet may be lost (RFC 3376 8.1).",
    "querier/interval-on-upstream": "A proxy is a host on its upstream and does not query there (RFC 4605 4.1); the value counts for the downstreams.",
    "threshold/no-effect-on-ipv6": "The kernel has no TTL threshold for IPv6 streams; those of IPv4 are held back as configured.",
    "mfc/unknown-interface": "A static entry names an interface that its instance does not have.",
    "mfc/disabled-interface": "A static entry names an interface that is disabled.",
    "mfc/no-downstream": "A static entry has no downstream interface, so that it would only swallow the stream.",
    "mfc/loop": "A static entry would send a stream back to where it arrives.",
    "group/link-local": "The group stays on its link whatever the TTL (RFC 5771 4, RFC 4291 2.7) and is never forwarded.",
    "group/any-source-in-ssm": "A membership without source in the source-specific range is ignored (RFC 4607).",
    "family/source-and-group": "Source and group of an entry are of different address families.",
    "family/not-spoken": "An address is of a family that the instance does not speak.",
    "family/unused": "A prefix is of a family that the instance does not speak, so that it matches nothing.",
    "address/not-a-sender": "A multicast, loopback or unspecified address cannot be the source of our messages.",
    "address/not-link-local": "MLD messages come from link-local addresses (RFC 3810 5); others are dropped by every listener.",
    "static/on-upstream": "A static group on the upstream is held by no downstream, so nothing is forwarded for it.",
    "groups/unreachable": "A rule stands behind one that matches everything; first match wins.",
    "groups/unknown-interface": "A rule names an interface that is not a downstream of the instance.",
    "bridge/missing": "Mode bridged works among the ports of a bridge, and none is named.",
    "bridge/not-bridged": "A bridge is named, but the mode is routed.",
    "bridge/is-its-own-port": "The bridge itself stands among the interfaces, which are its ports.",
    "bridge/in-two-instances": "Two instances work on one bridge.",
    "bridge/also-routed": "A bridge is an interface of a routed instance while a bridged one takes its hosts' messages at the ports.",
    "bridge/threshold": "A bridge forwards frames whatever their TTL.",
    "bridge/subnets": "Ports of a bridge have no subnets; hosts of all subnets are heard.",
    "bridge/arrival": "Forwarding entries of a bridge do not say where a stream arrives.",
    "bridge/forwards-anyway": "A bridged instance forwards to every port that has members, whoever is the querier there.",
    "vlan/repeated": "Two VLAN interfaces have the same id on the same parent.",
    "vlan/cycle": "A VLAN interface stands, over others or directly, on itself.",
    "firewall/out-interface-on-input": "Packets for this device leave by no interface.",
    "firewall/two-families": "Source and destination of a rule are of different families, so that it matches nothing.",
    "firewall/protocol-of-other-family": "IGMP is IPv4 only and ICMPv6 is IPv6 only; the addresses of the rule say otherwise.",
    "firewall/multicast-source": "A multicast address is never the source of a packet.",
    # the fleet
    "fleet/loop": "Proxies take their streams from each other in a circle.  Streams and memberships would go around for ever.",
    "fleet/wrong-way": "A device's sources live behind a device that it feeds, so the chain runs from the viewers to the sources.",
    "fleet/two-queriers": "Several devices have a downstream on one LAN.  One is elected querier and forwards (RFC 4605 4.2), the others wait.",
    "fleet/forwarded-twice": "Several devices serve one LAN, and one of them forwards also when it is not the querier: every datagram arrives twice.",
    "fleet/duplicate-address": "Two devices have one address.  Routers of one network need addresses of their own.",
    "fleet/group-sourced-twice": "Static entries of two devices name different sources for one group that is not source-specific.",
}


def explained(word: str) -> str | None:
    """The text for a leaf (`query-interval`, `interfaces/threshold`) or a code (`upstream/none`); None when it is neither.

    A leaf that stands at several places is explained at each.
    """
    if word in CODES:
        return f"{word}\n    {CODES[word]}\n"
    wanted = word.strip("/")
    found = [_leaf(path, n) for path, n in _all(DeviceConfig, "") if path == wanted or path.endswith(f"/{wanted}")]
    return "\n".join(found) or None


def nearest(word: str) -> list[str]:
    """Up to three leaves or codes that look like `word`."""
    known = [*CODES, *dict.fromkeys(path.rpartition("/")[2] for path, _ in _all(DeviceConfig, ""))]
    return difflib.get_close_matches(word, known, n=3, cutoff=0.5)


def _all(cls: Any, prefix: str) -> Iterator[tuple[str, Node]]:
    for n in nodes(cls):
        path = f"{prefix}/{n.name}" if prefix else n.name
        yield path, n
        if n.cls is not None:
            yield from _all(n.cls, path)


def _leaf(path: str, n: Node) -> str:
    rows: list[tuple[str, str]] = []
    if n.type is not None:
        rows.append(("type", n.type.described() + (", one or several" if n.kind == "leaf-list" else "")))
    elif n.kind == "list":
        rows.append(("type", "a list of mappings" + (f", at most {n.max_elements}" if n.max_elements is not None else "")))
        rows.append(("key", ", ".join(n.key)))
    else:
        rows.append(("type", "a mapping"))
    if n.type is not None and n.default is not None and n.default != ():
        default = n.default if n.kind == "leaf-list" else (n.default,)
        rows.append(("default", ", ".join(n.type.text(one) for one in default)))
    elif n.inherits:
        rows.append(("default", "as the instance says"))
    elif n.required:
        rows.append(("default", "filled by position" if n.name == "sequence" else "none, it must be given"))
    if n.shorthand is not None:
        rows.append(("short", f"an entry may be written as its {n.shorthand} alone"))
    if n.cls is not None:
        rows.append(("keys", ", ".join(inner.name for inner in nodes(n.cls))))
    if n.source:
        rows.append(("see", n.source))
    lines = [path, f"    {n.meaning[:1].upper()}{n.meaning[1:]}."]
    return "\n".join(lines + [f"    {name + ':':<9}{text}" for name, text in rows]) + "\n"
