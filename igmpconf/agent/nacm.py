"""What a user may do: the decisions of RFC 8341 3.4 over operations, data and notifications, as one pure object.

Data rules go down the tree together with whoever walks it.  At each node the rules that still speak of it are known,
cut behind the first whose path has ended, because nothing behind that one can win here or below; when one is left,
everything below is decided.  So a user without paths in his rules costs one look, however large the tree is.

    system      what no operator needs to write: the device's group `igmpconf` may do everything that no rule denies
    guarded     operations that change something, lock somebody out or show what others do: as long as exec-default is
                not set, only rules permit them
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree.ElementTree import Element

from igmpconf.model.access import ANY, Access, Rule, RuleList
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Node, entry_key, node, stored_nodes
from igmpconf.netconf.messages import RpcError, local_name, namespace, text_of
from igmpconf.schema.errors import node_step, quoted
from igmpconf.schema.names import ACCESS_MODULE, MODULE, module_of, namespace_of, prefix_of, prefixes_in
from igmpconf.schema.xml import ACCESS, tag_of

Change = Literal["create", "update", "delete"]
Operation = Literal["create", "read", "update", "delete", "exec"]

OPERATORS = "igmpconf"  # group of the device whose members may change things
SYSTEM: tuple[RuleList, ...] = (RuleList(name="system-operators", group=(OPERATORS,), rule=(Rule(name="everything", action="permit"),)),)

_ALWAYS_DENIED = {("ietf-netconf", "kill-session"), ("ietf-netconf", "delete-config")}  # RFC 8341 3.4.4 step 11: unless a rule permits
GUARDED = {
    *(("ietf-netconf", name) for name in ("edit-config", "copy-config", "lock", "unlock", "commit", "discard-changes", "cancel-commit")),
    ("ietf-netconf-nmda", "edit-data"),
    ("notifications", "create-subscription"),
    *(("igmpconf", name) for name in ("get-log", "begin-capture", "read-capture", "end-capture", "diagnose")),
}
_UNFILTERED = {("nc-notifications", "replayComplete"), ("nc-notifications", "notificationComplete")}  # 3.4.6 step 3


@dataclass(frozen=True, slots=True)
class _Step:
    tag: str
    tests: tuple[tuple[str, str], ...]  # tag of a leaf below, or '.', and its text


@dataclass(frozen=True, slots=True)
class _Way:
    """A data rule on its way down: what is left of its path, and what it says at the end."""

    steps: tuple[_Step, ...]
    permits: bool


_Ways = tuple[_Way, ...]
_TextOf = Callable[[str], "str | None"]


class Rights:
    """What one user may do under one set of rules, for one message."""

    def __init__(self, name: str, groups: frozenset[str], access: Access | None, *, is_recovery: bool = False) -> None:
        """`groups` are those that the transport reports; a recovery session may do everything (RFC 8341 3.3.3)."""
        self.name = name
        self._access = access or Access()
        self._is_free = is_recovery or self._access.enable_nacm is False
        self._rules = () if self._is_free else tuple(_applying(self._access, name, groups))
        self._known: dict[tuple[Operation, str], _Ways] = {}

    # operations and notifications

    def refusal_to_execute(self, operation: Element) -> RpcError | None:
        """Why the user may not call an operation, or None (RFC 8341 3.4.4)."""
        module, name = module_of(namespace(operation)) or "", local_name(operation)
        if self._is_free or self._may_execute(module, name):
            return None
        path = f"/nc:rpc/{prefix_of(module)}:{name}"
        message = f"{self.name} may not call <{name}>; root and members of the group {OPERATORS} may, and whom a rule of /nacm:nacm permits it"
        return RpcError("protocol", "access-denied", path=path, prefixes=prefixes_in(path), message=message)

    def _may_execute(self, module: str, name: str) -> bool:
        for rule in self._rules:
            if _speaks_of(rule, "exec", module) and _is_untyped_or(rule, rule.rpc_name, name):
                return rule.action == "permit"
        if (module, name) in _ALWAYS_DENIED:
            return False
        if self._access.exec_default is None:
            return (module, name) not in GUARDED
        return self._access.exec_default == "permit"

    def may_hear(self, event: Element) -> bool:
        """Whether a notification is for the user (RFC 8341 3.4.6)."""
        module, name = module_of(namespace(event)) or "", local_name(event)
        if self._is_free or (module, name) in _UNFILTERED:
            return True
        for rule in self._rules:
            if _speaks_of(rule, "read", module) and _is_untyped_or(rule, rule.notification_name, name):
                return rule.action == "permit"
        return self._access.read_default != "deny"

    # reading

    def readable(self, data: Iterable[Element]) -> list[Element]:
        """What of top-level elements the user may read; the rest is absent as if it did not exist (RFC 8341 3.2.4)."""
        if self._may_all("read"):
            return list(data)
        found = (_kept(one, self._ways("read", module_of(namespace(one)) or "")) for one in data)
        return [one for one in found if one is not None]

    def may_read_all(self) -> bool:
        """Nothing is hidden from this user."""
        return self._may_all("read")

    # writing

    def refusal_to_change(self, before: DeviceConfig, after: DeviceConfig) -> RpcError | None:
        """Why the user may not make `after` of `before`, or None: what is equal in both needs no right (RFC 8341 3.2.5)."""
        if before == after or all(self._may_all(change) for change in ("create", "update", "delete")):
            return None
        denied = next(self._denied(DeviceConfig, before, after, None), None)
        if denied is None:
            return None
        change, path = denied
        message = f"{self.name} may not {change} this; root and members of the group {OPERATORS} may, and whom a rule of /nacm:nacm permits it"
        return RpcError("application", "access-denied", path=path, prefixes=prefixes_in(path), message=message)

    def _denied(self, cls: Any, old: Any, new: Any, place: _Place | None) -> Iterator[tuple[Change, str]]:
        """(operation, path) of every change below `place` that is denied."""
        for n in stored_nodes(cls):
            before, after = getattr(old, n.attr), getattr(new, n.attr)
            if before == after:
                continue
            if n.kind == "list":
                yield from self._denied_entries(n, before, after, place)
            elif n.kind == "leaf-list":
                assert n.type is not None
                for change, values in (("create", set(after) - set(before)), ("delete", set(before) - set(after))):
                    for text in sorted(n.type.text(one) for one in values):
                        yield from self._below(place, n, ((".", text),)).denied("create" if change == "create" else "delete")
            elif n.kind == "container":
                # A container says nothing by itself: what came or went is what is inside.
                yield from self._denied(n.cls, before or n.cls(), after or n.cls(), self._below(place, n))
            else:
                yield from self._below(place, n).denied("create" if before is None else "delete" if after is None else "update")

    def _denied_entries(self, n: Node, before: tuple[Any, ...], after: tuple[Any, ...], place: _Place | None) -> Iterator[tuple[Change, str]]:
        old, new = ({entry_key(n, entry): entry for entry in side} for side in (before, after))
        for key, entry in new.items():
            former = old.get(key)
            if former is None:
                yield from self._whole("create", n, entry, self._below(place, n, _keys(n, entry)))
            elif former != entry:
                yield from self._denied(n.cls, former, entry, self._below(place, n, _keys(n, entry)))
        for key, entry in old.items():
            if key not in new:
                yield from self._whole("delete", n, entry, self._below(place, n, _keys(n, entry)))
        for entry in _moved(n, before, after):
            yield from self._below(place, n, _keys(n, entry)).denied("update")

    def _whole(self, change: Change, n: Node, entry: Any, place: _Place) -> Iterator[tuple[Change, str]]:
        """A new or vanished entry: itself, and all that it holds, unless one rule decides about all of it."""
        yield from place.denied(change)
        if len(place.ways[change]) == 1:
            return
        for inner in stored_nodes(n.cls):
            value = getattr(entry, inner.attr)
            if value is None or value == ():
                continue
            if inner.kind == "list":
                for one in value:
                    yield from self._whole(change, inner, one, self._below(place, inner, _keys(inner, one)))
            elif inner.kind == "container":
                yield from self._whole(change, inner, value, self._below(place, inner))
            elif inner.kind == "leaf-list":
                assert inner.type is not None
                for one in value:
                    yield from self._below(place, inner, ((".", inner.type.text(one)),)).denied(change)
            else:
                yield from self._below(place, inner).denied(change)

    def _below(self, place: _Place | None, n: Node, keys: tuple[tuple[str, str], ...] = ()) -> _Place:
        if place is None:
            module = n.module or MODULE
            operations: tuple[Operation, ...] = ("create", "update", "delete", "read")
            place = _Place("", "/", {operation: self._ways(operation, module) for operation in operations})
        return place.below(n, keys)

    # rules

    def _may_all(self, operation: Operation) -> bool:
        """A first rule that permits everything, or nothing that could refuse."""
        if self._is_free:
            return True
        for rule in self._rules:
            if operation in _operations(rule):
                is_general = rule.module_name in {None, ANY} and rule.rpc_name is None and rule.notification_name is None and rule.path in {None, "/"}
                return is_general and rule.action == "permit"
        return False

    def _ways(self, operation: Operation, module: str) -> _Ways:
        found = self._known.get((operation, module))
        if found is None:
            ways = [
                _Way(_steps(rule.path, self.name), rule.action == "permit")
                for rule in self._rules
                if _speaks_of(rule, operation, module) and rule.rpc_name is None and rule.notification_name is None
            ]
            if module == ACCESS_MODULE:  # its default-deny-all
                ways.append(_Way((_Step(ACCESS, ()),), False))
            is_permitted = self._access.read_default != "deny" if operation == "read" else self._access.write_default == "permit"
            ways.append(_Way((), is_permitted))
            found = self._known[operation, module] = _cut(ways)
        return found


def _moved(n: Node, before: tuple[Any, ...], after: tuple[Any, ...]) -> list[Any]:
    """Entries that are in both, unchanged or not, and stand elsewhere among those that are in both."""
    if not n.keeps_order:
        return []
    keys = {entry_key(n, entry) for entry in before} & {entry_key(n, entry) for entry in after}
    old = [entry_key(n, entry) for entry in before if entry_key(n, entry) in keys]
    new = [entry for entry in after if entry_key(n, entry) in keys]
    return [entry for key, entry in zip(old, new, strict=True) if entry_key(n, entry) != key]


@dataclass(frozen=True, slots=True)
class _Place:
    """A node of the configuration, with what the rules say of it."""

    path: str
    shown: str  # the deepest part of the path that the user may read
    ways: dict[Operation, _Ways]

    def below(self, n: Node, keys: tuple[tuple[str, str], ...]) -> _Place:
        texts = {"." if name == "." else tag_of(_leaf(n, name)): text for name, text in keys}
        ways = {operation: _entered(ways, tag_of(n), texts.get) for operation, ways in self.ways.items()}
        step = node_step(n) + f"[.={quoted(keys[0][1])}]" if keys and keys[0][0] == "." else node_step(n, keys)
        path = self.path + step
        is_shown = _permits(ways["read"]) and self.shown == (self.path or "/")
        return _Place(path, path if is_shown else self.shown, ways)

    def denied(self, change: Change) -> Iterator[tuple[Change, str]]:
        if not _permits(self.ways[change]):
            yield change, self.shown


def _applying(access: Access, name: str, groups: frozenset[str]) -> Iterator[Rule]:
    """The rules that are for a user, in order; nobody's when the user is in no group."""
    mine = {group.name for group in (access.groups.group if access.groups is not None else ()) if name in group.user_name}
    if access.enable_external_groups is not False:
        mine |= groups
    if not mine:
        return
    for rules in (*access.rule_list, *SYSTEM):
        if ANY in rules.group or mine.intersection(rules.group):
            yield from rules.rule


