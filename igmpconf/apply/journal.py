"""The controller's journal of one apply: what was promised to whom, on disk before the request leaves.

    $XDG_STATE_HOME/igmpconf/rollouts/ID.jsonl     one JSON object a line; the first holds the whole plan

`apply --resume ID` reads it after a crash of the controller.  A torn last line is a line that was never promised.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igmpconf.apply.rollout import Atomic, Record
from igmpconf.errors import IgmpconfError, InputError
from igmpconf.ids import DeviceName, PersistId
from igmpconf.plan.plan import Plan, from_json, to_json

FORMAT = "igmpconf-rollout/1"


def state_home() -> Path:
    """`$XDG_STATE_HOME/igmpconf`, by default below ~/.local/state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "igmpconf"


def rollouts_dir() -> Path:
    """Where the journals are."""
    return state_home() / "rollouts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What a journal tells: the plan, for every device that is not settled whether it is to be kept, and who had no turn."""

    rollout_id: PersistId
    plan: Plan
    atomic: Atomic
    confirm_timeout_s: int
    targets: dict[str, dict[str, Any]]
    unsettled: dict[DeviceName, bool]
    ended: dict[DeviceName, str]
    settings: dict[str, Any] | None = None  # how it was carried out, as `run.plain_settings` says it; None in journals of before

    @property
    def unbegun(self) -> tuple[DeviceName, ...]:
        """Devices that the plan changes and that had no turn: they are as before."""
        names = [DeviceName(device.device) for device in self.plan.devices if device.changes]
        return tuple(name for name in names if name not in self.unsettled and self.ended.get(name, "not begun") == "not begun")


class Journal:
    """An open journal; made by `create`, or by `reopen` for one that is continued.  One process has it open at a time."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def create(
        cls,
        rollout_id: str,
        plan: Plan,
        *,
        atomic: Atomic,
        confirm_timeout_s: int,
        targets: dict[str, dict[str, Any]],
        settings: dict[str, Any] | None = None,
    ) -> Journal:
        """A new journal with its first line on disk.  Raises IgmpconfError."""
        path = rollouts_dir() / f"{rollout_id}.jsonl"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from None
        journal = cls(path, fd)
        journal._hold()
        head = {
            "format": FORMAT,
            "rollout": rollout_id,
            "atomic": atomic,
            "confirm_timeout_s": confirm_timeout_s,
            "targets": targets,
            "settings": settings,
            "plan": json.loads(to_json(plan)),
        }
        journal._write(head)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)  # the name, too, must survive
        finally:
            os.close(directory)
        return journal

    @classmethod
    def reopen(cls, rollout_id: str) -> Journal:
        """An existing journal, to append to.  Raises IgmpconfError."""
        path = rollouts_dir() / f"{rollout_id}.jsonl"
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise _unwritable(path, error) from None
        journal = cls(path, fd)
        journal._hold()
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            os.write(fd, b"\n")  # the torn line stays what it is: unreadable, and alone
        return journal

    def _hold(self) -> None:
        """Keep others from acting on this journal; the kernel lets go when we end, however that is.  Raises IgmpconfError."""
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise IgmpconfError(f"apply {self.path.stem} is still at work in another process", hint="wait for its end, or end it: Ctrl-C there") from None

    def write(self, record: Record) -> None:
        """Append one record and wait until it is on disk.  Raises IgmpconfError."""
        line: dict[str, Any] = {"what": record.what}
        if record.device is not None:
            line["device"] = record.device
        if record.detail:
            line["detail"] = record.detail
        self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
        try:
            while data:
                data = data[os.write(self._fd, data) :]
            os.fsync(self._fd)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _unwritable(path: Path, error: OSError) -> IgmpconfError:
    return IgmpconfError(f"the journal {path} cannot be written: {error.strerror}", hint="nothing more is sent without it; free the disk or set XDG_STATE_HOME")


def read(rollout_id: str) -> Story:
    """What the journal of an earlier apply tells.  Raises InputError."""
    path = rollouts_dir() / f"{rollout_id}.jsonl"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        known = sorted((p for p in rollouts_dir().glob("*.jsonl")), key=lambda p: p.stat().st_mtime)[-3:] if rollouts_dir().is_dir() else []
        hint = f"the latest are: {', '.join(p.stem for p in known)}" if known else f"there is none in {rollouts_dir()}"
        raise InputError(f"there is no journal of an apply {rollout_id}", hint=hint) from None
    except OSError as error:
        raise InputError(f"the journal {path} cannot be read: {error.strerror}") from None
    head = _line(lines[0]) if lines else None
    if head is None or head.get("format") != FORMAT:
        raise InputError(f"{path} is not the journal of an apply")
    plan = from_json(json.dumps(head["plan"]), name=str(path))
    unsettled: dict[DeviceName, bool] = {}
    ended: dict[DeviceName, str] = {}
    decided: bool | None = None
    for text in lines[1:]:
        line = _line(text)
        if line is None:
            continue
        device = DeviceName(line.get("device", ""))
        match line["what"]:
            case "committing":
                ended.pop(device, None)
                unsettled[device] = False  # nothing is kept that nobody decided to keep
            case "confirming":
                unsettled[device] = True
            case "cancelling":
                unsettled[device] = False
            case "decided-keep":
                decided = True
            case "decided-undo":
                decided = False
            case "ended":
                ended[device] = line.get("detail", "")
                if line.get("detail") in {"not begun", "confirmed", "confirmed, then faltered", "rolled back", "refused", "unchanged"}:
                    unsettled.pop(device, None)
    if decided is not None:
        unsettled = dict.fromkeys(unsettled, decided)
    return Story(
        rollout_id=PersistId(rollout_id),
        plan=plan,
        atomic=head["atomic"],
        confirm_timeout_s=int(head["confirm_timeout_s"]),
        targets=head["targets"],
        unsettled=unsettled,
        ended=ended,
        settings=head.get("settings"),
    )


def _line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and ("what" in line or "format" in line) else None
