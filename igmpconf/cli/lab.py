"""`igmpconf lab`: a router and its subscribers to try everything on, without touching this machine's network."""

from __future__ import annotations

import sys
import time

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from igmpconf.lab.home import home_directory
from igmpconf.lab.lab import Lab
from igmpconf.lab.stream import GROUPS
from igmpconf.lab.topology import HOSTS, NODES, ROUTER_ADDRESSES, SUBSCRIBERS

_HOST = click.Choice([host.name for host in SUBSCRIBERS])
_NEXT = """\
The lab is running: headend sends {groups} at {rate} datagrams a second each.

  igmpconf plan -f examples/home.yaml           what would change on the router
  igmpconf apply -f examples/home.yaml          change it, over SSH
  igmpconf lab join h1 {group}                a subscriber joins
  igmpconf lab watch                            datagrams, host by host
  igmpconf show groups                          what the router knows
  igmpconf lab exec h2 -- cat /proc/net/igmp    any command on any node: {nodes}
  igmpconf lab kill                             kill -9 the router's engine
  igmpconf lab down                             the end
"""


@click.group()
def lab() -> None:
    """A head end, a router and three subscribers in network namespaces on this machine."""


@lab.command()
@click.option("--rate", default=100, show_default=True, type=click.IntRange(1, 5_000), help="Datagrams a second of each of the two streams.")
def up(rate: int) -> None:
    """Start the lab; it stays in the background until `lab down`."""
    running = Lab.up(home_directory())
    for group in GROUPS:
        running.send(group, rate_per_s=rate)
    click.echo(_NEXT.format(groups=" and ".join(GROUPS), rate=rate, group=GROUPS[0], nodes=", ".join(NODES)), err=True)


@lab.command()
def down() -> None:
    """End the lab with everything in it."""
    Lab.at(home_directory()).down()
    click.echo("the lab is gone", err=True)


@lab.command(name="exec", context_settings={"ignore_unknown_options": True})
@click.argument("node", type=click.Choice(NODES))
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(node: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on NODE, in its network; the exit code is the command's."""
    sys.exit(Lab.at(home_directory()).run(node, command))


@lab.command()
@click.argument("host", type=_HOST)
@click.argument("group")
@click.option("--source", help="Only from this sender (IGMPv3).")
def join(host: str, group: str, source: str | None) -> None:
    """Let HOST join GROUP on an ordinary socket; its kernel speaks IGMP."""
    Lab.at(home_directory()).join(host, group, source=source)


@lab.command()
@click.argument("host", type=_HOST)
@click.argument("group")
@click.option("--source", help="Only this sender.")
def leave(host: str, group: str, source: str | None) -> None:
    """Let HOST leave GROUP."""
    Lab.at(home_directory()).leave(host, group, source=source)


@lab.command(name="kill")
def kill_engine() -> None:
    """Kill -9 the router's engine; its keeper starts it again, and no stream notices."""
    click.echo(f"killed the engine, process {Lab.at(home_directory()).kill_engine()} of the lab", err=True)


@lab.command()
def status() -> None:
    """Who is in the lab, and what has arrived where."""
    running = Lab.at(home_directory())
    out = Console()
    nodes = Table("node", "interface", "address", "IGMP", title=None)
    for name, address in ROUTER_ADDRESSES.items():
        nodes.add_row("router", name, address, "the agent is running" if running.agent_runs() else "no agent")
    for host in HOSTS:
        nodes.add_row(host.name, f"eth0, behind {host.behind}", host.address, f"v{host.igmp_version}")
    out.print(nodes, counts_table(running))
    click.echo(f"files: {running.home}", err=True)


@lab.command()
@click.option("--seconds", type=click.FloatRange(min=0), help="Stop after this long; otherwise Ctrl-C ends it.")
def watch(seconds: float | None) -> None:
    """The counts of every host, as they grow."""
    running = Lab.at(home_directory())
    end = None if seconds is None else time.monotonic() + seconds
    with Live(counts_table(running), console=Console(), refresh_per_second=4) as live:
        while end is None or time.monotonic() < end:
            time.sleep(0.25)
            live.update(counts_table(running))


def counts_table(running: Lab) -> Table:
    """Datagrams per host and group: what the socket received, what was lost, and what reached the cable unasked or asked."""
    table = Table("host", "behind", "group", "joined", "received", "lost", "on the wire")
    for column in table.columns[4:]:
        column.justify = "right"
    counts = running.counts()
    for host in SUBSCRIBERS:
        for group, count in counts[host.name].items():
            seen = (str(count.received), str(count.lost)) if count.joined else ("-", "-")
            table.add_row(host.name, host.behind, group, "yes" if count.joined else "no", *seen, str(count.on_wire))
    return table
