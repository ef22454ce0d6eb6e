"""A linear probe: the best linear head on features that stand still, by L-BFGS.

    N, M    images of the training and of the validation split
    D       features of an image, standardized here by the training split's means and deviations
    C       outputs of the head
    λ       l2, the strength of the regularisation
    F       mean loss + λ/2N · ‖W‖²: what is minimized over W (C, D) and the biases b (C,)
    r       rank of the standardized features X = U S Vᵀ, with S (r,)
    Z       X V, (N, r): W = A Vᵀ with ‖A‖ = ‖W‖, so that F is minimized over A (C, r)
    h       mean curvature of the loss by an output
    t       1 / √((h S² + λ) / N): what A is measured in, so that F's curvature is about 1

The protocol: 45 values of λ from 10⁵ down to 10⁻⁶, each started from the one before, and the best
on the validation split taken. λ is 1/C of scikit-learn's LogisticRegression.
Source: Kornblith, Shlens & Le 2019, "Do Better ImageNet Models Transfer Better?", appendix A.

Why: 2026-11: in Z, measured in t, L-BFGS needs a third or less of the evaluations that X itself
needs, and where there are fewer images than features an evaluation costs N·r, not N·D.

Why: 2026-11: the path ends once neither the metric nor the validation loss has been better for two
decades of λ. The weakest values are the dearest by far, and overfit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from tunesvc.train.stacked_losses import loss_of
from tunesvc.train.stacked_metrics import measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from tunesvc.tasks import Task

L2 = tuple(10 ** (5 - 11 * step / 44) for step in range(45))
_PATIENCE = 8  # values of λ, two decades
# Relative changes of F at which L-BFGS ends: along the path, and for the head that is returned.
_ROUGH, _FINE = 1e-5, 1e-10
_EXACT_NUMBERS = 2**22  # up to so many features of all images, all is float64
_CHUNK_NUMBERS = 2**24


class Point(NamedTuple):
    """What one λ gave: F at its minimum, and the metric on the validation split."""

    l2: float
    objective: float
    score: float


@dataclass(frozen=True, eq=False)
class Probe:
    """The best linear head.

    Args:
        weight: (C, D) float32 on the CPU; acts on features as they are given.
        bias: (C,) float32 on the CPU.
        l2: the λ that was chosen.
        metrics: of the validation split: all of the task's, "loss" included.
        seconds: that finding it took.
        path: every λ that was tried, from the strongest on.
    """

    weight: Tensor
    bias: Tensor
    l2: float
    metrics: dict[str, float]
    seconds: float
    path: tuple[Point, ...]


@dataclass(frozen=True, eq=False)
class _Basis:
    """The principal axes of the training split's standardized features.

    Args:
        mean: (D,); deviation: (D,); axes: V, (D, r); spread: S, (r,); all float64.
    """

    mean: Tensor
    deviation: Tensor
    axes: Tensor
    spread: Tensor

    def turned(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """Return Z of (N, D) features, (N, r)."""
        map_ = (self.axes / self.deviation[:, None]).to(dtype)
        mean = self.mean.to(dtype)
        rows = max(1, _CHUNK_NUMBERS // features.shape[1])
        return torch.cat([(part.to(dtype) - mean) @ map_ for part in torch.split(features, rows)])

    def head(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return W and b for features as they are given, of A (C, r) and b for Z."""
        raw = weight @ self.axes.T / self.deviation
        return raw, bias - raw @ self.mean


@dataclass(frozen=True, eq=False)
class _Fit:
    """A head on Z, float64, and how well it does."""

    l2: float
    objective: float
    weight: Tensor
    bias: Tensor
    metrics: dict[str, float]


def _nothing() -> None:
    pass


def probe(  # noqa: PLR0917 (two splits, and what is learned from them)
    features: Tensor,
    targets: Tensor,
    val_features: Tensor,
    val_targets: Tensor,
    task: Task,
    num_outputs: int,
    *,
    metric: str | None = None,
    tick: Callable[[], None] = _nothing,
) -> Probe:
    """Return the best linear head.

    Args:
        features: (N, D) float; on a CUDA device, all is computed there.
        targets: (N,).
        val_features: (M, D) float.
        val_targets: (M,).
        task: what is learned.
        num_outputs: C.
        metric: of the task, by which λ is chosen; null: its default. Ties go to the stronger λ.
        tick: called before every evaluation of F; what it raises passes.
    """
    start = time.perf_counter()
    name = metric or task.default_metric
    sign = 1 if task.metrics[name] == "maximize" else -1
    search = _Search((features, targets), (val_features, val_targets), task, num_outputs, tick)
    fits: list[_Fit] = []
    for l2 in L2:
        fits.append(search.minimum(l2, _ROUGH, fits[-1] if fits else None))
        best = max(fits, key=lambda fit: sign * fit.metrics[name])  # the first of equals
        lowest = min(fits, key=lambda fit: fit.metrics["loss"])
        if len(fits) - 1 - max(fits.index(best), fits.index(lowest)) >= _PATIENCE:
            break
    found = search.minimum(best.l2, _FINE, best)
    weight, bias = (part.float().cpu() for part in search.basis.head(found.weight, found.bias))
    path = tuple(Point(fit.l2, fit.objective, fit.metrics[name]) for fit in fits)
    return Probe(weight, bias, best.l2, found.metrics, time.perf_counter() - start, path)


