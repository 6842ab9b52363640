"""How our YANG module is called, on the wire and in files."""

from __future__ import annotations

MODULE = "igmpconf"
NAMESPACE = "urn:igmpconf:yang:igmpconf"
PREFIX = "ic"
REVISION = "2026-11-25"

NETCONF_BASE = "urn:ietf:params:xml:ns:netconf:base:1.0"  # RFC 6241 3.1
YANG_ATTRIBUTES = "urn:ietf:params:xml:ns:yang:1"  # RFC 7950 7.8.6: insert, key, value
DEFAULTS_ATTRIBUTES = "urn:ietf:params:xml:ns:netconf:default:1.0"  # RFC 6243 6: wd:default
