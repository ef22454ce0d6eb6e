"""Class folders: `train/ val/ [test/]` with one folder per class each, or class folders alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tunesvc.data.listing import Found, Items
from tunesvc.data.sources import place
from tunesvc.errors import DataError
from tunesvc.spec import FolderData
from tunesvc.tasks import TargetKind

SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)
SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


def find(spec: FolderData, target: TargetKind, base: Path) -> Found:
    """List the images of class folders.

    Raises:
        DataError: no such folder, or no images in class folders; or numbers are wanted.
    """
    root = place(base, spec.path)
    if target == "number":
        raise DataError(
            f"{root}: folders hold classes, and the task wants numbers",
            "",
            "list the images with their numbers in a table, and use data.kind: csv",
        )
    folders = _split_folders(root)
    classes = tuple(sorted({name for folder in folders.values() for name in _subfolders(folder)}))
    parts = {split: _items(folder, classes) for split, folder in folders.items()}
    if not any(map(len, parts.values())):
        raise _no_images(root)
    return Found(classes, parts, root)


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split; {"train": root} where there are class folders only."""
    if not root.is_dir():
        raise DataError(
            f"{root}: {'not a folder' if root.exists() else 'no such folder'}",
            "",
            "data.path names a folder of class folders, relative to the study file",
        )
    there = _subfolders(root)
    if "train" not in there:
        if there and all(name in SPLIT_NAMES for name in there):
            raise DataError(
                f"{root}: has {', '.join(there)} but no train", "", "name the training folder train"
            )
        return {"train": root}
    folders: dict[str, Path] = {}
    for name in (name for name in there if name in SPLIT_NAMES):
        split = SPLIT_NAMES[name]
        if split in folders:
            raise DataError(
                f"{root}: has both {folders[split].name} and {name}",
                f"both mean the {split} split",
                "keep one of the two",
            )
        folders[split] = root / name
    return folders


def _subfolders(folder: Path) -> list[str]:
    hidden = (".", "__")  # .git, .ipynb_checkpoints, __MACOSX
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    return sorted(name for name in names if not name.startswith(hidden))


def _items(folder: Path, classes: tuple[str, ...]) -> Items:
    paths: list[Path] = []
    targets: list[int] = []
    for index, name in enumerate(classes):
        found = _images(folder / name)
        paths.extend(found)
        targets.extend([index] * len(found))
    return Items(paths, np.array(targets, np.int64))


def _images(folder: Path) -> list[Path]:
    """Return the image files at any depth below a class folder, sorted."""
    return sorted(
        Path(place, name)
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        # "._x.jpg" is what macOS leaves beside x.jpg on foreign disks
        if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
    )


def _no_images(root: Path) -> DataError:
    loose = any(path.suffix.lower() in SUFFIXES for path in root.iterdir())
    return DataError(
        f"{root}: no images in class folders",
        "the images lie in the folder itself" if loose else "",
        f"put the images of each class in a folder of its own, e.g. {root.name}/cat/1.jpg",
    )
