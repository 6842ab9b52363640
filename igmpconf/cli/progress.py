"""What a person sees while devices are changed: the steps of one, the ends of many and how far all of them are.

Without a terminal there are only the ends, one line a device.
"""

from __future__ import annotations

import shutil
import sys
from types import TracebackType
from typing import Self

import click

from igmpconf.apply.steps import ENDS, Phase
from igmpconf.ids import DeviceName

_SAID = {
    Phase.LOCKED: "locked",
    Phase.CHECKED: "unchanged since the plan",
    Phase.EDITED: "edited",
    Phase.VALIDATED: "validated",
    Phase.PROVISIONAL: "committed, unconfirmed; verifying",
    Phase.VERIFIED: "verified",
}
_QUIET_ENDS = frozenset({Phase.SKIPPED, Phase.UNCHANGED, Phase.LEFT})  # said once for all, at the end
_CLEAR = "\r\x1b[2K"


class Progress:
    """`with Progress(count) as progress:`; it is called with a device and the phase that it has reached."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._is_live = sys.stderr.isatty()
        self._at: dict[DeviceName, Phase] = {}
        self._ended = self._bad = 0
        self._is_line_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._clear()

    def __call__(self, device: DeviceName, phase: Phase) -> None:
        """Tell what is worth a line, and how far everything is."""
        if phase in ENDS:
            self._at.pop(device, None)
            self._ended += phase is not Phase.FALTERED  # it had ended before
            self._bad += phase in {Phase.REFUSED, Phase.ROLLED_BACK, Phase.IN_DOUBT, Phase.FALTERED}
            if phase not in _QUIET_ENDS:
                self.say(f"{device}: {phase.value}")
        else:
            self._at[device] = phase
            if self._is_live and self._count == 1 and phase in _SAID:
                self.say(f"{device}: {_SAID[phase]}")
        if self._is_live and self._count > 1:
            self._line()

    def say(self, text: str) -> None:
        """Tell something else, on a line of its own."""
        self._clear()
        click.echo(text, err=True)

    def _line(self) -> None:
        newest = next(reversed(self._at), None)
        said = f"{self._ended}/{self._count} done" + (f", {self._bad} not as planned" if self._bad else "") + f", {len(self._at)} at work"
        if newest is not None:
            said += f"; {newest}: {_SAID.get(self._at[newest], self._at[newest].value)}"
        click.echo(_CLEAR + said[: shutil.get_terminal_size().columns - 1], err=True, nl=False)  # one less, or it would wrap
        self._is_line_shown = True

    def _clear(self) -> None:
        if self._is_line_shown:
            click.echo(_CLEAR, err=True, nl=False)
            self._is_line_shown = False
