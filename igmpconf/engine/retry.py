"""Second and later attempts at what the kernel refused, ever more patiently.

Only truths are repeated (vifs and routes), and always the present truth, not the one that was refused.
"""

from __future__ import annotations

from collections.abc import Callable

from igmpconf.engine.effects import ClearRoute, ClearVif, Effect, SetRoute, SetVif
from igmpconf.engine.outbox import Outbox
from igmpconf.ids import IfIndex

_FIRST_MS, _LAST_MS = 1_000, 60_000
_WHEN = b""

Subject = IfIndex | tuple[bytes | None, bytes | None]  # a vif, or the (source, group) of a route


def subject_of(effect: Effect) -> Subject | None:
    """What `effect` states the truth about, or None."""
    match effect:
        case SetVif() | ClearVif():
            return effect.ifindex
        case SetRoute() | ClearRoute():
            return (effect.source, effect.group)
        case _:
            return None


class Retry:
    """`truth` gives the effect that says what is wanted now about a subject, or None when nothing is; `repeated` follows each attempt."""

    def __init__(self, outbox: Outbox, truth: Callable[[Subject], Effect | None], repeated: Callable[[Effect, int], None]) -> None:
        self._outbox = outbox
        self._truth = truth
        self._repeated = repeated
        self._due_ms: dict[Subject, int] = {}  # refused, and when to try again
        self._waited_ms: dict[Subject, tuple[int, int]] = {}  # tried again: after how long, and when
        self.failures = 0

    def failed(self, subject: Subject, now_ms: int) -> bool:
        """Wait, then try again; True if this is the first refusal in a row."""
        self.failures += 1
        waited = self._waited_ms.get(subject)
        is_first = waited is None and subject not in self._due_ms
        wait_ms = _FIRST_MS if waited is None else min(waited[0] * 2, _LAST_MS)
        self._waited_ms[subject] = (wait_ms, now_ms + wait_ms)
        self._due_ms[subject] = now_ms + wait_ms
        self._outbox.wake(self, _WHEN, now_ms + wait_ms)
        return is_first

    def alarm(self, key: bytes, now_ms: int) -> None:
        # a refusal follows its attempt at once, so what was tried a while ago and is not due again has succeeded
        for subject in [known for known, (_, tried_ms) in self._waited_ms.items() if tried_ms < now_ms - _FIRST_MS and known not in self._due_ms]:
            del self._waited_ms[subject]
        for subject in [known for known, at_ms in self._due_ms.items() if at_ms <= now_ms]:
            del self._due_ms[subject]
            effect = self._truth(subject)
            if effect is not None:
                self._outbox.emit(effect)
                self._repeated(effect, now_ms)
        if self._due_ms:
            self._outbox.wake(self, _WHEN, min(self._due_ms.values()))
        elif self._waited_ms:
            self._outbox.wake(self, _WHEN, now_ms + 2 * _FIRST_MS)
