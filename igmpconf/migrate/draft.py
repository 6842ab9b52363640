"""What an import comes to: our configuration, and a remark for every line that it does not carry over whole."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Enum, LeafError, node

_SAID_OTHERWISE = {"yes": True, "no": False}  # where our leaf is on or off


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that was left out or means something else here, and where it stood."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Imported:
    """`config` holds what could be expressed."""

    config: DeviceConfig
    remarks: tuple[Remark, ...]

    @property
    def is_empty(self) -> bool:
        return self.config == DeviceConfig()


@dataclass(slots=True)
class Draft:
    """Collects while a file is read; `document` is plain data of our own configuration."""

    document: dict[str, Any] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)

    def remark(self, line: int, message: str) -> None:
        self.remarks.append(Remark(line, message))

    def words(self, line: int, text: str) -> list[str]:
        """The words of a line as a shell splits them, without its comment; none, and a remark, of one that cannot be split."""
        try:
            return shlex.split(text, comments=True)
        except ValueError as error:
            self.remark(line, f"not understood: {error}")
            return []

    def put(self, cls: type, into: dict[str, Any], name: str, text: str, line: int, *, said: str | None = None) -> bool:
        """Set leaf `name` of `cls` from `text` if it fits; else say so and leave it out."""
        found = node(cls, name)
        assert found is not None, name
        assert found.type is not None, name
        parts = [part.strip() for part in text.split(",") if part.strip()] if found.kind == "leaf-list" else [text]
        values = []
        for part in parts:
            try:
                raw = _SAID_OTHERWISE.get(part, part) if isinstance(found.type, Enum) else part
                values.append(found.type.text(found.type.parse(raw)))
            except LeafError as error:
                self.remark(line, f"{said or f'{name}={part}'}: left out: {error}" + (f" ({error.hint})" if error.hint else ""))
                return False
        if not values:
            return True
        into[name] = values if found.kind == "leaf-list" else values[0]
        return True
