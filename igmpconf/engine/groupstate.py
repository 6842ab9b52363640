"""The state of one group on one downstream, and the two tables that change it.

`apply` is RFC 3376 6.4.1 and 6.4.2 (RFC 3810 7.4.1 and 7.4.2), row by row; `expire` is 6.2.2, 6.3 and 6.5.  Both
are blind to queriers, policies and packets: what should be asked comes back as `Asked`.
"""

from __future__ import annotations

from typing import NamedTuple

from igmpconf.engine.messages import RecordKind
from igmpconf.engine.sources import EVERYTHING, SourceSet

_NO_SOURCES: frozenset[bytes] = frozenset()
_IS_IN, _IS_EX, _TO_IN, _TO_EX, _ALLOW, _BLOCK = RecordKind  # reading an attribute of an enumeration costs a call in Python 3.11


class Asked(NamedTuple):
    """What the table wants to know before it believes a leave; `changed`: the membership is another now."""

    changed: bool
    group: bool = False
    sources: frozenset[bytes] = _NO_SOURCES


_UNCHANGED = Asked(changed=False)
_CHANGED = Asked(changed=True)


class HostState:
    """What one host said last (RFC 6636 3)."""

    __slots__ = ("sources", "until_ms")

    def __init__(self, sources: SourceSet, until_ms: int) -> None:
        self.sources = sources
        self.until_ms = until_ms


