"""What happens to the datastore and what it asks for: events in the past tense, effects in the imperative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from igmpconf.agent.image import Image
from igmpconf.ids import PersistId, SessionId
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.messages import RpcError

Target = Literal["running", "candidate"]

DEFAULT_CONFIRM_TIMEOUT_S = 600  # RFC 6241 8.4.1


# events


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Base of what sessions ask; `token` comes back in the Reply."""

    token: int
    session: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class LockAsked(Request):
    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlockAsked(Request):
    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateEdited(Request):
    """The candidate is to become `config`, which was made from `base`."""

    base: DeviceConfig
    config: DeviceConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardAsked(Request):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitAsked(Request):
    candidate: DeviceConfig  # what was found to be valid; another one by then is not committed
    user: str | None = None
    is_confirmed: bool = False
    confirm_timeout_s: int = DEFAULT_CONFIRM_TIMEOUT_S
    persist: PersistId | None = None
    persist_id: PersistId | None = None
    plan: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked(Request):
    user: str | None = None
    persist_id: PersistId | None = None


@dataclass(frozen=True, slots=True)
class SessionEnded:
    session: SessionId


@dataclass(frozen=True, slots=True)
class TimePassed:
    pass


@dataclass(frozen=True, slots=True)
class Started:
    """The first event: put the running configuration in force, undoing what was pending."""


@dataclass(frozen=True, slots=True)
class JournalWritten:
    time: str  # RFC 3339: stamps the records that had no time yet


@dataclass(frozen=True, slots=True)
class JournalFailed:
    message: str


@dataclass(frozen=True, slots=True)
class EngineReplaced:
    pass


@dataclass(frozen=True, slots=True)
class EngineRefused:
    message: str
    hint: str | None = None


Question = LockAsked | UnlockAsked | CandidateEdited | DiscardAsked | CommitAsked | CancelAsked
Outcome = JournalWritten | JournalFailed | EngineReplaced | EngineRefused
Event = Question | SessionEnded | TimePassed | Started | Outcome


# effects


@dataclass(frozen=True, slots=True)
class WriteJournal:
    """Make `image` what a restart finds; answered by JournalWritten or JournalFailed (then the old content is still there)."""

    image: Image


@dataclass(frozen=True, slots=True)
class ReplaceEngineConfig:
    """Put `config` in force; answered by EngineReplaced or EngineRefused (then the one before is still in force)."""

    config: DeviceConfig


@dataclass(frozen=True, slots=True)
class Reply:
    token: int
    error: RpcError | None = None


@dataclass(frozen=True, slots=True)
class Note:
    level: Literal["debug", "info", "warning", "error"]
    event: str
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A commit or a rollback is done: what those who watch are told."""

    event: str  # commit, confirmed, confirm, rollback-timeout, rollback-cancel, rollback-session, rollback-restart
    before: DeviceConfig
    after: DeviceConfig
    session: SessionId | None
    user: str | None
    timeout_s: int | None  # of a confirmed commit
    was_pending: bool  # a confirmed commit waited before


Effect = WriteJournal | ReplaceEngineConfig | Reply | Note | Settled
