"""`igmpconf adopt`: what a device runs becomes its desired state, on stdout, in a file, or in the inventory.

What is written gives the device's running configuration exactly, so a plan made of it is empty, and adopting twice
writes the same bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from igmpconf.apply.session import running_config
from igmpconf.cli.desired import of_hosts
from igmpconf.cli.devices import Device, chosen, device_options, fleet, for_each, talk
from igmpconf.errors import IgmpconfError, InputError
from igmpconf.inventory.fleet import variables_file
from igmpconf.inventory.hosts import Host
from igmpconf.inventory.yamlfile import parse_yaml
from igmpconf.model.canon import digest
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NetconfClient
from igmpconf.schema.load import dump

_VARIABLE = "igmpconf_config"
_LINE = re.compile(rf"^{_VARIABLE}:[ \t]*(?:[^\s\[{{&*!|>#][^\n#]*|\[[^\n\]]*\])?[ \t]*(?:#[^\n]*)?$", re.MULTILINE)  # one line of plain YAML


@click.command()
@click.argument("name", metavar="[DEVICE]", required=False)
@device_options
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write to this file in place of stdout.")
@click.option("--into-inventory", is_flag=True, help="Write desired/HOST.yaml beside the inventory, and igmpconf_config in host_vars to name it.")
def adopt(*, name: str | None, device: str | None, limit: str | None, inventory: Path | None, out: Path | None, into_inventory: bool) -> int:
    """Write what DEVICE runs as its desired state: a plan of it is empty."""
    if name is not None and (device is not None or limit is not None):
        raise click.UsageError("DEVICE and -d or -l exclude each other")
    devices = chosen(name if name is not None else device, limit, inventory)
    if into_inventory and out is not None:
        raise click.UsageError("-o and --into-inventory exclude each other")
    if len(devices) != 1 and not into_inventory:
        raise click.UsageError(f"{len(devices)} devices are chosen; name one, or write them --into-inventory")
    read = for_each(devices, _running)
    failed = [one for one in read if isinstance(one, IgmpconfError)]
    for error in failed[1:]:
        talk(f"igmpconf: {error.message}")
    if failed:
        raise failed[0]
    running = {one.name: config for one, config in zip(devices, read, strict=True) if isinstance(config, DeviceConfig)}
    if into_inventory:
        for one in devices:
            _into_inventory(one, running[one.name], inventory)
    elif out is not None:
        _write(out, _text(devices[0].name, running[devices[0].name]))
    else:
        click.echo(dump(running[devices[0].name]), nl=False)
    return 0


def _running(device: Device) -> DeviceConfig:
    with NetconfClient.connect(device.target, say=talk) as client:
        return running_config(client)


def _text(name: str, config: DeviceConfig) -> str:
    return f"# Desired state of {name}, adopted from what it ran.\n{dump(config)}"


def _into_inventory(device: Device, running: DeviceConfig, inventory: Path | None) -> None:
    """Raises InputError when host_vars is written in a way that cannot be changed without touching what else is there."""
    host = device.host
    if host is None:
        raise InputError(f"{device.name} is not in an inventory", hint="name a host of one, or write to a file with -o")
    if _wants(host, running):
        talk(f"{host.name}: the inventory says this already")
        return
    whole = fleet(inventory)
    # Not below a directory that is an inventory: Ansible would take what is in it for one.
    place = (whole.directory.parent if whole.path.is_dir() else whole.directory) / "desired" / f"{host.name}.yaml"
    named = os.path.relpath(place.absolute(), whole.directory.absolute())
    file, text = _with_variable(whole.directory / "host_vars", host.name, named)
    _write(place, _text(host.name, running))
    _write(file, text)
    again = fleet(inventory).hosts[host.name]
    if not _wants(again, running):
        raise InputError(f"{host.name}: {file} names {place}, but something in the inventory counts more", hint=f"look for {_VARIABLE}")


def _wants(host: Host, running: DeviceConfig) -> bool:
    """The inventory says of the host what it runs; False also when what it says cannot be read."""
    try:
        return digest(of_hosts([host])[0].config) == digest(running)
    except InputError:
        return False


def _with_variable(directory: Path, host: str, value: str) -> tuple[Path, str]:
    """The host's file in host_vars and what it becomes; nothing but the variable changes.  Raises InputError."""
    file = variables_file(directory, host) or directory / f"{host}.yaml"
    if file.is_dir():
        file /= "igmpconf.yaml"
    line = f"{_VARIABLE}: {value}"
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    text = _LINE.sub(lambda _: line, before, count=1)
    if text == before and not _LINE.search(before):
        text = (before if before.endswith("\n") or not before else before + "\n") + line + "\n"
    if _read(text, file) != {**_read(before, file), _VARIABLE: value}:  # a comment in the middle, flow style, an anchor
        raise InputError(f"{file} cannot be changed without touching what else is there", hint=f"write it yourself: {line}")
    return file, text


def _read(text: str, file: Path) -> Mapping[str, Any]:
    """The variables that a text would give as `file`; {} when it would not be one.  Raises InputError when it is no YAML."""
    document = parse_yaml(text, file)
    return document if isinstance(document, dict) else {}


def _write(path: Path, text: str) -> None:
    """Write unless it is so already.  Raises IgmpconfError."""
    try:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            talk(f"{path}: unchanged")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise IgmpconfError(f"{path} cannot be written: {error.strerror}") from None
    talk(f"{path}: written")
