"""Trials rung after rung: what all had at the first, and what those that went on gained.

A pruner leaves many trials with a value at an early epoch and few at the end. So the surface at the
end is taken apart: the surface at the first rung, to which all trials belong, and after it what is
gained from one rung to the next, learned from the trials that came that far: from the value at the
rung, and from the knobs, because a small rate is slow at first and may still win. The pruner chose
those trials by the value at the rung, which is in the regression, so its choice does not bend it:
what is missing is missing at random, given what was seen. `surrogate` puts the surfaces together.

Why: 2026-11: carrying each pruned trial to the end and fitting one surface to all values told too
much of what few finished trials happen to gain: shuffled knobs in that fit had no part in it, so
that real knobs without effect rose above them, and intervals were too narrow. As a sum of surfaces
nothing is carried on, shuffled knobs go the same way as real ones, and two finished trials are
enough: how steeply values rise changes no share, and what the knobs do after the rung is taken for
small, in a wide interval, until trials tell otherwise. docs/recovery.md counts how far that is so.

Why: 2026-11: a trial that diverged is not missing, and least of all at random: its configuration
was tried and is no good. Left out, rates that always diverge would be told to be as safe as those
beside them. It counts as the worst value at the first rung, as `expected_best` has it; a worse one
would bend the surface where it is good. Only where all trials there are about as good, it counts
five points below their median: "as bad as the worst" would still be safe there.

Source: Little & Rubin 2019, Statistical Analysis with Missing Data, sec. 7.4 (monotone patterns:
one regression after another); Kennedy & O'Hagan 2000, Predicting the Output from a Complex Computer
Code When Fast Approximations Are Available, eq. 1 (cheap surface, times a factor, plus another).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunesvc.analysis.endings import diverged
from tunesvc.analysis.scale import Scale, scale
from tunesvc.analysis.table import Trials

Array = NDArray[np.float64]

BELOW = 5.0  # points under the median, at least, for a trial that diverged
RUNGS = 3  # at most; a trial that was pruned between two of them enters at the earlier one


@dataclass(frozen=True)
class Stages:
    """Values of trials at the first rung, at later ones, and at the end.

    Args:
        rows: of the trial table, in the order of their numbers.
        values: (stages, n) float64, in the objective's unit; NaN at stages that a trial did not
            come to. The last stage is the end. One that diverged has a value at the first only.
        finished: (n,) bool, which came to the end.
    """

    rows: pd.DataFrame
    values: Array
    finished: NDArray[np.bool_]


def stages(trials: Trials) -> Stages:
    """Return every value that tells something of the end.

    Where finished trials have no learning curves, so that fewer trials would be left with pruned
    ones than without, pruned ones are left out.
    """
    return max((_staged(trials, rungs) for rungs in ((), _rungs(trials))), key=_told)


def stopped(trials: Trials) -> pd.DataFrame:
    """Return the pruned trials that have a value, before the last epoch, and did not diverge."""
    frame = trials.feasible
    return frame[
        (frame["state"] == "PRUNED")
        & ~frame.index.isin(diverged(trials).index)
        & np.isfinite(frame["last"].astype(float))
        & (frame["epochs"] >= 1)
        & (frame["epochs"] < trials.epochs)
    ]


def _told(found: Stages) -> tuple[int, int]:
    return min(2, int(found.finished.sum())), len(found.rows)  # a line through ends needs two


def _rungs(trials: Trials) -> tuple[int, ...]:
    """Return the epochs at which trials were stopped; of many, some that part them evenly."""
    epochs = stopped(trials)["epochs"].to_numpy(dtype=int)
    found = sorted(set(epochs.tolist()))
    if len(found) > RUNGS:
        parts = np.arange(RUNGS) / RUNGS
        found = sorted({int(e) for e in np.quantile(epochs, parts, method="lower")})
    return tuple(found)


def _staged(trials: Trials, rungs: Sequence[int]) -> Stages:
    finished, lost = trials.finished, diverged(trials)
    went = pd.concat([finished, stopped(trials)]) if rungs else finished
    values = _path(trials, went, len(finished), rungs)
    known = np.isfinite(values)
    whole = known[0] & (np.diff(known.astype(int), axis=0) <= 0).all(axis=0)  # no gap between
    rows, values = went[whole], values[:, whole]
    ends = np.full((len(values), len(lost)), np.nan)
    if len(lost) and values.size:
        ends[0] = _floor(trials, values[0])
    rows, values = pd.concat([rows, lost]), np.concatenate([values, ends], axis=1)
    order = np.argsort(rows.index.to_numpy(), kind="stable")
    done = np.isin(rows.index, finished.index)
    return Stages(rows.iloc[order], values[:, order], done[order])


def _path(trials: Trials, went: pd.DataFrame, finished: int, rungs: Sequence[int]) -> Array:
    """Return values of trials, so many finished ones first: (stages, n)."""
    values = np.full((len(rungs) + 1, len(went)), np.nan)
    epochs = went["epochs"].to_numpy(dtype=int)
    for place, rung in enumerate(rungs):
        came = (epochs >= rung) | (np.arange(len(went)) < finished)
        values[place, came] = [_at(trials, number, rung) for number in went.index[came]]
    values[-1, :finished] = went["value"].to_numpy(dtype=float)[:finished]
    return values


def _floor(trials: Trials, values: Array) -> float:
    """Return what a trial that diverged counts as where others have these, in the same unit."""
    scores, point = trials.sign * values, scale(trials)
    below = float(np.median(scores)) - BELOW * point.point if isinstance(point, Scale) else inf
    return trials.sign * min(float(scores.min()), below)


def _at(trials: Trials, number: int, epoch: int) -> float:
    """Return a trial's last value up to an epoch; NaN where it has none."""
    seen = [value for when, value in trials.curves.get(number, ()) if when <= epoch]
    return seen[-1] if seen else float("nan")
