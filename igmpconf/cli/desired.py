"""What is wanted of each device: files of -f for one, `igmpconf_config` of the inventory for many."""

from __future__ import annotations

import dataclasses
import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from igmpconf.cli.devices import Device, talk
from igmpconf.errors import InputError
from igmpconf.inventory.fleet import Host
from igmpconf.inventory.render import SUFFIX, rendered
from igmpconf.model.config import DeviceConfig
from igmpconf.schema.diagnostic import in_order
from igmpconf.schema.load import Loaded, load_files


@dataclass(frozen=True, slots=True)
class Wanted:
    """The desired state of one device."""

    config: DeviceConfig
    written: dict[str, str]  # path -> duration as the user wrote it, where that is not its canonical text


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
            made = {_text_of(path, host, Path(scratch)): path for path in files}
            loads.append(_named(load_files(list(made)), {str(path): f"{source} for {host.name}" for path, source in made.items() if path != source}))
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


def _named(loaded: Loaded, names: dict[str, str]) -> Loaded:
    """Complaints about what a template made speak of the template; line and column are those of what it made."""
    diagnostics = tuple(dataclasses.replace(d, file=names.get(d.file or "", d.file)) for d in loaded.diagnostics)
    return dataclasses.replace(loaded, diagnostics=diagnostics)


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
        wanted.append(Wanted(loaded.config, {echo.path: echo.written for echo in loaded.echoes}))
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
