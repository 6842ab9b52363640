"""`igmpconf apply`, `confirm` and `cancel`: make the change, prove it, keep it or undo it."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from igmpconf.apply.device import LadderPolicy
from igmpconf.apply.executor import Execution, monotonic_ms
from igmpconf.apply.journal import Journal, Story, read, rollouts_dir
from igmpconf.apply.rollout import Atomic, Outcome, Rollout
from igmpconf.apply.session import DeviceSession
from igmpconf.apply.steps import Phase
from igmpconf.cli.desired import for_devices
from igmpconf.cli.devices import Device, chosen, colour, device_options, named_device, talk
from igmpconf.cli.plan import files_option, make_plan, written_by
from igmpconf.errors import IgmpconfError, InDoubt, InputError, RolledBack, RpcFailed, StalePlan, TransportError
from igmpconf.ids import DeviceName, PersistId
from igmpconf.model.leaf import Duration, LeafError
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.target import SshTarget, Target, UnixTarget
from igmpconf.plan import render
from igmpconf.plan.diff import Level
from igmpconf.plan.impact import LEVELS, worst
from igmpconf.plan.plan import Plan, from_json

F = TypeVar("F", bound=Callable[..., Any])

_VERIFY_SHARE = 3  # verification may take a third of the confirm timeout, so that the confirmation is never late


class _DurationParam(click.ParamType[int]):
    """`60s`, `2m`; RFC 6241 8.4.5.1 counts the confirm timeout in whole seconds."""

    name = "duration"

    def __init__(self, low_ms: int, high_ms: int) -> None:
        self._type = Duration(low_ms, high_ms)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if str(value).isdecimal():
            self.fail(f"{value!r} has no unit; write {value}s", param, ctx)
        try:
            parsed: int = self._type.parse(value)
        except LeafError as error:
            self.fail(f"{value!r}: {error}" + (f" ({error.hint})" if error.hint else ""), param, ctx)
        return parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOptions:
    """The flags that every change takes."""

    yes: bool = False
    confirm_timeout: int = 60_000
    verify_timeout: int | None = None
    atomic: Atomic = "device"
    max_impact: Level | None = None
    allow_down: tuple[str, ...] = ()
    no_confirm: bool = False
    comment: str | None = None

    def policy(self) -> LadderPolicy:
        """The same, as the ladder wants it."""
        timeout_s = -(-self.confirm_timeout // 1000)
        verify_ms = min(self.verify_timeout if self.verify_timeout is not None else 10_000, self.confirm_timeout // _VERIFY_SHARE)
        return LadderPolicy(confirm_timeout_s=timeout_s, verify_timeout_ms=verify_ms, is_confirmed=not self.no_confirm)


def apply_options(command: F) -> F:
    """Add the flags of ApplyOptions."""
    for option in (
        click.option("-m", "--comment", help="Why; kept in the device's history."),
        click.option("--no-confirm", is_flag=True, help="Leave the change unconfirmed: it undoes itself unless `igmpconf confirm ID` comes in time."),
        click.option("--allow-down", multiple=True, metavar="IFACE", help="Interface (or pattern) that may be absent or down after the change."),
        click.option("--max-impact", type=click.Choice(["none", "rejoin"]), help="Refuse a plan that touches live groups more than this."),
        click.option(
            "--atomic", type=click.Choice(["device", "fleet"]), default="device", show_default=True, help="Whether devices stand alone or all together."
        ),
        click.option("--verify-timeout", type=_DurationParam(1_000, 600_000), help="How long the facts may take to become true.  [default: 10s]"),
        click.option(
            "--confirm-timeout", type=_DurationParam(3_000, 3_600_000), default="60s", show_default=True, help="After this an unconfirmed change undoes itself."
        ),
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("document", metavar="[PLAN]", required=False, type=click.Path(path_type=Path))
@files_option
@device_options
@apply_options
@click.option("--resume", metavar="ID", help="Settle an apply that was interrupted: keep or undo, as its journal says.")
def apply(
    *, document: Path | None, files: tuple[Path, ...], device: str | None, limit: str | None, inventory: Path | None, resume: str | None, **flags: Any
) -> int:
    """Change devices: execute a saved PLAN, or plan from -f or the inventory and execute that."""
    options = ApplyOptions(**flags)
    if resume is not None:
        if document is not None or files:
            raise click.UsageError("--resume takes its plan from the journal; give no PLAN and no -f")
        story = read(resume)
        return _settle(story, story.unsettled, is_kept=None)
    if document is not None:
        if files or limit is not None:
            raise click.UsageError("a saved PLAN holds its desired state and its devices; give no -f and no -l")
        plan = _saved(document)
        return carry_out(plan, _devices_of(plan, device, inventory), options)
    devices = chosen(device, limit, inventory, needs_files=not files)
    wanted = for_devices(devices, files)
    plan = make_plan(devices, [one.config for one in wanted])
    return carry_out(plan, {one.name: one for one in devices}, options, written_by(devices, wanted))


def _saved(path: Path) -> Plan:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a plan: it is not text", hint="plans are written by `igmpconf plan -o FILE`") from None
    except OSError as error:
        raise InputError(f"the plan {path} cannot be read: {error.strerror}") from None
    if path.suffix in {".yaml", ".yml"}:
        raise InputError(f"{path} is a desired state, not a plan", hint=f"igmpconf apply -f {path}")
    return from_json(text, name=str(path))


def _devices_of(plan: Plan, device: str | None, inventory: Path | None) -> dict[str, Device]:
    names = [one.device for one in plan.devices]
    if device is None:
        return {name: named_device(name, inventory) for name in names}
    found = named_device(device, inventory)
    if names != [found.name]:
        raise InputError(f"the plan is for {', '.join(names)}, not for {found.name}", hint="leave out -d: a plan knows its devices")
    return {found.name: found}


def carry_out(plan: Plan, devices: Mapping[str, Device], options: ApplyOptions, written: render.WrittenBy | None = None) -> int:
    """Show the plan, ask, execute, and say how it ended.  Raises what the exit code stands for."""
    click.echo(render.text(plan, paint=colour, written=written), nl=False)
    if plan.is_empty:
        return 0
    _within(plan, options.max_impact)
    if not options.yes:
        if not sys.stdin.isatty():
            raise click.UsageError("there is nobody to ask here; say --yes, or apply a saved plan with --yes")
        click.confirm("Apply this plan?", abort=True, err=True)
    rollout = Rollout(plan=plan, persist_id=PersistId(_free_id(plan.plan_id)), policy=options.policy(), atomic=options.atomic)
    targets = {name: devices[name].target for name in rollout.ladders}
    sessions = {
        name: DeviceSession(
            target=target, plan=rollout.ladders[name].plan, plan_id=plan.plan_id, comment=options.comment, allow_down=options.allow_down, say=talk
        )
        for name, target in targets.items()
    }
    journal = Journal.create(
        rollout.persist_id,
        plan,
        atomic=options.atomic,
        confirm_timeout_s=rollout.policy.confirm_timeout_s,
        targets={name: _plain_target(target) for name, target in targets.items()},
    )
    started_ms = monotonic_ms()
    try:
        outcomes = Execution(rollout, sessions, journal, progress=_progress).run()
    finally:
        journal.close()
    return _conclude(outcomes, rollout, took_ms=monotonic_ms() - started_ms)


def _within(plan: Plan, limit: Level | None) -> None:
    impact = worst(change.impact for device in plan.devices for change in device.changes)
    if limit is not None and LEVELS.index(impact.level) > LEVELS.index(limit):
        raise IgmpconfError(
            f"the plan {render.impact_text(impact)}, and --max-impact is {limit}", hint="nothing was changed; apply it at another time, or allow more"
        )


def _free_id(plan_id: str) -> str:
    """The plan's own name for its first apply, then with a number: a token is never used twice."""
    if not (rollouts_dir() / f"{plan_id}.jsonl").exists():
        return plan_id
    number = 2
    while (rollouts_dir() / f"{plan_id}-{number}.jsonl").exists():
        number += 1
    return f"{plan_id}-{number}"


