"""The density of a Parzen estimator at a few points, for as many kernels as a study has trials.

Optuna evaluates each kernel at each point and parameter in turn. Here the logarithm of all kernels
at all points is one matrix product: a Gaussian's exponent is linear in (x², x, 1), and a choice's
probability linear in its one-hot code. The sums are the same, so the numbers agree to rounding.

Source: Bergstra et al. 2011, "Algorithms for hyper-parameter optimization"; Watanabe 2023,
arXiv:2304.11127 (kernels, bandwidths, weights), as Optuna's `_ParzenEstimator` has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers._tpe._truncnorm import _log_gauss_mass
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimatorParameters

from tunesvc.search.memory import Floats

_FAR = 8.5  # standard deviations beyond which a Gaussian's tail is below the rounding of 1
_NO_MASS = -1e9  # its logarithm; minus infinity times zero is no number
_NOTHING = -700.0  # the exponent of nothing, beside 1; below it `exp` is slow: no normal numbers


@dataclass(frozen=True)
class _Term:
    """One parameter's part of the exponent: `points @ kernels + constant`.

    Args:
        points: float64 (points, features).
        kernels: float64 (features, kernels).
        constant: float64 (kernels,) or a number.
    """

    points: Floats
    kernels: Floats
    constant: Floats | float


def log_density(
    points: Mapping[str, Floats],
    observed: Floats,
    space: Mapping[str, BaseDistribution],
    parameters: _ParzenEstimatorParameters,
) -> Floats:
    """Return the log density at each point: float64 (points,).

    Args:
        points: for each parameter its values, float64 (points,), as Optuna represents them.
        observed: float64 (parameters, trials), oldest trial first, in the order of `space`.
        space: the parameters.
        parameters: of the estimator; its kernels are the trials and, last, the prior.
    """
    terms = [
        _term(points[name], values, distribution, parameters)
        for (name, distribution), values in zip(space.items(), observed, strict=True)
    ]
    constant = sum(term.constant for term in terms) + _log_weights(observed.shape[1], parameters)
    left = [term.points for term in terms] + [np.ones((len(terms[0].points), 1))]
    exponent = np.hstack(left) @ np.vstack([term.kernels for term in terms] + [constant])
    highest = exponent.max(axis=1, keepdims=True)
    exponent -= highest
    np.maximum(exponent, _NOTHING, out=exponent)
    return np.asarray(np.log(np.exp(exponent, out=exponent).sum(axis=1)) + highest[:, 0])


def _log_weights(trials: int, parameters: _ParzenEstimatorParameters) -> Floats:
    if not trials:
        return np.zeros(1)
    weights = np.append(parameters.weights(trials), parameters.prior_weight)
    return np.asarray(np.log(weights / weights.sum()))


def _term(
    x: Floats,
    observed: Floats,
    distribution: BaseDistribution,
    parameters: _ParzenEstimatorParameters,
) -> _Term:
    if isinstance(distribution, CategoricalDistribution):
        return _choice(x, observed, len(distribution.choices), parameters.prior_weight)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return _number(x, observed, distribution)


def _choice(x: Floats, observed: Floats, choices: int, prior_weight: float) -> _Term:
    """Each kernel prefers its own choice; the prior, none."""
    kernels = len(observed) + 1
    weights = np.full((choices, kernels), prior_weight / kernels)
    weights[observed.astype(np.int64), np.arange(kernels - 1)] += 1
    weights /= weights.sum(axis=0)
    return _Term(np.eye(choices)[x.astype(np.int64)], np.log(weights), 0.0)


def _number(
    x: Floats, observed: Floats, distribution: FloatDistribution | IntDistribution
) -> _Term:
    """Truncated Gaussians around the trials' values, and one over the whole range."""
    half = (distribution.step or 0.0) / 2
    low, high = distribution.low - half, distribution.high + half
    if distribution.log:
        low, high, observed = math.log(low), math.log(high), np.log(observed)
    mean = np.append(observed, 0.5 * (low + high))
    deviation = np.append(_bandwidths(observed, low, high), high - low)
    if distribution.step is None:
        x = np.log(x) if distribution.log else x
        return _continuous(x, mean, deviation, (low, high))
    values, which = np.unique(x, return_inverse=True)
    left, right = values - half, values + half
    if distribution.log:
        left, right = np.log(left), np.log(right)
    inside = _mass_between(np.stack([left, right]), mean, deviation, (low, high))
    return _Term(np.eye(len(values))[which], inside, 0.0)


def _continuous(x: Floats, mean: Floats, deviation: Floats, ends: tuple[float, float]) -> _Term:
    """Why: 2026-11: in units of the range around its middle, so that x² - 2·x·mean + mean² loses
    no more than 1e-12 to rounding.
    """
    low, high = ends
    middle, width = 0.5 * (low + high), high - low
    mass = _log_mass((low - mean) / deviation, (high - mean) / deviation)
    x, mean, precision = (x - middle) / width, (mean - middle) / width, (width / deviation) ** 2
    constant = -0.5 * mean**2 * precision - np.log(deviation) - 0.5 * math.log(2 * math.pi) - mass
    return _Term(
        np.stack([x**2, x], axis=1), np.stack([-0.5 * precision, mean * precision]), constant
    )


def _mass_between(
    steps: Floats, mean: Floats, deviation: Floats, ends: tuple[float, float]
) -> Floats:
    """Return the log mass that each kernel has in each step: float64 (steps, kernels).

    Of the kernels many are equal: each distinct one is computed once.
    """
    kernels, kernel = np.unique(mean + 1j * deviation, return_inverse=True)
    a, b = ((end[:, None] - kernels.real) / kernels.imag for end in steps)
    inside = _log_gauss_mass(a.ravel(), b.ravel()).reshape(a.shape)
    low, high = ((end - kernels.real) / kernels.imag for end in ends)
    inside -= _log_mass(low, high)
    return np.asarray(np.maximum(inside, _NO_MASS)[:, kernel])


def _bandwidths(observed: Floats, low: float, high: float) -> Floats:
    """Return each kernel's deviation: the distance to its farther neighbour, within limits."""
    if not len(observed):
        return np.empty(0)
    order = np.argsort(observed)
    with_ends = np.concatenate([[low], observed[order], [high]])
    gaps = np.diff(with_ends)
    farther = np.maximum(gaps[:-1], gaps[1:])
    if len(with_ends) >= 4:  # the ends of the range are no neighbours
        farther[0], farther[-1] = gaps[1], gaps[-2]
    deviations = np.empty(len(observed))
    deviations[order] = farther
    least = (high - low) / min(100.0, 2.0 + len(observed))
    return np.asarray(np.clip(deviations, least, high - low))


def _log_mass(a: Floats, b: Floats) -> Floats:
    """Return the log of a standard Gaussian's mass between a and b, computed where it is not 0."""
    mass = np.zeros(len(a))
    near = (a > -_FAR) | (b < _FAR)
    mass[near] = _log_gauss_mass(a[near], b[near])
    return mass
