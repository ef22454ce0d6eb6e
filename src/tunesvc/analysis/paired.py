"""Configurations run with the same seeds: means, differences, and how sure they are.

    n    seeds that both have a value for        d    one seed's difference, as a score
    s    standard deviation of d over the seeds

Why: 2026-11: run number i of every configuration has the same seed, so the order of the images,
what augmentation draws and the new head are the same; what these do to both cancels in d.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np
from scipy import stats

from tunesvc.analysis.table import LEVEL, Estimate, Unsupported

Values = Mapping[int, float]  # of the objective, by the number of the seed; NaN: it came to no end

_ABOVE = (1 + LEVEL) / 2  # quantile of an interval's upper end


@dataclass(frozen=True)
class Spread:
    """What the seed alone does to a value.

    Args:
        sd: standard deviation over seeds, in the objective's unit.
        freedom: its degrees of freedom.
    """

    sd: float
    freedom: int


@dataclass(frozen=True)
class Comparison:
    """Two configurations over the same seeds.

    Args:
        difference: mean score of the first less that of the second: positive is in the first's
            favour, whatever the direction; in the objective's unit.
        p: of a two-sided paired t-test that there is none.
        better: the probability that one run of the first beats one of the second on the same seed.
        seeds: that both have a value for.
    """

    first: str
    second: str
    difference: Estimate
    p: float
    better: Estimate
    seeds: int


def spread(groups: Sequence[Values]) -> Spread | Unsupported:
    """Return the standard deviation over seeds, pooled over configurations."""
    known = [values for group in groups if len(values := finite(group)) >= 2]
    freedom = sum(len(values) - 1 for values in known)
    if not freedom:
        return Unsupported("needs one configuration with 2 seeds, has none")
    squares = sum(float(np.var(values, ddof=1)) * (len(values) - 1) for values in known)
    return Spread(sqrt(squares / freedom), freedom)


def spread_interval(found: Spread, unit: str) -> Estimate:
    """Return a standard deviation with its interval, that of normal values.

    Source: NIST/SEMATECH e-Handbook of Statistical Methods, 7.2.3.1.
    """
    low, high = (
        found.sd * sqrt(found.freedom / float(stats.chi2.ppf(share, found.freedom)))
        for share in (_ABOVE, 1 - _ABOVE)
    )
    return Estimate(found.sd, low, high, found.freedom + 1, unit)


def mean(values: Values, unit: str, noise: Spread | Unsupported) -> Estimate | Unsupported:
    """Return the mean over seeds with its t-interval.

    Args:
        noise: stands in for the values' own spread where there is one value only.
    """
    known = finite(values)
    if not known:
        return Unsupported("no run of it came to its end")
    if len(known) >= 2:
        noise = Spread(float(np.std(known, ddof=1)), len(known) - 1)
    if not isinstance(noise, Spread):
        return Unsupported("needs 2 seeds, has 1")
    return _around(float(np.mean(known)), noise, len(known), unit)


def gain(
    first: Values, second: Values, sign: float, unit: str, noise: Spread | Unsupported
) -> Estimate | Unsupported:
    """Return by how much the first's score is above the second's, over the seeds of both.

    Args:
        sign: 1 where larger is better, else -1.
        noise: of a single run; it tells how sure a difference is that was seen on one seed only.
    """
    d = differences(first, second, sign)
    if not len(d):
        return Unsupported("they have no seed in common")
    if len(d) >= 2:
        noise = Spread(float(np.std(d, ddof=1)), len(d) - 1)
    elif isinstance(noise, Spread):
        noise = Spread(noise.sd * sqrt(2), noise.freedom)
    if not isinstance(noise, Spread):
        return Unsupported("needs 2 seeds, has 1")
    return _around(float(np.mean(d)), noise, len(d), unit)


def compare(
    first: tuple[str, Values], second: tuple[str, Values], sign: float, unit: str
) -> Comparison | Unsupported:
    """Return how two configurations, each a name and its values, stand to each other."""
    d = differences(first[1], second[1], sign)
    if len(d) < 2:
        return Unsupported(f"needs 2 seeds that both have a value for, has {len(d)}")
    difference = gain(first[1], second[1], sign, unit, Unsupported(""))
    assert isinstance(difference, Estimate)
    above = p_above(d)
    p = min(1.0, 2 * min(above, 1 - above))
    return Comparison(first[0], second[0], difference, p, probability(d), len(d))


def p_above(d: Sequence[float], resolution: float = 0.0) -> float:
    """Return the p-value of a one-sided paired t-test that the mean of `d` is not above 0.

    Args:
        d: at least two differences.
        resolution: steps that values come in (1 / images for an accuracy); `s` is taken to be no
            smaller than what rounding to them does to a difference.
    """
    s = max(float(np.std(d, ddof=1)), resolution / sqrt(6))
    middle = float(np.mean(d))
    if s == 0:
        return 0.5 if middle == 0 else float(middle < 0)
    return float(stats.t.sf(middle / s * sqrt(len(d)), len(d) - 1))


def probability(d: Sequence[float]) -> Estimate:
    """Return the share of seeds with d > 0 (of equals, half), with Jeffreys' interval.

    Source: Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks",
    equation 9, for P(A > B); Brown, Cai & DasGupta 2001, "Interval Estimation for a Binomial
    Proportion", section 3.1.2, for the interval: theirs, by bootstrap, is too short at five seeds.
    """
    n = len(d)
    won = float(sum(1.0 if each > 0 else 0.5 if each == 0 else 0.0 for each in d))
    low, high = stats.beta.ppf([1 - _ABOVE, _ABOVE], won + 0.5, n - won + 0.5)
    low, high = (0.0 if won == 0 else float(low)), (1.0 if won == n else float(high))
    return Estimate(won / n, low, high, n, "probability")


def differences(first: Values, second: Values, sign: float) -> list[float]:
    """Return the first's score less the second's for each seed that both have a value for."""
    both = (seed for seed in first if seed in second)
    found = (sign * (first[seed] - second[seed]) for seed in both)
    return [d for d in found if isfinite(d)]


def finite(values: Values) -> list[float]:
    """Return the values of runs that came to their end."""
    return [value for value in values.values() if isfinite(value)]


def _around(middle: float, noise: Spread, n: int, unit: str) -> Estimate:
    half = float(stats.t.ppf(_ABOVE, noise.freedom)) * noise.sd / sqrt(n)
    return Estimate(middle, middle - half, middle + half, n, unit)