_SAID = {
    Phase.LOCKED: "locked",
    Phase.CHECKED: "unchanged since the plan",
    Phase.EDITED: "edited",
    Phase.VALIDATED: "validated",
    Phase.PROVISIONAL: "committed, unconfirmed; verifying",
    Phase.VERIFIED: "verified",
    Phase.CONFIRMED: "confirmed",
    Phase.ROLLED_BACK: "rolled back",
}


def _progress(device: DeviceName, phase: Phase) -> None:
    if phase in _SAID:
        talk(f"{device}: {_SAID[phase]}")


def _conclude(outcomes: Sequence[Outcome], rollout: Rollout, *, took_ms: int) -> int:
    """Say how it ended; raise what the exit code stands for."""
    for outcome in outcomes:
        for warning in outcome.warnings:
            talk(f"warning: {outcome.device}: {warning}")
    by_phase: dict[Phase, list[Outcome]] = {}
    for outcome in outcomes:
        by_phase.setdefault(outcome.phase, []).append(outcome)
    now_ms = monotonic_ms()
    for outcome in by_phase.get(Phase.LEFT, []):
        left_s = max(0, (outcome.undoes_itself_by_ms or now_ms) - now_ms) // 1000
        click.echo(f"{outcome.device}: committed and verified, not confirmed; it undoes itself in {left_s}s unless: igmpconf confirm {rollout.persist_id}")
    for outcome in by_phase.get(Phase.UNCHANGED, []):
        click.echo(f"{outcome.device} already is as planned; nothing was done.")
    done = [outcome.device for outcome in by_phase.get(Phase.CONFIRMED, [])]
    if done:
        click.echo(f"Applied to {', '.join(done)} in {took_ms / 1000:.2f}s (plan {rollout.plan.plan_id}).")
    bad = [outcome for phase in (Phase.IN_DOUBT, Phase.ROLLED_BACK, Phase.REFUSED) for outcome in by_phase.get(phase, [])]
    if not bad:
        return 0
    for outcome in bad[1:]:
        talk(f"igmpconf: {outcome.device}: {outcome.phase.value}: {outcome.failure.message if outcome.failure else ''}")
    raise _error(bad, rollout)


