"""`<edit-config>`: the five operations of RFC 6241 7.2 over the model, as one pure function.

What is edited is what was explicitly configured (RFC 6243 2.3): a leaf that merely has a default can be created and
cannot be deleted.  An operation holds for what is below it until another one is said; below create and replace
nothing is left, so their children merge.  Lists are told apart by their keys, leaf-lists by their values.  The ordered
lists of module igmpconf are ordered by their `sequence` key; those of the access rules are `ordered-by user`, and take
`yang:insert` (RFC 7950 7.8.6).
"""

from __future__ import annotations

import re
from typing import Any, Literal
from xml.etree.ElementTree import Element

from igmpconf.model.access import CHOICE, Rule
from igmpconf.model.canon import canonical
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Node, entry_key, node, stored_nodes
from igmpconf.schema.errors import DataError, node_step
from igmpconf.schema.names import NETCONF_BASE, YANG_ATTRIBUTES
from igmpconf.schema.xml import DEFAULT_ATTRIBUTE, OPERATION_ATTRIBUTE, key_values, leaf_value, local_name, missing, no_text, node_of

DefaultOperation = Literal["merge", "replace", "none"]
_Many = dict[tuple[Any, ...], Any]

_INSERT = f"{{{YANG_ATTRIBUTES}}}insert"
_KEY = f"{{{YANG_ATTRIBUTES}}}key"
_PLACES = ("first", "last", "before", "after")
_KEY_VALUE = re.compile(r"""\[\s*[\w.:\-]+\s*=\s*(?:'([^']*)'|"([^"]*)")\s*\]""")
_WORDS = ("merge", "replace", "create", "delete", "remove")


def edited(config: DeviceConfig, edit: Element, default_operation: DefaultOperation = "merge") -> DeviceConfig:
    """`config` after the edit in `edit`, whose children are the top-level nodes (`<config>` of the rpc).

    The result is canonical and `config` is not touched; constraints between leaves are `semantic.check`'s business.
    Raises DataError for the first thing that is wrong; nothing is half done, because nothing is done in place.
    """
    start = DeviceConfig() if default_operation == "replace" else canonical(config)
    inherited = "merge" if default_operation == "replace" else default_operation
    result: DeviceConfig = _children(DeviceConfig, start, edit, inherited, "")
    return canonical(result)


def _operation(element: Element, inherited: str, path: str, *, is_ordered: bool = False) -> str:
    for name in element.attrib:
        if name in {OPERATION_ATTRIBUTE, DEFAULT_ATTRIBUTE} or (is_ordered and name in {_INSERT, _KEY}):
            continue
        said, hint = name.rpartition("}")[2], ""
        if name == "operation":
            hint = f"; the operation attribute is of namespace {NETCONF_BASE}"
        elif name.startswith(f"{{{YANG_ATTRIBUTES}}}"):
            hint = "; this is not ordered by the user: rules stand in the order of their sequence"
        elif name.startswith(("{", "xmlns:")):
            continue  # metadata of somebody else (RFC 7952)
        raise DataError(
            "unknown-attribute",
            f"attribute {said!r} is not known here{hint}",
            error_type="protocol",
            path=path,
            info={"bad-attribute": said, "bad-element": local_name(element)},
        )
    operation = element.get(OPERATION_ATTRIBUTE)
    if operation is None:
        return inherited
    if operation not in _WORDS:
        raise DataError(
            "bad-attribute",
            f"operation {operation!r} is not one of {', '.join(_WORDS)}",
            error_type="protocol",
            path=path,
            info={"bad-attribute": "operation", "bad-element": local_name(element)},
        )
    return operation


def _below(operation: str) -> str:
    return "merge" if operation in {"create", "replace"} else operation


def _exists(what: str, path: str) -> DataError:
    return DataError("data-exists", f"{what} exists already, it cannot be created", path=path)


def _absent(what: str, path: str, operation: str) -> DataError:
    so = "it cannot be deleted" if operation == "delete" else "with operation none it must be there already"
    return DataError("data-missing", f"{what} is not configured; {so}", path=path)


def _children(cls: Any, model: Any, parent: Element, inherited: str, path: str, *, key: tuple[str, ...] = ()) -> Any:
    no_text(parent, path)
    values = {n.attr: getattr(model, n.attr) for n in stored_nodes(cls)}
    many: dict[str, _Many] = {}  # what is edited of lists and leaf-lists, by attribute: found by key, in their order
    seen: set[str] = set()
    for element in parent:
        n = node_of(cls, element, path)
        if n.kind not in {"leaf-list", "list"}:
            if n.name in seen:
                raise DataError("bad-element", f"<{n.name}> stands twice", path=path + node_step(n), info={"bad-element": n.name})
            seen.add(n.name)
        if n.kind in {"leaf-list", "list"} and n.attr not in many:
            many[n.attr] = {entry_key(n, one) if n.kind == "list" else (one,): one for one in values[n.attr]}
        if n.kind == "list":
            _list(n, many[n.attr], element, inherited, path)
        elif n.kind == "container":
            values[n.attr] = _container(n, values[n.attr], element, inherited, path + node_step(n))
        elif n.kind == "leaf-list":
            _leaf_list(n, many[n.attr], element, inherited, path + node_step(n))
        elif n.name in key:
            _key(n, element, path + node_step(n))
        else:
            values[n.attr] = _leaf(n, values[n.attr], element, inherited, path + node_step(n))
            if cls is Rule and n.attr in CHOICE and values[n.attr] is not None:
                # RFC 7950 7.9.3: a node of one case removes those of the others; two in one edit are refused below
                values |= {other: None for other in CHOICE if other != n.attr and other.replace("_", "-") not in seen}
    result = cls(**(values | {attr: tuple(found.values()) for attr, found in many.items()}))
    missing(cls, result, path, key)
    return result


