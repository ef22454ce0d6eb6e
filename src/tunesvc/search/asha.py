"""Asynchronous successive halving, decided from the values that trials reported; stores nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, runtime_checkable

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial


@runtime_checkable
class RungValues(Protocol):
    """What a storage may offer, so that a rung costs one small question, or none."""

    def values_at(self, study_id: int, step: int) -> Mapping[int, float]:
        """Return number → the value after exactly this step, of all trials that have one now."""
        ...


def nobody(_number: int) -> bool:
    """Tell of no trial that it stands apart."""
    return False


class Asha(BasePruner):
    """Asynchronous successive halving over epochs finished, from 1 on.

    At a rung a trial goes on if it is among the best 1/`reduction_factor` of all that reported
    there up to now, or the best while they are fewer than that.

    Why: 2026-11: Optuna's SuccessiveHalvingPruner gives the same verdicts, but writes a mark for
    each rung into the trial before it judges: a write more, and a worker that dies between the two
    leaves a trial that looks as if it had been let through. A trial reports every epoch once, so
    its value at the rung's epoch is the mark; a trial taken over there is judged again.

    Source: Li et al. 2020, "A system for massively parallel hyperparameter tuning",
    arXiv:1810.05934.

    Args:
        min_resource: epochs of the first rung.
        reduction_factor: each rung has so many times the epochs of the one before.
        min_early_stopping_rate: how many of the first rungs are left out.
        is_apart: of a trial's number: it runs on whatever is said of it, and nobody is compared
            with it; poor ones that run on would let others pass at late rungs, where few are left.
    """

    def __init__(
        self,
        min_resource: int,
        reduction_factor: int,
        min_early_stopping_rate: int = 0,
        is_apart: Callable[[int], bool] = nobody,
    ) -> None:
        self.first: int = min_resource * reduction_factor**min_early_stopping_rate
        self.factor = reduction_factor
        self.is_apart = is_apart

    def is_rung(self, step: int) -> bool:
        """Tell whether trials are judged after this epoch."""
        rung = self.first
        while rung < step:
            rung *= self.factor
        return rung == step

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether a trial ends after the last epoch it reported.

        Between rungs nothing is read but `trial.intermediate_values`.
        """
        step = trial.last_step
        if step is None or not self.is_rung(step):
            return False
        own = trial.intermediate_values[step]
        towards = study.directions[0]  # of several objectives, the first one's
        return math.isnan(own) or not self._goes_on(own, self.rivals(study, trial), towards)

    def rivals(self, study: optuna.Study, trial: FrozenTrial) -> Iterable[float]:
        """Return the values of the other trials after the epoch that this one is at."""
        found = values_at(study, trial.last_step or 0)
        return [
            value
            for number, value in found.items()
            if number != trial.number and not self.is_apart(number)
        ]

    def _goes_on(self, own: float, rivals: Iterable[float], direction: StudyDirection) -> bool:
        sign = -1.0 if direction is StudyDirection.MAXIMIZE else 1.0
        losses = [sign * value for value in rivals if not math.isnan(value)]
        better = sum(loss < sign * own for loss in losses)
        return better < max((len(losses) + 1) // self.factor, 1)


def values_at(study: optuna.Study, step: int) -> Mapping[int, float]:
    """Return number → the value after exactly this step, of all of a study's trials."""
    storage = study._storage
    if isinstance(storage, RungValues):
        return storage.values_at(study._study_id, step)
    return {
        trial.number: trial.intermediate_values[step]
        for trial in study.get_trials(deepcopy=False)
        if step in trial.intermediate_values
    }
