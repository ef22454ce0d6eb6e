"""The metrics of many heads on one split.

    G    heads
    C    outputs of a head
    M    images of the split

Why: 2026-11: torchmetrics takes milliseconds for one head, which is longer than a small split's
training epoch. What classification needs are three counts for each class and head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from tunesvc.tasks.image_classification import ImageClassification

if TYPE_CHECKING:
    from torch import Tensor

    from tunesvc.tasks import Task


def measure(task: Task, outputs: Tensor, targets: Tensor) -> list[dict[str, float]]:
    """Return all of the task's metrics, "loss" included, for each head.

    Args:
        outputs: (G, C, M) float.
        targets: (M,), the same for every head.
    """
    if type(task) is ImageClassification:
        return _classification(outputs, targets)
    return [_any(task, head.T, targets) for head in outputs]


def _any(task: Task, outputs: Tensor, targets: Tensor) -> dict[str, float]:
    metrics = task.metric_collection(outputs.shape[1]).to(outputs.device)
    metrics.update(task.predictions(outputs), targets)
    values = {name: float(value) for name, value in metrics.compute().items()}
    return values | {"loss": float(task.loss(outputs, targets))}


def _classification(outputs: Tensor, targets: Tensor) -> list[dict[str, float]]:
    """Return torchmetrics' numbers: classes that are neither there nor predicted do not count.

    hits (G, C): images of a class that were predicted as it; there (C,): of the class;
    said (G, C): predicted as it.
    """
    predicted = outputs.argmax(dim=1)
    hit = (predicted == targets).float()
    hits, said = (
        outputs.new_zeros(outputs.shape[:2], dtype=torch.float32).scatter_add_(1, predicted, count)
        for count in (hit, torch.ones_like(hit))
    )
    there = torch.zeros_like(hits[0]).scatter_add_(0, targets, torch.ones_like(hit[0]))
    recall = _macro(hits, there.expand_as(said), said + there)
    values = {
        "accuracy": hit.mean(dim=1),
        "balanced_accuracy": recall,
        "precision": _macro(hits, said, said + there),
        "recall": recall,
        "f1": _macro(2 * hits, said + there, said + there),
        "loss": cross_entropy(outputs, targets.expand(len(outputs), -1), reduction="none").mean(
            dim=1
        ),
    }
    rows = torch.stack([value.double() for value in values.values()], dim=1).tolist()
    return [dict(zip(values, row, strict=True)) for row in rows]


def _macro(numerator: Tensor, denominator: Tensor, seen: Tensor) -> Tensor:
    """Return the mean of the quotients over the classes that were seen; 0 / 0 is 0. (G, C) → (G,).

    Source: torchmetrics 1.9, `_adjust_weights_safe_divide`.
    """
    scores = numerator / denominator.clamp(min=1)
    return (scores * (seen > 0)).sum(dim=1) / (seen > 0).sum(dim=1)
