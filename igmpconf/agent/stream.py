"""The event stream NETCONF: a ring of the last notifications, from which every subscriber reads at its own pace.

Nothing is queued for anybody: a subscriber remembers a number and asks for what comes after it.  One that is slower
than the ring turns is told how many it missed.  So the memory is bounded, and nobody waits for anybody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement

from igmpconf.engine.effects import Note
from igmpconf.model.notices import NOTICES, Notice, NotificationsLost, notice_of
from igmpconf.netconf.notification import MANAGEMENT, STREAM, Subscription, notification, time_text
from igmpconf.schema.xml import notice_to_xml

MOST_KEPT = 1_000  # ours: about 1 MB
BURST = 200  # ours: of one kind in BURST_S; hosts can cause as many as they like
BURST_S = 10.0


@dataclass(frozen=True, slots=True)
class Happened:
    """One event of the stream; `number` counts from 1."""

    number: int
    time: datetime
    event: Element
    message: bytes  # as every subscriber gets it


def _now() -> datetime:
    return datetime.now(UTC)


class EventStream:
    """`publish` and `noted` put in, `after` takes out, `changed` is awaited between."""

    def __init__(self, *, now: Callable[[], datetime] = _now, most_kept: int = MOST_KEPT) -> None:
        self.now = now
        self.created = now()
        self.changed = asyncio.Event()  # replaced at each change: who waits, waits for the next one
        self._kept: deque[Happened] = deque(maxlen=most_kept)
        self._aged: datetime | None = None
        self._last = 0
        self._bursts: dict[type[Notice], _Burst] = {}

    def noted(self, note: Note) -> None:
        """An engine said something; most of it is for the log only."""
        known = NOTICES.get(note.event)
        if known is None:
            return
        lost = self._bursts.setdefault(known[0], _Burst()).taken(self.now())
        if lost is None:
            return  # before anything is made of it: a burst of joins must cost next to nothing here
        notice = notice_of(note.event, note.fields)
        if lost:
            self.publish(notice_to_xml(NotificationsLost(count=lost)))
        if notice is not None:
            self.publish(notice_to_xml(notice))

    def publish(self, event: Element) -> None:
        """Tell every subscriber."""
        self._last += 1
        if len(self._kept) == self._kept.maxlen:
            self._aged = self._kept[0].time
        when = self.now()
        self._kept.append(Happened(self._last, when, event, notification(when, event)))
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    @property
    def last(self) -> int:
        """The number of the newest event, 0 before the first."""
        return self._last

    def after(self, number: int, most: int) -> tuple[int, Sequence[Happened]]:
        """How many of the events after `number` are not kept any more, and at most `most` of the others."""
        if number >= self._last:
            return 0, ()
        first = self._kept[0].number
        missed = max(0, first - number - 1)
        start = number + missed + 1 - first
        return missed, [self._kept[i] for i in range(start, min(start + most, len(self._kept)))]

    def position_before(self, when: datetime) -> int:
        """The number after which the events of `when` and later come."""
        return next((one.number - 1 for one in self._kept if one.time >= when), self._last)

    def listed(self) -> Element:
        """`/netconf` with its one stream (RFC 5277 3.2.5.1)."""
        root = Element(f"{{{MANAGEMENT}}}netconf")
        stream = SubElement(SubElement(root, f"{{{MANAGEMENT}}}streams"), f"{{{MANAGEMENT}}}stream")
        facts = {
            "name": STREAM,
            "description": "everything: configuration, sessions, memberships, queriers, interfaces, limits",
            "replaySupport": "true",
            "replayLogCreationTime": time_text(self.created),
            "replayLogAgedTime": time_text(self._aged) if self._aged is not None else None,
        }
        for name, text in facts.items():
            if text is not None:
                SubElement(stream, f"{{{MANAGEMENT}}}{name}").text = text
        return root

    def start_of(self, subscription: Subscription) -> int:
        """The number after which a subscription that begins now reads."""
        return self._last if subscription.start is None else self.position_before(subscription.start)


class _Burst:
    """How many of one kind were let through in the span that began last."""

    def __init__(self) -> None:
        self._began: datetime | None = None
        self._count = 0
        self._lost = 0

    def taken(self, now: datetime) -> int | None:
        """None: one too many.  Else how many were lost before this one."""
        if self._began is None or not 0 <= (now - self._began).total_seconds() < BURST_S:
            self._began, self._count = now, 0
        self._count += 1
        if self._count > BURST:
            self._lost += 1
            return None
        lost, self._lost = self._lost, 0
        return lost
