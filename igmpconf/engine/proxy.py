"""The membership database of RFC 4605 4.1: what each downstream wants, and what that makes together.

INCLUDE and EXCLUDE merge by set union (RFC 3376 3.2 with sources.py).  Changes only mark a group as dirty; the engine
settles all dirty groups at the end of an event, so that many records of one packet cost one merge and one packet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from igmpconf.engine.params import InstanceParams, StaticEntry
from igmpconf.engine.prefixes import PrefixSet
from igmpconf.engine.sources import EVERYTHING, NOTHING, SourceSet
from igmpconf.ids import IfIndex

_NOBODY: Mapping[IfIndex, SourceSet] = {}
_MOST_ALIKE = 1_000


class Proxy:
    def __init__(self, address_bytes: int, stays_on_link: Callable[[bytes], bool]) -> None:
        self._stays_on_link = stays_on_link
        self._wants: dict[bytes, Mapping[IfIndex, SourceSet]] = {}  # never changed in place: groups share them
        self._alike: dict[tuple[IfIndex, ...], Mapping[IfIndex, SourceSet]] = {}
        self._static: dict[bytes, SourceSet] = {}
        self.local_groups = PrefixSet((), address_bytes)
        self.database: dict[bytes, SourceSet] = {}  # what upstream should be told
        self.dirty: dict[bytes, None] = {}  # in the order in which they changed

    def wants(self, group: bytes) -> Mapping[IfIndex, SourceSet]:
        """Who wants what of `group`, by downstream."""
        return self._wants.get(group, _NOBODY)

    def groups(self) -> Iterable[bytes]:
        """Every group that some downstream wants."""
        return self._wants

    def contribute(self, ifindex: IfIndex, group: bytes, wanted: SourceSet) -> None:
        """The downstream `ifindex` now wants `wanted` of `group`."""
        before = self._wants.get(group, _NOBODY)
        if wanted:
            self._wants[group] = self._one_of_many({**before, ifindex: wanted})
        elif ifindex in before:
            left = {other: has for other, has in before.items() if other != ifindex}
            if left:
                self._wants[group] = self._one_of_many(left)
            else:
                del self._wants[group]
        self.dirty[group] = None

    def _one_of_many(self, wants: Mapping[IfIndex, SourceSet]) -> Mapping[IfIndex, SourceSet]:
        """One object for all groups that the same downstreams want from any source, which nearly all groups are."""
        for wanted in wants.values():
            if wanted is not EVERYTHING:
                return wants
        if len(self._alike) >= _MOST_ALIKE:
            self._alike.clear()
        return self._alike.setdefault(tuple(wants), wants)

    def reconfigured(self, instance: InstanceParams | None, address_bytes: int) -> None:
        """Permanent entries that join hold their membership like a downstream would (DB-10); local groups stay inside."""
        self.local_groups = instance.local_groups if instance is not None else PrefixSet((), address_bytes)
        self._static = {}
        for entry in instance.static_entries if instance is not None else ():
            if _joins(entry) and not (instance is not None and entry.source is None and entry.group in instance.ssm_range):
                wanted = EVERYTHING if entry.source is None else SourceSet(frozenset((entry.source,)))
                self._static[entry.group] = self._static.get(entry.group, NOTHING) | wanted
        for group in (*self._wants, *self.database, *self._static):
            self.dirty[group] = None

    def merged(self, group: bytes) -> SourceSet:
        """What upstream should be told of `group`."""
        if group in self.local_groups or self._stays_on_link(group):
            return NOTHING
        together = self._static.get(group, NOTHING)
        for wanted in self.wants(group).values():
            together |= wanted
        return together

    def settle(self, group: bytes) -> SourceSet | None:
        """Merge again; the new set if it differs from what upstream was told, else None."""
        merged = self.merged(group)
        if merged == self.database.get(group, NOTHING):
            return None
        if merged:
            self.database[group] = merged
        else:
            del self.database[group]
        return merged


def _joins(entry: StaticEntry) -> bool:
    return entry.joins and entry.iif is None
