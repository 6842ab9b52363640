"""The ports of a bridge in the place of a multicast routing table: the engine's routes become entries of the bridge.

    a vif             a port that takes part
    (*,G), (S,G)      for each downstream port, the sources of G that it gets: one entry of ours per port and group
    (*,*)             nothing: the upstream port is a router port (bridge_settings.py)
    the parent        left out: a bridge never sends back where a frame came from, and a router port gets everything

Life cycle: opened with the entries of ours that the bridge holds, of whatever process; the engine states what it
wants and the rest is removed.  Entries belong to no process, so nobody has to hold anything for them to stay; the
socket that a keeper holds only saves the messages that arrive meanwhile.  When the last port goes, the bridge is made
to forget that there is a querier and floods as any bridge does.  An entry of ours that somebody removes or changes
is put right as soon as the kernel announces it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import socket
from collections.abc import Callable

from igmpconf.engine.effects import Note, SendPacket
from igmpconf.engine.family import Family
from igmpconf.engine.messages import Query
from igmpconf.errors import KernelError
from igmpconf.ids import IfIndex, TableId, VifIndex
from igmpconf.linux.bridge_mdb import RTMGRP_MDB, Held, Mdb, MdbEntry, PlainEntries, SourceLists
from igmpconf.linux.bridge_packets import PortPackets
from igmpconf.linux.bridge_settings import BridgeSettings
from igmpconf.linux.kernel import NOT_AN_OIF, Arrival, RouteEntry
from igmpconf.linux.netlink import Monitor, Requests, index_of
from igmpconf.linux.refusal import lacking, missing_capabilities

_FORGETFUL_CS = 4  # shortest interval that every kernel's clock can tell from none
_AT_ONCE_MS = 100
_ANYWHERE = IfIndex(0)
_OLDEST_KERNEL, _WITH_SOURCE_LISTS = (5, 10), (6, 3)


class PortTable:
    """The `MulticastTable` of one bridge and family."""

    def __init__(self, family: Family, bridge: str, requests: Requests, log: Callable[[Note], None], held: socket.socket | None = None) -> None:
        """Raises KernelError."""
        self.family = family
        self.table = TableId(0)
        self.bridge = bridge
        self._requests = requests
        self._log = log
        self._settings = BridgeSettings(requests)
        self._vifs: dict[IfIndex, VifIndex] = {}
        self._routes: dict[bytes, dict[bytes | None, frozenset[IfIndex]]] = {}
        self._made: dict[bytes, dict[IfIndex, Held]] = {}
        verb = f"listen on the ports of {bridge}"
        release = kernel_release()
        if release < _OLDEST_KERNEL:
            raise KernelError(
                verb, errno.EOPNOTSUPP, f"cannot {verb}: Linux {os.uname().release} has no entries by source in its bridges", hint="use Linux 5.10 or later"
            )
        self._mdb: Mdb = SourceLists(requests) if release >= _WITH_SOURCE_LISTS else PlainEntries(requests)
        try:
            self._packets = PortPackets(family, bridge, held)
            self.socket = self._packets.socket
            self._watch = Monitor(RTMGRP_MDB)
            self._adopt()
        except PermissionError as error:
            raise lacking(verb, missing_capabilities() or ("CAP_NET_RAW",), error.errno or errno.EPERM) from error
        except OSError as error:
            raise KernelError(verb, error.errno or errno.EIO, f"cannot {verb}: {error.strerror}") from error
        self._ready = select.epoll()
        for fd in (self.socket.fileno(), self._watch.socket.fileno()):
            self._ready.register(fd, select.EPOLLIN)

    def fileno(self) -> int:
        """Readable when a message arrived or an entry was changed."""
        return self._ready.fileno()

    def _entries(self) -> list[MdbEntry]:
        try:
            bridge = index_of(self.bridge)
        except OSError:
            return []  # it may come
        return self._mdb.entries(bridge, self.family.address_bytes)

    def _adopt(self) -> None:
        for entry in self._entries():
            if entry.is_ours:
                self._made.setdefault(entry.group, {})[entry.port] = entry.held
        found = sorted({port for ports in self._made.values() for port in ports})
        self._vifs = {port: VifIndex(number) for number, port in enumerate(found)}
        for group, ports in self._made.items():
            self._routes[group] = self._mdb.to_routes(ports)

    # ports

    def vifs(self) -> dict[IfIndex, VifIndex]:
        return dict(self._vifs)

    def add_vif(self, vif: VifIndex, ifindex: IfIndex) -> None:
        self._vifs[ifindex] = vif
        self._packets.listen(self._vifs)

    def del_vif(self, vif: VifIndex) -> None:
        gone = next((ifindex for ifindex, of in self._vifs.items() if of == vif), None)
        if gone is None:
            return
        del self._vifs[gone]
        self._packets.listen(self._vifs)
        for group in [group for group, ports in self._made.items() if gone in ports]:
            self._remove(group, gone)
        if not self._vifs:
            self._forget_querier()

    def lost_rules(self) -> list[str]:
        """None: frames find the bridge by themselves."""
        return []

    def steer_again(self) -> None:
        return

    def join_routers(self, ifindex: IfIndex) -> None:
        """Nothing is to be joined below IP; a port that was adopted is heard from here on."""
        self._packets.listen(self._vifs)

    def leave_routers(self, ifindex: IfIndex) -> None:
        self._packets.listen(self._vifs)

    # entries

    def set_route(self, source: bytes | None, group: bytes | None, parent: VifIndex, ttls: bytes) -> None:
        """Raises OSError for what the bridge refused; the other ports of the group are served all the same."""
        if group is None:
            return
        leaving = frozenset(ifindex for ifindex, vif in self._vifs.items() if vif != parent and 0 < ttls[vif] < NOT_AN_OIF)
        self._routes.setdefault(group, {})[source] = leaving
        self._make(group)

    def clear_route(self, source: bytes | None, group: bytes | None) -> None:
        if group is None or group not in self._routes:
            return
        self._routes[group].pop(source, None)
        if not self._routes[group]:
            del self._routes[group]
        self._make(group)

    def _make(self, group: bytes) -> None:
        """Bring the bridge in step about one group."""
        wanted = self._mdb.of_routes(self._routes.get(group, {}))
        made = self._made.get(group, {})
        for port in [port for port in made if port not in wanted]:
            self._remove(group, port)
        refused: OSError | None = None
        for port, held in wanted.items():
            if made.get(port) != held:
                try:
                    self._put(group, port, held)
                except OSError as error:
                    refused = error
        if refused is not None:
            raise refused

    def _put(self, group: bytes, port: IfIndex, held: Held) -> None:
        self._mdb.put(index_of(self.bridge), port, group, held, self._made.get(group, {}).get(port))
        self._made.setdefault(group, {})[port] = held

    def _remove(self, group: bytes, port: IfIndex) -> None:
        ports = self._made[group]
        before = ports.pop(port)
        if not ports:
            del self._made[group]
        with contextlib.suppress(OSError):  # a bridge that went took its entries along
            self._mdb.remove(index_of(self.bridge), port, group, before)

    def routes(self) -> list[RouteEntry]:
        """Those that are made, as the engine would state them.  The bridge counts nothing, and no entry says where it arrives."""
        return [
            RouteEntry(source, group, _ANYWHERE, tuple((ifindex, 1) for ifindex in sorted(leaving)), None, None, None)
            for group, routes in self._routes.items()
            if group in self._made
            for source, leaving in routes.items()
        ]

    def traffic(self) -> dict[IfIndex, dict[str, int]]:
        """A bridge counts by port and not by what is multicast and what is not."""
        return {}

    # what others do to our entries

    def _look(self) -> None:
        """An announcement spoke of an entry of ours and said something else: compare all of them with what there is."""
        try:
            bridge = index_of(self.bridge)
            there = {(entry.group, entry.port): entry for entry in self._mdb.entries(bridge, self.family.address_bytes) if entry.is_ours}
        except OSError:
            return
        for group, ports in list(self._made.items()):
            for port, held in list(ports.items()):
                found = there.get((group, port))
                if found is not None and found.held == held:
                    continue
                try:
                    self._mdb.put(bridge, port, group, held, found.held if found is not None else None)
                except OSError:
                    continue  # the port has left the bridge, which is about to be told
                self._log(
                    Note(
                        "warning",
                        "bridge/put-right",
                        {
                            "bridge": self.bridge,
                            "port": socket.if_indextoname(port),
                            "group": self.family.text(group),
                            "found": "absent" if found is None else "changed",
                            "cause": "somebody else changed the entry",
                        },
                    )
                )

    def _heed(self) -> None:
        news = self._watch.read()
        if not self._made or news == []:
            return
        try:
            bridge = index_of(self.bridge)
        except OSError:
            return
        if news is None:  # announcements were lost
            self._look()
            return
        if any(self._mdb.contradicts(message, bridge, self.family.address_bytes, self._made) for message in news):
            self._look()

    # messages

    def receive(self, limit: int) -> list[Arrival]:
        self._heed()
        arrivals = self._packets.receive(limit)
        for packet in arrivals:
            if packet.destination == self.family.all_hosts and self.family.is_general_query(packet.payload):
                self._tell_bridge(packet.payload)  # behind our ports others may ask, and we then do not
        return list(arrivals)

    def send(self, packet: SendPacket) -> None:
        self._packets.send(packet)
        if self.family.is_general_query(packet.payload):
            self._tell_bridge(packet.payload)

    def _tell_bridge(self, query: bytes) -> None:
        """General queries are told to the bridge as well: it obeys its entries while it knows of a querier."""
        with contextlib.suppress(OSError):  # a bridge that is down forwards nothing anyway
            self._packets.tell_bridge(SendPacket(IfIndex(0), self.family.all_hosts, query))

    def _forget_querier(self) -> None:
        """Have the bridge believe for a moment only, and ask it to believe; then it floods again until somebody else asks."""
        setting = f"bridge {self.bridge} mcast_querier_interval"
        before = self._settings.read(setting)
        if before is None:
            return
        query = Query(self.family.unspecified, self.family.latest_version, None, (), _AT_ONCE_MS, None, None, suppress=False)
        with contextlib.suppress(KernelError):
            self._settings.write(setting, _FORGETFUL_CS)
            for payload in self.family.encode_query(query, 1_500):
                self._tell_bridge(payload)
            self._settings.write(setting, before)

    def close(self) -> None:
        self._ready.close()
        self._watch.close()
        self._packets.close()


def kernel_release() -> tuple[int, ...]:
    """The first two numbers of this kernel's release."""
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
