"""Notifications on the wire (RFC 5277 2.2.1, 4) and which of them a subscriber wants to see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement

from igmpconf.netconf.filter import filtered
from igmpconf.xmltext import serialize

NOTIFICATION = "urn:ietf:params:xml:ns:netconf:notification:1.0"
MANAGEMENT = "urn:ietf:params:xml:ns:netmod:notification"  # RFC 5277 3.4: /netconf/streams, and what ends a replay
CAPABILITIES = ("urn:ietf:params:netconf:capability:notification:1.0", "urn:ietf:params:netconf:capability:interleave:1.0")
STREAM = "NETCONF"
REPLAY_COMPLETE = f"{{{MANAGEMENT}}}replayComplete"
NOTIFICATION_COMPLETE = f"{{{MANAGEMENT}}}notificationComplete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Events from `start` on (None: from now on, without replay) until `stop` (None: the session's end), if the filter selects them."""

    start: datetime | None = None
    stop: datetime | None = None
    filter: Element | None = None


def time_text(when: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03}Z"


def time_of(text: str) -> datetime:
    """The instant that an RFC 3339 text names.  Raises ValueError; one without a zone names none."""
    when = datetime.fromisoformat(text)
    if when.tzinfo is None or "T" not in text.upper():
        raise ValueError(text)
    return when


def notification(when: datetime, event: Element) -> bytes:
    """`<notification>`: the time first, then the event."""
    root = Element(f"{{{NOTIFICATION}}}notification")
    SubElement(root, f"{{{NOTIFICATION}}}eventTime").text = time_text(when)
    root.append(event)
    return serialize(root, declaration=True)


def is_wanted(event: Element, subtree: Element | None) -> bool:
    """Whether a subscriber with this filter gets the event, whole; what ends a replay cannot be filtered out."""
    return subtree is None or event.tag in {REPLAY_COMPLETE, NOTIFICATION_COMPLETE} or bool(filtered([event], subtree))
