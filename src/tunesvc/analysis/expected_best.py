"""How good the best of n random trials is on average: how many trials are worth their time.

Random trials only: the formula needs independent ones from one distribution. A finished one counts
with its value. A pruned one would have ended with an unknown value, and a search never returns it:
it counts with its last value, or with that of the worst finished trial where this is worse. So the
curve tells what the best of n trials of this search *with its pruner* is; were pruned ones left
out, the survivors would make few trials look better than they are. A trial that failed is not
counted.

Why: 2026-11: the curve ends at half the random trials, and what doubling buys at a quarter: beyond,
they are little else than the best value that was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from math import inf

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunesvc.analysis.order_statistics import Sampled, expected_maximum, gain_of_doubling
from tunesvc.analysis.scale import scale
from tunesvc.analysis.table import LEVEL, Estimate, Trials, Unsupported

LEAST = 8  # random trials, for a curve of four points
WORTH = 0.5  # points that doubling must buy
_POINTS = 64  # of the curve, at most

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BestAfter:
    """What the best of so many random trials is.

    Args:
        trials: n.
        seconds: of all n, at the mean of this search; None while unknown.
        best: objective, in its own unit.
        doubling: what n more are expected to buy, ≥ 0, in the same unit; None where too few
            trials were drawn to tell.
    """

    trials: int
    seconds: float | None
    best: Estimate
    doubling: Estimate | None


@dataclass(frozen=True)
class ExpectedBest:
    """Expected best after n random trials.

    Args:
        curve: by n, from 1 to half the random trials.
        enough: smallest n of the curve after which doubling buys less than `worth`; None: more than
            `upto`.
        enough_between: ends of its interval (`LEVEL`); None: more than `upto`.
        upto: the largest n after which the trials can tell what doubling buys.
        worth: in the objective's unit.
        worth_words: where `worth` comes from, for people.
        seconds_per_trial: mean wall time of the random trials, pruned ones too; None while unknown.
        finished, pruned: numbers of random trials.
    """

    curve: tuple[BestAfter, ...]
    enough: int | None
    enough_between: tuple[int | None, int | None]
    upto: int
    worth: float
    worth_words: str
    seconds_per_trial: float | None
    finished: int
    pruned: int


def expected_best(trials: Trials, noise: float | None = None) -> ExpectedBest | Unsupported:
    """Return how the best of n random trials grows with n, and from which n on it hardly does.

    Args:
        noise: standard deviation between seeds of one configuration, in the objective's unit: to be
            worth it, doubling must buy at least this too.
    """
    finished = trials.finished[trials.finished["drawn"] == "random"]
    fits = trials.feasible
    pruned = fits[(fits["drawn"] == "random") & (fits["state"] == "PRUNED")]
    if finished.empty or len(finished) + len(pruned) < LEAST:
        return Unsupported(
            f"needs {LEAST} random trials that ended, one of them unpruned; "
            f"has {len(finished)} and {len(pruned)} pruned"
        )
    worth = _worth(trials, noise)
    if isinstance(worth, Unsupported):
        return worth
    seconds = pd.concat([finished["seconds"], pruned["seconds"]]).mean()
    return _told(
        _scores(trials.sign, finished, pruned),
        trials,
        worth,
        seconds=None if pd.isna(seconds) else float(seconds),
        pruned=len(pruned),
    )


def _worth(trials: Trials, noise: float | None) -> tuple[float, str] | Unsupported:
    found = scale(trials)
    if noise and (isinstance(found, Unsupported) or noise > WORTH * found.point):
        return noise, "the noise between seeds"
    if isinstance(found, Unsupported):
        return found
    return WORTH * found.point, f"half a point; {found.words}"


def _scores(sign: float, finished: pd.DataFrame, pruned: pd.DataFrame) -> Array:
    """Return the scores (N,) in ascending order, larger ones being better."""
    won = sign * finished["value"].to_numpy(dtype=float)
    last = pruned["last"].to_numpy(dtype=float)
    lost = np.fmin(np.where(np.isfinite(last), sign * last, np.nan), won.min())  # fmin passes NaN
    return np.sort(np.concatenate([won, lost]))


def _told(
    scores: Array,
    trials: Trials,
    worth: tuple[float, str],
    *,
    seconds: float | None,
    pruned: int,
) -> ExpectedBest:
    sizes = _sizes(len(scores) // 2)
    doubled = [n for n in sizes if 4 * n <= len(scores)]
    gain = gain_of_doubling(scores, doubled)
    bests = _estimates(expected_maximum(scores, sizes), trials, len(scores))
    gains = _estimates(gain, trials, len(scores), difference=True)
    enough, low, high = _enough(doubled, gain, worth[0])
    return ExpectedBest(
        curve=tuple(
            BestAfter(n, None if seconds is None else n * seconds, best, more)
            for n, best, more in zip_longest(sizes, bests, gains)
        ),
        enough=enough,
        enough_between=(low, high),
        upto=doubled[-1],
        worth=worth[0],
        worth_words=worth[1],
        seconds_per_trial=seconds,
        finished=len(scores) - pruned,
        pruned=pruned,
    )


def _sizes(largest: int) -> list[int]:
    """Return n from 1 on: all of them, or thinned out evenly in orders of magnitude."""
    grid = np.geomspace(1, largest, _POINTS).round().astype(int)
    return np.unique(grid).tolist() if largest > _POINTS else list(range(1, largest + 1))


def _estimates(
    sampled: Sampled, trials: Trials, count: int, *, difference: bool = False
) -> list[Estimate]:
    """Return scores as estimates of the objective, or differences of scores as they are."""
    sign = 1.0 if difference else trials.sign
    least = 0.0 if difference else -inf
    low, high = (np.maximum(end, least) for end in sampled.interval(LEVEL))
    ends = np.sort(sign * np.stack([low, high]), axis=0)
    return [
        Estimate(sign * float(value), float(lower), float(upper), count, trials.metric)
        for value, lower, upper in zip(sampled.value, *ends, strict=True)
    ]


def _enough(sizes: list[int], gain: Sampled, worth: float) -> tuple[int | None, ...]:
    """Return the first size at which doubling buys too little, and the ends of its interval."""

    def first(gains: Array) -> float:
        below = np.flatnonzero(gains < worth)
        return float(sizes[below[0]]) if below.size else inf

    again = sorted(first(gains) for gains in gain.resampled)
    low, high = (
        again[round(side * (len(again) - 1))] for side in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    )
    value = first(gain.value)
    found = (value, min(value, low), max(value, high))
    return tuple(int(n) if n < inf else None for n in found)
