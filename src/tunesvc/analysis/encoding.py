"""Configurations ↔ points of the unit cube, and whole configurations drawn from a search space.

A *frame of params* has one column for each parameter of the space, by its name, and one row for
each configuration; NaN or None where the parameter is not drawn there.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunesvc.analysis.branches import Branches, Values, plain
from tunesvc.analysis.table import Dimension, Scalar, Trials

Unit = NDArray[np.float64]


class Encoding:
    """The search space of one study as a cube whose uniform distribution is the space's own."""

    def __init__(self, trials: Trials) -> None:
        """Read the space; trials tell where a knob is fixed rather than drawn."""
        self.space = trials.space
        self.names = tuple(dimension.name for dimension in trials.space)
        self._branches = Branches(trials)
        self._knobs = {dimension.knob for dimension in trials.space}
        self._constant = {
            str(column).removeprefix("knob:")
            for column in trials.frame.columns
            if str(column).startswith("knob:")
        }

    def dimension(self, name: str) -> Dimension:
        """Return a parameter by its name."""
        return self.space[self.names.index(name)]

    def params(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame of params of these rows of a table of trials."""
        columns = {name: _column(frame, f"param:{name}") for name in self.names}
        return pd.DataFrame(columns, index=frame.index, dtype=object)

    def unit(self, params: pd.DataFrame) -> Unit:
        """Return the points of configurations.

        Returns:
            (rows, parameters) float64 in [0, 1]; NaN where a parameter is not drawn. Logarithmic
            ranges are taken in their logarithm. The values of a parameter that has `m` of them
            (choices, steps) are the midpoints of `m` equal parts.
        """
        columns = [_to_unit(d, _column(params, d.name)) for d in self.space]
        return np.column_stack(columns) if columns else np.empty((len(params), 0))

    def values(self, unit: Unit) -> pd.DataFrame:
        """Return the frame of params of points as `unit` returns them."""
        columns = {d.name: _from_unit(d, unit[:, i]) for i, d in enumerate(self.space)}
        return pd.DataFrame(columns, index=range(len(unit)), dtype=object)

    def sample(self, n: int, rng: np.random.Generator, **fixed: Scalar) -> pd.DataFrame:
        """Draw whole configurations, uniformly over the space, parents first.

        Each parameter is spread evenly (a Latin hypercube), so that averages settle early.

        Args:
            fixed: values that do not vary, by knob or by parameter; a parameter counts before its
                knob. Conditions stay in force: what a fixed parent rules out is not drawn.

        Raises:
            KeyError: the study has no such knob.
        """
        unknown = fixed.keys() - self._knobs - set(self.names) - self._constant
        if unknown:
            raise KeyError(f"no knob of this study: {', '.join(sorted(unknown))}")
        knobs: dict[str, Values] = {
            knob: np.full(n, fixed[knob], dtype=object) for knob in fixed.keys() - self._knobs
        }
        columns: dict[str, Values] = {}
        for knob, variants in self._branches.of_knobs():
            knobs[knob] = self._branches.fixed(knob, knobs, n)
            masks = self._branches.active(variants, knobs, n)
            for dimension, mask in zip(variants, masks, strict=True):
                column: Values = np.full(n, None, dtype=object)
                column[mask] = _draw(dimension, int(mask.sum()), rng, fixed)
                columns[dimension.name] = column
                knobs[knob][mask] = column[mask]
        return pd.DataFrame(columns, index=range(n), dtype=object)


def levels(dimension: Dimension) -> int:
    """Return how many values a parameter has; 0 for a range of real numbers."""
    if dimension.kind == "categorical":
        return len(dimension.choices)
    low, high, step = _ends(dimension)
    if dimension.log or step is None:
        return 0
    return round((high - low) / step) + 1


def _column(frame: pd.DataFrame, name: str) -> Values:
    """Return a column's values, None where it has none or is missing."""
    return plain(frame[name]) if name in frame else np.full(len(frame), None, dtype=object)


def _ends(dimension: Dimension) -> tuple[float, float, float | None]:
    low, high = float(dimension.low or 0.0), float(dimension.high or 0.0)
    step = dimension.step or (1.0 if dimension.kind == "int" else None)
    return low, high, step


def _draw(
    dimension: Dimension, n: int, rng: np.random.Generator, fixed: dict[str, Scalar]
) -> Values:
    for name in (dimension.name, dimension.knob):
        if name in fixed:
            return np.full(n, fixed[name], dtype=object)
    return _from_unit(dimension, (rng.permutation(n) + rng.random(n)) / n)


def _to_unit(dimension: Dimension, values: Values) -> Unit:
    if dimension.kind == "categorical":
        place = {choice: i for i, choice in enumerate(dimension.choices)}
        index = np.array([place.get(value, np.nan) for value in values], dtype=float)
        return np.asarray((index + 0.5) / len(dimension.choices))
    number = np.array([np.nan if value is None else value for value in values], dtype=float)
    low, high, step = _ends(dimension)
    if count := levels(dimension):
        index = np.clip(np.round((number - low) / (step or 1.0)), 0, count - 1)
        return np.asarray((index + 0.5) / count)
    low, high = _reach(dimension)
    if high <= low:
        return np.where(np.isnan(number), np.nan, 0.5)
    if dimension.log:
        number, low, high = np.log(np.maximum(number, 1e-300)), np.log(low), np.log(high)
    return np.asarray(np.clip((number - low) / (high - low), 0.0, 1.0))


def _from_unit(dimension: Dimension, unit: Unit) -> Values:
    there = ~np.isnan(unit)
    out: Values = np.full(len(unit), None, dtype=object)
    out[there] = _numbers(dimension, unit[there])
    return out


def _numbers(dimension: Dimension, unit: Unit) -> Values:
    low, high, step = _ends(dimension)
    out: Values = np.empty(len(unit), dtype=object)
    if count := levels(dimension):
        index = np.minimum((unit * count).astype(int), count - 1)
        if dimension.kind == "categorical":
            out[:] = [dimension.choices[i] for i in index]
            return out
        numbers = np.minimum(low + index * (step or 1.0), high)
    else:
        low, high = _reach(dimension)
        if dimension.log:
            numbers = np.exp(np.log(low) + unit * (np.log(high) - np.log(low)))
        else:
            numbers = low + unit * (high - low)
        numbers = np.clip(numbers, *_ends(dimension)[:2])
    whole = dimension.kind == "int"
    out[:] = [round(number) if whole else float(number) for number in numbers]
    return out


def _reach(dimension: Dimension) -> tuple[float, float]:
    """Return the ends of a range of real numbers; whole numbers are rounded into theirs."""
    low, high, _ = _ends(dimension)
    return (low - 0.5, high + 0.5) if dimension.kind == "int" else (low, high)
