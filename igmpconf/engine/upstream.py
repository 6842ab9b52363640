"""The upstream interface: a host like any other on its link (RFC 4605 3).

It never asks, and reports of other hosts create no state; it hears queries, and older reports for suppression.
"""

from __future__ import annotations

from collections.abc import Mapping

from igmpconf.engine.effects import SendPacket
from igmpconf.engine.events import LinkChanged, PacketReceived
from igmpconf.engine.host import Host
from igmpconf.engine.interface import Interface
from igmpconf.engine.messages import Query
from igmpconf.engine.params import InterfaceParams
from igmpconf.engine.prefixes import PrefixSet
from igmpconf.engine.regularity import QueriersHeard
from igmpconf.engine.sources import SourceSet
from igmpconf.errors import WireError

# so that nothing but the message is judged: sender, destination, TTL, Router Alert
_ANYBODY = {4: (b"\n\0\0\1", None, 1, True), 16: (b"\xfe\x80" + bytes(13) + b"\1", None, 1, True)}


class Upstream:
    def __init__(self, interface: Interface, ssm_range: PrefixSet) -> None:
        self.interface = interface
        self.host = Host(interface)
        self.queriers = QueriersHeard()
        self._ssm_range = ssm_range

    def start(self, database: Mapping[bytes, SourceSet]) -> None:
        """Say what is wanted, all of it, without waiting to be asked (UP-25)."""
        for group, wanted in database.items():
            self.host.want(group, wanted)
        self.interface.note("info", "upstream/up", address=self.interface.address, groups=len(database))

    def stop(self, now_ms: int, cause: str, *, politely: bool) -> None:
        """`politely`: the link is still there, so leave every group (UP-26)."""
        if politely:
            self.host.leave_all(now_ms)
        else:
            self.host.forget_all()  # or an answer that is due would still be sent, on an index that may be somebody else's by then
        self.interface.note("info", "upstream/down", cause=cause)

    def update(self, link: LinkChanged, params: InterfaceParams, ssm_range: PrefixSet, now_ms: int) -> None:
        interface = self.interface
        self._ssm_range = ssm_range
        address_before, was_up = interface.address, interface.link.is_up
        interface.params = params
        interface.learn(link)
        self.host.reconfigured(now_ms)
        if link.is_up and (not was_up or interface.address != address_before):
            self.host.resend()
        if not link.is_up:
            self.queriers.forget()

    def not_sent(self, packet: SendPacket, now_ms: int) -> None:
        """The kernel had no room for a report of ours: what it said of groups that are still wanted is said once more."""
        try:
            message = self.interface.outbox.family.decode(packet.payload, *_ANYBODY[len(packet.destination)])
        except WireError:
            return
        if not isinstance(message, Query):
            self.host.not_sent({record.group for record in message.records}, now_ms)

    def receive(self, event: PacketReceived, now_ms: int) -> None:
        """A message arrived; whatever it is, nothing is raised."""
        interface, family = self.interface, self.interface.outbox.family
        sender = event.sender
        if sender in interface.own_addresses or sender == interface.params.source_address:
            return
        try:
            message = family.decode(event.payload, sender, event.destination, event.ttl, event.router_alert)
        except WireError as error:
            interface.reject(now_ms, error.reason, sender=sender)
            return
        if message.version < interface.params.minimum_version:  # RFC 3810 10.1: a forged query must not make us older
            interface.reject(now_ms, "older-version", sender=sender)
            return
        if not isinstance(message, Query):
            interface.counters[f"received-report-v{message.version}"] += 1
            self.host.report(message)
            return
        interface.counters[f"received-query-v{message.version}"] += 1
        if not event.router_alert and interface.params.require_router_alert and message.version > 1:
            interface.reject(now_ms, "router-alert", sender=sender)
            return
        destination = event.destination
        if message.group is None and destination is not None and family.is_group(destination) and destination != family.all_hosts:
            interface.reject(now_ms, "query-destination", sender=sender)  # RFC 3376 9.1
            return
        if message.version < family.latest_version and message.group is not None and message.group in self._ssm_range:
            cause = "the upstream's querier cannot ask for sources"  # RFC 4604 2.2.3, 2.2.5
            interface.note_rarely(now_ms, "warning", "upstream/older-query-for-ssm", group=message.group, querier=sender, cause=cause)
        if message.group is None:
            self.queriers.heard(sender, message.interval_ms, now_ms)
        self.host.query(message, now_ms)
