"""The lightweight router of RFC 5790 5: nobody's list of unwanted sources is kept, who excludes some gets all.

A group then is a timer for those who want every source, which `exclude` says, and the sources that somebody named,
each with its own.  The timers run side by side: a source that runs out while the group's still does is forgotten and
forwarded as before, and those that are left when the group's runs out are all that is forwarded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from igmpconf.engine.groupstate import Asked, GroupState
from igmpconf.engine.messages import Record, RecordKind

_NO_SOURCES: frozenset[bytes] = frozenset()
_EXCLUDING = frozenset({RecordKind.IS_EX, RecordKind.TO_EX})


def without_exclude_lists(records: Iterable[Record]) -> tuple[Record, ...]:
    """IS_EX(x) and TO_EX(x) said as IS_EX({}) and TO_EX({}) (RFC 5790 6.1.2); the same records where there is nothing to leave out."""
    return tuple(Record(one.kind, one.group) if one.sources and one.kind in _EXCLUDING else one for one in records)


class LightweightGroupState(GroupState):
    """`blocked` holds what the configuration denies, and nothing that a host said."""

    __slots__ = ()

    def apply(self, kind: RecordKind, listed: frozenset[bytes], until_ms: int) -> Asked:
        """The tables of RFC 5790 5.3 and 5.4."""
        wanted = self.wanted
        if kind in _EXCLUDING:
            before = self.membership()
            self.blocked = listed.difference(wanted) or _NO_SOURCES
            self.exclude, self.exclude_until_ms = True, until_ms
            return Asked(self.membership() != before)
        if kind is RecordKind.BLOCK:
            return Asked(False, sources=listed.intersection(wanted))
        doubtful = frozenset(wanted).difference(listed)
        changed = self._unblock(listed, until_ms) if self.exclude else self._want(listed, until_ms)
        if kind is RecordKind.TO_IN:
            return Asked(changed, group=self.exclude, sources=doubtful)
        return Asked(changed)

    def _block(self, ended: Collection[bytes]) -> bool:
        """A source that runs out is forgotten (RFC 5790 5.1); while the group's timer runs, that changes nothing."""
        return False


def converted(state: GroupState, kind: type[GroupState]) -> GroupState:
    """`state` under the tables of `kind`; who wants every source still has it, and nobody loses one that he named."""
    made = kind(state.group, state.created_ms)
    for name in GroupState.__slots__:
        setattr(made, name, getattr(state, name))
    if made.exclude and isinstance(state, LightweightGroupState):
        made.forget_wanted()  # there, a source that runs out would be one that nobody wants
    return made
