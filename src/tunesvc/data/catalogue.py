"""A data spec → its listing: found, divided, cut down, checked, fingerprinted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tunesvc.data import splits
from tunesvc.data.listing import Found, Items, Listing
from tunesvc.data.sources import arrays, digits, folder, table, torchvision_sets
from tunesvc.errors import DataError
from tunesvc.spec import DataSpec
from tunesvc.tasks import TargetKind

# Of a larger file only both ends are read: a changed photograph changes its size or its ends.
_WHOLE_BYTES, _END_BYTES = 64 * 1024, 32 * 1024

_SOURCES: dict[str, Callable[[Any, TargetKind, Path], Found]] = {
    "folder": folder.find,
    "csv": table.find,
    "torchvision": torchvision_sets.find,
    "arrays": arrays.find,
    "digits": digits.find,
}


def scan(spec: DataSpec, *, target: TargetKind, base: Path) -> Listing:
    """List a data set and divide it; no image file is decoded.

    Args:
        spec: where the data lies and how to divide it.
        target: whether the task learns classes or numbers.
        base: the folder that relative paths start from.

    Raises:
        DataError: nothing there, unreadable, one class only, a class missing in train, …
        UnknownNameError: torchvision has no such data set.
    """
    found = find(spec, target=target, base=base)
    if "train" not in found.parts:
        raise DataError(
            f"{found.root}: nothing to train on",
            f"all images are marked {' or '.join(found.parts)}",
            "mark some of them train",
        )
    divided = splits.divide(found.parts, spec.split)
    divided["train"] = splits.cut_down(divided["train"], spec.subset, spec.fraction, spec.split)
    splits.check(found.classes, divided, target)
    return Listing(found.classes, divided, _fingerprint(found, divided))


def find(spec: DataSpec, *, target: TargetKind, base: Path) -> Found:
    """List a data set as its source divides it; `scan` does the rest.

    Raises:
        DataError, UnknownNameError: as `scan`; that there is something to train on is not checked.
    """
    return _SOURCES[spec.kind](spec, target, base)


def _fingerprint(found: Found, divided: dict[str, Items]) -> str:
    digest = hashlib.sha256(repr(found.classes).encode())
    for name, items in divided.items():
        digest.update(f"{name}:{len(items)}:{items.targets.dtype}".encode())
        digest.update(items.targets.tobytes())
        if isinstance(items.images, np.ndarray):
            digest.update(repr(items.images.shape).encode())
            digest.update(np.ascontiguousarray(items.images).data)
        else:
            for path in items.images:
                digest.update(os.fsencode(os.path.relpath(path, found.root)) + b"\0")
                digest.update(_content(path))
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    """Return a digest of a file's size and of its content, or of both ends of it."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(f"{size}:".encode())
            digest.update(file.read(_WHOLE_BYTES if size <= _WHOLE_BYTES else _END_BYTES))
            if size > _WHOLE_BYTES:
                file.seek(-_END_BYTES, os.SEEK_END)
                digest.update(file.read())
    except OSError as error:
        raise DataError(
            f"{path}: cannot be opened", error.strerror or str(error), "check its permissions"
        ) from error
    return digest.digest()