def _error(bad: Sequence[Outcome], rollout: Rollout) -> IgmpconfError:
    first = bad[0]
    failure = first.failure
    why = failure.message if failure is not None else "no reason was given"
    hint = failure.hint if failure is not None else None
    names = [outcome.device for outcome in bad if outcome.phase is first.phase]
    if first.phase is Phase.IN_DOUBT:
        left = [outcome.undoes_itself_by_ms for outcome in bad if outcome.undoes_itself_by_ms is not None]
        message = f"it is not known whether {', '.join(names)} has the change: {why}"
        return InDoubt(names, message + ("; unconfirmed, it undoes itself" if left else ""), hint=f"igmpconf apply --resume {rollout.persist_id}")
    if first.phase is Phase.ROLLED_BACK:
        cause = next((o.failure for o in rollout.outcomes() if o.failure is not None and o.failure.kind != "cancelled"), failure)
        because = cause.message if cause is not None else why
        return RolledBack(
            names, f"rolled back, {', '.join(names)} {'is' if len(names) == 1 else 'are'} as before: {because}", hint=cause.hint if cause is not None else hint
        )
    assert failure is not None
    match failure.kind:
        case "stale":
            return StalePlan(first.device, why, hint=hint)
        case "transport":
            return TransportError(first.device, f"{why}; nothing was changed", hint=hint, retryable=failure.is_retryable)
        case "cancelled":
            return RolledBack(names, f"stopped, {', '.join(names)} {'is' if len(names) == 1 else 'are'} as before")
        case _:
            return RpcFailed(first.device, f"{why}; nothing was changed", hint=hint, retryable=failure.is_retryable)


# What an earlier apply left behind --------------------------------------------------------------------------------------


def _plain_target(target: Target) -> dict[str, Any]:
    return {"kind": "ssh" if isinstance(target, SshTarget) else "unix", **dataclasses.asdict(target)}


def _target_of(plain: Mapping[str, Any]) -> Target:
    fields = {key: value for key, value in plain.items() if key != "kind"}
    if plain["kind"] == "unix":
        return UnixTarget(**fields)
    fields["key_files"] = tuple(fields["key_files"])
    fields["options"] = tuple((key, value) for key, value in fields["options"])
    return SshTarget(**fields)


def _settle(story: Story, unsettled: Mapping[DeviceName, bool], *, is_kept: bool | None) -> int:
    """Bring the devices of a journal to a decision: the journal's own (None), or the user's."""
    wanted = {name: promised if is_kept is None else is_kept for name, promised in unsettled.items()}
    if not wanted:
        ended = ", ".join(f"{name} {how}" for name, how in story.ended.items())
        talk(f"nothing is left to settle of {story.rollout_id}" + (f": {ended}" if ended else ""))
        return 0
    rollout = Rollout(plan=story.plan, persist_id=story.rollout_id, policy=LadderPolicy(confirm_timeout_s=story.confirm_timeout_s), atomic=story.atomic)
    sessions = {
        name: DeviceSession(target=_target_of(story.targets[name]), plan=rollout.ladders[name].plan, plan_id=story.plan.plan_id, say=talk) for name in wanted
    }
    started_ms = monotonic_ms()
    journal = Journal.reopen(story.rollout_id)
    try:
        outcomes = Execution(rollout, sessions, journal).run(resume=wanted)
    finally:
        journal.close()
    if is_kept is False and all(outcome.phase is Phase.ROLLED_BACK for outcome in outcomes):
        click.echo(f"{', '.join(outcome.device for outcome in outcomes)}: as before the change.")
        return 0
    return _conclude(outcomes, rollout, took_ms=monotonic_ms() - started_ms)


@click.command()
@click.argument("rollout_id", metavar="ID")
@device_options
def confirm(rollout_id: str, device: str | None, limit: str | None, inventory: Path | None) -> int:
    """Keep a change that waits for its confirmation; ID is what `apply --no-confirm` printed."""
    return _decide(rollout_id, device, limit, inventory, is_kept=True)


@click.command()
@click.argument("rollout_id", metavar="ID")
@device_options
def cancel(rollout_id: str, device: str | None, limit: str | None, inventory: Path | None) -> int:
    """Undo a change that waits for its confirmation."""
    return _decide(rollout_id, device, limit, inventory, is_kept=False)


def _decide(rollout_id: str, device: str | None, limit: str | None, inventory: Path | None, *, is_kept: bool) -> int:
    if (rollouts_dir() / f"{rollout_id}.jsonl").is_file() and device is None and limit is None:
        story = read(rollout_id)
        return _settle(story, story.unsettled, is_kept=is_kept)
    # A change that another machine left: the devices are named, the token is the ID.
    for one in chosen(device, limit, inventory):
        started = time.perf_counter()
        with NetconfClient.connect(one.target, say=talk) as client:
            if is_kept:
                client.commit(persist_id=rollout_id)
            else:
                client.cancel(rollout_id)
        click.echo(f"{one.name}: {'confirmed' if is_kept else 'as before the change'} in {time.perf_counter() - started:.2f}s.")
    return 0
