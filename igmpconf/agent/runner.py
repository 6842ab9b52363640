"""The engines and the kernel below them: one engine and one kernel table for each instance and family.

Life cycle of an instance: opened by a configuration that names it (from a held socket when the keeper has one: then
its vifs and entries are adopted), changed in place, closed by a configuration without it.  `replace` is all or
nothing.  What a configuration means is the engine's business; which NETCONF session wanted it is nobody's here.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import ipaddress
import logging
import random
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol, TypeVar

from igmpconf.agent.bridge_links import BridgeLinks, link_changed, with_flows
from igmpconf.agent.causes import PACKETS, Causes, route_notes, sent_notes
from igmpconf.agent.surroundings import Surroundings
from igmpconf.engine.effects import Effect, Note, SetRoute, SetVif
from igmpconf.engine.engine import Engine
from igmpconf.engine.events import (
    ConfigReplaced,
    EffectFailed,
    Event,
    InterfaceAddress,
    LinkChanged,
    LinkRemoved,
    PacketReceived,
    PacketsReceived,
    RouteFound,
    RoutesFound,
    TimePassed,
)
from igmpconf.engine.family import IGMP, MLD
from igmpconf.ids import IfIndex, TableId
from igmpconf.linux.flows import WATCHED, Flows
from igmpconf.linux.kernel import Arrival, Interface, Kernel, LinkNews, MulticastTable, RouteEntry
from igmpconf.linux.perform import Performer
from igmpconf.linux.refusal import PERMANENT, refused
from igmpconf.model.config import DeviceConfig, ProxyConfig, default_of
from igmpconf.model.leaf import Address, Prefix
from igmpconf.model.state import AgentState, DeviceState, InterfaceRow, MfcRow, SourceRow, counters
from igmpconf.observe.record import Recorder
from igmpconf.runtime import Clock, Driver, PromptSelector

_FAMILIES = {family.name: family for family in (IGMP, MLD)}
_BATCH = 256  # arrivals read before the loop gets a turn: a NETCONF session waits 2 ms while hosts refresh, 20 ms while all are new
_SOON_MS = 1  # messages of one millisecond: more may wait, and are read together
_MOST_HEARD = 24_576  # messages read before a deadline is believed: more than the receive buffer holds, 832 octets for each small one
_FIRST_EXTRA_TABLE = 4_605  # kernel tables of further instances count from here; far from the numbers people use

_debugging = logging.getLogger("igmpconf.engine")  # its level says whether anybody wants to read about single entries

_Row = TypeVar("_Row")
_Key = tuple[str, str, str]  # instance, family, bridge ("" of a routed one)
EngineRecorder = Recorder[Event, Effect]


class Holder(Protocol):
    """Whoever keeps the routing sockets alive when this process ends (`keeper.py`)."""

    def hold(self, name: str, sock: socket.socket) -> None: ...

    def drop(self, name: str) -> None: ...


def _drawn(limit: int) -> int:
    """Uniform in 1..limit: the protocols' random delays."""
    return random.randrange(limit) + 1  # noqa: S311 - nothing secret


