"""Configuration and state as XML elements of the YANG module `igmpconf`, and back.

Both directions walk `nodes(cls)`: a leaf added to the model is here without a line changed.  The four with-defaults
modes of RFC 6243 3 are written; `explicit` is what the datastore holds.  Editing (operations, merge) is in `edit.py`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar
from xml.etree.ElementTree import Element

from igmpconf.model.access import CHOICE, Access, NodePath, Rule
from igmpconf.model.canon import canonical
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Bool, LeafError, Node, entry_key, node, stored_nodes
from igmpconf.model.notices import NAMES, Notice
from igmpconf.model.state import DeviceState
from igmpconf.schema import names
from igmpconf.schema.errors import DataError, node_step, xpath_step
from igmpconf.schema.names import DEFAULTS_ATTRIBUTES, MODULE, NAMESPACE, PREFIX

__all__ = [
    "MODULE",
    "NAMESPACE",
    "PREFIX",
    "STATE",
    "DataError",
    "answer_to_xml",
    "config_to_xml",
    "notice_to_xml",
    "replacement_to_xml",
    "state_to_xml",
    "xml_to_answer",
    "xml_to_config",
    "xml_to_state",
]

A = TypeVar("A")
WithDefaults = Literal["explicit", "trim", "report-all", "report-all-tagged"]

STATE = f"{{{NAMESPACE}}}state"
ACCESS = f"{{{names.ACCESS_NAMESPACE}}}nacm"
ACCESS_COUNTERS = ("denied-operations", "denied-data-writes", "denied-notifications")  # state inside the configuration's container
OPERATION_ATTRIBUTE = f"{{{names.NETCONF_BASE}}}operation"
DEFAULT_ATTRIBUTE = f"{{{DEFAULTS_ATTRIBUTES}}}default"


@functools.cache
def tag_of(n: Node) -> str:
    """The element name of a node, in Clark notation."""
    return f"{{{names.namespace_of(n.module)}}}{n.name}"


# -- writing ---------------------------------------------------------------------------------------------------------


def config_to_xml(config: DeviceConfig, with_defaults: WithDefaults = "explicit", *, with_access: bool = False) -> list[Element]:
    """The top-level elements: one `<igmp-proxy>` and `<vlans>` an entry, `<firewall>`, `<logging>`; `with_access`: and `<nacm>`.

    Modes as RFC 6243 3; in `report-all-tagged` what was set explicitly is not tagged even where it equals the default
    (section 2.3.3), and inherited settings of interfaces have no default of their own.
    """
    top = Element("config")
    _write_children(top, DeviceConfig, config, with_defaults)
    return [one for one in top if with_access or one.tag != ACCESS]


def replacement_to_xml(before: DeviceConfig, after: DeviceConfig) -> list[Element]:
    """An edit (RFC 6241 7.2) that makes `after` of `before` and touches nothing of other modules, such as the access rules.

    Replacing the whole datastore would remove those, or be refused to a user who may not.
    """
    wanted = config_to_xml(after)
    for one in wanted:
        one.set(OPERATION_ATTRIBUTE, "replace")
    kept = {_identity(one) for one in wanted}
    for one in config_to_xml(before):
        if _identity(one) not in kept:
            key = by_tag(DeviceConfig)[one.tag].key
            gone = Element(one.tag, {OPERATION_ATTRIBUTE: "remove"})
            gone.extend(child for child in one if local_name(child) in key)
            wanted.append(gone)
    return wanted


def _identity(element: Element) -> tuple[str | None, ...]:
    """Which top-level node it is: its tag, and the texts of its keys."""
    key = by_tag(DeviceConfig)[element.tag].key
    return (element.tag, *(child.text for child in element if local_name(child) in key))


def state_to_xml(state: DeviceState) -> Element:
    """The `<state>` container (config false)."""
    top = Element(STATE)
    _write_children(top, DeviceState, state, "explicit")
    return top


def answer_to_xml(answer: Any) -> list[Element]:
    """The elements of what an operation of ours answers (`model/answers.py`)."""
    top = Element("answer")
    _write_children(top, type(answer), answer, "explicit")
    return list(top)


def notice_to_xml(notice: Notice) -> Element:
    """The element of one notification of ours (`model/notices.py`)."""
    top = Element(f"{{{NAMESPACE}}}{NAMES[type(notice)]}")
    _write_children(top, type(notice), notice, "explicit")
    return top


@functools.cache
def _in_xml_order(cls: Any, key: tuple[str, ...]) -> tuple[Node, ...]:
    """Key leaves first, in the order of the key statement (RFC 7950 7.8.5)."""
    keys = tuple(n for name in key if (n := node(cls, name)) is not None)
    return (*keys, *(n for n in stored_nodes(cls) if n.name not in key))


def _write_children(parent: Element, cls: Any, model: Any, mode: WithDefaults, key: tuple[str, ...] = ()) -> None:
    for n in _in_xml_order(cls, key):
        value = getattr(model, n.attr)
        if n.kind == "list":
            for entry in value:
                child = Element(tag_of(n))
                _write_children(child, n.cls, entry, mode, n.key)
                parent.append(child)
        elif n.kind == "container":
            if value is None and mode in {"explicit", "trim"}:
                continue
            child = Element(tag_of(n))
            _write_children(child, n.cls, n.cls() if value is None and not _has_required(n.cls) else value, mode)
            if len(child):  # a container without presence says nothing by itself
                parent.append(child)
        else:
            _write_leaf(parent, n, value, mode)


@functools.cache
def _has_required(cls: Any) -> bool:
    return any(n.required for n in stored_nodes(cls))


def _write_leaf(parent: Element, n: Node, value: Any, mode: WithDefaults) -> None:
    assert n.type is not None
    is_absent = value is None or value == ()
    if is_absent:
        if mode in {"explicit", "trim"} or n.default is None or n.default == ():
            return
        value = n.default
    elif mode == "trim" and not n.required and value == n.default:
        return
    attributes = {DEFAULT_ATTRIBUTE: "true"} if is_absent and mode == "report-all-tagged" else {}
    for one in value if n.kind == "leaf-list" else (value,):
        child = Element(tag_of(n), attributes)
        child.text = n.type.text(one)
        if isinstance(n.type, NodePath):
            _prefix(child)
        parent.append(child)


def _prefix(element: Element) -> None:
    """A path with names of modules becomes one with prefixes, declared where it stands."""
    text, modules = element.text or "", set()

    def prefix(match: re.Match[str]) -> str:
        modules.add(match[1])
        return f"{names.prefix_of(match[1])}:"

    element.text = "".join(part if quoted else _MODULE_PREFIX.sub(prefix, part) for part, quoted in _parts(text))
    for module in sorted(modules):
        element.set(f"xmlns:{names.prefix_of(module)}", names.namespace_of(module))


def _parts(path: str) -> Iterator[tuple[str, bool]]:
    """The pieces of a path, and whether each is a literal in quotes."""
    for piece in re.split(r"""('[^']*'|"[^"]*")""", path):
        yield piece, piece[:1] in {"'", '"'}


