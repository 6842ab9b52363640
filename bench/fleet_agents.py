"""Many agents in one process: `python -m bench.fleet_agents DIRECTORY COUNT`, until its standard input ends.

Each has the real datastore with its journal on disk and the real NETCONF server, on DIRECTORY/NNNN/agent.sock; the engine
only remembers its configuration and reports the interfaces as up.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import sys
from pathlib import Path

from igmpconf.agent.service import start_netconf
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState, InterfaceRow, QuerierState


class RememberingEngine:
    """An engine without a kernel."""

    def __init__(self) -> None:
        self._config = DeviceConfig()

    def replace(self, config: DeviceConfig) -> None:
        """Take a configuration."""
        self._config = config

    def snapshot(self) -> DeviceState:
        """What it would report with every interface up."""
        querier = QuerierState(address=ipaddress.ip_address("192.0.2.1"), self_=True)
        rows = [
            InterfaceRow(
                instance=proxy.name,
                interface=entry.interface,
                family="ipv4",
                role="upstream" if entry.upstream else "downstream",
                enabled=True,
                up=True,
                querier=None if entry.upstream else querier,
                version=3,
            )
            for proxy in self._config.proxies
            for entry in proxy.interfaces
        ]
        return DeviceState(interfaces=tuple(rows))


def names(count: int) -> list[str]:
    """What the agents are called, in order."""
    return [f"r{number:04}" for number in range(1, count + 1)]


def socket_of(directory: Path, name: str) -> Path:
    """Where one listens."""
    return directory / name / "agent.sock"


def more_files() -> None:
    """A thousand connections need more descriptors than the usual limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(directory: Path, count: int) -> None:
    services = []
    for name in names(count):
        home = directory / name
        home.mkdir()
        services.append(await start_netconf(RememberingEngine(), state_dir=home / "state", socket_path=socket_of(directory, name)))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for service in services:
        await service.close()


if __name__ == "__main__":
    more_files()
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
