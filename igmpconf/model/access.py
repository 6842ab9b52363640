"""Who may do what over NETCONF: the configuration of ietf-netconf-acm (RFC 8341 3.5), as the datastore holds it.

It belongs to the device and not to the desired state of a proxy: no YAML has it and no plan touches it.  An operator
writes it with any NETCONF client; it is locked, validated, committed, confirmed and rolled back with everything else.
What the rules mean is `agent/nacm.py`'s business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from igmpconf.model.leaf import Bool, Enum, LeafError, LeafType, Text, container, keyed_list, leaf, leaf_list

MODULE = "ietf-netconf-acm"
ANY = "*"
OPERATIONS = ("create", "read", "update", "delete", "exec")  # in the order of the bits

_NAME = Text(r"[\s\S]{1,255}", "text of 1..255 characters")
_GROUP = Text(r"[^*][\s\S]{0,254}", "the name of a group: 1..255 characters, the first not '*'")
_GROUP_OR_ANY = Text(r"\*|[^*][\s\S]{0,254}", "the name of a group, or '*' for every group")
_MATCH = Text(r"[\s\S]{0,255}", "a name, or '*' for any")
_COMMENT = Text(r"[\s\S]{0,4096}", "text of at most 4096 characters")
_ACTION = Enum(("permit", "deny"))


@dataclass(frozen=True, slots=True)
class Operations(LeafType):
    """`*`, or some of the five operations: the bits of access-operations-type."""

    def parse(self, raw: object) -> str:
        words = str(raw).split()
        if words == [ANY]:
            return ANY
        if len(set(words)) != len(words) or not set(words) <= set(OPERATIONS):
            raise LeafError(self.described())
        return " ".join(word for word in OPERATIONS if word in words)

    def described(self) -> str:
        return f"'*', or some of {', '.join(OPERATIONS)}, separated by spaces"


_STEP = r"/[A-Za-z_][\w.\-]*:[A-Za-z_][\w.\-]*"
_PREDICATE = r"\[\s*(?:\.|[A-Za-z_][\w.\-]*:[A-Za-z_][\w.\-]*)\s*=\s*(?:'[^']*'|\"[^\"]*\"|\$USER)\s*\]"
_PATH = re.compile(rf"/|(?:{_STEP}(?:{_PREDICATE})*){{1,64}}")


@dataclass(frozen=True, slots=True)
class NodePath(LeafType):
    """A node-instance-identifier: `/module:name[module:key='value']/...`, with names of modules where XML has prefixes."""

    def parse(self, raw: object) -> str:
        text = str(raw).strip()
        if len(text) > 4096 or not _PATH.fullmatch(text):
            raise LeafError(self.described())
        return text

    def described(self) -> str:
        return "'/' or a path such as /ic:igmp-proxy[ic:name='default']/ic:enabled, each name with its prefix, keys optional"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    YANG_MODULE: ClassVar[str] = MODULE

    name: str = leaf(_GROUP, "name of the group", required=True)
    user_name: tuple[str, ...] = leaf_list(_NAME, "its members; the transport adds those of the device's group of the same name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    YANG_MODULE: ClassVar[str] = MODULE

    group: tuple[Group, ...] = keyed_list(Group, "the groups that are configured", key=("name",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """At most one of `rpc_name`, `notification_name` and `path` is there: it says what the rule speaks of."""

    YANG_MODULE: ClassVar[str] = MODULE

    name: str = leaf(_NAME, "name of the rule", required=True)
    module_name: str | None = leaf(_MATCH, "YANG module that it speaks of", default=ANY)
    rpc_name: str | None = leaf(_MATCH, "operation that it speaks of")
    notification_name: str | None = leaf(_MATCH, "notification that it speaks of")
    path: str | None = leaf(NodePath(), "data that it speaks of, with all that is below")
    access_operations: str | None = leaf(Operations(), "operations that it speaks of", default=ANY)
    action: str = leaf(_ACTION, "what happens to what it speaks of", required=True)
    comment: str | None = leaf(_COMMENT, "what it is for")


CHOICE = ("rpc_name", "notification_name", "path")  # the cases of rule-type


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleList:
    YANG_MODULE: ClassVar[str] = MODULE

    name: str = leaf(_NAME, "name of the list", required=True)
    group: tuple[str, ...] = leaf_list(_GROUP_OR_ANY, "groups that its rules are for")
    rule: tuple[Rule, ...] = keyed_list(Rule, "rules, the first that matches decides", key=("name",), user_ordered=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    YANG_MODULE: ClassVar[str] = MODULE

    enable_nacm: bool | None = leaf(Bool(), "whether anything is refused at all", default=True)
    read_default: str | None = leaf(_ACTION, "of data and notifications that no rule speaks of", default="permit")
    write_default: str | None = leaf(_ACTION, "of changes that no rule speaks of", default="deny")
    exec_default: str | None = leaf(_ACTION, "of operations that no rule speaks of", default="permit")
    enable_external_groups: bool | None = leaf(Bool(), "whether the user's groups on the device count", default=True)
    groups: Groups | None = container(Groups, "groups of users")
    rule_list: tuple[RuleList, ...] = keyed_list(RuleList, "lists of rules, in order", key=("name",), user_ordered=True)


def access_field() -> Any:
    """The field of the device's configuration that holds it: stored with the rest, and no node of YAML."""
    return container(Access, "who may do what", name="nacm", is_stored_only=True, module=MODULE)
