"""Passwords: hashed with argon2id, and looked at in the same time whether or not the user is known.

Source: RFC 9106, section 4, second recommended option (64 MiB, 3 passes), argon2-cffi's default.
"""

from __future__ import annotations

import threading
import unicodedata
from functools import cache

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from tunesvc.errors import UsageError

SHORTEST, LONGEST = 12, 1024  # characters; a hash of megabytes would keep a core busy
AT_ONCE = 2  # so many are looked at, 64 MiB each

_hasher = PasswordHasher()
_room = threading.BoundedSemaphore(AT_ONCE)


def check(password: str) -> None:
    """Make sure that a new password is one.

    Raises:
        UsageError: it is too short or too long.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise UsageError(
            f"the password has {len(password)} characters",
            f"a password has {SHORTEST} to {LONGEST}; its length is what makes it hard to guess",
            "take several words that do not belong together",
        )


def hashed(password: str) -> str:
    """Return what is kept of a password."""
    with _room:
        return _hasher.hash(_plain(password))


def is_hash(kept: str) -> bool:
    """Whether it is what `hashed` makes, perhaps with other settings."""
    try:
        return extract_parameters(kept).type.name == "ID"
    except InvalidHashError:
        return False


def matches(kept: str | None, password: str) -> bool:
    """Whether a password is the one that was kept; None: of an unknown user, it takes as long."""
    if len(password) > LONGEST:
        return False
    with _room:
        try:
            return _hasher.verify(kept or _nobodys(), _plain(password)) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


def is_outdated(kept: str) -> bool:
    """Whether it was hashed with other settings than today's."""
    return _hasher.check_needs_rehash(kept)


def prepare() -> None:
    """Make what the first unknown user is compared with."""
    _nobodys()


@cache
def _nobodys() -> str:
    return _hasher.hash("nobody has this password")


def _plain(password: str) -> str:
    """Return the same characters however a keyboard composes them (RFC 8265)."""
    return unicodedata.normalize("NFC", password)
