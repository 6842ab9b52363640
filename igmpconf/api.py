"""The Python interface: the verbs of the command line as functions, with values and exceptions in place of text and exit codes.

    from igmpconf import api

    devices = api.devices("inventory", limit="rooms")
    plan = api.plan(devices)
    if not plan.is_empty:
        api.apply(plan, devices, atomic="fleet").raise_if_bad()

Everything here is documented in docs/api.md and stays as it is within a major version; what other modules offer does
not.  Nothing here prints, asks or exits.  Errors are those of `igmpconf.errors`; functions may be called from any
thread, and handle Ctrl-C only when the main thread calls them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path as _Path
from typing import Any, TypeVar

from igmpconf.apply import run
from igmpconf.apply.device import LadderPolicy
from igmpconf.apply.kept import KeptSessions
from igmpconf.apply.planning import plan_device, plan_rollback
from igmpconf.apply.result import Result
from igmpconf.apply.rollout import PARALLEL, Atomic, Outcome, Pace, Share
from igmpconf.apply.rows import VIEWS
from igmpconf.apply.session import device_state
from igmpconf.apply.steps import Phase
from igmpconf.errors import IgmpconfError, InputError
from igmpconf.inventory import desired, fleet
from igmpconf.inventory.device import Device, for_each
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import CommitRow, DeviationRow, DeviceState
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.target import SshTarget, UnixTarget, parse_target
from igmpconf.plan.plan import DevicePlan, Plan, from_json, to_json
from igmpconf.schema.diagnostic import Diagnostic
from igmpconf.schema.load import dump, load_files

__all__ = [
    "CommitRow",
    "Device",
    "DeviceConfig",
    "Diagnostic",
    "Drift",
    "Outcome",
    "Phase",
    "Plan",
    "Result",
    "SshTarget",
    "UnixTarget",
    "apply",
    "cancel",
    "confirm",
    "device",
    "devices",
    "drift",
    "history",
    "load_plan",
    "plan",
    "render",
    "resume",
    "rollback",
    "save_plan",
    "show",
    "validate",
]

T = TypeVar("T")
Files = str | _Path | Sequence[str | _Path]


def devices(inventory: str | _Path, limit: str | None = None) -> tuple[Device, ...]:
    """The hosts of an Ansible inventory (a file, or a directory with hosts.yaml), all or those of an Ansible pattern.

    Raises InputError.
    """
    return tuple(Device(host.target(), host) for host in fleet.load(_Path(inventory)).select(limit))


def device(address: str) -> Device:
    """One device without an inventory: `ssh://user@host:port`, `unix:PATH` or `local`.  Raises InputError."""
    target = parse_target(address)
    if target is None:
        raise InputError(f"{address!r} is not an address", hint="write ssh://user@host:port, unix:PATH or local; hosts of an inventory come from devices()")
    return Device(target)


def validate(files: Files) -> tuple[Diagnostic, ...]:
    """Every complaint about the desired state that the files make together, in order; empty when there is none.

    `Diagnostic.is_error` tells errors from warnings.  Raises InputError when a file cannot be read.
    """
    return tuple(load_files(_paths(files)).diagnostics)


def render(what: Device | Files) -> str:
    """The desired state of a host of the inventory, or of files, as canonical YAML.  Raises InputError with every complaint."""
    (wanted,) = _wanted((what,), None) if isinstance(what, Device) else (desired.of_files(_paths(what)),)
    return dump(wanted.config)


def plan(devices: Sequence[Device], files: Files | None = None) -> Plan:
    """Compare what is wanted with what the devices run; `files` are the desired state of one device, else the inventory's.

    Raises InputError with every complaint; the TransportError or RpcFailed of the first device that could not be read.
    """
    return _planned(devices, files, None)


def apply(
    plan: Plan,
    devices: Sequence[Device],
    *,
    atomic: Atomic = "device",
    canary: str | int | None = None,
    waves: Sequence[str | int] = (),
    max_failures: int | None = None,
    soak_s: float = 0.0,
    parallel: int = PARALLEL,
    confirm_timeout_s: int = 60,
    verify_timeout_s: float = 10.0,
    device_timeout_s: float = 300.0,
    retries: int = 1,
    leave_unconfirmed: bool = False,
    allow_down: Sequence[str] = (),
    comment: str | None = None,
    executor: Executor | None = None,
    progress: Callable[[str, Phase], None] | None = None,
) -> Result:
    """Carry the plan out: confirmed commit, verification over a fresh session, confirmation; see docs/api.md for each parameter.

    The result tells of every device; `Result.raise_if_bad()` raises what the command line would exit with.  Raises
    InputError for a plan whose devices are not among `devices`, InDoubt when a second Ctrl-C left it, IgmpconfError when
    the journal cannot be written.
    """
    sizes = (*((canary,) if canary is not None else ()), *(waves or (("100%",) if canary is not None else ())))
    settings = run.Settings(
        policy=LadderPolicy(
            confirm_timeout_s=confirm_timeout_s,
            verify_timeout_ms=int(min(verify_timeout_s, confirm_timeout_s / 3) * 1000),  # so that the confirmation is never late
            is_confirmed=not leave_unconfirmed,
            attempts=1 + retries,
            device_timeout_ms=int(device_timeout_s * 1000),
        ),
        atomic=atomic,
        pace=Pace(
            waves=tuple(_share(size) for size in sizes),
            max_failures=0 if max_failures is None and sizes else max_failures,
            parallel=parallel,
            soak_ms=int(soak_s * 1000),
        ),
        allow_down=tuple(allow_down),
        comment=comment,
    )
    with KeptSessions() as kept:
        around = run.Circumstances(executor=executor, progress=progress, kept=kept)
        return run.perform(plan, {device.name: device.target for device in devices}, settings, around)


def resume(rollout_id: str, *, go_on: bool = False) -> Result:
    """Settle an apply that was interrupted, as its journal says; the result has the devices that were not settled yet.

    With `go_on` the devices that were never begun have their turn then, in the waves and with the parameters of before.
    Raises InputError when this machine has no such journal, or when the apply cannot go on.
    """
    story = run.story_of(rollout_id)
    return run.go_on(story) if go_on else run.settle(story)


def confirm(rollout_id: str, devices: Sequence[Device] = ()) -> Result | None:
    """Keep a change that waits for its confirmation: of an apply begun here, or, with `devices`, of one begun elsewhere.

    Raises InputError, TransportError, RpcFailed.
    """
    return _decide(rollout_id, devices, is_kept=True)


def cancel(rollout_id: str, devices: Sequence[Device] = ()) -> Result | None:
    """Undo a change that waits for its confirmation; otherwise as `confirm`."""
    return _decide(rollout_id, devices, is_kept=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How devices differ from what is wanted; false when they do not."""

    plan: Plan  # what would put them right
    deviations: Mapping[str, tuple[DeviationRow, ...]]  # per device, rules, VLANs and settings that are not as configured

    def __bool__(self) -> bool:
        return not self.plan.is_empty or bool(self.deviations)


