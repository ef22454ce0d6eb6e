"""Configurations near those that matter: the default, the best that was tried, and one knob away.

A configuration is the parameters that are drawn in it, by name, as Optuna has them. Where a knob
decides which others exist, those move with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunesvc.analysis.encoding import Encoding, levels
from tunesvc.analysis.surrogate import Surrogate
from tunesvc.analysis.table import LEVEL, Dimension, Estimate, Scalar, Trials, Unsupported

Params = dict[str, Scalar]
Array = NDArray[np.float64]


def parents(space: Iterable[Dimension]) -> frozenset[str]:
    """Return the knobs that decide which other parameters are drawn."""
    return frozenset(knob for dimension in space for knob in dimension.when)


def one(params: pd.DataFrame, row: int) -> Params:
    """Return one row of a frame of params as a configuration."""
    return {str(name): value for name, value in params.iloc[row].items() if not pd.isna(value)}


def frame(encoding: Encoding, configurations: Sequence[Mapping[str, Scalar]]) -> pd.DataFrame:
    """Return configurations as a frame of params."""
    rows = [[params.get(name) for name in encoding.names] for params in configurations]
    return pd.DataFrame(rows, columns=list(encoding.names), dtype=object)


def moved(
    encoding: Encoding,
    base: Mapping[str, Scalar],
    changes: Mapping[str, Scalar],
    fill: Mapping[str, Scalar],
) -> Params:
    """Return a configuration with some parameters changed, and what depends on them moved along.

    A parameter that is drawn only after the change has its value in `fill`, else the nearest to
    what its knob had before, else the middle of its range.
    """
    if parents(encoding.space).isdisjoint(encoding.dimension(name).knob for name in changes):
        return {**base, **changes}
    knobs = {encoding.dimension(name).knob: value for name, value in base.items()}
    values = {
        dimension.name: _value(dimension, (changes, base, fill), knobs.get(dimension.knob))
        for dimension in encoding.space
    }
    return one(encoding.sample(1, np.random.default_rng(0), **values), 0)


def _value(
    dimension: Dimension, sources: Iterable[Mapping[str, Scalar]], before: Scalar | None
) -> Scalar:
    for source in sources:
        if dimension.name in source:
            return source[dimension.name]
    return nearest(dimension, before)


def nearest(dimension: Dimension, value: Scalar | None) -> Scalar:
    """Return the value of a parameter that lies nearest; the middle one where none is near."""
    grid = values_of(dimension)
    if dimension.kind == "categorical":
        return value if value in dimension.choices and value is not None else grid[0]
    if value is None or isinstance(value, str):
        return grid[len(grid) // 2]
    inside = min(max(value, dimension.low or 0.0), dimension.high or 0.0)
    if not levels(dimension):
        return round(inside) if dimension.kind == "int" else inside
    return min(grid, key=lambda near: abs(float(near) - inside))


def values_of(dimension: Dimension, count: int = 25) -> list[Scalar]:
    """Return all values of a parameter, or `count` of them, evenly spaced on its own scale."""
    if dimension.kind == "categorical":
        return list(dimension.choices)
    low, high = float(dimension.low or 0.0), float(dimension.high or 0.0)
    if number := levels(dimension):
        index = np.unique(np.linspace(0, number - 1, min(number, count)).round())
        values = np.minimum(low + index * (dimension.step or 1.0), high)
    elif dimension.log:
        values = np.clip(np.geomspace(low, high, count), low, high)
    else:
        values = np.linspace(low, high, count)
    if dimension.kind == "int":
        return [int(value) for value in np.unique(values.round())]
    return [float(value) for value in np.unique(values)]


def of_backbone(trials: Trials, backbone: str) -> Params:
    """Return what to fix in order to stay with this backbone; nothing if there is no other."""
    several = any(dimension.name == "backbone" for dimension in trials.space)
    return {"backbone": backbone} if several else {}


def place_of(encoding: Encoding, params: Params, knob: str) -> str | None:
    """Return the parameter that holds a knob in this configuration; None where it has none."""
    return next((name for name in params if encoding.dimension(name).knob == knob), None)


def default_of(trials: Trials, backbone: str) -> Params | None:
    """Return the untuned configuration of a backbone; None where it is unknown."""
    default = trials.defaults.get(backbone)
    return None if default is None else {**default, **of_backbone(trials, backbone)}


def best_of(
    tried: pd.DataFrame, trials: Trials, surface: Surrogate | Unsupported
) -> tuple[int, Params]:
    """Return the trial that the surface puts highest, and its configuration.

    Without a surface it is the one with the best value.

    Args:
        tried: finished trials to choose from, at least one.

    Why: 2026-11: the maximum of noisy values belongs to a trial whose noise was favourable; so not
    the value decides but the surface. A tried configuration, because the surface knows it best and
    people can look it up.
    """
    if isinstance(surface, Unsupported):
        params = Encoding(trials).params(tried)
        height = tried["value"].to_numpy(dtype=float)
    else:
        params = surface.encoding.params(tried)
        height = surface.predict(params).mean
    best = int(np.argmax(trials.sign * height))
    return int(tried.index[best]), one(params, best)


def gains(
    trials: Trials, surface: Surrogate, start: Params, ends: Sequence[Mapping[str, Scalar]]
) -> Array:
    """Return what each of these configurations is better than the first.

    Returns:
        (draws, ends) of the surface, in the objective's unit; positive is better.
    """
    draws = surface.draws(frame(surface.encoding, [start, *ends]))
    return np.asarray(trials.sign * (draws[:, 1:] - draws[:, :1]))


def estimate(draws: Array, trials: int, unit: str) -> Estimate:
    """Return the mean of draws of one number as its value, and its interval (`LEVEL`).

    Args:
        draws: (draws,).
    """
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(draws.mean())
    return Estimate(value, min(value, float(low)), max(value, float(high)), trials, unit)
