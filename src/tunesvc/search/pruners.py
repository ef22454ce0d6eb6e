"""The pruner of a study, from its file."""

from __future__ import annotations

from optuna.pruners import BasePruner, MedianPruner, NopPruner

from tunesvc.search.asha import Asha
from tunesvc.search.hyperband import Brackets, Hyperband
from tunesvc.spec import StudySpec, search_spec


def pruner(spec: StudySpec) -> BasePruner:
    """Return the study's pruner; its steps are epochs finished, from 1 on."""
    match spec.pruner:
        case search_spec.AshaPruner() as asha:
            return Asha(asha.min_resource, asha.reduction_factor, asha.min_early_stopping_rate)
        case search_spec.HyperbandPruner() as hyperband:
            return Hyperband(brackets(spec, hyperband))
        case search_spec.MedianPruner() as median:
            return MedianPruner(
                n_startup_trials=median.n_startup_trials,
                n_warmup_steps=median.n_warmup_steps,
                interval_steps=median.interval_steps,
            )
    return NopPruner()


def brackets(spec: StudySpec, hyperband: search_spec.HyperbandPruner) -> Brackets:
    """Return a study's brackets: they follow from the epochs of a trial."""
    return Brackets(hyperband.min_resource, spec.budget.epochs, hyperband.reduction_factor)
