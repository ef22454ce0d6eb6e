"""Finding an entry, or making it: one process at a time."""

from __future__ import annotations

import fcntl
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import DTypeLike, NDArray

from tunesvc.hostcache.entry import Kept, header, mapped, open_entry, seal
from tunesvc.hostcache.room import make_room, whole

_NOTES_BYTES = 2**16  # room that is taken for notes; more of them find it or do not
_LOOK_SECONDS = 1.0  # how often who waits for another looks up


def _nothing() -> None:
    pass


class Draft:
    """An entry that is being made: `begin` it, then `append` rows."""

    def __init__(self, file: Path) -> None:
        self._file, self._path = file, file.with_name(f".{file.stem}.part")
        self._rows, self._crc = 0, 0
        with alone(_room(file.parent)):
            self._path.unlink(missing_ok=True)  # a dead maker's
            self._out = self._path.open("x+b")
            fcntl.flock(self._out, fcntl.LOCK_EX)

    def begin(self, dtype: DTypeLike, shape: Sequence[int]) -> None:
        """Take the disk space; fewer rows along the first axis are allowed in the end.

        Raises:
            CacheFullError: the entry is too large, or the others are all in use.
            OSError: the disk is full.
        """
        self._dtype, self._shape = np.dtype(dtype), tuple(shape)
        size = math.prod(self._shape) * self._dtype.itemsize + _NOTES_BYTES
        with alone(_room(self._file.parent)):
            make_room(whole(self._file.parent), size)
            _allocate(self._out, size)
        self._out.write(header(self._dtype, self._shape))

    def append(self, rows: NDArray[Any]) -> None:
        """Write rows of the shape and kind that the draft was begun with."""
        if rows.shape[1:] != self._shape[1:] or rows.dtype != self._dtype:
            raise ValueError(f"{rows.dtype} {rows.shape} appended to {self._dtype} {self._shape}")
        data = np.ascontiguousarray(rows).data.cast("B") if rows.size else b""
        self._out.write(data)
        self._crc = zlib.crc32(data, self._crc)
        self._rows += len(rows)

    def finish(self, notes: Mapping[str, Any]) -> Kept:
        """Seal the entry, put it in its place, and map it."""
        described = header(self._dtype, (self._rows, *self._shape[1:]))
        seal(self._out, described, self._crc, notes)
        fcntl.flock(self._out, fcntl.LOCK_SH)
        self._path.replace(self._file)
        return mapped(self._out, dict(notes))

    def close(self) -> None:
        """Remove what was not finished."""
        self._path.unlink(missing_ok=True)
        self._out.close()


def fetch(
    folder: Path,
    name: str,
    make: Callable[[Draft], Mapping[str, Any]],
    *,
    tick: Callable[[], None] = _nothing,
) -> Kept:
    """Return an entry, made now or before, here or by another process.

    Args:
        folder: of all entries that share a limit; made if need be.
        name: of the entry: it must tell everything that its content hangs on.
        make: begins and fills a draft and returns notes, JSON-able. What it raises passes, and
            nothing is left behind.
        tick: called about every second while another process makes the entry, and while a large
            one is being verified. What it raises passes, too.

    Raises:
        CacheFullError: the entry may not be kept; an `OSError`, as is what a full disk raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.npy"
    opened = open_entry(file, tick)
    if opened is not None:
        return opened
    with alone(folder / f"{name}.lock", tick):
        return open_entry(file, tick) or _made(file, make)


def trim(folder: Path) -> None:
    """Remove what was not used for longest until the limit is kept, or all that is left is in use.

    Args:
        folder: any of the cache, in which something else than entries has grown.
    """
    with suppress(OSError), alone(_room(folder)):
        make_room(whole(folder), 0)


def _room(folder: Path) -> Path:
    return whole(folder) / "room.lock"


def _made(file: Path, make: Callable[[Draft], Mapping[str, Any]]) -> Kept:
    draft = Draft(file)
    try:
        return draft.finish(make(draft))
    finally:
        draft.close()


@contextmanager
def alone(file: Path, tick: Callable[[], None] = _nothing, *, wait: bool = True) -> Iterator[bool]:
    """Keep this host's other processes out while the block runs; a dead one keeps nobody out.

    Args:
        file: that stands for what is done alone.
        tick: called about every second while another is in. What it raises passes.
        wait: false: yield False at once where another is in.

    Raises:
        OSError: the file cannot be made.
    """
    lock = FileLock(file)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_LOOK_SECONDS if wait else 0)
        except Timeout:
            if not wait:
                break
            tick()
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _allocate(out: BinaryIO, size: int) -> None:
    if hasattr(os, "posix_fallocate"):  # a full disk is told here, not after hours of work
        os.posix_fallocate(out.fileno(), 0, size)
