"""Real handwritten digits as image files, one folder a class; `pythonpath` finds this file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def write_digits(folder: Path, *, classes: int, each: int, side: int = 32) -> None:
    """Write so many images of the first classes as PNG, side × side pixels."""
    digits = load_digits()
    for digit in range(classes):
        (folder / str(digit)).mkdir(parents=True)
        for place in np.flatnonzero(digits.target == digit)[:each]:
            grey = Image.fromarray((digits.images[place] * 15).astype(np.uint8))
            grey.resize((side, side), Image.Resampling.BICUBIC).save(
                folder / str(digit) / f"{place}.png"
            )