class GroupState:
    """INCLUDE(wanted), or EXCLUDE(wanted, blocked); sources in `wanted` run until the time given there."""

    __slots__ = (
        "adopted_until_ms",
        "blocked",
        "created_ms",
        "exclude",
        "exclude_until_ms",
        "group",
        "group_queries_left",
        "hosts",
        "is_tracked",
        "last_reporter",
        "next_query_ms",
        "older_until_ms",
        "source_queries_left",
        "wanted",
    )

    def __init__(self, group: bytes, now_ms: int) -> None:
        self.group = group
        self.created_ms = now_ms
        self.exclude = False
        self.exclude_until_ms = 0  # group timer; has meaning in EXCLUDE mode only (RFC 3376 6.2.2)
        self.wanted: dict[bytes, int] = {}
        self.blocked = _NO_SOURCES
        self.older_until_ms: dict[int, int] = {}  # older host present timers, by version
        self.group_queries_left = 0
        self.source_queries_left: dict[bytes, int] = {}
        self.next_query_ms = 0
        self.hosts: dict[bytes, HostState] = {}
        self.is_tracked = True  # False: some listener cannot be told from another
        self.adopted_until_ms = 0  # not 0: taken over from the kernel, and hosts have until then to confirm it
        self.last_reporter: bytes | None = None

    def __bool__(self) -> bool:
        return self.exclude or bool(self.wanted)

    def membership(self) -> SourceSet:
        """What is forwarded (table of RFC 3376 6.3), which is also what is merged (RFC 4605 4.1)."""
        if self.exclude:
            return SourceSet(self.blocked, True) if self.blocked else EVERYTHING
        return SourceSet(frozenset(self.wanted))

    def compatibility_version(self, latest_version: int, now_ms: int) -> int:
        """The oldest version among hosts heard lately (RFC 3376 7.3.2)."""
        if self.older_until_ms:
            for version in sorted(self.older_until_ms):
                if self.older_until_ms[version] > now_ms:
                    return version
            self.older_until_ms.clear()
        return latest_version

    def apply(self, kind: RecordKind, listed: frozenset[bytes], until_ms: int) -> Asked:
        """The row for (mode, kind); `until_ms` is now plus the group membership interval."""
        return self._apply_excluding(kind, listed, until_ms) if self.exclude else self._apply_including(kind, listed, until_ms)

    def _apply_including(self, kind: RecordKind, listed: frozenset[bytes], until_ms: int) -> Asked:
        wanted = self.wanted
        if kind is _IS_IN or kind is _ALLOW:  # T1, T5
            return _CHANGED if self._want(listed, until_ms) else _UNCHANGED
        if kind is _IS_EX or kind is _TO_EX:  # T2, T7
            kept = {source: at_ms for source, at_ms in wanted.items() if source in listed}
            self.blocked = listed.difference(wanted) or _NO_SOURCES
            self.wanted = kept
            self.exclude, self.exclude_until_ms = True, until_ms
            return Asked(True, sources=frozenset(kept)) if kind is _TO_EX else _CHANGED
        if kind is _BLOCK:  # T6
            return Asked(False, sources=listed.intersection(wanted))
        doubtful = frozenset(wanted).difference(listed)  # T8
        return Asked(self._want(listed, until_ms), sources=doubtful)

    def _apply_excluding(self, kind: RecordKind, listed: frozenset[bytes], until_ms: int) -> Asked:
        wanted, blocked = self.wanted, self.blocked
        if kind is _IS_IN or kind is _ALLOW:  # T3, T9
            return _CHANGED if self._unblock(listed, until_ms) else _UNCHANGED
        if kind is _IS_EX or kind is _TO_EX:  # T4, T11
            # T4 gives new sources the membership interval, T11 what the group timer still has
            fresh_ms = until_ms if kind is _IS_EX else self.exclude_until_ms
            doubtful = listed.difference(blocked)
            before = len(blocked)
            self.wanted = {source: wanted.get(source, fresh_ms) for source in doubtful}
            self.blocked = (blocked & listed) or _NO_SOURCES
            self.exclude_until_ms = until_ms
            changed = len(self.blocked) != before
            return Asked(changed, sources=doubtful if kind is _TO_EX else _NO_SOURCES)
        if kind is _BLOCK:  # T10
            doubtful = listed.difference(blocked)
            for source in doubtful:
                wanted.setdefault(source, self.exclude_until_ms)
            return Asked(False, sources=doubtful)
        doubtful = frozenset(wanted).difference(listed)  # T12
        return Asked(self._unblock(listed, until_ms), group=True, sources=doubtful)

    def _want(self, listed: frozenset[bytes], until_ms: int) -> bool:
        wanted = self.wanted
        before = len(wanted)
        for source in listed:
            wanted[source] = until_ms
        return len(wanted) != before

    def _unblock(self, listed: frozenset[bytes], until_ms: int) -> bool:
        self._want(listed, until_ms)
        before = len(self.blocked)
        self.blocked = (self.blocked - listed) or _NO_SOURCES
        return len(self.blocked) != before

    def expire(self, now_ms: int) -> bool:
        """Rows E1 to E4; True if the membership changed.  A timer that says `now_ms` has run out."""
        wanted = self.wanted
        ended = [source for source, at_ms in wanted.items() if at_ms <= now_ms] if wanted else ()
        for source in ended:
            del wanted[source]
        if not self.exclude:
            return bool(ended)
        if self.exclude_until_ms <= now_ms:
            self.exclude = False
            self.blocked = _NO_SOURCES
            return True
        self.blocked = self.blocked.union(ended) or _NO_SOURCES
        return bool(ended)

    def drop(self, *, group: bool, sources: frozenset[bytes]) -> bool:
        """As if the timers of the group, of `sources`, had run out this moment; True if the membership changed."""
        ended = [source for source in sources if self.wanted.pop(source, None) is not None]
        if self.exclude and not group:
            self.blocked = self.blocked.union(ended) or _NO_SOURCES
        elif self.exclude:
            self.exclude = False
            self.blocked = _NO_SOURCES
            return True
        return bool(ended)

    def next_ms(self) -> int | None:
        """When `expire` or the next query round has something to do."""
        times = list(self.wanted.values())
        if self.exclude:
            times.append(self.exclude_until_ms)
        if self.group_queries_left or self.source_queries_left:
            times.append(self.next_query_ms)
        if self.adopted_until_ms:
            times.append(self.adopted_until_ms)
        return min(times, default=None)

    # -- hosts -------------------------------------------------------------------------------------------------

    def hear(self, sender: bytes, kind: RecordKind, listed: frozenset[bytes], until_ms: int, most_hosts: int) -> None:
        """Remember what `sender` wants; IS_IN only adds, because it may answer for a part (RFC 3376 5.2)."""
        self.last_reporter = sender
        host = self.hosts.get(sender)
        said = SourceSet(listed)
        before = host.sources if host is not None else SourceSet()
        if kind is _IS_EX or kind is _TO_EX:
            after = SourceSet(listed, True) if listed else EVERYTHING
        elif kind is _TO_IN:
            after = said
        elif kind is _BLOCK:
            after = before - said
        else:
            after = before | said
        if not after:
            self.hosts.pop(sender, None)
        elif host is not None:
            host.sources, host.until_ms = after, until_ms
        elif len(self.hosts) < most_hosts:
            self.hosts[sender] = HostState(after, until_ms)
        else:
            self.is_tracked = False

    def wanted_by_hosts(self, sources: frozenset[bytes], now_ms: int) -> frozenset[bytes]:
        """Those of `sources` that some tracked host still wants."""
        missing = set(sources)
        for host in self.hosts.values():
            if not missing:
                break
            if host.until_ms > now_ms:
                missing = {source for source in missing if source not in host.sources}
        return sources - missing

    def has_excluding_host(self, now_ms: int) -> bool:
        """True if some tracked host wants every source but a few."""
        return any(host.sources.inverted and host.until_ms > now_ms for host in self.hosts.values())
