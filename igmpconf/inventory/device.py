"""A device to speak to, and many of them asked at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from igmpconf.errors import IgmpconfError
from igmpconf.inventory.hosts import Host
from igmpconf.netconf.target import Target

AT_ONCE = 32  # ours: one controller's CPU is used up by fewer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Device:
    """A device to speak to, and its place in the inventory if it has one."""

    target: Target
    host: Host | None = None

    @property
    def name(self) -> str:
        """How messages and plans call it."""
        return self.target.device


def for_each(devices: Sequence[Device], ask: Callable[[Device], T]) -> list[T | IgmpconfError]:
    """Ask every device, at most AT_ONCE at a time; an answer or an error for each, in order."""

    def one(device: Device) -> T | IgmpconfError:
        try:
            return ask(device)
        except IgmpconfError as error:
            return error

    if len(devices) == 1:
        return [one(devices[0])]
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, max(1, len(devices)))) as pool:
        return list(pool.map(one, devices))
