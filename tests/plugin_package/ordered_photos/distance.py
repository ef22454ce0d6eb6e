"""A metric of its own: how many classes a prediction is off, on average."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class Distance(Metric):
    """Σ |ŷ - y| / number of images."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Take a batch in: (B,) and (B,) int64."""
        self.total += (predictions - targets).abs().sum()
        self.count += len(targets)

    def compute(self) -> Tensor:
        """Return the mean, () float32."""
        return self.total / self.count
