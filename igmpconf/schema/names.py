"""How YANG modules are called, on the wire and in files: ours, and those of others that the agent serves."""

from __future__ import annotations

MODULE = "igmpconf"
NAMESPACE = "urn:igmpconf:yang:igmpconf"
PREFIX = "ic"
REVISION = "2026-11-25"

NETCONF_BASE = "urn:ietf:params:xml:ns:netconf:base:1.0"  # RFC 6241 3.1
YANG_ATTRIBUTES = "urn:ietf:params:xml:ns:yang:1"  # RFC 7950 7.8.6: insert, key, value
DEFAULTS_ATTRIBUTES = "urn:ietf:params:xml:ns:netconf:default:1.0"  # RFC 6243 6: wd:default

ACCESS_MODULE = "ietf-netconf-acm"  # RFC 8341
ACCESS_NAMESPACE = "urn:ietf:params:xml:ns:yang:ietf-netconf-acm"

_IETF = "urn:ietf:params:xml:ns:yang:"
NMDA = f"{_IETF}ietf-netconf-nmda"  # RFC 8526
DATASTORES = f"{_IETF}ietf-datastores"  # RFC 8342
ORIGIN = f"{_IETF}ietf-origin"

# Every module that has data, operations or notifications here: namespace and the prefix that its text declares.
MODULES: dict[str, tuple[str, str]] = {
    MODULE: (NAMESPACE, PREFIX),
    "igmpconf-netconf": ("urn:igmpconf:yang:igmpconf-netconf", "ign"),
    "ietf-netconf": (NETCONF_BASE, "nc"),
    ACCESS_MODULE: (ACCESS_NAMESPACE, "nacm"),
    "ietf-netconf-monitoring": (f"{_IETF}ietf-netconf-monitoring", "ncm"),
    "ietf-netconf-nmda": (NMDA, "ncds"),
    "ietf-netconf-notifications": (f"{_IETF}ietf-netconf-notifications", "ncn"),
    "ietf-yang-library": (f"{_IETF}ietf-yang-library", "yanglib"),
    # RFC 5277 has schemas and no modules; these are the names that servers give to its two namespaces.
    "notifications": ("urn:ietf:params:xml:ns:netconf:notification:1.0", "ncEvent"),
    "nc-notifications": ("urn:ietf:params:xml:ns:netmod:notification", "manageEvent"),
}
_OF_NAMESPACE = {namespace: module for module, (namespace, _) in MODULES.items()}


def module_of(namespace: str) -> str | None:
    """The module that a namespace belongs to, or None when it is none of ours."""
    return _OF_NAMESPACE.get(namespace)


def namespace_of(module: str) -> str:
    """The namespace of a module; '' is our own."""
    return MODULES[module or MODULE][0]


def prefix_of(module: str) -> str:
    """The prefix of a module in the paths that we write; '' is our own."""
    return MODULES[module or MODULE][1]


def prefixes_in(path: str) -> tuple[tuple[str, str], ...]:
    """(prefix, namespace) of the modules that a path of ours names, for the element that it stands in."""
    return tuple((prefix, namespace) for namespace, prefix in MODULES.values() if f"/{prefix}:" in path)
