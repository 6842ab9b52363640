"""`<create-subscription>`: what a client may ask for (RFC 5277 2.1.1)."""

from __future__ import annotations

from datetime import datetime
from xml.etree.ElementTree import Element

from igmpconf.agent.parameters import parameters, subtree
from igmpconf.netconf.messages import bad_element, invalid_value, missing_element, text_of
from igmpconf.netconf.notification import NOTIFICATION, STREAM, Subscription, time_of, time_text

CREATE = f"{{{NOTIFICATION}}}create-subscription"


def subscription(operation: Element, now: datetime) -> Subscription:
    """What the operation asks for.  Raises RpcRefused with the error of RFC 5277 2.1.1."""
    given = parameters(operation, *(f"{{{NOTIFICATION}}}{name}" for name in ("stream", "filter", "startTime", "stopTime")))
    stream = given.get(f"{{{NOTIFICATION}}}stream")
    if stream is not None and text_of(stream) != STREAM:
        raise invalid_value(f"no stream {text_of(stream)!r}; there is {STREAM}")
    start, stop = _time(given, "startTime"), _time(given, "stopTime")
    if stop is not None and start is None:
        raise missing_element("startTime", "create-subscription")
    if start is not None and start > now:
        raise bad_element("startTime", f"startTime is in the future; here it is {time_text(now)}")
    if start is not None and stop is not None and stop < start:
        raise bad_element("stopTime", "stopTime is before startTime")
    return Subscription(start=start, stop=stop, filter=subtree(given.get(f"{{{NOTIFICATION}}}filter")))


def _time(given: dict[str, Element], name: str) -> datetime | None:
    found = given.get(f"{{{NOTIFICATION}}}{name}")
    if found is None:
        return None
    try:
        return time_of(text_of(found))
    except (ValueError, OverflowError):
        raise invalid_value(f"{name} is a time with zone, such as 2026-11-25T08:00:00Z, not {text_of(found)!r}") from None
