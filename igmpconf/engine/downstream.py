"""One downstream interface: its querier, its admission rules and its listeners, started and stopped together.

Life: created when a configured link exists -> running while the link is up -> closed when it is gone or no longer
configured.  What it wants of each group goes to `contribute`; whether datagrams may pass it, to `role_changed`.
"""

from __future__ import annotations

from collections.abc import Callable

from igmpconf.engine.admission import Admission
from igmpconf.engine.effects import SendPacket
from igmpconf.engine.events import LinkChanged, PacketReceived
from igmpconf.engine.interface import Interface
from igmpconf.engine.listeners import Changed, Listeners
from igmpconf.engine.messages import Query
from igmpconf.engine.params import InterfaceParams
from igmpconf.engine.prefixes import PrefixSet
from igmpconf.engine.querier import Querier
from igmpconf.engine.regularity import QueriersHeard, Refreshes
from igmpconf.errors import WireError


class Downstream:
    def __init__(
        self,
        interface: Interface,
        ssm_range: PrefixSet,
        *,
        contribute: Changed,
        role_changed: Callable[[], None],
        asked: Callable[[Query, int], None] | None = None,
    ) -> None:
        self.interface = interface
        self._role_changed = role_changed
        self.is_running = False
        self.queriers = QueriersHeard()
        self._refreshes = Refreshes(interface)
        self._tell_asked = asked
        self.querier = Querier(interface, role_changed=role_changed, timing_changed=self._retimed, asked=self._asked)
        self.admission = Admission(interface, ssm_range)
        self.listeners = Listeners(interface, self.querier, self.admission, contribute)
        self._decode = interface.outbox.family.decode

    def _retimed(self) -> None:
        self.listeners.retimed()
        self._refreshes.forget()

    def _asked(self, query: Query, now_ms: int) -> None:
        """Our general query went out."""
        self._should_answer(now_ms)
        if self._tell_asked is not None:
            self._tell_asked(query, now_ms)

    def _should_answer(self, now_ms: int) -> None:
        """Every host hears a general query now, ours or the elected querier's."""
        self._refreshes.asked(self.listeners.groups, self.querier.group_membership_interval_ms, now_ms)

    def start(self, now_ms: int) -> None:
        """The link is up: ask who listens, and hold what is held permanently."""
        self.is_running = True
        self.querier.start(now_ms, "started")
        self.listeners.start(now_ms)
        self.listeners.set_static(self.interface.params.static_groups)
        self.interface.note("info", "downstream/up", address=self.interface.address)
        self._role_changed()

    def stop(self, now_ms: int, cause: str) -> None:
        """The link is down or not ours any more: every membership goes at once (MEM-28)."""
        if not self.is_running:
            return
        self.is_running = False
        self.querier.stop(now_ms, cause)
        self.listeners.clear(cause)
        self.queriers.forget()
        self._refreshes.forget()
        self.interface.note("info", "downstream/down", cause=cause)
        self._role_changed()

    def update(self, link: LinkChanged, params: InterfaceParams, ssm_range: PrefixSet, now_ms: int) -> None:
        """New facts or parameters; only what they concern is touched."""
        interface = self.interface
        before, address_before, subnets_before = interface.params, interface.address, interface.link.addresses
        interface.params = params
        interface.learn(link)
        self.admission.reset(ssm_range)
        if link.is_up is not self.is_running:
            if link.is_up:
                self.start(now_ms)
            else:
                self.stop(now_ms, "link down")
            return
        if not self.is_running:
            return
        if interface.address != address_before:
            self.querier.start(now_ms, "address changed")
            self.listeners.start(now_ms)
        elif params.version != before.version or self.querier.gives_way_to_older(params.minimum_version):
            self.querier.start(now_ms, "version changed")
        elif params != before:
            self.querier.retimed(now_ms)
        if params != before:
            self._retimed()
            self.listeners.review()
            self.listeners.set_static(params.static_groups)
        if params != before or link.addresses != subnets_before:
            self._role_changed()

    def not_sent(self, packet: SendPacket, now_ms: int) -> None:
        """The kernel had no room for a query of ours; those about one group are repeated in any case (RFC 3376 8.9)."""
        if self.interface.outbox.family.is_general_query(packet.payload):
            self.querier.not_sent(now_ms)

    def receive(self, event: PacketReceived, now_ms: int) -> None:
        """A message arrived; whatever it is, nothing is raised."""
        interface = self.interface
        sender = event.sender
        if not self.is_running or sender in interface.own_addresses or sender == interface.params.source_address:
            return  # PKT-33: our own, looped back
        try:
            message = self._decode(event.payload, sender, event.destination, event.ttl, event.router_alert)
        except WireError as error:
            interface.reject(now_ms, error.reason, sender=sender)
            return
        if message.version < interface.params.minimum_version:  # RFC 3376 9.2, RFC 3810 10.2
            interface.reject(now_ms, "older-version", sender=sender)
            return
        if event.ttl > 1:
            interface.counters["received-ttl-above-1"] += 1  # PKT-34: accepted
        if not event.router_alert and interface.params.require_router_alert and message.version > 1:
            interface.reject(now_ms, "router-alert", sender=sender)
            return
        if not isinstance(message, Query):
            self.listeners.report(message, now_ms)
            return
        interface.counters[f"received-query-v{message.version}"] += 1
        if message.group is None:
            self.queriers.heard(sender, message.interval_ms, now_ms)
            self.querier.received(message, now_ms)
            if not self.querier.is_querier and sender == self.querier.elected:
                self._should_answer(now_ms)
        else:
            self.listeners.queried(message, now_ms)
