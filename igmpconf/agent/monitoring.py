"""`/netconf-state` of ietf-netconf-monitoring (RFC 6022 2.1): what clients ask before they call get-schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.etree.ElementTree import Element, SubElement

from igmpconf.agent.events import Target
from igmpconf.agent.library import has_text, listed
from igmpconf.agent.sessions import Live
from igmpconf.ids import SessionId

NAMESPACE = "urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"
_TRANSPORTS = {"ssh": "netconf-ssh", "unix": "netconf-ssh"}  # the unix socket is where OpenSSH's subsystem comes in


def netconf_state(capabilities: Iterable[str], locks: Mapping[Target, tuple[SessionId, str]], live: Iterable[Live]) -> Element:
    """The container; `locks` are session and time (RFC 3339) of each lock that is held."""
    root = Element(f"{{{NAMESPACE}}}netconf-state")
    offered = _sub(root, "capabilities")
    for capability in capabilities:
        _sub(offered, "capability", capability)
    datastores = _sub(root, "datastores")
    names: tuple[Target, ...] = ("running", "candidate")
    for name in names:
        datastore = _sub(datastores, "datastore")
        _sub(datastore, "name", name)
        if name in locks:
            holder, since = locks[name]
            lock = _sub(_sub(datastore, "locks"), "global-lock")
            _sub(lock, "locked-by-session", str(holder))
            _sub(lock, "locked-time", since)
    schemas = _sub(root, "schemas")
    for module in listed():
        schema = _sub(schemas, "schema")
        _sub(schema, "identifier", module.name)
        _sub(schema, "version", module.revision)
        _sub(schema, "format", "yang")
        _sub(schema, "namespace", module.namespace)
        if has_text(module.name):
            _sub(schema, "location", "NETCONF")
    sessions = _sub(root, "sessions")
    for one in live:
        row = _sub(sessions, "session")
        _sub(row, "session-id", str(one.session.session_id))
        _sub(row, "transport", _TRANSPORTS[one.user.transport])
        _sub(row, "username", one.user.name)
        _sub(row, "login-time", one.login_time)
        counters = one.session.counters
        _sub(row, "in-rpcs", str(counters.in_rpcs))
        _sub(row, "in-bad-rpcs", str(counters.in_bad_rpcs))
        _sub(row, "out-rpc-errors", str(counters.out_rpc_errors))
        _sub(row, "out-notifications", str(counters.out_notifications))
    return root


def _sub(parent: Element, name: str, text: str | None = None) -> Element:
    child = SubElement(parent, f"{{{NAMESPACE}}}{name}")
    child.text = text
    return child
