"""How well features that stand still suit a task, without training: LogME and the H-score.

    N       images of the training split
    D       features of an image; F (N, D) all of them, as they are given
    C       classes; y one of C targets (N,): 1 where an image is of the class, else 0
    r       rank of F = U S Vᵀ, with S (r,); x = Uᵀ y
    α, β    precision of a linear head's weights w ~ N(0, 1/α), and of the targets' noise
    Σ       covariance of the features, with eigenvalues λ; Σ_B that of the classes' means
    δ       share by which Σ is shrunk towards μ·I, μ the mean of λ

LogME is the largest log evidence log p(y | F, α, β) / N over α and β, averaged over the classes.
Source: You, Liu, Wang & Long 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer
Learning", equations 2 and 3, algorithm 1 (arXiv 2102.11005).

The H-score is tr(Σ⁻¹ Σ_B): how much of the features' spread is between classes.
Source: Bao et al. 2019, "An Information-Theoretic Approach to Transferability in Task Transfer
Learning", definition 2; with Σ shrunk, (1-δ)·tr(Σ_δ⁻¹ Σ_B): Ibrahim, Ponomareva & Mazumder 2021,
"Newer is not always better", equation 5 (arXiv 2110.06893), and δ after Ledoit & Wolf 2004.

Why: 2026-11: the shrunk form always. The plain one inverts Σ, which cannot be done with fewer
images than features, as fine-tuning mostly has; there it is C-1 for every backbone.

Why: 2026-11: everything comes out of the eigenvalues of the smaller of F Fᵀ and FᵀF, so that both
scores together take less time than the linear probe of the same features.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_STEPS = 100  # of the fixed-point iteration; it needs about ten
_SETTLED = 1e-4  # relative change of α/β at which it ends
_TINY = 1e-12  # of the largest eigenvalue: what is below is rounding
_FLOOR = 1e-10  # of a sum of squares that divides, where a fit is perfect or empty
_CHUNK_NUMBERS = 2**24


@dataclass(frozen=True)
class Transferability:
    """What two cheap predictors say of a backbone; larger is better, None: not to be had, as where
    a feature is no finite number.

    Args:
        logme: log evidence of an image, in nats; for numbers to be predicted, of targets that are
            standardized.
        h_score: between 0 and C-1; only for classes.
        seconds: that both took.
    """

    logme: float | None
    h_score: float | None
    seconds: float


def _nothing() -> None:
    pass


def transferability(
    features: Tensor, targets: Tensor, *, tick: Callable[[], None] = _nothing
) -> Transferability:
    """Score features by how well they suit the targets.

    Args:
        features: (N, D) float; on a CUDA device, all is computed there.
        targets: (N,) classes as integers, or numbers to be predicted as floats.
        tick: called before every part of the work; what it raises passes.
    """
    start = time.perf_counter()
    if not bool(features.isfinite().all()):
        return Transferability(None, None, time.perf_counter() - start)
    is_number, nothing = targets.is_floating_point(), torch.zeros_like(features[0]).double()
    wanted = (_standardized if is_number else _one_hot)(targets.to(features.device))
    spread, turned = _turned(features, nothing, wanted, tick)
    # In units of the features' root mean square, so that their scale does not matter.
    unit = (spread.square().sum() / features.numel()).sqrt()
    logme = _logme(spread / unit, turned, wanted)
    h_score = None if is_number else _h_score(features, wanted, tick)
    return Transferability(logme, h_score, time.perf_counter() - start)


def _standardized(targets: Tensor) -> Tensor:
    """Return (N, 1) float64 with mean 0 and, where they differ at all, deviation 1."""
    centred = targets.double() - targets.double().mean()
    return centred[:, None] / centred.std(correction=0).clamp(min=math.sqrt(_FLOOR))


def _one_hot(targets: Tensor) -> Tensor:
    """Return (N, C) float64 of the classes that there are images of."""
    every = torch.nn.functional.one_hot(targets).double()
    return every[:, every.sum(dim=0) > 0]


def _turned(
    features: Tensor, mean: Tensor, wanted: Tensor, tick: Callable[[], None]
) -> tuple[Tensor, Tensor]:
    """Return S (r,) of features less their mean, and Uᵀ Y (r, C) of targets Y, all float64.

    Args:
        features: (N, D), read a few rows at a time where they are many.
        mean: (D,).
        wanted: Y, (N, C).
    """
    tick()
    if len(features) <= features.shape[1]:
        centred = features.double() - mean
        squares, left = torch.linalg.eigh(centred @ centred.T)
        held = squares > _TINY * squares[-1].clamp(min=0)
        return squares[held].sqrt(), left[:, held].T @ wanted
    gram = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=features.device)
    product = torch.zeros(len(mean), wanted.shape[1], dtype=torch.float64, device=features.device)
    rows = max(1, _CHUNK_NUMBERS // features.shape[1])
    for part, own in zip(torch.split(features, rows), torch.split(wanted, rows), strict=True):
        tick()
        centred = part.double() - mean
        gram.addmm_(centred.T, centred)
        product.addmm_(centred.T, own)
    squares, axes = torch.linalg.eigh(gram)
    held = squares > _TINY * squares[-1].clamp(min=0)
    spread = squares[held].sqrt()
    return spread, (axes[:, held] / spread).T @ product


def _logme(spread: Tensor, x: Tensor, wanted: Tensor) -> float:
    """Return the mean of the largest evidence of each column.

    Args:
        spread: S, (r,).
        x: Uᵀ y for each target, (r, C).
        wanted: the targets y, (N, C).
    """
    count, squares = len(wanted), spread.square()[:, None]
    rest = (wanted.square().sum(dim=0) - x.square().sum(dim=0)).clamp(min=0)
    alpha, beta = torch.ones_like(rest), torch.ones_like(rest)
    for _ in range(_STEPS):
        before = alpha / beta
        size, error = _fit(squares, x, rest, before)
        gamma = (squares / (squares + before)).sum(dim=0)
        alpha = gamma / size.clamp(min=_FLOOR)
        beta = (count - gamma) / error.clamp(min=_FLOOR)
        if bool(((alpha / beta - before).abs() <= _SETTLED * before).all()):
            break
    size, error = _fit(squares, x, rest, alpha / beta)
    # Of the D directions those that hold nothing cancel: log α here, log α in the determinant.
    determinant = (torch.log1p(squares * (beta / alpha))).sum(dim=0)
    evidence = count * (beta / (2 * math.pi)).log() - determinant - beta * error - alpha * size
    return float(evidence.mean() / (2 * count))


def _fit(squares: Tensor, x: Tensor, rest: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Return ‖w‖² and ‖y - F w‖², (C,) each, of the most likely weights where α/β is `ratio`."""
    size = (squares * (x / (squares + ratio)).square()).sum(dim=0)
    error = rest + (x * (ratio / (squares + ratio))).square().sum(dim=0)
    return size, error


