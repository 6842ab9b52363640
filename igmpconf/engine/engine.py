"""The proxy of one instance and one family, as one machine (house decision A).

It follows links by name, gives each the part that the configuration says (one upstream, many downstreams), hands
messages to them, and settles at the end of every event what they changed: the merged database goes to the host side,
the forwarding to the routes.  Order of effects: vifs that appear, packets, routes, vifs that go.

At start the runner tells `ConfigReplaced`, then `LinkChanged` for every link, then `RoutesFound` (possibly empty), then
packets.  Route effects are held back until `RoutesFound` was told, so that entries of an earlier process are adopted.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

from igmpconf.engine.downstream import Downstream
from igmpconf.engine.effects import ClearVif, Effect, SendPacket, SetRoute, SetVif
from igmpconf.engine.events import (
    CacheMissed,
    ConfigReplaced,
    EffectFailed,
    Event,
    LinkChanged,
    LinkRemoved,
    PacketReceived,
    PacketsReceived,
    RouteFound,
    RoutesFound,
    TimePassed,
    WrongInterface,
)
from igmpconf.engine.family import Family
from igmpconf.engine.foresight import Foresight
from igmpconf.engine.interface import Interface
from igmpconf.engine.messages import Query
from igmpconf.engine.outbox import Outbox
from igmpconf.engine.params import InstanceParams, InterfaceParams, resolved
from igmpconf.engine.proxy import Proxy
from igmpconf.engine.retry import Retry, Subject, subject_of
from igmpconf.engine.routes import Routes, Topology
from igmpconf.engine.snapshot import snapshot
from igmpconf.engine.sources import EVERYTHING, SourceSet
from igmpconf.engine.upstream import Upstream
from igmpconf.ids import IfIndex
from igmpconf.model.config import ProxyConfig
from igmpconf.model.state import DeviceState

_NO_ROOM = frozenset({errno.ENOBUFS, errno.EAGAIN})  # of a send: the same may work a moment later


class Engine:
    def __init__(self, family: Family, *, draw: Callable[[int], int]) -> None:
        """`draw(n)` is a uniform integer in 1..n."""
        self.family = family
        self.config: ProxyConfig | None = None
        self.instance: InstanceParams | None = None
        self.outbox = Outbox(family, draw)
        self.links: dict[IfIndex, LinkChanged] = {}
        self.upstream: Upstream | None = None
        self.downstreams: dict[IfIndex, Downstream] = {}
        self._ports: dict[IfIndex, Upstream | Downstream] = {}
        self.topology = Topology(None, {}, set())
        self.proxy = Proxy(family.address_bytes, family.stays_on_link)
        self.routes = Routes(self.outbox, self.topology)
        self._foresight = Foresight(self.downstreams, self.proxy, self.routes, family.sole_join)
        # Told before `handle` is: an entry that handling a packet is certain to state, or None.  It may be made at once, because a
        # listener waits.  Changes nothing.
        self.foreseen: Callable[[PacketReceived], SetRoute | None] = self._foresight.entry
        self.retry = Retry(self.outbox, self._truth, self._tried_again)
        self._dirty_routes: dict[bytes, None] = {}
        self._all_routes_dirty = False
        self._leaving_vifs: list[IfIndex] = []
        self._left: list[tuple[Upstream, str, bool]] = []  # upstreams no more; left when their successor has said what it wants

    # -- the machine -------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now_ms: int) -> Sequence[Effect]:
        """Take one event and return what it causes, in the order to perform it.  Raises nothing for anything a wire brings."""
        if type(event) is PacketReceived:
            # No alarm rings before what has arrived is heard: after a pause of the process, an answer that waits in the
            # socket must not find its group timed out.  `TimePassed` follows when the socket is empty.
            port = self._ports.get(event.ifindex)
            if port is not None:
                port.receive(event, now_ms)
        elif type(event) is PacketsReceived:
            ports = self._ports
            for packet in event.packets:
                port = ports.get(packet.ifindex)
                if port is not None:
                    port.receive(packet, now_ms)
        else:
            self._ring(now_ms)
            self._hear(event, now_ms)
            if type(event) is not TimePassed:
                self._foresight.forget()
        self._settle(now_ms)
        return self.outbox.taken()

    def next_deadline_ms(self) -> int | None:
        return self.outbox.alarms.next_ms()

    def snapshot(self, now_ms: int) -> DeviceState:
        """Rows of this instance and family; counters of forwarded datagrams are the kernel's and left out."""
        return snapshot(self, now_ms)

    def _hear(self, event: Event, now_ms: int) -> None:
        match event:
            case TimePassed():
                pass  # the alarms have rung already
            case PacketReceived() | PacketsReceived():
                raise AssertionError("handled on the short path")
            case LinkChanged():
                self._link_changed(event, now_ms)
            case LinkRemoved():
                self.links.pop(event.ifindex, None)
                self._assign(now_ms)
            case ConfigReplaced():
                self._config_replaced(event.config, now_ms)
            case RoutesFound():
                self._routes_found(event.routes, now_ms)
            case EffectFailed():
                self._effect_failed(event, now_ms)
            case CacheMissed():
                self._count(event.ifindex, "cache-missed")
            case WrongInterface():
                self._count(event.ifindex, "wrong-interface")
            case _:
                assert_never(event)

    def _ring(self, now_ms: int) -> None:
        for part, key in self.outbox.alarms.pop_due(now_ms):
            part.alarm(key, now_ms)

    def _settle(self, now_ms: int) -> None:
        if self.proxy.dirty:
            self._merge()
        if self.upstream is not None:
            self.upstream.host.flush(now_ms)
        while self._left:  # nobody between us and the sources prunes a stream before the other way to it stands
            upstream, cause, is_there = self._left.pop(0)
            upstream.stop(now_ms, cause, politely=is_there)
        dirty = self._dirty_routes
        if self._all_routes_dirty:
            self._all_routes_dirty = False
            self.routes.refresh_any()
            dirty = {**dict.fromkeys(self.routes.standing_groups()), **dict.fromkeys(self.proxy.groups()), **dirty}
        if dirty:
            self._dirty_routes = {}
            for group in dirty:
                self.routes.refresh(group, self.proxy.wants(group))
        while self._leaving_vifs:
            self.outbox.emit(ClearVif(self._leaving_vifs.pop(0)))

    def _merge(self) -> None:
        """Bring the database in step with the downstreams, and the host side with the database."""
        dirty, self.proxy.dirty = self.proxy.dirty, {}
        for group in dirty:
            merged = self.proxy.settle(group)
            if merged is not None and self.upstream is not None:
                self.upstream.host.want(group, merged)
        self._dirty_routes.update(dirty)

    # -- links and configuration ---------------------------------------------------------------------------------------

    def _link_changed(self, link: LinkChanged, now_ms: int) -> None:
        for other in [found.ifindex for found in self.links.values() if found.name == link.name and found.ifindex != link.ifindex]:
            del self.links[other]  # re-created, and the removal was not told
        if self.links.get(link.ifindex) == link:
            return
        self.links[link.ifindex] = link
        self._assign(now_ms)

    def _config_replaced(self, config: ProxyConfig | None, now_ms: int) -> None:
        before, self.config = self.instance, config
        self.instance = resolved(config, self.family) if config is not None else None
        self._assign(now_ms)
        if self.instance != before:
            after = self.instance
            if (before and (before.static_entries, before.local_groups.prefixes)) != (after and (after.static_entries, after.local_groups.prefixes)):
                self.proxy.reconfigured(after, self.family.address_bytes)
            self.routes.reconfigured(after.static_entries if after else (), self.proxy.local_groups, is_bridged=after is not None and after.is_bridged)
            self._forwarding_changed()

    def _assign(self, now_ms: int) -> None:
        """Give every link the part that the configuration says, touching only what differs."""
        wanted: dict[IfIndex, InterfaceParams] = {}
        upstreams: list[tuple[LinkChanged, InterfaceParams]] = []
        for link in self.links.values():
            params = self.instance.interface_for(link.name) if self.instance is not None else None
            if params is None:
                continue
            if params.is_upstream:
                upstreams.append((link, params))
            else:
                wanted[link.ifindex] = params
        chosen = self._chosen_upstream(upstreams)
        current = self.upstream
        if current is not None and (chosen is None or not self._is_same(current.interface, chosen[0])):
            self._close_upstream(current, now_ms)
        for ifindex, downstream in tuple(self.downstreams.items()):
            if ifindex not in wanted or not self._is_same(downstream.interface, self.links[ifindex]):
                self._close_downstream(downstream, now_ms)
        if chosen is not None:
            if self.upstream is None:
                self._open_upstream(*chosen)
            else:
                self._update_upstream(self.upstream, *chosen, now_ms)
        for ifindex, params in wanted.items():
            found = self.downstreams.get(ifindex)
            if found is None:
                self._open_downstream(self.links[ifindex], params, now_ms)
            elif found.interface.link != self.links[ifindex] or found.interface.params != params:
                assert self.instance is not None
                found.update(self.links[ifindex], params, self.instance.ssm_range, now_ms)

    @staticmethod
    def _is_same(interface: Interface, link: LinkChanged) -> bool:
        return interface.ifindex == link.ifindex and interface.name == link.name

    def _chosen_upstream(self, candidates: list[tuple[LinkChanged, InterfaceParams]]) -> tuple[LinkChanged, InterfaceParams] | None:
        """A pattern may match several links: one that is up wins, among those the present one, then the oldest."""
        present = self.upstream.interface.ifindex if self.upstream is not None else None
        return min(candidates, key=lambda found: (not found[0].is_up, found[0].ifindex != present, found[0].ifindex), default=None)

    def _open_upstream(self, link: LinkChanged, params: InterfaceParams) -> None:
        self._merge()  # what closed a moment ago is not worth mentioning to the new upstream
        assert self.instance is not None
        upstream = Upstream(Interface(link, params, self.outbox), self.instance.ssm_range)
        self._open_vif(link.ifindex, is_upstream=True)
        self.upstream = self._ports[link.ifindex] = upstream
        self.topology.upstream = upstream.interface
        upstream.start(self.proxy.database)
        self._all_routes_dirty = True

    def _update_upstream(self, upstream: Upstream, link: LinkChanged, params: InterfaceParams, now_ms: int) -> None:
        interface = upstream.interface
        if interface.link == link and interface.params == params:
            return
        if interface.params != params or interface.link.addresses != link.addresses:
            self._all_routes_dirty = True  # thresholds, and which sources live there
        assert self.instance is not None
        upstream.update(link, params, self.instance.ssm_range, now_ms)

    def _close_upstream(self, upstream: Upstream, now_ms: int) -> None:
        ifindex = upstream.interface.ifindex
        is_there = ifindex in self.links
        self._left.append((upstream, "not the upstream any more" if is_there else "link removed", is_there))
        self.upstream = self.topology.upstream = None
        self._close_vif(ifindex)

    def _open_downstream(self, link: LinkChanged, params: InterfaceParams, now_ms: int) -> None:
        assert self.instance is not None
        ifindex = link.ifindex
        downstream = Downstream(
            Interface(link, params, self.outbox),
            self.instance.ssm_range,
            contribute=lambda group, wanted: self.proxy.contribute(ifindex, group, wanted),
            role_changed=self._forwarding_changed,
            asked=None if self.family.hears_itself else lambda query, now_ms: self._asked(ifindex, query, now_ms),
        )
        self._open_vif(ifindex, is_upstream=False)
        self.downstreams[ifindex] = self._ports[ifindex] = downstream
        self.topology.downstreams[ifindex] = downstream.interface
        if link.is_up:
            downstream.start(now_ms)

    def _close_downstream(self, downstream: Downstream, now_ms: int) -> None:
        ifindex = downstream.interface.ifindex
        downstream.stop(now_ms, "no downstream any more" if ifindex in self.links else "link removed")
        del self.downstreams[ifindex]
        del self.topology.downstreams[ifindex]
        self._close_vif(ifindex)
        self._forwarding_changed()

    def _open_vif(self, ifindex: IfIndex, *, is_upstream: bool) -> None:
        if ifindex in self._leaving_vifs:
            self._leaving_vifs.remove(ifindex)  # it only changes its part
        self.outbox.emit(SetVif(ifindex, is_upstream=is_upstream))

    def _close_vif(self, ifindex: IfIndex) -> None:
        del self._ports[ifindex]
        self._leaving_vifs.append(ifindex)
        self._all_routes_dirty = True

    def _forwarding_changed(self) -> None:
        """Which downstreams datagrams may pass: where we are querier, or where the configuration does not care (FWD-04)."""
        anyway = self.instance is not None and self.instance.forward_when_non_querier
        self.topology.forwarding = {
            ifindex for ifindex, downstream in self.downstreams.items() if downstream.is_running and (downstream.querier.is_querier or anyway)
        }
        self._all_routes_dirty = True
        self._foresight.forget()

    def _asked(self, ifindex: IfIndex, query: Query, now_ms: int) -> None:
        """Of several downstreams to one network one is its router (RFC 3376 6, FWD-12): have them hear each other.

        Without it every datagram would come there twice, and from there in again by the other interface.
        """
        for other in tuple(self.downstreams.values()):
            if other.interface.ifindex == ifindex or not other.querier.is_running or not other.interface.shares_network(query.sender):
                continue
            other.querier.received(query, now_ms)
            if other.querier.is_querier:  # it has the lower address, and says so now rather than at its next turn
                self.downstreams[ifindex].querier.received(other.querier.general_query(), now_ms)

    # -- the kernel ----------------------------------------------------------------------------------------------------

    def _routes_found(self, found: Iterable[RouteFound], now_ms: int) -> None:
        """Adopt what an earlier process left: believe its memberships until hosts had time to answer."""
        routes = tuple(found)
        self.routes.adopt(routes)
        self._all_routes_dirty = True
        shared = {route.group: route.oifs for route in routes if route.source is None and route.group is not None}
        adopted: dict[tuple[IfIndex, bytes], SourceSet] = {}
        for route in routes:
            if route.group is None or self.routes.is_static((route.source, route.group)):
                continue
            beside = shared.get(route.group, frozenset())
            for ifindex in self.downstreams:
                taken, default = ifindex in route.oifs, ifindex in beside
                if route.source is None:
                    wanted = EVERYTHING if taken else SourceSet()
                elif taken is default or (default and ifindex == route.iif):
                    continue
                else:
                    wanted = SourceSet(frozenset((route.source,)), inverted=default)
                before = adopted.get((ifindex, route.group))
                if before is not None and before.inverted and wanted.inverted:
                    wanted &= before  # EXCLUDE{a} and EXCLUDE{b} of the same downstream are one EXCLUDE{a,b}
                elif before is not None:
                    wanted |= before
                adopted[ifindex, route.group] = wanted
        for (ifindex, group), wanted in adopted.items():
            if wanted and self.downstreams[ifindex].is_running:
                self.downstreams[ifindex].listeners.adopt(group, wanted, now_ms)
        if routes:
            self.outbox.note("info", "routes/adopted", routes=len(routes), memberships=len(adopted))

    def _effect_failed(self, event: EffectFailed, now_ms: int) -> None:
        effect, reason = event.effect, errno.errorcode.get(event.errno, str(event.errno))
        if isinstance(effect, SendPacket):
            port = self._ports.get(effect.ifindex)
            if port is not None:
                port.interface.counters["send-failed"] += 1
                port.interface.note_rarely(now_ms, "warning", "packet/not-sent", reason, destination=effect.destination, errno=reason)
                if event.errno in _NO_ROOM:
                    port.not_sent(effect, now_ms)
            return
        subject = subject_of(effect)
        if subject is None:
            return
        if self.retry.failed(subject, now_ms):
            self.outbox.note(
                "warning", "kernel/refused", effect=type(effect).__name__, about=self._spoken(subject), errno=reason, next="tried again, later each time"
            )

    def _spoken(self, subject: Subject) -> str:
        if isinstance(subject, int):
            link = self.links.get(subject)
            return link.name if link is not None else f"interface {subject}"
        source, group = subject
        return f"({self.family.text(source) if source else '*'}, {self.family.text(group) if group else '*'})"

    def _truth(self, subject: Subject) -> Effect | None:
        if not isinstance(subject, int):
            return self.routes.truth(subject)
        port = self._ports.get(subject)
        if port is None:  # with a link that went its vif went as well
            return ClearVif(subject) if subject in self.links else None
        return SetVif(port.interface.ifindex, is_upstream=port is self.upstream)

    def _tried_again(self, effect: Effect, now_ms: int) -> None:
        """A downstream that had no vif heard no answers: if it has one now, its hosts must be asked again."""
        downstream = self.downstreams.get(effect.ifindex) if isinstance(effect, SetVif) else None
        if downstream is not None and downstream.is_running:
            downstream.querier.start_asking(now_ms)

    def _count(self, ifindex: IfIndex, name: str) -> None:
        port = self._ports.get(ifindex)
        if port is not None:
            port.interface.counters[name] += 1
