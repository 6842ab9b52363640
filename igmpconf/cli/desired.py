"""What is wanted of each device: files of -f for one, `igmpconf_config` of the inventory for many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from igmpconf.cli.devices import Device, talk
from igmpconf.errors import InputError
from igmpconf.inventory import desired
from igmpconf.inventory.desired import Planned, Wanted, new_plan_id
from igmpconf.inventory.hosts import Host
from igmpconf.inventory.patterns import some
from igmpconf.schema.diagnostic import Diagnostic

__all__ = ["Planned", "Wanted", "check_together", "for_devices", "new_plan_id", "of_files", "of_hosts"]


def _warn(found: Diagnostic) -> None:
    talk(found.text())


def of_files(paths: Sequence[Path]) -> Wanted:
    """What the files want; warnings are told.  Raises InputError with every complaint."""
    return desired.of_files(paths, warn=_warn)


def of_hosts(hosts: Sequence[Host]) -> list[Wanted]:
    """What the inventory wants of each host; warnings are told.  Raises InputError with every complaint about every host."""
    return desired.of_hosts(hosts, warn=_warn)


def check_together(devices: Sequence[Planned], unasked: Sequence[Planned] = ()) -> None:
    """What only shows when the devices are seen together, and with what the inventory wants of the others; warnings are told.

    `unasked` are further ones to compare with.  Raises InputError when a finding is an error.
    """
    fellows = desired.fellows_of((*devices, *unasked))
    if fellows.unread:
        talk(f"not compared with {some(fellows.unread)}: what is wanted of them cannot be read, `igmpconf validate` says why")
    if fellows.too_many:
        talk(f"not compared with the {fellows.too_many} other hosts of the inventory; igmpconf_site says which belong together")
    desired.check_together(devices, (*unasked, *fellows.known), warn=_warn)


def for_devices(devices: Sequence[Device], files: Sequence[Path]) -> list[Wanted]:
    """What is wanted of each device.  Raises InputError, UsageError."""
    if files:
        if len(devices) != 1:
            raise click.UsageError(f"-f is the desired state of one device, and {len(devices)} are chosen; choose one with -d or -l")
        return [of_files(files)]
    hosts = [device.host for device in devices if device.host is not None]
    if len(hosts) != len(devices):
        named = ", ".join(device.name for device in devices if device.host is None)
        raise InputError(f"nothing says what is wanted of {named}", hint="give the desired state with -f FILE, or keep an inventory")
    return of_hosts(hosts)
