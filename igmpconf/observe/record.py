"""Recordings: what machines were told and what they answered, as JSON lines, exact enough to happen again.

A file holds one run after another, one for each life of the process that wrote it:

    {"igmpconf-recording": 1, "program": "0.1.0", "started": "2026-11-25T22:30:00Z"}     a run begins, its clock at 0
    {"machine": ["default", "ipv4"], "opened_at_ms": 3}                                  a fresh machine
    {"machine": ["default", "ipv4"], "at_ms": 12, "event": {"PacketReceived": {...}},
     "draws": [[1000, 417]], "effects": [{"SendPacket": {...}}]}                         one `handle`; chance included
    {"ended": "limit of 67108864 octets reached"}                                        what follows was not recorded

Which events and effects there are is not known here: a `Vocabulary` is made from their unions.  Recording never
disturbs what it watches: a full disk or a full file ends the recording, not the machine.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from igmpconf.errors import IgmpconfError, InputError
from igmpconf.machine import Machine
from igmpconf.observe.plain import Form, form_of

E = TypeVar("E")
F = TypeVar("F")

VERSION = 1
MAGIC = "igmpconf-recording"
LIMIT_BYTES = 64 << 20  # about 200,000 reports; a day of a home, minutes of an attack
_FIRST_OCTETS = b'{"' + MAGIC.encode() + b'"'
_CUT = "the last line is cut short"

MachineId = tuple[str, ...]
Draw = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Vocabulary(Generic[E, F]):
    """How the events `E` and effects `F` of a kind of machine are written."""

    event: Form
    effect: Form

    @classmethod
    def of(cls, events: object, effects: object) -> Vocabulary[E, F]:
        """From two unions of dataclasses."""
        return cls(form_of(events), form_of(effects))


def program_version() -> str:
    """The version of this program, as a recording's first line says it."""
    try:
        return metadata.version("igmpconf")
    except metadata.PackageNotFoundError:  # inside the one-file program
        return "unpackaged"


# -- writing -----------------------------------------------------------------------------------------------------------


