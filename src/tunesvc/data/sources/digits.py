"""scikit-learn's handwritten digits: real images that need no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tunesvc.data.listing import Found, Items
from tunesvc.spec import DigitsData
from tunesvc.tasks import TargetKind


def find(spec: DigitsData, target: TargetKind, base: Path) -> Found:  # noqa: ARG001
    """List the 1,797 digits, 8×8 grey; as numbers, a digit's target is its own value."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # they hold 0…16
    if target == "number":
        return Found((), {"train": Items(images, bunch.target.astype(np.float32))}, base)
    classes = tuple(map(str, bunch.target_names))
    return Found(classes, {"train": Items(images, bunch.target.astype(np.int64))}, base)