class _Instance:
    """One running engine with its table."""

    def __init__(
        self,
        key: _Key,
        table: MulticastTable,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        log: Callable[[Note], None],
        *,
        hear: Callable[[_Instance], None],
        recorder: EngineRecorder | None,
        name_of: Callable[[IfIndex], str],
        was_held: bool,
    ) -> None:
        self.key = key
        self.was_held = was_held
        self.table = table
        self.config: ProxyConfig | None = None
        self._log = log
        self._cause = Causes(table.family, self._note, name_of)
        self.performer = Performer(table, self._note)
        self._bridge_links = BridgeLinks(key[2], table.family) if key[2] else None
        tap = recorder.tap(key[:2], _drawn, clock()) if recorder is not None else None
        self.engine = Engine(table.family, draw=tap.draw if tap is not None else _drawn)
        machine = self._cause.around(tap.around(self.engine) if tap is not None else self.engine)
        self.driver: Driver[Event, Effect] = Driver(machine, self._perform, TimePassed(), clock=clock, loop=loop, hear_first=lambda: hear(self))
        self.heard_ms = 0
        self.most_at_once = 1
        self._is_trying = False
        self._refusal: EffectFailed | None = None

    def hear_one(self, packet: PacketReceived, own: AbstractSet[tuple[IfIndex, bytes]]) -> None:
        """A message by itself: a listener may wait for the entry it leads to, so that is made before anything is worked out.

        Nothing is foreseen of what the machine's `own` addresses say.
        """
        entry = self.engine.foreseen(packet)
        if entry is None:
            if (packet.ifindex, packet.sender) not in own:
                self.driver.feed((packet,))
            return
        self.performer.forestall(entry)
        try:
            self.driver.feed((packet,))
        finally:
            self.performer.end_forestalling()

    def start(self, config: ProxyConfig, interfaces: Mapping[IfIndex, Interface]) -> None:
        """The first configuration, in the order that the engine wants: links and found entries follow it.  Raises KernelError."""
        links = self._links(LinkNews(tuple(interfaces.values())), interfaces)
        found = RoutesFound(tuple(_route_found(entry) for entry in self.performer.found if entry.iif is not None))
        self.config = config
        self._feed((ConfigReplaced(config), *links, found))

    def hear_links(self, news: LinkNews, interfaces: Mapping[IfIndex, Interface]) -> None:
        """Interfaces changed; `interfaces` are all as they are now."""
        self.driver.feed(self._links(news, interfaces))

    def _links(self, news: LinkNews, interfaces: Mapping[IfIndex, Interface]) -> list[LinkChanged | LinkRemoved]:
        if self._bridge_links is not None:
            return self._bridge_links.news(interfaces)
        family = self.table.family
        return [*(LinkRemoved(ifindex) for ifindex in news.removed), *(link_changed(interface, family) for interface in news.changed)]

    def configure(self, config: ProxyConfig | None) -> None:
        """A further configuration.  Raises KernelError for what the kernel refused and will refuse again."""
        self.config = config
        self._feed((ConfigReplaced(config),))

    def return_to(self, config: ProxyConfig | None) -> None:
        """The configuration of a moment ago: what the kernel refuses of it now is tried again until it is so."""
        self.config = config
        self.driver.feed((ConfigReplaced(config),))

    def _feed(self, events: Iterable[Event]) -> None:
        self._is_trying, self._refusal = True, None
        try:
            self.driver.feed(events)
        finally:
            self._is_trying = False
        if self._refusal is not None:
            error = OSError(self._refusal.errno, "")
            raise refused(_verb(self._refusal.effect, self.key[0]), error, self.table.family, self.table.table)

    def _perform(self, effects: Sequence[Effect]) -> list[EffectFailed]:
        """A refusal of a configuration that is being tried ends the attempt: what is still to come, vifs that go among it, stays."""
        if _debugging.isEnabledFor(logging.DEBUG):
            for note in route_notes(effects, self.table.family):
                self._note(note)
        if PACKETS.isEnabledFor(logging.INFO):
            for note in sent_notes(effects, self.table.family):
                self._note(note)
        if not self._is_trying:
            return self.performer.perform(effects)
        if self._refusal is not None:
            return []
        failed = self.performer.perform(effects, ends=_is_final)
        self._refusal = next((one for one in failed if _is_final(one)), None)
        return failed

    def _note(self, note: Note) -> None:
        """With the instance, and the event that led to it unless the engine knows better."""
        self._log(Note(note.level, note.event, {"instance": self.key[0], **note.fields, "cause": note.fields.get("cause") or self._cause.text()}))


def _is_final(failed: EffectFailed) -> bool:
    return isinstance(failed.effect, SetVif | SetRoute) and failed.errno in PERMANENT


def _verb(effect: Effect, instance: str) -> str:
    if not isinstance(effect, SetVif):
        return f"make a forwarding entry of {instance}"
    try:
        name = socket.if_indextoname(effect.ifindex)
    except OSError:
        name = f"interface {effect.ifindex}"
    return f"add {name} as a multicast interface of {instance}"


def held_name(key: _Key, table: TableId) -> str:
    """The name under which the keeper holds the socket of an instance."""
    return f"{key[1]}-{table}-{key[0]}" + (f"/{key[2]}" if key[2] else "")


def _from_held_name(name: str) -> tuple[_Key, TableId]:
    family, table, rest = name.split("-", 2)
    instance, _, bridge = rest.partition("/")
    return (instance, family, bridge), TableId(int(table))


