"""The state directory: what a restart finds, whole or not at all.

    state-dir/lock                   held (flock) by the one agent that uses the directory
    state-dir/journal.json           running configuration, pending change, the rows of the history
    state-dir/journal.json.previous  the one before it, for the day when the first is damaged
    state-dir/commits/000042.json    the configuration after commit 42, and what that commit changed

A file is written beside its place, flushed to the disk, and renamed; then the directory is flushed.  So at any instant a
reader finds the old file or the new one.  What does not match its digest is set aside under a name that says so, and the
last good one is used.  document.py has the format and its versions.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from igmpconf.agent.document import ROW_FIELDS, VERSION, Content, DamagedError, Kind, StateDirectoryError, checked, document
from igmpconf.agent.files import DISK, Files, write_durably
from igmpconf.agent.image import HISTORY_LENGTH, CommitRecord, Image, PendingCommit
from igmpconf.ids import PersistId
from igmpconf.model.canon import from_plain, to_plain
from igmpconf.model.config import DeviceConfig

__all__ = ["Journal", "StateDirectoryError"]


class Journal:
    """The state directory while we hold its lock; `found` is what was there, `findings` what was wrong with it."""

    def __init__(self, state_dir: Path, files: Files = DISK) -> None:
        """Take the lock and read.  Raises StateDirectoryError."""
        self._dir = state_dir
        self._files = files
        self._commits = state_dir / "commits"
        self._journal = state_dir / "journal.json"
        self._previous = state_dir / "journal.json.previous"
        self._written: dict[int, str] = {}  # commit files on the disk: number -> digest of the configuration
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
        for row in image.history:
            if row.config is not None and self._written.get(row.number) != row.digest:
                commit = {"number": row.number, "config": to_plain(row.config), "diff": row.diff}
                write_durably(self._commit_path(row.number), document(commit), files=self._files)
                self._written[row.number] = row.digest
        content = {
            "running": to_plain(image.running),
            "pending": {"rollback": to_plain(image.pending.rollback), "persist_id": image.pending.persist_id} if image.pending is not None else None,
            "history": [{field: getattr(row, field) for field in ROW_FIELDS} | {"time": row.time or time} for row in image.history],
        }
        write_durably(self._journal, document(content), keep_as=self._previous, files=self._files)
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
        content, version = self._content(self._journal, "journal")
        if content is None:
            content, version = self._content(self._previous, "journal")
            if content is not None:
                self.findings.append(f"{self._journal.name} is missing or damaged; continuing from {self._previous.name}")
        if content is not None:
            if version < VERSION:
                self.findings.append(f"{self._journal.name} has version {version}; the next commit writes version {VERSION}")
            return self._image(content)
        return self._from_commits()

    def _from_commits(self) -> Image:
        """The newest configuration that a commit file still holds, when both journals are gone; else nothing."""
        for path in sorted(self._commits.glob("*.json"), reverse=True):
            commit, _ = self._content(path, "commit")
            if commit is not None:
                self.findings.append(f"no journal could be read; continuing from {path.name}, without history")
                return Image(running=from_plain(DeviceConfig, commit["config"]))
        return Image(running=DeviceConfig())

    def _image(self, content: Content) -> Image:
        pending = content["pending"]
        history = [self._record(row) for row in content["history"][-HISTORY_LENGTH:]]
        return Image(
            running=from_plain(DeviceConfig, content["running"]),
            pending=PendingCommit(rollback=from_plain(DeviceConfig, pending["rollback"]), persist_id=_persist_id(pending)) if pending is not None else None,
            history=tuple(history),
        )

    def _record(self, row: Content) -> CommitRecord:
        """A row with what its commit file has; a file of an older version is written anew with the next commit."""
        fields = {field: row[field] for field in ROW_FIELDS}
        commit, version = self._content(self._commit_path(row["number"]), "commit")
        if commit is None:
            return CommitRecord(**fields, diff=row.get("diff", ""), config=None)
        if version == VERSION:
            self._written[row["number"]] = row["digest"]
        diff = commit["diff"] if commit["diff"] is not None else row.get("diff", "")
        return CommitRecord(**fields, diff=diff, config=from_plain(DeviceConfig, commit["config"]))

    def _content(self, path: Path, kind: Kind) -> tuple[Content | None, int]:
        """The checked content of one of our files and its version; None if it is missing, or damaged and now set aside."""
        try:
            return checked(path.read_bytes(), path, kind)
        except FileNotFoundError:
            return None, 0
        except DamagedError as error:
            aside = _free_name(path)
            self._files.rename(path, aside)
            self.findings.append(f"{path} is damaged ({error}); kept as {aside.name}")
            return None, 0

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


def _persist_id(pending: dict[str, Any]) -> PersistId | None:
    return PersistId(pending["persist_id"]) if pending["persist_id"] is not None else None


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside
