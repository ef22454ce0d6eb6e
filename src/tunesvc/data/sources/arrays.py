"""An `.npz` file: x_train, y_train, perhaps x_val, y_val, x_test, y_test and classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tunesvc.data.listing import Found, Items
from tunesvc.data.sources import place
from tunesvc.errors import DataError
from tunesvc.spec import ArraysData
from tunesvc.tasks import TargetKind

_Arrays = Mapping[str, NDArray[Any]]


def find(spec: ArraysData, target: TargetKind, base: Path) -> Found:
    """Read images and targets from arrays.

    Raises:
        DataError: no such file, not an `.npz` of plain arrays, or shapes that do not fit.
    """
    file = place(base, spec.path)
    arrays = _read(file)
    splits = [split for split in ("train", "val", "test") if f"x_{split}" in arrays]
    if "train" not in splits:
        raise DataError(f"{file}: no x_train", f"it has {', '.join(arrays) or 'no arrays'}")
    for split in splits:
        _check(file, split, arrays)
    labels = {split: arrays[f"y_{split}"] for split in splits}
    classes, targets = (
        _numbers(file, labels) if target == "number" else _classes(file, labels, arrays)
    )
    parts = {split: Items(arrays[f"x_{split}"], targets[split]) for split in splits}
    return Found(classes, parts, file.parent)


def _read(file: Path) -> _Arrays:
    wanted = {f"{xy}_{split}" for xy in "xy" for split in ("train", "val", "test")} | {"classes"}
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files if name in wanted}
    except FileNotFoundError as error:
        raise DataError(
            f"{file}: no such file", "", "data.path is relative to the study file"
        ) from error
    # A lone .npy has neither `files` nor a context.
    except (OSError, ValueError, BadZipFile, EOFError, AttributeError, TypeError) as error:
        raise DataError(
            f"{file}: not an .npz file of plain arrays",
            str(error).splitlines()[0] if str(error) else type(error).__name__,
            "write it with numpy.savez(file, x_train=…, y_train=…); object arrays are never read",
        ) from error


def _check(file: Path, split: str, arrays: _Arrays) -> None:
    images, labels = arrays[f"x_{split}"], arrays.get(f"y_{split}")
    shape_fits = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not shape_fits or 0 in images.shape[1:]:
        raise DataError(
            f"{file}: x_{split} is {images.dtype} of shape {images.shape}",
            "images are uint8 (0…255) of shape (N, H, W) or (N, H, W, 3)",
            "convert before saving, e.g. (255 * x).astype('uint8')",
        )
    if labels is None or labels.shape != images.shape[:1]:
        raise DataError(
            f"{file}: y_{split} does not fit x_{split}",
            "it is absent" if labels is None else f"shapes {labels.shape} and {images.shape}",
            "give one target for each image, of shape (N,)",
        )


def _numbers(file: Path, labels: _Arrays) -> tuple[tuple[str, ...], dict[str, NDArray[np.float32]]]:
    for split, values in labels.items():
        if values.dtype.kind not in "iufb" or not np.isfinite(values).all():
            raise DataError(
                f"{file}: y_{split} is not all finite numbers",
                f"it is {values.dtype}",
                "the task learns numbers",
            )
    return (), {split: values.astype(np.float32) for split, values in labels.items()}


def _classes(
    file: Path, labels: _Arrays, arrays: _Arrays
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    for split, values in labels.items():
        if values.dtype.kind not in "iubU":
            raise DataError(
                f"{file}: y_{split} is {values.dtype}",
                "classes are whole numbers or names",
                "convert before saving, or use task: image-regression",
            )
    known = np.unique(np.concatenate(list(labels.values())))
    if "classes" not in arrays or known.dtype.kind == "U":
        names = tuple(map(str, known.tolist()))
        return names, {s: np.searchsorted(known, y).astype(np.int64) for s, y in labels.items()}
    names = tuple(map(str, arrays["classes"].tolist()))
    return names, {split: values.astype(np.int64) for split, values in labels.items()}
