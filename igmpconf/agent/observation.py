"""The operations by which somebody looks on: the log.

Beside `dispatch.py` because nothing here touches a datastore: each handler takes the element of its operation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from xml.etree.ElementTree import Element

from igmpconf.agent.modules import OURS
from igmpconf.agent.parameters import parameters
from igmpconf.model.answers import MOST_LINES
from igmpconf.netconf.messages import invalid_value, text_of
from igmpconf.observe.log import LogBook
from igmpconf.schema.xml import answer_to_xml

Look = Callable[[Element], Awaitable[list[Element]]]


class Observation:
    """`looks` are the handlers, by the tag of their operation."""

    def __init__(self, log: LogBook) -> None:
        self._log = log
        self.looks: dict[str, Look] = {f"{{{OURS}}}get-log": self._get_log}

    async def _get_log(self, operation: Element) -> list[Element]:
        given = parameters(operation, f"{{{OURS}}}after", f"{{{OURS}}}limit")
        after = number(given, "after", 0, 2**64 - 1)
        limit = number(given, "limit", 1, MOST_LINES)
        return answer_to_xml(self._log.page(after, MOST_LINES if limit is None else limit))


def number(given: dict[str, Element], name: str, low: int, high: int) -> int | None:
    """A whole number, or None when it was not given.  Raises RpcRefused."""
    found = given.get(f"{{{OURS}}}{name}")
    if found is None:
        return None
    digits = text_of(found)
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 20 and low <= int(digits) <= high):
        raise invalid_value(f"{name} is a number {low}..{high}, not {digits!r}")
    return int(digits)
