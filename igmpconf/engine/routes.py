"""What the kernel should forward, kept in step by the smallest possible changes.

Three kinds of entries (Linux `ip_mroute`, MRT_ADD_MFC_PROXY):

* (*,*), parent the upstream, leaving by the upstream and every downstream that takes part: lets datagrams that come
  from a downstream reach the upstream unasked (RFC 4605 4.2), and lets the two kinds below match them.
* (*,G), leaving by the downstreams that want G from any source, and by the upstream.  The kernel never sends such a
  datagram back where it came from.
* (S,G), exact, for a source that some downstream treats unlike the rest of G.  It has one parent, the interface that
  S lives behind, and must not list it: the kernel would send the datagram back.

Nothing is emitted before `adopt`: what an earlier process left in the kernel is taken over, not flushed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from igmpconf.engine.effects import ClearRoute, SetRoute
from igmpconf.engine.events import RouteFound
from igmpconf.engine.interface import Interface
from igmpconf.engine.outbox import Outbox
from igmpconf.engine.params import StaticEntry
from igmpconf.engine.prefixes import PrefixSet
from igmpconf.engine.sources import EVERYTHING, SourceSet
from igmpconf.ids import IfIndex

Key = tuple[bytes | None, bytes | None]  # source, group; None: any
Leaving = tuple[tuple[IfIndex, int], ...]  # as in SetRoute: sorted (interface, TTL threshold)

ANY: Key = (None, None)
_ANY_SOURCE: tuple[bytes | None, ...] = (None,)
_MOST_SHARED = 1_000


@dataclass(slots=True)
class Topology:
    """The interfaces that have a vif; `forwarding` are the downstreams that datagrams may pass, in or out."""

    upstream: Interface | None
    downstreams: dict[IfIndex, Interface]
    forwarding: set[IfIndex]

    def interface(self, ifindex: IfIndex) -> Interface | None:
        if self.upstream is not None and self.upstream.ifindex == ifindex:
            return self.upstream
        return self.downstreams.get(ifindex)

    def named(self, name: str) -> Interface | None:
        if self.upstream is not None and self.upstream.name == name:
            return self.upstream
        return next((found for found in self.downstreams.values() if found.name == name), None)

    def home_of(self, source: bytes) -> Interface | None:
        """The interface that `source` lives behind: the one with the longest matching subnet, else the upstream."""
        best, best_length = self.upstream, -1
        if self.upstream is not None:
            best_length = self.upstream.subnets.longest(source) or -1
        for downstream in self.downstreams.values():
            for subnets in (downstream.subnets, downstream.params.alternative_subnets):
                length = subnets.longest(source)
                if length is not None and length > best_length:
                    best, best_length = downstream, length
        return best


class Routes:
    def __init__(self, outbox: Outbox, topology: Topology) -> None:
        self._outbox = outbox
        self._topology = topology
        self._local = PrefixSet((), outbox.family.address_bytes)
        self._has_local = False  # asked for every join, so not of the set
        self._is_bridged = False
        self._static: dict[bytes, tuple[StaticEntry, ...]] = {}
        self._sources: dict[bytes, tuple[bytes | None, ...]] = {}  # installed sources, by group
        self._plain: dict[tuple[IfIndex, ...], tuple[IfIndex, Leaving]] = {}  # by who wants everything; as long as the interfaces are as they are
        self._leavings: dict[Leaving, Leaving] = {}  # one object for all entries that leave alike
        self.installed: dict[Key, tuple[IfIndex, Leaving]] = {}
        self.is_held_back = True

    def reconfigured(self, static_entries: Iterable[StaticEntry], local_groups: PrefixSet, *, is_bridged: bool) -> None:
        """Other permanent entries or local groups; the caller refreshes everything."""
        by_group: dict[bytes, list[StaticEntry]] = {}
        for entry in static_entries:
            by_group.setdefault(entry.group, []).append(entry)
        self._static = {group: tuple(entries) for group, entries in by_group.items()}
        self._local = local_groups
        self._has_local = bool(local_groups)
        self._is_bridged = is_bridged
        self._plain.clear()

    def static_entries(self) -> Iterator[StaticEntry]:
        for entries in self._static.values():
            yield from entries

    def is_static(self, key: Key) -> bool:
        source, group = key
        return group is not None and any(entry.source == source for entry in self._static.get(group, ()))

    def standing_groups(self) -> Iterator[bytes]:
        """Groups that have entries, or should have some, whether anybody wants them or not."""
        yield from tuple(self._sources)
        yield from self._static
        yield from self._local.hosts()

    # -- the kernel before us --------------------------------------------------------------------------------------

    def adopt(self, found: Iterable[RouteFound]) -> None:
        """The kernel holds `found` already; from here on, differences are emitted."""
        self.is_held_back = False
        for route in found:
            leaving, found_ttl = [], dict(route.thresholds)
            for ifindex in sorted(route.oifs):
                interface = self._topology.interface(ifindex)
                configured = interface.params.threshold_ttl if interface is not None else 1
                leaving.append((ifindex, found_ttl.get(ifindex, configured)))
            self._remember((route.source, route.group), (route.iif, tuple(leaving)))

    # -- keeping in step ---------------------------------------------------------------------------------------------

    def refresh_any(self) -> None:
        """The (*,*) entry follows the interfaces."""
        self._plain.clear()
        wanted = self._any()
        self._install({ANY: wanted} if wanted is not None else {}, (ANY,) if ANY in self.installed else ())

    def refresh(self, group: bytes, wants: Mapping[IfIndex, SourceSet]) -> None:
        """Bring the entries of `group` in step with what the downstreams want of it."""
        present = self._sources.get(group, ())
        plain = self._plain_entry(group, wants) if wants else None
        if plain is not None and (not present or present == _ANY_SOURCE):
            key = (None, group)
            if self.installed.get(key) != plain:
                self._remember(key, plain)
                self._outbox.emit(SetRoute(None, group, *plain))
            return
        self._install(self._wanted(group, wants), [(source, group) for source in present])

    def foreseen(self, group: bytes, takers: tuple[IfIndex, ...]) -> SetRoute | None:
        """What `refresh` will state once `takers` want everything of `group`, in this order, and nobody anything else; None: not at a glance."""
        if self.is_held_back or group in self._static or (self._has_local and group in self._local) or self._sources.get(group, _ANY_SOURCE) != _ANY_SOURCE:
            return None
        plain = self._plain.get(takers)
        return SetRoute(None, group, *plain) if plain is not None and self.installed.get((None, group)) != plain else None

    def _plain_entry(self, group: bytes, wants: Mapping[IfIndex, SourceSet]) -> tuple[IfIndex, Leaving] | None:
        """The only entry of a group that some want from any source and nobody in another way: as `_wanted` has it, by fewer steps."""
        if self.is_held_back or group in self._static or (self._has_local and group in self._local) or self._outbox.family.stays_on_link(group):
            return None
        for wanted in wants.values():
            if wanted is not EVERYTHING:
                return None
        takers = tuple(wants)
        plain = self._plain.get(takers)
        if plain is None:  # the next group that the same want is foreseen
            plain = self._wanted(group, wants).get((None, group))
            if plain is not None and len(self._plain) < _MOST_SHARED:
                self._plain[takers] = plain
        return plain

    def _install(self, wanted: Mapping[Key, tuple[IfIndex, Leaving]], present: Iterable[Key]) -> None:
        if self.is_held_back:
            return
        for key, (iif, leaving) in wanted.items():
            if self.installed.get(key) != (iif, leaving):
                self._remember(key, (iif, leaving))
                self._outbox.emit(SetRoute(*key, iif, leaving))
        for key in present:
            if key not in wanted:
                self._forget(key)
                self._outbox.emit(ClearRoute(*key))

    def truth(self, key: Key) -> SetRoute | ClearRoute:
        """The effect that brings the kernel in step about `key`, for another attempt."""
        wanted = self.installed.get(key)
        return SetRoute(*key, *wanted) if wanted is not None else ClearRoute(*key)

    def _remember(self, key: Key, entry: tuple[IfIndex, Leaving]) -> None:
        source, group = key
        if group is not None and key not in self.installed:
            present = self._sources.get(group, ())
            self._sources[group] = (*present, source) if present or source is not None else _ANY_SOURCE
        self.installed[key] = entry

    def _forget(self, key: Key) -> None:
        del self.installed[key]
        source, group = key
        if group is not None:
            left = tuple(other for other in self._sources[group] if other != source)
            if left:
                self._sources[group] = left
            else:
                del self._sources[group]

    # -- what is wanted ----------------------------------------------------------------------------------------------

    def _leaving(self, interfaces: Iterable[IfIndex]) -> Leaving:
        pairs = []
        for ifindex in sorted(interfaces):
            interface = self._topology.interface(ifindex)
            if interface is not None:
                pairs.append((ifindex, interface.params.threshold_ttl))
        leaving = tuple(pairs)
        if len(self._leavings) >= _MOST_SHARED:
            self._leavings.clear()
        return self._leavings.setdefault(leaving, leaving)

    def _any(self) -> tuple[IfIndex, Leaving] | None:
        upstream = self._topology.upstream
        if upstream is None:
            return None
        # a downstream whose querier is another router must not feed the upstream: that router does
        return upstream.ifindex, self._leaving((upstream.ifindex, *self._topology.forwarding))

    def _wanted(self, group: bytes, wants: Mapping[IfIndex, SourceSet]) -> dict[Key, tuple[IfIndex, Leaving]]:
        topology, upstream = self._topology, self._topology.upstream
        entries: dict[Key, tuple[IfIndex, Leaving]] = {}
        family = self._outbox.family
        if upstream is not None and (not family.stays_on_link(group) or (self._is_bridged and family.is_switched(group))):
            up = upstream.ifindex
            is_local = self._has_local and group in self._local
            beyond = () if is_local else (up,)
            open_ = [(ifindex, wanted) for ifindex, wanted in wants.items() if ifindex in topology.forwarding]
            any_source = [ifindex for ifindex, wanted in open_ if wanted.inverted]
            if any_source or (is_local and not self._is_bridged and group in self._local.hosts()):
                # a local group has an entry even without listeners, or (*,*) would let it out; a bridge has rules for that
                entries[None, group] = (up, self._leaving((*beyond, *any_source)))
            for source in sorted({source for _, wanted in open_ for source in wanted.listed}):
                home = topology.home_of(source) or upstream
                if home is not upstream and home.ifindex not in topology.forwarding:
                    entries[source, group] = (home.ifindex, ())
                    continue
                takers = {ifindex for ifindex, wanted in open_ if source in wanted}
                entries[source, group] = (home.ifindex, self._leaving({*takers, *beyond} - {home.ifindex}))
        for entry in self._static.get(group, ()):
            permanent = self._permanent(entry)
            if permanent is not None:
                entries[entry.source, group] = permanent
        return entries

    def _permanent(self, entry: StaticEntry) -> tuple[IfIndex, Leaving] | None:
        arrival = self._topology.upstream if entry.iif is None else self._topology.named(entry.iif)
        if arrival is None:
            return None
        leaving = {found.ifindex for name in entry.oifs if (found := self._topology.named(name)) is not None}
        # an exact entry must not list its parent; a (*,G) needs it so that sources behind downstreams match
        leaving = leaving | {arrival.ifindex} if entry.source is None else leaving - {arrival.ifindex}
        return arrival.ifindex, self._leaving(leaving)
