"""Reading the parameters of an operation: each function takes elements and gives values, or refuses with the right error."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, TypeVar, get_args
from xml.etree.ElementTree import Element

from igmpconf.agent.events import DEFAULT_CONFIRM_TIMEOUT_S, Target
from igmpconf.agent.modules import OUR_NETCONF
from igmpconf.ids import PersistId
from igmpconf.model.leaf import nodes
from igmpconf.model.state import DeviceState
from igmpconf.netconf.messages import (
    BASE,
    RpcError,
    RpcRefused,
    bad_attribute,
    bad_element,
    invalid_value,
    local_name,
    missing_element,
    namespace,
    not_supported,
    text_of,
    unknown_element,
)
from igmpconf.schema.names import DATASTORES, MODULES, NMDA
from igmpconf.schema.xml import WithDefaults

WITH_DEFAULTS = "urn:ietf:params:xml:ns:yang:ietf-netconf-with-defaults"
DEFAULTS_MODES: tuple[WithDefaults, ...] = get_args(WithDefaults)
MAX_CONFIRM_TIMEOUT_S = 2**32 - 1
_KNOWN_NAMESPACES = {"", WITH_DEFAULTS, *(namespace for namespace, _ in MODULES.values())}
W = TypeVar("W", bound=str)

_REMARK = re.compile(r"[^\x00-\x1f]{0,255}")


def parameters(operation: Element, *allowed: str) -> dict[str, Element]:
    """The children by tag.  Raises RpcRefused for one that is unknown or there twice."""
    given: dict[str, Element] = {}
    for child in operation:
        name = local_name(child)
        if child.tag not in allowed:
            if namespace(child) in _KNOWN_NAMESPACES:
                raise unknown_element(name, local_name(operation))
            raise unknown_namespace(child)
        if child.tag in given:
            raise bad_element(name, f"<{local_name(operation)}> has two <{name}>")
        given[child.tag] = child
    return given


def needed(given: dict[str, Element], name: str, operation: Element, space: str = BASE) -> Element:
    found = given.get(f"{{{space}}}{name}")
    if found is None:
        raise missing_element(name, local_name(operation))
    return found


def word(given: dict[str, Element], name: str, words: tuple[W, ...], default: W, space: str = BASE) -> W:
    found = given.get(f"{{{space}}}{name}")
    if found is None:
        return default
    for one in words:
        if text_of(found) == one:
            return one
    raise invalid_value(f"{name} is one of {', '.join(words)}, not {text_of(found)!r}")


def datastore(parameter: Element, *, with_nmda: bool = False) -> Target:
    """The datastore that `<source>` or `<target>` names; `with_nmda`: or its `<datastore>` of ietf-netconf-nmda (RFC 8526 3.2)."""
    children = list(parameter)
    if not children:
        raise missing_element("candidate", local_name(parameter))
    if len(children) > 1:
        raise bad_element(local_name(children[1]), f"<{local_name(parameter)}> names more than one datastore")
    for target in get_args(Target):
        if children[0].tag == f"{{{BASE}}}{target}":
            found: Target = target
            return found
    name = local_name(children[0])
    if with_nmda and children[0].tag == f"{{{NMDA}}}datastore":
        targets: tuple[Target, ...] = get_args(Target)
        for target in targets:
            if identity(children[0], DATASTORES) == target:
                return target
        raise invalid_value(f"{text_of(children[0])!r} is neither ds:running nor ds:candidate")
    raise bad_element(name, f"no datastore {name}; there are running and candidate")


def identity(parameter: Element, space: str) -> str | None:
    """The local name of an identity of the module with this namespace, by the prefix declared for it; None for another's."""
    prefix, _, name = text_of(parameter).rpartition(":")
    return name if parameter.get(f"xmlns:{prefix}") == space else None


def inline(source: Element) -> Element | None:
    """The `<config>` of a `<source>` that carries the configuration itself."""
    children = list(source)
    return children[0] if len(children) == 1 and children[0].tag == f"{{{BASE}}}config" else None


def subtree(parameter: Element | None) -> Element | None:
    if parameter is None:
        return None
    # RFC 6241 8.9: xpath needs a capability that we do not announce; the attribute may be qualified or not (6.1 and its schema differ)
    kind = parameter.get("type", parameter.get(f"{{{BASE}}}type", "subtree"))
    if kind != "subtree":
        raise bad_attribute("type", "filter", f"filters are of type subtree, not {kind}")
    return parameter


def may_select(wanted: Element | None, name: str) -> bool:
    """Whether a filter can select anything of the top-level node `name`."""
    return wanted is None or any(local_name(child) == name for child in wanted)


def pruned(state: DeviceState, wanted: Element | None) -> DeviceState:
    """`state` without the tables that the filter cannot select: what is not written costs nothing."""
    parts = [child for child in wanted if local_name(child) == "state"] if wanted is not None else []
    if not parts or any(len(part) == 0 for part in parts):
        return state
    names = {local_name(child) for part in parts for child in part}
    unwanted: dict[str, Any] = {n.attr: () if n.kind == "list" else None for n in nodes(DeviceState) if n.name not in names}
    return replace(state, **unwanted)


def defaults_mode(given: dict[str, Element]) -> WithDefaults:
    return word(given, "with-defaults", DEFAULTS_MODES, "explicit", WITH_DEFAULTS)


def confirm_timeout_s(parameter: Element | None) -> int:
    if parameter is None:
        return DEFAULT_CONFIRM_TIMEOUT_S
    text = text_of(parameter)
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= MAX_CONFIRM_TIMEOUT_S:
        raise invalid_value(f"confirm-timeout is 1..{MAX_CONFIRM_TIMEOUT_S} seconds, not {text!r}")
    return int(text)


def persist(given: dict[str, Element], name: str) -> PersistId | None:
    found = given.get(f"{{{BASE}}}{name}")
    return PersistId(text_of(found)) if found is not None else None


def remark(given: dict[str, Element], name: str) -> str | None:
    found = given.get(f"{{{OUR_NETCONF}}}{name}")
    if found is None or not text_of(found):
        return None
    if not _REMARK.fullmatch(text_of(found)):
        raise invalid_value(f"{name} is one line of at most 255 characters")
    return text_of(found)


def unknown_operation(operation: Element) -> RpcRefused:
    if namespace(operation) not in _KNOWN_NAMESPACES:
        return unknown_namespace(operation)
    if not namespace(operation):
        return not_supported(f"<{local_name(operation)}> has no namespace, so that it names no operation; those of NETCONF are in {BASE}")
    return not_supported(f"there is no operation <{local_name(operation)}>")


def unknown_namespace(element: Element) -> RpcRefused:
    info = (("bad-element", local_name(element)), ("bad-namespace", namespace(element)))
    return RpcRefused(RpcError("protocol", "unknown-namespace", message=f"nothing is known in {namespace(element)}", info=info))
