"""Which devices a command speaks to, and what is wanted of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from igmpconf.cli.secrets import secret_options, with_secrets
from igmpconf.cli.shard import shard_option, share
from igmpconf.errors import InputError
from igmpconf.inventory.device import Device, for_each
from igmpconf.inventory.fleet import Fleet, load
from igmpconf.lab.home import running_inventory
from igmpconf.netconf.target import UnixTarget, parse_target

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

__all__ = ["DEFAULT_INVENTORY", "Device", "chosen", "colour", "device_options", "fleet", "for_each", "named_device", "named_devices", "talk"]

DEFAULT_INVENTORY = Path("inventory")
LAB = "lab"  # the router of the running lab


def device_options(command: F) -> F:
    """Add -d, -l and -i."""
    for option in (
        click.option("-i", "--inventory", type=click.Path(path_type=Path), help="Ansible YAML inventory, a file or a directory.  [default: ./inventory]"),
        click.option(
            "-l",
            "--limit",
            metavar="PATTERN",
            help="Hosts of the inventory, in Ansible's patterns: names, groups, globs, ~regex, `!not`, `&also`, group[0:2], @FILE.",
        ),
        click.option("-d", "--device", metavar="DEVICE", help="One device: a host name, ssh://user@host:port, unix:PATH, or local."),
    ):
        command = option(command)
    return secret_options(shard_option(command))


def talk(text: str) -> None:
    """Say something to the person, not to the pipe."""
    click.echo(text, err=True)


def colour(text: str, name: str) -> str:
    """Colour on a terminal only; NO_COLOR (no-color.org) is obeyed."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return click.style(text, fg=name)


def chosen(device: str | None, limit: str | None, inventory: Path | None, *, needs_files: bool = False) -> tuple[Device, ...]:
    """The devices that the options name, or the default: $IGMPCONF_DEVICE, -i, the running lab, ./inventory, local; of them, our shard.

    `needs_files`: the desired state must come from the inventory, so a lab is no default.  Raises InputError, UsageError.
    """
    found = share(_chosen(device, limit, inventory, needs_files=needs_files))
    return tuple(Device(with_secrets(one.target), one.host) for one in found)


def _chosen(device: str | None, limit: str | None, inventory: Path | None, *, needs_files: bool) -> tuple[Device, ...]:
    if device is not None and limit is not None:
        raise click.UsageError("-d and -l exclude each other")
    if device is None and limit is None and (named := os.environ.get("IGMPCONF_DEVICE")):
        talk(f"device: {named} (IGMPCONF_DEVICE)")
        device = named
    if device is not None:
        return (_named(device, inventory),)
    if limit is not None or inventory is not None:
        return tuple(Device(host.target(), host) for host in fleet(inventory).select(limit))
    lab = running_inventory()
    if lab is not None and not needs_files:
        found = tuple(Device(host.target(), host) for host in load(lab).select(None))
        talk(f"device: {', '.join(one.name for one in found)} of the running lab (-d chooses another)")
        return found
    if DEFAULT_INVENTORY.exists():
        found = tuple(Device(host.target(), host) for host in load(DEFAULT_INVENTORY).select(None))
        talk(f"devices: the {len(found)} hosts of ./{DEFAULT_INVENTORY} (-d or -l chooses)")
        return found
    talk("device: local (-d chooses another)")
    return (Device(UnixTarget(device="local")),)


def named_device(text: str, inventory: Path | None) -> Device:
    """The device that -d names: an address, or a host of the inventory or of the running lab.  Raises InputError."""
    found = _named(text, inventory)
    return Device(with_secrets(found.target), found.host)


def named_devices(names: Sequence[str], inventory: Path | None) -> dict[str, Device]:
    """The same for many; inventories are read once.  Raises InputError."""
    loaded: dict[Path, Fleet] = {}
    found = {name: _named(name, inventory, loaded) for name in names}
    return {name: Device(with_secrets(one.target), one.host) for name, one in found.items()}


def _named(text: str, inventory: Path | None, loaded: dict[Path, Fleet] | None = None) -> Device:
    loaded = {} if loaded is None else loaded
    target = parse_target(text)
    if target is not None:
        return Device(target)
    if text == LAB and inventory is None and (lab := running_inventory()) is not None:
        router = next(iter(load(lab).hosts.values()))
        return Device(router.target(), router)
    places: list[Path] = (
        [inventory] if inventory is not None else [path for path in (running_inventory(), DEFAULT_INVENTORY) if path is not None and path.exists()]
    )
    known: list[str] = []
    for place in places:
        found = loaded[place] if place in loaded else loaded.setdefault(place, load(place))
        if text in found.hosts:
            return Device(found.hosts[text].target(), found.hosts[text])
        known += found.hosts
    where = " or ".join(str(place) for place in places)
    hint = (
        f"known: {', '.join(known[:8])}; or write ssh://user@host:port, unix:PATH, local"
        if known
        else "write ssh://user@host:port, unix:PATH or local, or name an inventory with -i"
    )
    raise InputError(f"there is no device {text!r}" + (f" in {where}" if where else ""), hint=hint)


def fleet(inventory: Path | None) -> Fleet:
    """The inventory that is named, or the default one.  Raises InputError."""
    if inventory is None and not DEFAULT_INVENTORY.exists():
        lab = running_inventory()
        if lab is not None:
            return load(lab)
        raise InputError("there is no ./inventory here", hint="name one with -i, or a single device with -d")
    return load(inventory or DEFAULT_INVENTORY)
