"""An entry's file: written, sealed, verified, mapped."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import math
import os
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger("tunesvc.hostcache")

_SEAL = struct.Struct("<8sQI")
_MARK = b"tunesvc\x01"
_CHUNK_BYTES = 2**24

_sound: set[tuple[int, int, int]] = set()  # files whose CRC this process has compared


@dataclass(frozen=True)
class Kept:
    """An entry, mapped into memory.

    Args:
        array: copy-on-write: writing to it changes no file. While it is there, or a tensor that
            shares its memory, the entry is not evicted.
        notes: what its maker wrote down.
    """

    array: NDArray[Any]
    notes: dict[str, Any]


def open_entry(file: Path, tick: Callable[[], None]) -> Kept | None:
    """Map an entry; None where it is absent or damaged."""
    try:
        source = file.open("rb")
    except FileNotFoundError:
        return None
    with source:
        fcntl.flock(source, fcntl.LOCK_SH)
        try:
            notes = _verified(source, tick)
        except (ValueError, struct.error) as error:
            _log.warning("%s is damaged (%s): it is made anew", file, error)
            return None
        _touch(source)
        return mapped(source, notes)


def _verified(source: BinaryIO, tick: Callable[[], None]) -> dict[str, Any]:
    """Return an entry's notes if it is whole and, where this process first sees it, sound.

    Raises:
        ValueError, struct.error: it is not.
    """
    size = source.seek(0, os.SEEK_END)
    source.seek(max(0, size - _SEAL.size))
    mark, length, crc = _SEAL.unpack(source.read())
    shape, dtype, start = _read_header(source)
    end = start + math.prod(shape) * dtype.itemsize
    if mark != _MARK or end + length + _SEAL.size != size:
        raise ValueError("it is cut off, or of another kind")
    if _identity(source) not in _sound:
        if _crc(source, start, end, tick) != crc:
            raise ValueError("its checksum differs")
        _sound.add(_identity(source))
    source.seek(end)
    notes: dict[str, Any] = json.loads(source.read(length))
    return notes


def _crc(source: BinaryIO, start: int, end: int, tick: Callable[[], None]) -> int:
    """Return the CRC of the data, then the header, then the notes: the header is written last."""
    size = source.seek(0, os.SEEK_END) - _SEAL.size
    crc = 0
    for first, last in (start, end), (0, start), (end, size):
        source.seek(first)
        for place in range(first, last, _CHUNK_BYTES):
            if place > first:
                tick()
            crc = zlib.crc32(source.read(min(_CHUNK_BYTES, last - place)), crc)
    return crc


def mapped(source: BinaryIO, notes: dict[str, Any]) -> Kept:
    """Map a whole entry; its lock is the mapping's from now on."""
    shape, dtype, start = _read_header(source)
    array = np.memmap(source, dtype, "c", start, shape)  # torch wants memory that can be written
    return Kept(array, notes)


def _read_header(source: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape, kind, and where the data begin."""
    source.seek(0)
    np.lib.format.read_magic(source)
    shape, _, dtype = np.lib.format.read_array_header_1_0(source)
    return shape, dtype, source.tell()


def header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return the header of a `.npy`; it is as long for any first axis."""
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, described | {"shape": shape})
    return out.getvalue()


def seal(out: BinaryIO, described: bytes, data_crc: int, notes: Mapping[str, Any]) -> None:
    """Put a new header before the data that were written, notes and the seal behind, and sync.

    Args:
        out: stands behind the data.
        described: the header, as long as the one that is there.
        data_crc: of the data.
        notes: JSON-able.
    """
    written = json.dumps(notes).encode()
    end = out.tell()
    out.seek(0)
    out.write(described)
    out.seek(end)
    crc = zlib.crc32(written, zlib.crc32(described, data_crc))
    out.write(written + _SEAL.pack(_MARK, len(written), crc))
    out.truncate()
    out.flush()
    os.fsync(out.fileno())
    _sound.add(_identity(out))


def _identity(file: BinaryIO) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _touch(file: BinaryIO) -> None:
    """Note that an entry was used; the system's own note of it comes late or never."""
    with suppress(PermissionError):  # it is another user's
        os.utime(file.fileno(), ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))
