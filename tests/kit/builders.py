"""Short names for what the engine's tests say: groups, hosts, reports in, and the effects expected out.

Effects are compared as text, one line an effect, because a mismatch is read by people.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from igmpconf.engine.family import Family
from igmpconf.engine.messages import Query, Record, RecordKind
from igmpconf.model.canon import from_plain
from igmpconf.model.config import ProxyConfig

IS_IN, IS_EX, TO_IN, TO_EX, ALLOW, BLOCK = RecordKind

G, G2, SSM = "239.1.1.1", "239.2.2.2", "232.1.1.1"
S1, S2, S3, S4 = "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"
LOCAL = "239.255.255.250"


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def record(kind: RecordKind, group: str, *sources: str) -> Record:
    return Record(kind, packed(group), frozenset(map(packed, sources)))


def a_query(group: str | None = None, *sources: str, version: int = 3, **fields: object) -> Query:
    """A query of somebody else; the sender is filled in by whoever sends it."""
    return Query(b"", version, packed(group) if group else None, tuple(map(packed, sources)), **fields)  # type: ignore[arg-type]


def config(*interfaces: object, **instance: object) -> ProxyConfig:
    """An instance whose first interface is the upstream; an interface is a name or a mapping."""
    entries = [dict(one) if isinstance(one, dict) else {"interface": one} for one in interfaces]
    entries[0].setdefault("upstream", True)
    return from_plain(ProxyConfig, {"name": "default", "interfaces": entries, **{key.replace("_", "-"): value for key, value in instance.items()}})


# -- expected effects --------------------------------------------------------------------------------------------------


def _record_text(kind: RecordKind, group: str, sources: Iterable[str]) -> str:
    return f"{kind.name} {group} {{{' '.join(sorted(sources, key=ipaddress.ip_address))}}}"


def says(interface: str, *records: tuple[object, ...], version: int = 3) -> str:
    """A report: `says("wan", (TO_EX, G), (ALLOW, G2, S1))`."""
    return f"{interface}> v{version} report " + "; ".join(_record_text(kind, group, sources) for kind, group, *sources in records)  # type: ignore[arg-type, misc]


def leaves(interface: str, group: str, version: int = 2) -> str:
    return f"{interface}> v{version} report " + _record_text(TO_IN, group, ())


def asks(interface: str, group: str | None = None, *sources: str, suppress: bool = False, version: int = 3) -> str:
    """A query: general without a group."""
    listed = f" {{{' '.join(sorted(sources, key=ipaddress.ip_address))}}}" if sources else ""
    return f"{interface}> v{version} query {group or '*'}{listed}{' S' if suppress else ''}"


def route(source: str, group: str, iif: str, *oifs: str) -> str:
    return f"route ({source}, {group}) {iif} -> {' '.join(sorted(oifs))}"


def unroute(source: str, group: str) -> str:
    return f"unroute ({source}, {group})"


def vif(interface: str) -> str:
    return f"vif {interface}"


def unvif(interface: str) -> str:
    return f"unvif {interface}"


def sent_text(family: Family, interface: str, payload: bytes, source: bytes) -> str:
    """A packet of ours as the builders above write it."""
    message = family.decode(payload, source, None, 1, True)
    if isinstance(message, Query):
        group = family.text(message.group) if message.group is not None else None
        return asks(interface, group, *map(family.text, message.sources), suppress=message.suppress, version=message.version)
    records = [(one.kind, family.text(one.group), *map(family.text, one.sources)) for one in message.records]
    return says(interface, *records, version=message.version)