def _key(n: Node, element: Element, path: str) -> None:
    if _operation(element, "merge", path) in {"delete", "remove"}:
        raise DataError(
            "bad-attribute",
            f"<{n.name}> is a key; put the operation on the entry",
            error_type="protocol",
            path=path,
            info={"bad-attribute": "operation", "bad-element": n.name},
        )


def _leaf(n: Node, current: Any, element: Element, inherited: str, path: str) -> Any:
    operation = _operation(element, inherited, path)
    if operation == "remove":
        return None
    if operation == "delete":
        if current is None:
            raise _absent(n.name, path, "delete")
        return None
    value = leaf_value(n, element, path)
    if operation == "create" and current is not None:
        raise _exists(n.name, path)
    if operation == "none":
        if current is None:
            raise _absent(n.name, path, "none")
        return current
    return _unless_default(n, value, element, path)


def _unless_default(n: Node, value: Any, element: Element, path: str) -> Any:
    """RFC 6243 4.5.2: `wd:default="true"` asks for the default, and says which; then nothing is explicit."""
    if element.get(DEFAULT_ATTRIBUTE) not in {"true", "1"}:
        return value
    defaults = n.default if n.kind == "leaf-list" else (n.default,)
    if value not in defaults:
        raise DataError("invalid-value", f"{element.text!r} is tagged as the default of {n.name}, but is not", path=path, info={"bad-element": n.name})
    return None


def _leaf_list(n: Node, current: _Many, element: Element, inherited: str, path: str) -> None:
    assert n.type is not None
    operation = _operation(element, inherited, path)
    value = leaf_value(n, element, path)
    is_there = (value,) in current
    here = f"{path}[.='{n.type.text(value)}']"
    what = f"{n.name} {n.type.text(value)}"
    if operation in {"delete", "remove"}:
        if operation == "delete" and not is_there:
            raise _absent(what, here, "delete")
        current.pop((value,), None)
        return
    if operation == "create" and is_there:
        raise _exists(what, here)
    if operation == "none" and not is_there:
        raise _absent(what, here, "none")
    if _unless_default(n, value, element, here) is not None:
        current.setdefault((value,), value)


def _container(n: Node, current: Any, element: Element, inherited: str, path: str) -> Any:
    operation = _operation(element, inherited, path)
    is_empty = current is None or canonical(current) == n.cls()
    if operation == "remove":
        return None
    if operation == "delete":
        if is_empty:
            raise _absent(n.name, path, "delete")
        return None
    if operation == "create" and not is_empty:
        raise _exists(n.name, path)
    start = n.cls() if current is None or operation == "replace" else current
    return _children(n.cls, start, element, _below(operation), path)


def _list(n: Node, current: _Many, element: Element, inherited: str, parent_path: str) -> None:
    operation = _operation(element, inherited, parent_path + node_step(n), is_ordered=n.keeps_order)
    key, path = key_values(n, element, parent_path)
    found = current.get(key)
    what = f"{n.name} {', '.join(str(part) for part in key)}"
    if operation in {"delete", "remove"}:
        if found is None and operation == "delete":
            raise _absent(what, path, "delete")
        current.pop(key, None)
        return
    if operation == "create" and found is not None:
        raise _exists(what, path)
    if operation == "none" and found is None:
        raise _absent(what, path, "none")
    start = found if found is not None and operation != "replace" else _new(n, key)
    current[key] = _children(n.cls, start, element, _below(operation), path, key=n.key)
    place = element.get(_INSERT)
    if place is not None:
        entry = current.pop(key)
        others = tuple(current.items())
        at = _place(n, tuple(current.values()), place, element, path)
        current.clear()
        current.update((*others[:at], (key, entry), *others[at:]))


def _place(n: Node, others: tuple[Any, ...], place: str, element: Element, path: str) -> int:
    """Before which of `others` yang:insert and yang:key put an entry (RFC 7950 7.8.6, 15.7)."""

    def refused(attribute: str, message: str, app_tag: str | None = None) -> DataError:
        info = {"bad-attribute": attribute, "bad-element": n.name}
        return DataError("bad-attribute", message, error_type="protocol", app_tag=app_tag, path=path, info=info)

    if place == "first":
        return 0
    if place == "last":
        return len(others)
    if place not in _PLACES:
        raise refused("insert", f"insert {place!r} is not one of {', '.join(_PLACES)}")
    texts = tuple(single or double for single, double in _KEY_VALUE.findall(element.get(_KEY, "")))
    found = next((i for i, one in enumerate(others) if tuple(map(str, entry_key(n, one))) == texts), None)
    if not texts:
        raise refused("key", f"insert {place} needs the key of another entry, such as [{n.key[0]}='...']")
    if found is None:
        raise refused("key", f"{n.name} {', '.join(texts)} is not there, nothing can stand {place} it", "missing-instance")
    return found if place == "before" else found + 1


def _new(n: Node, key: tuple[Any, ...]) -> Any:
    values: dict[str, Any] = {inner.attr: None for inner in stored_nodes(n.cls) if inner.required}
    for name, value in zip(n.key, key, strict=True):
        leaf = node(n.cls, name)
        assert leaf is not None
        values[leaf.attr] = value
    return n.cls(**values)
