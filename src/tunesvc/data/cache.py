"""Decoded splits: one uint8 array for each, made once per host, shared by memory mapping.

Why: 2026-11: threads decode, not processes. Pillow lets others run while it decodes and resizes,
which is 70 % of what an image takes. On two cores two threads were 2.0 times as quick as one, and
two processes 1.0 to 1.3 times, since theirs have to be sent: 500 × 375 JPEGs, 224 pixels.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tunesvc import hostcache
from tunesvc.data import picture, splits
from tunesvc.data.listing import Items, Listing, Split
from tunesvc.errors import DataError
from tunesvc.hostcache import CacheFullError, Draft

_log = logging.getLogger("tunesvc.data")

_FORMAT = 2  # raise it when decoding changes: older files are then made anew
_CHUNK = 256  # images in memory at a time
_TELL_CHUNKS = 16  # from one line of progress to the next
_MOST_THREADS = 8


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
    name = f"{listing.fingerprint}-{split}-{size}-{interpolation}-{_FORMAT}"
    make = partial(
        _fill, listing=listing, split=split, size=size, interpolation=interpolation, tick=tick
    )
    try:
        kept = hostcache.fetch(cache, name, make, tick=tick)
    except OSError as error:
        needed = len(listing.splits[split]) * 3 * size * size / 2**20
        raise DataError(
            f"{cache}: decoded images cannot be written",
            error.strerror or str(error),
            "raise TUNESVC_CACHE_GB"
            if isinstance(error, CacheFullError)
            else f"free {needed:.0f} MiB there, or let TUNESVC_HOME name a folder with more room",
        ) from error
    bad = {int(position): why for position, why in kept.notes["unreadable"].items()}
    return _split(listing, split, kept.array, bad, on_corrupt)


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


def _fill(
    draft: Draft,
    *,
    listing: Listing,
    split: str,
    size: int,
    interpolation: str,
    tick: Callable[[], None],
) -> dict[str, Any]:
    """Decode a split into a draft; return the unreadable images and why they are: the notes."""
    items = listing.splits[split]
    bad: dict[int, str] = {}
    draft.begin(np.uint8, (len(items), 3, size, size))
    with closing(_decoded(split, items, size, interpolation, bad)) as chunks:
        for images in chunks:
            draft.append(np.stack(images))
            tick()
    return {"unreadable": {str(position): bad[position] for position in sorted(bad)}}


def _decoded(
    split: str, items: Items, size: int, interpolation: str, bad: dict[int, str]
) -> Generator[list[NDArray[np.uint8]]]:
    """Yield the readable images in order, some at a time; the others' reasons go into `bad`.

    While the caller writes some, the next are decoded.
    """

    def read(position: int) -> NDArray[np.uint8] | None:
        try:
            return picture.read(items.images[position], size, interpolation)
        except picture.UnreadableError as error:
            bad[position] = str(error)
            return None

    pool = ThreadPoolExecutor(threads())
    chunks = [range(s, min(s + _CHUNK, len(items))) for s in range(0, len(items), _CHUNK)]
    ahead: Iterator[NDArray[np.uint8] | None] = iter(())
    try:
        with warnings.catch_warnings():
            # Pillow's remarks about odd but readable files: nothing that the user could act on.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            for number, positions in enumerate([*chunks, range(0)]):
                if positions and number % _TELL_CHUNKS == 0:
                    _log.info("decoding %s: %d of %d images", split, positions.start, len(items))
                present, ahead = ahead, pool.map(read, positions)
                images = [image for image in present if image is not None]
                if images:
                    yield images
    finally:
        pool.shutdown(cancel_futures=True)


def threads() -> int:
    """Return how many threads decode: one for each core that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # what this process may use, where the system says so
        return min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    return min(_MOST_THREADS, os.cpu_count() or 1)
