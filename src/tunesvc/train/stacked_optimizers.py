"""Optimizers of many heads at once, each head with its own knobs.

    θ    weights and biases of G heads, (G, P): a row is a head's C·D weights, then its C biases
    g    their gradients, (G, P), written over
    η    rate (G, 1) at this step
    λ    weight decay (G, 1), of the weights only
    t    steps done, this one included

The formulas are torch.optim's, and so are its defaults where there is no knob.

Why: 2026-11: weights and biases lie in one tensor, so that a step launches half as many operations,
which cost more than what they compute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from tunesvc.spec import Knobs

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8  # Adam
_ALPHA = 0.99  # RMSprop


class StackedOptimizer(Protocol):
    """What trains the heads of a bundle."""

    def step(self, parameters: Tensor, gradients: Tensor, rate: Tensor) -> None:
        """Change θ by one step; θ and g are (G, P) float32, η (G, 1)."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Forget all heads but those at `rows`, (G',) int64."""
        ...


def stacked_optimizer(knobs: Sequence[Knobs], parameters: Tensor, weights: int) -> StackedOptimizer:
    """Return the optimizer that all of the knobs, one of each head, name.

    Args:
        parameters: (G, P) float32.
        weights: how many of the P are weights, and decay.
    """
    match knobs[0].optimizer:
        case "sgd":
            return _SGD(knobs, parameters, weights)
        case "adam":
            return _Adam(knobs, parameters, weights, decoupled=False)
        case "adamw":
            return _Adam(knobs, parameters, weights, decoupled=True)
        case "rmsprop":
            return _RMSprop(knobs, parameters, weights)


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """Return one number for each head, (G, 1) float32, where `like` is."""
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]


def _pick(tensors: Sequence[Tensor], rows: Tensor) -> list[Tensor]:
    return [tensor.index_select(0, rows) for tensor in tensors]


class _SGD:
    """v ← μ v + g + λ θ; θ ← θ - η v, or with Nesterov's form θ - η (g + λ θ + μ v).

    Source: torch.optim.SGD, whose first v is g; here v starts at 0, which is the same.
    """

    def __init__(self, knobs: Sequence[Knobs], parameters: Tensor, weights: int) -> None:
        self._own = [
            column([k.weight_decay for k in knobs], parameters),
            column([k.momentum for k in knobs], parameters),
            column([k.momentum * k.nesterov for k in knobs], parameters),
        ]
        self._ahead = any(k.nesterov for k in knobs)
        self._weights = weights
        self._velocity = torch.zeros_like(parameters)

    def step(self, parameters: Tensor, gradients: Tensor, rate: Tensor) -> None:
        decay, momentum, nesterov = self._own
        gradients[:, : self._weights].addcmul_(parameters[:, : self._weights], decay)
        velocity = self._velocity.mul_(momentum).add_(gradients)
        if self._ahead:
            ahead = gradients.addcmul_(velocity, nesterov)
            velocity = torch.where(nesterov > 0, ahead, velocity)
        parameters.addcmul_(velocity, rate, value=-1)

    def keep(self, rows: Tensor) -> None:
        *self._own, self._velocity = _pick([*self._own, self._velocity], rows)


class _Adam:
    """m ← β₁ m + (1-β₁) g; v ← β₂ v + (1-β₂) g²; θ ← θ - η m̂ / (√v̂ + ε).

    The decay is added to g, or decoupled: θ ← θ - η λ θ before.

    Source: Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2.
    """

    def __init__(
        self, knobs: Sequence[Knobs], parameters: Tensor, weights: int, *, decoupled: bool
    ) -> None:
        self._decay = column([k.weight_decay for k in knobs], parameters)
        self._decoupled, self._weights = decoupled, weights
        self._mean, self._square = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self._steps = 0

    def step(self, parameters: Tensor, gradients: Tensor, rate: Tensor) -> None:
        weights = parameters[:, : self._weights]
        if self._decoupled:
            weights.addcmul_(weights, rate * self._decay, value=-1)
        else:
            gradients[:, : self._weights].addcmul_(weights, self._decay)
        self._steps += 1
        change = rate / (1 - _BETA1**self._steps)
        root = math.sqrt(1 - _BETA2**self._steps)
        self._mean.lerp_(gradients, 1 - _BETA1)
        self._square.mul_(_BETA2).addcmul_(gradients, gradients, value=1 - _BETA2)
        scale = self._square.sqrt().div_(root).add_(_EPSILON)
        parameters.addcmul_(torch.div(self._mean, scale, out=scale), change, value=-1)

    def keep(self, rows: Tensor) -> None:
        self._decay, self._mean, self._square = _pick([self._decay, self._mean, self._square], rows)


class _RMSprop:
    """v ← α v + (1-α) (g + λ θ)²; θ ← θ - η (g + λ θ) / (√v + ε).

    Source: torch.optim.RMSprop, neither centred nor with momentum.
    """

    def __init__(self, knobs: Sequence[Knobs], parameters: Tensor, weights: int) -> None:
        self._decay = column([k.weight_decay for k in knobs], parameters)
        self._weights = weights
        self._square = torch.zeros_like(parameters)

    def step(self, parameters: Tensor, gradients: Tensor, rate: Tensor) -> None:
        gradients[:, : self._weights].addcmul_(parameters[:, : self._weights], self._decay)
        self._square.mul_(_ALPHA).addcmul_(gradients, gradients, value=1 - _ALPHA)
        parameters.addcmul_(gradients.div_(self._square.sqrt().add_(_EPSILON)), rate, value=-1)

    def keep(self, rows: Tensor) -> None:
        self._decay, self._square = _pick([self._decay, self._square], rows)
