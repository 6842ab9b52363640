"""`igmpconf plan` and `igmpconf drift`: what would change, and whether anything has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from igmpconf.apply.kept import KeptSessions
from igmpconf.apply.planning import plan_device
from igmpconf.cli.commits import who_changed
from igmpconf.cli.desired import Planned, Wanted, check_together, for_devices, new_plan_id
from igmpconf.cli.devices import Device, chosen, colour, device_options, for_each, talk
from igmpconf.errors import IgmpconfError, StalePlan
from igmpconf.inventory.fleet import digest_of
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState
from igmpconf.plan import render
from igmpconf.plan.diff import Level
from igmpconf.plan.impact import LEVELS, worst
from igmpconf.plan.junit import junit
from igmpconf.plan.markdown import LEAST, MOST, markdown
from igmpconf.plan.plan import DevicePlan, Plan, to_json
from igmpconf.plan.presence import absent

CHANGES = 2

form_option = click.option("--format", "form", type=click.Choice(["text", "json", "markdown", "junit"]), default="text", show_default=True)
size_option = click.option(
    "--max-size", type=click.IntRange(min=LEAST), default=MOST, show_default=True, metavar="CHARACTERS", help="The most that --format markdown may be."
)
files_option = click.option("-f", "--file", "files", multiple=True, type=click.Path(path_type=Path), help="Desired state in YAML; several are merged in order.")


def shown(plan: Plan, form: str, written: render.WrittenBy | None = None, *, most: int = MOST, unread: Mapping[str, IgmpconfError] | None = None) -> str:
    """The plan in one of the output formats; `written` has durations as the user wrote them, `most` limits Markdown.

    What reviews and pipelines read names the `unread` devices too; a person is told on stderr.
    """
    missing = {name: error.message for name, error in (unread or {}).items()}
    match form:
        case "json":
            return to_json(plan)
        case "markdown":
            return markdown(plan, written=written, most=most, unread=missing)
        case "junit":
            return junit(plan, written=written, unread=missing)
        case _:
            return render.text(plan, paint=colour, written=written)


@click.command()
@files_option
@device_options
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Save the plan; `igmpconf apply FILE` executes exactly it.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes.")
@click.option("--max-impact", type=click.Choice(["none", "rejoin"]), help="Exit with 1 if the plan touches live groups more than this.")
@click.option(
    "--measure",
    type=click.FloatRange(min=0, max=60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Watch the counters of groups that would be touched this long, to tell bytes a second; 0 does not.",
)
@click.option("--skip-unreachable", is_flag=True, help="Plan the devices that answer; the others are told and left out.")
@form_option
@size_option
def plan(
    *,
    files: tuple[Path, ...],
    device: str | None,
    limit: str | None,
    inventory: Path | None,
    out: Path | None,
    form: str,
    max_size: int,
    detailed_exitcode: bool,
    max_impact: Level | None,
    measure: float,
    skip_unreachable: bool,
) -> int:
    """Compare the desired state with what the devices run, and say what a change would do to live groups."""
    devices = chosen(device, limit, inventory, needs_files=not files)
    wanted = for_devices(devices, files)
    unread: dict[str, IgmpconfError] | None = {} if skip_unreachable else None
    made = make_plan(devices, wanted, measure_s=measure, unread=unread)
    click.echo(shown(made, form, written_by(devices, wanted), most=max_size, unread=unread), nl=False)
    if out is not None:
        save(made, out)
        talk(f"saved to {out}; `igmpconf apply {out}` executes exactly this plan")
    within(made, max_impact)
    return CHANGES if detailed_exitcode and not made.is_empty else 0


def make_plan(
    devices: Sequence[Device],
    wanted: Sequence[Wanted],
    deviating: set[str] | None = None,
    *,
    measure_s: float = 0.0,
    kept: KeptSessions | None = None,
    unread: dict[str, IgmpconfError] | None = None,
) -> Plan:
    """Read every device and compare.  Raises the error of the first device that could not be read, after all were asked.

    With `unread`, it gets the errors, the plan is of those that answered, and only an error of all is raised.

    `deviating` gets the names of the devices whose rules, VLANs or settings are not as they are configured; with it,
    the devices are looked at one by one, without it also together (plan/fleet.py).  Counters of groups that a change
    touches are read again after `measure_s` seconds.  Sessions are left with `kept`.
    """
    is_checked = deviating is None
    deviating = set() if deviating is None else deviating
    by_name = {device.name: one.config for device, one in zip(devices, wanted, strict=True)}
    states: dict[str, DeviceState] = {}

    def one(device: Device) -> DevicePlan:
        config = by_name[device.name]

        def look(state: DeviceState) -> None:
            states[device.name] = DeviceState(agent=state.agent, interfaces=state.interfaces)
            _tell(device, config, state, deviating)

        found = plan_device(device.target, config, look=look, measure_s=measure_s, kept=kept, say=talk)
        return dataclasses.replace(found, inventory_digest=digest_of([device.host]) if device.host is not None else None)

    answers = for_each(devices, one)
    failed = {device.name: answer for device, answer in zip(devices, answers, strict=True) if isinstance(answer, IgmpconfError)}
    if failed and (unread is None or len(failed) == len(devices)):
        for error in list(failed.values())[1:]:
            talk(f"igmpconf: {error.message}")
        raise next(iter(failed.values()))
    if unread is not None:
        unread.update(failed)
        for error in failed.values():
            talk(f"left out: {error.message}")
    if is_checked:
        everybody = [Planned(name=d.name, wanted=w, host=d.host, state=states.get(d.name)) for d, w in zip(devices, wanted, strict=True)]
        check_together([one for one in everybody if one.name not in failed], [one for one in everybody if one.name in failed])
    return Plan(plan_id=new_plan_id(), devices=tuple(answer for answer in answers if isinstance(answer, DevicePlan)))


def _tell(device: Device, wanted: DeviceConfig, state: DeviceState, deviating: set[str]) -> None:
    """What else somebody who plans should know of a device."""
    if state.agent is not None and (pending := state.agent.pending_persist_id) is not None:
        talk(f"warning: {device.name}: a commit waits for its confirmation: igmpconf confirm {pending}, or cancel {pending}")
    for row in state.deviations:
        talk(f"{device.name}: changed by hand, or not to be had: {row.kind} {row.name}: expected {row.expected}, found {row.found}")
    for warning in absent(wanted, state.agent.interfaces if state.agent is not None else ()):
        talk(f"warning: {device.name}: {warning}")
    if state.deviations:
        deviating.add(device.name)


def within(made: Plan, limit: Level | None) -> None:
    """Raises IgmpconfError when the plan touches live groups more than `limit`."""
    impact = worst(change.impact for device in made.devices for change in device.changes)
    if limit is not None and LEVELS.index(impact.level) > LEVELS.index(limit):
        raise IgmpconfError(
            f"the plan {render.impact_text(impact)}, and --max-impact is {limit}", hint="nothing was changed; apply it at another time, or allow more"
        )


def same_inventory(made: Plan, devices: Mapping[str, Device]) -> None:
    """Raises StalePlan when the inventory says something else of a device of a saved plan than it did when it was made.

    A host name may lead to another device by now.
    """
    for planned_ in made.devices:
        host = devices[planned_.device].host
        if planned_.inventory_digest is not None and host is not None and digest_of([host]) != planned_.inventory_digest:
            raise StalePlan(host.name, f"the inventory says something else of {host.name} than when the plan was made", hint="make the plan again")


def written_by(devices: Sequence[Device], wanted: Sequence[Wanted]) -> dict[str, dict[str, str]]:
    """Per device, the durations as they were written."""
    return {device.name: one.written for device, one in zip(devices, wanted, strict=True)}


def save(made: Plan, out: Path) -> None:
    """Write the document.  Raises IgmpconfError."""
    try:
        out.write_text(to_json(made), encoding="utf-8")
    except OSError as error:
        raise IgmpconfError(f"the plan cannot be saved to {out}: {error.strerror}") from None


@click.command()
@files_option
@device_options
@form_option
@size_option
def drift(*, files: tuple[Path, ...], device: str | None, limit: str | None, inventory: Path | None, form: str, max_size: int) -> int:
    """Tell whether devices still are as wanted; exit with 2 when not, and say who changed what when.

    Devices that do not answer hide nothing of the others; if those are as wanted, the exit code is that of the error.
    """
    devices = chosen(device, limit, inventory, needs_files=not files)
    wanted = for_devices(devices, files)
    deviating: set[str] = set()
    unread: dict[str, IgmpconfError] = {}
    made = make_plan(devices, wanted, deviating, unread=unread)
    click.echo(shown(made, form, written_by(devices, wanted), most=max_size, unread=unread), nl=False)
    by_name = {one.name: one for one in devices}
    drifted = [one for one in made.devices if one.changes]
    for one in drifted:
        for line in who_changed(by_name[one.device], one.changes):
            talk(line)
    if drifted or deviating:
        return CHANGES
    if unread:
        raise next(iter(unread.values()))
    return 0
