"""Turns an engine's effects into kernel truth and hands back those the kernel refused.

Of one batch, forwarding comes before messages and messages before log lines: a listener waits for the entry, nobody
waits for the line.  A vif that goes is the last to be touched, so that what is sent or cleared still finds it.

The engine speaks of interfaces; the kernel's entries speak of vif numbers.  The performer keeps the wanted entries as
the engine stated them and translates: an entry whose oif has no vif yet is made without it and completed when the vif
comes, so that one refused interface does not stop the others, and a vif number that is used again never forwards for
its former owner.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

from igmpconf.engine.effects import ClearRoute, ClearVif, Effect, Note, SendPacket, SetRoute, SetVif
from igmpconf.engine.events import EffectFailed
from igmpconf.ids import IfIndex, VifIndex
from igmpconf.linux.kernel import MAX_VIFS, NOT_AN_OIF, MulticastTable, RouteEntry

# What is already gone needs no clearing: the kernel removes a vif with its interface.
_GONE = frozenset({errno.EADDRNOTAVAIL, errno.ENOENT, errno.ENODEV})

_RANK: dict[type[Effect], int] = {SetVif: 0, SetRoute: 1, ClearRoute: 1, SendPacket: 2, ClearVif: 3, Note: 4}

_Key = tuple[bytes | None, bytes | None]
_MOST_SHARED = 1_000


class Performer:
    """Performs effects on one table.

    Life cycle: starts with the vifs and entries that the table already has (none, unless it was held); the engine
    claims them by stating them; `forget_unclaimed` removes the vifs nobody claimed.
    """

    def __init__(self, table: MulticastTable, log: Callable[[Note], None]) -> None:
        self._table = table
        self._log = log
        self._vifs: dict[IfIndex, VifIndex] = table.vifs()
        self._claimed: set[IfIndex] = set()
        self._next_vif = 0
        self._forestalled: SetRoute | None = None
        self._ttls: dict[tuple[tuple[IfIndex, int], ...], bytes] = {}  # as long as the vifs are as they are; entries that leave alike are many
        self.found: tuple[RouteEntry, ...] = tuple(table.routes())
        self._wanted: dict[_Key, SetRoute] = {
            (entry.source, entry.group): SetRoute(entry.source, entry.group, entry.iif, entry.oifs) for entry in self.found if entry.iif is not None
        }
        self._made: set[_Key] = {(entry.source, entry.group) for entry in self.found}

    def perform(self, effects: Iterable[Effect], *, ends: Callable[[EffectFailed], bool] | None = None) -> list[EffectFailed]:
        """Perform by rank, and in order within it; a refusal stops those that follow only if it `ends` the batch."""
        failed: list[EffectFailed] = []
        for effect in sorted(effects, key=_rank):
            try:
                self._perform_one(effect)
            except OSError as error:
                failed.append(EffectFailed(effect, error.errno or errno.EIO))
                if ends is not None and ends(failed[-1]):
                    break
        return failed

    def forestall(self, route: SetRoute) -> None:
        """Make an entry that the engine is certain to state next; what the kernel refuses is left to the statement."""
        try:
            self._make(route, (route.source, route.group))
        except OSError:
            return
        self._forestalled = route

    def end_forestalling(self) -> None:
        """Undo an entry that was not stated after all, which would be a bug of the engine; nobody may get a stream by it."""
        route, self._forestalled = self._forestalled, None
        if route is None:
            return
        stated = self._wanted.get((route.source, route.group))
        self.perform((stated if stated is not None else ClearRoute(route.source, route.group),))

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case SetRoute():
                key = (effect.source, effect.group)
                self._wanted[key] = effect
                if effect == self._forestalled:
                    self._forestalled = None
                else:
                    self._make(effect, key)
            case SendPacket():
                self._table.send(effect)
            case Note():
                self._log(effect)
            case ClearRoute(source, group):
                self._wanted.pop((source, group), None)
                self._unmake((source, group))
            case SetVif():
                self._set_vif(effect)
            case ClearVif(ifindex):
                self._clear_vif(ifindex)
            case _:
                assert_never(effect)

    # entries

    def _make(self, route: SetRoute, key: _Key) -> None:
        parent = self._vifs.get(route.iif)
        if parent is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        self._table.set_route(route.source, route.group, parent, self._ttls.get(route.oifs) or self._ttls_of(route.oifs))
        self._made.add(key)

    def _ttls_of(self, oifs: tuple[tuple[IfIndex, int], ...]) -> bytes:
        ttls = bytearray(_NO_OIFS)
        for ifindex, ttl in oifs:
            vif = self._vifs.get(ifindex)
            if vif is not None:
                ttls[vif] = ttl
        if len(self._ttls) >= _MOST_SHARED:
            self._ttls.clear()
        return self._ttls.setdefault(oifs, bytes(ttls))

    def _unmake(self, key: _Key) -> None:
        if key not in self._made:
            return
        try:
            self._table.clear_route(*key)
        except OSError as error:
            if error.errno not in _GONE:
                raise  # it is still there, and will be asked for again
        self._made.discard(key)

    def _remake(self, concerned: Callable[[SetRoute], bool]) -> None:
        """State anew the wanted entries that are concerned; those whose parent has no vif are taken out."""
        for key, route in list(self._wanted.items()):
            if not concerned(route):
                continue
            if route.iif in self._vifs:
                self._make(route, key)
            else:
                self._unmake(key)

    # vifs

    def _set_vif(self, effect: SetVif) -> None:
        ifindex = effect.ifindex
        self._claimed.add(ifindex)
        if ifindex not in self._vifs:
            vif = self._free_vif()
            self._table.add_vif(vif, ifindex)
            self._vifs[ifindex] = vif
            self._ttls.clear()
            self._remake(lambda route: _names(route, ifindex))
        if effect.is_upstream:
            self._table.leave_routers(ifindex)
        else:
            self._table.join_routers(ifindex)

    def _free_vif(self) -> VifIndex:
        taken = set(self._vifs.values())
        for step in range(MAX_VIFS):  # the number that was free longest, so that a late packet finds no new owner
            vif = VifIndex((self._next_vif + step) % MAX_VIFS)
            if vif not in taken:
                self._next_vif = vif + 1
                return vif
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    def _clear_vif(self, ifindex: IfIndex) -> None:
        self._claimed.discard(ifindex)
        self._table.leave_routers(ifindex)
        vif = self._vifs.pop(ifindex, None)
        self._ttls.clear()
        if vif is None:
            return
        self._remake(lambda route: _names(route, ifindex))
        try:
            self._table.del_vif(vif)
        except OSError as error:
            if error.errno not in _GONE:
                self._vifs[ifindex] = vif  # it is still there, and will be asked for again
                raise

    def forget_unclaimed(self) -> list[EffectFailed]:
        """Clear the vifs that were found at start and not claimed, and the entries whose parent had vanished by then."""
        orphans = [ClearRoute(*key) for key in self._made if key not in self._wanted]
        return self.perform([*orphans, *(ClearVif(ifindex) for ifindex in self._vifs if ifindex not in self._claimed)])

    @property
    def interfaces(self) -> Sequence[IfIndex]:
        """Those that have a vif."""
        return tuple(self._vifs)


def _rank(effect: Effect) -> int:
    return _RANK[type(effect)]


_NO_OIFS = bytes((NOT_AN_OIF,)) * MAX_VIFS


def _names(route: SetRoute, ifindex: IfIndex) -> bool:
    return route.iif == ifindex or any(oif == ifindex for oif, _ in route.oifs)
