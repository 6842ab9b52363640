"""The state directory: what a restart finds, whole or not at all.

    state-dir/lock                   held (flock) by the one agent that uses the directory
    state-dir/journal.json           running configuration, pending change, the rows of the history
    state-dir/journal.json.previous  for the day when the first is damaged: the same again, or, while a change waits, what was before it
    state-dir/commits/000042.json    the configuration after commit 42, and what that commit changed

A file is written beside its place, flushed to the disk, and renamed; then the directory is flushed.  So at any instant a
reader finds the old file or the new one.  What does not match its digest is set aside under a name that says so, and the
last good one is used.  document.py has the format and its versions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from igmpconf.agent.document import ROW_FIELDS, VERSION, Content, DamagedError, Kind, StateDirectoryError, checked, document
from igmpconf.agent.files import DISK, Files, write_durably, write_spare
from igmpconf.agent.image import HISTORY_LENGTH, CommitRecord, Image, KeptConfig, PendingCommit
from igmpconf.agent.stored import restored, stored
from igmpconf.ids import PersistId
from igmpconf.model.canon import PlainError
from igmpconf.model.config import DeviceConfig

__all__ = ["Journal", "StateDirectoryError"]

T = TypeVar("T")
_log = logging.getLogger("igmpconf.agent.journal")


class Journal:
    """The state directory while we hold its lock; `found` is what was there, `findings` what was wrong with it."""

    def __init__(self, state_dir: Path, files: Files = DISK) -> None:
        """Take the lock and read.  Raises StateDirectoryError."""
        self._dir = state_dir
        self._files = files
        self._commits = state_dir / "commits"
        self._journal = state_dir / "journal.json"
        self._previous = state_dir / "journal.json.previous"
        self._written: dict[int, DeviceConfig | KeptConfig] = {}  # commit files on the disk, as today's version has them
        self.findings: list[str] = []
        try:
            self._make_directories()
            self._lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateDirectoryError(
                f"cannot use the state directory {state_dir}: {error.strerror}", hint="name another one with --state-dir, or correct its permissions"
            ) from None
        try:
            self._hold_lock()
            for left in (*state_dir.glob("*.new"), *self._commits.glob("*.new")):
                files.unlink(left)  # a write that a crash cut short; nothing refers to it
            self.found = self._read()
        except OSError as error:
            os.close(self._lock)
            raise StateDirectoryError(f"cannot read the state directory {state_dir}: {error.strerror}") from None
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._lock)

    def write(self, image: Image) -> str:
        """Make `image` what a restart finds; the answer is the time that stamped its new records.

        Raises OSError (ENOSPC, EIO, EROFS ...), and then a restart finds what it would have found before.
        """
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        running = stored(image.running)
        for row in image.history:
            if row.kept is not None and self._written.get(row.number) is not row.kept and (config := row.config) is not None:
                commit = {"number": row.number, "config": running if config is image.running else stored(config), "diff": row.diff}
                write_durably(self._commit_path(row.number), document(commit), files=self._files)
                self._written[row.number] = row.kept
        content = {
            "running": running,
            "pending": {"rollback": stored(image.pending.rollback), "persist_id": image.pending.persist_id} if image.pending is not None else None,
            "history": [{field: getattr(row, field) for field in ROW_FIELDS} | {"time": row.time or time} for row in image.history],
        }
        data = document(content)
        write_durably(self._journal, data, keep_as=self._previous, files=self._files)
        if image.pending is None:  # else the one before it is what a restart goes back to
            with contextlib.suppress(OSError):
                write_spare(self._previous, data, files=self._files)
        self._forget({row.number for row in image.history})
        return time

    def _make_directories(self) -> None:
        """A directory is there after a power cut when its parent was flushed."""
        if self._commits.is_dir():
            return
        is_new = not self._dir.is_dir()
        self._files.make_directory(self._dir)
        self._files.make_directory(self._commits)
        self._files.flush_directory(self._dir)
        if is_new:
            self._files.flush_directory(self._dir.parent)

    def _hold_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise StateDirectoryError(
                f"another agent (process {holder}) uses the state directory {self._dir}", hint="stop it, or give this one its own --state-dir"
            ) from None
        with contextlib.suppress(OSError):  # for people only; a full disk must not keep the agent from starting
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    # reading

    def _read(self) -> Image:
        found = self._load(self._journal, "journal", _image)
        if found is None:
            found = self._load(self._previous, "journal", _image)
            if found is not None:
                self.findings.append(f"{self._journal.name} is missing or damaged; continuing from {self._previous.name}")
        if found is None:
            return self._from_commits()
        (image, rows), version = found
        if version < VERSION:
            self.findings.append(f"{self._journal.name} has version {version}; the next commit writes version {VERSION}")
        return dataclasses.replace(image, history=tuple(self._record(row) for row in rows))

    def _from_commits(self) -> Image:
        """The newest configuration that a commit file still holds, when both journals are gone; else nothing."""
        for path in sorted(self._commits.glob("*.json"), reverse=True):
            found = self._load(path, "commit", _commit)
            if found is not None:
                self.findings.append(f"no journal could be read; continuing from {path.name}, without history")
                return Image(running=found[0][0])
        return Image(running=DeviceConfig())

    def _record(self, row: Content) -> CommitRecord:
        """A row with what its commit file has; a file of an older version is written anew with the next commit."""
        fields = {field: row[field] for field in ROW_FIELDS}
        found = self._load(self._commit_path(row["number"]), "commit", _diff)
        if found is None:
            return CommitRecord(**fields, diff=row.get("diff", ""), kept=None)
        diff, version = found
        kept = KeptConfig(partial(self._config_of, row["number"]))
        if version == VERSION:
            self._written[row["number"]] = kept
        return CommitRecord(**fields, diff=diff if diff is not None else row.get("diff", ""), kept=kept)

    def _config_of(self, number: int) -> DeviceConfig | None:
        """What a commit file has by now."""
        known = len(self.findings)
        found = self._load(self._commit_path(number), "commit", _commit)
        for finding in self.findings[known:]:
            _log.warning("journal %s", finding)
        return found[0][0] if found is not None else None

    def _load(self, path: Path, kind: Kind, built: Callable[[Content], T]) -> tuple[T, int] | None:
        """What one of our files says, and its version; None if it is missing, or damaged and now set aside."""
        try:
            content, version = checked(path.read_bytes(), path, kind)
            try:
                return built(content), version
            except (PlainError, KeyError, TypeError) as error:
                raise DamagedError(f"its content does not fit the model: {error}") from None
        except FileNotFoundError:
            return None
        except DamagedError as error:
            aside = _free_name(path)
            self._files.rename(path, aside)
            self.findings.append(f"{path} is damaged ({error}); kept as {aside.name}")
            return None

    # writing

    def _commit_path(self, number: int) -> Path:
        return self._commits / f"{number:06}.json"

    def _forget(self, kept: set[int]) -> None:
        """Remove configurations that no row names; a failure costs only space and is repaired by the next commit."""
        for number in [number for number in self._written if number not in kept]:
            try:
                self._files.unlink(self._commit_path(number))
            except OSError:
                continue
            del self._written[number]


def _image(content: Content) -> tuple[Image, list[Content]]:
    """Without the history, whose rows have a part each in a file of their own."""
    pending = None
    if content["pending"] is not None:
        rollback, persist_id = content["pending"]["rollback"], content["pending"]["persist_id"]
        pending = PendingCommit(rollback=restored(rollback), persist_id=PersistId(persist_id) if persist_id is not None else None)
    rows = content["history"][-HISTORY_LENGTH:]
    for row in rows:
        _ = [row[field] for field in ROW_FIELDS]
    return Image(running=restored(content["running"]), pending=pending), rows


def _diff(content: Content) -> str | None:
    diff: str | None = content["diff"]
    return diff


def _commit(content: Content) -> tuple[DeviceConfig, str | None]:
    return restored(content["config"]), content["diff"]


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside
