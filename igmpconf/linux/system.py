"""The real kernel: the links and multicast tables of the network namespace that this process is in."""

from __future__ import annotations

import socket
from collections.abc import Callable

from igmpconf.engine.effects import Note
from igmpconf.engine.family import Family
from igmpconf.ids import TableId
from igmpconf.linux.bridge_table import PortTable
from igmpconf.linux.facts import Links
from igmpconf.linux.kernel import LinkWatch, MulticastTable
from igmpconf.linux.mroute import Table
from igmpconf.linux.netlink import Requests


class SystemKernel:
    """The `Kernel` that is real."""

    def __init__(self) -> None:
        self._requests = Requests()

    def watch_links(self) -> LinkWatch:
        return Links()

    def open_table(self, family: Family, table: TableId, held: socket.socket | None = None) -> MulticastTable:
        return Table(family, table, self._requests, held)

    def open_bridge(self, family: Family, bridge: str, log: Callable[[Note], None], held: socket.socket | None = None) -> MulticastTable:
        return PortTable(family, bridge, self._requests, log, held)
