"""The state of one group on one downstream, and the two tables that change it.

`apply` is RFC 3376 6.4.1 and 6.4.2 (RFC 3810 7.4.1 and 7.4.2), row by row; `expire` is 6.2.2, 6.3 and 6.5.  Both
are blind to queriers, policies and packets: what should be asked comes back as `Asked`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from igmpconf.engine.messages import RecordKind
from igmpconf.engine.sources import EVERYTHING, SourceSet

_NO_SOURCES: frozenset[bytes] = frozenset()
_NO_OLDER = (0, 0)
_IS_IN, _IS_EX, _TO_IN, _TO_EX, _ALLOW, _BLOCK = RecordKind  # reading an attribute of an enumeration costs a call in Python 3.11


class Asked(NamedTuple):
    """What the table wants to know before it believes a leave; `changed`: the membership is another now."""

    changed: bool
    group: bool = False
    sources: frozenset[bytes] = _NO_SOURCES


_UNCHANGED = Asked(changed=False)
_CHANGED = Asked(changed=True)


class _Nothing(dict[bytes, int]):
    """The empty dictionary that all groups share: most never need one of their own, and thirty thousand times 64 octets are many."""

    def __setitem__(self, key: bytes, value: int) -> None:
        raise AssertionError("a group must have its own dictionary before it puts something in")

    def setdefault(self, key: bytes, default: int = 0) -> int:
        raise AssertionError("a group must have its own dictionary before it puts something in")


_NOTHING = _Nothing()


class HostState:
    """What one host said last (RFC 6636 3)."""

    __slots__ = ("address", "sources", "until_ms")

    def __init__(self, address: bytes, sources: SourceSet, until_ms: int) -> None:
        self.address = address
        self.sources = sources
        self.until_ms = until_ms


class GroupState:
    """INCLUDE(wanted), or EXCLUDE(wanted, blocked); sources in `wanted` run until the time given there."""

    __slots__ = (
        "_hosts",
        "adopted_until_ms",
        "blocked",
        "created_ms",
        "exclude",
        "exclude_until_ms",
        "group",
        "group_queries_left",
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
        self.wanted: dict[bytes, int] = _NOTHING
        self.blocked = _NO_SOURCES
        self.older_until_ms = _NO_OLDER  # older host present timers of versions 1 and 2; MLD has the first only
        self.group_queries_left = 0
        self.source_queries_left: dict[bytes, int] = _NOTHING
        self.next_query_ms = 0
        self._hosts: HostState | dict[bytes, HostState] | None = None  # nearly every group has one
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
        older = self.older_until_ms
        if older is _NO_OLDER:
            return latest_version
        return 1 if older[0] > now_ms else 2 if older[1] > now_ms else latest_version

    def heard_older(self, version: int, until_ms: int) -> None:
        """A host of an older `version` is present until then."""
        older = self.older_until_ms
        self.older_until_ms = (until_ms, older[1]) if version == 1 else (older[0], until_ms)

    def forget_older(self, least: int) -> None:
        """Hosts of versions before `least` are not heard any more, so none of them is present."""
        kept = tuple(until_ms if version >= least else 0 for version, until_ms in enumerate(self.older_until_ms, start=1))
        self.older_until_ms = (kept[0], kept[1]) if any(kept) else _NO_OLDER

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
            self.wanted = kept or _NOTHING
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
            self.wanted = {source: wanted.get(source, fresh_ms) for source in doubtful} or _NOTHING
            self.blocked = (blocked & listed) or _NO_SOURCES
            self.exclude_until_ms = until_ms
            changed = len(self.blocked) != before
            return Asked(changed, sources=doubtful if kind is _TO_EX else _NO_SOURCES)
        if kind is _BLOCK:  # T10
            doubtful = listed.difference(blocked)
            if doubtful and wanted is _NOTHING:
                wanted = self.wanted = {}
            for source in doubtful:
                wanted.setdefault(source, self.exclude_until_ms)
            return Asked(False, sources=doubtful)
        doubtful = frozenset(wanted).difference(listed)  # T12
        return Asked(self._unblock(listed, until_ms), group=True, sources=doubtful)

    def _want(self, listed: frozenset[bytes], until_ms: int) -> bool:
        wanted = self.wanted
        if listed and wanted is _NOTHING:
            wanted = self.wanted = {}
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
        return self._block(ended)

    def _block(self, ended: Collection[bytes]) -> bool:
        """E2: what was wanted by name in EXCLUDE mode, and is no longer, is what nobody wants; True if the membership changed."""
        self.blocked = self.blocked.union(ended) or _NO_SOURCES
        return bool(ended)

    def forget_wanted(self) -> None:
        """No source is wanted by name."""
        self.wanted = self.source_queries_left = _NOTHING

    def drop(self, *, group: bool, sources: frozenset[bytes]) -> bool:
        """As if the timers of the group, of `sources`, had run out this moment; True if the membership changed."""
        ended = [source for source in sources if self.wanted.pop(source, None) is not None]
        if not self.exclude:
            return bool(ended)
        if not group:
            return self._block(ended)
        self.exclude = False
        self.blocked = _NO_SOURCES
        return True

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
        host = self.host(sender)
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
            self._forget_host(sender)
        elif host is not None:
            host.sources, host.until_ms = after, until_ms
        elif not self._remember_host(HostState(sender, after, until_ms), most_hosts):
            self.is_tracked = False

    def host(self, address: bytes) -> HostState | None:
        """What is known of one host."""
        hosts = self._hosts
        if type(hosts) is HostState:
            return hosts if hosts.address == address else None
        return hosts.get(address) if type(hosts) is dict else None

    def hosts(self) -> Collection[HostState]:
        """All that are tracked, in the order in which they were heard first."""
        hosts = self._hosts
        if type(hosts) is HostState:
            return (hosts,)
        return hosts.values() if type(hosts) is dict else ()

    def begin(self, sender: bytes, until_ms: int) -> None:
        """The first host of a fresh state, which wants every source: the rows T2 and T7 of nothing."""
        self.exclude, self.exclude_until_ms = True, until_ms
        self._hosts = HostState(sender, EVERYTHING, until_ms)
        self.last_reporter = sender

    def ask_for(self, source: bytes, times: int) -> None:
        """So many source-specific queries about `source` are to be sent."""
        if self.source_queries_left is _NOTHING:
            self.source_queries_left = {}
        self.source_queries_left[source] = times

    def _remember_host(self, host: HostState, most_hosts: int) -> bool:
        hosts = self._hosts
        if type(hosts) is HostState:
            hosts = self._hosts = {hosts.address: hosts}
        if type(hosts) is not dict:
            self._hosts = host
        elif len(hosts) < most_hosts:
            hosts[host.address] = host
        else:
            return False
        return True

    def _forget_host(self, address: bytes) -> None:
        hosts = self._hosts
        if type(hosts) is dict:
            hosts.pop(address, None)
        elif type(hosts) is HostState and hosts.address == address:
            self._hosts = None

    def wanted_by_hosts(self, sources: frozenset[bytes], now_ms: int) -> frozenset[bytes]:
        """Those of `sources` that some tracked host still wants."""
        missing = set(sources)
        for host in self.hosts():
            if not missing:
                break
            if host.until_ms > now_ms:
                missing = {source for source in missing if source not in host.sources}
        return sources - missing

    def has_excluding_host(self, now_ms: int) -> bool:
        """True if some tracked host wants every source but a few."""
        return any(host.sources.inverted and host.until_ms > now_ms for host in self.hosts())
