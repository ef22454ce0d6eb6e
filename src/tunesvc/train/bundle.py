"""Heads of one optimizer, trained in lockstep: one product for all of them at every step.

    G    heads in the bundle
    K    views of the training images, N images, D features of each
    B    images in a batch
    C    outputs of a head

Why: 2026-11: no autograd. A linear layer's gradient is one product, so that only the loss is
differentiated, and the launches of a step are few: they, and not what is computed, are what a step
of a few heads costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tunesvc.spec import Knobs, derive_seed
from tunesvc.train.optimization import rate_factor
from tunesvc.train.stacked_optimizers import column, stacked_optimizer

if TYPE_CHECKING:
    from torch import Tensor

    from tunesvc.train.stacked_losses import Loss


@dataclass(frozen=True, eq=False)
class HeadJob:
    """One head to be trained.

    Args:
        knobs: mixup and cutmix must be off.
        seed: of the trial; everything that chance decides here derives from it.
        epochs: to train for, ≥ 1.
        weight: (C, D) float32 to start from; only read.
        bias: (C,) float32, likewise.
    """

    knobs: Knobs
    seed: int
    epochs: int
    weight: Tensor
    bias: Tensor


_OUTPUTS = 2**24  # numbers, of one evaluation


Batches = Sequence[tuple["Tensor", "Tensor"]]
Draw = Callable[[HeadJob, int], Batches]


class Bundle:
    """The heads and where their training stands; `numbers` are the jobs' places in the stack."""

    def __init__(
        self, numbers: Sequence[int], jobs: Sequence[HeadJob], loss: Loss, device: torch.device
    ) -> None:
        self.numbers, self._jobs, self._loss = list(numbers), list(jobs), loss
        weight = torch.stack([job.weight for job in jobs]).to(device, torch.float32)
        bias = torch.stack([job.bias for job in jobs]).to(device, torch.float32)
        self._shape = weight.shape[1:]
        self._hold(torch.cat([weight.flatten(1), bias], 1))
        knobs = [job.knobs for job in jobs]
        self._optimizer = stacked_optimizer(knobs, self._parameters, self._shape.numel())
        self._smoothing: Tensor | None = None
        if any(each.label_smoothing for each in knobs):
            shares = [each.label_smoothing for each in knobs]
            self._smoothing = column(shares, weight).flatten()
        self._generators = [torch.Generator(device) for _ in jobs]

    def keep(self, numbers: Sequence[int]) -> None:
        """Forget all heads but these."""
        rows = [row for row, number in enumerate(self.numbers) if number in numbers]
        index = torch.tensor(rows, device=self._parameters.device)
        self._hold(self._parameters.index_select(0, index))
        self._optimizer.keep(index)
        if self._smoothing is not None:
            self._smoothing = self._smoothing[index]
        self._generators = [self._generators[row] for row in rows]
        self._jobs = [self._jobs[row] for row in rows]
        self.numbers = [self.numbers[row] for row in rows]

    def head(self, number: int) -> tuple[Tensor, Tensor]:
        """Return copies of one head, (C, D) and (C,) float32 on the CPU."""
        row = self.numbers.index(number)
        return self._weight[row].cpu().clone(), self._bias[row, :, 0].cpu().clone()

    def _hold(self, parameters: Tensor) -> None:
        """Train these, (G, C·D + C); what a step needs of them and of their gradients are views."""
        self._parameters, self._gradients = parameters, torch.empty_like(parameters)
        self._weight, self._bias = self._parts(self._parameters)
        self._of_weight, self._of_bias = self._parts(self._gradients)

    def _parts(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return views of the weights, (G, C, D), and the biases, (G, C, 1)."""
        weights = self._shape.numel()
        return rows[:, :weights].view(-1, *self._shape), rows[:, weights:].unsqueeze(2)

    def outputs(self, features: Tensor) -> Iterator[Tensor]:
        """Yield (g, C, M) float32, a few heads at a time, of (M, D) float32 that all heads see."""
        heads, outputs, width = self._weight.shape
        most = max(1, _OUTPUTS // (outputs * len(features)))
        for first in range(0, heads, most):
            product = self._weight[first : first + most].reshape(-1, width) @ features.T
            yield product.view(-1, outputs, len(features)).add_(self._bias[first : first + most])

    def train(
        self, features: Tensor, targets: Tensor, draw: Draw, epoch: int, losses: Tensor
    ) -> Iterator[None]:
        """Train for one epoch, yielding after every step.

        Args:
            features: (K, N, D) float.
            targets: (N,).
            losses: (G,) float32, to which the mean losses of the epoch are added.
        """
        order, sizes = self._order(draw, epoch, features.shape[1])
        for job, generator in zip(self._jobs, self._generators, strict=True):
            generator.manual_seed(derive_seed(str(job.seed), "epoch", epoch))
        rows, labels = features.flatten(0, 1), targets[order % features.shape[1]]
        parts = (each.split_with_sizes(sizes, 1) for each in (order, labels))
        for places, own, rate in zip(*parts, self._rates(epoch, len(sizes)), strict=True):
            inputs = rows.index_select(0, places.flatten()).float()
            inputs = inputs.view(*places.shape, -1)
            losses.add_(self._step(inputs, own, rate), alpha=own.shape[1] / order.shape[1])
            yield

    def _order(self, draw: Draw, epoch: int, images: int) -> tuple[Tensor, list[int]]:
        """Return the rows of all views' features, (G, N') int64, and the batches' sizes."""
        drawn = [draw(job, epoch) for job in self._jobs]
        rows = [
            torch.cat([view for _, view in batches]) * images
            + torch.cat([index for index, _ in batches])
            for batches in drawn
        ]
        order = torch.stack(rows).to(self._parameters.device)
        return order, [len(index) for index, _ in drawn[0]]

    def _rates(self, epoch: int, steps: int) -> Tensor:
        """Return η for every step of an epoch, (steps, G, 1) float32."""
        factors: dict[tuple[str, float], list[float]] = {}
        table = []
        for job in self._jobs:
            schedule, warmup = key = job.knobs.schedule, job.knobs.warmup
            if key not in factors:
                factors[key] = [
                    rate_factor(step, job.epochs * steps, schedule=schedule, warmup=warmup)
                    for step in range(epoch * steps, (epoch + 1) * steps)
                ]
            peak = job.knobs.lr * job.knobs.head_lr_multiplier
            table.append([peak * factor for factor in factors[key]])
        rates = torch.tensor(table, dtype=torch.float32).T.contiguous()
        return rates[:, :, None].to(self._parameters.device)

    def _step(self, inputs: Tensor, targets: Tensor, rate: Tensor) -> Tensor:
        """Learn from inputs (G, B, D), written over; return the losses, (G,) float32."""
        for row, (job, generator) in enumerate(zip(self._jobs, self._generators, strict=True)):
            if job.knobs.dropout:
                _drop_out(inputs[row], job.knobs.dropout, generator)
        outputs = torch.baddbmm(self._bias, self._weight, inputs.transpose(1, 2))
        losses, slope = self._loss(outputs, targets, self._smoothing)
        self._of_weight.copy_(torch.bmm(slope, inputs))  # some devices take no view as `out`
        self._of_bias.copy_(slope.sum(2, keepdim=True))
        self._optimizer.step(self._parameters, self._gradients, rate)
        return losses


def _drop_out(inputs: Tensor, share: float, generator: torch.Generator) -> None:
    """Set a share of the inputs, (B, D) float32, to zero and scale the others up, in place.

    Why: 2026-11: sixteen random bits decide for each number. `bernoulli_`, which takes a generator
    too, needs ten times as long on a CPU, more than all the rest of the step.
    """
    words = torch.empty(-(-inputs.numel() // 4), dtype=torch.int64, device=inputs.device)
    words.random_(-(2**63), None, generator=generator)
    bits = words.view(torch.int16)[: inputs.numel()].view(inputs.shape)
    kept = torch.ge(bits, round(share * 2**16) - 2**15, out=torch.empty_like(inputs))
    inputs.mul_(kept).mul_(1 / (1 - share))
