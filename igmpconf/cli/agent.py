"""`igmpconf agent`: onto a device, another version, off it again; and who answers there, since when, with which configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from igmpconf.apply.session import device_state
from igmpconf.cli.devices import Device, chosen, device_options, for_each, named_device, talk
from igmpconf.cli.table import table
from igmpconf.errors import IgmpconfError
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.target import SshTarget

if TYPE_CHECKING:
    from igmpconf.apply.install import Installer

_COLUMNS = ("device", "version", "pid", "uptime_s", "running", "pending", "undoes_itself_s", "connect_ms")


@click.group()
def agent() -> None:
    """The agent that runs on a device."""


@agent.command()
@click.argument("name", metavar="[DEVICE]", required=False)
@device_options
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(name: str | None, device: str | None, limit: str | None, inventory: Path | None, form: str) -> int:
    """Tell whether the agent answers, its version and what it runs."""
    if name is not None and device is not None:
        raise click.UsageError("name the device once")
    devices = chosen(name or device, limit, inventory)
    answers = for_each(devices, _status)
    if form == "json":
        said = [
            {"device": one.name, **({"error": answer.message} if isinstance(answer, IgmpconfError) else answer)}
            for one, answer in zip(devices, answers, strict=True)
        ]
        click.echo(json.dumps({"devices": said}, indent=2, ensure_ascii=False))
    else:
        rows = [
            [one.name, *("-" if answer[column] is None else str(answer[column]) for column in _COLUMNS[1:])]
            for one, answer in zip(devices, answers, strict=True)
            if not isinstance(answer, IgmpconfError)
        ]
        if rows:
            click.echo(table([column.replace("_s", "").replace("_", " ") for column in _COLUMNS], rows), nl=False)
    failed = [answer for answer in answers if isinstance(answer, IgmpconfError)]
    for error in failed[1:]:
        talk(f"igmpconf: {error.message}")
    if failed:
        raise failed[0]
    return 0


ROOT = click.option("--root", default="", metavar="DIR", help="Install below DIR on the device, without systemd: for an image or a trial.")


@agent.command()
@click.argument("name", metavar="DEVICE")
@device_options
@ROOT
def install(name: str, device: str | None, limit: str | None, inventory: Path | None, root: str) -> int:
    """Put the agent onto DEVICE: the program, a service, a line for sshd.  Needs root there, or `sudo -n`."""
    with _installer(name, device, limit, inventory, root) as there:
        click.echo(f"{there.target.device}: igmpconf-agent {there.install()} is installed and answers NETCONF")
    return 0


@agent.command()
@click.argument("name", metavar="DEVICE")
@device_options
@ROOT
def upgrade(name: str, device: str | None, limit: str | None, inventory: Path | None, root: str) -> int:
    """Bring the agent on DEVICE to this version; running streams lose nothing, and one that does not serve is undone."""
    with _installer(name, device, limit, inventory, root) as there:
        click.echo(f"{there.target.device}: igmpconf-agent {there.upgrade()} runs")
    return 0


@agent.command()
@click.argument("name", metavar="DEVICE")
@device_options
@ROOT
@click.option("--purge", is_flag=True, help="Remove the configuration and its history as well.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def uninstall(name: str, device: str | None, limit: str | None, inventory: Path | None, root: str, purge: bool, yes: bool) -> int:  # noqa: PLR0917, FBT001
    """Remove the agent from DEVICE.  Its streams end."""
    with _installer(name, device, limit, inventory, root) as there:
        if not yes:
            click.confirm(f"{there.target.device}: remove the agent? Streams that it forwards end", abort=True, err=True)
        there.uninstall(purge=purge)
        click.echo(f"{there.target.device}: the agent is gone" + ("" if purge else f"; its configuration stays in {there.layout.state_dir}"))
    return 0


def _installer(name: str, device: str | None, limit: str | None, inventory: Path | None, root: str) -> Installer:
    from igmpconf.apply.install import Installer, Layout  # noqa: PLC0415 - jinja2 and the bundle, which `status` need not wait for

    if device is not None or limit is not None:
        raise click.UsageError("name the device once, as DEVICE")
    target = named_device(name, inventory).target
    if not isinstance(target, SshTarget):
        raise click.UsageError(f"{name} is not reached over SSH; on this machine use igmpconf-agent itself")
    return Installer(target, layout=Layout(root=root.rstrip("/")), say=talk)


def _status(device: Device) -> dict[str, Any]:
    with NetconfClient.connect(device.target, say=talk) as client:
        found = device_state(client, ("agent",)).agent
        return {
            "version": found.version if found else None,
            "pid": found.pid if found else None,
            "uptime_s": found.uptime_s if found else None,
            "running": found.running_digest[:19] if found and found.running_digest else None,
            "pending": found.pending_persist_id if found else None,
            "undoes_itself_s": found.pending_s if found else None,
            "connect_ms": round(client.timings[0].took_ms),
        }
