"""One class per image: cross-entropy, and the usual accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tunesvc.tasks import Direction, TargetKind

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import MetricCollection

_METRICS: Mapping[str, Direction] = MappingProxyType(
    {
        "accuracy": "maximize",
        "balanced_accuracy": "maximize",
        "precision": "maximize",
        "recall": "maximize",
        "f1": "maximize",
        "loss": "minimize",
    }
)


@dataclass(frozen=True)
class ImageClassification:
    """Targets are class indices; the head has one logit per class."""

    name: str = "image-classification"
    target: TargetKind = "class"
    metrics: Mapping[str, Direction] = field(default_factory=lambda: _METRICS)
    default_metric: str = "accuracy"

    def num_outputs(self, classes: Sequence[str]) -> int:
        """Return the number of classes."""
        return len(classes)

    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy, () float.

        Args:
            outputs: (B, C) float logits.
            targets: (B,) int64 class indices, or (B, C) float probabilities.
            label_smoothing: share of the target spread evenly over all classes.
        """
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs, targets, label_smoothing=label_smoothing)

    def soft_targets(self, targets: Tensor, num_outputs: int) -> Tensor:
        """Return one-hot rows, (B, C) float32, of (B,) int64 class indices."""
        from torch.nn.functional import one_hot

        return one_hot(targets, num_outputs).float()

    def metric_collection(self, num_outputs: int) -> MetricCollection:
        """Return accuracy, and the macro averages of recall, precision and F1.

        Balanced accuracy is the mean of the classes' recalls, so it equals macro recall.
        Source: scikit-learn, "Metrics and scoring", balanced_accuracy_score.
        """
        from torchmetrics import MetricCollection
        from torchmetrics.classification import (
            MulticlassAccuracy,
            MulticlassF1Score,
            MulticlassPrecision,
            MulticlassRecall,
        )

        # Checking the arguments would wait for the device at every batch.
        macro: dict[str, Any] = {
            "num_classes": num_outputs,
            "average": "macro",
            "validate_args": False,
        }
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(num_outputs, average="micro", validate_args=False),
                "balanced_accuracy": MulticlassAccuracy(**macro),
                "precision": MulticlassPrecision(**macro),
                "recall": MulticlassRecall(**macro),
                "f1": MulticlassF1Score(**macro),
            },
            # Those with the same counts share them; finding it out would compare values.
            compute_groups=[["accuracy"], ["balanced_accuracy", "precision", "recall", "f1"]],
        )

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return the most probable class, (B,) int64, of (B, C) logits."""
        return outputs.argmax(dim=1)


TASK = ImageClassification()
