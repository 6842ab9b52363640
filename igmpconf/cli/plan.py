"""`igmpconf plan` and `igmpconf drift`: what would change, and whether anything has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from igmpconf.apply.session import device_state, running_config
from igmpconf.cli.desired import Wanted, for_devices, new_plan_id
from igmpconf.cli.devices import Device, chosen, colour, device_options, for_each, talk
from igmpconf.errors import IgmpconfError
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NetconfClient
from igmpconf.plan import render
from igmpconf.plan.plan import DevicePlan, Plan, planned, to_json
from igmpconf.plan.presence import absent

CHANGES = 2

files_option = click.option("-f", "--file", "files", multiple=True, type=click.Path(path_type=Path), help="Desired state in YAML; several are merged in order.")


def shown(plan: Plan, form: str, written: render.WrittenBy | None = None) -> str:
    """The plan in one of the output formats; `written` has durations as the user wrote them."""
    match form:
        case "json":
            return to_json(plan)
        case "markdown":
            return render.markdown(plan, written=written)
        case "junit":
            return render.junit(plan, written=written)
        case _:
            return render.text(plan, paint=colour, written=written)


@click.command()
@files_option
@device_options
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Save the plan; `igmpconf apply FILE` executes exactly it.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes.")
@click.option("--format", "form", type=click.Choice(["text", "json", "markdown", "junit"]), default="text", show_default=True)
def plan(
    *, files: tuple[Path, ...], device: str | None, limit: str | None, inventory: Path | None, out: Path | None, form: str, detailed_exitcode: bool
) -> int:
    """Compare the desired state with what the devices run, and say what a change would do to live groups."""
    devices = chosen(device, limit, inventory, needs_files=not files)
    wanted = for_devices(devices, files)
    made = make_plan(devices, [one.config for one in wanted])
    click.echo(shown(made, form, written_by(devices, wanted)), nl=False)
    if out is not None:
        save(made, out)
        talk(f"saved to {out}; `igmpconf apply {out}` executes exactly this plan")
    return CHANGES if detailed_exitcode and not made.is_empty else 0


def make_plan(devices: Sequence[Device], wanted: Sequence[DeviceConfig], deviating: set[str] | None = None) -> Plan:
    """Read every device and compare.  Raises the error of the first device that could not be read, after all were asked.

    `deviating` gets the names of the devices whose rules, VLANs or settings are not as they are configured.
    """
    deviating = set() if deviating is None else deviating
    by_name = {device.name: config for device, config in zip(devices, wanted, strict=True)}

    def one(device: Device) -> DevicePlan:
        with NetconfClient.connect(device.target, say=talk) as client:
            state = device_state(client)
            if state.agent is not None and (pending := state.agent.pending_persist_id) is not None:
                talk(f"warning: {device.name}: a commit waits for its confirmation: igmpconf confirm {pending}, or cancel {pending}")
            for row in state.deviations:
                talk(f"{device.name}: changed by hand, or not to be had: {row.kind} {row.name}: expected {row.expected}, found {row.found}")
            for warning in absent(by_name[device.name], state.agent.interfaces if state.agent is not None else ()):
                talk(f"warning: {device.name}: {warning}")
            if state.deviations:
                deviating.add(device.name)
            return planned(device.name, running_config(client), by_name[device.name], state)

    answers = for_each(devices, one)
    failed = [answer for answer in answers if isinstance(answer, IgmpconfError)]
    for error in failed[1:]:
        talk(f"igmpconf: {error.message}")
    if failed:
        raise failed[0]
    return Plan(plan_id=new_plan_id(), devices=tuple(answer for answer in answers if isinstance(answer, DevicePlan)))


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
@click.option("--format", "form", type=click.Choice(["text", "json", "markdown", "junit"]), default="text", show_default=True)
def drift(files: tuple[Path, ...], device: str | None, limit: str | None, inventory: Path | None, form: str) -> int:
    """Tell whether devices still are as wanted; exit with 2 when not, and say who changed what when."""
    from igmpconf.cli.history import last_commits  # noqa: PLC0415 - only when something has drifted

    devices = chosen(device, limit, inventory, needs_files=not files)
    wanted = for_devices(devices, files)
    deviating: set[str] = set()
    made = make_plan(devices, [one.config for one in wanted], deviating)
    click.echo(shown(made, form, written_by(devices, wanted)), nl=False)
    drifted = [one for one in devices if any(p.device == one.name and p.changes for p in made.devices)]
    for one in drifted:
        for line in last_commits(one, 3):
            talk(line)
    return CHANGES if drifted or deviating else 0
