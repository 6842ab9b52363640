"""The hands of one ladder: each effect of `device.py` as NETCONF, and what came of it as an event.

Owns the one session that is open with the device.  Everything that can go wrong with a device leaves here as
`Failed`; what is wrong with this program leaves as an exception.

Round trips are saved by sending ahead what cannot harm when the request before it fails: the two reads with the lock,
the validation with the edit, the end of a session without waiting for the answer.  The ladder knows nothing of it.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import assert_never
from xml.etree.ElementTree import Element

from igmpconf.apply import steps
from igmpconf.apply.device import LadderPolicy
from igmpconf.apply.kept import KeptSessions
from igmpconf.apply.steps import Before, Failed, Failure, Performed, Seen
from igmpconf.apply.verify import Findings, findings
from igmpconf.errors import RpcFailed, TransportError
from igmpconf.model.canon import digest
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState
from igmpconf.netconf.client import NetconfClient, Pending, Timing
from igmpconf.netconf.target import Target
from igmpconf.plan.plan import DevicePlan
from igmpconf.schema.errors import DataError
from igmpconf.schema.xml import STATE, replacement_to_xml, xml_to_config, xml_to_state

_POLL_S = (0.02, 0.05, 0.1, 0.2)  # between two looks at the state; the last one repeats


def running_config(client: NetconfClient) -> DeviceConfig:
    """The running configuration of a device.  Raises TransportError, RpcFailed."""
    return datastore_config(client, "running")


def datastore_config(client: NetconfClient, datastore: str) -> DeviceConfig:
    """The configuration in `running` or `candidate`.  Raises TransportError, RpcFailed."""
    return _understood(client, client.get_config(datastore))


def config_and_state(client: NetconfClient) -> tuple[DeviceConfig, DeviceState]:
    """Both in one round trip.  Raises TransportError, RpcFailed."""
    return _Reading(client).result()


class _Reading:
    """A request for the running configuration and one for the state, both under way."""

    def __init__(self, client: NetconfClient) -> None:
        self._client = client
        self._config = client.begin_get_config()
        self._state = client.begin_get_state()

    def result(self) -> tuple[DeviceConfig, DeviceState]:
        return _understood(self._client, self._config.result()), _state(self._client, self._state.result())


def committed_config(client: NetconfClient, number: int) -> DeviceConfig:
    """The configuration that commit `number` made.  Raises TransportError, RpcFailed."""
    return _understood(client, client.get_commit(number))


def _understood(client: NetconfClient, config: Element) -> DeviceConfig:
    try:
        return xml_to_config(config)
    except DataError as error:
        raise TransportError(
            client.device,
            f"{client.device} sent a configuration that we do not understand: {error}",
            hint="is its agent newer than this igmpconf?",
            retryable=False,
        ) from None


def device_state(client: NetconfClient, parts: Collection[str] = ()) -> DeviceState:
    """The operational state of a device, or the named tables of it.  Raises TransportError, RpcFailed."""
    return _state(client, client.get_state(parts))


def _state(client: NetconfClient, data: Element) -> DeviceState:
    try:
        found = data.find(STATE)
        return xml_to_state(found) if found is not None else DeviceState()
    except DataError as error:
        raise TransportError(client.device, f"{client.device} sent a state that we do not understand: {error}", retryable=False) from None


@dataclass(slots=True)
class DeviceSession:
    """Performs the effects for one device, one after the other, in whatever thread asks."""

    target: Target
    plan: DevicePlan
    plan_id: str
    policy: LadderPolicy = field(default_factory=LadderPolicy)
    comment: str | None = None
    allow_down: Collection[str] = ()
    say: Callable[[str], None] | None = None
    kept: KeptSessions | None = None  # that planning left open
    timings: list[Timing] = field(default_factory=list)
    _client: NetconfClient | None = None
    _is_kept: bool = False  # `_client` is older than this apply
    _reading: _Reading | None = None  # sent ahead with the lock
    _validation: Pending[None] | None = None  # sent ahead with the edit
    _running: DeviceConfig = field(default_factory=DeviceConfig)
    _use: threading.Lock = field(default_factory=threading.Lock)  # `release` may come from another thread than `perform`
    _is_hurried: threading.Event = field(default_factory=threading.Event)

    def perform(self, effect: steps.Effect) -> Performed | Failed:
        """Do it, and tell how it went."""
        try:
            with self._use:
                return Performed(self._perform(effect))
        except TransportError as error:
            return Failed(Failure(kind="transport", message=error.message, hint=error.hint, is_retryable=error.retryable))
        except RpcFailed as error:
            tag = getattr(error.errors[0], "tag", "") if error.errors else ""
            return Failed(Failure(kind="rpc", message=error.message, hint=error.hint, tag=tag, is_retryable=error.retryable))
        except _NotVerified as error:
            return Failed(error.failure)

    def abandon(self) -> None:
        """Drop the session as it is."""
        if self._client is not None:
            client, self._client = self._client, None
            self._reading = self._validation = None
            client.leave()
            self.timings += client.timings

    def release(self) -> None:
        """Close a session that only waits; the next effect opens another."""
        with self._use:
            self.abandon()

    def hurry(self) -> None:
        """Somebody wants to stop: do not wait for facts any longer."""
        self._is_hurried.set()

    @property
    def is_elsewhere(self) -> bool:
        """It is here, where `hurry` and `cut` reach it."""
        return False

    def trouble(self, error: BaseException) -> Failed | None:
        """What leaves `perform` as an exception is a mistake of ours."""
        return None

    def job(self, effect: steps.Effect) -> tuple[Callable[[steps.Effect], Performed | Failed], steps.Effect]:
        """What a thread is to call."""
        return self.perform, effect

    def cut(self) -> None:
        """End the session at once, from any thread; the effect under way fails."""
        if self._client is not None:
            self._client.abort()

    def _perform(self, effect: steps.Effect) -> Before | Seen | tuple[str, ...] | None:
        if isinstance(effect, steps.Close):
            self.abandon()
            return None
        if isinstance(effect, steps.Connect):
            self.abandon()
            self._client = self._take_kept() or self._connect()
            return None
        if self._client is None and isinstance(effect, steps.Confirm | steps.Cancel | steps.Extend):
            self._client = self._connect()  # the persist id belongs to no session
        if isinstance(effect, steps.Recheck):
            return self._looked_again(effect)
        client = self._client
        assert client is not None, f"{effect} without a session"
        match effect:
            case steps.Lock():
                self._lock(client)
            case steps.ReadBefore():
                reading, self._reading = self._reading or _Reading(client), None
                self._running, state = reading.result()
                return Before(digest=digest(self._running), state=state)
            case steps.Edit():
                # Not the whole datastore: the access rules of the device are not ours to remove.
                edit = client.begin_edit(replacement_to_xml(self._running, self.plan.target), default_operation="merge")
                self._validation = client.begin_validate()
                edit.result()
            case steps.Validate():
                validation, self._validation = self._validation or client.begin_validate(), None
                validation.result()
            case steps.CommitProvisionally(persist_id=persist_id, timeout_s=timeout_s):
                client.commit(is_confirmed=True, timeout_s=timeout_s, persist=persist_id, plan=self.plan_id, comment=self.comment)
            case steps.Verify(before=before, timeout_ms=timeout_ms):
                return self._verified(client, before, timeout_ms)
            case steps.Extend(persist_id=persist_id, timeout_s=timeout_s):
                client.commit(is_confirmed=True, timeout_s=timeout_s, persist_id=persist_id, plan=self.plan_id)
            case steps.Confirm(persist_id=persist_id):
                client.commit(persist_id=persist_id, plan=self.plan_id, comment=self.comment)
            case steps.Cancel(persist_id=persist_id):
                client.cancel(persist_id)
            case steps.Discard():
                client.discard()
            case steps.Unlock():
                client.unlock()
            case steps.Inspect():
                return self._inspected(client)
            case steps.Interrupt() | steps.Leg():
                raise AssertionError(f"{effect} is not for a session")
            case _:
                assert_never(effect)
        return None

    @staticmethod
    def _inspected(client: NetconfClient) -> Seen:
        """What runs and what waits, of one moment: between two replies a commit that is under way may come into force."""
        agent = device_state(client, ("agent",)).agent
        pending = agent.pending_persist_id if agent is not None else None
        runs = agent.running_digest if agent is not None else None
        return Seen(digest=runs if runs is not None else digest(running_config(client)), pending=pending)

    def _lock(self, client: NetconfClient) -> None:
        try:
            lock, self._reading = client.begin_lock(), _Reading(client)
            lock.result()
        except TransportError:
            if not self._is_kept:
                raise
            # It may have been dead for a while; nothing has happened over it yet.
            self.abandon()
            self._is_kept, self._client = False, self._connect()
            self._lock(self._client)

    def _take_kept(self) -> NetconfClient | None:
        """A session that planning has left, for the first connection; the one that verifies must be new."""
        kept, self.kept = self.kept, None
        client = kept.take(self.target) if kept is not None else None
        self._is_kept = client is not None
        return client

    def _connect(self) -> NetconfClient:
        return NetconfClient.connect(self.target, timeout_s=self.policy.rpc_timeout_s, connect_timeout_s=self.policy.connect_timeout_s, say=self.say)

    def _looked_again(self, effect: steps.Recheck) -> tuple[str, ...]:
        self.abandon()
        self._client = self._connect()
        try:
            return self._verified(self._client, effect.before, effect.timeout_ms)
        except _NotVerified as error:
            facts = "; ".join(fact.message for fact in error.found.missing)
            raise _NotVerified(
                error.found, dataclasses.replace(error.failure, message=f"{self.plan.device} is no longer as it was verified: {facts}")
            ) from None
        finally:
            self.abandon()

    def _verified(self, client: NetconfClient, before: DeviceState, timeout_ms: int) -> tuple[str, ...]:
        """Look until nothing is missing; the warnings of the last look."""
        started = time.monotonic()
        deadline = started + timeout_ms / 1000
        looks = 0
        while True:
            found = findings(self.plan, before, device_state(client), allow_down=self.allow_down)
            if not found.missing:
                self.timings.append(Timing("verify", (time.monotonic() - started) * 1000))
                return found.warnings
            wait_s = _POLL_S[min(looks, len(_POLL_S) - 1)]
            if time.monotonic() + wait_s >= deadline or self._is_hurried.wait(wait_s):
                raise _NotVerified(found, _unverified(self.plan.device, found, int((time.monotonic() - started) * 1000)))
            looks += 1


class _NotVerified(Exception):
    def __init__(self, found: Findings, failure: Failure) -> None:
        super().__init__(failure.message)
        self.found = found
        self.failure = failure


def _unverified(device: str, found: Findings, waited_ms: int) -> Failure:
    facts = "; ".join(fact.message for fact in found.missing)
    hint = next((fact.hint for fact in found.missing if fact.hint), None)
    return Failure(kind="verify", message=f"{device} took the change, but within {waited_ms / 1000:.1f}s: {facts}", hint=hint)
