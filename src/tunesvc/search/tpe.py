"""Optuna's TPE, drawing the same in a fraction of the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import default_gamma
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from tunesvc.search.density import log_density
from tunesvc.search.memory import ENDED, WANTED, Memory, Seen

Space = dict[str, BaseDistribution]


class Tpe(TPESampler):
    """TPE for one objective; what is drawn is a pure function of the seed and the trials seen.

    It draws what Optuna's TPESampler draws (the tests hold both side by side) but for one thing:
    Optuna writes what it drew into the trial's attributes, for other workers to see before the
    parameters are stored, and with `group` this includes branches that the trial does not enter.
    Our parameters are stored together at once, and a running trial counts where it is.

    Why: 2026-11: Optuna converts and sorts the whole history anew for each group of parameters
    and evaluates it kernel by kernel. Here finished trials are converted once per process
    (`Memory`), and the density of the worse trials is a matrix product (`density`). That left
    nothing for a cap on the history to gain (benchmarks/search_quality.md).

    Args:
        seed: of the draws.
        group: model the parameters of a branch jointly, each branch for itself.
        memory: of this study and process.
    """

    def __init__(
        self,
        seed: int,
        *,
        n_startup_trials: int = 10,
        n_ei_candidates: int = 24,
        multivariate: bool = True,
        group: bool = True,
        constant_liar: bool = True,
        memory: Memory | None = None,
    ) -> None:
        super().__init__(
            seed=seed,
            n_startup_trials=n_startup_trials,
            n_ei_candidates=n_ei_candidates,
            multivariate=multivariate,
            constant_liar=constant_liar,
        )
        self._in_groups = group and multivariate  # Optuna models groups jointly or not at all
        self._memory = Memory() if memory is None else memory
        self._seen: Seen | None = None
        self._groups: list[Space] = []

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Forget what the trial before saw."""
        self._seen = None
        super().before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Space:
        """Return the parameters that are drawn jointly: each group, or those all trials have."""
        if self._in_groups:
            self._groups = groups_of(self._look(study).spaces())
        else:
            self._groups = [super().infer_relative_search_space(study, trial)]
        return {name: it for group in self._groups for name, it in group.items()}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,  # noqa: ARG002 - the hook is Optuna's
        search_space: Space,
    ) -> dict[str, Any]:
        """Draw the parameters of `search_space`, group by group; none during the start-up."""
        if self.is_starting(study):
            return {}
        drawn: dict[str, Any] = {}
        for group in self._groups:
            wanted = {name: it for name, it in group.items() if name in search_space}
            if wanted:
                drawn |= self._draw(study, wanted)
        return drawn

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a parameter that no group has; at random during the start-up."""
        if self.is_starting(study):
            chance = self._random_sampler
            return chance.sample_independent(study, trial, param_name, param_distribution)
        return self._draw(study, {param_name: param_distribution})[param_name]

    def is_starting(self, study: optuna.Study) -> bool:
        """Tell whether the present trial is drawn at random: too few have ended."""
        return self._look(study).finished < self._n_startup_trials

    def _look(self, study: optuna.Study) -> Seen:
        """Return what the trial sees: once, however many parameters it has."""
        if self._seen is None:
            states = WANTED if self._constant_liar else ENDED
            trials = study.get_trials(deepcopy=False, states=states)
            maximizes = study.direction is StudyDirection.MAXIMIZE
            seen = self._memory.look(trials, is_larger_better=maximizes)
            self._seen = seen.split(default_gamma(seen.finished))
        return self._seen

    def _draw(self, study: optuna.Study, space: Space) -> dict[str, Any]:
        """Draw candidates where good trials are dense, and keep the one farthest from others."""
        seen, names = self._look(study), list(space)
        parameters = self._parzen_estimator_parameters
        good = dict(zip(names, seen.values(seen.good, names), strict=True))
        better = _ParzenEstimator(good, space, parameters)
        candidates = better.sample(self._rng.rng, self._n_ei_candidates)
        worse = log_density(candidates, seen.values(seen.others, names), space, parameters)
        best = int(np.argmax(better.log_pdf(candidates) - worse))
        return {
            name: it.to_external_repr(candidates[name][best].item()) for name, it in space.items()
        }


def groups_of(spaces: Sequence[Mapping[str, BaseDistribution]]) -> list[Space]:
    """Return the coarsest parts of which every one of the spaces is made, in a fixed order."""
    groups: list[Space] = []
    for space in spaces:
        parts = [part for group in groups for part in _parted(group, space)]
        met = {name for group in groups for name in group}
        parts.append({name: it for name, it in space.items() if name not in met})
        groups = [part for part in parts if part]
    searched = [
        {name: it for name, it in sorted(group.items()) if not it.single()} for group in groups
    ]
    return [group for group in searched if group]


def _parted(group: Space, space: Mapping[str, BaseDistribution]) -> tuple[Space, Space]:
    inside = {name: it for name, it in group.items() if name in space}
    outside = {name: it for name, it in group.items() if name not in space}
    return inside, outside
