"""What each operation of NETCONF means here: from an `<rpc>`'s element to the content of its reply.

Parameters are checked in full before anything happens; unknown ones are errors, never ignored (RFC 6241 appendix A).
Reading and writing of data is `schema/`'s, transactions are `datastore.py`'s; this file connects the two.  What takes
the longer the larger a configuration is happens in threads: the engines share the loop, and a query will not wait.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args
from xml.etree.ElementTree import Element

from igmpconf.agent import library, monitoring, nmda
from igmpconf.agent.access import AccessControl, User
from igmpconf.agent.changes import prepare_record
from igmpconf.agent.complaints import data_error, semantic_errors
from igmpconf.agent.datastore import OVERTAKEN
from igmpconf.agent.events import (
    CancelAsked,
    CandidateEdited,
    CommitAsked,
    DiscardAsked,
    LockAsked,
    Question,
    Target,
    UnlockAsked,
)
from igmpconf.agent.modules import OUR_NETCONF, OURS
from igmpconf.agent.nacm import Rights
from igmpconf.agent.observation import Observation
from igmpconf.agent.parameters import (
    DEFAULTS_MODES,
    WITH_DEFAULTS,
    confirm_timeout_s,
    datastore,
    inline,
    needed,
    parameters,
    persist,
    remark,
    unknown_operation,
    word,
)
from igmpconf.agent.ports import EnginePort
from igmpconf.agent.retrieval import Retrieval, Sources
from igmpconf.agent.sessions import Sessions
from igmpconf.agent.store import Store
from igmpconf.agent.stream import EventStream
from igmpconf.agent.subscription import CREATE, subscription
from igmpconf.ids import SessionId
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.messages import (
    BASE,
    BASE_1_0,
    BASE_1_1,
    Rpc,
    RpcError,
    RpcRefused,
    invalid_value,
    not_supported,
    ok,
    text_of,
)
from igmpconf.netconf.notification import CAPABILITIES as NOTIFICATION_CAPABILITIES
from igmpconf.schema.edit import DefaultOperation, edited
from igmpconf.schema.ietf import MODULES as IETF_MODULES
from igmpconf.schema.names import NMDA
from igmpconf.schema.semantic import check
from igmpconf.schema.xml import DataError, config_to_xml, xml_to_config

_DEFAULT_OPERATIONS: tuple[DefaultOperation, ...] = get_args(DefaultOperation)
_ATTEMPTS = 5  # ours: of an edit or commit that others overtake
_STANDARD = "urn:ietf:params:netconf:capability"


def capabilities() -> tuple[str, ...]:
    """What the hello says; each line is something that works."""
    return (
        BASE_1_0,
        BASE_1_1,
        f"{_STANDARD}:candidate:1.0",
        f"{_STANDARD}:confirmed-commit:1.0",
        f"{_STANDARD}:confirmed-commit:1.1",
        f"{_STANDARD}:validate:1.0",
        f"{_STANDARD}:validate:1.1",
        f"{_STANDARD}:rollback-on-error:1.0",
        f"{_STANDARD}:with-defaults:1.0?basic-mode=explicit&also-supported={','.join(DEFAULTS_MODES[1:])}",
        nmda.WITH_OPERATIONAL_DEFAULTS,
        *NOTIFICATION_CAPABILITIES,
        *library.capabilities(),
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """One rpc on its way: who asks for what, and may do what."""

    session: SessionId
    user: User
    rights: Rights
    operation: Element


Handler = Callable[[_Call], Awaitable[list[Element]]]


class Dispatcher:
    """`answer` is the whole of it; `control` says who may do what."""

    def __init__(self, store: Store, engine: EnginePort, sessions: Sessions, observation: Observation, stream: EventStream) -> None:
        self._stream = stream
        self._store = store
        self._sessions = sessions
        self._locked_at: dict[tuple[Target, SessionId], str] = {}
        self.control = AccessControl(lambda: store.machine.running.access)
        read = Retrieval(Sources(store=store, engine=engine, stream=stream, control=self.control, netconf_state=self._netconf_state))
        self._handlers: dict[str, Handler] = {
            f"{{{BASE}}}get": lambda call: read.get(call.rights, call.operation),
            f"{{{BASE}}}get-config": lambda call: read.get_config(call.rights, call.operation),
            nmda.GET_DATA: lambda call: read.get_data(call.rights, call.operation),
            f"{{{BASE}}}validate": self._validate,
            f"{{{monitoring.NAMESPACE}}}get-schema": self._get_schema,
            f"{{{OURS}}}get-commit": self._get_commit,
            CREATE: self._create_subscription,
            f"{{{BASE}}}edit-config": self._edit_config,
            nmda.EDIT_DATA: self._edit_data,
            f"{{{BASE}}}copy-config": self._copy_config,
            f"{{{BASE}}}delete-config": self._delete_config,
            f"{{{BASE}}}lock": self._lock,
            f"{{{BASE}}}unlock": self._unlock,
            f"{{{BASE}}}discard-changes": self._discard_changes,
            f"{{{BASE}}}commit": self._commit,
            f"{{{BASE}}}cancel-commit": self._cancel_commit,
            f"{{{BASE}}}kill-session": self._kill_session,
        }
        self._looks = observation.looks

    async def answer(self, session: SessionId, user: User, rpc: Rpc) -> list[Element]:
        """The content of the reply.  Raises RpcRefused."""
        operation = rpc.operation
        look, handler = self._looks.get(operation.tag), self._handlers.get(operation.tag)
        if look is None and handler is None:
            raise unknown_operation(operation)
        rights = self.control.rights(user)
        refusal = rights.refusal_to_execute(operation)
        if refusal is not None:
            self.control.count("denied-operations")
            raise RpcRefused(refusal)
        if look is not None:
            return await look(operation)
        assert handler is not None
        try:
            return await handler(_Call(session, user, rights, operation))
        except DataError as error:
            raise RpcRefused(data_error(error)) from None

    # reading

    async def _get_schema(self, call: _Call) -> list[Element]:
        here = monitoring.NAMESPACE
        given = parameters(call.operation, *(f"{{{here}}}{name}" for name in ("identifier", "version", "format")))
        name = text_of(needed(given, "identifier", call.operation, here))
        revision, language = given.get(f"{{{here}}}version"), given.get(f"{{{here}}}format")
        if language is not None and text_of(language).rpartition(":")[2] != "yang":  # an identityref, with or without prefix
            raise invalid_value(f"schemas are served as yang, not as {text_of(language)}")
        found = [module for module in library.listed() if module.name == name]
        if revision is not None and text_of(revision):
            found = [module for module in found if module.revision == text_of(revision)]
        if not found:
            listed = ", ".join(f"{module.name}@{module.revision}" for module in library.listed())
            raise invalid_value(f"no schema {name}; there are {listed}")
        text = library.text_of(name)
        if text is None:
            where = IETF_MODULES[name][1]
            raise invalid_value(f"the text of {name} is not installed on this device; it is in {where}", error_type="application")
        answer = Element(f"{{{here}}}data")
        answer.text = text
        return [answer]

    async def _get_commit(self, call: _Call) -> list[Element]:
        given = parameters(call.operation, f"{{{OURS}}}number")
        number = text_of(needed(given, "number", call.operation, OURS))
        found = [record for record in self._store.machine.history if str(record.number) == number]
        if not found:
            numbers = [record.number for record in self._store.machine.history]
            kept = f"the history holds {numbers[0]}..{numbers[-1]}" if numbers else "the history is empty"
            raise RpcRefused(RpcError("application", "data-missing", message=f"no commit {number}; {kept}"))
        if found[0].config is None:
            raise RpcRefused(RpcError("application", "operation-failed", message=f"the configuration of commit {number} was damaged on the disk"))
        answer = Element(f"{{{OURS}}}config")
        answer.extend(call.rights.readable(config_to_xml(found[0].config, with_access=True)))
        return [answer]

    async def _create_subscription(self, call: _Call) -> list[Element]:
        wanted = subscription(call.operation, self._stream.now())
        asking = self._sessions.find(call.session)
        if asking is not None:  # else it ended while its last question was worked on
            asking.subscribe(wanted)
        return ok()

    def _netconf_state(self) -> Element:
        held = {
            target: (holder, self._locked_at[target, holder])
            for target, holder in self._store.machine.locks.items()
            if (target, holder) in self._locked_at  # else granted an instant ago, and not yet told to its holder
        }
        return monitoring.netconf_state(capabilities(), held, self._sessions)

    def _config_of(self, target: Target) -> DeviceConfig:
        return self._store.machine.running if target == "running" else self._store.machine.candidate

    # editing

    async def _edit_config(self, call: _Call) -> list[Element]:
        names = ("target", "default-operation", "test-option", "error-option", "config", "url")
        given = parameters(call.operation, *(f"{{{BASE}}}{name}" for name in names))
        target = datastore(needed(given, "target", call.operation))
        default_operation = word(given, "default-operation", _DEFAULT_OPERATIONS, "merge")
        # RFC 7950 8.3.3 leaves constraints on the candidate to validate and commit; who asks for the test gets it at once.
        test = word(given, "test-option", ("test-then-set", "set", "test-only"), "set")
        on_error = word(given, "error-option", ("stop-on-error", "continue-on-error", "rollback-on-error"), "stop-on-error")
        if f"{{{BASE}}}url" in given:
            raise not_supported("configuration is not fetched from URLs; send it in <config>")
        config = needed(given, "config", call.operation)
        self._must_be_candidate(target)
        await self._edit(call, config, default_operation, test=test, goes_on=on_error == "continue-on-error")
        return ok()

    async def _edit_data(self, call: _Call) -> list[Element]:
        given = parameters(call.operation, *(f"{{{NMDA}}}{name}" for name in ("datastore", "default-operation", "config", "url")))
        target = nmda.datastore_of(needed(given, "datastore", call.operation, NMDA))
        default_operation = word(given, "default-operation", _DEFAULT_OPERATIONS, "merge", NMDA)
        if f"{{{NMDA}}}url" in given:
            raise not_supported("configuration is not fetched from URLs; send it in <config>")
        config = needed(given, "config", call.operation, NMDA)
        if target != "candidate":  # RFC 8526 4: of edit-data, not writable is an invalid value
            raise invalid_value(f"{target} is not edited; edit the candidate and commit")
        await self._edit(call, config, default_operation, test="set", goes_on=False)
        return ok()

    async def _edit(self, call: _Call, config: Element, default_operation: DefaultOperation, *, test: str, goes_on: bool) -> None:
        """Make the candidate what the edit says, all or nothing unless it `goes_on`.  Raises RpcRefused, DataError."""
        self._must_be_writable(call)
        errors: tuple[RpcError, ...] = ()

        def tested(base: DeviceConfig) -> tuple[DeviceConfig, tuple[RpcError, ...]]:
            wanted, found = self._edited(call, base, config, default_operation, goes_on=goes_on)
            if test != "set":
                found += semantic_errors(check(wanted))
                if found:
                    raise RpcRefused(*found)
            return wanted, found

        async def question() -> Question | None:
            nonlocal errors
            base = self._store.machine.candidate
            wanted, errors = await asyncio.to_thread(tested, base)
            if test == "test-only" or wanted == base:
                return None
            return CandidateEdited(token=self._store.token(), session=call.session, base=base, config=wanted)

        await self._ask_until_current(question)
        if errors:
            raise RpcRefused(*errors)

    def _edited(
        self, call: _Call, base: DeviceConfig, config: Element, default_operation: DefaultOperation, *, goes_on: bool
    ) -> tuple[DeviceConfig, tuple[RpcError, ...]]:
        """`base` after the edit, and what was wrong; all or nothing, or (continue-on-error) each top-level node for itself."""
        if not goes_on or len(config) < 2 or default_operation == "replace":
            wanted = edited(base, config, default_operation)
            self._must_be_permitted(call, base, wanted)
            return wanted, ()
        errors: list[RpcError] = []
        for child in config:
            part = Element(config.tag, dict(config.attrib))
            part.append(child)
            try:
                wanted = edited(base, part, default_operation)
                self._must_be_permitted(call, base, wanted)
                base = wanted
            except DataError as error:
                errors.append(data_error(error))
            except RpcRefused as refusal:
                errors += refusal.errors
        return base, tuple(errors)

    def _must_be_permitted(self, call: _Call, before: DeviceConfig, after: DeviceConfig) -> None:
        refusal = call.rights.refusal_to_change(before, after)
        if refusal is not None:
            self.control.count("denied-data-writes")
            raise RpcRefused(refusal)

    async def _copy_config(self, call: _Call) -> list[Element]:
        given = parameters(call.operation, f"{{{BASE}}}target", f"{{{BASE}}}source", f"{{{WITH_DEFAULTS}}}with-defaults")
        target = datastore(needed(given, "target", call.operation))
        source = needed(given, "source", call.operation)
        config = inline(source)
        if config is None and datastore(source) == target:
            raise invalid_value(f"source and target are both {target}")
        self._must_be_candidate(target)
        self._must_be_writable(call)

        def copied(base: DeviceConfig) -> DeviceConfig:
            wanted = xml_to_config(list(config), with_access=True) if config is not None else _readable(self._config_of(datastore(source)), call.rights)
            self._must_be_permitted(call, base, wanted)
            return wanted

        async def question() -> Question:
            base = self._store.machine.candidate
            wanted = await asyncio.to_thread(copied, base)
            return CandidateEdited(token=self._store.token(), session=call.session, base=base, config=wanted)

        await self._ask_until_current(question)
        return ok()

    async def _delete_config(self, call: _Call) -> list[Element]:
        raise not_supported("there is no startup configuration, and running and candidate cannot be deleted")

    async def _validate(self, call: _Call) -> list[Element]:
        given = parameters(call.operation, f"{{{BASE}}}source")
        source = needed(given, "source", call.operation)
        config = inline(source)
        stored = self._config_of(datastore(source, with_nmda=True)) if config is None else None

        def found() -> tuple[RpcError, ...]:
            return semantic_errors(check(stored if stored is not None else xml_to_config(list(config or ()), with_access=True)))

        errors = await asyncio.to_thread(found)
        if errors:
            raise RpcRefused(*errors)
        return ok()

    def _must_be_candidate(self, target: Target) -> None:
        if target != "candidate":
            raise not_supported(f"{target} is changed by <commit> only; edit the candidate")

    def _must_be_writable(self, call: _Call) -> None:
        """Told before the payload is looked at; the datastore checks again."""
        error = self._store.machine.refusal_to_edit(call.session)
        if error is not None:
            raise RpcRefused(error)

    # transactions

    async def _lock(self, call: _Call) -> list[Element]:
        target = self._only_target(call)
        await self._ask(LockAsked(token=self._store.token(), session=call.session, target=target))
        self._locked_at = {(place, holder): time for (place, holder), time in self._locked_at.items() if place != target}
        self._locked_at[target, call.session] = now_text()
        return ok()

    async def _unlock(self, call: _Call) -> list[Element]:
        target = self._only_target(call)
        await self._ask(UnlockAsked(token=self._store.token(), session=call.session, target=target))
        return ok()

    async def _discard_changes(self, call: _Call) -> list[Element]:
        parameters(call.operation)
        await self._ask(DiscardAsked(token=self._store.token(), session=call.session))
        return ok()

    async def _commit(self, call: _Call) -> list[Element]:
        names = ("confirmed", "confirm-timeout", "persist", "persist-id")
        given = parameters(call.operation, *(f"{{{BASE}}}{name}" for name in names), f"{{{OUR_NETCONF}}}plan", f"{{{OUR_NETCONF}}}comment")
        timeout_s = confirm_timeout_s(given.get(f"{{{BASE}}}confirm-timeout"))
        is_confirmed = f"{{{BASE}}}confirmed" in given
        given_persist, given_persist_id = persist(given, "persist"), persist(given, "persist-id")
        plan, comment = remark(given, "plan"), remark(given, "comment")

        def judge(running: DeviceConfig, candidate: DeviceConfig) -> None:
            errors = semantic_errors(check(candidate))
            if errors:
                raise RpcRefused(*errors)
            self._must_be_permitted(call, running, candidate)
            prepare_record(running, candidate)

        async def question() -> Question:
            running, candidate = self._store.machine.running, self._store.machine.candidate
            while candidate != running:
                await asyncio.to_thread(judge, running, candidate)
                judged = running, candidate
                running, candidate = self._store.machine.running, self._store.machine.candidate
                if judged == (running, candidate):
                    break
            return CommitAsked(
                token=self._store.token(),
                session=call.session,
                candidate=candidate,
                user=call.user.name,
                is_confirmed=is_confirmed,
                confirm_timeout_s=timeout_s,
                persist=given_persist,
                persist_id=given_persist_id,
                plan=plan,
                comment=comment,
            )

        await self._ask_until_current(question)
        return ok()

    async def _cancel_commit(self, call: _Call) -> list[Element]:
        given = parameters(call.operation, f"{{{BASE}}}persist-id")
        token = self._store.token()
        await self._ask(CancelAsked(token=token, session=call.session, user=call.user.name, persist_id=persist(given, "persist-id")))
        return ok()

    async def _kill_session(self, call: _Call) -> list[Element]:
        given = parameters(call.operation, f"{{{BASE}}}session-id")
        number = text_of(needed(given, "session-id", call.operation))
        if not re.fullmatch(r"[0-9]{1,10}", number):
            raise invalid_value(f"{number!r} is not a session-id")
        if int(number) == call.session:
            raise invalid_value("a session cannot kill itself; use <close-session>")
        found = self._sessions.find(int(number))
        if found is None:
            raise invalid_value(f"there is no session {number}")
        found.kill(f"killed by session {call.session} of {call.user.name}", call.session)
        return ok()

    def _only_target(self, call: _Call) -> Target:
        given = parameters(call.operation, f"{{{BASE}}}target")
        return datastore(needed(given, "target", call.operation), with_nmda=True)

    async def _ask_until_current(self, question: Callable[[], Awaitable[Question | None]]) -> None:
        """Ask what was made from the candidate; make it anew when the candidate changed before its turn came."""
        for _ in range(_ATTEMPTS):
            asked = await question()
            error = await self._store.ask(asked) if asked is not None else None
            if error is None or error.app_tag != OVERTAKEN:
                break
        if error is not None:
            raise RpcRefused(error)

    async def _ask(self, question: Question) -> None:
        error = await self._store.ask(question)
        if error is not None:
            raise RpcRefused(error)


def now_text() -> str:
    """Now, as RFC 3339 in UTC with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _readable(config: DeviceConfig, rights: Rights) -> DeviceConfig:
    """What of a datastore a user copies: what is hidden from him is not there (RFC 8341 3.2.6)."""
    if rights.may_read_all():
        return config
    return xml_to_config(rights.readable(config_to_xml(config, with_access=True)), with_access=True)
