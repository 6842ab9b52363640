"""The state directory: what a restart finds, whole or not at all.

    state-dir/lock                   held (flock) by the one agent that uses the directory
    state-dir/journal.json           running configuration, pending change, the rows of the history
    state-dir/journal.json.previous  the one before it, for the day when the first is damaged
    state-dir/commits/000042.json    the configuration after commit 42

Every file is `{"format", "version", "sha256", "content"}`; the digest is over the canonical JSON of the content.  A file is
written beside its place, flushed to the disk, and renamed; then the directory is flushed.  So at any instant a reader
finds the old file or the new one.  What does not match its digest is set aside under a name that says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from igmpconf.agent.image import HISTORY_LENGTH, CommitRecord, Image, PendingCommit
from igmpconf.errors import IgmpconfError
from igmpconf.ids import PersistId
from igmpconf.model.canon import PlainError, from_plain, to_plain
from igmpconf.model.config import DeviceConfig

FORMAT = "igmpconf-journal"
VERSION = 1
_ROW_FIELDS = ("number", "time", "user", "plan", "comment", "event", "digest", "diff")


class StateDirectoryError(IgmpconfError):
    """The agent cannot work with this state directory; the message says why."""


class _DamagedError(ValueError):
    """A file is not what was once written there."""


class Journal:
    """The state directory while we hold its lock; `found` is what was there, `findings` what was wrong with it."""

    def __init__(self, state_dir: Path) -> None:
        """Take the lock and read.  Raises StateDirectoryError."""
        self._dir = state_dir
        self._commits = state_dir / "commits"
        self._journal = state_dir / "journal.json"
        self._previous = state_dir / "journal.json.previous"
        self._written: dict[int, str] = {}  # commit files on the disk: number -> digest of the configuration
        self.findings: list[str] = []
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._commits.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateDirectoryError(
                f"cannot use the state directory {state_dir}: {error.strerror}", hint="name another one with --state-dir, or correct its permissions"
            ) from None
        try:
            self._hold_lock()
            for left in (*state_dir.glob("*.new"), *self._commits.glob("*.new")):
                left.unlink()  # a write that a crash cut short; nothing refers to it
            self.found = self._read()
        except OSError as error:
            os.close(self._lock)
            raise StateDirectoryError(f"cannot read the state directory {state_dir}: {error.strerror}") from None
        except StateDirectoryError:
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
                write_durably(self._commit_path(row.number), _document({"number": row.number, "config": to_plain(row.config)}))
                self._written[row.number] = row.digest
        content = {
            "running": to_plain(image.running),
            "pending": {"rollback": to_plain(image.pending.rollback), "persist_id": image.pending.persist_id} if image.pending is not None else None,
            "history": [{field: getattr(row, field) for field in _ROW_FIELDS} | {"time": row.time or time} for row in image.history],
        }
        write_durably(self._journal, _document(content), keep_as=self._previous)
        self._forget({row.number for row in image.history})
        return time

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
        content = self._content(self._journal)
        if content is None:
            content = self._content(self._previous)
            if content is not None:
                self.findings.append(f"{self._journal.name} is missing or damaged; continuing from {self._previous.name}")
        if content is not None:
            return self._image(content)
        return self._from_commits()

    def _from_commits(self) -> Image:
        """The newest configuration that a commit file still holds, when both journals are gone; else nothing."""
        for path in sorted(self._commits.glob("*.json"), reverse=True):
            config = self._config(path)
            if config is not None:
                self.findings.append(f"no journal could be read; continuing from {path.name}, without history")
                return Image(running=config)
        return Image(running=DeviceConfig())

    def _image(self, content: dict[str, Any]) -> Image:
        pending = content["pending"]
        history = []
        for fields in content["history"][-HISTORY_LENGTH:]:
            row = {field: fields[field] for field in _ROW_FIELDS}
            config = self._config(self._commit_path(row["number"]))
            if config is not None:
                self._written[row["number"]] = row["digest"]
            history.append(CommitRecord(**row, config=config))
        return Image(
            running=from_plain(DeviceConfig, content["running"]),
            pending=PendingCommit(rollback=from_plain(DeviceConfig, pending["rollback"]), persist_id=_persist_id(pending)) if pending is not None else None,
            history=tuple(history),
        )

    def _config(self, path: Path) -> DeviceConfig | None:
        content = self._content(path)
        return from_plain(DeviceConfig, content["config"]) if content is not None else None

    def _content(self, path: Path) -> dict[str, Any] | None:
        """The checked content of one of our files; None if it is missing, or damaged and now set aside."""
        try:
            return _checked(path.read_bytes(), path, is_commit=path.parent == self._commits)
        except FileNotFoundError:
            return None
        except _DamagedError as error:
            aside = _free_name(path)
            path.replace(aside)
            self.findings.append(f"{path} is damaged ({error}); kept as {aside.name}")
            return None

    # writing

    def _commit_path(self, number: int) -> Path:
        return self._commits / f"{number:06}.json"

    def _forget(self, kept: set[int]) -> None:
        """Remove configurations that no row names; a failure costs only space and is repaired by the next commit."""
        for number in [number for number in self._written if number not in kept]:
            try:
                self._commit_path(number).unlink(missing_ok=True)
            except OSError:
                continue
            del self._written[number]


def _persist_id(pending: dict[str, Any]) -> PersistId | None:
    return PersistId(pending["persist_id"]) if pending["persist_id"] is not None else None


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _document(content: dict[str, Any]) -> bytes:
    envelope = {"format": FORMAT, "version": VERSION, "sha256": hashlib.sha256(_canonical(content)).hexdigest(), "content": content}
    return json.dumps(envelope, indent=1, ensure_ascii=True).encode() + b"\n"


def _checked(data: bytes, path: Path, *, is_commit: bool) -> dict[str, Any]:
    """The content of a document.  Raises _DamagedError; StateDirectoryError when a newer program wrote it."""
    try:
        envelope = json.loads(data)
    except ValueError as error:
        raise _DamagedError(f"not JSON: {error}") from None
    if not isinstance(envelope, dict) or envelope.get("format") != FORMAT or not isinstance(envelope.get("content"), dict):
        raise _DamagedError("not a journal")
    content: dict[str, Any] = envelope["content"]
    if hashlib.sha256(_canonical(content)).hexdigest() != envelope.get("sha256"):
        raise _DamagedError("its digest does not match")
    if envelope.get("version") != VERSION:
        raise StateDirectoryError(
            f"{path} has version {envelope.get('version')}, this agent knows version {VERSION}",
            hint="a newer agent wrote it: run that one, or move the file away",
        )
    try:
        if is_commit:
            from_plain(DeviceConfig, content["config"])
        else:
            from_plain(DeviceConfig, content["running"])
            if content["pending"] is not None:
                from_plain(DeviceConfig, content["pending"]["rollback"])
            for row in content["history"]:
                _ = [row[field] for field in _ROW_FIELDS]
    except (PlainError, KeyError, TypeError) as error:
        raise _DamagedError(f"its content does not fit the model: {error}") from None
    return content


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside


def write_durably(path: Path, data: bytes, *, keep_as: Path | None = None) -> None:
    """Replace `path` by `data`, atomically and durably; the file that was there becomes `keep_as`.  Raises OSError."""
    new = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if keep_as is not None and path.exists():
            # Between the two renames only the old file exists, under its second name: a reader takes that one.
            path.replace(keep_as)
        try:
            new.replace(path)
        except OSError:
            if keep_as is not None:
                keep_as.replace(path)
            raise
    except OSError:
        new.unlink(missing_ok=True)
        raise
    _flush_directory(path.parent)


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
