"""One apply from a plan to its result, and what an earlier one left behind: everything but asking and telling.

The command line and `igmpconf.api` both come through here.
"""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from igmpconf.apply.device import LadderPolicy
from igmpconf.apply.executor import Execution, Hands, Progress, monotonic_ms
from igmpconf.apply.journal import Journal, Story, read, rollouts_dir
from igmpconf.apply.kept import KeptSessions
from igmpconf.apply.leg import RemoteHands, RemoteLadder
from igmpconf.apply.result import Result
from igmpconf.apply.rollout import Atomic, Ladder, Pace, Rollout, Share, local_ladder
from igmpconf.apply.session import DeviceSession
from igmpconf.errors import InputError
from igmpconf.ids import DeviceName, PersistId
from igmpconf.netconf.target import SshTarget, Target, UnixTarget
from igmpconf.plan.plan import DevicePlan, Plan

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a plan is carried out; the defaults are those of the command line."""

    policy: LadderPolicy = field(default_factory=lambda: LadderPolicy(attempts=2, device_timeout_ms=300_000))
    atomic: Atomic = "device"
    pace: Pace = field(default_factory=Pace)
    allow_down: Collection[str] = ()
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Who does it and who hears of it.

    `executor` None: threads of our own.  `afterwards` is what Ctrl-C does once every device has ended, see Execution.
    """

    executor: Executor | None = None
    progress: Progress | None = None
    say: Say | None = None
    kept: KeptSessions | None = None
    afterwards: signal.Handlers | None = None


def perform(plan: Plan, targets: Mapping[str, Target], settings: Settings, around: Circumstances | None = None) -> Result:
    """Carry the plan out and tell how it ended for every device that it changes.

    Raises InputError when a device of the plan has no target, InDoubt when it was left by a second Ctrl-C, IgmpconfError
    when the journal cannot be written.  What goes wrong with a device is in the result, see `Result.raise_if_bad`.
    """
    around = around or Circumstances()
    if settings.atomic == "fleet" and settings.pace.max_failures:
        raise InputError("an atomic fleet tolerates no failure: all devices are to end alike", hint="leave out max-failures, or let each device stand alone")
    settings = _soaked(settings)
    rollout = Rollout(
        plan=plan,
        persist_id=PersistId(_free_id(plan.plan_id)),
        policy=settings.policy,
        atomic=settings.atomic,
        pace=settings.pace,
        make_ladder=local_ladder if around.executor is None else _remote_ladder,
    )
    unknown = [name for name in rollout.ladders if name not in targets]
    if unknown:
        raise InputError(f"nobody says how to reach {', '.join(unknown)} of the plan")
    journal = Journal.create(
        rollout.persist_id,
        plan,
        atomic=settings.atomic,
        confirm_timeout_s=settings.policy.confirm_timeout_s,
        targets={name: plain_target(targets[name]) for name in rollout.ladders},
        settings=plain_settings(settings),
    )
    hands = {name: _hands(rollout, name, targets[name], settings, around) for name in rollout.ladders}
    return _run(rollout, hands, journal, around)


def _soaked(settings: Settings) -> Settings:
    """The same, knowing that devices will be looked at again.  Raises InputError when a soak could not be."""
    if not settings.pace.soak_ms:
        return settings
    if not settings.pace.waves:
        raise InputError("a soak is the time between two waves, and there is one", hint="say how many go first, with --canary or --wave")
    if settings.atomic == "fleet":
        raise InputError(
            "an atomic fleet keeps nothing before its last wave, so there is nothing to soak", hint="leave out the soak, or let each device stand alone"
        )
    if not settings.policy.is_confirmed:
        raise InputError("what is left unconfirmed is not kept, so there is nothing to soak", hint="leave out the soak, or let devices be confirmed")
    return dataclasses.replace(settings, policy=dataclasses.replace(settings.policy, is_rechecked=True))


def _remote_ladder(plan: DevicePlan, persist_id: PersistId, policy: LadderPolicy) -> Ladder:
    return RemoteLadder(plan=plan, persist_id=persist_id, policy=policy)


def _hands(rollout: Rollout, name: DeviceName, target: Target, settings: Settings, around: Circumstances) -> Hands:
    plan, plan_id = rollout.ladders[name].plan, rollout.plan.plan_id
    if around.executor is None:
        return DeviceSession(
            target=target,
            plan=plan,
            plan_id=plan_id,
            policy=settings.policy,
            comment=settings.comment,
            allow_down=settings.allow_down,
            say=around.say,
            kept=around.kept,
        )
    return RemoteHands(
        target=target,
        plan=plan,
        plan_id=plan_id,
        persist_id=rollout.persist_id,
        policy=settings.policy,
        comment=settings.comment,
        allow_down=settings.allow_down,
    )


def _run(
    rollout: Rollout,
    hands: Mapping[DeviceName, Hands],
    journal: Journal,
    around: Circumstances,
    *,
    resume: dict[DeviceName, bool] | None = None,
    unbegun: Collection[DeviceName] = (),
) -> Result:
    started_ms = monotonic_ms()
    try:
        execution = Execution(rollout, hands, journal, progress=around.progress, executor=around.executor, afterwards=around.afterwards, say=around.say)
        outcomes = execution.run(resume, unbegun)
    finally:
        journal.close()
    return Result(rollout_id=rollout.persist_id, plan_id=rollout.plan.plan_id, outcomes=outcomes, took_ms=monotonic_ms() - started_ms)


