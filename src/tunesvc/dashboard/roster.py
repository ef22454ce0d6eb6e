"""The users file as it is now: read again when it has changed."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from tunesvc.dashboard import users
from tunesvc.dashboard.users import User
from tunesvc.errors import UsageError

log = logging.getLogger(__name__)

_Mark = tuple[int, int, int]


class Roster:
    """Who may enter; threads may share it.

    Why: 2026-11: while the file cannot be read, nobody enters: whoever broke it may just have been
    putting somebody out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._mark: _Mark | None = None
        self._known: dict[str, User] | UsageError = users.read(path)
        self._mark = self._now()

    def current(self) -> dict[str, User]:
        """Return name → user.

        Raises:
            UsageError: the file is gone or broken.
        """
        with self._lock:
            mark = self._now()
            if mark is None or mark != self._mark:
                self._mark = mark
                self._known = self._read()
            if isinstance(self._known, UsageError):
                raise self._known
            return self._known

    def of_token(self, token: str) -> tuple[str, User] | None:
        """Return the name and entry that a token belongs to."""
        kept = users.digest(token)
        found = ((name, user) for name, user in self.current().items() if user.token == kept)
        return next(found, None)

    def _read(self) -> dict[str, User] | UsageError:
        try:
            return users.read(self.path)
        except UsageError as error:
            if not isinstance(self._known, UsageError):
                log.error("nobody can log in: %s", error)
            return error

    def _now(self) -> _Mark | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
