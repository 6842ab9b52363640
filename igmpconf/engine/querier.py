"""The querier of one downstream: who asks for memberships, how often, and with which numbers.

Life: `start` (startup queries at once) -> querier, or non-querier while somebody with a lower address asks ->
`stop`.  Only general queries take part in the election (RFC 9776 6.6.2).  It does not know groups: `ask` sends a
specific query for whoever runs the last-member procedure (listeners.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from igmpconf.engine.interface import Interface
from igmpconf.engine.messages import Query

AGAIN_MS = 1_000  # ours: the last member query interval, at which queries may follow one another anyway
_CLOCK = b""  # the only alarm of a querier


class Querier:
    """`role_changed` is called whenever `is_querier` flips, `timing_changed` when robustness or interval do, `asked` after a general query."""

    def __init__(
        self, interface: Interface, *, role_changed: Callable[[], None], timing_changed: Callable[[], None], asked: Callable[[Query, int], None] | None = None
    ) -> None:
        self._interface = interface
        self._outbox = interface.outbox
        self._role_changed = role_changed
        self._timing_changed = timing_changed
        self._asked = asked
        self._startup_left = 0
        self._next_query_ms = 0
        self._other_until_ms = 0
        self._elected_heard_ms = 0
        self._adopted_robustness: int | None = None
        self._adopted_interval_ms: int | None = None
        self.is_running = False
        self.is_querier = False
        self.elected: bytes | None = None  # the other router, while it is the querier
        self._elected_version = 0  # in which it asks
        self.since_ms = 0
        self.reason = "not started"

    @property
    def robustness(self) -> int:
        """Ours, or the elected querier's (RFC 3376 4.1.6)."""
        return self._adopted_robustness or self._interface.params.robustness

    @property
    def interval_ms(self) -> int:
        """Ours, or the elected querier's (RFC 3376 4.1.7)."""
        return self._adopted_interval_ms or self._interface.params.query_interval_ms

    @property
    def group_membership_interval_ms(self) -> int:
        """Time after which a group with no reports is gone: RV * QI + 2 * QRI (RFC 9776 8.4, RFC 9777 9.4)."""
        return self.robustness * self.interval_ms + 2 * self._interface.params.query_response_interval_ms

    @property
    def older_host_present_interval_ms(self) -> int:
        """RV * QI + QRI (RFC 3376 8.13); deliberately not the interval above."""
        return self.robustness * self.interval_ms + self._interface.params.query_response_interval_ms

    def gives_way_to_older(self, least: int) -> bool:
        """The other router asks in a version before `least`: if those are not heard any more, neither is it."""
        return self.elected is not None and self._elected_version < least

    def start(self, now_ms: int, reason: str) -> None:
        """Begin as querier with the startup queries, if there is an address to ask from (QRY-08)."""
        was_running, was_querier = self.is_running, self.is_querier
        self.is_running = self._interface.may_ask
        self._adopt(None, None)
        self.elected, self.is_querier = None, self.is_running
        self.since_ms, self.reason = now_ms, reason if self.is_running else "no address to ask from"
        if not self.is_running:
            self._outbox.forget(self, _CLOCK)
            if was_running and was_querier:
                self._role_changed()
            return
        self.start_asking(now_ms)
        if not was_querier:
            self._role_changed()

    def start_asking(self, now_ms: int) -> None:
        """The startup queries, if it is ours to ask."""
        if self.is_querier:
            self._startup_left = self._interface.params.robustness  # RFC 3376 8.7: startup query count
            self._general_query(now_ms)

    def not_sent(self, now_ms: int) -> None:
        """The kernel had no room for a general query, and the next one may be minutes away."""
        if self.is_querier:
            self._schedule(min(self._next_query_ms, now_ms + AGAIN_MS))

    def stop(self, now_ms: int, reason: str) -> None:
        self.is_running = self.is_querier = False
        self.elected, self.since_ms, self.reason = None, now_ms, reason
        self._adopt(None, None)
        self._outbox.forget(self, _CLOCK)

    def retimed(self, now_ms: int) -> None:
        """The configured timers changed: a nearer next query is taken at once, memberships are not touched."""
        self._timing_changed()
        if self.is_querier:
            self._schedule(min(self._next_query_ms, now_ms + self._interface.params.query_interval_ms))

    def received(self, query: Query, now_ms: int) -> None:
        """A general query of somebody else: RFC 3376 6.6.2.  Its version, when not ours, is worth a line (7.3.1)."""
        interface = self._interface
        if query.version != interface.params.version:
            interface.note_rarely(
                now_ms, "warning", "querier/other-version", query.version, querier=query.sender, version=query.version, configured=interface.params.version
            )
        own = interface.address
        if not self.is_running or query.sender == self._outbox.family.unspecified or (own is not None and query.sender >= own):
            return  # PKT-32: a switch that asks from 0.0.0.0 is no router, as we are none then; a higher address loses
        other_present_ms = self._other_querier_present_ms(query)
        current = self.elected
        if current is None or query.sender <= current or now_ms >= self._elected_heard_ms + other_present_ms:
            self.elected, self._elected_version = query.sender, query.version
            self._elected_heard_ms = now_ms
            self._adopt(query.robustness, query.interval_ms)
            other_present_ms = self._other_querier_present_ms(query)
        self._other_until_ms = now_ms + other_present_ms
        if self.is_querier:
            self.is_querier = False
            self.since_ms, self.reason = now_ms, f"{self._outbox.family.text(query.sender)} asks from a lower address"
            interface.note("warning", "querier/lost", querier=query.sender, own=own or self._outbox.family.unspecified, cause="it asked from a lower address")
            self._role_changed()
        elif current != self.elected:
            interface.note("info", "querier/changed", querier=self.elected or b"", cause="a lower address asked")
        self._schedule(self._other_until_ms)

    def alarm(self, key: bytes, now_ms: int) -> None:
        if not self.is_running:
            return
        if self.is_querier:
            if now_ms >= self._next_query_ms:
                self._general_query(now_ms)
            else:
                self._outbox.wake(self, _CLOCK, self._next_query_ms)
        elif now_ms >= self._other_until_ms:
            silent = self.elected or b""
            self.elected, self.is_querier = None, True
            self.since_ms, self.reason = now_ms, "the other querier fell silent"
            self._adopt(None, None)
            self._startup_left = 0
            self._interface.note("info", "querier/taken", silent=silent, cause="other querier present interval passed without a query")
            self._general_query(now_ms)
            self._role_changed()
        else:
            self._outbox.wake(self, _CLOCK, self._other_until_ms)

    def ask(self, group: bytes, sources: Sequence[bytes] = (), *, suppress: bool = False) -> None:
        """Send a group-specific or group-and-source-specific query of the configured version (OLD-08)."""
        params, family = self._interface.params, self._outbox.family
        if not self.is_running or params.version < family.leave_version or (sources and params.version < family.latest_version):
            return  # no address to ask from; IGMPv1 has no specific queries, older versions none with sources
        self._send(
            Query(
                self._interface.address or b"",
                params.version,
                group,
                tuple(sources),
                params.last_member_interval_ms,
                self._interface.params.robustness,
                self._interface.params.query_interval_ms,
                suppress,
            ),
            group if params.query_destination == "group" else family.all_hosts,  # RFC 3376 4.1.12: hosts take both
        )

    def general_query(self) -> Query:
        """What it asks all hosts of the link."""
        params = self._interface.params
        return Query(self._interface.address or b"", params.version, None, (), params.query_response_interval_ms, params.robustness, params.query_interval_ms)

    def _general_query(self, now_ms: int) -> None:
        params, query = self._interface.params, self.general_query()
        self._send(query, self._outbox.family.all_hosts)
        self._startup_left = max(0, self._startup_left - 1)
        self._schedule(now_ms + (params.startup_query_interval_ms if self._startup_left else params.query_interval_ms))
        if self._asked is not None:
            self._asked(query, now_ms)

    def _schedule(self, at_ms: int) -> None:
        self._next_query_ms = at_ms
        self._outbox.wake(self, _CLOCK, at_ms)

    def _send(self, query: Query, destination: bytes) -> None:
        for payload in self._outbox.family.encode_query(query, self._interface.mtu_bytes):
            self._interface.send(destination, payload, f"sent-query-v{query.version}")

    def _other_querier_present_ms(self, query: Query) -> int:
        """RV * QI + half a query response interval (RFC 3376 8.5), with the numbers in force."""
        return self.robustness * self.interval_ms + query.max_response_ms // 2

    def _adopt(self, robustness: int | None, interval_ms: int | None) -> None:
        if (robustness, interval_ms) != (self._adopted_robustness, self._adopted_interval_ms):
            self._adopted_robustness, self._adopted_interval_ms = robustness, interval_ms
            self._timing_changed()
