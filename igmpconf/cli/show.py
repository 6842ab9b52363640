"""`igmpconf show`: the operational state as tables, or as JSON whose rows are a promise (schemas/show.schema.json)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from igmpconf.apply.session import device_state
from igmpconf.cli.devices import Device, chosen, device_options, for_each, talk
from igmpconf.cli.table import table
from igmpconf.errors import IgmpconfError
from igmpconf.model.state import DeviceState, GroupRow, HostRow, InterfaceRow, MfcRow, SourceRow
from igmpconf.netconf.client import NetconfClient

Row = dict[str, Any]
WATCH_S = 2.0


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _querier(row: InterfaceRow) -> Row | None:
    q = row.querier
    return None if q is None else {"address": _text(q.address), "self": q.self_, "since_s": q.since_s, "reason": q.reason}


def _interface(row: InterfaceRow) -> Row:
    return {
        "instance": row.instance,
        "interface": row.interface,
        "role": row.role,
        "enabled": row.enabled,
        "up": row.up,
        "addresses": list(row.addresses),
        "querier": _querier(row),
        "version": row.version,
        "counters": {counter.name: counter.value for counter in row.counters},
    }


def _group(row: GroupRow) -> Row:
    return {
        "instance": row.instance,
        "interface": row.interface,
        "group": str(row.group),
        "mode": row.mode,
        "sources": [{"address": str(timer.address), "expires_s": timer.expires_s} for timer in row.sources],
        "excluded": [str(address) for address in row.excluded],
        "version": row.version,
        "expires_s": row.expires_s,
        "uptime_s": row.uptime_s,
        "last_reporter": _text(row.last_reporter),
        "hosts": row.hosts,
    }


def _mfc(row: MfcRow) -> Row:
    return {
        "instance": row.instance,
        "source": str(row.source),
        "group": str(row.group),
        "upstream": row.upstream,
        "downstreams": list(row.downstreams),
        "packets": row.packets,
        "bytes": row.bytes,
        "wrong_if": row.wrong_if,
        "kind": row.kind,
        "state": row.state,
    }


def _host(row: HostRow) -> Row:
    return {
        "interface": row.interface,
        "group": str(row.group),
        "host": str(row.host),
        "mode": row.mode,
        "sources": [str(source) for source in row.sources],
        "expires_s": row.expires_s,
    }


def _source(row: SourceRow) -> Row:
    return {"interface": row.interface, "source": str(row.source), "group": str(row.group), "packets": row.packets, "bytes": row.bytes}


def _queriers(state: DeviceState) -> list[Row]:
    return [
        {
            "instance": row.instance,
            "interface": row.interface,
            "version": row.version,
            **(_querier(row) or {"address": None, "self": False, "since_s": None, "reason": None}),
        }
        for row in state.interfaces
        if row.role == "downstream"
    ]


def _counters(state: DeviceState) -> list[Row]:
    return [
        {"instance": row.instance, "interface": row.interface, "name": counter.name, "value": counter.value}
        for row in state.interfaces
        for counter in row.counters
    ]


@dataclass(frozen=True, slots=True)
class _View:
    parts: tuple[str, ...]  # tables of <state> that it needs
    rows: Callable[[DeviceState], list[Row]]
    columns: tuple[str, ...]  # of the table for people


_VIEWS: dict[str, _View] = {
    "interfaces": _View(
        ("interfaces",), lambda s: [_interface(r) for r in s.interfaces], ("instance", "interface", "role", "up", "addresses", "querier", "version")
    ),
    "groups": _View(
        ("groups",),
        lambda s: [_group(r) for r in s.groups],
        ("instance", "interface", "group", "mode", "sources", "version", "expires_s", "uptime_s", "last_reporter", "hosts"),
    ),
    "mfc": _View(
        ("mfc",),
        lambda s: [_mfc(r) for r in s.mfc],
        ("instance", "source", "group", "upstream", "downstreams", "packets", "bytes", "wrong_if", "kind", "state"),
    ),
    "querier": _View(("interfaces",), _queriers, ("instance", "interface", "version", "address", "self", "since_s", "reason")),
    "hosts": _View(("hosts",), lambda s: [_host(r) for r in s.hosts], ("interface", "group", "host", "mode", "sources", "expires_s")),
    "counters": _View(("interfaces",), _counters, ("instance", "interface", "name", "value")),
    "sources": _View(("sources",), lambda s: [_source(r) for r in s.sources], ("interface", "source", "group", "packets", "bytes")),
}


@click.command()
@click.argument("what", type=click.Choice(list(_VIEWS)))
@click.option("--watch", is_flag=True, help=f"Show it again every {WATCH_S:g} seconds, until Ctrl-C.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@device_options
def show(what: str, form: str, device: str | None, limit: str | None, inventory: Path | None, *, watch: bool) -> int:
    """Show the live state: interfaces, groups, forwarding entries, queriers, hosts, counters or sources."""
    devices = chosen(device, limit, inventory)
    view = _VIEWS[what]
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


def _ask(device: Device, view: _View) -> list[Row]:
    with NetconfClient.connect(device.target, say=talk) as client:
        return view.rows(device_state(client, view.parts))


def _print(devices: Sequence[Device], answers: Sequence[list[Row] | IgmpconfError], view: _View, form: str) -> int:
    failed = [answer for answer in answers if isinstance(answer, IgmpconfError)]
    if form == "json":
        said = [
            {"device": device.name, **({"error": answer.message} if isinstance(answer, IgmpconfError) else {"rows": answer})}
            for device, answer in zip(devices, answers, strict=True)
        ]
        click.echo(json.dumps({"devices": said}, indent=2, ensure_ascii=False))
    else:
        columns = view.columns if len(devices) == 1 else ("device", *view.columns)
        rows = [
            [_cell(row.get(column) if column != "device" else device.name) for column in columns]
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
