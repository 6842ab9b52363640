"""One interface as the engine sees it: the link's facts, the parameters in force, the counters."""

from __future__ import annotations

from collections import defaultdict

from igmpconf.engine.effects import Level, SendPacket
from igmpconf.engine.events import LinkChanged
from igmpconf.engine.outbox import Outbox
from igmpconf.engine.params import InterfaceParams
from igmpconf.engine.prefixes import PrefixSet
from igmpconf.ids import IfIndex

QUIET_MS = 60_000  # a log line about the same thing on the same interface comes at most once a minute
_QUIET_KEYS = 1_000  # what strangers send must not grow our memory


class Interface:
    """Facts and habits that the router side and the host side have in common."""

    def __init__(self, link: LinkChanged, params: InterfaceParams, outbox: Outbox) -> None:
        self.params = params
        self.outbox = outbox
        self.counters: defaultdict[str, int] = defaultdict(int)
        self._quiet_until_ms: dict[tuple[object, ...], int] = {}
        self.link = link
        self.learn(link)

    def learn(self, link: LinkChanged) -> None:
        """Take over new facts about the same link."""
        family = self.outbox.family
        self.link = link
        self.ifindex: IfIndex = link.ifindex
        self.name: str = link.name
        self.mtu_bytes = min(link.mtu, 0xFFFF)  # loopback says 65536; an IP length field cannot
        self.own_addresses = frozenset(found.address for found in link.addresses)
        self.subnets = PrefixSet([(found.address, found.prefix_length) for found in link.addresses], family.address_bytes)
        self._first_address = next((found.address for found in link.addresses if family.may_send(found.address)), None)

    @property
    def address(self) -> bytes | None:
        """Where our messages come from here; None while the interface has no usable address."""
        return self.params.source_address or self._first_address

    def shares_network(self, address: bytes) -> bool:
        """`address` is one of a neighbour's here, by our subnets; a subnet of one or two addresses has no further router."""
        length = self.subnets.longest(address)
        return length is not None and length <= 8 * len(address) - 2

    @property
    def may_ask(self) -> bool:
        """Queries need an address, but a bridge asks without one where the family has a way to."""
        return self.address is not None or (self.params.is_port and self.outbox.family.asks_unnumbered)

    def send(self, destination: bytes, payload: bytes, counter: str) -> None:
        """Send and count, if the link is up; without an address, from the unspecified one (RFC 3376 4.2.13, RFC 3810 5.2.13)."""
        if not self.link.is_up:
            return
        self.counters[counter] += 1
        self.outbox.emit(SendPacket(self.ifindex, destination, payload, self.address or self.outbox.family.unspecified))

    def note(self, level: Level, event: str, **fields: object) -> None:
        self.outbox.note(level, event, interface=self.name, **fields)

    def note_rarely(self, now_ms: int, level: Level, event: str, *key: object, **fields: object) -> None:
        """Note, but the same (event, key) at most once in QUIET_MS."""
        topic = (event, *key)
        if self._quiet_until_ms.get(topic, now_ms) > now_ms:
            return
        if len(self._quiet_until_ms) >= _QUIET_KEYS:
            self._quiet_until_ms.clear()
        self._quiet_until_ms[topic] = now_ms + QUIET_MS
        self.note(level, event, **fields)

    def reject(self, now_ms: int, reason: str, **fields: object) -> None:
        """Count a message, or a part of one, that is not believed, and say so now and then."""
        self.counters["rejected-" + reason] += 1
        self.note_rarely(now_ms, "debug", "packet/rejected", reason, reason=reason, **fields)
