"""What a trial is going to cost: seconds of finished trials → those of points that may be drawn.

    y = log(seconds + floor), less its mean  K = kernel of finished trials with each other
    k = kernel of points with these          of the points: k (K + noise I)⁻¹ y, without the mean

    kernel(x, x') = Σ_d s_d + Σ_{d<e} s_d s_e      s_d: likeness of two trials in one parameter

A choice is like itself (1) and no other (0). A number stands on a scale, logarithmic if it is drawn
so, on which its range has the mean 0 and the deviation 1; s is the product of two places.

Why: 2026-11: seconds are a product (a backbone's operations times the share of them that a strategy
trains times passes), so that their logarithm is a sum of one effect per parameter; and frozen
stages, whose outputs are kept, make a product of two parameters of it: a probe costs the same on
every backbone. That is this kernel, ridge regression on all parameters and pairs of them, without
its thousands of columns. Simple models of few effects predict training times as well as Gaussian
processes in all generality do (Guinet, Perrone, Archambeau 2020, arXiv:2011.11456, section 5), and
say something from the first ten trials on, when most combinations were never met.

Why: 2026-11: how much is noise is chosen by leaving one trial out, in closed form (Rasmussen and
Williams 2006, section 5.4.2). Where no choice foretells a trial's seconds better than the mean of
the others does, all is noise: drawn in groups, these parameters need not be those that cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from tunesvc.search.memory import Floats

MOST = 128  # trials that are learned from: more would only cost time
NOISES = (0.03, 0.3, 3.0)  # variance of a trial's own, with that of an effect as the unit


def log_seconds(
    points: Mapping[str, Floats],
    observed: Floats,
    seconds: Floats,
    space: Mapping[str, BaseDistribution],
    floor: float,
) -> Floats:
    """Return log(seconds + floor) at each point, up to a number all have in common: (points,).

    It is 0 everywhere while nothing is known, or nothing that parameters would explain.

    Args:
        points: for each parameter its values, float64 (points,), as Optuna represents them.
        observed: float64 (parameters, trials), in the order of `space`.
        seconds: float64 (trials,), above 0.
        space: the parameters.
        floor: seconds that are as good as none.
    """
    if len(seconds) > MOST:  # evenly, from the random beginning to the latest
        some = np.linspace(0, len(seconds) - 1, MOST).round().astype(np.int64)
        observed, seconds = observed[:, some], seconds[some]
    wanted, kinds = np.stack([points[name] for name in space]), list(space.values())
    if len(seconds) < 2 or np.ptp(seconds) == 0:
        return np.zeros(wanted.shape[1])
    y = np.log(seconds + floor)
    weights = _weights(_kernel(observed, observed, kinds), y - y.mean())
    return np.asarray(_kernel(wanted, observed, kinds) @ weights)


def _weights(kernel: Floats, y: Floats) -> Floats:
    """Return (K + noise I)⁻¹ y for the noise that foretells best, or 0 if the mean does."""
    best, least = np.zeros_like(y), float(np.sum((y * len(y) / (len(y) - 1)) ** 2))
    for noise in NOISES:
        inverse = np.linalg.inv(kernel + noise * np.eye(len(y)))
        weights = inverse @ y
        error = float(np.sum((weights / np.diag(inverse)) ** 2))
        if error < least:
            best, least = weights, error
    return best


def _kernel(left: Floats, right: Floats, kinds: Sequence[BaseDistribution]) -> Floats:
    """Return how much alike trials are: float64 (left, right)."""
    single = np.zeros((left.shape[1], right.shape[1]))
    squares = np.zeros_like(single)
    for one, other, kind in zip(left, right, kinds, strict=True):
        alike = _alike(one, other, kind)
        single += alike
        squares += alike**2
    return np.asarray(single + 0.5 * (single**2 - squares))


def _alike(one: Floats, other: Floats, kind: BaseDistribution) -> Floats:
    if isinstance(kind, CategoricalDistribution):
        return np.asarray(one[:, None] == other[None, :], float)
    assert isinstance(kind, FloatDistribution | IntDistribution)
    return np.outer(_place(one, kind), _place(other, kind))


def _place(values: Floats, kind: FloatDistribution | IntDistribution) -> Floats:
    low, high = float(kind.low), float(kind.high)
    if kind.log:
        low, high, values = math.log(low), math.log(high), np.log(values)
    return np.asarray((2 * values - low - high) / (high - low) * math.sqrt(3))
