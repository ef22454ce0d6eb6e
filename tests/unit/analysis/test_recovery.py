"""Importance against known truth, in small; benchmarks/recovery.py does it at length.

Thresholds are what fewer than one in a thousand right implementations would miss: the wanted rate
less a binomial margin.
"""

from __future__ import annotations

import numpy as np
import pytest
from landscapes import LANDSCAPES, Landscape, study
from oracle import finds_top
from scipy.stats import binom

from tunesvc.analysis.importance import Importance, importance

STUDIES = 5  # of each landscape
TRIALS = 50
CHOSEN = ("additive", "categorical", "conditional", "cliff", "minimise", "pruned")


@pytest.fixture(scope="module")
def results() -> list[tuple[Landscape, Importance]]:
    """Return what was found in studies of several landscapes: there is an answer to each."""
    drawn = ((LANDSCAPES[name], seed) for name in CHOSEN for seed in range(STUDIES))
    tried = [(each, importance(study(each, TRIALS, seed))) for each, seed in drawn]
    answered = [(each, found) for each, found in tried if isinstance(found, Importance)]
    assert len(answered) == len(tried)
    return answered


def at_least(rate: float, n: int) -> int:
    """Return the hits out of `n` that are missed once in a thousand at this rate."""
    return int(binom.ppf(0.001, n, rate))


def test_the_top_knob(results: list[tuple[Landscape, Importance]]) -> None:
    """The knob with the largest share is found in 95 % of studies of 50 trials."""
    hits = [
        next(knob.name for knob in found.knobs if not knob.branch) == landscape.top
        for landscape, found in results
    ]
    assert sum(hits) >= at_least(0.95, len(hits))


def test_the_null_knobs(results: list[tuple[Landscape, Importance]]) -> None:
    """A knob without effect is called noise in 95 % of studies."""
    called = [
        knob.is_noise
        for landscape, found in results
        for knob in found.knobs
        if knob.name in landscape.null
    ]
    assert sum(called) >= at_least(0.95, len(called))


def test_what_matters_is_told_from_noise(results: list[tuple[Landscape, Importance]]) -> None:
    """The noise line is no wall: the largest knob rises above it."""
    seen = [
        not knob.is_noise
        for landscape, found in results
        for knob in found.knobs
        if knob.name == landscape.top
    ]
    assert sum(seen) >= at_least(0.9, len(seen))


def test_intervals(results: list[tuple[Landscape, Importance]]) -> None:
    """Nine in ten intervals hold the true share."""
    inside = [
        knob.share.low - 0.001
        <= max(landscape.truth().mains[knob.name], 0.0)
        <= knob.share.high + 0.001
        for landscape, found in results
        for knob in found.knobs
    ]
    effects = [
        hit
        for hit, (landscape, name) in zip(
            inside, ((one, k.name) for one, found in results for k in found.knobs), strict=True
        )
        if landscape.truth().mains[name] >= 0.005
    ]
    assert np.mean(inside) >= 0.85
    assert sum(effects) >= at_least(0.85, len(effects))


@pytest.mark.parametrize("name", ["additive", "conditional", "pruned"])
def test_the_truth_is_in_the_trials(name: str) -> None:
    """An oracle that is told all but the sizes of effects finds the largest."""
    trials = study(LANDSCAPES[name], TRIALS, 0)
    assert finds_top(LANDSCAPES[name], trials)