def _h_score(features: Tensor, classes: Tensor, tick: Callable[[], None]) -> float:
    """Return the shrunk H-score; 0 where no feature varies.

    Args:
        classes: (N, C), 1 where an image is of a class, which has at least one.
    """
    count, width = features.shape
    mean = features.double().mean(dim=0)
    spread, turned = _turned(features, mean, classes, tick)
    values, level = spread.square() / count, float(spread.square().sum()) / count / width
    parts = torch.split(features, max(1, _CHUNK_NUMBERS // width))
    norms = torch.cat([(part.double() - mean).square().sum(dim=1) for part in parts])
    shrunk = _shrinkage(values, norms, width)
    sizes = classes.sum(dim=0)
    means = turned * spread[:, None] / sizes  # of each class, along each axis
    between = (means.square() * sizes / count).sum(dim=1)
    return float((1 - shrunk) * (between / ((1 - shrunk) * values + shrunk * level)).sum())


def _shrinkage(values: Tensor, norms: Tensor, width: int) -> float:
    """Return δ.

    Source: Ledoit & Wolf 2004, "A well-conditioned estimator for large-dimensional covariance
    matrices", section 3.3.

    Args:
        values: the eigenvalues λ that are not zero, (r,).
        norms: the squared length of each image's centred features, (N,).
        width: D.
    """
    squares = float(values.square().sum())
    distance = squares - float(values.sum()) ** 2 / width
    noise = (float(norms.square().mean()) - squares) / len(norms)
    return min(max(noise, 0.0), distance) / distance if distance > 0 else 1.0
