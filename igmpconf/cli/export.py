"""`igmpconf export`: our configuration as RouterOS commands or igmpproxy.conf, with what these cannot express told path by path."""

from __future__ import annotations

from pathlib import Path

import click

from igmpconf.apply.session import running_config
from igmpconf.cli.desired import of_files
from igmpconf.cli.devices import chosen, device_options, talk
from igmpconf.cli.plan import files_option
from igmpconf.errors import InputError
from igmpconf.migrate.export import WRITERS
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NetconfClient


@click.command()
@click.argument("kind", type=click.Choice(list(WRITERS)))
@files_option
@device_options
@click.option("--strict", is_flag=True, help="Exit with 3 if anything could not be expressed.")
def export(*, kind: str, files: tuple[Path, ...], device: str | None, limit: str | None, inventory: Path | None, strict: bool) -> int:
    """Print the desired state of -f, or what a device runs, for another program.

    routeros: commands of RouterOS.  igmpproxy: igmpproxy.conf.  What cannot be expressed is told on stderr, and left out.
    """
    found = WRITERS[kind](_config(files, device, limit, inventory))
    for remark in found.remarks:
        talk(remark)
    click.echo(found.text, nl=False)
    if not found.text:
        raise InputError(f"nothing of it can be expressed in {kind}")
    if strict and found.remarks:
        raise InputError(f"{len(found.remarks)} settings could not be expressed in {kind}")
    return 0


def _config(files: tuple[Path, ...], device: str | None, limit: str | None, inventory: Path | None) -> DeviceConfig:
    if files:
        if device is not None or limit is not None or inventory is not None:
            raise click.UsageError("name a desired state with -f, or a device, not both")
        return of_files(files).config
    devices = chosen(device, limit, inventory)
    if len(devices) != 1:
        raise click.UsageError(f"{len(devices)} devices are chosen; name one with -d")
    with NetconfClient.connect(devices[0].target, say=talk) as client:
        return running_config(client)
