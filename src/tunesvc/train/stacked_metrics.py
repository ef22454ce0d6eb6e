"""The metrics of many heads on one split.

G    heads
C    outputs of a head
M    images of the split
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from tunesvc.tasks.image_classification import ImageClassification
from tunesvc.train.counts import counted, scores

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
    values = scores(*counted(outputs.argmax(dim=1), targets, outputs.shape[1]))
    losses = cross_entropy(outputs, targets.expand(len(outputs), -1), reduction="none").mean(dim=1)
    columns = [*values.values(), losses]
    rows = torch.stack([value.double() for value in columns], dim=1).tolist()
    return [dict(zip((*values, "loss"), row, strict=True)) for row in rows]
