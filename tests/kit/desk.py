"""Somebody at a desk with the commands, and a whole agent on the router of a `Site`: desired state in, what they said out.

    desk.applies(home(lan0={"threshold": 10}))
    desk.rows("interfaces")
    desk.back()                       # rollback to what ran before

The commands run in this process, as the program would run them; the agent is keeper and worker in the router's namespace.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from igmpconf.cli.main import run
from igmpconf.engine.messages import Query, Report
from tests.kit.agent import Agent
from tests.kit.wire import Tap, packed


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


class Desk:
    """`read` is capsys.readouterr or alike."""

    def __init__(self, agent: Agent, directory: Path, read: Callable[[], tuple[str, str]]) -> None:
        self.agent = agent
        self._file = directory / "desired.yaml"
        self._read = read

    def __call__(self, *arguments: object, code: int = 0) -> Said:
        """Run one command line, hold it to its exit code."""
        self._read()
        got = run([str(argument) for argument in arguments])
        said = Said(got, *self._read())
        assert got == code, f"igmpconf {' '.join(map(str, arguments))}: {got}\n{said.out}{said.err}"
        return said

    @property
    def device(self) -> str:
        return f"unix:{self.agent.socket}"

    def wants(self, desired: dict[str, Any] | str) -> Path:
        """Write the desired state; the file's name."""
        self._file.write_text(desired if isinstance(desired, str) else yaml.safe_dump(desired, sort_keys=False))
        return self._file

    def plans(self, desired: dict[str, Any] | str) -> list[dict[str, Any]]:
        """The changes of the plan, as its JSON document has them."""
        said = self("plan", "-f", self.wants(desired), "-d", self.device, "--format", "json")
        changes = json.loads(said.out)["devices"][0]["changes"]
        assert isinstance(changes, list)
        return changes

    def applies(self, desired: dict[str, Any] | str, *more: str, code: int = 0) -> Said:
        return self("apply", "-f", self.wants(desired), "-d", self.device, "--yes", *more, code=code)

    def runs(self, desired: dict[str, Any] | str) -> bool:
        """Whether a plan of it is empty, by the exit code that a pipeline would look at."""
        self._read()
        got = run(["plan", "-f", str(self.wants(desired)), "-d", self.device, "--detailed-exitcode"])
        assert got in {0, 2}, self._read()
        return got == 0

    def back(self, *more: str) -> Said:
        """Roll back to what ran before the last change."""
        return self("rollback", "-d", self.device, "--yes", *more)

    def rows(self, what: str) -> list[dict[str, Any]]:
        rows = json.loads(self("show", what, "-d", self.device, "--format", "json").out)["devices"][0]["rows"]
        assert isinstance(rows, list)
        return rows

    def interface(self, name: str, family: str = "ipv4") -> dict[str, Any] | None:
        """The row of `show interfaces`, if there is one."""
        return next((row for row in self.rows("interfaces") if (row["interface"], row["family"]) == (name, family)), None)

    def counter(self, name: str, interface: str) -> int:
        row = self.interface(interface)
        return row["counters"].get(name, 0) if row else 0

    def mfc(self, group: str) -> list[dict[str, Any]]:
        """The entries of a group."""
        return [row for row in self.rows("mfc") if row["group"] == group]

    def findings(self) -> list[dict[str, Any]]:
        """What the doctor finds."""
        self._read()
        run(["doctor", "-d", self.device, "--format", "json"])
        rows = json.loads(self._read()[0])["devices"][0]["rows"]
        assert isinstance(rows, list)
        return rows

    def history(self) -> list[dict[str, Any]]:
        """The commits of the device."""
        rows = json.loads(self("history", "-d", self.device, "--format", "json").out)["devices"][0]["rows"]
        assert isinstance(rows, list)
        return rows

    def logs(self) -> str:
        return self("logs", "-d", self.device).out


def messages(tap: Tap, sender: str) -> Iterator[tuple[float, Query | Report]]:
    """The membership messages on a cable from one address, with the kernel's time of each."""
    for packet in tap.packets:
        if packet.source == sender and (message := packet.message) is not None:
            yield packet.at_s, message


def queries(tap: Tap, sender: str, group: str | None = None, since_s: float = 0.0) -> list[tuple[float, Query]]:
    """General queries, or those about one group, that left after `since_s`."""
    about = packed(group) if group else None
    return [(at, one) for at, one in messages(tap, sender) if isinstance(one, Query) and one.group == about and at > since_s]
