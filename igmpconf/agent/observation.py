"""The operations by which somebody looks on: the log, and what passes on an interface.

Beside `dispatch.py` because nothing here touches a datastore: each handler takes the element of its operation.
A capture is bounded in every way: a few at a time, each with a bounded buffer, and one that nobody reads ends.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from xml.etree.ElementTree import Element

from igmpconf.agent.modules import OURS
from igmpconf.agent.parameters import needed, parameters
from igmpconf.linux.capture import Capture
from igmpconf.model.answers import MOST_LINES, CapturedPacket, CapturePage
from igmpconf.netconf.messages import RpcError, RpcRefused, invalid_value, ok, text_of
from igmpconf.observe.log import LogBook
from igmpconf.schema.xml import answer_to_xml

Look = Callable[[Element], Awaitable[list[Element]]]

MOST_CAPTURES = 4
UNREAD_S = 10.0  # then a capture ends: its reader is gone
_MOST_PACKETS = 200  # of one answer


class Observation:
    """`looks` are the handlers, by the tag of their operation."""

    def __init__(self, log: LogBook) -> None:
        self._log = log
        self._captures: dict[str, tuple[Capture, asyncio.TimerHandle]] = {}
        self.looks: dict[str, Look] = {
            f"{{{OURS}}}get-log": self._get_log,
            f"{{{OURS}}}begin-capture": self._begin_capture,
            f"{{{OURS}}}read-capture": self._read_capture,
            f"{{{OURS}}}end-capture": self._end_capture,
        }

    async def _get_log(self, operation: Element) -> list[Element]:
        given = parameters(operation, f"{{{OURS}}}after", f"{{{OURS}}}limit")
        after = number(given, "after", 0, 2**64 - 1)
        limit = number(given, "limit", 1, MOST_LINES)
        return answer_to_xml(self._log.page(after, MOST_LINES if limit is None else limit))

    async def _begin_capture(self, operation: Element) -> list[Element]:
        given = parameters(operation, f"{{{OURS}}}interface")
        interface = text_of(needed(given, "interface", operation, OURS))
        if len(self._captures) >= MOST_CAPTURES:
            raise RpcRefused(RpcError("application", "resource-denied", message=f"{MOST_CAPTURES} captures run already; end one, or wait for it to end"))
        try:
            capture = Capture(interface)
        except OSError as error:
            raise RpcRefused(RpcError("application", "operation-failed", message=f"cannot capture on {interface}: {error.strerror or error}")) from None
        loop = asyncio.get_running_loop()
        name = secrets.token_hex(8)
        loop.add_reader(capture.fileno(), capture.read)
        self._captures[name] = (capture, loop.call_later(UNREAD_S, self._end, name))
        return answer_to_xml(CapturePage(id=name, lost=0))

    async def _read_capture(self, operation: Element) -> list[Element]:
        name = self._named(operation)
        capture, timer = self._captures[name]
        timer.cancel()
        self._captures[name] = (capture, asyncio.get_running_loop().call_later(UNREAD_S, self._end, name))
        packets, lost = capture.taken(_MOST_PACKETS)
        rows = [CapturedPacket(number=one.number, time_us=one.time_us, outgoing=one.is_outgoing, frame=one.frame.hex(), length=one.length) for one in packets]
        return answer_to_xml(CapturePage(id=name, lost=lost, packets=tuple(rows)))

    async def _end_capture(self, operation: Element) -> list[Element]:
        self._end(self._named(operation))
        return ok()

    def _named(self, operation: Element) -> str:
        given = parameters(operation, f"{{{OURS}}}id")
        name = text_of(needed(given, "id", operation, OURS))
        if name not in self._captures:
            raise invalid_value(f"there is no capture {name!r}; one that nobody reads for {UNREAD_S:g}s ends")
        return name

    def _end(self, name: str) -> None:
        capture, timer = self._captures.pop(name)
        timer.cancel()
        asyncio.get_running_loop().remove_reader(capture.fileno())
        capture.close()


def number(given: dict[str, Element], name: str, low: int, high: int) -> int | None:
    """A whole number, or None when it was not given.  Raises RpcRefused."""
    found = given.get(f"{{{OURS}}}{name}")
    if found is None:
        return None
    digits = text_of(found)
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 20 and low <= int(digits) <= high):
        raise invalid_value(f"{name} is a number {low}..{high}, not {digits!r}")
    return int(digits)
