"""A task: classes that have an order, small < medium < large; a near miss is half a hit.

    C       classes
    y       a target, 0 … C-1
    o_k     logit of y > k, for k = 0 … C-2: the head has one output less than there are classes

Source: Frank & Hall 2001, "A Simple Approach to Ordinal Classification", section 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tunesvc.tasks import Direction, TargetKind

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import MetricCollection


class Ordinal:
    """Satisfies `tunesvc.tasks.Task`; torch is imported where it is used."""

    name = "ordinal"
    target: TargetKind = "class"
    metrics: Mapping[str, Direction] = {
        "distance": "minimize",
        "exact": "maximize",
        "loss": "minimize",
    }
    default_metric = "distance"

    def num_outputs(self, classes: Sequence[str]) -> int:
        """Return C - 1."""
        return len(classes) - 1

    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean binary cross-entropy of the questions y > k."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        levels = targets if targets.ndim == 2 else self.soft_targets(targets, outputs.shape[1])
        smooth = levels.to(outputs) * (1 - label_smoothing) + label_smoothing / 2
        return binary_cross_entropy_with_logits(outputs, smooth)

    def soft_targets(self, targets: Tensor, num_outputs: int) -> Tensor:
        """Return the answers to y > k, (B, C - 1) float32."""
        import torch

        return (targets[:, None] > torch.arange(num_outputs, device=targets.device)).float()

    def metric_collection(self, num_outputs: int) -> MetricCollection:
        """Return the mean distance of classes, and the share that is met exactly."""
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        from ordered_photos.distance import Distance

        exact = MulticlassAccuracy(num_outputs + 1, average="micro", validate_args=False)
        return MetricCollection({"distance": Distance(), "exact": exact}, compute_groups=False)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return the most probable class, (B,) int64."""
        return self.probabilities(outputs).argmax(dim=1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return P(y = c) ∝ Π_k<c P(y > k) · Π_k≥c P(y ≤ k), (B, C) float."""
        from torch.nn.functional import pad

        return pad(outputs.cumsum(dim=1), (1, 0)).softmax(dim=1)


TASK = Ordinal()
