"""The engine's state as rows of model/state.py: for `<get>`, `show` and doctor.  May scan; never on the packet path."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from igmpconf.engine.downstream import Downstream
from igmpconf.engine.groupstate import GroupState, HostState
from igmpconf.engine.interface import Interface
from igmpconf.engine.sources import NOTHING, SourceSet
from igmpconf.engine.upstream import Upstream
from igmpconf.ids import IfIndex
from igmpconf.model.leaf import ANY_SOURCE, Address
from igmpconf.model.state import DeviceState, GroupRow, HeardQuerier, HostRow, InterfaceRow, MfcRow, QuerierState, SourceTimer, UpstreamRow, counters

if TYPE_CHECKING:
    from igmpconf.engine.engine import Engine


def snapshot(engine: Engine, now_ms: int) -> DeviceState:
    """Rows of one engine; packet counters of forwarding entries are absent, they are the kernel's."""
    instance = engine.config.name if engine.config is not None else ""
    return DeviceState(
        interfaces=tuple(_interface_rows(engine, instance, now_ms)),
        groups=tuple(_group_rows(engine, instance, now_ms)),
        upstream=tuple(_upstream_rows(engine, instance)),
        mfc=tuple(_mfc_rows(engine, instance)),
        hosts=tuple(_host_rows(engine, instance, now_ms)),
    )


def _address(packed: bytes) -> Address:
    return ipaddress.ip_address(packed)


def _addresses(packed: frozenset[bytes] | set[bytes] | dict[bytes, int]) -> tuple[Address, ...]:
    return tuple(_address(one) for one in sorted(packed))


