"""A first look at a folder of images, by names alone: no image is opened."""

from __future__ import annotations

import mimetypes
import os
from dataclasses import dataclass
from pathlib import Path

from tunesvc.errors import DataError

_SPLITS = {"train", "val", "valid", "validation", "test"}


@dataclass(frozen=True)
class FolderFacts:
    """What a folder's names tell."""

    path: Path
    classes: tuple[str, ...]
    images: int  # for training and validation
    smallest: int  # images of the rarest class, of those
    splits: tuple[str, ...]  # the split folders there are; () where class folders stand alone


def look(folder: Path) -> FolderFacts:
    """Count classes and images.

    Raises:
        DataError: no such folder, no images in class folders, or a single class.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", "", "--data names a folder of class folders")
    splits = tuple(name for name in _folders(folder) if name in _SPLITS)
    splits = splits if "train" in splits else ()
    parts = [folder / name for name in splits if name != "test"] or [folder]
    counts: dict[str, int] = {}
    for part in parts:
        for name in _folders(part):
            counts[name] = counts.get(name, 0) + _images(part / name)
    counts = {name: count for name, count in counts.items() if count}
    if len(counts) < 2:
        raise DataError(
            f"{folder}: {'one class only' if counts else 'no images in class folders'}",
            "one folder per class is expected, perhaps inside train/ and val/",
            "make folders named by class, with the images of each class inside",
        )
    return FolderFacts(folder, tuple(counts), sum(counts.values()), min(counts.values()), splits)


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith((".", "__")))


def _images(folder: Path) -> int:
    return sum(
        (mimetypes.guess_type(name)[0] or "").startswith("image/")
        for _, _, files in os.walk(folder)
        for name in files
    )
