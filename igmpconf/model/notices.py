"""What happens on a device and is worth telling those who subscribed: the notifications of module `igmpconf`.

Described like the state (`state.py`), so that YANG and XML come from here too.  Each speaks of one event of the
engine's vocabulary or of several that differ in a leaf; `NOTICES` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from igmpconf.model.leaf import Address, Bool, Enum, Integer, IpAddress, LeafError, LeafType, Text, leaf, nodes

_COUNT = Integer(0, 2**64 - 1)
_WORD = Text(r"[^\x00-\x1f]{0,255}", "text", yang_pattern="")


def _instance() -> Any:
    return leaf(_WORD, "proxy instance", required=True)


def _interface(what: str) -> Any:
    return leaf(_WORD, what, required=True)


def _cause() -> Any:
    return leaf(_WORD, "what led to it")


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipJoined:
    """The first host of a downstream joined a group."""

    instance: str = _instance()
    interface: str = _interface("downstream interface")
    group: Address = leaf(IpAddress(), "the group", required=True)
    sender: Address | None = leaf(IpAddress(), "host that reported it")
    cause: str | None = _cause()


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipLeft:
    """A downstream has no host of a group left."""

    instance: str = _instance()
    interface: str = _interface("downstream interface")
    group: Address = leaf(IpAddress(), "the group", required=True)
    cause: str | None = _cause()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerierChanged:
    """Another router than before asks for memberships on a downstream."""

    instance: str = _instance()
    interface: str = _interface("downstream interface")
    is_self: bool = leaf(Bool(), "we ask now; while another router does, we do not forward there", required=True)
    querier: Address | None = leaf(IpAddress(), "the router that asks now, when it is not us")
    cause: str | None = _cause()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChanged:
    """An interface took up its role, or cannot play it any more."""

    instance: str = _instance()
    interface: str = _interface("the interface")
    role: str = leaf(Enum(("upstream", "downstream")), "its role", required=True)
    up: bool = leaf(Bool(), "whether it plays it", required=True)
    cause: str | None = _cause()


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReached:
    """A limit of the configuration keeps something out; told at most once a minute for an interface."""

    instance: str = _instance()
    interface: str = _interface("downstream interface")
    leaf_name: str = leaf(Enum(("max-groups", "max-sources-per-group")), "the limit's leaf", required=True)
    limit: int = leaf(_COUNT, "its value", required=True)
    group: Address | None = leaf(IpAddress(), "the group that was refused, or whose sources were")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRejected:
    """A host reports from outside the subnets of its interface; told at most once a minute for a host."""

    instance: str = _instance()
    interface: str = _interface("downstream interface")
    sender: Address = leaf(IpAddress(), "the host", required=True)
    cause: str | None = _cause()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationsLost:
    """Notifications that were not sent: too many at once, or the subscriber took them too slowly."""

    count: int = leaf(_COUNT, "how many", required=True)


Notice = MembershipJoined | MembershipLeft | QuerierChanged | RoleChanged | LimitReached | SourceRejected | NotificationsLost

NAMES: dict[type[Notice], str] = {
    MembershipJoined: "membership-joined",
    MembershipLeft: "membership-left",
    QuerierChanged: "querier-changed",
    RoleChanged: "interface-role-changed",
    LimitReached: "limit-reached",
    SourceRejected: "source-rejected",
    NotificationsLost: "notifications-lost",
}

# event of engine/vocabulary.py -> notification, and the leaves that the event's name says
NOTICES: dict[str, tuple[type[Notice], Mapping[str, object]]] = {
    "membership/joined": (MembershipJoined, {}),
    "membership/left": (MembershipLeft, {}),
    "querier/lost": (QuerierChanged, {"is_self": False}),
    "querier/changed": (QuerierChanged, {"is_self": False}),
    "querier/taken": (QuerierChanged, {"is_self": True}),
    "upstream/up": (RoleChanged, {"role": "upstream", "up": True}),
    "upstream/down": (RoleChanged, {"role": "upstream", "up": False}),
    "downstream/up": (RoleChanged, {"role": "downstream", "up": True}),
    "downstream/down": (RoleChanged, {"role": "downstream", "up": False}),
    "limit/groups": (LimitReached, {"leaf_name": "max-groups"}),
    "limit/sources": (LimitReached, {"leaf_name": "max-sources-per-group"}),
    "report/foreign-sender": (SourceRejected, {}),
}


def notice_of(event: str, facts: Mapping[str, object]) -> Notice | None:
    """The notification that an event of the engine with these facts is, or None when it is none.

    A fact that does not fit its leaf is left out; without one that every such notification has there is none.
    """
    if event not in NOTICES:
        return None
    cls, said = NOTICES[event]
    known = {**facts, **said}
    values = {}
    for n in nodes(cls):
        value = known.get(n.attr)
        if value is not None and n.type is not None:
            read = _read(n.type, value)
            if read is not None:
                values[n.attr] = read
    if any(n.required and n.attr not in values for n in nodes(cls)):
        return None
    return cls(**values)


def _read(kind: LeafType, value: object) -> Any:
    try:
        return kind.parse(value)
    except LeafError:
        return None
