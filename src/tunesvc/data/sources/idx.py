"""The idx files of MNIST and its relatives, as they are published (.gz) or unpacked.

Source: http://yann.lecun.com/exdb/mnist/, "File formats": two zero bytes, the type (8 is uint8),
the number of dimensions, each dimension as a big-endian int32, then the values.
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunesvc.data.listing import Items
from tunesvc.errors import DataError

_PREFIXES = {
    "EMNIST": {"train": "emnist-balanced-train", "test": "emnist-balanced-test"},
}
_USUAL = {"train": "train", "test": "t10k"}


def find(name: str, root: Path) -> dict[str, Items] | None:
    """Read the train and test files of a data set, or return None where they are not all there.

    They may lie in `root` itself, in `root/raw`, or where torchvision keeps them
    (`root/NAME/raw`).

    Raises:
        DataError: one of the files is damaged.
    """
    prefixes = _PREFIXES.get(name, _USUAL)
    for folder in (root / name / "raw", root / "raw", root):
        images = [_either(folder / f"{prefix}-images-idx3-ubyte") for prefix in prefixes.values()]
        labels = [_either(folder / f"{prefix}-labels-idx1-ubyte") for prefix in prefixes.values()]
        if None not in (*images, *labels):
            files = zip(filter(None, images), filter(None, labels), strict=True)
            return {split: _items(*pair) for split, pair in zip(prefixes, files, strict=True)}
    return None


def files(name: str) -> list[str]:
    """Return the names under which a data set is published."""
    return [
        f"{prefix}-{kind}-ubyte.gz"
        for prefix in _PREFIXES.get(name, _USUAL).values()
        for kind in ("images-idx3", "labels-idx1")
    ]


def _either(file: Path) -> Path | None:
    packed = file.with_name(file.name + ".gz")
    return next((path for path in (file, packed) if path.is_file()), None)


def _items(images: Path, labels: Path) -> Items:
    pixels, targets = _read(images, 3), _read(labels, 1)
    if len(pixels) != len(targets):
        raise DataError(
            f"{images} and {labels.name} do not belong together", "", "fetch both again"
        )
    return Items(pixels, targets.astype(np.int64))


def _read(file: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return an idx file's values in the file's own shape."""
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: damaged", str(error), "fetch it again") from error
    start = 4 + 4 * dimensions
    shape = np.frombuffer(data[4:start].ljust(start - 4, b"\0"), ">i4").tolist()
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) - start != prod(shape):
        raise DataError(f"{file}: not an idx file of bytes, or cut short", "", "fetch it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