def _basis(features: Tensor, rows: int) -> _Basis:
    """Return the axes of (N, D) features, read a few rows at a time.

    Where N ≤ D, they come from X Xᵀ = U S² Uᵀ, without the directions that hold nothing.
    """
    parts = torch.split(features, rows)
    mean = torch.stack([part.double().sum(dim=0) for part in parts]).sum(dim=0) / len(features)
    squares = torch.stack([(part.double() - mean).square().sum(dim=0) for part in parts])
    deviation = (squares.sum(dim=0) / len(features)).sqrt()
    # A feature that is always the same says nothing, and rounding must not be blown up.
    deviation = torch.where(deviation > 1e-6 * deviation.max(), deviation, 1.0)
    if len(features) > features.shape[1]:
        gram = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=features.device)
        for part in parts:
            turned = (part.double() - mean) / deviation
            gram.addmm_(turned.T, turned)
        squared, axes = torch.linalg.eigh(gram)
        return _Basis(mean, deviation, axes, squared.clamp(min=0).sqrt())
    standard = (features.double() - mean) / deviation
    squared, left = torch.linalg.eigh(standard @ standard.T)
    held = squared > 1e-10 * squared[-1]
    spread = squared[held].sqrt()
    return _Basis(mean, deviation, standard.T @ (left[:, held] / spread), spread)


class _Search:
    """Minima of F for one data set."""

    def __init__(
        self,
        train: tuple[Tensor, Tensor],
        val: tuple[Tensor, Tensor],
        task: Task,
        outputs: int,
        tick: Callable[[], None],
    ) -> None:
        features, targets = train
        device = features.device
        dtype = torch.float64 if features.numel() <= _EXACT_NUMBERS else torch.float32
        self.basis = _basis(features, max(1, _CHUNK_NUMBERS // features.shape[1]))
        self._turned = self.basis.turned(features, dtype)
        self._val = self.basis.turned(val[0].to(device), dtype)
        self._targets, self._val_targets = targets.to(device)[None], val[1].to(device)
        self._task, self._loss, self._tick = task, loss_of(task), tick
        self._shape = outputs, len(self.basis.spread) + 1

    def minimum(self, l2: float, tolerance: float, start: _Fit | None) -> _Fit:
        """Return the minimum of F for a λ, searched for from another's."""
        from scipy.optimize import minimize  # 0.4 s, which a worker that probes nothing is spared

        head = torch.zeros(self._shape, dtype=torch.float64, device=self._turned.device)
        if start is not None:
            head = torch.cat([start.weight, start.bias[:, None]], dim=1)
        scale = self._scale(l2, head)
        value, _ = self._value(head, l2)
        result = minimize(
            lambda flat: self._scaled(flat, scale, l2),
            (head / scale).cpu().numpy().ravel(),
            jac=True,
            method="L-BFGS-B",
            # The gradient's square is about twice what F can still lose.
            options={"ftol": tolerance, "gtol": math.sqrt(tolerance * value)},
        )
        head = self._unflattened(result.x) * scale
        weight, bias = head[:, :-1], head[:, -1]
        (metrics,) = measure(self._task, self._outputs(self._val, head), self._val_targets)
        return _Fit(l2, float(result.fun), weight, bias, metrics)

    def _scale(self, l2: float, head: Tensor) -> Tensor:
        """Return t, and the same for the biases, whose S² is N, (1, r + 1) float64.

        h is vᵀ H v / C for signs v drawn at random, by a difference of gradients.
        Source: Hutchinson 1990, "A Stochastic Estimator of the Trace", equation 1.
        """
        outputs = self._outputs(self._turned, head)
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(2, outputs.shape, generator=generator).to(outputs) * 2 - 1
        step = 1e-2 * max(1.0, float(outputs.abs().mean()))
        there, here = (self._slope(outputs + shift * signs) for shift in (step, -step))
        curvature = float(((there - here) * signs).sum()) / (2 * step * len(head))
        curvature = curvature if curvature > 0 else 1.0
        squares = self.basis.spread.square() / len(self._turned)
        weights = (curvature * squares + l2 / len(self._turned)).rsqrt()
        return torch.cat([weights, weights.new_full((1,), curvature**-0.5)])[None]

    def _slope(self, outputs: Tensor) -> Tensor:
        return self._loss(outputs, self._targets, outputs.new_zeros(1))[1]

    def _outputs(self, turned: Tensor, head: Tensor) -> Tensor:
        """Return (1, C, N) of (N, r)."""
        head = head.to(turned.dtype)
        return torch.addmm(head[:, -1:], head[:, :-1], turned.T)[None]

    def _value(self, head: Tensor, l2: float) -> tuple[float, Tensor]:
        """Return F and its gradient by the head, (C, r + 1) float64."""
        self._tick()
        outputs = self._outputs(self._turned, head)
        losses, slope = self._loss(outputs, self._targets, outputs.new_zeros(1))
        weight, share = head[:, :-1], l2 / len(self._turned)
        by_weight = (slope[0] @ self._turned).double().add_(weight, alpha=share)
        gradient = torch.cat([by_weight, slope[0].sum(dim=1, keepdim=True).double()], dim=1)
        return float(losses) + share / 2 * float(weight.square().sum()), gradient

    def _scaled(
        self, flat: NDArray[np.float64], scale: Tensor, l2: float
    ) -> tuple[float, NDArray[np.float64]]:
        value, gradient = self._value(self._unflattened(flat) * scale, l2)
        return value, (gradient * scale).cpu().numpy().ravel()

    def _unflattened(self, flat: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(flat).view(self._shape).to(self._turned.device)
