"""`igmpconf replay`: a recording of the agent happens again, on this desk, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from igmpconf.agent.replay import ENGINE, Played, Replay
from igmpconf.apply.rows import VIEWS
from igmpconf.cli.show import cells
from igmpconf.cli.table import table
from igmpconf.engine.effects import Effect
from igmpconf.engine.events import Event
from igmpconf.errors import InputError
from igmpconf.model.canon import to_plain
from igmpconf.model.state import DeviceState
from igmpconf.observe.record import Entry, MachineOpened, RecordingEnded, RunBegan, Step, entries

_SHOWN = ("interfaces", "groups", "mfc", "hosts")
_DIFFERENT = 1


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--run", "number", type=click.IntRange(min=1), help="Only the Nth run of the file; a restarted engine begins a new one.")
@click.option("--until", "until_s", type=click.FloatRange(min=0), help="Stop each run at this many seconds after it began.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--quiet", "-q", is_flag=True, help="No transcript: differences and the state at the end only.")
def replay(file: Path, number: int | None, until_s: float | None, form: str, *, quiet: bool) -> int:
    """Feed the recording FILE (igmpconf-agent run --record) to fresh engines and compare what they do.

    Exit code 1 if anything they ask of the kernel or say on the wire differs from what was recorded.
    """
    until_ms = None if until_s is None else round(until_s * 1000)
    runs = [_Run(began, steps, until_ms) for at, (began, steps) in enumerate(_runs(entries(file, ENGINE)), 1) if number in {None, at}]
    if not runs:
        raise InputError(f"{file} has no run {number}")
    is_different = False
    told = []
    for run in runs:
        if form == "json":
            told.append(run.plain(with_steps=not quiet))
        else:
            run.print(quiet=quiet)
        is_different |= bool(run.differences)
    if form == "json":
        click.echo(json.dumps({"runs": told}, indent=2))
    return _DIFFERENT if is_different else 0


def _runs(lines: Iterable[Entry[Event, Effect]]) -> Iterator[tuple[RunBegan, list[Entry[Event, Effect]]]]:
    began: RunBegan | None = None
    steps: list[Entry[Event, Effect]] = []
    for entry in lines:
        if isinstance(entry, RunBegan):
            if began is not None:
                yield began, steps
            began, steps = entry, []
        else:
            steps.append(entry)
    if began is not None:
        yield began, steps


class _Run:
    """One run, played at once."""

    def __init__(self, began: RunBegan, lines: Iterable[Entry[Event, Effect]], until_ms: int | None) -> None:
        self.began = began
        self.played: list[Played] = []
        self.ended: str | None = None
        replay = Replay()
        for entry in lines:
            if isinstance(entry, RecordingEnded):
                self.ended = entry.reason
                continue
            at_ms = entry.at_ms if isinstance(entry, Step | MachineOpened) else 0
            if until_ms is not None and at_ms > until_ms:
                replay.now_ms = until_ms
                break
            try:
                done = replay.play(entry)
            except KeyError as error:
                raise InputError(f"line {entry.line}: the recording never opened machine {error}", hint="its beginning is missing") from error
            if done is not None:
                self.played.append(done)
        self.now_ms = replay.now_ms
        self.states = replay.states()

    @property
    def differences(self) -> list[Played]:
        return [done for done in self.played if done.differences]

    def print(self, *, quiet: bool) -> None:
        click.echo(f"run of {self.began.started}, igmpconf {self.began.program}, {len(self.played)} events")
        for done in self.played:
            if not quiet or done.differences:
                click.echo(f"{done.step.at_ms:>10} {'/'.join(done.step.machine)} >> {done.told}")
                for line in done.asked:
                    click.echo(f"{'':>10}   {line}")
            for line in done.differences:
                click.echo(f"{'':>10}   DIFFERS (line {done.step.line}): {line}")
        if self.ended is not None:
            click.echo(f"the recording ends here: {self.ended}")
        for machine, state in self.states.items():
            for name in _SHOWN:
                text = _shown(name, state)
                if text:
                    click.echo(f"\n{name} of {'/'.join(machine)} at {self.now_ms} ms\n{text}", nl=False)
        different = self.differences
        click.echo(f"\n{f'{len(different)} of {len(self.played)} events differ' if different else 'every effect as recorded'}")

    def plain(self, *, with_steps: bool) -> dict[str, Any]:
        steps = [_plain_step(done) for done in self.played if with_steps or done.differences]
        return {
            "started": self.began.started,
            "program": self.began.program,
            "events": len(self.played),
            "ended": self.ended,
            "at_ms": self.now_ms,
            "differences": len(self.differences),
            "steps": steps,
            "state": {"/".join(machine): to_plain(state) for machine, state in self.states.items()},
        }


def _plain_step(done: Played) -> dict[str, Any]:
    step = done.step
    return {
        "line": step.line,
        "at_ms": step.at_ms,
        "machine": list(step.machine),
        "event": ENGINE.event.written(step.event),
        "effects": [ENGINE.effect.written(effect) for effect in done.effects],
        "differences": list(done.differences),
    }


def _shown(name: str, state: DeviceState) -> str:
    view = VIEWS[name]
    columns = tuple(column for column in view.columns if column != "family")  # a machine has one
    rows = [cells(row, columns) for row in view.rows(state)]
    return table([column.removesuffix("_s") for column in columns], rows) if rows else ""
