"""`igmpconf validate` and `igmpconf render`: everything that can be said without a device."""

from __future__ import annotations

import json
from pathlib import Path

import click

from igmpconf.cli.desired import Planned, Wanted, check_together, of_files, of_hosts
from igmpconf.cli.devices import DEFAULT_INVENTORY, fleet, talk
from igmpconf.errors import InputError
from igmpconf.inventory.hosts import Host
from igmpconf.model.canon import digest, to_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.schema.load import dump

_inventory_option = click.option(
    "-i", "--inventory", type=click.Path(path_type=Path), help="Ansible YAML inventory, a file or a directory.  [default: ./inventory]"
)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("-f", "--file", "more", multiple=True, type=click.Path(path_type=Path), help="The same as naming the file.")
@_inventory_option
@click.option("-l", "--limit", metavar="PATTERN", help="Hosts of the inventory.")
def validate(files: tuple[Path, ...], more: tuple[Path, ...], inventory: Path | None, limit: str | None) -> int:
    """Check FILES, each for itself; without FILES, what the inventory wants of every host.  Nothing is asked of a device."""
    named = (*files, *more)
    if named:
        if inventory is not None or limit is not None:
            raise click.UsageError("name FILES, or hosts with -i and -l, not both")
        _each_file(named)
        return 0
    if inventory is None and not DEFAULT_INVENTORY.exists():
        raise click.UsageError("name the files to check, or an inventory with -i")
    hosts = fleet(inventory).select(limit)
    wanted = of_hosts(hosts)
    check_together([Planned(name=host.name, wanted=one, host=host) for host, one in zip(hosts, wanted, strict=True)])
    talk(f"{len(wanted)} host{'s' if len(wanted) != 1 else ''} valid")
    return 0


def _each_file(files: tuple[Path, ...]) -> None:
    """Every complaint about every file, then one error for all."""
    complaints: list[object] = []
    for path in files:
        try:
            wanted = of_files([path])
        except InputError as error:
            complaints += error.diagnostics or [f"{path}: {error.message}"]
        else:
            click.echo(f"{path}: valid, {_what(wanted.config)}")
    if complaints:
        raise InputError(_counted(complaints), complaints)


def _counted(complaints: list[object]) -> str:
    errors = sum(1 for one in complaints if getattr(one, "is_error", True))
    return f"{errors} error{'s' if errors != 1 else ''}"


def _what(config: DeviceConfig) -> str:
    instances = [f"{proxy.name} with {len(proxy.interfaces)} interfaces" for proxy in config.proxies]
    return ", ".join(instances) if instances else "no proxy instance"


@click.command()
@click.argument("host")
@_inventory_option
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def render(host: str, inventory: Path | None, form: str) -> int:
    """Print the desired state of HOST after inventory, groups and templates, in canonical form."""
    found: tuple[Host, ...] = fleet(inventory).select(host)
    if len(found) != 1:
        raise click.UsageError(f"{host!r} is {len(found)} hosts; name one")
    (wanted,) = of_hosts(found)
    click.echo(_text(wanted, form), nl=False)
    talk(f"digest {digest(wanted.config)}")
    return 0


def _text(wanted: Wanted, form: str) -> str:
    if form == "json":
        return json.dumps(to_plain(wanted.config), indent=2, ensure_ascii=False) + "\n"
    return dump(wanted.config)
