"""Many real agents (datastore, journal, NETCONF on a unix socket) on one event loop, with engines that remember instead of routing."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from igmpconf.agent.service import start_netconf
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.target import UnixTarget
from tests.apply.agents import RememberingEngine

NAMES = [f"r{number}" for number in range(1, 7)]


@dataclasses.dataclass
class Member:
    """One agent; `service` is None while it is dead."""

    name: str
    home: Path
    engine: RememberingEngine
    service: Any = None

    @property
    def socket_path(self) -> Path:
        return self.home / "agent.sock"

    @property
    def target(self) -> UnixTarget:
        return UnixTarget(device=self.name, path=str(self.socket_path))

    def client(self) -> NetconfClient:
        return NetconfClient.connect(self.target)

    def interfaces(self) -> list[str]:
        """Of what its engine runs."""
        return [entry.interface for proxy in self.engine.config.proxies for entry in proxy.interfaces]


class Fleet:
    """`with Fleet(tmp_path, names) as fleet:`"""

    def __init__(self, home: Path, names: Iterable[str]) -> None:
        self._home = home
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="agent", daemon=True)
        self.members = {name: Member(name, home / name, RememberingEngine()) for name in names}

    def __enter__(self) -> Self:
        self._thread.start()
        for member in self.members.values():
            member.home.mkdir()
        self._in_loop(self._start_all())
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members.values():
            self.kill(member.name)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    async def _start_all(self) -> None:
        for member in self.members.values():
            await self._start(member)

    async def _start(self, member: Member) -> None:
        member.service = await start_netconf(member.engine, state_dir=member.home / "state", socket_path=member.socket_path)

    def _in_loop(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def kill(self, name: str) -> None:
        """Its sessions end; it comes back with what is in its journal."""
        member = self.members[name]
        if member.service is not None:
            service, member.service = member.service, None
            self._in_loop(service.close())

    def start(self, name: str) -> None:
        self._in_loop(self._start(self.members[name]))

    def inventory(self, path: Path, **variables: Any) -> Path:
        """An inventory of all of them; `variables` are common ones, as YAML values."""
        lines = ["all:", "  hosts:"]
        for member in self.members.values():
            lines += [f"    {member.name}:", "      ansible_connection: local", f"      igmpconf_socket: {member.socket_path}"]
        lines += ["  vars:"] + [f"    {name}: {value}" for name, value in variables.items()]
        path.write_text("\n".join(lines) + "\n")
        return path


def new(fleet: Fleet) -> list[str]:
    """Who runs what home.yaml wants."""
    return [name for name, member in fleet.members.items() if member.interfaces() == ["lan0", "wan"]]


def begun(said) -> list[str]:
    """Whose end was told, in that order."""
    return [line.partition(":")[0] for line in said.err.splitlines() if line.endswith((": confirmed", ": rolled back", ": refused"))]
