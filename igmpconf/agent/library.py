"""`/yang-library` and `/modules-state` of ietf-yang-library (RFC 8525, and RFC 7895 for older clients).

Listed is what is implemented, whether or not its text is carried: those of the IETF come from where clients have them.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from igmpconf.agent.modules import modules
from igmpconf.netconf.messages import BASE

NAMESPACE = "urn:ietf:params:xml:ns:yang:ietf-yang-library"
DATASTORES = "urn:ietf:params:xml:ns:yang:ietf-datastores"
_REVISION = "2019-01-04"
_IETF = "urn:ietf:params:xml:ns:yang:"


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
    return tuple(
        sorted(
            (
                *(Listed(module.name, module.revision, module.namespace) for module in modules()),
                # the features are the capabilities of the hello (RFC 6241 8)
                Listed("ietf-netconf", "2011-06-01", BASE, ("candidate", "confirmed-commit", "rollback-on-error", "validate")),
                Listed("ietf-netconf-monitoring", "2010-10-04", f"{_IETF}ietf-netconf-monitoring"),
                Listed("ietf-netconf-notifications", "2012-02-06", f"{_IETF}ietf-netconf-notifications"),
                Listed("ietf-netconf-with-defaults", "2011-06-01", f"{_IETF}ietf-netconf-with-defaults"),
                Listed("ietf-yang-library", _REVISION, NAMESPACE),
                Listed("ietf-datastores", "2018-02-14", DATASTORES, is_imported_only=True),
                Listed("ietf-inet-types", "2013-07-15", f"{_IETF}ietf-inet-types", is_imported_only=True),
                Listed("ietf-yang-types", "2013-07-15", f"{_IETF}ietf-yang-types", is_imported_only=True),
            ),
            key=lambda one: one.name,
        )
    )


@functools.cache
def content_id() -> str:
    """Changes when the modules do, their texts included: a client may keep what it made of them under this name."""
    texts = "".join(module.text for module in modules())
    return hashlib.sha256(f"{listed()}{texts}".encode()).hexdigest()[:40]


def capabilities() -> tuple[str, ...]:
    """RFC 7950 5.6.4 and RFC 8526 2."""
    standard = "urn:ietf:params:netconf:capability:yang-library"
    return (
        f"{standard}:1.0?revision={_REVISION}&module-set-id={content_id()}",
        f"{standard}:1.1?revision={_REVISION}&content-id={content_id()}",
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
    for datastore in ("running", "candidate"):
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
