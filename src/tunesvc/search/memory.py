"""What finished trials hold, as arrays, kept from one ask to the next."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import cast

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COMPLETE, PRUNED, INFEASIBLE, RUNNING = range(4)  # what a trial counts as, the best first
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
WANTED = (*ENDED, TrialState.RUNNING)
SECONDS = "seconds"  # the user attribute: {phase: seconds}
_NUMBER = attrgetter("number")


@dataclass(frozen=True)
class Seen:
    """The trials that one ask sees: rows in the order of their numbers.

    Args:
        rows: int64 (n,), trial numbers.
        counts_as: int64 (n,), COMPLETE, PRUNED, INFEASIBLE or RUNNING.
        keys: float64 (n, 2), by which those that count as the same are ranked, smaller first.
        seconds: float64 (n,), what each was seen to cost; NaN where nobody measured it.
        branch: int64 (n,), index into `branches`: which parameters the trial has.
        branches: the distributions of each set of parameters that was ever met.
        columns: for each parameter its values by trial number, as Optuna represents them.
        good: int64, the places in `rows` of the best trials, once they are `split`.
        others: int64, the places of all others.
    """

    rows: Ints
    counts_as: Ints
    keys: Floats
    seconds: Floats
    branch: Ints
    branches: Sequence[Mapping[str, BaseDistribution]]
    columns: Mapping[str, Floats]
    good: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    others: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def finished(self) -> int:
        """How many trials have ended."""
        return int(np.count_nonzero(self.counts_as != RUNNING))

    def spaces(self) -> list[Mapping[str, BaseDistribution]]:
        """Return each set of parameters a finished trial has, in the order they first occur."""
        finished = self.branch[self.counts_as != RUNNING]
        _, first = np.unique(finished, return_index=True)
        return [self.branches[finished[place]] for place in np.sort(first)]

    def split(self, count: int) -> Seen:
        """Return the same with that many `good` trials: of equal ones, the earliest."""
        is_good = np.zeros(len(self.rows), dtype=bool)
        for standing in (COMPLETE, PRUNED, INFEASIBLE):
            places = np.flatnonzero(self.counts_as == standing)
            first, second = self.keys[places].T
            best = places[np.lexsort((second, first))[:count]]
            is_good[best] = True
            count -= len(best)
        return replace(self, good=np.flatnonzero(is_good), others=np.flatnonzero(~is_good))

    def values(self, places: Ints, names: Sequence[str]) -> Floats:
        """Return the parameters of those trials that have all of them: float64 (names, trials)."""
        rows = self.rows[self.having(places, names)]
        if not len(rows):
            return np.empty((len(names), 0))
        return np.stack([self.columns[name][rows] for name in names])

    def having(self, places: Ints, names: Sequence[str]) -> Ints:
        """Return the places of those trials that have all of these parameters."""
        has_all = np.array([all(name in it for name in names) for it in self.branches], dtype=bool)
        return places[has_all[self.branch[places]]] if has_all.any() else places[:0]

    @property
    def measured(self) -> Ints:
        """The places of the trials whose seconds tell what a trial costs there.

        Why: 2026-11: a pruned trial counts with what was spent on it: that is what such a trial
        costs. One that broke a constraint was ended before it trained. Its seconds say nothing of
        training, and would make what is infeasible look cheap.
        """
        counts = (self.counts_as == COMPLETE) | (self.counts_as == PRUNED)
        return np.flatnonzero(counts & (self.seconds > 0))  # not a number is not above 0


class Memory:
    """What an ask worked out of a study's trials, for the next ask: each finished trial once.

    It changes nothing but the time it takes: a trial is read anew when the storage hands out
    another object for it. One is good for one study, and for any number of threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: list[FrozenTrial | None] = []  # by number; None for a trial that runs
        self._branches: dict[frozenset[str], int] = {}
        self._distributions: list[Mapping[str, BaseDistribution]] = []
        self._counts_as = np.empty(0, np.int64)
        self._keys = np.empty((0, 2))
        self._seconds = np.empty(0)
        self._branch = np.empty(0, np.int64)
        self._columns: dict[str, Floats] = {}

    def look(self, trials: Sequence[FrozenTrial], *, is_larger_better: bool) -> Seen:
        """Return what trials in WANTED states hold, given in the order of their numbers.

        Args:
            trials: the one that looks may be among them: it has no parameters yet.
            is_larger_better: whether the study maximizes.
        """
        numbers = list(map(_NUMBER, trials))
        with self._lock:
            self._grow(max(numbers, default=-1) + 1)
            known = map(self._known.__getitem__, numbers)
            for trial, before in zip(trials, known, strict=True):
                if trial is not before:
                    self._read(trial)
            return self._seen(np.array(numbers, np.int64), -1.0 if is_larger_better else 1.0)

    def _seen(self, rows: Ints, sign: float) -> Seen:
        keys = self._keys[rows]
        keys[:, 1] *= sign
        keys[np.isnan(keys)] = np.inf  # not a number is the worst
        branches, columns = tuple(self._distributions), dict(self._columns)
        counts_as, seconds = self._counts_as[rows], self._seconds[rows]
        return Seen(rows, counts_as, keys, seconds, self._branch[rows], branches, columns)

    def _grow(self, size: int) -> None:
        missing = size - len(self._known)
        if missing <= 0:
            return
        missing = max(missing, len(self._known) // 4)  # seldom, and for many at once
        self._known += [None] * missing
        self._counts_as = np.pad(self._counts_as, (0, missing))
        self._keys = np.pad(self._keys, ((0, missing), (0, 0)))
        self._seconds = np.pad(self._seconds, (0, missing))
        self._branch = np.pad(self._branch, (0, missing))
        self._columns = {name: np.pad(old, (0, missing)) for name, old in self._columns.items()}

    def _read(self, trial: FrozenTrial) -> None:
        number = trial.number
        params, distributions = trial.params, trial.distributions
        branch = self._branches.setdefault(frozenset(params), len(self._branches))
        if branch == len(self._distributions):
            self._distributions.append(dict(distributions))
            for name in distributions:
                self._columns.setdefault(name, np.zeros(len(self._known)))
        for name, distribution in distributions.items():
            self._columns[name][number] = distribution.to_internal_repr(params[name])
        self._branch[number] = branch
        self._counts_as[number], self._keys[number] = _standing(trial)
        self._seconds[number] = _seconds(trial)
        self._known[number] = trial if trial.state.is_finished() else None


def _standing(trial: FrozenTrial) -> tuple[int, tuple[float, float]]:
    """Return what a trial counts as, and its keys there; the second as large as the value was.

    As Optuna's TPESampler ranks them: pruned trials by the epochs they had, then by their value;
    infeasible ones by how much they break.
    """
    if trial.state is TrialState.RUNNING:
        return RUNNING, (0.0, 0.0)
    broken = sum(by for by in trial.constraints.values() if by > 0)
    if broken > 0:
        return INFEASIBLE, (broken, 0.0)
    if trial.state is TrialState.COMPLETE:
        return COMPLETE, (0.0, cast(list[float], trial.values)[0])
    if not trial.intermediate_values:
        return PRUNED, (1.0, 0.0)
    step, value = max(trial.intermediate_values.items())
    return PRUNED, (-float(step), value)


def _seconds(trial: FrozenTrial) -> float:
    """Return what the phases of a trial took together; NaN where nobody measured them."""
    phases = trial.user_attrs.get(SECONDS)
    return float(sum(phases.values())) if isinstance(phases, Mapping) else math.nan
