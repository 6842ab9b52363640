"""`igmpconf agent status`: who answers on a device, since when, and with which configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from igmpconf.apply.session import device_state
from igmpconf.cli.devices import Device, chosen, device_options, for_each, talk
from igmpconf.cli.table import table
from igmpconf.errors import IgmpconfError
from igmpconf.netconf.client import NetconfClient

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
