"""`igmpconf-agent upgrade FILE`: another version of the one-file agent takes over under running streams.

    checks      FILE runs here, knows the version of the state directory, and no change waits for its confirmation
    places      FILE beside the program, under a name that has its digest; the program of now keeps a name like that too
    asks        the keeper tries it, and goes on as it when it serves NETCONF; else everything is as before

Afterwards the program's name is a link to the new file; the former file stays, for the way back: `upgrade` takes it as
any other.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igmpconf.agent.files import DISK, write_durably
from igmpconf.agent.keeper import control_path, say
from igmpconf.errors import IgmpconfError, RolledBack

_PATIENCE_S = 60.0  # of which the keeper gives the new program 30
_STARTS_WITHIN_S = 60.0  # for `FILE --version`; a cold Python on a slow device
_SAID = re.compile(r"igmpconf-agent (\S+), state directory version (\d+)\n")
_MAIN = "igmpconf/agent/main.py"
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Build:
    """What `--version` of a file says."""

    version: str
    state_version: int


def build_of(file: Path) -> Build:
    """Raises IgmpconfError when the file is no agent that runs here."""
    try:
        is_agent = zipfile.is_zipfile(file) and _MAIN in zipfile.ZipFile(file).namelist()
    except OSError as error:
        raise IgmpconfError(f"cannot read {file}: {error.strerror}") from None
    if not is_agent:
        raise IgmpconfError(f"{file} is not an igmpconf-agent.pyz", hint="`make agent` builds one, `igmpconf agent upgrade DEVICE` brings its own")
    try:
        done = subprocess.run([sys.executable, "-I", str(file), "--version"], capture_output=True, text=True, timeout=_STARTS_WITHIN_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise IgmpconfError(f"{file} --version does not end within {_STARTS_WITHIN_S:g} s") from None
    said = _SAID.fullmatch(done.stdout)
    if done.returncode != 0 or said is None:
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2] or "it says nothing"
        raise IgmpconfError(f"{file} does not run here: {last}", hint=f"it needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    return Build(said[1], int(said[2]))


def upgrade(file: Path, *, state_dir: Path, serving: Path) -> int:
    """Raises IgmpconfError when nothing was tried, RolledBack when the former program runs again."""
    build = build_of(file)
    status = _ask(serving, verb="status")
    program = Path(status["program"]) if status.get("program") else None
    if program is None or not zipfile.is_zipfile(program):
        place = program or status.get("place")
        raise IgmpconfError(f"the agent that runs was not started from one file but from {place}", hint="upgrade it the way it was installed, then restart it")
    _may_begin(state_dir, build, file)
    former = _named(program)
    before = build_of(program)
    place = _placed(file, program.resolve().parent)
    if place == former:
        say(f"{before.version} runs already")
        return 0
    say(f"upgrading {program} from {before.version} to {build.version}")
    answer = _ask(serving, verb="exchange", place=str(place))
    if "error" in answer:
        place.unlink(missing_ok=True)
        raise RolledBack(
            (), f"{build.version} was tried and does not serve: {answer['error']}; {before.version} runs again", hint="its last words are in the agent's log"
        )
    _forget_all_but(place, former)
    say(f"{build.version} runs; {answer['held']} routing sockets were handed over, no stream was interrupted; {former} is the way back")
    return 0


def _may_begin(state_dir: Path, build: Build, file: Path) -> None:
    journal = state_dir / "journal.json"
    try:
        envelope = json.loads(journal.read_bytes())
        version, pending = int(envelope["version"]), envelope["content"]["pending"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IgmpconfError(f"cannot read {journal}: {error}", hint="name the state directory of the agent that runs with --state-dir") from None
    if version > build.state_version:
        raise IgmpconfError(
            f"{file} knows the state directory up to version {build.state_version}, {state_dir} has version {version}: it could not read the configuration",
            hint="use an agent that is as new as the one that runs",
        )
    if pending is not None:
        raise IgmpconfError("a change waits for its confirmation, and the restart of the engine would undo it", hint="confirm or cancel it first")


def _named(program: Path) -> Path:
    """The file that `program` is, under a name that stays when `program` leads elsewhere."""
    if program.is_symlink():
        return program.resolve()
    return _placed(program, program.parent)


def _placed(file: Path, directory: Path) -> Path:
    """`file` in `directory`, durably, under a name with its digest."""
    data = file.read_bytes()
    place = directory / f"igmpconf-agent-{hashlib.sha256(data).hexdigest()[:_DIGITS]}.pyz"
    if not place.exists():
        try:
            write_durably(place, data, files=DISK)
            place.chmod(0o755)
        except OSError as error:
            raise IgmpconfError(f"cannot write {place}: {error.strerror}", hint="nothing was changed") from None
    return place


def _forget_all_but(*kept: Path) -> None:
    for old in kept[0].parent.glob(f"igmpconf-agent-{'[0-9a-f]' * _DIGITS}.pyz"):
        if old not in kept:
            old.unlink(missing_ok=True)


def _ask(serving: Path, **request: str) -> dict[str, Any]:
    path = control_path(serving)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as keeper:
        keeper.settimeout(_PATIENCE_S)
        try:
            keeper.connect(str(path))
            keeper.send(json.dumps(request).encode())
            said = keeper.recv(4_096)
        except PermissionError:
            raise IgmpconfError(f"cannot ask the keeper on {path}: permission denied", hint="upgrade as the user that the agent runs as, or root") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise IgmpconfError(f"no agent runs here (nobody listens on {path})", hint="put the new file in the place of the old one, then start it") from None
        except OSError as error:
            raise IgmpconfError(f"the keeper on {path} did not answer: {os.strerror(error.errno) if error.errno else error}") from None
    if not said:
        raise IgmpconfError(f"the keeper on {path} ended before it answered", hint="its last words are in the agent's log")
    answer: dict[str, Any] = json.loads(said)
    return answer
