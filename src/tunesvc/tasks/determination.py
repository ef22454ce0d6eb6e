"""The coefficient of determination, R², of numbers that come in batches.

Why: torchmetrics takes the difference of two sums of squares, in the float32 of the targets. For
targets of 20000 ± 1 nothing is left of it. Means and squared deviations are merged instead, which
needs no float64 (MPS has none).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class Determination(Metric):
    """R² = 1 - Σ (y - ŷ)² / Σ (y - ȳ)²; where all targets are one: 1 if all are met, else 0.

    Source: Chan, Golub & LeVeque 1979, "Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances", equation 2.1.
    """

    full_state_update = False
    count: Tensor
    mean: Tensor
    spread: Tensor
    missed: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "mean", "spread", "missed"):
            self.add_state(name, torch.zeros(()))

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Take a batch in: (B,) and (B,) float32."""
        count, mean = len(targets), targets.mean()
        total, step = self.count + count, mean - self.mean
        self.spread += (targets - mean).square().sum() + step**2 * self.count * count / total
        self.mean += step * count / total
        self.count = total
        self.missed += (targets - predictions).square().sum()

    def compute(self) -> Tensor:
        """Return R², () float32."""
        met = (self.missed == 0).float()
        return torch.where(self.spread > 0, 1 - self.missed / self.spread, met)
