"""Sessions that planning opened and applying goes on with: one connection less per device.

Their number is bounded, whatever the size of the fleet; they send keepalives like any other, and whoever takes one must
bear that it has died.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from igmpconf.apply.rollout import PARALLEL
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.target import Target

_MOST = 2 * PARALLEL  # each is two threads that sleep here, and a process or two on its device


class KeptSessions:
    """`with KeptSessions() as kept:`; what nobody took is closed at the end."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._held: dict[Target, NetconfClient] = {}
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            self._is_over = True
            left, self._held = list(self._held.values()), {}
        for client in left:
            client.leave()

    def put(self, client: NetconfClient) -> None:
        """Keep a session that is idle, or close it when there are enough."""
        with self._lock:
            is_kept = not self._is_over and len(self._held) < self._most and client.target not in self._held
            if is_kept:
                self._held[client.target] = client
        if not is_kept:
            client.leave()

    def take(self, target: Target) -> NetconfClient | None:
        """The session with this device, now the caller's; None when there is none that lives."""
        with self._lock:
            client = self._held.pop(target, None)
        if client is None or client.is_connected:
            return client
        client.leave()
        return None
