"""Decoded splits: one uint8 file for each, made once per host, shared by memory mapping.

Why: written through `write`, not through a memory map, because a full disk then raises an error
where a mapped page would kill the process. The images file is put in place last, by a rename, so
that where it exists it is whole.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from tunesvc.data import picture, splits
from tunesvc.data.listing import Items, Listing, Split
from tunesvc.errors import DataError

_log = logging.getLogger("tunesvc.data")

_FORMAT = 1  # raise it when decoding changes: older files are then made anew
_CHUNK = 256  # images in memory at a time
_MOST_THREADS = 8
_LOOK_SECONDS = 1.0  # how often who waits for another's decoding looks up


def _nothing() -> None:
    pass


def decode(
    listing: Listing,
    split: str,
    size: int,
    *,
    on_corrupt: str,
    cache: Path,
    interpolation: str = "bilinear",
    tick: Callable[[], None] = _nothing,
) -> Split:
    """Return a split's images as one memory-mapped tensor, decoded now or before.

    Args:
        listing: what `scan` found.
        split: "train", "val" or "test".
        size: side in pixels of the central square that is kept.
        on_corrupt: "fail", or "skip" to leave out images that cannot be read.
        cache: folder of the decoded files.
        interpolation: bilinear, bicubic, …
        tick: called after every few hundred images, and about every second while another process
            decodes them. What it raises ends the decoding, which leaves nothing behind.

    Raises:
        DataError: images that cannot be read (all are counted, the first are named); too many of
            them skipped; the system fails to read one; the cache cannot be written.
    """
    items = listing.splits[split]
    file = cache / f"{listing.fingerprint}-{split}-{size}-{interpolation}-{_FORMAT}.npy"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(file.with_suffix(".lock"), tick):
            opened = _open(file, items, size)
            opened = opened or _make(file, split, items, size, interpolation, tick=tick)
    except OSError as error:
        needed = len(items) * 3 * size * size / 2**20
        raise DataError(
            f"{cache}: decoded images cannot be written",
            error.strerror or str(error),
            f"free {needed:.0f} MiB there, or let TUNESVC_HOME name a folder with more room",
        ) from error
    images, bad = opened
    return _split(listing, split, images, bad, on_corrupt)


@contextmanager
def _locked(file: Path, tick: Callable[[], None]) -> Iterator[None]:
    lock = FileLock(file)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_LOOK_SECONDS)
        except Timeout:
            tick()
    try:
        yield
    finally:
        lock.release()


def _split(
    listing: Listing, split: str, images: NDArray[np.uint8], bad: dict[int, str], on_corrupt: str
) -> Split:
    items = listing.splits[split]
    names = tuple(str(items.images[i]) for i in bad)
    if bad and on_corrupt == "fail":
        shown = [f"{name} ({why})" for name, why in zip(names[:5], bad.values(), strict=False)]
        raise DataError(
            f"{len(bad)} of {len(items)} {split} images cannot be read: "
            + "\n    ".join(["", *shown] if len(bad) > 1 else shown),
            "" if len(bad) <= 5 else f"and {len(bad) - 5} more",
            "repair or remove them, or set data.on_corrupt: skip",
        )
    if len(bad) == len(items):
        raise DataError(f"none of the {len(items)} {split} images can be read", bad[0])
    targets = np.delete(items.targets, list(bad))
    if split == "train" and listing.classes:
        splits.check_covered(listing.classes, targets)
    if bad:
        _log.warning("%d of %d %s images cannot be read: skipped", len(bad), len(items), split)
    return Split(torch.from_numpy(images), torch.from_numpy(targets), names)


def _open(file: Path, items: Items, size: int) -> tuple[NDArray[np.uint8], dict[int, str]] | None:
    """Map a file made before; None where it is absent or torn."""
    try:
        bad = {int(i): why for i, why in json.loads(_notes(file).read_text()).items()}
        # Copy-on-write: torch wants writable memory, and the file stays as it is.
        images = np.load(file, mmap_mode="c", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return (images, bad) if images.shape == (len(items) - len(bad), 3, size, size) else None


def _make(
    file: Path, split: str, items: Items, size: int, interpolation: str, *, tick: Callable[[], None]
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    bad: dict[int, str] = {}
    with tempfile.TemporaryDirectory(prefix=".decoding-", dir=file.parent) as folder:
        part = Path(folder, "images.npy")
        with part.open("wb") as out:
            _header(out, (len(items), 3, size, size))
            for images in _decoded(split, items, size, interpolation, bad):
                out.write(np.ascontiguousarray(np.stack(images)).data)
                tick()
            out.seek(0)
            _header(out, (len(items) - len(bad), 3, size, size))
            out.flush()
            os.fsync(out.fileno())
        notes = Path(folder, "notes.json")
        notes.write_text(json.dumps(dict(sorted(bad.items()))))
        notes.replace(_notes(file))
        part.replace(file)
    opened = _open(file, items, size)
    if opened is None:
        raise OSError(f"{file} was changed while it was written")
    return opened


def _notes(file: Path) -> Path:
    return file.with_suffix(".json")


def _header(out: IO[bytes], shape: tuple[int, ...]) -> None:
    """Write the header of a uint8 `.npy`; NumPy gives it the same length for any first axis."""
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, description)


def _decoded(
    split: str, items: Items, size: int, interpolation: str, bad: dict[int, str]
) -> Iterator[list[NDArray[np.uint8]]]:
    """Yield the readable images in order, some at a time; the others' reasons go into `bad`."""

    def read(position: int) -> NDArray[np.uint8] | None:
        try:
            return picture.read(items.images[position], size, interpolation)
        except picture.UnreadableError as error:
            bad[position] = str(error)
            return None

    with ThreadPoolExecutor(_threads()) as pool, warnings.catch_warnings():
        # Pillow's remarks about odd but readable files: nothing that the user could act on.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for start in range(0, len(items), _CHUNK):
            if start % (16 * _CHUNK) == 0:
                _log.info("decoding %s: %d of %d images", split, start, len(items))
            positions = range(start, min(start + _CHUNK, len(items)))
            images = [image for image in pool.map(read, positions) if image is not None]
            if images:
                yield images


def _threads() -> int:
    if hasattr(os, "sched_getaffinity"):  # what this process may use, where the system says so
        return min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    return min(_MOST_THREADS, os.cpu_count() or 1)
