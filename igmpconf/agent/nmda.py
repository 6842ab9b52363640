"""The datastores of RFC 8342 and what `<get-data>` asks of them (RFC 8526 3.1.1).

    running, candidate   as edited
    intended             running: nothing here is a template
    operational          what is in use: running with its defaults, the access rules that the system adds, and the state

Each node of `operational` knows where it comes from (or:origin): intended, default or system.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args
from xml.etree.ElementTree import Element

from igmpconf.agent.access import AccessControl
from igmpconf.agent.nacm import SYSTEM
from igmpconf.agent.parameters import DEFAULTS_MODES, identity, needed, parameters, word
from igmpconf.model.access import Access
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Node
from igmpconf.model.state import DeviceState
from igmpconf.netconf.filter import filtered
from igmpconf.netconf.messages import bad_element, invalid_value, text_of
from igmpconf.schema.names import ACCESS_NAMESPACE, DATASTORES, NMDA, ORIGIN
from igmpconf.schema.xml import DEFAULT_ATTRIBUTE, STATE, WithDefaults, by_tag, config_to_xml, local_name

Datastore = Literal["running", "candidate", "intended", "operational"]
Origin = Literal["intended", "system", "learned", "default", "dynamic", "unknown"]  # RFC 8342 7: what is derived from or:origin

WITH_OPERATIONAL_DEFAULTS = "urn:ietf:params:netconf:capability:with-operational-defaults:1.0"
GET_DATA = f"{{{NMDA}}}get-data"
EDIT_DATA = f"{{{NMDA}}}edit-data"
_ORIGIN = f"{{{ORIGIN}}}origin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The parameters of one `<get-data>`."""

    datastore: Datastore
    subtree: Element | None = None
    config_filter: bool | None = None
    origins: frozenset[str] | None = None  # those that pass; None: all
    max_depth: int | None = None
    with_origin: bool = False
    with_defaults: WithDefaults | None = None
    chosen: set[int] = field(default_factory=set)


def asked(operation: Element) -> Asked:
    """What the operation asks for.  Raises RpcRefused."""
    names = ("datastore", "subtree-filter", "config-filter", "max-depth", "with-origin", "with-defaults")
    lists = ("origin-filter", "negated-origin-filter")
    once = Element(operation.tag)
    once.extend(child for child in operation if child.tag not in {f"{{{NMDA}}}{name}" for name in lists})
    given = parameters(once, *(f"{{{NMDA}}}{name}" for name in names))
    source = datastore_of(needed(given, "datastore", operation, NMDA))
    for name in ("with-origin", *lists):
        if source != "operational" and operation.find(f"{{{NMDA}}}{name}") is not None:
            raise invalid_value(f"{name} is for the datastore operational; {source} has no origins")
    return Asked(
        datastore=source,
        subtree=given.get(f"{{{NMDA}}}subtree-filter"),
        config_filter=_boolean(given, "config-filter"),
        origins=_origins(operation),
        max_depth=_depth(given),
        with_origin=f"{{{NMDA}}}with-origin" in given,
        with_defaults=_defaults(given),
    )


def datastore_of(parameter: Element) -> Datastore:
    """The datastore that a `datastore-ref` names.  Raises RpcRefused: an identity that we do not have is an invalid value."""
    name = identity(parameter, DATASTORES)
    for one in get_args(Datastore):
        if name == one:
            found: Datastore = one
            return found
    raise invalid_value(f"no datastore {text_of(parameter)!r}; there are {', '.join(f'ds:{one}' for one in get_args(Datastore))}")


def _origins(operation: Element) -> frozenset[str] | None:
    wanted, unwanted = ([_origin(one) for one in operation.findall(f"{{{NMDA}}}{name}")] for name in ("origin-filter", "negated-origin-filter"))
    if wanted and unwanted:
        raise bad_element("negated-origin-filter", "origin-filter and negated-origin-filter exclude each other")
    if not wanted and not unwanted:
        return None
    named = frozenset[str]().union(*(_derived(name) for name in wanted or unwanted))
    return named if wanted else frozenset(get_args(Origin)) - named


def _origin(parameter: Element) -> str:
    name = identity(parameter, ORIGIN)
    if name is None or name not in {"origin", *get_args(Origin)}:
        raise invalid_value(f"no origin {text_of(parameter)!r}; there are {', '.join(f'or:{one}' for one in get_args(Origin))}")
    return name


def _derived(name: str) -> frozenset[str]:
    return frozenset(get_args(Origin)) if name == "origin" else frozenset({name})


def _boolean(given: dict[str, Element], name: str) -> bool | None:
    found = given.get(f"{{{NMDA}}}{name}")
    if found is None:
        return None
    if text_of(found) not in {"true", "false"}:
        raise invalid_value(f"{name} is true or false, not {text_of(found)!r}")
    return text_of(found) == "true"


def _depth(given: dict[str, Element]) -> int | None:
    found = given.get(f"{{{NMDA}}}max-depth")
    text = text_of(found) if found is not None else "unbounded"
    if text == "unbounded":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise invalid_value(f"max-depth is 1..65535 or unbounded, not {text!r}")
    return int(text)


