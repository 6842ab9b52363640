"""The time between a wave that is kept and the next one, as a pure machine: wait, then look at every device once more.

    the wave is kept -> soak_ms pass -> each confirmed device is looked at over a session of its own -> over

What is found missing then undoes nothing: the device is confirmed and stays so.  It is told as one that faltered, and
counts as a failure for those whose turn would come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from igmpconf.apply.device import AGAIN_MS
from igmpconf.apply.steps import Event, Failed, Failure, Performed, Recheck
from igmpconf.ids import DeviceName


@dataclass(slots=True)
class Soak:
    """One wave's; `ahead` are the devices to be looked at from `at_ms` on."""

    ahead: dict[DeviceName, Recheck]
    at_ms: int
    parallel: int
    attempts: int  # to reach a device
    warnings: dict[DeviceName, tuple[str, ...]] = field(default_factory=dict)
    _looking: dict[DeviceName, Recheck] = field(default_factory=dict)
    _tries: dict[DeviceName, int] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Everybody was looked at, or it was called off."""
        return not self.ahead and not self._looking

    def next_deadline_ms(self) -> int | None:
        """When somebody is to be looked at."""
        return self.at_ms if self.ahead and len(self._looking) < self.parallel else None

    def due(self, now_ms: int) -> Iterator[tuple[DeviceName, Recheck]]:
        """Whom to look at now."""
        while self.ahead and now_ms >= self.at_ms and len(self._looking) < self.parallel:
            name = next(iter(self.ahead))
            self._looking[name] = self.ahead.pop(name)
            self._tries[name] = self._tries.get(name, 0) + 1
            yield name, self._looking[name]

    def looked(self, device: DeviceName, event: Event, now_ms: int) -> Failure | None:
        """A look has ended; what is wrong, if it is certain now.  After a call-off nothing is."""
        look = self._looking.pop(device, None)
        if look is None:
            return None
        if isinstance(event, Performed):
            self.warnings[device] = event.answer if isinstance(event.answer, tuple) else ()
            return None
        assert isinstance(event, Failed), f"{event} is no end of a look"
        if event.failure.kind == "transport" and event.failure.is_retryable and self._tries[device] < self.attempts:
            self.ahead[device], self.at_ms = look, now_ms + AGAIN_MS
            return None
        return event.failure

    def call_off(self) -> None:
        """Nobody waits for it any more."""
        self.ahead.clear()
        self._looking.clear()
