"""What NETCONF itself has to tell: configuration, confirmed commits and sessions, as notifications of RFC 6470."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement

from igmpconf.agent.access import User
from igmpconf.agent.changes import Edit, edits
from igmpconf.agent.events import Settled
from igmpconf.agent.sessions import Sessions
from igmpconf.ids import SessionId
from igmpconf.netconf.session import Close
from igmpconf.schema.names import prefixes_in

IETF = "urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"

_CONFIRM_EVENTS = {"confirm": "complete", "rollback-cancel": "cancel", "rollback-session": "cancel", "rollback-timeout": "timeout"}


def session_started(session: SessionId, user: User) -> Element:
    event = _event("netconf-session-start")
    _by(event, session, user.name, user.source)
    return event


def session_ended(session: SessionId, user: User, how: Close | None) -> Element:
    """`how` None: the agent stops."""
    event = _event("netconf-session-end")
    _by(event, session, user.name, user.source)
    if how is not None and how.killed_by is not None:
        _put(event, "killed-by", str(how.killed_by))
    _put(event, "termination-reason", how.termination if how is not None else "other")
    return event


def capabilities_changed(before: Sequence[str], after: Sequence[str]) -> Element:
    """What the hello says now and did not say before, and the other way; the same capability with other parameters is a modified one."""
    event = _event("netconf-capability-change")
    _put(_put(event, "changed-by"), "server")
    old, new = ({one.partition("?")[0]: one for one in side} for side in (before, after))
    for name, capability in new.items():
        if name not in old:
            _put(event, "added-capability", capability)
    for name, capability in old.items():
        if name not in new:
            _put(event, "deleted-capability", capability)
    for name, capability in new.items():
        if old.get(name, capability) != capability:
            _put(event, "modified-capability", capability)
    return event


def settled(change: Settled, sessions: Sessions) -> list[Element]:
    """What a commit or rollback is to those who subscribed; one that changes nothing is no change (NC-099)."""
    live = sessions.find(change.session) if change.session is not None else None
    source = live.user.source if live is not None else ""
    # whoever undid it, it was not the user when time or a lost session did
    is_server = change.event in {"rollback-timeout", "rollback-session", "rollback-restart"}
    events = []
    if change.before != change.after:
        event = _event("netconf-config-change")
        changed_by = _put(event, "changed-by")
        if is_server or change.session is None:
            _put(changed_by, "server")
        else:
            _by(changed_by, change.session, change.user or "-", source)
        _put(event, "datastore", "running")
        for one in edits(change.before, change.after):
            _edit(event, one)
        events.append(event)
    confirm_event = ("extend" if change.was_pending else "start") if change.event == "confirmed" else _CONFIRM_EVENTS.get(change.event)
    if confirm_event is not None:
        event = _event("netconf-confirmed-commit")
        if confirm_event != "timeout":
            _by(event, change.session or SessionId(0), change.user or "-", source)
        _put(event, "confirm-event", confirm_event)
        if change.timeout_s is not None:
            _put(event, "timeout", str(change.timeout_s))
        events.append(event)
    return events


def _edit(event: Element, one: Edit) -> None:
    edit = _put(event, "edit")
    target = _put(edit, "target", one.target)
    for prefix, namespace in prefixes_in(one.target):
        target.set(f"xmlns:{prefix}", namespace)
    _put(edit, "operation", one.operation)


def _by(parent: Element, session: SessionId, name: str, source: str) -> None:
    """The common session parameters; a source that is no address (a process of this device) is left out."""
    _put(parent, "username", name)
    _put(parent, "session-id", str(session))
    try:
        _put(parent, "source-host", str(ipaddress.ip_address(source)))
    except ValueError:
        return


def _event(name: str) -> Element:
    return Element(f"{{{IETF}}}{name}")


def _put(parent: Element, name: str, text: str | None = None) -> Element:
    child = SubElement(parent, f"{{{IETF}}}{name}")
    child.text = text
    return child
