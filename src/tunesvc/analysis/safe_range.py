"""Safe ranges: how far a knob may be moved from the best configuration at a cost of at most ε.

All others stay at the best configuration of the backbone, because this is what a person asks who
uses it: "and if my learning rate is off?" The range is the connected one around the best value:
what lies behind a gap is another optimum, not slack. Averaged over all configurations instead, as
sensitivity curves are, a knob would look the safer the worse the others are.

The ends lie where the mean surface reaches ε. To be sure, stay between the inner ends of their
intervals, `low.high` and `high.low`: on known surfaces, 60 trials each, these cost at most ε in 99
of 100 ranges or more, the ends themselves in 72 to 89.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesvc.analysis.branches import branch
from tunesvc.analysis.moves import (
    Array,
    Params,
    best_of,
    gains,
    moved,
    values_of,
)
from tunesvc.analysis.scale import scale
from tunesvc.analysis.surrogate import Surrogate
from tunesvc.analysis.table import LEVEL, Estimate, Scalar, Trials, Unsupported

STEPS = 101  # values at which a range of real numbers is looked at


@dataclass(frozen=True)
class SafeRange:
    """Where one parameter of a backbone's best configuration may lie.

    Args:
        at: its value in the best configuration.
        low, high: ends of the safe range, in the parameter's unit; the intervals are those of the
            ends. None for a categorical one.
        whole: everything that was searched is safe.
        safe: of a categorical one, the choices that cost at most ε, the best configuration's too.
        points, epsilon: ε in points, and in the objective's unit.
        trials: finished ones of this backbone.
    """

    backbone: str
    knob: str
    name: str
    branch: str
    at: Scalar
    low: Estimate | None
    high: Estimate | None
    whole: bool
    safe: tuple[Scalar, ...]
    points: float
    epsilon: float
    trials: int


def safe_ranges(
    trials: Trials, surface: Surrogate | Unsupported, points: float = 1.0
) -> tuple[SafeRange, ...] | Unsupported:
    """Return the safe range of each parameter of each backbone's best configuration."""
    if isinstance(surface, Unsupported):
        return surface
    point = scale(trials)
    if isinstance(point, Unsupported):
        return point
    found: list[SafeRange] = []
    for label in trials.backbones:
        tried = trials.finished[trials.finished["backbone"] == label]
        if not tried.empty:
            best = best_of(tried, trials, surface)[1]
            around = _Around(trials, surface, label, best, len(tried), points, point.point * points)
            found += [around.range(name) for name in best if name != "backbone"]
    return tuple(found)


@dataclass(frozen=True)
class _Around:
    """The best configuration of one backbone."""

    trials: Trials
    surface: Surrogate
    label: str
    best: Params
    count: int
    points: float
    epsilon: float

    def range(self, name: str) -> SafeRange:
        dimension = self.surface.encoding.dimension(name)
        values, place = _with(values_of(dimension, STEPS), self.best[name])
        moves = [moved(self.surface.encoding, self.best, {name: value}, {}) for value in values]
        losses = -gains(self.trials, self.surface, self.best, moves)
        safe = losses.mean(axis=0) <= self.epsilon
        ordered = dimension.kind != "categorical"
        low, high = self._ends(name, values, place, losses) if ordered else (None, None)
        return SafeRange(
            backbone=self.label,
            knob=dimension.knob,
            name=name,
            branch=branch(dimension),
            at=self.best[name],
            low=low,
            high=high,
            whole=bool(safe.all()),
            safe=() if ordered else tuple(v for v, s in zip(values, safe, strict=True) if s),
            points=self.points,
            epsilon=self.epsilon,
            trials=self.count,
        )

    def _ends(
        self, name: str, values: list[Scalar], place: int, losses: Array
    ) -> tuple[Estimate, Estimate]:
        """Return the ends where the mean loss has them, and around them those of each draw."""
        mean = _connected(losses.mean(axis=0)[None] <= self.epsilon, place)[0]
        drawn = np.sort(_connected(losses <= self.epsilon, place), axis=0)
        sides = [round((1 + side * LEVEL) / 2 * (len(drawn) - 1)) for side in (-1, 1)]

        def end(which: int) -> Estimate:
            first, last = drawn[sides, which]
            places = mean[which], min(first, mean[which]), max(last, mean[which])
            value, low, high = (float(values[int(i)]) for i in places)
            return Estimate(value, low, high, self.count, name)

        return end(0), end(1)


def _with(values: list[Scalar], at: Scalar) -> tuple[list[Scalar], int]:
    """Return values with one more among them, in order if they have one, and its place."""
    if at in values:
        return values, values.index(at)
    known = sorted([*values, at], key=float)
    return known, known.index(at)


def _connected(safe: NDArray[np.bool_], place: int) -> NDArray[np.int64]:
    """Return the first and the last index of the run of safe values around `place`.

    Args:
        safe: (draws, values).

    Returns:
        (draws, 2).
    """
    index = np.arange(safe.shape[1])
    first = np.where(~safe & (index < place), index + 1, 0).max(axis=1)
    last = np.where(~safe & (index > place), index - 1, safe.shape[1] - 1).min(axis=1)
    return np.stack([first, last], axis=1)
