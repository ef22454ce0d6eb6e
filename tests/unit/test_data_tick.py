"""Decoding tells that it goes on, and can be stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tunesvc.data import Items, Listing, decode

COUNT = 600  # images: 256, 256 and 88 at a time


@pytest.fixture
def listing() -> Listing:
    """Small grey arrays of one class."""
    images = np.zeros((COUNT, 8, 8), np.uint8)
    items = Items(images, np.zeros(COUNT, np.int64))
    return Listing(("one",), {"train": items}, "fingerprint")


def test_a_tick_after_every_chunk(listing: Listing, tmp_path: Path) -> None:
    """Three for 600 images; none where they were decoded before."""
    ticks: list[None] = []
    for _ in range(2):
        made = decode(
            listing, "train", 8, on_corrupt="fail", cache=tmp_path, tick=lambda: ticks.append(None)
        )
        assert len(made.images) == COUNT
        assert len(ticks) == 3


def test_a_tick_can_stop_it(listing: Listing, tmp_path: Path) -> None:
    """What it raises passes, nothing is left behind, and the next one can decode."""

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(listing, "train", 8, on_corrupt="fail", cache=tmp_path, tick=stop)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".lock"}
    assert len(decode(listing, "train", 8, on_corrupt="fail", cache=tmp_path).images) == COUNT


def test_who_waits_for_anothers_decoding_ticks_too(listing: Listing, tmp_path: Path) -> None:
    """A worker beside the one that decodes is not taken for hung, and can be stopped."""
    decode(listing, "train", 8, on_corrupt="fail", cache=tmp_path)
    (made,) = tmp_path.glob("*.npy")
    made.unlink()
    other = FileLock(made.with_suffix(".lock"))
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 2:
            other.release()

    other.acquire()
    found = decode(listing, "train", 8, on_corrupt="fail", cache=tmp_path, tick=tick)
    assert ticks == 2 + 3
    assert len(found.images) == COUNT
