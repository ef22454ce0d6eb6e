"""Sensitivity curves: how the objective moves along one parameter, averaged over all the others.

A curve is a partial dependence: at each value, the mean of the surface over configurations drawn
uniformly from the part of the space where the parameter exists. The same configurations stand
behind every point of a curve, so that its shape is the parameter's own. Where a knob decides which
others exist (`strategy`), each of its values is followed by draws of its own.

Source: Friedman 2001 (Annals of Statistics 29(5)), section 8.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tunesvc.analysis.branches import branch
from tunesvc.analysis.moves import Array, estimate, parents, values_of
from tunesvc.analysis.surrogate import Surrogate
from tunesvc.analysis.table import Dimension, Estimate, Scalar, Trials, Unsupported

POINTS = 17  # of a curve, at most
BACKGROUND = 128  # configurations behind each point
_TRIES = 4096  # configurations among which those of a branch are looked for


@dataclass(frozen=True)
class CurvePoint:
    """The objective at one value of a parameter, averaged over all others, in its own unit."""

    at: Scalar
    value: Estimate


@dataclass(frozen=True)
class Sensitivity:
    """The curve of one parameter.

    Args:
        branch: where it exists; "" if everywhere.
        log: its scale is logarithmic.
        categorical: its values have no order; they come as in the study file.
        trials: finished and pruned ones in which it was drawn.
    """

    name: str
    knob: str
    branch: str
    log: bool
    categorical: bool
    points: tuple[CurvePoint, ...]
    trials: int


def sensitivity(
    trials: Trials, surface: Surrogate | Unsupported
) -> tuple[Sensitivity, ...] | Unsupported:
    """Return a curve for each parameter that some trial drew, in the order of the space."""
    if isinstance(surface, Unsupported):
        return surface
    whole = trials.feasible[trials.feasible["state"].isin(["COMPLETE", "PRUNED"])]
    drawn = surface.encoding.params(whole).notna().sum()
    everywhere = surface.sample(_TRIES, np.random.default_rng(0))
    return tuple(
        _curve(dimension, trials, surface, everywhere, int(drawn[dimension.name]))
        for dimension in trials.space
        if drawn[dimension.name] and everywhere[dimension.name].notna().any()
    )


def _curve(
    dimension: Dimension,
    trials: Trials,
    surface: Surrogate,
    everywhere: pd.DataFrame,
    count: int,
) -> Sensitivity:
    values = values_of(dimension, POINTS)
    here = everywhere[everywhere[dimension.name].notna()].head(BACKGROUND)
    if dimension.knob in parents(trials.space):
        rng = np.random.default_rng(0)
        rows = [surface.sample(BACKGROUND, rng, **{dimension.name: value}) for value in values]
    else:
        rows = [here.assign(**{dimension.name: value}) for value in values]
    means = _means(surface, rows)
    points = (
        CurvePoint(value, estimate(means[:, i], count, trials.metric))
        for i, value in enumerate(values)
    )
    return Sensitivity(
        name=dimension.name,
        knob=dimension.knob,
        branch=branch(dimension),
        log=dimension.log,
        categorical=dimension.kind == "categorical",
        points=tuple(points),
        trials=count,
    )


def _means(surface: Surrogate, groups: list[pd.DataFrame]) -> Array:
    """Return the mean over each group of configurations: (draws, groups)."""
    draws = surface.draws(pd.concat(groups, ignore_index=True))
    ends = np.cumsum([len(group) for group in groups])[:-1]
    return np.stack([part.mean(axis=1) for part in np.split(draws, ends, axis=1)], axis=1)
