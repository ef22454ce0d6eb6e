"""Optimizers of many heads at once, each head with its own knobs.

    θ    weights (G, C, D) and biases (G, C, 1) of G heads; g their gradients, written over
    η    rate (G, 1, 1) at this step
    λ    weight decay (G, 1, 1), of the weights only
    t    steps done, this one included

The formulas are torch.optim's, and so are its defaults where there is no knob.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from tunesvc.spec import Knobs

Pair = tuple["Tensor", "Tensor"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8  # Adam
_ALPHA = 0.99  # RMSprop


class StackedOptimizer(Protocol):
    """What trains the heads of a bundle."""

    def step(self, parameters: Pair, gradients: Pair, rate: Tensor) -> None:
        """Change θ by one step; θ and g are ((G, C, D), (G, C, 1)) float32, η (G, 1, 1)."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Forget all heads but those at `rows`, (G',) int64."""
        ...


def stacked_optimizer(knobs: Sequence[Knobs], parameters: Pair) -> StackedOptimizer:
    """Return the optimizer that all of the knobs, one of each head, name."""
    match knobs[0].optimizer:
        case "sgd":
            return _SGD(knobs, parameters)
        case "adam":
            return _Adam(knobs, parameters, decoupled=False)
        case "adamw":
            return _Adam(knobs, parameters, decoupled=True)
        case "rmsprop":
            return _RMSprop(knobs, parameters)


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """Return one number for each head, (G, 1, 1) float32, where `like` is."""
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None, None]


def _pick(tensors: Sequence[Tensor], rows: Tensor) -> list[Tensor]:
    return [tensor.index_select(0, rows) for tensor in tensors]


class _SGD:
    """v ← μ v + g + λ θ; θ ← θ - η v, or with Nesterov's form θ - η (g + λ θ + μ v).

    Source: torch.optim.SGD, whose first v is g; here v starts at 0, which is the same.
    """

    def __init__(self, knobs: Sequence[Knobs], parameters: Pair) -> None:
        self._own = [
            column([k.weight_decay for k in knobs], parameters[0]),
            column([k.momentum for k in knobs], parameters[0]),
            column([k.momentum * k.nesterov for k in knobs], parameters[0]),
        ]
        self._ahead = any(k.nesterov for k in knobs)
        self._velocities = [torch.zeros_like(p) for p in parameters]

    def step(self, parameters: Pair, gradients: Pair, rate: Tensor) -> None:
        decay, momentum, nesterov = self._own
        gradients[0].addcmul_(parameters[0], decay)
        for p, g, v in zip(parameters, gradients, self._velocities, strict=True):
            v.mul_(momentum).add_(g)
            if self._ahead:
                change = torch.where(nesterov > 0, g.addcmul_(v, nesterov), v)
                p.addcmul_(change, rate, value=-1)
            else:
                p.addcmul_(v, rate, value=-1)

    def keep(self, rows: Tensor) -> None:
        self._own, self._velocities = _pick(self._own, rows), _pick(self._velocities, rows)


class _Adam:
    """m ← β₁ m + (1-β₁) g; v ← β₂ v + (1-β₂) g²; θ ← θ - η m̂ / (√v̂ + ε).

    The decay is added to g, or decoupled: θ ← (1 - η λ) θ before.

    Source: Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2.
    """

    def __init__(self, knobs: Sequence[Knobs], parameters: Pair, *, decoupled: bool) -> None:
        self._decay = column([k.weight_decay for k in knobs], parameters[0])
        self._decoupled = decoupled
        self._means = [torch.zeros_like(p) for p in parameters]
        self._squares = [torch.zeros_like(p) for p in parameters]
        self._steps = 0

    def step(self, parameters: Pair, gradients: Pair, rate: Tensor) -> None:
        if self._decoupled:
            parameters[0].mul_(1 - rate * self._decay)
        else:
            gradients[0].addcmul_(parameters[0], self._decay)
        self._steps += 1
        change = rate / (1 - _BETA1**self._steps)
        root = math.sqrt(1 - _BETA2**self._steps)
        for p, g, m, v in zip(parameters, gradients, self._means, self._squares, strict=True):
            m.lerp_(g, 1 - _BETA1)
            v.mul_(_BETA2).addcmul_(g, g, value=1 - _BETA2)
            p.addcmul_(torch.div(m, v.sqrt().div_(root).add_(_EPSILON)), change, value=-1)

    def keep(self, rows: Tensor) -> None:
        (self._decay,) = _pick([self._decay], rows)
        self._means, self._squares = _pick(self._means, rows), _pick(self._squares, rows)


class _RMSprop:
    """v ← α v + (1-α) (g + λ θ)²; θ ← θ - η (g + λ θ) / (√v + ε).

    Source: torch.optim.RMSprop, neither centred nor with momentum.
    """

    def __init__(self, knobs: Sequence[Knobs], parameters: Pair) -> None:
        self._decay = column([k.weight_decay for k in knobs], parameters[0])
        self._squares = [torch.zeros_like(p) for p in parameters]

    def step(self, parameters: Pair, gradients: Pair, rate: Tensor) -> None:
        gradients[0].addcmul_(parameters[0], self._decay)
        for p, g, v in zip(parameters, gradients, self._squares, strict=True):
            v.mul_(_ALPHA).addcmul_(g, g, value=1 - _ALPHA)
            p.addcmul_(g.div_(v.sqrt().add_(_EPSILON)), rate, value=-1)

    def keep(self, rows: Tensor) -> None:
        (self._decay,) = _pick([self._decay], rows)
        self._squares = _pick(self._squares, rows)
