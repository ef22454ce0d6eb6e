"""What is read off a surface, on studies with next to nothing to read: no guess, no exception."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from json import dumps
from typing import Any

import numpy as np
import pytest
from known_surface import DEFAULTS, accuracy, known_study, with_states
from landscapes import LANDSCAPES, study

from tunesvc.analysis import surrogate
from tunesvc.analysis.ablation import ablation_path
from tunesvc.analysis.expected_best import expected_best
from tunesvc.analysis.robustness import robustness
from tunesvc.analysis.safe_range import safe_ranges
from tunesvc.analysis.sensitivity import sensitivity
from tunesvc.analysis.table import Trials, Unsupported
from tunesvc.analysis.tunability import tunability


def of_size(count: int) -> Trials:
    """Return the first trials of a study."""
    whole = known_study(count=58, noise=0.02)
    return replace(whole, frame=whole.frame.head(count))


def pruned() -> Trials:
    """Return a study most of whose trials were pruned."""
    return study(LANDSCAPES["pruned"], 60, 0)


def lost(numbers: slice, trials: Trials) -> Trials:
    """Return the study with the values of some finished trials lost."""
    value = trials.frame["value"].copy()
    value.iloc[numbers] = np.nan
    return replace(trials, frame=trials.frame.assign(value=value, last=value))


def one_backbone() -> Trials:
    """Return a study that has tried only one of its backbones."""
    whole = of_size(60)
    return replace(whole, frame=whole.frame[whole.frame["backbone"] == "near"])


def loss(row: Any) -> float:
    """Return a surface to be minimized."""
    return 1.5 - accuracy(row)


HARD: dict[str, Callable[[], Trials]] = {
    "no trial": lambda: of_size(0),
    "one trial": lambda: of_size(1),
    "five trials": lambda: of_size(5),
    "twenty trials": lambda: of_size(20),
    "sixty trials": lambda: of_size(60),
    "all equal": lambda: known_study(count=58, surface=lambda _: 0.5),
    "all equal losses": lambda: known_study(count=58, surface=lambda _: 2.0, direction="minimize"),
    "all pruned, without an epoch": lambda: lost(slice(None), with_states(of_size(60), "PRUNED")),
    "all failed": lambda: with_states(of_size(60), "FAIL"),
    "mostly pruned": pruned,
    "all values lost": lambda: lost(slice(None), of_size(60)),
    "most values lost": lambda: lost(slice(0, 36), of_size(60)),
    "one backbone tried": one_backbone,
    "minimized": lambda: known_study(count=58, surface=loss, direction="minimize", noise=0.02),
    "defaults unknown": lambda: replace(of_size(60), defaults={}),
    "nothing searched": lambda: replace(of_size(60), space=(), defaults={"near": {}, "far": {}}),
    "the default alone, again and again": lambda: known_study(
        [DEFAULTS["near"]] * 30, count=0, noise=0.01
    ),
}


@pytest.mark.parametrize("make", HARD.values(), ids=HARD)
def test_every_measure_tells_something(make: Callable[[], Trials]) -> None:
    """A result whose numbers are finite and inside their intervals, or why there is none."""
    trials = make()
    surface = surrogate.fit(trials)
    told = [
        tunability(trials, surface),
        robustness(trials, surface),
        safe_ranges(trials, surface),
        sensitivity(trials, surface),
        expected_best(trials),
        *(ablation_path(trials, surface, label) for label in trials.backbones),
    ]
    for result in told:
        if isinstance(result, Unsupported):
            assert len(result.why) > 10
        else:
            plain = asdict(result) if not isinstance(result, tuple) else [asdict(r) for r in result]
            dumps(plain, allow_nan=False)
            assert_in_order(plain)


def assert_in_order(plain: Any) -> None:
    """Check that every estimate lies inside its interval."""
    if isinstance(plain, dict):
        if {"low", "high", "unit"} <= plain.keys():
            assert plain["low"] <= plain["value"] <= plain["high"]
        plain = list(plain.values())
    if isinstance(plain, list | tuple):
        for part in plain:
            assert_in_order(part)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_trials_have_no_surface_but_their_values(count: int) -> None:
    """Below twenty only what was observed is told."""
    trials = of_size(count)
    surface = surrogate.fit(trials)
    assert isinstance(surface, Unsupported)
    assert not robustness(trials, surface)
    assert not safe_ranges(trials, surface)
    assert not sensitivity(trials, surface)
    assert not expected_best(trials)
    assert bool(tunability(trials, surface)) == (count > 0)
