"""`igmpconf discard`: throw away what was edited in a device's candidate configuration and never committed.

A NETCONF client that stops half-way leaves its edits behind, and nobody may lock the candidate while they are there
(RFC 6241 7.5).  igmpconf itself leaves none.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from igmpconf.apply.session import datastore_config, running_config
from igmpconf.cli.devices import Device, chosen, colour, device_options, for_each, talk
from igmpconf.errors import IgmpconfError
from igmpconf.netconf.client import NetconfClient
from igmpconf.plan.diff import Change, diff
from igmpconf.plan.render import change_lines


@click.command()
@device_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def discard(device: str | None, limit: str | None, inventory: Path | None, *, yes: bool) -> int:
    """Throw away edits of a device's candidate configuration that nobody committed; what runs stays as it is."""
    devices = chosen(device, limit, inventory)
    left: list[Device] = []
    failed: list[IgmpconfError] = []
    for one, found in zip(devices, for_each(devices, _left_behind), strict=True):
        if isinstance(found, IgmpconfError):
            failed.append(found)
        elif found:
            left.append(one)
            click.echo(f"{one.name}, edited and not committed:")
            for change in found:
                click.echo("".join(f"  {line}\n" for line in change_lines(change, {}, paint=colour)), nl=False)
        else:
            click.echo(f"{one.name}: its candidate is what runs; there is nothing to discard")
    if left:
        if not yes and not sys.stdin.isatty():
            raise click.UsageError("there is nobody to ask here; say --yes")
        if not yes:
            click.confirm("Throw this away?", abort=True, err=True)
        failed += _discarded(left)
    for error in failed[1:]:
        talk(f"igmpconf: {error.message}")
    if failed:
        raise failed[0]
    return 0


def _left_behind(device: Device) -> tuple[Change, ...]:
    with NetconfClient.connect(device.target, say=talk) as client:
        return diff(running_config(client), datastore_config(client, "candidate"))


def _discarded(devices: Sequence[Device]) -> list[IgmpconfError]:
    failed = []
    for one, answer in zip(devices, for_each(devices, _throw_away), strict=True):
        if isinstance(answer, IgmpconfError):
            failed.append(answer)
        else:
            click.echo(f"{one.name}: discarded")
    return failed


def _throw_away(device: Device) -> None:
    with NetconfClient.connect(device.target, say=talk) as client:
        client.discard()
