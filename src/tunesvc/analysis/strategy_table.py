"""Backbone × strategy: what each combination reached, how evenly, and at what price.

Best and spread answer two questions: how good can it be, and how much does tuning decide. Both
count finished trials only: a pruned trial's last value was measured after fewer epochs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median, quantiles
from typing import Literal

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class TrialRow:
    """One trial, as far as tables of results need to know it."""

    number: int
    state: str  # COMPLETE, PRUNED, FAIL, RUNNING, WAITING
    value: float | None  # of the objective, in its own unit; None while there is none
    backbone: str  # label
    strategy: str
    seconds: float | None  # wall time of the whole trial, s


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


def strategy_table(rows: Iterable[TrialRow], direction: Direction) -> tuple[Cell, ...]:
    """Return a line for each backbone and strategy that was tried, the best first.

    Combinations without a finished trial come last, in the order in which they were first tried.
    """
    tried: defaultdict[tuple[str, str], list[TrialRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.number):
        tried[row.backbone, row.strategy].append(row)
    cells = [
        _cell(backbone, strategy, trials, direction)
        for (backbone, strategy), trials in tried.items()
    ]
    return tuple(sorted(cells, key=lambda cell: _loss(cell.best, direction)))


def _cell(backbone: str, strategy: str, trials: Sequence[TrialRow], direction: Direction) -> Cell:
    states = Counter(trial.state for trial in trials)
    finished = [trial for trial in trials if trial.state == "COMPLETE"]
    values = [trial.value for trial in finished if trial.value is not None]
    best = min(finished, key=lambda trial: _loss(trial.value, direction), default=None)
    seconds = [trial.seconds for trial in finished if trial.seconds is not None]
    return Cell(
        backbone=backbone,
        strategy=strategy,
        best=best.value if best else None,
        best_trial=best.number if best else None,
        median=median(values) if values else None,
        spread=_interquartile_range(values),
        seconds=median(seconds) if seconds else None,
        finished=states["COMPLETE"],
        pruned=states["PRUNED"],
        failed=states["FAIL"],
    )


def _loss(value: float | None, direction: Direction) -> float:
    if value is None:
        return inf
    return value if direction == "minimize" else -value


def _interquartile_range(values: Sequence[float]) -> float | None:
    """Return the third quartile less the first, linearly interpolated between observations."""
    if len(values) < 2:
        return None
    first, _, third = quantiles(values, method="inclusive")
    return third - first
