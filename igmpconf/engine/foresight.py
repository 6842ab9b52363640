"""What the most frequent news will lead to, told at a glance: the entry of a group that a host joins.

A listener waits for the forwarding entry and nobody for the rest, so the entry is made first and the message handled
then.  Nothing is changed here, and only what is certain is told: `Engine.handle` states the same entry a moment later.
Whatever needs a second thought (sources, rules, limits, permanent entries) is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from igmpconf.engine.downstream import Downstream
from igmpconf.engine.effects import SetRoute
from igmpconf.engine.events import PacketReceived
from igmpconf.engine.proxy import Proxy
from igmpconf.engine.routes import Routes
from igmpconf.engine.sources import EVERYTHING
from igmpconf.ids import IfIndex

_MOST_SENDERS = 1_000


class Foresight:
    """Of one engine; `forget` whenever links, parameters or roles change."""

    def __init__(self, downstreams: Mapping[IfIndex, Downstream], proxy: Proxy, routes: Routes, sole_join: Callable[..., tuple[int, bytes] | None]) -> None:
        self._downstreams = downstreams
        self._proxy = proxy
        self._routes = routes
        self._sole_join = sole_join
        self._lanes: dict[IfIndex, _Lane | None] = {}

    def forget(self) -> None:
        self._lanes.clear()

    def entry(self, packet: PacketReceived) -> SetRoute | None:
        """The entry that `packet` is certain to lead to, or None."""
        ifindex = packet.ifindex
        try:
            lane = self._lanes[ifindex]
        except KeyError:
            lane = self._lanes[ifindex] = self._lane(ifindex)
        if lane is None or packet.payload[lane.group_at :] in lane.groups:
            return None  # nearly every message refreshes what is known; in one of a single group, that group stands last
        told = self._sole_join(packet.payload, packet.sender, packet.destination, packet.ttl, packet.router_alert)
        if told is None:
            return None
        version, group = told
        wants = self._proxy.wants(group)
        if ifindex in wants or not lane.oldest <= version <= lane.version or (lane.demands_alert and version > 1 and not packet.router_alert):
            return None
        if not lane.admission.is_plain(group) or (packet.sender not in lane.senders and not lane.accepts(packet.sender)):
            return None
        for wanted in wants.values():
            if wanted is not EVERYTHING:
                return None
        return self._routes.foreseen(group, (*wants, ifindex))

    def _lane(self, ifindex: IfIndex) -> _Lane | None:
        downstream = self._downstreams.get(ifindex)
        if downstream is None or not downstream.is_running:
            return None
        params = downstream.interface.params
        return _Lane(downstream) if params.max_groups is None else None


class _Lane:
    """What has to be known of a downstream, in one place."""

    __slots__ = ("_own", "admission", "demands_alert", "group_at", "groups", "oldest", "senders", "version")

    def __init__(self, downstream: Downstream) -> None:
        interface = downstream.interface
        self.admission = downstream.admission
        self.groups = downstream.listeners.groups
        self.group_at = -interface.outbox.family.address_bytes
        self.oldest, self.version = interface.params.minimum_version, interface.params.version
        self.demands_alert = interface.params.require_router_alert
        self.senders: set[bytes] = set()  # that were accepted
        self._own = interface.own_addresses | {interface.params.source_address}

    def accepts(self, sender: bytes) -> bool:
        """Another host may speak here; who may is remembered as long as nothing changes."""
        is_accepted = sender not in self._own and self.admission.accepts_sender(sender)
        if is_accepted and len(self.senders) < _MOST_SENDERS:
            self.senders.add(sender)
        return is_accepted
