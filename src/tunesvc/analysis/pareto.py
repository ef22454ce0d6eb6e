"""What accuracy costs: which trials are worth their price, and what an hour of search has bought.

    score           the objective, sign-flipped where lower is better: larger is better
    σ               standard deviation of one configuration's value over seeds (the noise)
    z               quantile of the normal distribution that `LEVEL` leaves half of its rest above
    worker-hour     one worker busy for an hour: a GPU-hour where each worker has a GPU

A trial is on the *front* if no trial that costs as much or less has a better score, and none of the
same score costs less. It is *within noise* of it if every one that beats it does so by no more than
z·√2·σ, which as much luck can explain. Else it is *dominated*.

The *gain* is the best score found less that of the best untuned configuration: what one would have
used without a search. *Per hour* it is divided by all worker-hours spent, those of pruned and
failed trials included, and of the untuned ones.

Why: 2026-11: gain per hour alone praises the search that stops at once. So the mean gain over the
hours is told beside it, the area under the curve of the gain so far divided by the hours: two
searches of the same gain and length differ in how early they had it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from tunesvc.analysis.table import LEVEL, Trials, Unsupported

Cost = Literal["seconds", "parameters", "gflops", "memory_mb", "size_mb", "latency_ms"]
Standing = Literal["front", "within noise", "dominated"]

Array = NDArray[np.float64]

_UNITS = {
    "seconds": "s",
    "parameters": "parameters",
    "gflops": "GFLOPs",
    "memory_mb": "MiB",
    "size_mb": "MiB",
    "latency_ms": "ms",
}


@dataclass(frozen=True)
class Point:
    """One finished trial.

    Args:
        value: objective.
        cost: in the unit of its `Frontier`.
        dominated_by: the trial of the best score among those that cost as much or less; None for
            one on the front.
        low, high: ends of the interval of its value; None where the noise is not known.
    """

    trial: int
    backbone: str
    strategy: str
    value: float
    cost: float
    standing: Standing
    dominated_by: int | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Frontier:
    """Finished trials by what they cost.

    Args:
        unit: of the costs.
        points: cheapest first; of equal costs, the best first.
        front: the numbers of the trials on the front, cheapest and worst first.
        unknown: finished trials whose cost is not known.
    """

    cost: Cost
    unit: str
    points: tuple[Point, ...]
    front: tuple[int, ...]
    unknown: int


@dataclass(frozen=True)
class Spending:
    """What a search has bought.

    Args:
        reference: objective of the best untuned configuration.
        best: objective of the best finished trial.
        gain: of best over reference, ≥ 0, in the objective's unit.
        low, high: ends of the interval of the gain, by the noise of its two values alone; None
            where that is not known. What choosing the luckiest of many adds is not in it. Where
            the untuned configuration is the best, there is none: the gain is 0.
        hours: worker-hours of all trials that have ended.
        per_hour: gain by hours.
        mean_gain: over the hours, of the gain so far.
        trials: that have ended.
        curve: after each trial that was better than all before: worker-hours until then, objective,
            trial.
    """

    reference: float
    reference_trial: int
    best: float
    best_trial: int
    gain: float
    low: float | None
    high: float | None
    hours: float
    per_hour: float
    mean_gain: float
    trials: int
    curve: tuple[tuple[float, float, int], ...]


def pareto(trials: Trials, cost: Cost, noise: float | None = None) -> Frontier | Unsupported:
    """Return the finished trials by one of their costs, those that are worth it marked.

    Args:
        cost: `seconds` of the whole trial; `parameters`, all of the model; `gflops` of one image's
            forward pass; `memory_mb`, the peak of training; `size_mb` of the model's file;
            `latency_ms` of one image's inference.
        noise: σ, in the objective's unit; None: not known.
    """
    finished = trials.finished
    told = finished[cost].to_numpy(float) if cost in finished else np.full(len(finished), np.nan)
    known = finished[np.isfinite(told)]
    if not len(known):
        return Unsupported(f"needs finished trials of known {cost}, has 0")
    scores, costs = trials.sign * known["value"].to_numpy(float), known[cost].to_numpy(float)
    order = np.lexsort((known.index.to_numpy(), -scores, costs))
    known, scores, costs = known.iloc[order], scores[order], costs[order]
    points = _points(known, scores, costs, trials, noise)
    front = tuple(point.trial for point in points if point.standing == "front")
    return Frontier(cost, _UNITS[cost], points, front, len(finished) - len(known))


def _points(
    known: pd.DataFrame, scores: Array, costs: Array, trials: Trials, noise: float | None
) -> tuple[Point, ...]:
    """Return a point for each trial, cheapest first; `scores` and `costs` are (trials,)."""
    numbers, labels, names = (
        known.index.tolist(), known["backbone"].tolist(), known["strategy"].tolist(),
    )  # fmt: skip
    made, best, reach = [], 0, None if noise is None else _z() * noise
    for row in range(len(known)):
        best = row if scores[row] > scores[best] else best
        standing = _standing(scores[best] - scores[row], costs[row] - costs[best], reach)
        value = trials.sign * float(scores[row])
        made.append(
            Point(
                trial=int(numbers[row]),
                backbone=str(labels[row]),
                strategy=str(names[row]),
                value=value,
                cost=float(costs[row]),
                standing=standing,
                dominated_by=None if standing == "front" else int(numbers[best]),
                low=None if reach is None else value - reach,
                high=None if reach is None else value + reach,
            )
        )
    return tuple(made)


def _standing(behind: float, dearer: float, reach: float | None) -> Standing:
    """Return how a trial stands.

    Args:
        behind: score that the best one at most as dear has more, ≥ 0.
        dearer: cost that it has less, ≥ 0.
        reach: of the interval of one value, to each side.
    """
    if behind == 0 and dearer == 0:
        return "front"
    return "within noise" if reach is not None and behind <= sqrt(2) * reach else "dominated"


def _z() -> float:
    return float(norm.ppf((1 + LEVEL) / 2))


def gain_per_hour(trials: Trials, noise: float | None = None) -> Spending | Unsupported:
    """Return what the whole search has bought over the best untuned configuration.

    Args:
        noise: σ, in the objective's unit; None: not known.
    """
    ended = trials.frame[trials.frame["state"].isin(["COMPLETE", "PRUNED", "FAIL"])]
    finished = trials.finished
    untuned = finished[finished["default"].to_numpy(bool)]
    if not len(untuned):
        return Unsupported("needs a finished trial of an untuned configuration, has 0")
    hours = float(ended["seconds"].fillna(0.0).sum()) / 3600
    if hours <= 0:
        return Unsupported("nobody measured how long its trials took")
    reference = _best(untuned, trials.sign)
    best = _best(finished, trials.sign)
    values = finished["value"].astype(float)
    gain = float(trials.sign * (values[best] - values[reference]))
    curve = _curve(ended, finished.index, trials.sign)
    reach = _z() * sqrt(2) * noise if noise is not None and best != reference else 0.0
    return Spending(
        reference=float(values[reference]),
        reference_trial=reference,
        best=float(values[best]),
        best_trial=best,
        gain=gain,
        low=None if noise is None else gain - reach,
        high=None if noise is None else gain + reach,
        hours=hours,
        per_hour=gain / hours,
        mean_gain=_mean_gain(curve, float(values[reference]), hours, trials.sign),
        trials=len(ended),
        curve=curve,
    )


def gain_per_hour_by_backbone(
    trials: Trials, noise: float | None = None
) -> dict[str, Spending | Unsupported]:
    """Return the same for each backbone by itself: its trials, its untuned configuration."""
    labels = trials.frame["backbone"]
    return {
        label: gain_per_hour(_only(trials, labels == label), noise) for label in trials.backbones
    }


def _only(trials: Trials, rows: pd.Series) -> Trials:
    return replace(trials, frame=trials.frame[rows])


def _best(finished: pd.DataFrame, sign: float) -> int:
    """Return the number of the trial with the best value, the earliest of equals."""
    scores = sign * finished["value"].to_numpy(float)
    return int(finished.index.to_numpy()[int(np.argmax(scores))])


def _curve(
    ended: pd.DataFrame, finished: pd.Index[Any], sign: float
) -> tuple[tuple[float, float, int], ...]:
    """Return when the best so far rose, by the hours of trials that had ended by then."""
    in_time = ended.sort_values("ended", kind="stable", na_position="last")
    hours = in_time["seconds"].fillna(0.0).cumsum() / 3600
    steps: list[tuple[float, float, int]] = []
    is_known = in_time.index.isin(finished)
    known = in_time["value"][is_known].to_numpy(float)
    for number, at, value in zip(in_time.index[is_known], hours[is_known], known, strict=True):
        if not steps or sign * value > sign * steps[-1][1]:
            steps.append((float(at), float(value), int(number)))
    return tuple(steps)


def _mean_gain(
    curve: tuple[tuple[float, float, int], ...], reference: float, hours: float, sign: float
) -> float:
    """Return the mean over all hours of the gain so far, which is 0 until it is positive."""
    ends = [*(at for at, _, _ in curve[1:]), hours]
    gains = [max(0.0, sign * (value - reference)) for _, value, _ in curve]
    spans = [end - at for (at, _, _), end in zip(curve, ends, strict=True)]
    return sum(gain * span for gain, span in zip(gains, spans, strict=True)) / hours
