"""How much a cache may take, and what goes when there is no room."""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tunesvc.errors import UsageError
from tunesvc.hostcache import trees

_log = logging.getLogger("tunesvc.hostcache")

PARTS = ("features",)  # folders of entries beside a cache's own
TREES = "compiled"  # the folder of another library's folders
_DEFAULT_GB = 20.0


class CacheFullError(OSError):
    """An entry is larger than the cache may be, or than what the entries in use leave of it."""


def limit_bytes() -> int:
    """Return how much a cache may take, with all its parts: `TUNESVC_CACHE_GB`, in 10⁹ bytes.

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


def whole(folder: Path) -> Path:
    """Return the cache that a folder is part of; all its parts share one limit."""
    return folder.parent if folder.name in (*PARTS, TREES) else folder


def make_room(cache: Path, size: int) -> None:
    """Remove dead drafts, then what was not used for longest, until `size` more bytes fit.

    Raises:
        CacheFullError: they do not.
    """
    limit = limit_bytes()
    folders = [cache, *(cache / part for part in PARTS)]
    for draft in _files(folders, ".*.part"):
        remove_if_unused(draft)
    items = [*map(_entry, _files(folders, "*.npy")), *_trees(cache / TREES)]
    drafts = sum(map(_size, _files(folders, ".*.part")))
    taken = drafts + sum(item.bytes for item in items)
    if size > limit:
        items = []  # no eviction would help
    for item in sorted(items, key=lambda item: item.used):
        if taken + size <= limit:
            break
        if item.remove(item.path):
            _log.info("%s was not used for longest: removed", item.path)
            taken -= item.bytes
    if taken + size > limit:
        raise CacheFullError(
            errno.ENOSPC,
            f"{size / 1e9:.3g} GB are needed, of {limit / 1e9:.3g} GB that TUNESVC_CACHE_GB allows"
            + (f"; {taken / 1e9:.3g} GB are in use" if size <= limit else ""),
        )


@dataclass(frozen=True)
class _Item:
    path: Path
    bytes: int
    used: int  # last, ns
    remove: Callable[[Path], bool]


def _files(folders: Sequence[Path], pattern: str) -> list[Path]:
    return [file for folder in folders for file in folder.glob(pattern)]


def _entry(file: Path) -> _Item:
    status = file.stat()
    return _Item(file, status.st_size, status.st_atime_ns, remove_if_unused)


def _trees(folder: Path) -> list[_Item]:
    known = trees.trees(folder).items()
    return [_Item(tree, size, used, trees.remove_if_unused) for tree, (size, used) in known]


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


def _size(file: Path) -> int:
    with suppress(FileNotFoundError):  # it was finished just now
        return file.stat().st_size
    return 0