def drift(devices: Sequence[Device], files: Files | None = None) -> Drift:
    """Whether the devices still are as wanted.  Raises as `plan` does."""
    deviations: dict[str, tuple[DeviationRow, ...]] = {}
    return Drift(plan=_planned(devices, files, deviations), deviations=deviations)


def show(devices: Sequence[Device], what: str) -> dict[str, list[dict[str, Any]] | IgmpconfError]:
    """Per device, the rows of `igmpconf show WHAT --format json` (schemas/show.schema.json), or why it could not be asked.

    Raises InputError for a table that there is not.
    """
    view = VIEWS.get(what)
    if view is None:
        raise InputError(f"there is no table {what!r}", hint=f"there are {', '.join(VIEWS)}")

    def one(device: Device) -> list[dict[str, Any]]:
        with NetconfClient.connect(device.target) as client:
            return view.rows(device_state(client, view.parts))

    return dict(zip((device.name for device in devices), for_each(devices, one), strict=True))


def history(device: Device) -> tuple[CommitRow, ...]:
    """The last 50 commits of a device, oldest first.  Raises TransportError, RpcFailed."""
    with NetconfClient.connect(device.target) as client:
        return tuple(sorted(device_state(client, ("history",)).history, key=lambda row: row.number))


def rollback(device: Device, number: int | None = None) -> Plan:
    """The plan back to commit `number`, or to what ran before the last change; `apply` carries it out like any other.

    Raises InputError when there is nothing earlier, TransportError, RpcFailed.
    """
    return Plan(plan_id=desired.new_plan_id(), devices=(plan_rollback(device.target, number)[0],))