def _operations(rule: Rule) -> Iterable[str]:
    return ("create", "read", "update", "delete", "exec") if rule.access_operations in {None, ANY} else (rule.access_operations or "").split()


def _speaks_of(rule: Rule, operation: Operation, module: str) -> bool:
    return rule.module_name in {None, ANY, module} and operation in _operations(rule)


def _is_untyped_or(rule: Rule, said: str | None, name: str) -> bool:
    if said is not None:
        return said in {ANY, name}
    return rule.rpc_name is None and rule.notification_name is None and rule.path is None


_PATH_STEP = re.compile(r"/([\w.\-]+):([\w.\-]+)((?:\[[^\]'\"]*(?:'[^']*'|\"[^\"]*\"|\$USER)\s*\])*)")
_PREDICATE = re.compile(r"\[\s*(?:(\.)|([\w.\-]+):([\w.\-]+))\s*=\s*(?:'([^']*)'|\"([^\"]*)\"|(\$USER))\s*\]")


def _steps(path: str | None, user: str) -> tuple[_Step, ...]:
    """A path of `model/access.NodePath`; without one, and with '/', everything."""
    steps = []
    for module, name, predicates in _PATH_STEP.findall(path or ""):
        tests = []
        for dot, key_module, key, single, double, variable in _PREDICATE.findall(predicates):
            tests.append(("." if dot else f"{{{namespace_of(key_module)}}}{key}", user if variable else single or double))
        steps.append(_Step(f"{{{namespace_of(module)}}}{name}", tuple(tests)))
    return tuple(steps)


