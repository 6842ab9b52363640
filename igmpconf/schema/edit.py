"""`<edit-config>`: the five operations of RFC 6241 7.2 over the model, as one pure function.

What is edited is what was explicitly configured (RFC 6243 2.3): a leaf that merely has a default can be created and
cannot be deleted.  An operation holds for what is below it until another one is said; below create and replace
nothing is left, so their children merge.  Lists are told apart by their keys, leaf-lists by their values.  The
ordered lists of the model are ordered by their `sequence` key, which is why `yang:insert` is refused: there is no
list in our module that is `ordered-by user`.
"""

from __future__ import annotations

from typing import Any, Literal
from xml.etree.ElementTree import Element

from igmpconf.model.canon import canonical
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Node, entry_key, node, nodes
from igmpconf.schema.errors import DataError, xpath_step
from igmpconf.schema.names import NETCONF_BASE, YANG_ATTRIBUTES
from igmpconf.schema.xml import DEFAULT_ATTRIBUTE, key_values, leaf_value, local_name, missing, no_text, node_of

DefaultOperation = Literal["merge", "replace", "none"]

_OPERATION = f"{{{NETCONF_BASE}}}operation"
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


def _operation(element: Element, inherited: str, path: str) -> str:
    for name in element.attrib:
        if name in {_OPERATION, DEFAULT_ATTRIBUTE}:
            continue
        said, hint = name.rpartition("}")[2], ""
        if name == "operation":
            hint = f"; the operation attribute is of namespace {NETCONF_BASE}"
        elif name.startswith(f"{{{YANG_ATTRIBUTES}}}"):
            hint = "; no list here is ordered by the user: rules stand in the order of their sequence"
        elif name.startswith(("{", "xmlns:")):
            continue  # metadata of somebody else (RFC 7952)
        raise DataError(
            "unknown-attribute",
            f"attribute {said!r} is not known here{hint}",
            error_type="protocol",
            path=path,
            info={"bad-attribute": said, "bad-element": local_name(element)},
        )
    operation = element.get(_OPERATION)
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
    values = {n.attr: getattr(model, n.attr) for n in nodes(cls)}
    seen: set[str] = set()
    for element in parent:
        n = node_of(cls, element, path)
        if n.kind not in {"leaf-list", "list"}:
            if n.name in seen:
                raise DataError("bad-element", f"<{n.name}> stands twice", path=path + xpath_step(n.name), info={"bad-element": n.name})
            seen.add(n.name)
        if n.kind == "list":
            values[n.attr] = _list(n, values[n.attr], element, inherited, path)
        elif n.kind == "container":
            values[n.attr] = _container(n, values[n.attr], element, inherited, path + xpath_step(n.name))
        elif n.kind == "leaf-list":
            values[n.attr] = _leaf_list(n, values[n.attr], element, inherited, path + xpath_step(n.name))
        elif n.name in key:
            _key(n, element, path + xpath_step(n.name))
        else:
            values[n.attr] = _leaf(n, values[n.attr], element, inherited, path + xpath_step(n.name))
    result = cls(**values)
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


def _leaf_list(n: Node, current: tuple[Any, ...], element: Element, inherited: str, path: str) -> tuple[Any, ...]:
    assert n.type is not None
    operation = _operation(element, inherited, path)
    value = leaf_value(n, element, path)
    here = f"{path}[.='{n.type.text(value)}']"
    what = f"{n.name} {n.type.text(value)}"
    if operation in {"delete", "remove"}:
        if operation == "delete" and value not in current:
            raise _absent(what, here, "delete")
        return tuple(one for one in current if one != value)
    if operation == "create" and value in current:
        raise _exists(what, here)
    if operation == "none" and value not in current:
        raise _absent(what, here, "none")
    if _unless_default(n, value, element, here) is None or value in current:
        return current
    return (*current, value)


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


def _list(n: Node, current: tuple[Any, ...], element: Element, inherited: str, parent_path: str) -> tuple[Any, ...]:
    operation = _operation(element, inherited, parent_path + xpath_step(n.name))
    key, path = key_values(n, element, parent_path)
    found = next((i for i, entry in enumerate(current) if entry_key(n, entry) == key), None)
    what = f"{n.name} {', '.join(str(part) for part in key)}"
    if operation in {"delete", "remove"}:
        if found is None:
            if operation == "delete":
                raise _absent(what, path, "delete")
            return current
        return current[:found] + current[found + 1 :]
    if operation == "create" and found is not None:
        raise _exists(what, path)
    if operation == "none" and found is None:
        raise _absent(what, path, "none")
    start = current[found] if found is not None and operation != "replace" else _new(n, key)
    entry = _children(n.cls, start, element, _below(operation), path, key=n.key)
    return (*current, entry) if found is None else (*current[:found], entry, *current[found + 1 :])


def _new(n: Node, key: tuple[Any, ...]) -> Any:
    values: dict[str, Any] = {inner.attr: None for inner in nodes(n.cls) if inner.required}
    for name, value in zip(n.key, key, strict=True):
        leaf = node(n.cls, name)
        assert leaf is not None
        values[leaf.attr] = value
    return n.cls(**values)
