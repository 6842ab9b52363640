"""`igmpconf apply`, `confirm` and `cancel`: make the change, prove it, keep it or undo it."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from igmpconf.apply.device import LadderPolicy
from igmpconf.apply.executor import monotonic_ms
from igmpconf.apply.executors import THREADS, executor_of
from igmpconf.apply.journal import Story
from igmpconf.apply.kept import KeptSessions
from igmpconf.apply.result import Result, to_json
from igmpconf.apply.rollout import PARALLEL, Atomic, Outcome, Pace, Share
from igmpconf.apply.run import Circumstances, Settings, go_on, has_journal, perform, settings_of, settle, story_of, target_of
from igmpconf.apply.steps import Phase
from igmpconf.cli.desired import for_devices
from igmpconf.cli.devices import Device, chosen, colour, device_options, named_device, named_devices, talk
from igmpconf.cli.plan import files_option, make_plan, same_inventory, within, written_by
from igmpconf.cli.progress import Progress
from igmpconf.cli.secrets import with_secrets
from igmpconf.cli.shard import given, share
from igmpconf.errors import InputError
from igmpconf.model.leaf import Duration, LeafError
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.target import Target
from igmpconf.plan import render
from igmpconf.plan.diff import Level
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


class _ShareParam(click.ParamType[Share]):
    """`3` devices, or `10%` of them."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Share:
        if isinstance(value, Share):
            return value
        try:
            return Share.parse(str(value).strip())
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _WaveParam(click.ParamType[tuple[Share, ...]]):
    """`1,10%,50%`: the sizes of the waves, the last one repeated."""

    name = "waves"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Share, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(_ShareParam().convert(part, param, ctx) for part in str(value).split(","))


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
    canary: Share | None = None
    wave: tuple[Share, ...] = ()
    max_failures: int | None = None
    soak: int = 0
    parallel: int = PARALLEL
    connect_timeout: int | None = None
    rpc_timeout: int = 30_000
    device_timeout: int = 300_000
    retries: int = 1
    executor: str = THREADS
    result: Path | None = None

    def settings(self) -> Settings:
        """The same, as an apply wants it."""
        return Settings(policy=self._policy(), atomic=self.atomic, pace=self._pace(), allow_down=self.allow_down, comment=self.comment)

    def _policy(self) -> LadderPolicy:
        timeout_s = -(-self.confirm_timeout // 1000)
        verify_ms = min(self.verify_timeout if self.verify_timeout is not None else 10_000, self.confirm_timeout // _VERIFY_SHARE)
        return LadderPolicy(
            confirm_timeout_s=timeout_s,
            verify_timeout_ms=verify_ms,
            is_confirmed=not self.no_confirm,
            attempts=1 + self.retries,
            connect_timeout_s=None if self.connect_timeout is None else self.connect_timeout / 1000,
            rpc_timeout_s=self.rpc_timeout / 1000,
            device_timeout_ms=self.device_timeout,
        )

    def _pace(self) -> Pace:
        waves = (*((self.canary,) if self.canary is not None else ()), *self.wave)
        if self.canary is not None and not self.wave:
            waves = (self.canary, Share(100, is_percent=True))
        # Who asks for waves wants to stop at the first sign of trouble; who does not has every device tried.
        return Pace(
            waves=waves, max_failures=self.max_failures if self.max_failures is not None else 0 if waves else None, parallel=self.parallel, soak_ms=self.soak
        )


def apply_options(command: F) -> F:
    """Add the flags of ApplyOptions."""
    for option in (
        click.option("--result", type=click.Path(path_type=Path), metavar="FILE", help="Write how every device ended as JSON; `igmpconf merge` joins several."),
        click.option("--executor", default=THREADS, show_default=True, metavar="threads|dask://HOST:PORT", help="Who does the work."),
        click.option("--retries", type=click.IntRange(0, 10), default=1, show_default=True, help="Further attempts while nothing is committed yet."),
        click.option("--device-timeout", type=_DurationParam(1_000, 86_400_000), default="5m", show_default=True, help="Until a device is verified."),
        click.option("--rpc-timeout", type=_DurationParam(100, 3_600_000), default="30s", show_default=True, help="For each answer of a device."),
        click.option("--connect-timeout", type=_DurationParam(100, 3_600_000), help="Until a session stands.  [default: ConnectTimeout of ssh_config, or 10s]"),
        click.option("--parallel", type=click.IntRange(1, 256), default=PARALLEL, show_default=True, help="How many devices at the same time."),
        click.option(
            "--soak",
            type=_DurationParam(1_000, 604_800_000),
            default=0,
            metavar="DURATION",
            help="Wait so long after each wave and verify its devices again; who does not hold counts as failed, and stays confirmed.  [default: none]",
        ),
        click.option(
            "--max-failures",
            type=click.IntRange(min=0),
            metavar="N",
            help="Begin no further device once more than N failed.  [default: 0 with waves, else no limit]",
        ),
        click.option(
            "--wave",
            type=_WaveParam(),
            metavar="N|%[,...]",
            default=(),
            help="Devices per wave; of several sizes the last repeats. A wave waits for the one before.",
        ),
        click.option("--canary", type=_ShareParam(), metavar="N|%", help="So many devices first; the rest when they are kept."),
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
@click.option(
    "--continue", "is_going_on", is_flag=True, help="With --resume: then change the devices that had no turn, in the same waves and with the same flags."
)
@click.pass_context
def apply(
    ctx: click.Context,
    /,
    *,
    document: Path | None,
    files: tuple[Path, ...],
    device: str | None,
    limit: str | None,
    inventory: Path | None,
    resume: str | None,
    is_going_on: bool,
    **flags: Any,
) -> int:
    """Change devices: execute a saved PLAN, or plan from -f or the inventory and execute that."""
    options = ApplyOptions(**flags)
    if resume is not None:
        if document is not None or files:
            raise click.UsageError("--resume takes its plan from the journal; give no PLAN and no -f")
        _no_new_flags(ctx)
        return _go_on(story_of(resume), options) if is_going_on else _settle(story_of(resume), is_kept=None, result_to=options.result)
    if is_going_on:
        raise click.UsageError("--continue goes on with an earlier apply; name it with --resume ID")
    if document is not None:
        if files or limit is not None:
            raise click.UsageError("a saved PLAN holds its desired state and its devices; give no -f and no -l")
        plan = _saved(document)
        devices_of_plan = _devices_of(plan, device, inventory)
        same_inventory(plan, devices_of_plan)
        plan = dataclasses.replace(plan, devices=share(plan.devices))
        return carry_out(plan, devices_of_plan, options)
    devices = chosen(device, limit, inventory, needs_files=not files)
    wanted = for_devices(devices, files)
    with KeptSessions() as kept:
        plan = make_plan(devices, wanted, kept=kept)
        return carry_out(plan, {one.name: one for one in devices}, options, written_by(devices, wanted), kept=kept)


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
        return named_devices(names, inventory)
    found = named_device(device, inventory)
    if names != [found.name]:
        raise InputError(f"the plan is for {', '.join(names)}, not for {found.name}", hint="leave out -d: a plan knows its devices")
    return {found.name: found}


def carry_out(
    plan: Plan, devices: Mapping[str, Device], options: ApplyOptions, written: render.WrittenBy | None = None, *, kept: KeptSessions | None = None
) -> int:
    """Show the plan, ask, execute, and say how it ended; `kept` are sessions that may be used.  Raises what the exit code stands for."""
    if given() is not None and options.atomic == "fleet":
        raise click.UsageError("a shard knows nothing of the others, so --atomic fleet cannot hold; leave out --shard")
    click.echo(render.text(plan, paint=colour, written=written), nl=False)
    if plan.is_empty:
        return 0
    within(plan, options.max_impact)
    _ask("Apply this plan?", options)
    targets = {name: device.target for name, device in devices.items()}
    count = sum(1 for device in plan.devices if device.changes)
    with executor_of(options.executor) as executor, Progress(count) as progress:
        around = Circumstances(executor=executor, progress=progress, say=progress.say, kept=kept, afterwards=signal.SIG_IGN)
        result = perform(plan, targets, options.settings(), around)
    if options.result is not None:
        _write(result, options.result)
    return _conclude(result)


def _ask(question: str, options: ApplyOptions) -> None:
    """Raises UsageError when there is nobody to ask, Abort when the answer is no."""
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask here; say --yes, or apply a saved plan with --yes")
    click.confirm(question, abort=True, err=True)


def _write(result: Result, path: Path) -> None:
    try:
        path.write_text(to_json(result), encoding="utf-8")
    except OSError as error:
        talk(f"warning: the result cannot be written to {path}: {error.strerror}")  # how it ended matters more


_FEW = 8  # names in one line; more are counted


def _named(outcomes: Sequence[Outcome]) -> str:
    names = [outcome.device for outcome in outcomes]
    return ", ".join(names) if len(names) <= _FEW else f"{len(names)} devices"


def _conclude(result: Result) -> int:
    """Say how it ended; raise what the exit code stands for."""
    for outcome in result.outcomes:
        for warning in outcome.warnings:
            talk(f"warning: {outcome.device}: {warning}")
    now_ms = monotonic_ms()
    for outcome in result.having(Phase.LEFT):
        left_s = max(0, (outcome.undoes_itself_by_ms or now_ms) - now_ms) // 1000
        click.echo(f"{outcome.device}: committed and verified, not confirmed; it undoes itself in {left_s}s unless: igmpconf confirm {result.rollout_id}")
    for outcome in result.having(Phase.UNCHANGED):
        click.echo(f"{outcome.device} already is as planned; nothing was done.")
    done = result.having(Phase.CONFIRMED)
    if done:
        click.echo(f"Applied to {_named(done)} in {result.took_ms / 1000:.2f}s (plan {result.plan_id}).")
    skipped: dict[str, list[Outcome]] = {}
    for outcome in result.bad[1:]:
        if outcome.phase is Phase.SKIPPED:
            skipped.setdefault(outcome.failure.message if outcome.failure else "", []).append(outcome)
        else:
            talk(f"igmpconf: {outcome.device}: {outcome.phase.value}: {outcome.failure.message if outcome.failure else ''}")
    for why, outcomes in skipped.items():
        talk(f"igmpconf: not begun, as before: {_named(outcomes)}: {why}")
    result.raise_if_bad()
    return 0


# What an earlier apply left behind --------------------------------------------------------------------------------------


_HOW = frozenset(field.name for field in dataclasses.fields(ApplyOptions)) - {"yes", "executor", "result"}


def _no_new_flags(ctx: click.Context) -> None:
    """Raises UsageError for a flag that would be heard by nobody."""
    given_now = [param for param in ctx.command.params if param.name in _HOW and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE]
    if given_now:
        raise click.UsageError(f"--resume keeps to what the apply was begun with; leave out {', '.join(param.opts[-1] for param in given_now)}")


def _settle(story: Story, *, is_kept: bool | None, result_to: Path | None = None) -> int:
    """Bring the devices of a journal to a decision: the journal's own (None), or the user's."""
    if story.unbegun:
        them = "it" if len(story.unbegun) == 1 else "them"
        how = "apply the plan again for" if story.atomic == "fleet" else f"igmpconf apply --resume {story.rollout_id} --continue goes on with"
        talk(f"not begun, as before: {', '.join(story.unbegun)}; {how} {them}")
    if not story.unsettled:
        return _nothing_left(story)
    result = settle(story, is_kept=is_kept, targets=_targets_of(story), around=Circumstances(say=talk, afterwards=signal.SIG_IGN))
    if result_to is not None:
        _write(result, result_to)
    if is_kept is False and len(result.having(Phase.ROLLED_BACK)) == len(result.outcomes):
        click.echo(f"{', '.join(outcome.device for outcome in result.outcomes)}: as before the change.")
        return 0
    return _conclude(result)


def _go_on(story: Story, options: ApplyOptions) -> int:
    """Settle as the journal says, then change the devices that had no turn."""
    settings_of(story)  # whether it can go on is said before anything else
    unbegun = story.unbegun
    for name, how in story.ended.items():
        if how in {Phase.REFUSED.value, Phase.ROLLED_BACK.value, Phase.FALTERED.value} and name not in story.unsettled:
            talk(f"{name}: {how} before; it stays as it is")
    if not unbegun and not story.unsettled:
        return _nothing_left(story)
    for name, is_kept in story.unsettled.items():
        talk(f"{name}: not settled yet; it is {'kept' if is_kept else 'undone'} first")
    rest = dataclasses.replace(story.plan, devices=tuple(one for one in story.plan.devices if one.device in unbegun))
    click.echo(render.text(rest, paint=colour), nl=False)
    _ask("Go on with this plan?", options)
    with executor_of(options.executor) as executor, Progress(len(unbegun) + len(story.unsettled)) as progress:
        around = Circumstances(executor=executor, progress=progress, say=progress.say, afterwards=signal.SIG_IGN)
        result = go_on(story, targets=_targets_of(story), around=around)
    if options.result is not None:
        _write(result, options.result)
    return _conclude(result)


def _nothing_left(story: Story) -> int:
    ended = ", ".join(f"{name} {how}" for name, how in story.ended.items())
    talk(f"nothing is left to settle of {story.rollout_id}" + (f": {ended}" if ended else ""))
    return 0


def _targets_of(story: Story) -> dict[str, Target]:
    return {name: with_secrets(target_of(plain)) for name, plain in story.targets.items()}


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
    if has_journal(rollout_id) and device is None and limit is None:
        return _settle(story_of(rollout_id), is_kept=is_kept)
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