def _cut(ways: Iterable[_Way]) -> _Ways:
    """Up to the first that decides: those behind it never do."""
    kept = []
    for way in ways:
        kept.append(way)
        if not way.steps:
            break
    return tuple(kept)


def _entered(ways: _Ways, tag: str, text_of_leaf: _TextOf) -> _Ways:
    """What is left of the rules below a node."""
    if len(ways) == 1:
        return ways
    return _cut(way if not way.steps else _Way(way.steps[1:], way.permits) for way in ways if not way.steps or _matches(way.steps[0], tag, text_of_leaf))


def _matches(step: _Step, tag: str, text_of_leaf: _TextOf) -> bool:
    return step.tag == tag and all(text_of_leaf(leaf) == text for leaf, text in step.tests)


def _permits(ways: _Ways) -> bool:
    return not ways[-1].steps and ways[-1].permits


def _kept(element: Element, ways: _Ways) -> Element | None:
    """`element` with what may be read of it, or None."""

    def text_of_leaf(tag: str) -> str | None:
        found = element if tag == "." else element.find(tag)
        return text_of(found) if found is not None else None

    ways = _entered(ways, element.tag, text_of_leaf)
    if not _permits(ways):
        return None
    if len(ways) == 1 or not len(element):
        return element
    children = [_kept(child, ways) for child in element]
    if all(kept is child for kept, child in zip(children, element, strict=True)):
        return element
    copy = Element(element.tag, dict(element.attrib))
    copy.extend(child for child in children if child is not None)
    return copy


def _leaf(n: Node, name: str) -> Node:
    leaf = node(n.cls, name)
    assert leaf is not None
    return leaf


def _keys(n: Node, entry: Any) -> tuple[tuple[str, str], ...]:
    keys = []
    for name, value in zip(n.key, entry_key(n, entry), strict=True):
        leaf = _leaf(n, name)
        assert leaf.type is not None
        keys.append((name, leaf.type.text(value)))
    return tuple(keys)
