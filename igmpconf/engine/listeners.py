"""Who listens on one downstream: groups, their timers, their hosts, and what is asked before a leave is believed.

A record goes through admission, older-host compatibility (RFC 3376 7.3.2) and limits, then through the tables of
groupstate.py; what the table doubts is asked (RFC 3376 6.6.3), or dropped at once where quick-leave says so.  The
outcome is one `SourceSet` per group, told to `changed`.  Upstream and routes are not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from igmpconf.engine.admission import Admission
from igmpconf.engine.groupstate import Asked, GroupState
from igmpconf.engine.interface import Interface
from igmpconf.engine.lightweight import LightweightGroupState, converted, without_exclude_lists
from igmpconf.engine.messages import Query, Record, RecordKind, Report
from igmpconf.engine.querier import Querier
from igmpconf.engine.sources import EVERYTHING, NOTHING, SourceSet

_MOST_HOSTS = 4_096  # tracked per group; beyond it, leaves take the ordinary way
_NO_SOURCES: frozenset[bytes] = frozenset()
_IS_IN, _IS_EX, _TO_IN, _TO_EX, _ALLOW, _BLOCK = RecordKind
_WITHOUT_SOURCES_NOTHING = frozenset({_IS_IN, _ALLOW, _BLOCK})

Changed = Callable[[bytes, SourceSet], None]


class Listeners:
    def __init__(self, interface: Interface, querier: Querier, admission: Admission, changed: Changed) -> None:
        self._interface = interface
        self._outbox = interface.outbox
        self._querier = querier
        self._admission = admission
        self._changed = changed
        self._latest = interface.outbox.family.latest_version
        self._received = tuple((f"received-report-v{version}", f"received-leave-v{version}") for version in range(self._latest + 1))
        self._tables = _tables(interface)
        self.groups: dict[bytes, GroupState] = {}
        self.static: dict[bytes, SourceSet] = {}
        self._tracked_from_ms = 0
        self.retimed()

    def retimed(self) -> None:
        """Robustness or an interval changed; running timers stay as they are."""
        self._membership_ms = self._querier.group_membership_interval_ms
        self._older_host_ms = self._querier.older_host_present_interval_ms

    def start(self, now_ms: int) -> None:
        """Hosts that were there before us are known once the first general query has been answered."""
        self._tables = _tables(self._interface)
        self._tracked_from_ms = now_ms + self._interface.params.query_response_interval_ms

    def set_static(self, held: dict[bytes, SourceSet]) -> None:
        """Memberships that need no host (DB-10)."""
        before, self.static = self.static, {group: wanted for group, wanted in held.items() if self._may_hold(group, wanted)}
        for group in dict.fromkeys((*before, *self.static)):
            if before.get(group) != self.static.get(group):
                self._tell(group)

    def _may_hold(self, group: bytes, wanted: SourceSet) -> bool:
        family = self._outbox.family
        if family.stays_on_link(group) or (wanted.inverted and self._admission.is_source_specific(group)):
            self._interface.note("warning", "static/refused", group=group, cause="link-local, or any source of a source-specific group")
            return False
        return True

    def clear(self, cause: str) -> None:
        """The interface is gone: so are its memberships (MEM-28)."""
        for group in tuple(self.groups):
            self._forget(self.groups[group], cause)
        self.set_static({})

    def review(self) -> None:
        """Policy changed: what may not be held any more is dropped, the rest stays."""
        self._tables = _tables(self._interface)
        for state in tuple(self.groups.values()):
            group = state.group
            state.forget_older(self._interface.params.minimum_version)
            changed = False
            if type(state) is not self._tables:
                state, changed = self._converted(state)
            denied = self._denied(group, state.wanted)
            if state.drop(group=state.exclude and not self._admission.allows_group(group), sources=denied) or changed:
                self._settle(state, "policy")

    def _converted(self, state: GroupState) -> tuple[GroupState, bool]:
        """The same group under the other tables, and whether that changes the membership."""
        made = self.groups[state.group] = converted(state, self._tables)
        if self._tables is LightweightGroupState:
            made.blocked = self._denied(state.group, state.blocked)  # what hosts exclude is not kept there
        return made, made.membership() != state.membership()

    def _denied(self, group: bytes, sources: Iterable[bytes]) -> frozenset[bytes]:
        return frozenset(source for source in sources if not self._admission.allows_source(group, source))

    # -- reports -----------------------------------------------------------------------------------------------

    def report(self, report: Report, now_ms: int) -> None:
        """Apply every record, in order.  Refreshing what is known takes the short way through this loop."""
        interface, version, sender = self._interface, report.version, report.sender
        if version > interface.params.version:
            interface.reject(now_ms, "newer-version", sender=sender)  # a router of that version does not know the type
            return
        if not self._admission.accepts_sender(sender):
            interface.counters["rejected-sender"] += 1
            interface.note_rarely(
                now_ms, "warning", "report/foreign-sender", sender, sender=sender, cause="not in a subnet or alternative-subnet of the interface"
            )
            return
        records = report.records
        if self._tables is LightweightGroupState:
            records = without_exclude_lists(records)
        is_latest = version == self._latest
        is_leave = not is_latest and records[0].kind is _TO_IN
        interface.counters[self._received[version][is_leave]] += 1
        groups, until_ms = self.groups, now_ms + self._membership_ms
        for record in records:
            state = groups.get(record.group)
            if state is not None:
                host = state.host(sender)
                if host is not None:
                    kind, sources = record.kind, record.sources
                    if state.exclude:
                        if (kind is _IS_EX or kind is _TO_EX) and not sources and host.sources is EVERYTHING and not state.wanted and not state.blocked:
                            state.exclude_until_ms = host.until_ms = until_ms
                            state.last_reporter = sender
                            if not is_latest:
                                state.heard_older(version, now_ms + self._older_host_ms)
                            continue
                    elif kind is _IS_IN and not host.sources.inverted and sources <= host.sources.listed and sources <= state.wanted.keys():
                        for source in sources:
                            state.wanted[source] = until_ms
                        host.until_ms = until_ms
                        state.last_reporter = sender
                        continue
            elif (record.kind is _IS_EX or record.kind is _TO_EX) and not record.sources and self._admission.is_plain(record.group):
                self._join(record.group, sender, version, now_ms)
                continue
            self._apply(record, state, sender, version, now_ms)

    def _join(self, group: bytes, sender: bytes, version: int, now_ms: int) -> None:
        """What nearly all news is: a first host wants a group, from any source.  The same as `_apply`, by fewer steps: a stream waits."""
        if self._is_full(group, now_ms):
            return
        until_ms = now_ms + self._membership_ms
        state = self.groups[group] = self._tables(group, now_ms)
        state.begin(sender, until_ms)
        if version != self._latest:
            state.heard_older(version, now_ms + self._older_host_ms)
        if sender == self._outbox.family.unspecified:
            state.is_tracked = False
        self._changed(group, EVERYTHING)  # whatever is static beside it
        self._interface.note("info", "membership/joined", group=group, sender=sender)
        self._outbox.wake(self, group, until_ms)

    def _apply(self, record: Record, state: GroupState | None, sender: bytes, version: int, now_ms: int) -> None:
        kind = record.kind
        if not record.sources and kind in _WITHOUT_SOURCES_NOTHING:
            return  # MEM-24, MEM-25
        if state is None and kind in {_BLOCK, _TO_IN} and not (record.sources and kind is _TO_IN):
            return  # MEM-23: a leave of what nobody holds
        is_latest = version == self._latest
        admitted = self._admission.admitted(record, is_latest=is_latest, now_ms=now_ms)
        if admitted is None:
            return
        sources = admitted.sources
        if state is None:
            if not sources and kind is not _IS_EX and kind is not _TO_EX:
                return  # what was left after trimming is a leave
            if self._is_full(admitted.group, now_ms):
                return
            state = self._tables(admitted.group, now_ms)
        if not is_latest and kind is _IS_EX:
            state.heard_older(version, now_ms + self._older_host_ms)
        compatibility = state.compatibility_version(self._latest, now_ms)
        if compatibility < self._latest:  # RFC 3376 7.3.2
            if kind is _BLOCK or (kind is _TO_IN and compatibility < self._outbox.family.leave_version):
                return
            if kind is _TO_EX:
                sources = _NO_SOURCES
        sources = self._within_limit(state, kind, sources, now_ms)
        self._conclude(state, kind, sources, sender, now_ms)

    def _conclude(self, state: GroupState, kind: RecordKind, sources: frozenset[bytes], sender: bytes, now_ms: int) -> None:
        until_ms = now_ms + self._membership_ms
        was_known = state.group in self.groups
        asked = state.apply(kind, sources, until_ms)
        if not state and not was_known:
            return
        if sender == self._outbox.family.unspecified:
            state.is_tracked = False  # hosts without address are all one to us
        state.hear(sender, kind, sources, until_ms, _MOST_HOSTS)
        changed = asked.changed
        if not was_known:
            self.groups[state.group] = state
            self._interface.note("info", "membership/joined", group=state.group, sender=sender)
        if (asked.group or asked.sources) and self._querier.is_querier:
            changed = self._leave(state, asked, now_ms) or changed
        if changed:
            self._settle(state, "left")
        if state:
            self._wake(state)

    def _leave(self, state: GroupState, asked: Asked, now_ms: int) -> bool:
        """Ask, or drop at once as quick-leave says (decision 8); True if the membership changed by that."""
        quick = self._interface.params.quick_leave
        group, sources = asked.group, asked.sources
        if quick == "auto" and self._knows_hosts(state, now_ms):
            sources -= state.wanted_by_hosts(sources, now_ms)
            group = group and not state.has_excluding_host(now_ms)
            if not group and not sources:
                return False  # somebody else is known to listen: nothing is interrupted, nobody is asked
            quick = "on"
        if quick != "on":
            self._start_asking(state, group=group, sources=sources, now_ms=now_ms)
            return False
        changed = state.drop(group=group, sources=sources)
        # RFC 8652: one query all the same, so that a host nobody knew of gets its stream back
        if group:
            self._querier.ask(state.group)
        else:
            self._querier.ask(state.group, sorted(sources))
        return changed

    def _knows_hosts(self, state: GroupState, now_ms: int) -> bool:
        """True if every listener of the group is tracked: no older host may hide behind another's report."""
        return (
            state.is_tracked
            and not state.adopted_until_ms
            and now_ms >= self._tracked_from_ms
            and self._interface.params.version == self._latest
            and state.compatibility_version(self._latest, now_ms) == self._latest
        )

    # -- limits ------------------------------------------------------------------------------------------------

    def _is_full(self, group: bytes, now_ms: int) -> bool:
        limit = self._interface.params.max_groups
        if limit is None or len(self.groups) < limit or self._outbox.family.is_switched(group):
            return False
        self._interface.counters["rejected-group-limit"] += 1
        self._interface.note_rarely(now_ms, "warning", "limit/groups", limit=limit, group=group, cause="max-groups reached; the new group is refused")
        return True

    def _within_limit(self, state: GroupState, kind: RecordKind, sources: frozenset[bytes], now_ms: int) -> frozenset[bytes]:
        """`sources` without the new ones that exceed the limit; the numerically lowest find room."""
        limit = self._interface.params.max_sources_per_group
        if limit is None or not sources:
            return sources
        known = sources & (state.wanted.keys() | state.blocked)
        # an EXCLUDE list replaces what is there, everything else adds to it
        held = len(known) if kind is _IS_EX or kind is _TO_EX else len(state.wanted) + len(state.blocked)
        fresh = sources - known
        room = max(0, limit - held)
        if len(fresh) <= room:
            return sources
        self._interface.counters["rejected-source-limit"] += 1
        self._interface.note_rarely(
            now_ms, "warning", "limit/sources", limit=limit, group=state.group, cause="max-sources-per-group reached; new sources are refused"
        )
        return known.union(sorted(fresh)[:room])

    # -- the last-member procedure (RFC 3376 6.6.3) --------------------------------------------------------------

    def _start_asking(self, state: GroupState, *, group: bool, sources: Iterable[bytes], now_ms: int) -> None:
        """Lower the timers and ask at once; what is being asked already is not asked twice (QRY-14)."""
        limit_ms = now_ms + self._interface.params.last_member_query_time_ms
        fresh = [source for source in sources if state.wanted.get(source, 0) > limit_ms]
        if group and state.group_queries_left and state.exclude_until_ms <= limit_ms:
            group = False  # the host repeats its leave
        self._begin_round(state, group=group, sources=fresh, now_ms=now_ms)

    def _begin_round(self, state: GroupState, *, group: bool, sources: Iterable[bytes], now_ms: int) -> None:
        params = self._interface.params
        limit_ms = now_ms + params.last_member_query_time_ms
        was_asking = bool(state.group_queries_left or state.source_queries_left)
        fresh = tuple(sources)
        for source in fresh:
            state.wanted[source] = limit_ms
            state.ask_for(source, params.robustness)  # RFC 3376 8.9: last member query count
        if group:
            state.exclude_until_ms = min(state.exclude_until_ms, limit_ms)
            state.group_queries_left = params.robustness
        if group or fresh:
            self._ask_round(state, now_ms, ask_group=group, sources=fresh)
            if not was_asking:
                state.next_query_ms = now_ms + params.last_member_interval_ms

    def _ask_round(self, state: GroupState, now_ms: int, *, ask_group: bool, sources: Iterable[bytes]) -> None:
        """One transmission; the S flag says that the timer was refreshed meanwhile (RFC 3376 6.6.3.1, 6.6.3.2)."""
        limit_ms = now_ms + self._interface.params.last_member_query_time_ms
        if ask_group:
            state.group_queries_left -= 1
            self._querier.ask(state.group, suppress=state.exclude and state.exclude_until_ms > limit_ms)
        refreshed: list[bytes] = []
        doubtful: list[bytes] = []
        for source in sorted(sources):
            left = state.source_queries_left[source] - 1
            if left:
                state.source_queries_left[source] = left
            else:
                del state.source_queries_left[source]
            (refreshed if state.wanted.get(source, 0) > limit_ms else doubtful).append(source)
        if refreshed and not ask_group:  # 6.6.3.2: the group query has said it already
            self._querier.ask(state.group, refreshed, suppress=True)
        if doubtful:
            self._querier.ask(state.group, doubtful)

    def alarm(self, key: bytes, now_ms: int) -> None:
        """A timer of the group `key` has run out, or a query round is due."""
        state = self.groups.get(key)
        if state is None:
            return
        if state.expire(now_ms):
            self._settle(state, "timed out")
        if not state:
            return
        if (state.group_queries_left or state.source_queries_left) and state.next_query_ms <= now_ms:
            # a sequence once begun is finished, even by a router that lost the election meanwhile (QRY-20)
            self._ask_round(state, now_ms, ask_group=state.group_queries_left > 0, sources=tuple(state.source_queries_left))
            state.next_query_ms = now_ms + self._interface.params.last_member_interval_ms
        if state.adopted_until_ms and state.adopted_until_ms <= now_ms:
            self._doubt(state, now_ms)
        self._wake(state)

    def queried(self, query: Query, now_ms: int) -> None:
        """Somebody's specific query without S lowers our timers too (RFC 3376 6.6.1, QRY-19)."""
        state = self.groups.get(query.group) if query.group is not None else None
        if state is None or query.suppress:
            return
        limit_ms = now_ms + self._querier.robustness * query.max_response_ms
        for source in query.sources:
            if state.wanted.get(source, 0) > limit_ms:
                state.wanted[source] = limit_ms
        if not query.sources and state.exclude:
            state.exclude_until_ms = min(state.exclude_until_ms, limit_ms)
        self._wake(state)

    # -- adoption after a restart --------------------------------------------------------------------------------

    def adopt(self, group: bytes, wanted: SourceSet, now_ms: int) -> None:
        """Believe the kernel's entry until the first general query is answered, then ask once more."""
        family = self._outbox.family
        if group in self.groups or (family.stays_on_link(group) and not (self._interface.params.is_port and family.is_switched(group))):
            return
        params = self._interface.params
        until_ms = now_ms + params.query_response_interval_ms + params.last_member_query_time_ms
        state = self._tables(group, now_ms)
        state.adopted_until_ms = now_ms + params.query_response_interval_ms
        state.exclude, state.exclude_until_ms = wanted.inverted, until_ms
        if wanted.inverted:
            state.blocked = wanted.listed
        else:
            state.wanted = dict.fromkeys(wanted.listed, until_ms)
        self.groups[group] = state
        self._tell(group)
        self._wake(state)

    def _doubt(self, state: GroupState, now_ms: int) -> None:
        """What nobody confirmed of an adopted group is asked for the ordinary way, so that one lost answer does no harm."""
        state.adopted_until_ms = 0
        if not self._querier.is_querier:
            return
        limit_ms = now_ms + self._interface.params.last_member_query_time_ms
        unconfirmed = [source for source, at_ms in state.wanted.items() if at_ms <= limit_ms and source not in state.source_queries_left]
        group = state.exclude and state.exclude_until_ms <= limit_ms and not state.group_queries_left
        if group:
            state.exclude_until_ms = limit_ms
        self._begin_round(state, group=group, sources=unconfirmed, now_ms=now_ms)

    # -- bookkeeping -------------------------------------------------------------------------------------------

    def membership(self, group: bytes) -> SourceSet:
        """What this downstream wants of `group`: its hosts and its static entries together."""
        state = self.groups.get(group)
        held = self.static.get(group, NOTHING)
        return (state.membership() | held) if state is not None else held

    def _settle(self, state: GroupState, cause: str) -> None:
        if state:
            self._tell(state.group)
        else:
            self._forget(state, cause)

    def _forget(self, state: GroupState, cause: str) -> None:
        self.groups.pop(state.group, None)
        self._outbox.forget(self, state.group)
        self._interface.note("info", "membership/left", group=state.group, cause=cause)
        self._tell(state.group)

    def _tell(self, group: bytes) -> None:
        self._changed(group, self.membership(group))

    def _wake(self, state: GroupState) -> None:
        at_ms = state.next_ms()
        if at_ms is not None:
            self._outbox.wake(self, state.group, at_ms)


def _tables(interface: Interface) -> type[GroupState]:
    """By which tables records change a group there: those of RFC 3376 6.4, or of RFC 5790 5."""
    return LightweightGroupState if interface.params.lite_exclude_filter else GroupState