class Recorder(Generic[E, F]):
    """Appends to `path`; what is written before a kill stays.

    `tell` is called once, with the reason, when recording ends before `close`.  Raises IgmpconfError if `path` cannot
    be written at all.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary[E, F], *, program: str, tell: Callable[[str], None], limit_bytes: int = LIMIT_BYTES) -> None:
        self.vocabulary = vocabulary
        self._tell = tell
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)  # it names subscribers and what they watch
        except OSError as error:
            raise IgmpconfError(f"cannot record to {path}: {error.strerror}", hint="give --record a file in a directory you may write to") from error
        size_bytes = os.fstat(self._fd).st_size
        if size_bytes and not os.pread(self._fd, len(_FIRST_OCTETS), 0).startswith(_FIRST_OCTETS):
            os.close(self._fd)
            raise IgmpconfError(f"cannot record to {path}: the file exists and is no recording", hint="give --record a new file")
        self._left_bytes = limit_bytes - size_bytes
        self._limit_bytes = limit_bytes
        self._is_open = True
        if size_bytes and os.pread(self._fd, 1, size_bytes - 1) != b"\n":
            self._append(b"\n")  # the former process was ended in the middle of a line
        started = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.write({MAGIC: VERSION, "program": program, "started": started})

    def tap(self, machine: MachineId, draw: Draw, now_ms: int) -> Tap[E, F]:
        """A machine begins; its events and its chance pass through the tap."""
        self.write({"machine": list(machine), "opened_at_ms": now_ms})
        return Tap(self, machine, draw)

    def write(self, line: dict[str, Any]) -> None:
        if not self._is_open:
            return
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        if len(text) > self._left_bytes:
            self._end(f"limit of {self._limit_bytes} octets reached")
            return
        self._append(text)

    def _append(self, text: bytes) -> None:
        self._left_bytes -= len(text)
        try:
            written = os.write(self._fd, text)
        except OSError as error:
            self._end(f"{error.strerror}", is_writable=False)
            return
        if written != len(text):
            self._end("the disk is full", is_writable=False)

    def _end(self, reason: str, *, is_writable: bool = True) -> None:
        if is_writable:
            os.write(self._fd, json.dumps({"ended": reason}).encode() + b"\n")
        self.close()
        self._tell(reason)

    def close(self) -> None:
        """No more lines; the machines go on."""
        if self._is_open:
            self._is_open = False
            os.close(self._fd)


class Tap(Generic[E, F]):
    """Stands before one machine: `draw` goes to it, `around` is what is driven in its place."""

    def __init__(self, recorder: Recorder[E, F], machine: MachineId, draw: Draw) -> None:
        self._recorder = recorder
        self._id = list(machine)
        self._draw = draw
        self._draws: list[tuple[int, int]] = []
        self._machine: Machine[E, F] | None = None

    def draw(self, limit: int) -> int:
        drawn = self._draw(limit)
        self._draws.append((limit, drawn))
        return drawn

    def around(self, machine: Machine[E, F]) -> Machine[E, F]:
        self._machine = machine
        return self

    def handle(self, event: E, now_ms: int) -> Sequence[F]:
        assert self._machine is not None
        vocabulary = self._recorder.vocabulary
        line: dict[str, Any] = {"machine": self._id, "at_ms": now_ms, "event": vocabulary.event.written(event)}
        self._draws.clear()
        try:
            effects = self._machine.handle(event, now_ms)
        except BaseException as error:
            self._recorder.write({**line, "draws": self._draws, "raised": repr(error)})  # the event that led to a bug is the one to keep
            raise
        if self._draws:
            line["draws"] = self._draws
        if effects:
            line["effects"] = [vocabulary.effect.written(effect) for effect in effects]
        self._recorder.write(line)
        return effects

    def next_deadline_ms(self) -> int | None:
        assert self._machine is not None
        return self._machine.next_deadline_ms()


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunBegan:
    """All machines are gone, and the clock starts anew; `program` is the version that wrote it."""

    line: int
    program: str
    started: str


@dataclass(frozen=True, slots=True)
class MachineOpened:
    line: int
    machine: MachineId
    at_ms: int


@dataclass(frozen=True, slots=True)
class Step(Generic[E, F]):
    """One `handle` as it was; `raised` is what it died of."""

    line: int
    machine: MachineId
    at_ms: int
    event: E
    draws: tuple[tuple[int, int], ...]
    effects: tuple[F, ...]
    raised: str | None = None


@dataclass(frozen=True, slots=True)
class RecordingEnded:
    """What came after was not recorded."""

    line: int
    reason: str


Entry = RunBegan | MachineOpened | Step[E, F] | RecordingEnded


def entries(path: Path, vocabulary: Vocabulary[E, F]) -> Iterator[Entry[E, F]]:
    """Every line of a recording.  Raises InputError, with the line, for what is none; a last line cut short ends it."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    lines = text.split(b"\n")
    is_cut = lines[-1] != b""
    if not is_cut:
        lines.pop()
    if not lines:
        raise InputError(f"{path} is empty", hint=_HINT)
    for number, raw in enumerate(lines, 1):
        try:
            yield _entry(json.loads(raw), number, vocabulary)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines) and is_cut:
                yield RecordingEnded(number, _CUT)
            elif number < len(lines) and lines[number].startswith(_FIRST_OCTETS):
                yield RecordingEnded(number, "the process was killed while it wrote this line")
            else:
                raise InputError(f"{path}:{number}: not a line of a recording: {error}", hint=_HINT) from error


_HINT = "a recording is what `igmpconf-agent run --record FILE` writes"


def _entry(line: dict[str, Any], number: int, vocabulary: Vocabulary[E, F]) -> Entry[E, F]:
    if number == 1 and MAGIC not in line:
        raise ValueError(f"the first line has no {MAGIC!r}")
    if MAGIC in line:
        if line[MAGIC] != VERSION:
            raise ValueError(f"written in version {line[MAGIC]} of the format, this program reads version {VERSION}")
        return RunBegan(number, str(line["program"]), str(line["started"]))
    if "ended" in line:
        return RecordingEnded(number, str(line["ended"]))
    machine = _machine_id(tuple(line["machine"]))
    if "opened_at_ms" in line:
        return MachineOpened(number, machine, int(line["opened_at_ms"]))
    return Step(
        number,
        machine,
        int(line["at_ms"]),
        vocabulary.event.read(line["event"]),
        tuple((int(limit), int(drawn)) for limit, drawn in line.get("draws", ())),
        tuple(vocabulary.effect.read(effect) for effect in line.get("effects", ())),
        line.get("raised"),
    )


@functools.cache
def _machine_id(parts: tuple[str, ...]) -> MachineId:
    return parts