def _free_id(plan_id: str) -> str:
    """The plan's own name for its first apply, then with a number: a token is never used twice."""
    if not has_journal(plan_id):
        return plan_id
    number = 2
    while has_journal(f"{plan_id}-{number}"):
        number += 1
    return f"{plan_id}-{number}"


def has_journal(rollout_id: str) -> bool:
    """An apply of this ID was begun here."""
    return (rollouts_dir() / f"{rollout_id}.jsonl").is_file()


# What an earlier apply left behind --------------------------------------------------------------------------------------


def settle(story: Story, *, is_kept: bool | None = None, targets: Mapping[str, Target] | None = None, around: Circumstances | None = None) -> Result:
    """Bring the devices of a journal to a decision: the journal's own (None), or the caller's.

    `targets` replace those of the journal, which holds no passwords.  The result has the unsettled devices only.
    """
    wanted = {name: promised if is_kept is None else is_kept for name, promised in story.unsettled.items()}
    settings = Settings(policy=LadderPolicy(confirm_timeout_s=story.confirm_timeout_s), atomic=story.atomic)
    here = dataclasses.replace(around or Circumstances(), executor=None)
    return _take_up(story, settings, targets or {}, here, unsettled=wanted)


def go_on(story: Story, *, targets: Mapping[str, Target] | None = None, around: Circumstances | None = None) -> Result:
    """Settle as the journal says, then give the devices that were never begun their turn, as the apply was begun.

    The result has both.  Failures of before do not count towards `max_failures`; while somebody stays in doubt nobody
    begins.  Raises InputError when the apply cannot go on.
    """
    return _take_up(story, settings_of(story), targets or {}, around or Circumstances(), unsettled=story.unsettled, unbegun=story.unbegun)


def _take_up(
    story: Story,
    settings: Settings,
    targets: Mapping[str, Target],
    around: Circumstances,
    *,
    unsettled: dict[DeviceName, bool],
    unbegun: Collection[DeviceName] = (),
) -> Result:
    rollout = Rollout(
        plan=story.plan,
        persist_id=story.rollout_id,
        policy=settings.policy,
        atomic=settings.atomic,
        pace=settings.pace,
        make_ladder=local_ladder if around.executor is None else _remote_ladder,
    )
    hands = {name: _hands(rollout, name, targets.get(name) or target_of(story.targets[name]), settings, around) for name in (*unsettled, *unbegun)}
    return _run(rollout, hands, Journal.reopen(story.rollout_id), around, resume=unsettled, unbegun=unbegun)


def story_of(rollout_id: str) -> Story:
    """What the journal of an earlier apply tells.  Raises InputError."""
    return read(rollout_id)


def plain_settings(settings: Settings) -> dict[str, Any]:
    """The settings as the journal keeps them."""
    pace = settings.pace
    return {
        "policy": dataclasses.asdict(settings.policy),
        "pace": {**dataclasses.asdict(pace), "waves": [str(share) for share in pace.waves]},
        "allow_down": list(settings.allow_down),
        "comment": settings.comment,
    }


def settings_of(story: Story) -> Settings:
    """How the apply of a journal was begun, to go on in the same way.  Raises InputError."""
    if story.atomic == "fleet":
        raise InputError(
            f"{story.rollout_id} was to change all of its devices or none, so it cannot go on with some",
            hint=f"igmpconf apply --resume {story.rollout_id} without --continue settles it; then apply the plan again",
        )
    if story.settings is None:
        raise InputError(
            f"the journal of {story.rollout_id} does not say how it was begun; it was written by an older igmpconf",
            hint=f"igmpconf apply --resume {story.rollout_id} without --continue settles it; then apply the plan again",
        )
    try:
        pace = story.settings["pace"]
        return Settings(
            policy=LadderPolicy(**story.settings["policy"]),
            atomic=story.atomic,
            pace=Pace(**{**pace, "waves": tuple(Share.parse(text) for text in pace["waves"])}),
            allow_down=tuple(story.settings["allow_down"]),
            comment=story.settings["comment"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the journal of {story.rollout_id} says how it was begun in a way that this igmpconf does not know: {error}") from None


def plain_target(target: Target) -> dict[str, Any]:
    """A target as the journal keeps it: without secrets."""
    kept = {field.name: getattr(target, field.name) for field in dataclasses.fields(target) if field.name not in {"password", "passphrase"}}
    return {"kind": "ssh" if isinstance(target, SshTarget) else "unix", **kept}


def target_of(plain: Mapping[str, Any]) -> Target:
    """The target that the journal kept."""
    fields = {key: value for key, value in plain.items() if key != "kind"}
    if plain["kind"] == "unix":
        return UnixTarget(**fields)
    fields["key_files"] = tuple(fields["key_files"])
    fields["options"] = tuple((key, value) for key, value in fields["options"])
    return SshTarget(**fields)
