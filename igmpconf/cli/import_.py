"""`igmpconf import`: other programs' configuration as our YAML; what it cannot express is told line by line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from igmpconf.cli.devices import talk
from igmpconf.errors import InputError
from igmpconf.migrate import igmpproxy, routeros, uci, vyos
from igmpconf.migrate.draft import Imported
from igmpconf.schema.load import dump, load_text

READERS: dict[str, Callable[[str], Imported]] = {
    "routeros": routeros.imported,
    "igmpproxy": igmpproxy.imported,
    "vyos": vyos.imported,
    "uci": uci.imported,
}


@click.command("import")
@click.argument("kind", type=click.Choice(list(READERS)))
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--network", type=click.Path(path_type=Path), help="uci: /etc/config/network of the device.  [default: network beside FILE]")
@click.option("--strict", is_flag=True, help="Exit with 3 if anything could not be carried over.")
def import_(kind: str, file: Path, network: Path | None, *, strict: bool) -> int:
    """Print FILE as the desired state of igmpconf.

    routeros: commands or an /export.  igmpproxy: igmpproxy.conf.  vyos: `show configuration commands`, EdgeOS too.
    uci: OpenWrt's /etc/config/igmpproxy or omcproxy, or `uci export` of it.
    FILE is - for standard input.  What cannot be expressed is told on stderr with its line, and left out.
    """
    if network is not None and kind != "uci":
        raise click.UsageError("--network belongs to uci")
    found = uci.imported(_text(file), _network(file, network)) if kind == "uci" else READERS[kind](_text(file))
    for remark in found.remarks:
        talk(f"{file}:{remark.line}: {remark.message}")
    if found.is_empty:
        raise InputError(f"{file} holds nothing that igmpconf configures", hint=f"it was read as {kind}")
    text = dump(found.config)
    click.echo(text, nl=False)
    complaints = load_text(text.encode(), "<the result>").diagnostics
    errors = [one for one in complaints if one.is_error]
    for one in complaints:
        talk(one.text())
    if errors:
        raise InputError(f"what {file} says cannot run as it is; the YAML shows where it has to be changed")
    if strict and found.remarks:
        raise InputError(f"{len(found.remarks)} of the lines could not be carried over as they are")
    return 0


def _network(file: Path, named: Path | None) -> str:
    """What says which interface a network of OpenWrt is."""
    if named is not None:
        return _text(named)
    beside = file.with_name("network")
    return _text(beside) if str(file) != "-" and file.name != "network" and beside.is_file() else ""


def _text(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")
