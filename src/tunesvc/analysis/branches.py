"""Which parameters a configuration has: conditions, and what they leave unsaid.

A study file may fix a knob in one branch and search it in the next (`optimizer: adam` under a
linear probe, else a choice). The fixed part is no parameter, so no `when` tells of it; trials do.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunesvc.analysis.table import Dimension, Trials

Values = NDArray[
    np.object_
]  # of one knob or parameter, one a configuration; None where it has none
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Cause:
    """What follows from the value of one knob: value → consequence."""

    knob: str
    follows: Mapping[Hashable, Any] = field(default_factory=dict)


def branch(dimension: Dimension) -> str:
    """Return the name of the branch in which a parameter is drawn: "" if everywhere."""
    _, _, label = dimension.name.partition("@")
    if label:
        return label
    return ", ".join(
        f"{knob}={'|'.join(map(str, values))}" for knob, values in dimension.when.items()
    )


class Branches:
    """The conditions of one study's space."""

    def __init__(self, trials: Trials) -> None:
        """Read the conditions, and learn from whole trials where a knob is fixed instead.

        Why: 2026-11: the first parameter of a knob whose `when` holds is drawn, as in the study
        file. Where trials contradict that, the value of one other knob that sets these trials apart
        is taken as the reason.
        """
        self.space = trials.space
        self._veto: dict[str, _Cause] = {}
        self._fixed: dict[str, _Cause] = {}
        whole = trials.frame[trials.frame["state"].isin(["COMPLETE", "PRUNED"])]
        if len(whole):
            self._learn(whole)

    def of_knobs(self) -> Iterator[tuple[str, tuple[Dimension, ...]]]:
        """Yield each knob with its parameters, parents first."""
        for knob, variants in groupby(self.space, key=lambda dimension: dimension.knob):
            yield knob, tuple(variants)

    def active(
        self, variants: Sequence[Dimension], knobs: Mapping[str, Values], n: int
    ) -> list[Mask]:
        """Tell where each of a knob's parameters is drawn, given the knobs before it."""
        free = np.ones(n, dtype=bool)
        masks = []
        for dimension in variants:
            here = free & _holds(dimension, knobs, n)
            free = free & ~here
            cause = self._veto.get(dimension.name)
            if cause and cause.knob in knobs:
                here &= ~_among(knobs[cause.knob], cause.follows)
            masks.append(here)
        return masks

    def fixed(self, knob: str, knobs: Mapping[str, Values], n: int) -> Values:
        """Return a knob's values where it is not drawn; None where that is unknown."""
        cause = self._fixed.get(knob)
        out: Values = np.full(n, None, dtype=object)
        if cause is None:
            return out
        if cause.knob not in knobs:
            out[:] = cause.follows.get(None)
            return out
        out[:] = [cause.follows.get(value) for value in knobs[cause.knob]]
        return out

    def _learn(self, whole: pd.DataFrame) -> None:
        n, conditions = len(whole), {knob for dimension in self.space for knob in dimension.when}
        knobs: dict[str, Values] = {}
        for knob in sorted(conditions - {dimension.knob for dimension in self.space}):
            knobs[knob] = _column(whole, f"knob:{knob}")
            self._fixed[knob] = _explained(knobs[knob], np.ones(n, dtype=bool), {})
        for knob, variants in self.of_knobs():
            drawn = [_column(whole, f"param:{dimension.name}") for dimension in variants]
            expected = self.active(variants, knobs, n)
            for dimension, mask, values in zip(variants, expected, drawn, strict=True):
                self._learn_veto(dimension, mask, _there(values), knobs)
            values = _merged(drawn, n)
            idle = ~_there(values)
            if knob in conditions and idle.any():
                settled = _column(whole, f"knob:{knob}")
                self._fixed[knob] = _explained(settled, idle, knobs)
                values[idle] = settled[idle]
            knobs[knob] = values

    def _learn_veto(
        self, dimension: Dimension, expected: Mask, there: Mask, knobs: Mapping[str, Values]
    ) -> None:
        wrong, right = expected & ~there, expected & there
        if not wrong.any():
            return
        for knob, values in knobs.items():
            apart = set(values[wrong]) - {None}
            if apart and not apart & set(values[right]):
                self._veto[dimension.name] = _Cause(knob, dict.fromkeys(apart))
                return


def _explained(values: Values, rows: Mask, knobs: Mapping[str, Values]) -> _Cause:
    """Return the first knob whose value settles these values in these rows; else the commonest."""
    for knob, other in knobs.items():
        follows: dict[Hashable, Any] = {}
        pairs = zip(other[rows], values[rows], strict=True)
        if all(follows.setdefault(key, value) == value for key, value in pairs):
            return _Cause(knob, follows)
    seen = [value for value in values[rows] if value is not None]
    return _Cause("", {None: max(seen, key=seen.count, default=None)})


def _holds(dimension: Dimension, knobs: Mapping[str, Values], n: int) -> Mask:
    here = np.ones(n, dtype=bool)
    for knob, allowed in dimension.when.items():
        values = knobs.get(knob, np.full(n, None, dtype=object))
        here &= _among(values, allowed)
    return here


def _among(values: Values, allowed: Container[Any]) -> Mask:
    return np.fromiter((value in allowed for value in values), dtype=bool, count=len(values))


def _there(values: Values) -> Mask:
    return np.fromiter((value is not None for value in values), dtype=bool, count=len(values))


def _merged(drawn: Sequence[Values], n: int) -> Values:
    out: Values = np.full(n, None, dtype=object)
    for values in drawn:
        there = _there(values)
        out[there] = values[there]
    return out


def _column(frame: pd.DataFrame, name: str) -> Values:
    """Return a column as plain values, None where it has none."""
    if name not in frame:
        return np.full(len(frame), None, dtype=object)
    return plain(frame[name])


def plain(column: pd.Series[Any]) -> Values:
    """Return a column's values, None where it has none.

    Returns:
        one object a row: numbers, strings, truth values; None in place of NaN.
    """
    values: Values = column.to_numpy(dtype=object, copy=True)
    values[column.isna().to_numpy()] = None
    return values
