"""What the transaction side of the agent needs from the engine side, and nothing more."""

from __future__ import annotations

from typing import Protocol

from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState


class EnginePort(Protocol):
    """The engines and the kernel below them, as `dispatch.py` sees them; `runner.py` implements it."""

    def replace(self, config: DeviceConfig) -> None:
        """Make `config` effective in every engine and in the kernel.

        What the change does not concern does not notice it.  Raises KernelError when the kernel refuses, and then
        everything is as before.
        """
        ...

    def snapshot(self) -> DeviceState:
        """The operational state now; `agent` and `history` are left for the caller to fill in."""
        ...
