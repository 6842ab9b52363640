"""`igmpconf doctor`: what is wrong, why, by which numbers, and what to change."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from pathlib import Path

import click

from igmpconf.apply.session import device_state, running_config
from igmpconf.cli.devices import Device, chosen, device_options, for_each, talk
from igmpconf.errors import IgmpconfError, InputError
from igmpconf.model.leaf import Address
from igmpconf.netconf.client import NetconfClient
from igmpconf.observe.doctor import Finding, Patient, diagnose

_PARTS = ("interfaces", "groups", "upstream", "mfc", "deviations")


@click.command()
@click.argument("name", metavar="[DEVICE]", required=False)
@device_options
@click.option("--group", "group_text", metavar="G", help="Look at one stream: where it is joined and where not.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor(*, name: str | None, device: str | None, limit: str | None, inventory: Path | None, group_text: str | None, form: str) -> int:
    """Check a device, or several.  Exit code 1 if a warning or an error was found, 0 otherwise."""
    if name is not None and device is not None:
        raise click.UsageError("name the device once")
    group = _group(group_text)
    devices = chosen(name if name is not None else device, limit, inventory)
    answers = for_each(devices, lambda one: _findings(one, group))
    if form == "json":
        said = [
            {"device": one.name, **({"error": answer.message} if isinstance(answer, IgmpconfError) else {"rows": [dataclasses.asdict(row) for row in answer]})}
            for one, answer in zip(devices, answers, strict=True)
        ]
        click.echo(json.dumps({"devices": said}, indent=2, ensure_ascii=False))
    else:
        for one, answer in zip(devices, answers, strict=True):
            if not isinstance(answer, IgmpconfError):
                click.echo(_text(one, answer))
    failed = [answer for answer in answers if isinstance(answer, IgmpconfError)]
    for error in failed[1:]:
        talk(f"igmpconf: {error.message}")
    if failed:
        raise failed[0]
    return 1 if any(row.severity != "note" for answer in answers if not isinstance(answer, IgmpconfError) for row in answer) else 0


def _group(text: str | None) -> Address | None:
    if text is None:
        return None
    try:
        group = ipaddress.ip_address(text)
    except ValueError:
        raise InputError(f"--group {text}: expected an address") from None
    if not group.is_multicast:
        raise InputError(f"--group {text}: expected a multicast group, in 224.0.0.0/4 or ff00::/8")
    return group


def _findings(device: Device, group: Address | None) -> list[Finding]:
    with NetconfClient.connect(device.target, say=talk) as client:
        return diagnose(Patient(running_config(client), device_state(client, _PARTS), group))


def _text(device: Device, found: list[Finding]) -> str:
    if not found:
        return f"{device.name}: nothing is wrong"
    lines = [f"{device.name}:"]
    for one in found:
        lines += [
            f"  {one.severity}: {one.where}: {one.seen} [{one.code}]",
            f"      cause:    {one.cause}",
            f"      evidence: {one.evidence}",
            f"      change:   {one.fix}",
        ]
    return "\n".join(lines)
