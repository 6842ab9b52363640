"""A real agent's transaction side in this process: NETCONF on a unix socket, an engine that remembers instead of routing."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from igmpconf.agent.examining import Examine
from igmpconf.agent.service import start_netconf
from igmpconf.agent.sshoptions import SshOptions
from igmpconf.errors import KernelError
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import AgentState, DeviceState, GroupRow, InterfaceRow, MfcRow, QuerierState
from igmpconf.netconf.target import UnixTarget


class RememberingEngine:
    """Takes a configuration and reports the state that an engine would have with these interfaces up and these groups joined."""

    def __init__(self) -> None:
        self.present = {"wan", "lan0", "lan1"}
        self.groups: dict[str, set[str]] = {"lan0": {"239.1.1.1"}}
        self.config = DeviceConfig()
        self.replaced: list[DeviceConfig] = []
        self.refuse: Callable[[DeviceConfig], bool] = lambda _config: False
        self.addresses: tuple[str, ...] = ()  # as AgentState has them
        self.lose: Callable[[DeviceConfig], set[str]] = lambda _config: set()  # interfaces that a configuration makes vanish

    def replace(self, config: DeviceConfig) -> None:
        if self.refuse(config):
            raise KernelError("MRT_ADD_VIF", 98, "another program holds the multicast routing socket")
        self.replaced.append(config)
        self.config = config

    def snapshot(self) -> DeviceState:
        interfaces: list[InterfaceRow] = []
        groups: list[GroupRow] = []
        mfc: list[MfcRow] = []
        present = self.present - self.lose(self.config)
        for proxy in self.config.proxies:
            if proxy.enabled is False:
                continue
            upstream = next((entry.interface for entry in proxy.interfaces if entry.upstream), None)
            for entry in proxy.interfaces:
                up = entry.interface in present
                interfaces.append(
                    InterfaceRow(
                        instance=proxy.name,
                        interface=entry.interface,
                        family="ipv4",
                        role="upstream" if entry.upstream else "downstream",
                        enabled=entry.enabled is not False,
                        up=up,
                        querier=QuerierState(address=ipaddress.ip_address("192.0.2.1"), self_=True) if up and not entry.upstream else None,
                        version=3,
                    )
                )
                for group in sorted(self.groups.get(entry.interface, ())) if up and not entry.upstream else ():
                    address = ipaddress.ip_address(group)
                    groups.append(GroupRow(instance=proxy.name, interface=entry.interface, group=address, mode="exclude", version=3, hosts=1))
                    mfc.append(
                        MfcRow(
                            family="ipv4",
                            instance=proxy.name,
                            source="*",
                            group=address,
                            upstream=upstream,
                            downstreams=(entry.interface,),
                            kind="learned",
                            state="forwarding",
                        )
                    )
            mfc += [
                MfcRow(
                    family="ipv4",
                    instance=proxy.name,
                    source=m.source,
                    group=m.group,
                    upstream=upstream,
                    downstreams=m.downstream_interface,
                    kind="static",
                    state="waiting-for-data",
                )
                for m in proxy.mfc
                if upstream in present
            ]
        unique = {(row.instance, row.source, row.group): row for row in mfc}
        agent = AgentState(addresses=self.addresses)
        return DeviceState(interfaces=tuple(interfaces), groups=tuple(groups), mfc=tuple(unique.values()), agent=agent)


@dataclasses.dataclass
class RunningAgent:
    """A served agent; `stop` closes it as a process that ends would."""

    engine: RememberingEngine
    directory: Path
    socket_path: Path
    ssh_address: tuple[str, int] | None
    stop: Callable[[], None]

    @property
    def target(self) -> UnixTarget:
        return UnixTarget(device="router", path=str(self.socket_path))


@contextlib.contextmanager
def running_agent(
    directory: Path, engine: RememberingEngine | None = None, ssh: SshOptions | None = None, examine: Examine | None = None
) -> Iterator[RunningAgent]:
    """An agent on `directory`/agent.sock until the block ends."""
    engine = engine or RememberingEngine()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="agent", daemon=True)
    thread.start()
    socket_path = directory / "agent.sock"

    def in_loop(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)

    service = in_loop(start_netconf(engine, state_dir=directory / "state", socket_path=socket_path, ssh=ssh, examine=examine))
    stopped = threading.Event()

    def stop() -> None:
        if not stopped.is_set():
            stopped.set()
            in_loop(service.close())

    try:
        yield RunningAgent(engine, directory, socket_path, service.ssh_address, stop)
    finally:
        stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
