"""`igmpconf show`: the operational state as tables, or as JSON whose rows are a promise (schemas/show.schema.json)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from igmpconf.apply.rows import VIEWS, Row, View
from igmpconf.apply.session import device_state
from igmpconf.cli.devices import Device, chosen, device_options, for_each, talk
from igmpconf.cli.table import Dull, Fitted, blocks, fitted, width
from igmpconf.errors import IgmpconfError
from igmpconf.netconf.client import NetconfClient

WATCH_S = 2.0
_DULL: Dull = {"instance": None, "enabled": ("yes",), "wrong_if": ("0", "-")}


@click.command()
@click.argument("what", type=click.Choice(list(VIEWS)))
@click.option("--detail", is_flag=True, help="Every value of every row, as NAME=VALUE.")
@click.option("--watch", is_flag=True, help=f"Show it again every {WATCH_S:g} seconds, until Ctrl-C.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@device_options
def show(what: str, form: str, device: str | None, limit: str | None, inventory: Path | None, *, detail: bool, watch: bool) -> int:
    """Show the live state: interfaces, groups, forwarding entries, queriers, hosts, counters or sources.

    A table that would be wider than the terminal (or COLUMNS) loses columns, which are named on stderr; --detail and
    --format json always have all.
    """
    devices = chosen(device, limit, inventory)
    view = VIEWS[what]
    code = 0
    while True:
        answers = for_each(devices, lambda one: _ask(one, view))
        if watch and form == "text" and sys.stdout.isatty():
            click.clear()
        code = _print(devices, answers, view, form, is_detailed=detail)
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


def _print(devices: Sequence[Device], answers: Sequence[list[Row] | IgmpconfError], view: View, form: str, *, is_detailed: bool) -> int:
    failed = [answer for answer in answers if isinstance(answer, IgmpconfError)]
    if form == "json":
        said = [
            {"device": device.name, **({"error": answer.message} if isinstance(answer, IgmpconfError) else {"rows": answer})}
            for device, answer in zip(devices, answers, strict=True)
        ]
        click.echo(json.dumps({"devices": said}, indent=2, ensure_ascii=False))
    elif len(failed) < len(devices):
        rows = [
            {"device": device.name, **row} if len(devices) > 1 else row
            for device, answer in zip(devices, answers, strict=True)
            if not isinstance(answer, IgmpconfError)
            for row in answer
        ]
        shown = _shown(view, rows, is_detailed=is_detailed)
        click.echo(shown.text, nl=False)
        if shown.left_out:
            talk(f"no room for {', '.join(name.upper() for name in shown.left_out)}; --detail shows all")
    for error in failed:
        talk(f"igmpconf: {error.message}")
        if error.hint:
            talk(f"hint: {error.hint}")
    return failed[0].exit_code if failed else 0


def _shown(view: View, rows: Sequence[Row], *, is_detailed: bool) -> Fitted:
    if not rows:
        return Fitted("nothing\n")
    if is_detailed:
        return Fitted(blocks([list(_words(row)) for row in rows], width()))
    columns = [column for column in (*(("device",) if "device" in rows[0] else ()), *view.columns) if column != "family" or _differ(rows)]
    table_rows = [cells({**row, **{name: make(row) for name, make in view.derived.items()}}, columns) for row in rows]
    return fitted([column.removesuffix("_s") for column in columns], table_rows, width(), dull=_DULL, optional=view.optional)


def _differ(rows: Sequence[Row]) -> bool:
    """The family is worth a column only where both are there."""
    return len({row.get("family") for row in rows}) > 1


def _words(row: Row) -> Iterator[tuple[str, str]]:
    """Every value of a row with its name; what is within a value has its own."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}" if name != "counters" else inner, _word(one)) for inner, one in value.items())
        elif value != []:
            yield name, _word(value)


def _word(value: Any) -> str:
    text = (
        ",".join(f"{one['address']}({one['expires_s']}s)" if isinstance(one, dict) else str(one) for one in value) if isinstance(value, list) else _cell(value)
    )
    return json.dumps(text, ensure_ascii=False) if " " in text else text


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
