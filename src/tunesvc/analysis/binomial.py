"""How far an accuracy is uncertain because there are only so many images."""

from __future__ import annotations

from math import sqrt

from tunesvc.analysis.table import Unsupported


def standard_error(metric: str, value: float, images: int | None) -> float | Unsupported:
    """Return the binomial standard error of an accuracy.

    Of `accuracy` alone: the other metrics are no share of images.

    Args:
        images: of the split; None while unknown.

    Source: sqrt(p (1 - p) / n), of a share p of n independent images.
    """
    if metric != "accuracy":
        return Unsupported(f"{metric} is no share of images")
    if not images:
        return Unsupported("the number of validation images is not known")
    half = 0.5 / images  # an accuracy of 1 may still be wrong on the next image
    share = min(max(value, half), 1 - half)
    return sqrt(share * (1 - share) / images)
