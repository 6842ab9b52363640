"""What survives a restart: the nouns that datastore and journal share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from igmpconf.ids import PersistId
from igmpconf.model.config import DeviceConfig

HISTORY_LENGTH = 50  # contract: the last 50 commits


class KeptConfig:
    """A configuration that is on the disk; equal to what it is."""

    def __init__(self, load: Callable[[], DeviceConfig | None]) -> None:
        self.config = load

    def __eq__(self, other: object) -> bool:
        return self.config() == (other.config() if isinstance(other, KeptConfig) else other)

    def __hash__(self) -> int:
        return hash(self.config())


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRecord:
    """One row of the history, with the configuration that was running after it."""

    number: int
    time: str | None  # RFC 3339; None until the journal stamps it
    user: str | None
    plan: str | None
    comment: str | None
    event: str  # commit, confirmed, confirm, or a Stop
    digest: str
    diff: str
    kept: DeviceConfig | KeptConfig | None  # None: its file was damaged and set aside

    @property
    def config(self) -> DeviceConfig | None:
        """From the disk, if need be: fifty large configurations are no load for a start, nor for the memory."""
        return self.kept.config() if isinstance(self.kept, KeptConfig) else self.kept


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCommit:
    """A change that waits: until it is settled or, at restart, undone."""

    rollback: DeviceConfig  # as before the *first* confirmed commit of the chain (RFC 6241 8.4.1)
    persist_id: PersistId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Everything that has to survive a restart; `history` is oldest first."""

    running: DeviceConfig
    pending: PendingCommit | None = None
    history: tuple[CommitRecord, ...] = ()
