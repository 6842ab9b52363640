"""`igmpconf demo`: the main job from YAML to a stream, in a lab of its own, with the commands a user would type.

Every command is a process of its own and every line it prints is shown.  What the demo claims is read off the
kernel's hosts and the head end's sequence numbers, not off that output; the exit code is 0 only if all was so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from igmpconf.cli.lab import counts_table
from igmpconf.lab import example
from igmpconf.lab.lab import Lab
from igmpconf.lab.stream import GROUPS

RATE_PER_S = 500
G1, G2 = GROUPS
_PATIENCE_S = 30
_ENOUGH = RATE_PER_S // 2  # datagrams that show that a stream flows: half a second of it
_CONFIRM_TIMEOUT_S = 8  # the plan that is made meanwhile takes one second, or five on a machine with other work
_SILENT_S = 0.4


@dataclass(frozen=True, slots=True)
class _Fact:
    step: str
    text: str
    holds: bool


class _Demo:
    def __init__(self, lab: Lab, directory: Path, console: Console) -> None:
        self._lab = lab
        self._directory = directory
        self._console = console
        self._facts: list[_Fact] = []
        self._step = ""
        for name, text in (
            ("home.yaml", example.HOME),
            ("broken.yaml", example.BROKEN),
            ("wrong-upstream.yaml", example.WRONG_UPSTREAM),
            ("slower.yaml", example.SLOWER_QUERIES),
        ):
            (directory / name).write_text(text, encoding="utf-8")

    def run(self) -> bool:
        """Everything in order; True if all of it was seen."""
        started = time.monotonic()
        steps: tuple[tuple[str, Callable[[], None]], ...] = (
            ("validate: mistakes are found before anything is touched", self._validate),
            ("plan: what would change", self._plan),
            ("apply over SSH", self._apply),
            ("the streams arrive where they were joined, and only there", self._join),
            ("a leave ends the stream", self._leave),
            ("a second apply finds nothing to change", self._again),
            ("a change that does not verify is rolled back", self._rolled_back),
            ("a change that nobody confirms undoes itself", self._unconfirmed),
            ("kill -9 of the engine under a stream", self._kill),
        )
        for number, (title, step) in enumerate(steps, 1):
            self._step = title
            self._console.rule(f"[bold]{number}/{len(steps)}  {title}", align="left")
            step()
        self._summary(time.monotonic() - started)
        return all(fact.holds for fact in self._facts)

    # --- the steps

    def _validate(self) -> None:
        self._command("validate home.yaml")
        told = self._command("validate broken.yaml", expected=3)
        for line in example.BROKEN_LINES:
            self._fact(f"broken.yaml:{line}: has its complaint, with a column", f"broken.yaml:{line}:" in told)

    def _plan(self) -> None:
        self._command("plan -f home.yaml --detailed-exitcode", expected=2)
        quiet = all(count.on_wire == 0 for host in self._lab.counts().values() for count in host.values())
        self._fact("the head end sends both streams, and not one datagram passes the router", quiet and all(n > _ENOUGH for n in self._lab.sent().values()))

    def _apply(self) -> None:
        self._command("apply -f home.yaml --yes")
        self._command("history")

    def _join(self) -> None:
        self._command(f"lab join h1 {G1}")
        self._command(f"lab join h3 {G2}")
        self._fact(f"h1 (IGMPv3, lan0) receives {G1}", self._flows("h1", G1))
        self._fact(f"h3 (IGMPv3, lan1) receives {G2}", self._flows("h3", G2))
        counts = self._lab.counts()
        self._fact(f"not one datagram of {G2} went to lan0, nor of {G1} to lan1", counts["h1"][G2].on_wire == counts["h3"][G1].on_wire == 0)
        self._command(f"lab join h2 {G2}")
        self._fact(f"h2 (IGMPv2, lan0) receives {G2}", self._flows("h2", G2))
        self._command("show groups")
        self._counts()
        self._fact("nothing was lost", all(count.lost == 0 for host in self._lab.counts().values() for count in host.values()))

    def _leave(self) -> None:
        self._command(f"lab leave h2 {G2}")
        left = time.monotonic()
        last_change, on_wire = left, -1
        while time.monotonic() - last_change < _SILENT_S and time.monotonic() - left < _PATIENCE_S:
            now = self._lab.counts()["h2"][G2].on_wire
            if now != on_wire:
                last_change, on_wire = time.monotonic(), now
            time.sleep(0.02)
        self._fact(f"{G2} ended on lan0 {last_change - left:.1f} s after the last host left", time.monotonic() - last_change >= _SILENT_S)
        self._fact("h1 and h3 keep their streams without a loss", self._flows("h1", G1) and self._flows("h3", G2) and self._lost() == 0)
        self._counts()

    def _again(self) -> None:
        self._command("apply -f home.yaml --yes")
        self._command("plan -f home.yaml --detailed-exitcode")  # 0: no changes

    def _rolled_back(self) -> None:
        self._command("apply -f wrong-upstream.yaml --yes --verify-timeout 1s", expected=7)
        self._command("plan -f home.yaml --detailed-exitcode")
        back = self._flows("h1", G1) and self._flows("h3", G2)
        self._fact(f"the streams are back; the interruption that the plan announced cost {self._lost()} datagrams", back)

    def _unconfirmed(self) -> None:
        lost, received = self._lost(), self._lab.counts()["h1"][G1].received
        committed = time.monotonic()
        self._command(f"apply -f slower.yaml --yes --no-confirm --confirm-timeout {_CONFIRM_TIMEOUT_S}s")
        self._command("plan -f slower.yaml --detailed-exitcode")  # 0: it is in force
        undone = self._until(lambda: self._quietly("plan -f home.yaml --detailed-exitcode") == 0)
        self._fact(f"{time.monotonic() - committed:.0f} s later the router runs home.yaml again", undone)
        self._command("history")
        seen = self._lab.counts()["h1"][G1].received - received
        self._fact(f"h1 received {seen} datagrams meanwhile and lost {self._lost() - lost}", seen > _ENOUGH and self._lost() == lost)

    def _kill(self) -> None:
        lost, received, engine = self._lost(), self._lab.counts()["h1"][G1].received, self._lab.engine_pid()
        self._command("lab kill")
        renewed = self._until(lambda: self._lab.engine_pid() not in (engine, None) and self._quietly("show groups") == 0)
        self._fact(f"the keeper started a new engine (process {engine} is now {self._lab.engine_pid()}), and it answers", renewed)
        self._command("show mfc")
        flowing = self._flows("h1", G1) and self._flows("h3", G2)
        seen = self._lab.counts()["h1"][G1].received - received
        self._fact(f"h1 received {seen} datagrams since the kill, lost {self._lost() - lost}", flowing and self._lost() == lost)
        self._command(f"lab join h2 {G1}")
        self._fact("the new engine serves new joins", self._flows("h2", G1))
        self._counts()

    # --- means

    def _argv(self, line: str) -> list[str]:
        return [sys.executable, "-P", "-m", "igmpconf.cli.main", *line.split()]  # -P: nothing is imported from the directory we are in

    def _environment(self) -> dict[str, str]:
        return os.environ | {"XDG_STATE_HOME": str(self._lab.home.parents[1]), "COLUMNS": str(self._console.width - 2)}

    def _command(self, line: str, *, expected: int = 0) -> str:
        """Run `igmpconf LINE`, show it and what it prints, and hold it to its exit code."""
        self._console.print(f"[bold cyan]$ igmpconf {escape(line)}")
        done = subprocess.run(  # noqa: S603
            self._argv(line),
            cwd=self._directory,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.stdout.strip():
            self._console.print(indent(done.stdout.rstrip(), "  "), markup=False, highlight=False, style="dim", soft_wrap=True)
        self._fact(f"exit code {done.returncode}" + ("" if done.returncode == expected else f", expected {expected}"), done.returncode == expected)
        return done.stdout

    def _quietly(self, line: str) -> int:
        argv = self._argv(line)
        done = subprocess.run(argv, cwd=self._directory, env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
        return done.returncode

    def _fact(self, text: str, holds: bool) -> None:  # noqa: FBT001 (a fact and whether it holds)
        self._facts.append(_Fact(self._step, text, holds))
        self._console.print(("  [green]✓[/] " if holds else "  [bold red]✗[/] ") + escape(text), highlight=False)

    def _flows(self, host: str, group: str) -> bool:
        """Whether half a second's worth of datagrams of `group` comes to `host` from now on."""
        start = self._lab.counts()[host][group].received
        return self._until(lambda: self._lab.counts()[host][group].received - start >= _ENOUGH)

    def _lost(self) -> int:
        return sum(count.lost for host in self._lab.counts().values() for count in host.values())

    def _until(self, what: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + _PATIENCE_S
        while not what():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _counts(self) -> None:
        self._console.print(counts_table(self._lab))

    def _summary(self, took_s: float) -> None:
        self._console.rule("[bold]summary", align="left")
        table = Table("", "", "facts", show_header=False, box=None)
        for step in dict.fromkeys(fact.step for fact in self._facts):
            facts = [fact for fact in self._facts if fact.step == step]
            failed = [fact.text for fact in facts if not fact.holds]
            table.add_row("[bold red]✗[/]" if failed else "[green]✓[/]", escape(step), escape("; ".join(failed)) if failed else f"{len(facts)} of {len(facts)}")
        self._console.print(table)
        failed_count = sum(not fact.holds for fact in self._facts)
        verdict = "all of it was seen" if not failed_count else f"{failed_count} of {len(self._facts)} facts did not hold"
        self._console.print(f"{verdict}, in {took_s:.0f} s")


@click.command()
def demo() -> int:
    """Show the main job on real streams, in a lab of network namespaces; about half a minute."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="igmpconf-demo-") as scratch:
        home = Path(scratch) / "state" / "igmpconf" / "lab"
        console.print("Building a lab: a head end with two streams, a router with the agent, three subscribers …")
        lab = Lab.up(home, tied=True)
        try:
            for group in GROUPS:
                lab.send(group, rate_per_s=RATE_PER_S)
            seen = _Demo(lab, Path(scratch), console).run()
        finally:
            lab.down()
    return 0 if seen else 1
