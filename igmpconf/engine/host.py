"""The host side on the upstream: what the proxy says it wants, to whoever asks there (RFC 4605 4.1, RFC 3376 5).

Changes are said at once and repeated (5.1), queries are answered after a random delay (5.2), and older queriers are
spoken to in their version (7.2).  Everything decided within one event leaves in as few packets as possible, when
`flush` is called.  Where the wanted sets come from is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable

from igmpconf.engine.interface import Interface
from igmpconf.engine.messages import Query, Record, RecordKind, Report
from igmpconf.engine.sources import NOTHING, SourceSet

_GENERAL = b""  # alarm of the interface itself: the general answer and the older-querier timers
_UNSOLICITED_LATEST_MS = 1_000  # RFC 3376 8.11, RFC 3810 9.11
_UNSOLICITED_OLDER_MS = 10_000  # RFC 2236 8.10, RFC 2710 7.10
_TOGETHER_MS = 50  # copies wait for one another at most this long: at 1,000 joins a second they then cost a twentieth of the packets
_DEFAULT_AGING_MS = 250_000  # RFC 9776 8.12 with the default robustness 2 and query interval 125 s
_AGAIN_MS, _LAST_AGAIN_MS, _FORGIVEN_MS = 50, 5_000, 20_000  # ours: a report that the kernel had no room for is said again after so long
_MOST_RECORDED_SOURCES = 1_000  # of a query's sources; beyond it we answer for the whole group (RFC 3376 9.1)

_JOIN, _LEAVE = RecordKind.IS_EX, RecordKind.TO_IN  # what older versions can say


class HeldGroup:
    """One record of the membership database as told upstream, and what is still to be said about it."""

    __slots__ = ("answer_at_ms", "asked_sources", "change_at_ms", "is_last_reporter", "mode_left", "repeats_left", "sources_left", "wanted")

    def __init__(self) -> None:
        self.wanted = NOTHING
        self.mode_left = 0  # copies of the filter-mode change still to send
        self.sources_left: dict[bytes, int] | None = None  # copies of each source change still to send
        self.repeats_left = 0  # older versions: unsolicited reports still to send
        self.change_at_ms = 0  # when the next copy is due; 0: none
        self.answer_at_ms = 0  # when a query about this group is answered; 0: none pending
        self.asked_sources: set[bytes] | None = None  # None: the pending answer is for the whole group
        self.is_last_reporter = False


class Host:
    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._outbox = interface.outbox
        self._family = interface.outbox.family
        self.groups: dict[bytes, HeldGroup] = {}
        self._older_until_ms: dict[int, int] = {}  # older querier present timers, by version
        self._general_at_ms = 0
        self._robustness: int | None = None  # as the upstream's querier says it
        self._refused_ms = -_FORGIVEN_MS - 1  # when the kernel had no room last
        self._again_ms = _AGAIN_MS
        self._changes: dict[bytes, None] = {}  # groups whose change is said at the next flush, in order
        self._answers: list[Record] = []
        self._change_delay_ms = 0  # one draw for all changes of an event, so that their copies share packets too
        self.version = interface.params.version  # spoken now

    # -- what is wanted ------------------------------------------------------------------------------------------

    def want(self, group: bytes, wanted: SourceSet) -> None:
        """The merged membership of `group` is now `wanted`."""
        held = self.groups.get(group)
        if held is None:
            if not wanted:
                return
            held = self.groups[group] = HeldGroup()
        before, held.wanted = held.wanted, wanted
        if before == wanted:
            return
        if self.version < self._family.latest_version:
            self._want_older(group, held, was_held=bool(before))
            return
        count = self._robustness or self._interface.params.robustness
        if before.inverted is not wanted.inverted:
            held.mode_left = count
            held.sources_left = None  # a mode change carries the whole list
        else:
            held.sources_left = {**(held.sources_left or {}), **dict.fromkeys(before.listed ^ wanted.listed, count)}
        self._changes[group] = None

    def _want_older(self, group: bytes, held: HeldGroup, *, was_held: bool) -> None:
        """Older versions know presence only: a record appears or disappears (UP-16)."""
        if held.wanted and not was_held:
            held.repeats_left = self._robustness or self._interface.params.robustness
            self._changes[group] = None
        elif not held.wanted:
            if held.is_last_reporter and self.version >= self._family.leave_version:
                self._say(Record(_LEAVE, group))
            self._drop(group)

    def resend(self) -> None:
        """The upstream is new, or has a new address: say everything again as if it were news (UP-25)."""
        for group, held in tuple(self.groups.items()):
            wanted, held.wanted = held.wanted, NOTHING
            held.mode_left = 0
            held.sources_left = None
            if wanted:
                self.want(group, wanted)
            else:
                self._drop(group)

    def leave_all(self, now_ms: int) -> None:
        """Say goodbye to everything at once (UP-26); nothing stays pending."""
        self._cancel()
        for group, held in tuple(self.groups.items()):
            if held.wanted:
                self.want(group, NOTHING)
        self.flush(now_ms)
        self.forget_all()

    def forget_all(self) -> None:
        """Say nothing any more: the link is not ours, or not there."""
        for group in tuple(self.groups):
            self._drop(group)
        self._outbox.forget(self, _GENERAL)

    # -- queries -------------------------------------------------------------------------------------------------

    def query(self, query: Query, now_ms: int) -> None:
        """Somebody asks: RFC 3376 5.2 and 7.2.1."""
        latest = self._family.latest_version
        if query.version < latest and (query.group is None or self._family.specific_queries_age):
            until_ms = now_ms + _DEFAULT_AGING_MS + self._family.older_querier_responses * query.max_response_ms
            self._older_until_ms[query.version] = until_ms
            self._outbox.wake(self, _GENERAL, until_ms)
            self._choose_version(now_ms)
        if query.robustness is not None:
            self._robustness = query.robustness
        if self.version < latest:
            self._schedule_older(query, now_ms)
        else:
            self._schedule_latest(query, now_ms)

    def _schedule_latest(self, query: Query, now_ms: int) -> None:
        """The five rules of RFC 3376 5.2, in their order."""
        at_ms = now_ms + self._outbox.draw(max(1, query.max_response_ms))
        if self._general_at_ms and self._general_at_ms <= at_ms:
            return  # rule 1
        if query.group is None:
            self._general_at_ms = at_ms  # rule 2
            self._outbox.wake(self, _GENERAL, at_ms)
            return
        held = self.groups.get(query.group)
        if held is None or not held.wanted:
            return
        if not held.answer_at_ms:  # rule 3
            held.answer_at_ms = at_ms
            held.asked_sources = set(query.sources) if query.sources else None
        elif not query.sources or held.asked_sources is None:  # rule 4
            held.answer_at_ms = min(held.answer_at_ms, at_ms)
            held.asked_sources = None
        else:  # rule 5
            held.answer_at_ms = min(held.answer_at_ms, at_ms)
            held.asked_sources.update(query.sources)
        if held.asked_sources is not None and len(held.asked_sources) > _MOST_RECORDED_SOURCES:
            held.asked_sources = None
        self._outbox.wake(self, query.group, held.answer_at_ms)

    def _schedule_older(self, query: Query, now_ms: int) -> None:
        """A delay of its own for every group (RFC 2236 3); a running one stays unless the query wants it sooner."""
        groups = self.groups if query.group is None else (query.group,)
        least = self._family.smallest_answer_ms
        for group in groups:
            held = self.groups.get(group)
            if held is None or not held.wanted:
                continue
            if held.answer_at_ms and held.answer_at_ms - now_ms <= query.max_response_ms:
                continue
            held.answer_at_ms = now_ms + self._outbox.draw(max(1, query.max_response_ms + 1 - least)) - 1 + least
            held.asked_sources = None
            self._outbox.wake(self, group, held.answer_at_ms)

    def report(self, report: Report) -> None:
        """Another host of the upstream link reported in an older version: ours is not needed (RFC 2236 3)."""
        if self.version >= self._family.latest_version or report.version >= self._family.latest_version:
            return  # UP-22: the latest version never suppresses
        for record in report.records:
            held = self.groups.get(record.group)
            if held is not None and record.kind is _JOIN and (held.answer_at_ms or held.change_at_ms):
                held.answer_at_ms = held.change_at_ms = held.repeats_left = 0
                held.is_last_reporter = False

    def not_sent(self, groups: Iterable[bytes], now_ms: int) -> None:
        """A report of `groups` did not leave: say what is wanted of them now, soon and, while that fails too, ever later."""
        if now_ms - self._refused_ms > _FORGIVEN_MS:
            self._again_ms = _AGAIN_MS
        elif now_ms != self._refused_ms:
            self._again_ms *= 2
        self._refused_ms = now_ms
        if self._again_ms > _LAST_AGAIN_MS:
            return  # this is no passing shortage; the next query is answered as any other
        for group in groups:
            held = self.groups.get(group)
            if held is not None and held.wanted:
                held.answer_at_ms = min(held.answer_at_ms or now_ms + self._again_ms, now_ms + self._again_ms)
                held.asked_sources = None
                self._outbox.wake(self, group, held.answer_at_ms)

    def reconfigured(self, now_ms: int) -> None:
        """The configured version may be another, and older queriers may be such that are not heard any more."""
        least = self._interface.params.minimum_version
        self._older_until_ms = {version: until_ms for version, until_ms in self._older_until_ms.items() if version >= least}
        self._choose_version(now_ms)

    def _choose_version(self, now_ms: int) -> None:
        """The oldest version that is configured or asked in lately; a switch ends everything pending (UP-14)."""
        self._older_until_ms = {version: until_ms for version, until_ms in self._older_until_ms.items() if until_ms > now_ms}
        version = min((self._interface.params.version, *self._older_until_ms))
        if version == self.version:
            return
        cause = f"a version {version} query arrived" if version in self._older_until_ms else "no older querier is heard any more"
        self._interface.note("info", "upstream/version", version=version, was=self.version, cause=cause)
        self.version = version
        self._cancel()

    def _cancel(self) -> None:
        self._general_at_ms = 0
        self._changes.clear()
        for group, held in tuple(self.groups.items()):
            held.mode_left = held.repeats_left = held.change_at_ms = held.answer_at_ms = 0
            held.sources_left = None
            # whoever said it in another version said it last; a leave in the new version is then due to us
            held.is_last_reporter = True
            if not held.wanted:
                self._drop(group)

    # -- time and packets ------------------------------------------------------------------------------------------

    def alarm(self, key: bytes, now_ms: int) -> None:
        if key == _GENERAL:
            self._alarm_interface(now_ms)
            return
        held = self.groups.get(key)
        if held is None:
            return
        if held.answer_at_ms and held.answer_at_ms <= now_ms:
            held.answer_at_ms = 0
            self._answer(key, held)
        if held.change_at_ms and held.change_at_ms <= now_ms:
            held.change_at_ms = 0
            self._changes[key] = None
        self._wake(key, held)

    def _alarm_interface(self, now_ms: int) -> None:
        self._choose_version(now_ms)
        if self._general_at_ms and self._general_at_ms <= now_ms:
            self._general_at_ms = 0
            for group, held in self.groups.items():
                if held.wanted:
                    self._answers.append(_current_state(group, held.wanted))
        deadlines = [*self._older_until_ms.values(), *([self._general_at_ms] if self._general_at_ms else [])]
        if deadlines:
            self._outbox.wake(self, _GENERAL, min(deadlines))

    def _answer(self, group: bytes, held: HeldGroup) -> None:
        if not held.wanted:
            return
        if self.version < self._family.latest_version:
            held.is_last_reporter = True
            self._say(Record(_JOIN, group))
        elif held.asked_sources is None:
            self._answers.append(_current_state(group, held.wanted))
        else:
            wanted = frozenset(source for source in held.asked_sources if source in held.wanted)
            held.asked_sources = None
            if wanted:
                self._answers.append(Record(RecordKind.IS_IN, group, wanted))

    def flush(self, now_ms: int) -> None:
        """Send what this event has caused."""
        if self._answers:
            self._send(self._answers)
            self._answers = []
        if not self._changes:
            return
        changes, self._changes = self._changes, {}
        self._change_delay_ms = 0
        records: list[Record] = []
        for group in changes:
            held = self.groups.get(group)
            if held is None:
                continue
            if self.version < self._family.latest_version:
                if held.repeats_left:
                    held.repeats_left -= 1
                    held.is_last_reporter = True
                    records.append(Record(_JOIN, group))
            else:
                records.extend(_state_changes(group, held))
            if held.mode_left or held.sources_left or held.repeats_left:
                held.change_at_ms = self._copy_at_ms(now_ms)
            else:
                held.change_at_ms = 0
                if not held.wanted:
                    self._drop(group)
                    continue
            self._wake(group, held)
        self._send(records)

    def _copy_at_ms(self, now_ms: int) -> int:
        """When the copies of what this event changed are due: one draw for all, and at moments that other events' copies share."""
        is_latest = self.version == self._family.latest_version
        if not self._change_delay_ms:
            self._change_delay_ms = self._outbox.draw(_UNSOLICITED_LATEST_MS if is_latest else _UNSOLICITED_OLDER_MS)
        at_ms = now_ms + self._change_delay_ms
        shared_ms = at_ms - at_ms % _TOGETHER_MS  # never later than drawn; only the latest version packs records
        return shared_ms if is_latest and shared_ms > now_ms else at_ms

    def _say(self, record: Record) -> None:
        self._send((record,))

    def _send(self, records: Iterable[Record]) -> None:
        version = self.version
        for destination, payload in self._family.encode_report(version, records, self._interface.mtu_bytes):
            kind = "leave" if destination == self._family.all_routers else "report"
            self._interface.send(destination, payload, f"sent-{kind}-v{version}")

    def _wake(self, group: bytes, held: HeldGroup) -> None:
        for at_ms in (held.answer_at_ms, held.change_at_ms):
            if at_ms:
                self._outbox.wake(self, group, at_ms)

    def _drop(self, group: bytes) -> None:
        self.groups.pop(group, None)
        self._changes.pop(group, None)
        self._outbox.forget(self, group)


def _current_state(group: bytes, wanted: SourceSet) -> Record:
    return Record(RecordKind.IS_EX if wanted.inverted else RecordKind.IS_IN, group, wanted.listed)


def _state_changes(group: bytes, held: HeldGroup) -> list[Record]:
    """The records that the next copy carries (RFC 3376 5.1); counts them as sent.

    While a mode change is being repeated it carries the whole current list, so it is a copy of every pending source
    change too; what is then left continues as ALLOW and BLOCK.
    """
    wanted = held.wanted
    pending = held.sources_left or {}
    held.sources_left = {source: left - 1 for source, left in pending.items() if left > 1} or None
    if held.mode_left:
        held.mode_left -= 1
        return [Record(RecordKind.TO_EX if wanted.inverted else RecordKind.TO_IN, group, wanted.listed)]
    allowed = frozenset(source for source in pending if source in wanted)
    blocked = frozenset(pending) - allowed
    kinds = ((RecordKind.ALLOW, allowed), (RecordKind.BLOCK, blocked))
    return [Record(kind, group, sources) for kind, sources in kinds if sources]
