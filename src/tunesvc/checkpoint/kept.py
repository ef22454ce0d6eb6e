"""A trial's checkpoints: written, verified, and found again.

They lie in its folder of a shelf, each under its mark; the newest has the greatest. The file is

    8 bytes   "tunesvc" and the format's version, 2
    4 bytes   CRC-32 of what follows
    …         the state, as `flat` encodes it

Why: 2026-11: the mark begins with the token of the lease. A worker that lost its lease, and does
not know it yet, writes beside its successor's checkpoints, never over them, and below them.
"""

from __future__ import annotations

import logging
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesvc.checkpoint.flat import decoded, flattened
from tunesvc.errors import StorageError
from tunesvc.shelf import Shelf

log = logging.getLogger(__name__)

_MAGIC = b"tunesvc\x02"
_CHECKSUM = struct.Struct("<I")
_HEADER = len(_MAGIC) + _CHECKSUM.size
_NAME = re.compile(r"(\d{10,})-(\d{5,})-(\d{7,})\.ckpt")


@dataclass(frozen=True, order=True)
class Mark:
    """A checkpoint's place in its trial; the greater one is newer."""

    token: int  # of the lease under which it was written
    epoch: int  # finished epochs
    batch: int  # finished batches of the epoch under way

    def __str__(self) -> str:
        return f"{self.token:010d}-{self.epoch:05d}-{self.batch:07d}.ckpt"


class _Torn(Exception):  # noqa: N818 (a message from `_state` to `load`)
    """Not the bytes of a whole checkpoint."""


class _Foreign(_Torn):
    """As it was written, by another version of tunesvc, which may want it."""


def marked(names: list[str]) -> list[tuple[Mark, str]]:
    """Return those of a trial's names that are checkpoints, oldest first."""
    found = ((_NAME.fullmatch(name.rpartition("/")[2]), name) for name in names)
    return sorted((Mark(*map(int, match.groups())), name) for match, name in found if match)


def save(state: Mapping[str, Any], shelf: Shelf, folder: str, mark: Mark) -> None:
    """Write tensors, numbers and strings, nested in dicts, lists and tuples, and read them back.

    Of the older checkpoints the newest stays, and the others go once this one is verified.

    Raises:
        StorageError: it cannot be written, or not be read as it was written; nothing older went.
    """
    name = f"{folder}/{mark}"
    checksum = _write(state, shelf, name)
    try:
        kept = _checked(shelf.read(name))
    except (FileNotFoundError, _Torn):
        kept = None
    if kept != checksum:
        shelf.remove(name)
        raise StorageError(
            f"{name} in {shelf.location}: not what was written",
            "its checksum is another when it is read back",
            "look for faults of that disk or share; the checkpoint before it is kept",
        )
    older = [other for known, other in marked(shelf.names(f"{folder}/")) if known < mark]
    for other in older[:-1]:
        shelf.remove(other)


def load(shelf: Shelf, folder: str) -> dict[str, Any] | None:
    """Read the newest whole checkpoint onto the CPU; None where there is none.

    One that is torn or damaged is deleted with a warning, for the one before it. No code in a
    file is run: one that holds anything but tensors and plain values is left aside.

    Raises:
        StorageError: the shelf cannot be read, which is not to say that nothing lies there.
    """
    tried: set[str] = set()
    while True:  # listed anew each time: another worker may still be writing and tidying here
        names = [name for name in shelf.names(f"{folder}/") if name not in tried]
        if not (found := marked(names)):
            return None
        _, name = found[-1]
        tried.add(name)
        try:
            return _state(shelf.read(name))
        except (_Torn, FileNotFoundError) as error:
            log.warning("%s: not a whole checkpoint, left aside (%s)", name, error)
            if isinstance(error, _Torn) and not isinstance(error, _Foreign):
                shelf.remove(name)  # else the next `save` would take it for the one to fall back to


def _write(state: Mapping[str, Any], shelf: Shelf, name: str) -> int:
    """Write a state; return the checksum."""
    data = flattened(dict(state)).encoded(_HEADER).data
    checksum = zlib.crc32(data[_HEADER:])
    data[:_HEADER] = _MAGIC + _CHECKSUM.pack(checksum)
    shelf.write(name, data)
    return checksum


def _state(data: bytes) -> dict[str, Any]:
    _checked(data)
    try:
        state: dict[str, Any] = decoded(memoryview(data)[_HEADER:])
    except (ValueError, TypeError, LookupError, RuntimeError, struct.error) as error:
        raise _Foreign(next(iter(str(error).splitlines()), type(error).__name__)) from error
    return state


def _checked(data: bytes) -> int:
    """Return the checksum of a file that is as it was written."""
    if data.startswith(_MAGIC[:-1]) and not data.startswith(_MAGIC):
        raise _Foreign("of another version of tunesvc")
    if not data.startswith(_MAGIC):
        raise _Torn("cut off")
    checksum = zlib.crc32(memoryview(data)[_HEADER:])
    if data[len(_MAGIC) : _HEADER] != _CHECKSUM.pack(checksum):
        raise _Torn("its checksum does not match")
    return checksum
