"""`igmpconf show`: the operational state as tables, or as JSON whose rows are a promise (schemas/show.schema.json)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from igmpconf.apply.session import device_state
from igmpconf.cli.devices import Device, chosen, device_options, for_each, talk
from igmpconf.cli.rows import VIEWS, Row, View
from igmpconf.cli.table import table
from igmpconf.errors import IgmpconfError
from igmpconf.netconf.client import NetconfClient

WATCH_S = 2.0


@click.command()
@click.argument("what", type=click.Choice(list(VIEWS)))
@click.option("--watch", is_flag=True, help=f"Show it again every {WATCH_S:g} seconds, until Ctrl-C.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@device_options
def show(what: str, form: str, device: str | None, limit: str | None, inventory: Path | None, *, watch: bool) -> int:
    """Show the live state: interfaces, groups, forwarding entries, queriers, hosts, counters or sources."""
    devices = chosen(device, limit, inventory)
    view = VIEWS[what]
    code = 0
    while True:
        answers = for_each(devices, lambda one: _ask(one, view))
        if watch and form == "text" and sys.stdout.isatty():
            click.clear()
        code = _print(devices, answers, view, form)
        if not watch:
            return code
        sys.stdout.flush()
        try:
            time.sleep(WATCH_S)
        except KeyboardInterrupt:
            return code


def _ask(device: Device, view: View) -> list[Row]:
    with NetconfClient.connect(device.target, say=talk) as client:
        state = device_state(client, view.parts)
    remark = view.remark(state)
    if remark is not None:
        talk(f"{device.name}: {remark}")
    return view.rows(state)


def _print(devices: Sequence[Device], answers: Sequence[list[Row] | IgmpconfError], view: View, form: str) -> int:
    failed = [answer for answer in answers if isinstance(answer, IgmpconfError)]
    if form == "json":
        said = [
            {"device": device.name, **({"error": answer.message} if isinstance(answer, IgmpconfError) else {"rows": answer})}
            for device, answer in zip(devices, answers, strict=True)
        ]
        click.echo(json.dumps({"devices": said}, indent=2, ensure_ascii=False))
    else:
        columns = _columns(view, [row for answer in answers if not isinstance(answer, IgmpconfError) for row in answer])
        if len(devices) > 1:
            columns = ("device", *columns)
        rows = [
            cells({**row, "device": device.name}, columns)
            for device, answer in zip(devices, answers, strict=True)
            if not isinstance(answer, IgmpconfError)
            for row in answer
        ]
        if len(failed) < len(devices):
            click.echo(table([column.removesuffix("_s") for column in columns], rows) if rows else "nothing", nl=not rows)
    for error in failed:
        talk(f"igmpconf: {error.message}")
        if error.hint:
            talk(f"hint: {error.hint}")
    return failed[0].exit_code if failed else 0


def _columns(view: View, rows: Sequence[Row]) -> tuple[str, ...]:
    """Those of the view; the family is worth one only where both are there."""
    families = {row.get("family") for row in rows}
    return tuple(column for column in view.columns if column != "family" or len(families) > 1)


def cells(row: Row, columns: Sequence[str]) -> list[str]:
    """The row as the cells of a table for people."""
    return [_cell(row.get(column)) for column in columns]


def _cell(value: Any) -> str:
    """A value of a row as a cell: short, and `-` for what is not known."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(_cell(one) for one in value)
    if isinstance(value, dict):
        if "self" in value:  # a querier
            return "self" if value["self"] else _cell(value["address"])
        return _cell(value.get("address"))
    return str(value)
