"""The pruner of a study, from its file."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from optuna.pruners import BasePruner, NopPruner

from tunesvc.search.asha import Asha
from tunesvc.search.hyperband import Brackets, Hyperband
from tunesvc.search.median import Median
from tunesvc.spec import StudySpec, derive_seed, search_spec


def pruner(spec: StudySpec) -> BasePruner:
    """Return the study's pruner; its steps are epochs finished, from 1 on."""
    match spec.pruner:
        case search_spec.AshaPruner() as asha:
            skipped = asha.min_early_stopping_rate
            return Asha(asha.min_resource, asha.reduction_factor, skipped, controls(spec))
        case search_spec.HyperbandPruner() as hyperband:
            return Hyperband(brackets(spec, hyperband), controls(spec))
        case search_spec.MedianPruner() as median:
            return Median(median.n_startup_trials, median.n_warmup_steps, median.interval_steps)
    return NopPruner()


def controls(spec: StudySpec) -> Callable[[int], bool]:
    """Return what tells of a trial's number whether it goes on where the pruner would stop it.

    Why: 2026-11: chosen by number alone, before anything is known of it: the controls are a fair
    sample of all trials, which those that the pruner lets through are not.
    """
    share = 0.0 if isinstance(spec.pruner, search_spec.NoPruner) else spec.pruner.control
    digest = spec.digest

    @lru_cache(2**17)
    def is_control(number: int) -> bool:
        return share > 0 and derive_seed(digest, "control", number) < share * 2**31

    return is_control


def rungs(pruner: BasePruner, study_name: str, number: int) -> Callable[[int], bool]:
    """Return after which steps the pruner asks for other trials' values to judge this one."""
    match pruner:
        case Asha():
            return pruner.is_rung
        case Hyperband():
            return pruner.halving(study_name, number).is_rung
    return lambda _step: False


def brackets(spec: StudySpec, hyperband: search_spec.HyperbandPruner) -> Brackets:
    """Return a study's brackets: they follow from the epochs of a trial."""
    return Brackets(hyperband.min_resource, spec.budget.epochs, hyperband.reduction_factor)
