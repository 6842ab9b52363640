"""The operation `diagnose`: look at the device for a moment, and tell what was found (`model/diagnosis.py`).

One look at a time, in a thread of its own, so that the engines on this loop go on.  `close` ends one that is under way.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from xml.etree.ElementTree import Element

from igmpconf.agent.modules import OURS
from igmpconf.agent.observation import Look, number
from igmpconf.agent.parameters import parameters
from igmpconf.linux.examination import Question
from igmpconf.model.config import DeviceConfig, ProxyConfig, default_of
from igmpconf.model.diagnosis import DEFAULT_MS, LONGEST_MS, Diagnosis, TableFact
from igmpconf.model.state import DeviceState
from igmpconf.netconf.messages import RpcError, RpcRefused, not_supported
from igmpconf.schema.xml import answer_to_xml

Examine = Callable[[Question, threading.Event], Diagnosis]


class Examining:
    """`looks` is the handler, by the tag of its operation; without `examine` the device has nothing to look with."""

    def __init__(self, examine: Examine | None, running: Callable[[], DeviceConfig], snapshot: Callable[[], DeviceState]) -> None:
        self._examine = examine
        self._running = running
        self._snapshot = snapshot
        self._one_at_a_time = asyncio.Lock()
        self._cancelled = threading.Event()
        self.looks: dict[str, Look] = {f"{{{OURS}}}diagnose": self._diagnose}

    async def _diagnose(self, operation: Element) -> list[Element]:
        given = parameters(operation, f"{{{OURS}}}window")
        window_ms = number(given, "window", 0, LONGEST_MS)
        if self._examine is None:
            raise not_supported("this agent does not look at what passes on its device")
        async with self._one_at_a_time:
            question = _question(self._running(), self._snapshot(), DEFAULT_MS if window_ms is None else window_ms)
            try:
                found = await asyncio.to_thread(self._examine, question, self._cancelled)
            except OSError as error:
                raise RpcRefused(RpcError("application", "operation-failed", message=f"cannot look at the device: {error.strerror or error}")) from None
        return answer_to_xml(found)

    def close(self) -> None:
        """End what is under way within a fifth of a second; its answer tells less."""
        self._cancelled.set()


def _question(config: DeviceConfig, state: DeviceState, window_ms: int) -> Question:
    there = {(row.instance, row.family) for row in state.interfaces}
    tables = [
        TableFact(instance=proxy.name, family=family, in_force=(proxy.name, family) in there)
        for proxy in config.proxies
        if proxy.enabled is not False
        for family in proxy.family or default_of(ProxyConfig, "family")
    ]
    joined = frozenset((row.interface, row.group) for row in state.groups)
    return Question(config, window_ms, tuple(sorted(tables, key=lambda one: (one.instance, one.family))), joined)
