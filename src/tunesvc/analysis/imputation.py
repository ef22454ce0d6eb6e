"""What a pruned trial would have reached: its last value, carried on to the end, with its error.

From one rung to the next, and from the last one to the end, what a trial gains is learned from the
trials that came that far: from the value at the rung, and from the knobs, because a small rate is
slow at first and may still win. The pruner chose those trials by the value at the rung, which is in
the regression, so its choice does not bend it: what is missing is missing at random, given what was
seen. A trial that was pruned at a rung enters there; each step adds its own uncertainty, which
grows with the distance from the survivors.

Why: 2026-11: a trial that diverged is not missing, and least of all at random: its configuration
was tried and is no good. Left out, rates that always diverge would be told to be as safe as those
beside them. It counts as measured, with the worst value of a finished trial, as `expected_best` has
it; a worse one would bend the surface where it is good. Only where all finished trials are about as
good, it counts five points below their median: "as bad as the worst" would still be safe there.

Source: Little & Rubin 2019, Statistical Analysis with Missing Data, sec. 7.4 (monotone patterns:
one regression after another), ch. 10 (several versions in place of one).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunesvc.analysis.basis import Basis
from tunesvc.analysis.encoding import Encoding
from tunesvc.analysis.endings import diverged
from tunesvc.analysis.posterior import Columns, Draws, draw
from tunesvc.analysis.scale import Scale, scale
from tunesvc.analysis.table import Trials

Array = NDArray[np.float64]

BELOW = 5.0  # points under the median, at least, for a trial that diverged
FEWEST = 4  # trials that a step is learned from
START_SCALE, KNOB_SCALE = 0.5, 0.1  # half-Cauchy, for gains of variance 1
DRAWS, BURN = 200, 60
_SEED = 20261123


@dataclass(frozen=True)
class Finals:
    """Final values, measured or carried on.

    Args:
        rows: of the trial table, one a value.
        value: (versions, n) float64, in the objective's unit. Versions differ in how pruned trials
            were carried on: what is not known of that is shared by all of them, so it is no noise.
        variance: (n,) float64, of a trial that was carried on around that; 0 where it was measured
            or diverged.
        finished: (n,) bool, which were measured.
    """

    rows: pd.DataFrame
    value: Array
    variance: Array
    finished: NDArray[np.bool_]


def finals(trials: Trials, encoding: Encoding, basis: Basis, versions: int) -> Finals:
    """Return every value that can be had: of finished trials, and of pruned ones as far as it goes.

    A pruned trial is left out where fewer than four trials came from its last epoch to the end.
    """
    finished, lost, pruned = trials.finished, diverged(trials), stopped(trials)
    rungs = sorted(set(pruned["epochs"].astype(int)))
    epochs = pruned["epochs"].to_numpy(dtype=int)
    value = np.tile(pruned["last"].to_numpy(dtype=float), (versions, 1))
    variance = np.zeros(len(pruned))
    points = encoding.unit(encoding.params(pruned))
    for rung, after in pairwise([*rungs, None]):
        on = (epochs <= (rung or 0)) & np.isfinite(value[0])
        step = _Step.learned(_far(trials, finished, pruned, rung or 0, after), encoding, basis)
        value[:, on], variance[on] = (
            step.carried(value[:, on], variance[on], points[on]) if step else (np.nan, np.nan)
        )
    kept = np.isfinite(value[0])
    own = finished["value"].to_numpy(dtype=float)
    ends = np.tile(np.concatenate([own, np.full(len(lost), _floor(trials))]), (versions, 1))
    rows = pd.concat([finished, lost, pruned[kept]])
    return Finals(
        rows,
        np.concatenate([ends, value[:, kept]], axis=1),
        np.concatenate([np.zeros(ends.shape[1]), np.maximum(variance[kept], 1e-300)]),
        np.arange(len(rows)) < len(finished),
    )


def _floor(trials: Trials) -> float:
    """Return what a trial that diverged counts as, in the objective's unit."""
    scores, point = trials.sign * trials.finished["value"].astype(float), scale(trials)
    below = float(scores.median()) - BELOW * point.point if isinstance(point, Scale) else inf
    return trials.sign * min(float(scores.min()), below)


