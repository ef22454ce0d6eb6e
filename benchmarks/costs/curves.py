"""The best value so far over seconds, of several seeds; and what two samplers differ by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

POINTS = 80  # of a curve
ROUNDING = 1e-6

Told = Sequence[tuple[float, float]]  # (seconds, value) of complete trials, as they ended


@dataclass(frozen=True)
class Sampler:
    """One sampler's seeds.

    Args:
        low, middle, high: quartiles of the best value so far at each point of the grid; None
            before the first trial of a quarter of the seeds, a half, three quarters.
        final: of each seed.
        trials: that were complete, the median of the seeds.
        reach: seconds until half of the seeds were as good as the plain sampler's median at the
            end; None: they never were.
    """

    low: list[float | None]
    middle: list[float | None]
    high: list[float | None]
    final: list[float]
    trials: float
    reach: float | None


@dataclass(frozen=True)
class Pair:
    """Both samplers in one case, at equal seconds.

    Args:
        better, equal, worse: seeds of the cost-aware sampler beside the plain one's, at the end.
        half: the same at half of the seconds.
        area: by how much its best value so far was higher, as a mean over seconds and seeds.
        spread: two standard errors of that.
    """

    title: str
    seconds: float
    grid: list[float]
    plain: Sampler
    aware: Sampler
    ends: tuple[int, int, int]
    half: tuple[int, int, int]
    area: float
    spread: float


def pair(title: str, seconds: float, plain: Sequence[Told], aware: Sequence[Told]) -> Pair:
    """Return both samplers' curves and how they compare, seed by seed."""
    grid = np.linspace(0, seconds, POINTS + 1)[1:]
    theirs, ours = (np.array([_best(told, grid) for told in each]) for each in (plain, aware))
    goal = float(np.quantile(np.nan_to_num(theirs[:, -1]), 0.5, method="inverted_cdf"))
    gain = np.nan_to_num(ours).mean(axis=1) - np.nan_to_num(theirs).mean(axis=1)
    return Pair(
        title=title,
        seconds=seconds,
        grid=[round(float(each), 3) for each in grid],
        plain=_sampler(plain, theirs, goal, grid),
        aware=_sampler(aware, ours, goal, grid),
        ends=_compared(ours[:, -1], theirs[:, -1]),
        half=_compared(ours[:, POINTS // 2 - 1], theirs[:, POINTS // 2 - 1]),
        area=round(float(gain.mean()), 5),
        spread=round(float(2 * gain.std(ddof=1) / len(gain) ** 0.5), 5),
    )


def _best(told: Told, grid: Any) -> Any:
    """Return the best value so far at each point; NaN before the first trial has ended."""
    if not told:
        return np.full(len(grid), np.nan)
    ended = np.array([each for each, _ in told])
    so_far = np.maximum.accumulate(np.array([value for _, value in told]))
    place = np.searchsorted(ended, grid, side="right") - 1
    return np.where(place >= 0, so_far[np.maximum(place, 0)], np.nan)


def _sampler(told: Sequence[Told], curves: Any, goal: float, grid: Any) -> Sampler:
    known = np.nan_to_num(curves, nan=-np.inf)
    quartiles = np.quantile(known, [0.25, 0.5, 0.75], axis=0, method="inverted_cdf")
    reached = np.flatnonzero(quartiles[1] >= goal - ROUNDING)
    low, middle, high = (
        [round(float(v), 5) if np.isfinite(v) else None for v in each] for each in quartiles
    )
    return Sampler(
        low=low, middle=middle, high=high,
        final=[round(float(each), 5) for each in curves[:, -1]],
        trials=float(np.median([len(each) for each in told])),
        reach=float(grid[reached[0]]) if len(reached) else None,
    )  # fmt: skip


def _compared(ours: Any, theirs: Any) -> tuple[int, int, int]:
    difference = np.nan_to_num(ours) - np.nan_to_num(theirs)
    better, worse = int((difference > ROUNDING).sum()), int((difference < -ROUNDING).sum())
    return better, len(difference) - better - worse, worse
