"""Images through a model as a stream: in order, in bounded memory, and it can be left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tunesvc.data.cache import threads
from tunesvc.data.picture import UnreadableError
from tunesvc.exported import paths
from tunesvc.exported.stream import stream


def square(number: int) -> NDArray[np.uint8]:
    """An image that tells its number; every fifth is damaged, later ones are quicker."""
    if number % 5 == 4:
        raise UnreadableError("damaged")
    time.sleep(0.002 * (number % 3))
    return np.full((3, 2, 2), number, np.uint8)


def brightness(images: torch.Tensor) -> torch.Tensor:
    return images[:, :1, 0, 0].float()


def test_the_order_is_kept() -> None:
    """Whichever image is decoded first, and whichever cannot be."""
    found = list(stream(square, brightness, range(23), batch_size=4))
    assert [item for batch in found for item in batch.items] == list(range(23))
    assert [len(batch.items) for batch in found] == [4] * 5 + [3]
    errors = [error for batch in found for error in batch.errors]
    assert errors == ["damaged" if number % 5 == 4 else "" for number in range(23)]
    outputs = torch.cat([batch.outputs for batch in found]).flatten().tolist()
    assert outputs == [number for number in range(23) if number % 5 != 4]


def test_few_images_are_taken_in_advance() -> None:
    """Of endless items only some batches are in memory; leaving ends the threads."""
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield 0

    running = stream(square, brightness, endless(), batch_size=8)
    for _ in range(3):
        next(running)
        time.sleep(0.05)
    assert taken <= (3 + 2) * 8 + threads()
    running.close()
    deadline = time.monotonic() + 20
    while any(each.name.startswith("tunesvc-items") for each in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_taking_items_raises_passes() -> None:
    """After the items before it."""

    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("gone")

    running = stream(square, brightness, items(), batch_size=2)
    assert [next(running).items, next(running).items] == [[0, 1], [2]]
    with pytest.raises(OSError, match="gone"):
        next(running)


def test_folders_are_walked_in_order(tmp_path: Path) -> None:
    """Each folder's files before its subfolders, by name; links to folders above end nowhere."""
    for name in ("b.png", "a.JPG", "z/c.png", "k/d.png", "k/e/f.webp", ".x/g.png", "h.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "k" / "up").symlink_to(tmp_path)
    (tmp_path / "other").symlink_to(tmp_path / "z")
    found = [str(path.relative_to(tmp_path)) for path in paths.images([str(tmp_path)])]
    assert found == ["a.JPG", "b.png", "k/d.png", "k/e/f.webp", "other/c.png", "z/c.png"]