class Runner:
    """Implements `EnginePort`.

    `held` are the sockets that a keeper held for us, by name; those that the first configuration does not claim are
    let go.  `log` takes the engines' notes, `recorder` all that the engines are told and answer;
    `flows` knows who sends, `surroundings` keeps what is beside the engines.
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        loop: asyncio.AbstractEventLoop,
        log: Callable[[Note], None],
        holder: Holder | None = None,
        held: Mapping[str, socket.socket] | None = None,
        clock: Clock | None = None,
        recorder: EngineRecorder | None = None,
        flows: Flows | None = None,
        surroundings: Surroundings | None = None,
        selector: PromptSelector | None = None,
    ) -> None:
        self._kernel = kernel
        self._loop = loop
        self._log = log
        self._holder = holder
        self._clock = clock or Clock()
        self._recorder = recorder
        self._flows = flows
        self._surroundings = surroundings
        self._selector = selector
        if surroundings is not None:
            surroundings.subnets = self._subnets
            surroundings.tables = lambda: [instance.table for instance in self._instances.values()]
        self._held = {key: (table, sock) for name, sock in (held or {}).items() for key, table in (_from_held_name(name),)}
        self._instances: dict[_Key, _Instance] = {}
        self._links = kernel.watch_links()
        self._own: set[tuple[IfIndex, bytes]] = set()
        self._interfaces: dict[IfIndex, Interface] = {}
        for interface in self._links.current():
            self._remember(interface)
        loop.add_reader(self._links.fileno(), self._links_readable)

    # configuration

    def replace(self, config: DeviceConfig) -> None:
        """Make `config` effective.  Raises KernelError, and then everything is as before."""
        wanted = _wanted(config)
        before = {key: instance.config for key, instance in self._instances.items()}
        opened: list[_Instance] = []
        if self._surroundings is not None:
            self._surroundings.prepare(config)
        try:
            for key in wanted:
                if key not in self._instances:
                    opened.append(self._open(key))  # noqa: PERF401 - what was opened before one refuses has to be known
            for instance in opened:  # before anything that exists is changed
                instance.start(wanted[instance.key], self._interfaces)
            for key, former in before.items():
                if key in wanted and former != wanted[key]:
                    self._instances[key].configure(wanted[key])
        except Exception:  # a defect below us, too, must leave everything as it was
            self._undo(before, opened)
            if self._surroundings is not None:
                self._surroundings.revert()
            raise
        for key in [key for key in self._instances if key not in wanted]:
            self._close(key)
        self._settle(opened)
        if self._surroundings is not None:
            self._surroundings.settle()
        if self._flows is not None:
            if self._instances:
                self._flows.watch(bridges=any(bridge for _, _, bridge in self._instances))
            else:
                self._flows.forget()

    def _undo(self, before: Mapping[_Key, ProxyConfig | None], opened: Sequence[_Instance]) -> None:
        for instance in opened:
            if instance.was_held:  # the streams that still flow through it are not ours to end
                self._held[instance.key] = (instance.table.table, instance.table.socket.dup())
                self._let_go(self._instances.pop(instance.key))
            else:
                self._close(instance.key)
        for key, proxy in before.items():
            instance = self._instances[key]
            if instance.config != proxy:
                instance.return_to(proxy)

    def _open(self, key: _Key) -> _Instance:
        family = _FAMILIES[key[1]]
        table, sock = self._held.get(key) or (self._free_table(key[1]), None)
        handle = self._kernel.open_bridge(family, key[2], self._log, sock) if key[2] else self._kernel.open_table(family, table, sock)
        try:
            instance = _Instance(
                key,
                handle,
                self._clock,
                self._loop,
                self._log,
                hear=self._hear_all,
                recorder=self._recorder,
                name_of=self._name_of,
                was_held=sock is not None,
            )
        except OSError as error:
            if sock is None:  # one that was held stays held, for the next attempt
                handle.close()
            raise refused(f"read the forwarding entries of {key[0]}", error, family, table) from None
        self._held.pop(key, None)
        self._instances[key] = instance
        if self._holder is not None and sock is None:
            self._holder.hold(held_name(key, handle.table), handle.socket)
        return instance

    def _free_table(self, family: str) -> TableId:
        """Table 0 for the first instance, so that a single one is what every tool shows; then tables of our own."""
        taken = {instance.table.table for (_, of, bridge), instance in self._instances.items() if of == family and not bridge}
        taken |= {table for (_, of, bridge), (table, _) in self._held.items() if of == family and not bridge}
        table = TableId(0)
        while table in taken:
            table = TableId(table + 1 if table else _FIRST_EXTRA_TABLE)
        return table

    def _settle(self, opened: Sequence[_Instance]) -> None:
        """After the configuration is in force: start listening, and let go of what was held and nobody wants."""
        for instance in opened:
            instance.driver.feed(instance.performer.forget_unclaimed())
            self._listen(instance)
        for key, (table, sock) in self._held.items():
            sock.close()
            if self._holder is not None:
                self._holder.drop(held_name(key, table))
        self._held.clear()

    def _listen(self, instance: _Instance) -> None:
        fd = instance.table.fileno()
        if self._selector is not None:
            self._selector.add_prompt_reader(fd, functools.partial(self._readable, instance))
        else:
            self._loop.add_reader(fd, self._readable, instance)

    def _close(self, key: _Key) -> None:
        """Leave upstream politely and remove the kernel state of an instance."""
        instance = self._instances.pop(key)
        instance.driver.feed((ConfigReplaced(None),))
        instance.performer.forget_unclaimed()
        self._let_go(instance)
        if self._holder is not None:
            self._holder.drop(held_name(key, instance.table.table))

    def _let_go(self, instance: _Instance) -> None:
        instance.driver.close()
        fd = instance.table.fileno()
        if self._selector is not None:
            self._selector.remove_prompt_reader(fd)
        else:
            self._loop.remove_reader(fd)
        instance.table.close()

    # what happens

    def _readable(self, instance: _Instance) -> None:
        """Nearly always there is one message; where another came just before there may be many, and they are read together."""
        arrivals = instance.table.receive(instance.most_at_once)
        if len(arrivals) == 1 and type(packet := arrivals[0]) is PacketReceived:
            instance.hear_one(packet, self._own)
        elif arrivals:
            instance.driver.feed(self._events(arrivals))
        now_ms = self._clock()
        instance.most_at_once = _BATCH if now_ms - instance.heard_ms < _SOON_MS else 1
        instance.heard_ms = now_ms

    def _events(self, arrivals: Sequence[Arrival]) -> list[Event]:
        own = self._own  # the kernel's own host side reports its memberships too; they are not a listener's
        packets: list[PacketReceived] = []
        events: list[Event] = []
        for arrival in arrivals:
            if type(arrival) is not PacketReceived:
                events.append(arrival)
            elif (arrival.ifindex, arrival.sender) not in own:
                packets.append(arrival)
        if packets:
            events.append(packets[0] if len(packets) == 1 else PacketsReceived(tuple(packets)))
        return events

    def _hear_all(self, instance: _Instance) -> None:
        heard = 0
        while heard < _MOST_HEARD:
            arrivals = instance.table.receive(_BATCH)
            if not arrivals:
                return
            heard += len(arrivals)
            instance.driver.feed(self._events(arrivals))

    def _links_readable(self) -> None:
        news = self._links.read()
        if self._surroundings is not None:
            self._surroundings.look_soon()
        for ifindex in news.removed:
            self._forget(ifindex)
        for interface in news.changed:
            self._remember(interface)
        for instance in self._instances.values():
            instance.hear_links(news, self._interfaces)

    def _name_of(self, ifindex: IfIndex) -> str:
        interface = self._interfaces.get(ifindex)
        return interface.name if interface is not None else f"interface {ifindex}"

    def _remember(self, interface: Interface) -> None:
        self._forget(interface.ifindex)
        self._interfaces[interface.ifindex] = interface
        self._own.update((interface.ifindex, one.address) for one in (*interface.ipv4, *interface.ipv6))

    def _forget(self, ifindex: IfIndex) -> None:
        former = self._interfaces.pop(ifindex, None)
        if former is not None:
            self._own.difference_update((ifindex, one.address) for one in (*former.ipv4, *former.ipv6))

    def _subnets(self) -> dict[str, list[Prefix]]:
        return {interface.name: [_subnet(one) for one in (*interface.ipv4, *interface.ipv6)] for interface in self._interfaces.values()}

    # state

    def snapshot(self) -> DeviceState:
        """The engines' state with the kernel's counters."""
        parts = [self._snapshot_one(instance) for instance in self._instances.values()]
        dropped = self._surroundings.dropped() if self._surroundings is not None else {}
        return DeviceState(
            interfaces=tuple(_with_counters(row, dropped.get((row.instance, row.interface, row.family), {})) for part in parts for row in part.interfaces),
            groups=_joined(part.groups for part in parts),
            upstream=_joined(part.upstream for part in parts),
            mfc=_joined(part.mfc for part in parts),
            hosts=_joined(part.hosts for part in parts),
            sources=tuple(self._sources()),
            deviations=self._surroundings.deviations() if self._surroundings is not None else (),
            agent=AgentState(
                sources=self._flows.state if self._flows is not None else None,
                interfaces=tuple(sorted(one.name for one in self._interfaces.values())),
                addresses=tuple(sorted(self._addresses())),
            ),
        )

    def _addresses(self) -> Iterator[str]:
        for interface in self._interfaces.values():
            for one in (*interface.ipv4, *interface.ipv6):
                yield f"{interface.name} {ipaddress.ip_address(one.address)}/{one.prefix_length}"

    def _sources(self) -> Iterator[SourceRow]:
        """Who sends on the interfaces of each instance."""
        owners = {
            (ifindex, instance.table.family.address_bytes): key[0] for key, instance in self._instances.items() for ifindex in instance.performer.interfaces
        }
        for flow in self._flows.flows() if self._flows is not None else ():
            owner = owners.get((flow.ifindex, len(flow.group)))
            interface = self._interfaces.get(flow.ifindex)
            if owner is not None and interface is not None:
                yield SourceRow(
                    instance=owner,
                    interface=interface.name,
                    source=ipaddress.ip_address(flow.source),
                    group=ipaddress.ip_address(flow.group),
                    packets=flow.packets,
                    bytes=flow.octets,
                )

    def _snapshot_one(self, instance: _Instance) -> DeviceState:
        state = instance.engine.snapshot(self._clock())
        try:
            entries = {(entry.source, entry.group): entry for entry in self._entries(instance)}
            traffic = {self._interfaces[ifindex].name: one for ifindex, one in instance.table.traffic().items() if ifindex in self._interfaces}
        except OSError as error:
            self._log(Note("warning", "kernel/counters-unreadable", {"instance": instance.key[0], "errno": error.errno}))
            return state
        return dataclasses.replace(
            state,
            mfc=tuple(_counted(row, entries.get((_packed(row.source), _packed(row.group)))) for row in state.mfc),
            interfaces=tuple(_with_counters(row, traffic.get(row.interface, {})) for row in state.interfaces),
        )

    def _entries(self, instance: _Instance) -> list[RouteEntry]:
        entries = instance.table.routes()
        if instance.key[2] and self._flows is not None and self._flows.state == WATCHED:
            flows = [flow for flow in self._flows.flows() if flow.ifindex in instance.performer.interfaces]
            return with_flows(entries, flows, instance.table.family.stays_on_link)
        return entries

    # the end

    def close(self) -> None:
        """Leave every upstream politely and remove all kernel state."""
        for key in list(self._instances):
            self._close(key)
        if self._flows is not None:
            self._flows.forget()
        self._stop_watching()

    def hand_over(self) -> None:
        """Stop without touching the kernel: whoever holds the sockets keeps the streams, and the next process adopts them."""
        for instance in self._instances.values():
            self._let_go(instance)
        self._instances.clear()
        self._stop_watching()

    def _stop_watching(self) -> None:
        self._loop.remove_reader(self._links.fileno())
        self._links.close()
        if self._surroundings is not None:
            self._surroundings.close()
        if self._flows is not None:
            self._flows.close()

    def sockets(self) -> dict[str, socket.socket]:
        """The routing sockets by the names a keeper knows them by; those that were held and not claimed yet among them."""
        unclaimed = {held_name(key, table): sock for key, (table, sock) in self._held.items()}
        return unclaimed | {held_name(key, instance.table.table): instance.table.socket for key, instance in self._instances.items()}


def _wanted(config: DeviceConfig) -> dict[_Key, ProxyConfig]:
    wanted: dict[_Key, ProxyConfig] = {}
    for proxy in config.proxies:
        if proxy.enabled is False:
            continue
        bridge = proxy.bridge or "" if proxy.mode == "bridged" else ""
        for family in proxy.family or default_of(ProxyConfig, "family"):
            wanted[proxy.name, family, bridge] = proxy
    return wanted


def _route_found(entry: RouteEntry) -> RouteFound:
    assert entry.iif is not None
    return RouteFound(entry.source, entry.group, entry.iif, frozenset(ifindex for ifindex, _ in entry.oifs), entry.oifs)


def _packed(address: Address | str) -> bytes | None:
    return None if isinstance(address, str) else address.packed  # the only text is "*"


def _counted(row: MfcRow, entry: RouteEntry | None) -> MfcRow:
    """The row with what the kernel counted, if it counts; an entry without packets so far waits for data."""
    if entry is None or entry.packets is None:
        return row
    packets = max(0, entry.packets - (entry.wrong_if or 0))  # the kernel counts on arrival, also what it then does not forward
    state = row.state
    if state != "withheld":
        state = "forwarding" if packets else "waiting-for-data"
    return dataclasses.replace(row, packets=packets, bytes=entry.octets, wrong_if=entry.wrong_if, state=state)


def _subnet(address: InterfaceAddress) -> Prefix:
    return ipaddress.ip_network((address.address, address.prefix_length), strict=False)


def _with_counters(row: InterfaceRow, more: Mapping[str, int]) -> InterfaceRow:
    if not more:
        return row
    return dataclasses.replace(row, counters=counters({one.name: one.value for one in row.counters} | dict(more)))


def _joined(parts: Iterable[tuple[_Row, ...]]) -> tuple[_Row, ...]:
    return tuple(row for part in parts for row in part)
