"""`/yang-library` and `/modules-state` of ietf-yang-library (RFC 8525, and RFC 7895 for older clients), and the texts.

Listed is what is implemented or imported.  The texts of the IETF's modules are served where they are installed or came
with the agent (`schema/ietf.py`), ours always.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import get_args
from xml.etree.ElementTree import Element, SubElement

from igmpconf.agent.modules import modules
from igmpconf.agent.nmda import Datastore
from igmpconf.schema import ietf
from igmpconf.schema.names import DATASTORES
from igmpconf.schema.names import MODULES as NAMES

NAMESPACE = "urn:ietf:params:xml:ns:yang:ietf-yang-library"
_REVISION = ietf.MODULES["ietf-yang-library"][0]
_IETF = "urn:ietf:params:xml:ns:yang:"

# The features are the capabilities of the hello (RFC 6241 8, RFC 8526 4).
_FEATURES = {
    "ietf-netconf": ("candidate", "confirmed-commit", "rollback-on-error", "validate"),
    "ietf-netconf-nmda": ("origin", "with-defaults"),
}
_IMPORTED_ONLY = {"ietf-inet-types", "ietf-yang-metadata", "ietf-yang-types"}
_IN_HELLO = ("ietf-netconf-acm", "ietf-netconf-monitoring", "ietf-netconf-notifications")  # of YANG 1.0; those of 1.1 are in the library


@dataclass(frozen=True, slots=True)
class Listed:
    """One module of the library."""

    name: str
    revision: str
    namespace: str
    features: tuple[str, ...] = ()
    is_imported_only: bool = False


@functools.cache
def listed() -> tuple[Listed, ...]:
    """Every module that is implemented, and those that they import, sorted by name."""
    ours = [Listed(module.name, module.revision, module.namespace) for module in modules()]
    theirs = [
        Listed(name, revision, NAMES[name][0] if name in NAMES else f"{_IETF}{name}", _FEATURES.get(name, ()), name in _IMPORTED_ONLY)
        for name, (revision, _) in ietf.MODULES.items()
    ]
    return tuple(sorted([*ours, *theirs], key=lambda one: one.name))


@functools.lru_cache(maxsize=4)
def text_of(name: str) -> str | None:
    """The text of a module that is listed, or None where it is not to be had."""
    for module in modules():
        if module.name == name:
            return module.text
    return ietf.module_text(name)


@functools.cache
def has_text(name: str) -> bool:
    """Whether get-schema can answer for a module that is listed."""
    return text_of(name) is not None


@functools.cache
def content_id() -> str:
    """Changes when the modules do, their texts included: a client may keep what it made of them under this name."""
    texts = "".join(module.text for module in modules())
    return hashlib.sha256(f"{listed()}{texts}".encode()).hexdigest()[:40]


def capabilities() -> tuple[str, ...]:
    """RFC 7950 5.6.4 and RFC 8526 2; and, for clients that look there, modules as RFC 6020 5.6.4 has them."""
    standard = "urn:ietf:params:netconf:capability:yang-library"
    return (
        f"{standard}:1.0?revision={_REVISION}&module-set-id={content_id()}",
        f"{standard}:1.1?revision={_REVISION}&content-id={content_id()}",
        *(f"{NAMES[name][0]}?module={name}&revision={ietf.MODULES[name][0]}" for name in _IN_HELLO),
        *(module.capability for module in modules()),
    )


def yang_library() -> Element:
    """`/yang-library`."""
    root = _element("yang-library")
    module_set = _put(root, "module-set")
    _put(module_set, "name", "all")
    for is_imported_only, name in ((False, "module"), (True, "import-only-module")):
        for one in listed():
            if one.is_imported_only == is_imported_only:
                module = _put(module_set, name)
                _facts(module, one)
    schema = _put(root, "schema")
    _put(schema, "name", "all")
    _put(schema, "module-set", "all")
    for datastore in get_args(Datastore):
        row = _put(root, "datastore")
        _put(row, "name", f"ds:{datastore}").set("xmlns:ds", DATASTORES)
        _put(row, "schema", "all")
    _put(root, "content-id", content_id())
    return root


def modules_state() -> Element:
    """`/modules-state`, deprecated and still what most clients read."""
    root = _element("modules-state")
    _put(root, "module-set-id", content_id())
    for one in listed():
        module = _put(root, "module")
        _facts(module, one)
        _put(module, "conformance-type", "import" if one.is_imported_only else "implement")
    return root


def _facts(module: Element, one: Listed) -> None:
    _put(module, "name", one.name)
    _put(module, "revision", one.revision)
    _put(module, "namespace", one.namespace)
    for feature in one.features:
        _put(module, "feature", feature)


def _element(name: str) -> Element:
    return Element(f"{{{NAMESPACE}}}{name}")


def _put(parent: Element, name: str, text: str | None = None) -> Element:
    child = SubElement(parent, f"{{{NAMESPACE}}}{name}")
    child.text = text
    return child
