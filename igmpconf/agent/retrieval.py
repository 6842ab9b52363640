"""What a client may read: `<get>`, `<get-config>` and `<get-data>` (RFC 6241 7.1 and 7.7, RFC 8526 3.1.1).

All three make top-level elements, hide what the user may not read, and only then filter: a filter finds nothing out
about what is hidden (RFC 8341 3.2.4).  Ten thousand groups take a second to write, so that is done in a thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from xml.etree.ElementTree import Element

from igmpconf.agent import library, nmda
from igmpconf.agent.access import AccessControl
from igmpconf.agent.image import CommitRecord
from igmpconf.agent.nacm import Rights
from igmpconf.agent.parameters import WITH_DEFAULTS, datastore, defaults_mode, may_select, needed, parameters, pruned, subtree
from igmpconf.agent.ports import EnginePort
from igmpconf.agent.store import Store
from igmpconf.agent.stream import EventStream
from igmpconf.model.canon import digest
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import AgentState, CommitRow, DeviceState
from igmpconf.netconf.filter import filtered
from igmpconf.netconf.messages import BASE, data
from igmpconf.schema.xml import config_to_xml, state_to_xml

_MOST_DIFF = 1_000_000  # the range of the leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the answers come from; `netconf_state` makes `/netconf-state` of ietf-netconf-monitoring."""

    store: Store
    engine: EnginePort
    stream: EventStream
    control: AccessControl
    netconf_state: Callable[[], Element]


class Retrieval:
    """One method an operation; each answers the content of the reply.  Raises RpcRefused."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._store = sources.store
        self._started_ms = sources.store.now_ms()
        self._digest: tuple[DeviceConfig, str] | None = None

    async def get(self, rights: Rights, operation: Element) -> list[Element]:
        given = parameters(operation, f"{{{BASE}}}filter", f"{{{WITH_DEFAULTS}}}with-defaults")
        wanted = subtree(given.get(f"{{{BASE}}}filter"))
        mode = defaults_mode(given)
        running = self._store.machine.running
        more = self._state_nodes(wanted)

        def content() -> list[Element]:
            found = config_to_xml(running, mode, with_access=True)
            if may_select(wanted, "nacm"):
                self._sources.control.put_counters(found)
            found = rights.readable([*found, *more()])
            return data(found if wanted is None else filtered(found, wanted))

        return await asyncio.to_thread(content)

    async def get_config(self, rights: Rights, operation: Element) -> list[Element]:
        given = parameters(operation, f"{{{BASE}}}source", f"{{{BASE}}}filter", f"{{{WITH_DEFAULTS}}}with-defaults")
        source = datastore(needed(given, "source", operation))
        wanted = subtree(given.get(f"{{{BASE}}}filter"))
        mode = defaults_mode(given)
        config = self._store.machine.running if source == "running" else self._store.machine.candidate

        def content() -> list[Element]:
            found = rights.readable(config_to_xml(config, mode, with_access=True))
            return data(found if wanted is None else filtered(found, wanted))

        return await asyncio.to_thread(content)

    async def get_data(self, rights: Rights, operation: Element) -> list[Element]:
        asked = nmda.asked(operation)
        machine = self._store.machine
        config = machine.candidate if asked.datastore == "candidate" else machine.running
        has_state = asked.datastore == "operational" and asked.config_filter is not True
        more = self._state_nodes(asked.subtree) if has_state else list
        counters = self._sources.control if has_state else None

        def content() -> list[Element]:
            found = nmda.configuration(asked, config, counters)
            found = rights.readable([*found, *more()])
            return nmda.answer(asked, found)

        return await asyncio.to_thread(content)

    def _state_nodes(self, wanted: Element | None) -> Callable[[], list[Element]]:
        """Makes the state nodes that a filter may select, all as of now; what it cannot select costs nothing."""
        state = pruned(self._state(), wanted) if may_select(wanted, "state") else None
        made = [self._sources.netconf_state()] if may_select(wanted, "netconf-state") else []
        if may_select(wanted, "netconf"):
            made.append(self._sources.stream.listed())
        if may_select(wanted, "yang-library"):
            made.append(library.yang_library())
        if may_select(wanted, "modules-state"):
            made.append(library.modules_state())
        return lambda: [*([state_to_xml(state)] if state is not None else []), *made]

    def _state(self) -> DeviceState:
        machine = self._store.machine
        now_ms = self._store.now_ms()
        pending = machine.pending(now_ms)
        snapshot = self._sources.engine.snapshot()
        agent = replace(
            snapshot.agent or AgentState(),
            pid=os.getpid(),
            uptime_s=(now_ms - self._started_ms) // 1000,
            version=_version(),
            running_digest=self._running_digest(),
            pending_persist_id=pending[0] if pending is not None else None,
            pending_s=pending[1] if pending is not None else None,
        )
        return replace(snapshot, agent=agent, history=tuple(_row(record) for record in machine.history))

    def _running_digest(self) -> str:
        running = self._store.machine.running
        if self._digest is None or self._digest[0] is not running:
            self._digest = (running, digest(running))
        return self._digest[1]


def _row(record: CommitRecord) -> CommitRow:
    return CommitRow(
        number=record.number,
        time=record.time or "not recorded",  # only while the disk refuses to take it
        user=record.user,
        plan=record.plan,
        comment=record.comment,
        digest=record.digest,
        event=record.event,
        diff=record.diff[:_MOST_DIFF],
    )


def _version() -> str:
    try:
        return version("igmpconf")
    except PackageNotFoundError:  # inside the one-file program
        return "unpackaged"