def save_plan(plan: Plan, path: str | _Path) -> None:
    """Write the document that `igmpconf apply PLAN` and `load_plan` read.  Raises OSError."""
    _Path(path).write_text(to_json(plan), encoding="utf-8")


def load_plan(path: str | _Path) -> Plan:
    """The plan that was saved.  Raises InputError when it was changed since, or is none."""
    try:
        return from_json(_Path(path).read_text(encoding="utf-8"), name=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the plan {path} cannot be read: {error}") from None


# ------------------------------------------------------------------------------------------------------------------------


def _paths(files: Files) -> list[_Path]:
    return [_Path(files)] if isinstance(files, str | _Path) else [_Path(path) for path in files]


def _share(size: str | int) -> Share:
    try:
        return Share.parse(str(size))
    except ValueError as error:
        raise InputError(str(error)) from None


def _wanted(devices: Sequence[Device], files: Files | None) -> Sequence[desired.Wanted]:
    if files is not None:
        if len(devices) != 1:
            raise InputError(f"files are the desired state of one device, and {len(devices)} are given")
        return [desired.of_files(_paths(files))]
    hosts = [device.host for device in devices if device.host is not None]
    if len(hosts) != len(devices):
        unknown = ", ".join(device.name for device in devices if device.host is None)
        raise InputError(f"nothing says what is wanted of {unknown}", hint="give files, or take the devices from an inventory")
    return desired.of_hosts(hosts)


def _planned(devices: Sequence[Device], files: Files | None, deviations: dict[str, tuple[DeviationRow, ...]] | None) -> Plan:
    """With `deviations`, which are collected, devices are looked at one by one; without, also together."""
    wanted = dict(zip((device.name for device in devices), _wanted(devices, files), strict=True))

    states: dict[str, DeviceState] = {}

    def one(device: Device) -> DevicePlan:
        def look(state: DeviceState) -> None:
            states[device.name] = DeviceState(agent=state.agent, interfaces=state.interfaces)
            if state.deviations and deviations is not None:
                deviations[device.name] = state.deviations

        found = plan_device(device.target, wanted[device.name].config, look=look)
        return dataclasses.replace(found, inventory_digest=fleet.digest_of([device.host]) if device.host is not None else None)

    plans = [_or_raise(answer) for answer in for_each(devices, one)]
    if deviations is None:
        together = [desired.Planned(name=one.name, wanted=wanted[one.name], host=one.host, state=states[one.name]) for one in devices]
        desired.check_together(together, desired.fellows_of(together).known)
    return Plan(plan_id=desired.new_plan_id(), devices=tuple(plans))


def _or_raise(answer: T | IgmpconfError) -> T:
    if isinstance(answer, IgmpconfError):
        raise answer
    return answer


def _decide(rollout_id: str, devices: Sequence[Device], *, is_kept: bool) -> Result | None:
    if not devices:
        return run.settle(run.story_of(rollout_id), is_kept=is_kept)

    def one(device: Device) -> None:
        with NetconfClient.connect(device.target) as client:
            if is_kept:
                client.commit(persist_id=rollout_id)
            else:
                client.cancel(rollout_id)

    for answer in for_each(devices, one):
        _or_raise(answer)
    return None
