"""The sessions that live now: what kill-session, monitoring and the limit need to know of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from igmpconf.agent.access import User
from igmpconf.ids import SessionId
from igmpconf.netconf.messages import MAX_SESSION_ID
from igmpconf.netconf.notification import Subscription
from igmpconf.netconf.session import Session

MAX_SESSIONS = 64  # ours: a controller uses two at a time, people a few
KEPT_FREE = 16  # ours, of these: for who may change things, whatever those do who may only read


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """One live session."""

    session: Session
    user: User
    login_time: str  # RFC 3339
    kill: Callable[[str, SessionId | None], None]  # reason for the log, killer; the session is gone from the table when it returns
    subscribe: Callable[[Subscription], None]  # from the answer on; raises RpcRefused when there is one already


class Sessions:
    """The table of live sessions."""

    def __init__(self, *, max_sessions: int = MAX_SESSIONS) -> None:
        self._live: dict[SessionId, Live] = {}
        self._last = 0
        self._max_sessions = max_sessions

    def __iter__(self) -> Iterator[Live]:
        return iter(tuple(self._live.values()))

    def is_full_for(self, user: User) -> bool:
        """No session is left for this user."""
        return len(self._live) >= self._max_sessions - (0 if user.is_operator else KEPT_FREE)

    def new_id(self) -> SessionId:
        """An id that no live session has (RFC 6241 8.1)."""
        while True:
            self._last = self._last % MAX_SESSION_ID + 1
            if self._last not in self._live:
                return SessionId(self._last)

    def add(self, live: Live) -> None:
        self._live[live.session.session_id] = live

    def find(self, session_id: int) -> Live | None:
        return self._live.get(SessionId(session_id))

    def remove(self, session_id: SessionId) -> bool:
        """Whether it was still there."""
        return self._live.pop(session_id, None) is not None