def stopped(trials: Trials) -> pd.DataFrame:
    """Return the pruned trials that have a value, before the last epoch, and did not diverge."""
    frame = trials.frame
    return frame[
        (frame["state"] == "PRUNED")
        & ~frame.index.isin(diverged(trials).index)
        & np.isfinite(frame["last"].astype(float))
        & (frame["epochs"] >= 1)
        & (frame["epochs"] < trials.epochs)
    ]


def _far(
    trials: Trials, finished: pd.DataFrame, pruned: pd.DataFrame, rung: int, after: int | None
) -> pd.DataFrame:
    """Return trials that have values at two epochs, as columns start and stop; None: the end."""
    rows = finished if after is None else pd.concat([finished, pruned[pruned["epochs"] >= after]])
    starts = [_at(trials, number, rung) for number in rows.index]
    stops = (
        rows["value"].astype(float)
        if after is None
        else [_at(trials, number, after) for number in rows.index]
    )
    both = rows.assign(start=starts, stop=stops)
    return both.dropna(subset=["start", "stop"])


def _at(trials: Trials, number: int, epoch: int) -> float:
    """Return a trial's last value up to an epoch; NaN where it has none."""
    seen = [value for when, value in trials.curves.get(number, ()) if when <= epoch]
    return seen[-1] if seen else float("nan")


@dataclass(frozen=True)
class _Step:
    """What trials gain from one rung to the next."""

    basis: Basis
    found: Draws
    start: float  # mean of the values that it was learned from
    unit: float  # their spread
    gain: float  # mean
    gain_unit: float  # its spread

    @staticmethod
    def learned(far: pd.DataFrame, encoding: Encoding, basis: Basis) -> _Step | None:
        if len(far) < FEWEST:
            return None
        start, stop = (far[name].to_numpy(dtype=float) for name in ("start", "stop"))
        gain = stop - start
        unit, gain_unit = float(start.std()), float(gain.std())
        if unit <= 0 or gain_unit <= 0:
            return None
        parts = basis.only(lambda part: len(part.dims) == 1)
        sizes = [len(part.weights) for part in parts.parts]
        phi = _phi((start - start.mean()) / unit, encoding.unit(encoding.params(far)), parts)
        columns = Columns(
            phi[None],
            np.repeat(np.arange(len(sizes) + 2), [1, 1, *sizes]),
            np.concatenate([[1.0, 1.0], *(part.weights for part in parts.parts)]),
            np.array([1.0, START_SCALE, *(KNOB_SCALE for _ in sizes)]),
        )
        y, rng = (gain - gain.mean()) / gain_unit, np.random.default_rng(_SEED)
        found = draw(columns, y[None], np.zeros(len(y)), rng, draws=DRAWS, burn=BURN)
        return _Step(parts, found, float(start.mean()), unit, float(gain.mean()), gain_unit)

    def carried(self, value: Array, variance: Array, points: Array) -> tuple[Array, Array]:
        """Return where trials get from these values in each version, and the variance around it."""
        w = self.found.coefficients[0]
        w = w[np.linspace(0, len(w) - 1, len(value)).astype(int)]
        gains = [
            _phi((start - self.start) / self.unit, points, self.basis) @ own
            for start, own in zip(value, w, strict=True)
        ]
        slope = 1 + float(w[:, 1].mean()) * self.gain_unit / self.unit
        rest = float(self.found.noise.mean()) * self.gain_unit**2
        return (
            value + self.gain + np.array(gains) * self.gain_unit,
            slope**2 * variance + rest,
        )


def _phi(start: Array, points: Array, basis: Basis) -> Array:
    own = [basis.columns(part, points) for part in basis.parts]
    return np.concatenate([np.ones((len(start), 1)), start[:, None], *own], axis=1)
