"""How much the entries of a folder may take, and which go when there is no room."""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
from pathlib import Path

from tunesvc.errors import UsageError

_log = logging.getLogger("tunesvc.hostcache")

_DEFAULT_GB = 20.0


class CacheFullError(OSError):
    """An entry is larger than the cache may be, or than what the entries in use leave of it."""


def limit_bytes() -> int:
    """Return how much all entries together may take: `TUNESVC_CACHE_GB`, in 10⁹ bytes.

    Raises:
        UsageError: it is not a number, or below zero.
    """
    given = os.environ.get("TUNESVC_CACHE_GB", "")
    try:
        gigabytes = float(given) if given.strip() else _DEFAULT_GB
        if not 0 <= gigabytes < math.inf:
            raise ValueError("it must be zero or more")
    except ValueError as error:
        raise UsageError(
            f"TUNESVC_CACHE_GB is {given!r}",
            str(error),
            f"set it to a number of gigabytes, or unset it for {_DEFAULT_GB:g}",
        ) from error
    return int(gigabytes * 1e9)


def make_room(folder: Path, size: int) -> None:
    """Remove dead drafts, then entries, until `size` more bytes keep within the limit."""
    limit = limit_bytes()
    for draft in folder.glob(".*.part"):
        remove_if_unused(draft)
    entries = {file: file.stat() for file in folder.glob("*.npy")}
    drafts = sum(file.stat().st_size for file in folder.glob(".*.part"))
    taken = drafts + sum(status.st_size for status in entries.values())
    if size > limit:
        entries = {}  # no eviction would help
    for file in sorted(entries, key=lambda file: entries[file].st_atime_ns):
        if taken + size <= limit:
            break
        if remove_if_unused(file):
            _log.info("%s was not used for longest: removed", file)
            taken -= entries[file].st_size
    if taken + size > limit:
        raise CacheFullError(
            errno.ENOSPC,
            f"{size / 1e9:.3g} GB are needed, of {limit / 1e9:.3g} GB that TUNESVC_CACHE_GB allows"
            + (f"; {taken / 1e9:.3g} GB are in use" if size <= limit else ""),
        )


def remove_if_unused(file: Path) -> bool:
    """Remove a file that nobody has open; tell whether it is gone."""
    try:
        with file.open("rb") as source:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink()
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
