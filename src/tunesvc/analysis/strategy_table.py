"""Backbone × strategy: what each combination reached, how evenly, at what price; and what
pretraining is worth.

Best and spread answer two questions: how good can it be, and how much does tuning decide. Both
count finished trials only: a pruned trial's last value was measured after fewer epochs.

Why: 2026-11: whoever has more trials has the better best. So the best of pretrained weights and of
a random start are also compared at equal numbers of trials: of the side with more, the mean best of
as many as the other has (Tang et al. 2020, arXiv 2004.13705, section 4).

Why: 2026-11: intervals are those of trials drawn again. A best that is drawn again never exceeds
the one that was found, so its interval reaches down from it, not up: it tells how much the best
owes to few trials, not what more of them would find.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunesvc.analysis.order_statistics import mean_best_weights
from tunesvc.analysis.table import LEVEL, Estimate, Trials, Unsupported

_RESAMPLES = 1000
_FEWEST = 2  # trials of either side, to draw them again

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One line of the table: one backbone under one strategy."""

    backbone: str  # label
    strategy: str
    best: float | None  # objective of its best finished trial, in the objective's unit
    best_trial: int | None  # that trial's number; the earliest of equals
    median: float | None  # objective over finished trials
    spread: float | None  # interquartile range of the same; None below two finished trials
    seconds: float | None  # median wall time of finished trials, s
    finished: int  # number of trials
    pruned: int  # number of trials
    failed: int  # number of trials


@dataclass(frozen=True)
class Gain:
    """What pretrained weights are worth to one architecture, beside training it from scratch.

    Every difference is in the objective's unit, and positive where pretrained weights are better,
    whichever direction is.

    Args:
        best: of the best trials.
        best_alike: of the mean best of as many trials on both sides.
        median: of the medians.
        pretrained_best, scratch_best: objective.
        pretrained_trials, scratch_trials: finished.
    """

    architecture: str
    best: Estimate | Unsupported
    best_alike: Estimate | Unsupported
    median: Estimate | Unsupported
    pretrained_best: float
    scratch_best: float
    pretrained_trials: int
    scratch_trials: int


def strategy_table(trials: Trials) -> tuple[Cell, ...]:
    """Return a line for each backbone and strategy of which a trial has ended, the best first.

    Combinations without a finished trial come last, in the order in which they were first tried.
    """
    ended = trials.frame[trials.frame["state"].isin(["COMPLETE", "PRUNED", "FAIL"])]
    groups = ended.groupby(["backbone", "strategy"], sort=False)
    cells = [_cell(str(label), str(name), of, trials) for (label, name), of in groups]
    return tuple(sorted(cells, key=lambda cell: _loss(cell, trials.sign)))


def _cell(backbone: str, strategy: str, ended: pd.DataFrame, trials: Trials) -> Cell:
    states = Counter(ended["state"])
    finished = trials.finished[trials.finished.index.isin(ended.index)]
    values, numbers = finished["value"].to_numpy(float), finished.index.to_numpy(int)
    best = int(np.argmax(trials.sign * values)) if len(values) else None  # the first of equals
    seconds = finished["seconds"].dropna().to_numpy(float)
    return Cell(
        backbone=backbone or "–",
        strategy=strategy or "–",
        best=None if best is None else float(values[best]),
        best_trial=None if best is None else int(numbers[best]),
        median=float(np.median(values)) if len(values) else None,
        spread=float(np.subtract(*np.quantile(values, [0.75, 0.25]))) if len(values) > 1 else None,
        seconds=float(np.median(seconds)) if len(seconds) else None,
        finished=len(finished),
        pruned=states["PRUNED"],
        failed=states["FAIL"],
    )


def _loss(cell: Cell, sign: float) -> float:
    return inf if cell.best is None else -sign * cell.best


def fine_tuning_gain(trials: Trials) -> tuple[Gain, ...] | Unsupported:
    """Return what pretrained weights buy each architecture that was trained with and without.

    Without: under the strategy `from-scratch`, or as a backbone with `weights: none`.
    """
    finished = trials.finished
    if not len(finished):
        return Unsupported("needs finished trials, has 0")
    groups = finished.groupby(_architecture(finished), sort=False)
    sides = {str(name): _sides(of, trials.sign) for name, of in groups}
    both = {name: pair for name, pair in sides.items() if all(map(len, pair))}
    if not both:
        return Unsupported("no architecture was trained both from its weights and from scratch")
    return tuple(_gain(name, tuned, scratch, trials) for name, (tuned, scratch) in both.items())


def _architecture(frame: pd.DataFrame) -> pd.Series:
    """Return what each trial's backbone is, whatever its weights: its label where nobody said."""
    if "architecture" not in frame:
        return frame["backbone"]
    said: pd.Series = frame["architecture"].where(frame["architecture"] != "", frame["backbone"])
    return said


def _sides(of: pd.DataFrame, sign: float) -> tuple[Scores, Scores]:
    """Return the scores, larger is better, with pretrained weights and without."""
    pretrained = (of["strategy"] != "from-scratch").to_numpy(bool)
    if "pretrained" in of:
        pretrained = pretrained & of["pretrained"].to_numpy(bool)
    scores = sign * of["value"].to_numpy(float)
    return scores[pretrained], scores[~pretrained]


def _gain(name: str, tuned: Scores, scratch: Scores, trials: Trials) -> Gain:
    fewer = min(len(tuned), len(scratch))
    return Gain(
        architecture=name,
        best=_difference(_best, tuned, scratch, trials.metric),
        best_alike=_difference(partial(_mean_best, fewer), tuned, scratch, trials.metric),
        median=_difference(_median, tuned, scratch, trials.metric),
        pretrained_best=trials.sign * float(tuned.max()),
        scratch_best=trials.sign * float(scratch.max()),
        pretrained_trials=len(tuned),
        scratch_trials=len(scratch),
    )


def _best(scores: Scores) -> Scores:
    found: Scores = scores.max(axis=1)
    return found


def _median(scores: Scores) -> Scores:
    return np.median(scores, axis=1)


def _mean_best(count: int, scores: Scores) -> Scores:
    """Return the mean best over all n of a row's N."""
    found: Scores = np.sort(scores, axis=1) @ mean_best_weights(scores.shape[1], [count])[0]
    return found


def _difference(
    statistic: Callable[[Scores], Scores], one: Scores, other: Scores, unit: str
) -> Estimate | Unsupported:
    """Return a statistic of one side less the other's, both drawn again for the interval.

    Args:
        statistic: of each row of (rows, trials).
    """
    if min(len(one), len(other)) < _FEWEST:
        few = f"has {len(one)} and {len(other)}"
        return Unsupported(f"needs {_FEWEST} finished trials with weights and without, {few}")
    value, rng = float((statistic(one[None]) - statistic(other[None]))[0]), np.random.default_rng(0)
    first, second = (rng.choice(side, (_RESAMPLES, len(side))) for side in (one, other))
    ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    low, high = np.quantile(statistic(first) - statistic(second), ends)
    low, high = min(float(low), value), max(float(high), value)
    return Estimate(value, low, high, len(one) + len(other), unit)
