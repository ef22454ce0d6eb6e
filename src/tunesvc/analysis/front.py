"""The Pareto set of points: those that no other one beats.

One point *beats* another if it is as good or better in every coordinate, and better in one. Of
equal points the earliest stands for all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def front(points: ArrayLike) -> list[int]:
    """Return the rows that no other beats: the best in the first coordinate first.

    Args:
        points: (n, k) finite numbers, of which larger ones are better; in order of time.
    """
    rows = np.asarray(points, float)
    kept: list[int] = []
    # One that beats another, or equals it and was earlier, comes before it.
    for row in sorted(range(len(rows)), key=lambda row: (*-rows[row], row)):
        if not any((rows[other] >= rows[row]).all() for other in kept):
            kept.append(row)
    return kept
