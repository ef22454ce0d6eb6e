"""Classification's metrics from three counts of each class.

    C        classes; before it, whatever else is counted at once: (…, C)
    hits     images of a class that were predicted as it
    said     images that were predicted as it
    there    images of the class

Why: 2026-11: these are torchmetrics' numbers. It takes a second and a half to import, a third of
what a worker needs to start, because it imports SciPy's statistics and matplotlib; and for a head
on features that are known, its calls take longer than the epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Counts:
    """The counts of a split, batch by batch; the device is waited for in `compute` alone."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self._counts = torch.zeros(3, classes, dtype=torch.float32, device=device)

    def reset(self) -> None:
        """Begin anew."""
        self._counts = torch.zeros_like(self._counts)

    def update(self, predicted: Tensor, targets: Tensor) -> None:
        """Add a batch: predicted and true classes, (B,) int64 each."""
        more = torch.stack(counted(predicted, targets, self._counts.shape[1]))
        self._counts = self._counts + more

    def compute(self) -> dict[str, float]:
        """Return the metrics of all batches."""
        values = scores(*self._counts)
        return dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))


def counted(predicted: Tensor, targets: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return hits (…, C), said (…, C) and there (C,), float32: exact up to 2**24 images.

    Args:
        predicted: (…, B) int64.
        targets: (B,) int64.
    """
    hit = (predicted == targets).float()
    shape = (*predicted.shape[:-1], classes)
    hits, said = (
        hit.new_zeros(shape).scatter_add_(-1, predicted, amount)
        for amount in (hit, torch.ones_like(hit))
    )
    there = hit.new_zeros(classes).scatter_add_(0, targets, torch.ones_like(targets).float())
    return hits, said, there


def scores(hits: Tensor, said: Tensor, there: Tensor) -> dict[str, Tensor]:
    """Return every metric but the loss, (…) float32 each.

    Balanced accuracy is the mean of the classes' recalls, so it equals macro recall.
    """
    recall = _macro(hits, there.expand_as(said), said + there)
    return {
        "accuracy": hits.sum(dim=-1) / there.sum(),
        "balanced_accuracy": recall,
        "precision": _macro(hits, said, said + there),
        "recall": recall,
        "f1": _macro(2 * hits, said + there, said + there),
    }


def _macro(numerator: Tensor, denominator: Tensor, seen: Tensor) -> Tensor:
    """Return the mean of the quotients over the classes that were seen; 0 / 0 is 0. (…, C) → (…).

    Classes that are neither there nor predicted do not count.

    Source: torchmetrics 1.9, `_adjust_weights_safe_divide`.
    """
    quotients = numerator / denominator.clamp(min=1)
    return (quotients * (seen > 0)).sum(dim=-1) / (seen > 0).sum(dim=-1)