_MODULE_PREFIX = re.compile(r"([A-Za-z_][\w.\-]*):")


# -- reading ---------------------------------------------------------------------------------------------------------


def xml_to_config(elements: Iterable[Element], *, with_access: bool = False) -> DeviceConfig:
    """The configuration that top-level elements describe; elements tagged `wd:default` count as absent.

    `with_access`: the access rules of the device as well; whoever deals in proxies only leaves them out.
    Raises DataError with the tag and path that `<rpc-error>` wants.
    """
    if not with_access:
        elements = [element for element in elements if element.tag != ACCESS]
    config: DeviceConfig = _read(DeviceConfig, elements, "", (), is_state=False)
    return canonical(config)


def xml_to_state(element: Element) -> DeviceState:
    """The state in a `<state>` element; leaves that this version does not know are skipped.  Raises DataError."""
    if element.tag != STATE:
        raise DataError("unknown-element", f"expected <state> of {NAMESPACE}", info={"bad-element": local_name(element)})
    state: DeviceState = _read(DeviceState, element, "/ic:state", (), is_state=True)
    return canonical(state)


def xml_to_answer(cls: type[A], elements: Iterable[Element]) -> A:
    """What `answer_to_xml` wrote; leaves that this version does not know are skipped.  Raises DataError."""
    answer: A = _read(cls, elements, "", (), is_state=True)
    return answer


