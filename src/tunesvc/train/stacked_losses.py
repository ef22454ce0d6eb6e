"""Losses of many heads on their own batches, and what the outputs have to change by.

    G    heads
    C    outputs of a head
    B    images in a batch
    ε    label smoothing, one for each head

Classes stand before images, (G, C, B): the product of weights (G, C, D) and features (G, B, D)
comes out like this in half the time of (G, B, C) where C is small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import log_softmax

from tunesvc.tasks.image_classification import ImageClassification

if TYPE_CHECKING:
    from torch import Tensor

    from tunesvc.tasks import Task

Loss = Callable[["Tensor", "Tensor", "Tensor"], tuple["Tensor", "Tensor"]]


def loss_of(task: Task) -> Loss:
    """Return the task's loss for a stack.

    Returns:
        (outputs (G, C, B) float, targets (G, B), ε (G,) float)
        ↦ (mean losses (G,) float, their gradients by the outputs (G, C, B) float).
    """
    if type(task) is ImageClassification:
        return _cross_entropy
    return _one_by_one(task)


def _cross_entropy(outputs: Tensor, targets: Tensor, smoothing: Tensor) -> tuple[Tensor, Tensor]:
    """Return -Σ q log p / B and (p - q) / B, for q = (1 - ε)·onehot + ε/C.

    Source: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7.
    """
    _, classes, batch = outputs.shape
    logp = log_softmax(outputs, dim=1)
    own, kept = targets.unsqueeze(1), 1 - smoothing
    losses = -kept * logp.gather(1, own).mean(dim=(1, 2)) - smoothing * logp.mean(dim=(1, 2))
    gradient = logp.exp_().sub_((smoothing / classes)[:, None, None])
    gradient.scatter_add_(1, own, (-kept)[:, None, None].expand(-1, 1, batch))
    return losses, gradient.div_(batch)


def _one_by_one(task: Task) -> Loss:
    """Return the loss of a task of which nothing but its Protocol is known."""

    def loss(outputs: Tensor, targets: Tensor, smoothing: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            losses = torch.stack(
                [
                    task.loss(leaf[head].T, targets[head], label_smoothing=share)
                    for head, share in enumerate(smoothing.tolist())
                ]
            )
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        return losses.detach(), gradient

    return loss
