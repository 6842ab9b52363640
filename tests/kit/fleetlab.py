"""The example fleet of the repository as real agents in namespaces, and a copy of its inventory that leads to them.

    core eth0 --- ring0 [edge-a] ring1 --- ring0 [edge-b] ring1 --- ring0 [edge-c] ppp0 --- eth0 viewer

Every other interface that a host's desired state names is a cable to nobody.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from igmpconf.cli.desired import of_hosts
from igmpconf.inventory.fleet import Fleet, load
from tests.kit.agent import Agent
from tests.kit.netns import Net

ROOT = Path(__file__).parents[2]
_CABLES = {
    ("edge-a", "ring0"): ("core", "eth0"),
    ("edge-b", "ring0"): ("edge-a", "ring1"),
    ("edge-c", "ring0"): ("edge-b", "ring1"),
    ("edge-c", "ppp0"): ("viewer", "eth0"),
}
_ENDS = {**_CABLES, **{other: one for one, other in _CABLES.items()}}


class FleetLab:
    """Hosts `limit` of the example; `project` becomes a copy of the repository's inventory/, templates/ and schemas/."""

    def __init__(self, net: Net, project: Path, limit: str | None = None) -> None:
        self.net = net
        self.project = project
        self.inventory = project / "inventory"
        for name in ("inventory", "templates", "schemas"):
            shutil.copytree(ROOT / name, project / name)
        self.names = [host.name for host in load(self.inventory).select(limit)]
        self._lead_to_the_agents()
        self.inside = {name: net.namespace(name) for name in [*self.names, "core", "viewer", "nobody"]}
        self._wire()
        for name in self.names:
            self._place(name).mkdir(parents=True)
        with ThreadPoolExecutor(max_workers=2) as pool:  # each waits for its engine; more would starve each other on a busy machine
            self.agents = dict(zip(self.names, pool.map(lambda name: Agent(self.inside[name], self._place(name)), self.names), strict=True))

    @property
    def fleet(self) -> Fleet:
        return load(self.inventory)

    def _place(self, name: str) -> Path:
        return self.project / "agents" / name

    def _lead_to_the_agents(self) -> None:
        for name in load(self.inventory).hosts:
            # Interfaces are cables here, whether the kernel has 802.1Q or not.
            said = {"ansible_connection": "local", "igmpconf_socket": str(self._place(name) / "agent.sock"), "manage_vlans": False}
            file = self.inventory / "host_vars" / f"{name}.yaml"
            file.write_text((file.read_text() if file.exists() else "") + yaml.safe_dump(said))

    def _wire(self) -> None:
        laid: set[tuple[str, str]] = set()
        hosts = [self.fleet.hosts[name] for name in self.names]
        wanted = {host.name: one.config for host, one in zip(hosts, of_hosts(hosts), strict=True)}
        for name, config in wanted.items():
            for entry in config.proxies[0].interfaces:
                interface = entry.interface.replace("*", "0")
                if (name, interface) in laid:
                    continue
                number = len(laid) + 1
                other, end = _ENDS.get((name, interface), ("nobody", f"n{number}"))
                if other not in self.inside:
                    other, end = "nobody", f"n{number}"
                # Towards the sources is .1 on a cable.
                near, far = (f"10.{number}.0.2/24", f"10.{number}.0.1/24") if entry.upstream else (f"10.{number}.0.1/24", f"10.{number}.0.2/24")
                self.net.veth(self.inside[name], interface, self.inside[other], end, near, far)
                laid |= {(name, interface), (other, end)}
