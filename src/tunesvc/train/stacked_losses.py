"""Losses of many heads on their own batches, and what the outputs have to change by.

    G    heads
    C    outputs of a head
    B    images in a batch
    ε    label smoothing, one for each head; None: nobody smooths

Classes stand before images, (G, C, B): the product of weights (G, C, D) and features (G, B, D)
comes out like this in half the time of (G, B, C) where C is small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from tunesvc.tasks.image_classification import ImageClassification

if TYPE_CHECKING:
    from torch import Tensor

    from tunesvc.tasks import Task

Loss = Callable[["Tensor", "Tensor", "Tensor | None"], tuple["Tensor", "Tensor"]]


def loss_of(task: Task) -> Loss:
    """Return the task's loss for a stack.

    Returns:
        (outputs (G, C, B) float, targets (G, B), ε (G,) float or None)
        ↦ (mean losses (G,) float, their gradients by the outputs (G, C, B) float).
    """
    if type(task) is ImageClassification:
        return _cross_entropy
    return _one_by_one(task)


def _cross_entropy(
    outputs: Tensor, targets: Tensor, smoothing: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return -Σ q log p / B and (p - q) / B, for q = (1 - ε)·onehot + ε/C.

    Source: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7.
    """
    _, classes, batch = outputs.shape
    logp, own = torch.log_softmax(outputs, 1), targets.unsqueeze(1)
    losses = logp.gather(1, own).mean((1, 2)).neg_()
    if smoothing is None:
        gradient = logp.exp_().scatter_add_(1, own, outputs.new_tensor(-1.0).expand_as(own))
        return losses, gradient.div_(batch)
    kept = 1 - smoothing
    losses.mul_(kept).sub_(smoothing * logp.mean((1, 2)))
    gradient = logp.exp_().sub_((smoothing / classes)[:, None, None])
    gradient.scatter_add_(1, own, (-kept)[:, None, None].expand(-1, 1, batch))
    return losses, gradient.div_(batch)


def _one_by_one(task: Task) -> Loss:
    """Return the loss of a task of which nothing but its Protocol is known."""

    def loss(outputs: Tensor, targets: Tensor, smoothing: Tensor | None) -> tuple[Tensor, Tensor]:
        shares = [0.0] * len(outputs) if smoothing is None else smoothing.tolist()
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            losses = torch.stack(
                [
                    task.loss(leaf[head].T, targets[head], label_smoothing=share)
                    for head, share in enumerate(shares)
                ]
            )
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        return losses.detach(), gradient

    return loss
