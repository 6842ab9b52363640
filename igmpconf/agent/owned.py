"""What we changed beside the engines, and what it was before: `owned.json` in the state directory.

Written before the change, so that whoever comes after a crash knows what to put back.  It speaks of one boot and one
network namespace: in another one the kernel has forgotten all of it, and so do we.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from igmpconf.agent.files import DISK, Files, write_durably
from igmpconf.linux.vlan import Owned

FILE = "owned.json"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting before we changed it, and what we gave it; `ifindex` tells an interface from its successor of the same name."""

    was: int
    given: int
    ifindex: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """All that is ours."""

    has_rules: bool = False
    has_port_rules: bool = False
    vlans: dict[str, Owned] = field(default_factory=dict)
    settings: dict[str, Setting] = field(default_factory=dict)


def world() -> str:
    """This boot and this network namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {Path('/proc/self/ns/net').readlink()}"


class OwnedFile:
    """`now` is what the file says; without a state directory it is only remembered."""

    def __init__(self, state_dir: Path | None, files: Files = DISK) -> None:
        self._files = files
        self._path = state_dir / FILE if state_dir is not None else None
        self.now = Belongings()
        self.finding: str | None = None
        try:
            self.now = _read(self._path) if self._path is not None else Belongings()
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.finding = f"{self._path} cannot be read ({error}); what it said was changed is not put back"

    def write(self, belongings: Belongings) -> None:
        """Raises OSError, and then the file says what it said."""
        if belongings == self.now:
            return
        if self._path is not None:
            self._files.make_directory(self._path.parent)
            document = {"version": _VERSION, "world": world()} | dataclasses.asdict(belongings)
            write_durably(self._path, json.dumps(document, indent=1, sort_keys=True).encode() + b"\n", files=self._files)
        self.now = belongings


def _read(path: Path) -> Belongings:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']}, this agent knows {_VERSION}")
    if document["world"] != world():
        return Belongings()
    return Belongings(
        has_rules=bool(document["has_rules"]),
        has_port_rules=bool(document.get("has_port_rules")),  # absent in files of agents that knew no bridges
        vlans={name: Owned(**one) for name, one in document["vlans"].items()},
        settings={name: Setting(**one) for name, one in document["settings"].items()},
    )