def _left_s(until_ms: int, now_ms: int) -> int:
    """Whole seconds, rounded up: 0 means that it ends this moment."""
    return max(0, -((now_ms - until_ms) // 1000))


def _mode(wanted: SourceSet) -> str:
    return "exclude" if wanted.inverted else "include"


def _interface_rows(engine: Engine, instance: str, now_ms: int) -> Iterator[InterfaceRow]:
    seen: set[str] = set()
    ports: list[Upstream | Downstream] = [*([engine.upstream] if engine.upstream is not None else []), *engine.downstreams.values()]
    for port in ports:
        interface = port.interface
        seen.add(interface.params.pattern)
        yield _present_row(engine, instance, port, interface, now_ms)
    entries = engine.config.interfaces if engine.config is not None else ()
    for entry in entries:
        if entry.interface not in seen:  # configured, but not there, or not enabled
            link = next((found for found in engine.links.values() if found.name == entry.interface), None)
            yield InterfaceRow(
                instance=instance,
                interface=entry.interface,
                family=engine.family.name,
                role="upstream" if entry.upstream else "downstream",
                enabled=engine.instance is not None and entry.enabled is not False,
                up=link is not None and link.is_up,
            )


def _present_row(engine: Engine, instance: str, port: Upstream | Downstream, interface: Interface, now_ms: int) -> InterfaceRow:
    querier = None
    version = interface.params.version
    if isinstance(port, Downstream):
        asking = port.querier
        address = interface.address if asking.is_querier else asking.elected
        querier = QuerierState(
            address=_address(address) if address is not None else None,
            self_=asking.is_querier,
            since_s=max(0, now_ms - asking.since_ms) // 1000,
            reason=asking.reason,
            robustness=asking.robustness,
            query_interval_ms=asking.interval_ms,
        )
    else:
        version = port.host.version
    return InterfaceRow(
        instance=instance,
        interface=interface.name,
        family=engine.family.name,
        role="downstream" if isinstance(port, Downstream) else "upstream",
        enabled=True,
        up=interface.link.is_up,
        addresses=tuple(f"{_address(found.address)}/{found.prefix_length}" for found in interface.link.addresses),
        querier=querier,
        heard_queriers=tuple(_heard_rows(port, now_ms)),
        version=version,
        counters=counters(dict(interface.counters)),
    )


def _heard_rows(port: Upstream | Downstream, now_ms: int) -> Iterator[HeardQuerier]:
    for address, heard in sorted(port.queriers.by_address.items()):
        yield HeardQuerier(
            address=_address(address),
            queries=heard.count,
            last_s=max(0, now_ms - heard.last_ms) // 1000,
            interval_ms=heard.usual_ms,
            shortest_gap_ms=heard.shortest_gap_ms,
            longest_gap_ms=heard.longest_gap_ms,
            lost=heard.lost,
        )


def _group_rows(engine: Engine, instance: str, now_ms: int) -> Iterator[GroupRow]:
    for downstream in engine.downstreams.values():
        listeners = downstream.listeners
        for group in sorted({*listeners.groups, *listeners.static}):
            state = listeners.groups.get(group)
            name = downstream.interface.name
            if state is None:
                held = listeners.static[group]
                sources = tuple(SourceTimer(address=_address(one)) for one in sorted(held.listed))
                yield GroupRow(instance=instance, interface=name, group=_address(group), mode=_mode(held), sources=sources)
                continue
            yield GroupRow(
                instance=instance,
                interface=name,
                group=_address(group),
                mode="exclude" if state.exclude else "include",
                sources=tuple(SourceTimer(address=_address(one), expires_s=_left_s(at_ms, now_ms)) for one, at_ms in sorted(state.wanted.items())),
                excluded=_addresses(state.blocked),
                version=state.compatibility_version(engine.family.latest_version, now_ms),
                expires_s=_left_s(state.exclude_until_ms, now_ms) if state.exclude else None,
                uptime_s=(now_ms - state.created_ms) // 1000,
                last_reporter=_address(state.last_reporter) if state.last_reporter is not None else None,
                hosts=sum(1 for _ in _live_hosts(state, now_ms)),
            )


def _live_hosts(state: GroupState, now_ms: int) -> Iterator[tuple[bytes, HostState]]:
    return ((host.address, host) for host in sorted(state.hosts(), key=lambda host: host.address) if host.until_ms > now_ms)


def _upstream_rows(engine: Engine, instance: str) -> Iterator[UpstreamRow]:
    if engine.upstream is None:
        return
    host, name = engine.upstream.host, engine.upstream.interface.name
    for group, held in sorted(host.groups.items()):
        if held.wanted:
            yield UpstreamRow(
                instance=instance, interface=name, group=_address(group), mode=_mode(held.wanted), sources=_addresses(held.wanted.listed), version=host.version
            )


def _mfc_rows(engine: Engine, instance: str) -> Iterator[MfcRow]:
    def name(ifindex: IfIndex) -> str:
        interface = engine.topology.interface(ifindex)
        return interface.name if interface is not None else str(ifindex)

    def shown(packed: bytes | None) -> Address | str:
        return ANY_SOURCE if packed is None else _address(packed)

    for (source, group), (iif, leaving) in sorted(engine.routes.installed.items(), key=lambda entry: (entry[0][1] or b"", entry[0][0] or b"")):
        downstreams = tuple(name(ifindex) for ifindex, _ in leaving if ifindex != iif)
        yield MfcRow(
            instance=instance,
            family=engine.family.name,
            source=shown(source),
            group=shown(group),
            upstream=name(iif),
            downstreams=downstreams,
            kind="static" if engine.routes.is_static((source, group)) else "learned",
            state="forwarding" if downstreams else "withheld",
        )
    for entry in engine.routes.static_entries():
        if (entry.source, entry.group) not in engine.routes.installed:
            yield MfcRow(
                instance=instance,
                family=engine.family.name,
                source=shown(entry.source),
                group=shown(entry.group),
                upstream=entry.iif,
                downstreams=entry.oifs,
                kind="static",
                state="withheld",
            )
    yield from _withheld_rows(engine, instance, name)


def _withheld_rows(engine: Engine, instance: str, name: Callable[[IfIndex], str]) -> Iterator[MfcRow]:
    """Groups that somebody wants only where we may not forward."""
    for group in sorted(engine.proxy.groups()):
        wants = engine.proxy.wants(group)
        if any(ifindex in engine.topology.forwarding and wanted != NOTHING for ifindex, wanted in wants.items()):
            continue
        if (None, group) not in engine.routes.installed and not engine.routes.is_static((None, group)):
            yield MfcRow(
                instance=instance,
                family=engine.family.name,
                source=ANY_SOURCE,
                group=_address(group),
                upstream=engine.upstream.interface.name if engine.upstream is not None else None,
                downstreams=tuple(name(ifindex) for ifindex in sorted(wants)),
                kind="learned",
                state="withheld",
            )


def _host_rows(engine: Engine, instance: str, now_ms: int) -> Iterator[HostRow]:
    for downstream in engine.downstreams.values():
        for group, state in sorted(downstream.listeners.groups.items()):
            for address, host in _live_hosts(state, now_ms):
                yield HostRow(
                    instance=instance,
                    interface=downstream.interface.name,
                    group=_address(group),
                    host=_address(address),
                    mode=_mode(host.sources),
                    sources=_addresses(host.sources.listed),
                    expires_s=_left_s(host.until_ms, now_ms),
                )
