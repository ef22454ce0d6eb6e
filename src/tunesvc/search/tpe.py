"""Optuna's TPE, drawing the same in a fraction of the time."""

from __future__ import annotations

import math
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

from tunesvc.search.costs import log_seconds
from tunesvc.search.density import log_density
from tunesvc.search.memory import ENDED, WANTED, Floats, Memory, Seen

Space = dict[str, BaseDistribution]

FLOOR = 0.01  # the share of the seconds spent so far below which a trial's are as good as none


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

    Why: 2026-11: cost-aware, the candidate with the largest expected improvement per second is
    kept (Snoek et al. 2012, section 3.2), by the seconds that trials had (`costs`). TPE's expected
    improvement is (γ + (1 - γ) g/l)⁻¹ up to a constant (Bergstra et al. 2011, equation 5), γ being
    the share of good trials: the chance to be among the good. It is bounded, as seconds are not,
    so that division alone soon draws nothing but what is cheap. The known remedy is an exponent of
    the seconds that falls as the budget is spent (Lee et al. 2020, arXiv:2003.10870); but a budget
    may be raised, and is no part of the digest. So a part of the seconds spent so far is added to
    those of every candidate: to who has spent an hour, a second and half a minute are much the
    same. The longer a study, the less seconds count. A hundredth: of 0, 1, 3 and 10 % the only one
    that was ahead of plain TPE in three cases, over the whole time and at the end, cheap or dear as
    the best was there (on the table of benchmarks/cost_aware.py, 20 seeds; docs/cost-aware.md).

    Args:
        seed: of the draws.
        group: model the parameters of a branch jointly, each branch for itself.
        cost_aware: prefer what promises the most per second.
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
        cost_aware: bool = False,
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
        self._cost_aware = cost_aware
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
        best = self._best(better.log_pdf(candidates) - worse, candidates, space)
        return {
            name: it.to_external_repr(candidates[name][best].item()) for name, it in space.items()
        }

    def _best(self, ratio: Floats, candidates: Mapping[str, Floats], space: Space) -> int:
        """Return which candidate promises most; cost-aware: most per second.

        Args:
            ratio: by how much denser good trials lie at each than others do, as a logarithm.
        """
        seen, names = self._seen, list(space)
        if not self._cost_aware or seen is None:
            return int(np.argmax(ratio))
        measured = seen.measured
        known, floor = seen.having(measured, names), FLOOR * float(seen.seconds[measured].sum())
        observed, seconds = seen.values(known, names), seen.seconds[known]
        dearness = log_seconds(candidates, observed, seconds, space, floor)
        if not dearness.any():
            return int(np.argmax(ratio))
        share = len(seen.good) / len(seen.rows)
        improvement = -np.logaddexp(math.log(share), math.log1p(-share) - ratio)
        return int(np.argmax(improvement - dearness))


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
