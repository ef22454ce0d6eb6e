"""Agreement of two orders, and how sure it is."""

from __future__ import annotations

from math import asin, factorial, nan, pi, sqrt

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from tunesvc.analysis.rank_correlation import RankCorrelation, rank_correlation
from tunesvc.analysis.table import Unsupported


def correlated(count: int, rho: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    first, rest = rng.standard_normal((2, count))
    return np.exp(first), rho * first + sqrt(1 - rho**2) * rest


def known(one: object, other: object) -> RankCorrelation:
    found = rank_correlation(one, other)  # type: ignore[arg-type]
    assert isinstance(found, RankCorrelation), found
    return found


def test_the_numbers_are_scipys() -> None:
    """With ties as well; pairs that are no numbers are left out."""
    one, other = [1.0, 2, 2, 3, 5, 9], [2.0, 1, 3, 3, 8, 7]
    found = known([*one, nan, 4], [*other, 1, nan])
    assert found.count == found.kendall.trials == 6
    assert found.kendall.value == pytest.approx(kendalltau(one, other).statistic)
    assert found.spearman.value == pytest.approx(spearmanr(one, other).statistic)


@pytest.mark.parametrize("count", [4, 5, 7])
def test_few_pairs_that_agree_prove_little(count: int) -> None:
    """p is that of 2 in n! orders, and the interval is wide, also where every pair agrees."""
    found = known(range(count), range(count))
    assert found.kendall.value == found.kendall.high == 1
    assert found.p == pytest.approx(2 / factorial(count))
    assert found.kendall.low < {4: 0.15, 5: 0.45, 7: 0.8}[count]
    reverse = known(range(count), range(count)[::-1])
    assert reverse.kendall.value == reverse.kendall.low == -1
    assert reverse.p == found.p
    assert reverse.kendall.high == pytest.approx(-found.kendall.low, abs=0.1)


@pytest.mark.parametrize("count", [5, 12, 40])
@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_intervals_hold_the_truth(count: int, rho: float) -> None:
    """Nine times in ten or more, whatever the scale of the values."""
    rng, held = np.random.default_rng(5), np.zeros(2)
    truth = 2 / pi * asin(rho), 6 / pi * asin(rho / 2)
    for _ in range(100):
        found = known(*correlated(count, rho, rng))
        for which, estimate in enumerate((found.kendall, found.spearman)):
            held[which] += estimate.low <= truth[which] <= estimate.high
    assert (held >= 84).all()
    assert found.kendall.high - found.kendall.low < 2


def test_chance_is_as_rare_as_scipy_says() -> None:
    """With more orders than can be listed, some are drawn."""
    one, other = correlated(12, 0.5, np.random.default_rng(2))
    expected = kendalltau(one, other).pvalue
    assert known(one, other).p == pytest.approx(expected, abs=0.01)


def test_the_same_every_time() -> None:
    """Chance is seeded."""
    one, other = correlated(12, 0.5, np.random.default_rng(2))
    assert known(one, other) == known(one, other)


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ([], [], "needs 4 pairs, has 0"),
        ([1, 2, 3], [1, 2, 3], "needs 4 pairs, has 3"),
        ([1, 2, 3, nan], [1, 2, 3, 4], "needs 4 pairs, has 3"),
        ([1, 1, 1, 1], [1, 2, 3, 4], "all 4 pairs have the same value"),
    ],
)
def test_too_few_pairs_and_equal_ones_tell_nothing(
    one: list[float], other: list[float], why: str
) -> None:
    """The reason is told."""
    assert rank_correlation(one, other) == Unsupported(why)
