r"""The lab's network: who is in it, how it is wired, and the kernel settings each host needs.

                          h1 (IGMPv3) 10.10.0.11
                         /
    headend ---- router +  lan0: a bridge without snooping
    192.0.2.1  wan      | \
          192.0.2.2     |  h2 (IGMPv2) 10.10.0.12
                        |
                        lan1 ---- h3 (IGMPv3) 10.20.0.13

The router's interfaces are called wan, lan0 and lan1; everybody else has eth0.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from igmpconf.lab.namespaces import LabError

ROUTER = "router"
HEADEND = "headend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A node with one interface: the head end, or a subscriber."""

    name: str
    address: str  # with prefix length
    gateway: str
    behind: str  # the router's interface it is wired to
    igmp_version: int = 3  # what the kernel is told to speak (net.ipv4.conf.*.force_igmp_version)


HOSTS = (
    Host(name=HEADEND, address="192.0.2.1/24", gateway="192.0.2.2", behind="wan"),
    Host(name="h1", address="10.10.0.11/24", gateway="10.10.0.1", behind="lan0"),
    Host(name="h2", address="10.10.0.12/24", gateway="10.10.0.1", behind="lan0", igmp_version=2),
    Host(name="h3", address="10.20.0.13/24", gateway="10.20.0.1", behind="lan1"),
)
SUBSCRIBERS = tuple(host for host in HOSTS if host.name != HEADEND)
NODES = (ROUTER, *(host.name for host in HOSTS))
ROUTER_ADDRESSES = {"wan": "192.0.2.2/24", "lan0": "10.10.0.1/24", "lan1": "10.20.0.1/24"}


def ip(*lines: str) -> None:
    """Run `ip -batch` in the network namespace we are in.  Raises LabError with the line that failed."""
    try:
        done = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LabError("the program `ip` is missing", hint="apt install iproute2") from None
    if done.returncode != 0:
        raise LabError(f"building the lab's network failed: {done.stderr.strip()}", hint="the kernel needs veth and bridge (CONFIG_VETH, CONFIG_BRIDGE)")


def sysctl(**values: object) -> None:
    """Write settings below net/ipv4/conf/ for `all`, `default` and every interface of our network namespace.

    For some of them the greater of `all` and the interface counts, for some the interface alone; writing each
    place leaves no doubt.
    """
    for setting, value in values.items():
        for path in Path("/proc/sys/net/ipv4/conf").glob(f"*/{setting}"):
            path.write_text(str(value), encoding="ascii")


def wire(pids: Mapping[str, int]) -> None:
    """Lay the cables between the namespaces of the processes `pids` (node name -> pid)."""
    router = pids[ROUTER]
    lines = []
    for host in HOSTS:
        shared = sum(1 for other in HOSTS if other.behind == host.behind) > 1
        port = f"{host.behind}-{host.name}" if shared else host.behind
        lines.append(f"link add {port} netns {router} type veth peer name eth0 netns {pids[host.name]}")
    ip(*lines)


def set_up_router() -> None:
    """Inside the router: the bridge, addresses, and settings that do not come from the product."""
    shared = sorted({host.behind for host in HOSTS if sum(1 for other in HOSTS if other.behind == host.behind) > 1})
    lines = ["link set lo up"]
    lines += [f"link add {bridge} type bridge mcast_snooping 0 forward_delay 0" for bridge in shared]
    lines += [f"link set {host.behind}-{host.name} master {host.behind} up" for host in HOSTS if host.behind in shared]
    for interface, address in ROUTER_ADDRESSES.items():
        lines += [f"address add {address} dev {interface}", f"link set {interface} up"]
    ip(*lines)
    # A namespace inherits these from the machine; the lab must behave the same on every machine.
    sysctl(rp_filter=0, force_igmp_version=0)


def set_up_host(host: Host) -> None:
    """Inside a host: address, default route, IGMP version."""
    ip("link set lo up", f"address add {host.address} dev eth0", "link set eth0 up", f"route add default via {host.gateway}")
    sysctl(rp_filter=0, force_igmp_version=host.igmp_version)


def host_named(name: str) -> Host:
    """The subscriber or head end of that name.  Raises LabError that lists the names."""
    for host in HOSTS:
        if host.name == name:
            return host
    raise LabError(f"the lab has no host {name!r}", hint=f"hosts: {', '.join(_names(HOSTS))}")


def _names(hosts: Sequence[Host]) -> list[str]:
    return [host.name for host in hosts]
