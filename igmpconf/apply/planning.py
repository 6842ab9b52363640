"""One device read and compared: what `plan`, `drift` and `apply` begin with."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

from igmpconf.apply.kept import KeptSessions
from igmpconf.apply.session import committed_config, config_and_state, device_state
from igmpconf.errors import InputError
from igmpconf.model.canon import digest
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.target import Target
from igmpconf.plan.plan import DevicePlan, planned
from igmpconf.plan.traffic import is_measurable, measured


def plan_device(
    target: Target,
    wanted: DeviceConfig,
    *,
    look: Callable[[DeviceState], None] | None = None,
    measure_s: float = 0.0,
    kept: KeptSessions | None = None,
    say: Callable[[str], None] | None = None,
) -> DevicePlan:
    """The plan that takes the device to `wanted`.  Raises TransportError, RpcFailed.

    `look` sees the state; counters of groups that a change touches are read again after `measure_s` seconds; the
    session is left with `kept`.
    """
    with _session(target, kept, say) as client:
        read_at = time.monotonic()
        running, state = config_and_state(client)
        if look is not None:
            look(state)
        found = planned(target.device, running, wanted, state)
        if measure_s and is_measurable(found.changes, state):
            time.sleep(max(0.0, read_at + measure_s - time.monotonic()))
            again_at = time.monotonic()
            return dataclasses.replace(found, changes=measured(found.changes, state, device_state(client, ("mfc",)), again_at - read_at))
        return dataclasses.replace(found, changes=measured(found.changes, state))


def plan_rollback(target: Target, number: int | None = None, *, say: Callable[[str], None] | None = None) -> tuple[DevicePlan, int]:
    """The plan back to commit `number` of the device's history, or to what ran before the last change; and which number that is.

    Commit 0 is the device before its first commit, which configures nothing.  Raises InputError when there is nothing earlier, TransportError, RpcFailed.
    """
    with _session(target, None, say) as client:
        running, state = config_and_state(client)
        if number is None:
            number = _previous(target.device, state)
        wanted = committed_config(client, number) if number else DeviceConfig()
        return planned(target.device, running, wanted, state), number


def _previous(device: str, state: DeviceState) -> int:
    running = state.agent.running_digest if state.agent is not None else None
    # What was committed for good: a provisional commit counts by its confirmation, and what was undone does not count.
    earlier = [row.number for row in state.history if row.event in {"commit", "confirm"} and row.digest not in {None, running}]
    if not earlier and min((row.number for row in state.history), default=None) == 1 and running != digest(DeviceConfig()):
        return 0
    if not earlier:
        raise InputError(f"{device} has no earlier configuration in its history", hint="`igmpconf history` lists the commits")
    return max(earlier)


@contextlib.contextmanager
def _session(target: Target, kept: KeptSessions | None, say: Callable[[str], None] | None) -> Iterator[NetconfClient]:
    client = NetconfClient.connect(target, say=say)
    try:
        yield client
    except BaseException:
        client.leave()
        raise
    if kept is not None:
        kept.put(client)
    else:
        client.leave()