def _defaults(given: dict[str, Element]) -> WithDefaults | None:
    return word(given, "with-defaults", DEFAULTS_MODES, "explicit", NMDA) if f"{{{NMDA}}}with-defaults" in given else None


# what there is


def configuration(wanted: Asked, config: DeviceConfig, counters: AccessControl | None) -> list[Element]:
    """The configuration nodes of the datastore that is asked for, and with `counters` the state inside them."""
    found: list[Element] = []
    if wanted.config_filter is not False:
        is_conventional = wanted.datastore != "operational"
        found = config_to_xml(config, wanted.with_defaults or "explicit", with_access=True) if is_conventional else _in_use(wanted, config)
    if counters is not None:
        counters.put_counters(found)
    return found


def _in_use(wanted: Asked, config: DeviceConfig) -> list[Element]:
    """Configuration with origins: what is configured is intended, what applies by default is so, what we add is the system's."""
    rules = config.access or Access()
    trims = wanted.with_defaults == "trim"
    found = config_to_xml(
        replace(config, access=replace(rules, rule_list=(*rules.rule_list, *SYSTEM))), "trim" if trims else "report-all-tagged", with_access=True
    )
    for one in found:
        _tell_origin(one, "intended", keeps_tags=wanted.with_defaults == "report-all-tagged")
    if wanted.origins is not None:
        found = [one for one in found if _passes(one, by_tag(DeviceConfig)[one.tag], "unknown", wanted.origins)]
    if not wanted.with_origin:
        for one in found:
            for element in one.iter():
                element.attrib.pop(_ORIGIN, None)
    return found


def _tell_origin(element: Element, inherited: Origin, *, keeps_tags: bool) -> None:
    """Set or:origin where it differs from the parent's; the outermost always has one."""
    here: Origin = inherited
    if element.get(DEFAULT_ATTRIBUTE) == "true":
        here = "default"
        if not keeps_tags:
            del element.attrib[DEFAULT_ATTRIBUTE]
    elif element.tag == _RULE_LIST and element.findtext(_RULE_LIST_NAME) in {one.name for one in SYSTEM}:
        here = "system"
    if here != inherited or element.tag in by_tag(DeviceConfig):
        element.set(_ORIGIN, f"or:{here}")
        element.set("xmlns:or", ORIGIN)
    for child in element:
        _tell_origin(child, here, keeps_tags=keeps_tags)


_RULE_LIST = f"{{{ACCESS_NAMESPACE}}}rule-list"
_RULE_LIST_NAME = f"{{{ACCESS_NAMESPACE}}}name"


def _passes(element: Element, n: Node, inherited: str, origins: frozenset[str]) -> bool:
    """Whether anything of `element` has one of the origins; what has not is taken out, keys of what is left stay."""
    here = element.get(_ORIGIN, f"or:{inherited}").removeprefix("or:")
    if not len(element):
        return here in origins
    inner = by_tag(n.cls)
    kept = [child for child in element if inner[child.tag].name not in n.key and _passes(child, inner[child.tag], here, origins)]
    if not kept and here not in origins:
        return False
    element[:] = [*(child for child in element if inner[child.tag].name in n.key), *kept]
    return bool(kept) or n.kind == "list"


# what is selected of it


def answer(wanted: Asked, found: list[Element]) -> list[Element]:
    """`<data>` of ietf-netconf-nmda with what the filters leave."""
    if wanted.subtree is not None:
        found = filtered(found, wanted.subtree, lambda one: wanted.chosen.add(id(one)))
    else:
        wanted.chosen.update(id(one) for one in found)
    if wanted.max_depth is not None:
        found = [_shortened(one, *_top(one), wanted) for one in found]
    root = Element(f"{{{NMDA}}}data")
    root.extend(found)
    return [root]


def _top(element: Element) -> tuple[Any, Collection[str]]:
    return (DeviceState, ()) if element.tag == STATE else _below(DeviceConfig, element)


def _shortened(element: Element, cls: Any, key: Collection[str], wanted: Asked) -> Element:
    """`element` with what was selected cut at the depth; what only leads there is whole."""
    if id(element) in wanted.chosen:
        return _cut(element, cls, key, wanted.max_depth or 1)
    copy = Element(element.tag, dict(element.attrib))
    copy.text = element.text
    copy.extend(_shortened(child, *_below(cls, child), wanted) for child in element)
    return copy


def _cut(element: Element, cls: Any, key: Collection[str], levels: int) -> Element:
    """The first `levels` of a subtree; entries of our lists keep their keys, which say which entry it is."""
    copy = Element(element.tag, dict(element.attrib))
    copy.text = element.text
    for child in element:
        if levels > 1:
            copy.append(_cut(child, *_below(cls, child), levels - 1))
        elif local_name(child) in key:
            copy.append(child)
    return copy


def _below(cls: Any, child: Element) -> tuple[Any, Collection[str]]:
    """The model class of a child and the names of its key leaves, where it is of our models."""
    n = by_tag(cls).get(child.tag) if cls is not None else None
    return (n.cls, n.key) if n is not None else (None, ())
