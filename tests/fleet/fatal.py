"""The death of a controller at a line of its journal."""

from __future__ import annotations

from igmpconf.apply.journal import Journal


class Killed(BaseException):
    """What kill -9 looks like from inside."""


class Fatal(Journal):
    """A journal whose process is killed at a line."""

    at: tuple[int, str] | None = None  # (number of the line, before or after it is on disk)
    lines = 0

    def write(self, record) -> None:
        type(self).lines += 1
        if self.at == (type(self).lines, "before"):
            raise Killed
        super().write(record)
        if self.at == (type(self).lines, "after"):
            raise Killed