def local_name(element: Element) -> str:
    """The name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def namespace_of(element: Element) -> str:
    """The namespace URI of an element, '' for none."""
    return element.tag[1:].rpartition("}")[0] if element.tag.startswith("{") else ""


def node_of(cls: Any, element: Element, path: str) -> Node:
    """The node that `element` names below `cls` at `path`.  Raises DataError unknown-namespace or unknown-element."""
    known_here = by_tag(cls).get(element.tag)
    if known_here is not None:
        return known_here
    name = local_name(element)
    namespace = namespace_of(element)
    wanted = {names.namespace_of(n.module) for n in stored_nodes(cls)}
    if namespace not in wanted:
        raise DataError(
            "unknown-namespace",
            f"<{name}> is of namespace {namespace or '(none)'}; expected {names.namespace_of(getattr(cls, 'YANG_MODULE', ''))}",
            path=path or None,
            info={"bad-element": name, "bad-namespace": namespace},
        )
    known = ", ".join(n.name for n in stored_nodes(cls))
    is_state = (cls is DeviceConfig and name == "state") or (cls is Access and name in ACCESS_COUNTERS)
    detail = "state is read-only" if is_state else f"expected one of {known}"
    prefix = names.prefix_of(names.module_of(namespace) or "")
    raise DataError("unknown-element", f"<{name}> is not known here; {detail}", path=path + xpath_step(name, (), prefix), info={"bad-element": name})


@functools.cache
def by_tag(cls: Any) -> dict[str, Node]:
    """The nodes of a model class by the tags of their elements."""
    return {tag_of(n): n for n in stored_nodes(cls)}


def leaf_value(n: Node, element: Element, path: str) -> Any:
    """The canonical value of a leaf element.  Raises DataError invalid-value with what was expected."""
    assert n.type is not None
    if len(element):
        child = local_name(element[0])
        raise DataError("unknown-element", f"<{n.name}> is a leaf and holds no elements", path=path + xpath_step(child), info={"bad-element": child})
    text = element.text or ""
    if isinstance(n.type, NodePath):
        text = _resolved(text, element, path)
    expected = "expected true or false"  # RFC 7950 9.5.1; yes and on are YAML's
    if not isinstance(n.type, Bool) or text.strip() in {"true", "false"}:
        try:
            return n.type.parse(text)
        except LeafError as error:
            expected = f"{error} ({error.hint})" if error.hint else str(error)
    raise DataError("invalid-value", f"{text!r} does not fit {n.name}: {expected}", path=path, info={"bad-element": n.name})


def _resolved(text: str, element: Element, path: str) -> str:
    """A path with names of modules for prefixes; the parser left the declarations in scope with the element."""

    def module(match: re.Match[str]) -> str:
        namespace = element.get(f"xmlns:{match[1]}")
        found = names.module_of(namespace) if namespace is not None else None
        if found is None:
            what = f"is bound to {namespace}, which is no module of this device" if namespace is not None else "is not declared"
            raise DataError("invalid-value", f"{text!r} does not fit path: prefix {match[1]} {what}", path=path, info={"bad-element": "path"})
        return f"{found}:"

    return "".join(part if quoted else _MODULE_PREFIX.sub(module, part) for part, quoted in _parts(text))


def key_values(n: Node, element: Element, path: str) -> tuple[tuple[Any, ...], str]:
    """The key of a list entry, and the entry's XPath.  Raises DataError missing-element {bad-element key}."""
    values: list[Any] = []
    texts: list[tuple[str, str]] = []
    here = path + node_step(n)
    for name in n.key:
        leaf = node(n.cls, name)
        assert leaf is not None
        assert leaf.type is not None
        found = element.findall(tag_of(leaf))
        if not found:
            raise DataError("missing-element", f"an entry of {n.name} needs its key <{name}>", error_type="protocol", path=here, info={"bad-element": name})
        if len(found) > 1:
            raise DataError("bad-element", f"<{name}> stands twice in one entry", path=here, info={"bad-element": name})
        values.append(leaf_value(leaf, found[0], here + node_step(leaf)))
        texts.append((name, leaf.type.text(values[-1])))
    return tuple(values), path + node_step(n, tuple(texts))


