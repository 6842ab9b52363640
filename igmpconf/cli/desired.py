"""What is wanted of each device: files of -f for one, `igmpconf_config` of the inventory for many."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from igmpconf.apply.session import device_state, running_config
from igmpconf.cli.devices import Device, for_each, talk
from igmpconf.errors import IgmpconfError, InputError
from igmpconf.inventory.fleet import Host
from igmpconf.inventory.render import SUFFIX, rendered
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NetconfClient
from igmpconf.plan.plan import DevicePlan, Plan, planned
from igmpconf.schema.diagnostic import Diagnostic, in_order
from igmpconf.schema.load import load_files

if TYPE_CHECKING:
    from igmpconf.schema.load import Loaded


@dataclass(frozen=True, slots=True)
class Wanted:
    """The desired state of one device."""

    config: DeviceConfig
    diagnostics: tuple[Diagnostic, ...]


def new_plan_id() -> str:
    """A name for a plan that sorts by time: 20261125-215733-3fa9c1."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + "-" + secrets.token_hex(3)


def of_files(paths: Sequence[Path]) -> Wanted:
    """What the files want.  Raises InputError with every complaint."""
    loaded = load_files(list(paths))
    return _settled([loaded])[0]


def of_hosts(hosts: Sequence[Host]) -> list[Wanted]:
    """What the inventory wants of each host.  Raises InputError with every complaint about every host."""
    loads: list[Loaded] = []
    with tempfile.TemporaryDirectory(prefix="igmpconf-") as scratch:
        for host in hosts:
            files = host.config_files()
            if not files:
                raise InputError(
                    f"the inventory does not say what is wanted of {host.name}", hint="give it igmpconf_config: FILE in host_vars or group_vars, or use -f FILE"
                )
            paths = [_text_of(path, host, Path(scratch)) for path in files]
            loads.append(load_files(paths))
        return _settled(loads)


def _text_of(path: Path, host: Host, scratch: Path) -> Path:
    """The file itself, or what a template makes of it for the host, under a name that says both."""
    if path.suffix != SUFFIX:
        return path
    variables = {**host.variables, "inventory_hostname": host.name, "group_names": [name for name in host.groups if name != "all"]}
    place = scratch / host.name
    place.mkdir(exist_ok=True)
    made = place / path.stem
    made.write_text(rendered(path, variables), encoding="utf-8")
    return made


def _settled(loads: Sequence[Loaded]) -> list[Wanted]:
    complaints = in_order(list(dict.fromkeys(d for loaded in loads for d in loaded.diagnostics)))
    errors = [d for d in complaints if d.is_error]
    if errors:
        raise InputError(f"{len(errors)} error{'s' if len(errors) > 1 else ''} in the desired state", complaints)
    for warning in complaints:
        talk(warning.text())
    wanted = []
    for loaded in loads:
        assert loaded.config is not None
        wanted.append(Wanted(loaded.config, tuple(loaded.diagnostics)))
    return wanted


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


def make_plan(devices: Sequence[Device], wanted: Sequence[DeviceConfig]) -> Plan:
    """Read every device and compare.  Raises the error of the first device that could not be read, after all were asked."""
    by_name = {device.name: config for device, config in zip(devices, wanted, strict=True)}

    def one(device: Device) -> DevicePlan:
        with NetconfClient.connect(device.target, say=talk) as client:
            return planned(device.name, running_config(client), by_name[device.name], device_state(client))

    answers = for_each(devices, one)
    failed = [answer for answer in answers if isinstance(answer, IgmpconfError)]
    for error in failed[1:]:
        talk(f"igmpconf: {error.message}")
    if failed:
        raise failed[0]
    return Plan(plan_id=new_plan_id(), devices=tuple(answer for answer in answers if isinstance(answer, DevicePlan)))
