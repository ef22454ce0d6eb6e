"""Who is logged in: random tokens, of which only the hash is kept, in this process's memory.

Why: 2026-11: a restart of the dashboard logs everybody out, and nothing of a session ever lies on
a disk. One process serves the dashboard, so that nothing need be shared.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tunesvc.dashboard.users import User, digest

IDLE_SECONDS = 12 * 3600.0
LONGEST_SECONDS = 7 * 24 * 3600.0
MOST = 20  # of one user: the oldest ends when he logs in once more


@dataclass
class _Session:
    name: str
    user: User  # the entry that he logged in with
    began: float
    seen: float


class Sessions:
    """The sessions of the dashboard; threads may share it.

    Args:
        clock: tells seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Session] = {}  # digest of the token → session, oldest first

    def begin(self, name: str, user: User) -> str:
        """Begin a session of a user; return its token."""
        token, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._forget(now)
            own = [key for key, session in self._known.items() if session.name == name]
            for key in own[: max(0, len(own) - MOST + 1)]:
                del self._known[key]
            self._known[digest(token)] = _Session(name, user, now, now)
        return token

    def find(self, token: str) -> tuple[str, User] | None:
        """Return whose session it is, and the entry he logged in with; None: it is over."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            found = self._known.get(digest(token))
            if found is None:
                return None
            found.seen = now
            return found.name, found.user

    def end(self, token: str) -> None:
        """End a session, if it is one."""
        with self._lock:
            self._known.pop(digest(token), None)

    def _forget(self, now: float) -> None:
        over = [
            key
            for key, session in self._known.items()
            if now - session.seen > IDLE_SECONDS or now - session.began > LONGEST_SECONDS
        ]
        for key in over:
            del self._known[key]