def no_text(element: Element, path: str) -> None:
    """Refuse character data between the elements of a container or list.  Raises DataError."""
    for text in (element.text, *(child.tail for child in element)):
        if text is not None and text.strip():
            name = local_name(element)
            raise DataError("bad-element", f"<{name}> holds elements, not text: {text.strip()[:40]!r}", path=path or None, info={"bad-element": name})


def missing(cls: Any, model: Any, path: str, key: Sequence[str] = ()) -> None:
    """Refuse an entry whose mandatory leaves are absent.  Raises DataError missing-element.

    RFC 7950 8.3.3 would let a candidate be incomplete until validation; the model cannot hold half an entry, so the
    edit that leaves one is refused at once.
    """
    for n in stored_nodes(cls):
        if n.required and n.name not in key and getattr(model, n.attr) is None:
            raise DataError("missing-element", f"<{n.name}> is mandatory", path=path + node_step(n), info={"bad-element": n.name})
    if cls is Rule and sum(getattr(model, attr) is not None for attr in CHOICE) > 1:
        raise DataError("bad-element", "a rule has one of rpc-name, notification-name and path", path=path, info={"bad-element": "rule"})


def _read(cls: Any, elements: Iterable[Element], path: str, key: tuple[str, ...], *, is_state: bool) -> Any:
    values: dict[str, Any] = {}
    many: dict[str, list[Any]] = {}
    for element in elements:
        if is_state and element.tag not in by_tag(cls):
            continue
        n = node_of(cls, element, path)
        if n.attr in values:
            raise DataError("bad-element", f"<{n.name}> stands twice", path=path + node_step(n), info={"bad-element": n.name})
        if n.kind == "leaf":
            if element.get(DEFAULT_ATTRIBUTE) == "true":
                continue
            here = path + node_step(n)
            values[n.attr] = leaf_value(n, element, here)
        elif n.kind == "leaf-list":
            if element.get(DEFAULT_ATTRIBUTE) != "true":
                many.setdefault(n.attr, []).append(leaf_value(n, element, path + node_step(n)))
        elif n.kind == "container":
            here = path + node_step(n)
            no_text(element, here)
            values[n.attr] = _read(n.cls, element, here, (), is_state=is_state)
        else:
            _, here = key_values(n, element, path)
            no_text(element, here)
            many.setdefault(n.attr, []).append(_read(n.cls, element, here, n.key, is_state=is_state))
    for n in stored_nodes(cls):
        if n.kind == "list" and n.attr in many:
            _no_repeats(n, many[n.attr], path)
        if n.required:
            values.setdefault(n.attr, None)
    model = cls(**values, **{attr: tuple(found) for attr, found in many.items()})
    missing(cls, model, path, key)
    return model


def _no_repeats(n: Node, entries: list[Any], path: str) -> None:
    seen: set[tuple[Any, ...]] = set()
    for entry in entries:
        key = entry_key(n, entry)
        if key in seen:
            text = ", ".join(str(part) for part in key)
            raise DataError("bad-element", f"{n.name} has a second entry {text}", path=path + node_step(n), info={"bad-element": n.name})
        seen.add(key)
