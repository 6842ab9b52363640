"""`igmpconf history` and `igmpconf rollback`: what was committed, and back to it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from igmpconf.apply.planning import plan_rollback
from igmpconf.cli.apply import ApplyOptions, apply_options, carry_out
from igmpconf.cli.commits import commits_of
from igmpconf.cli.desired import new_plan_id
from igmpconf.cli.devices import Device, chosen, device_options, for_each, talk
from igmpconf.cli.table import table
from igmpconf.errors import IgmpconfError
from igmpconf.model.state import CommitRow
from igmpconf.plan.plan import Plan

_COLUMNS = ("number", "time", "user", "event", "plan", "comment")


@click.command()
@device_options
@click.option("--diff", "is_diff", is_flag=True, help="Show what each commit changed.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def history(device: str | None, limit: str | None, inventory: Path | None, form: str, *, is_diff: bool) -> int:
    """Show the last commits of each device: who, when, by which plan, and what."""
    devices = chosen(device, limit, inventory)
    answers = for_each(devices, commits_of)
    if form == "json":
        said: list[dict[str, Any]] = [
            {"device": one.name, **({"error": rows.message} if isinstance(rows, IgmpconfError) else {"rows": [dataclasses.asdict(row) for row in rows]})}
            for one, rows in zip(devices, answers, strict=True)
        ]
        click.echo(json.dumps({"devices": said}, indent=2, ensure_ascii=False))
    else:
        for one, rows in zip(devices, answers, strict=True):
            if not isinstance(rows, IgmpconfError):
                _print(one, rows, is_diff=is_diff, is_alone=len(devices) == 1)
    failed = [answer for answer in answers if isinstance(answer, IgmpconfError)]
    for error in failed[1:]:
        talk(f"igmpconf: {error.message}")
    if failed:
        raise failed[0]
    return 0


def _print(device: Device, rows: tuple[CommitRow, ...], *, is_diff: bool, is_alone: bool) -> None:
    if not is_alone:
        click.echo(f"{device.name}:")
    ordered = sorted(rows, key=lambda row: row.number, reverse=True)
    if not ordered:
        click.echo("no commits yet")
    elif not is_diff:
        cells = [[str(value) if (value := getattr(row, column)) is not None else "-" for column in _COLUMNS] for row in ordered]
        click.echo(table(_COLUMNS, cells), nl=False)
    else:
        for row in ordered:
            click.echo(f"commit {row.number}  {row.time}  {row.user or '-'}  {row.event or '-'}" + (f"  {row.comment}" if row.comment else ""))
            click.echo("".join(f"  {line}\n" for line in (row.diff or "").splitlines()), nl=False)


@click.command()
@click.argument("number", type=click.IntRange(min=0), required=False)
@device_options
@apply_options
def rollback(number: int | None, device: str | None, limit: str | None, inventory: Path | None, **flags: Any) -> int:
    """Go back to commit NUMBER of the history, or to what ran before the last change; planned, verified, confirmed like any apply.

    Commit 0 is the device before its first commit, which configures nothing.
    """
    (one,) = _single(chosen(device, limit, inventory))
    back, wanted_number = plan_rollback(one.target, number, say=talk)
    talk(f"back to commit {wanted_number} of {one.name}")
    plan = Plan(plan_id=new_plan_id(), devices=(back,))
    options = ApplyOptions(**flags)
    return carry_out(plan, {one.name: one}, dataclasses.replace(options, comment=options.comment or f"rollback to commit {wanted_number}"))


def _single(devices: tuple[Device, ...]) -> tuple[Device, ...]:
    if len(devices) != 1:
        raise click.UsageError(f"rollback is for one device, and {len(devices)} are chosen; choose one with -d")
    return devices
