"""TPE for several objectives, which learns from pruned trials, too.

Why: 2026-11: Optuna's TPESampler raises in a study of several objectives as soon as a trial is
pruned (`study.direction`), and its authors prune none there. Trials are pruned by the first
objective: it is mostly the small, quick models that are behind at first, of which the others say
little. So a pruned trial counts here as a finished one, with what it had reached: its last value,
which it would hardly have fallen below, and its costs, which are known (`REACHED`). With these it
is beaten by those that were better and no dearer, and not by those that were only better. Ranked
behind all finished trials, as with one objective, every small model would count as bad.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
import optuna
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import (
    _split_complete_trials_multi_objective,
    default_gamma_multiobjective,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tunesvc.search.density import log_density
from tunesvc.search.memory import ENDED, INFEASIBLE, RUNNING, WANTED, Ints, Seen
from tunesvc.search.tpe import Space, Tpe

REACHED = "tunesvc:reached"  # the system attribute of a pruned trial: each objective's value


class SeveralTpe(Tpe):
    """TPE for several objectives; where none is pruned, it draws what Optuna's TPESampler draws.

    Source: Ozaki et al. 2022, "Multiobjective tree-structured Parzen estimator", JAIR 73; as
    Optuna 5 has it: by ranks of non-domination, of the last rank those of the largest hypervolume.
    """

    def _look(self, study: optuna.Study) -> Seen:
        if self._seen is None:
            states = WANTED if self._constant_liar else ENDED
            trials = study.get_trials(deepcopy=False, states=states)
            maximizes = study.directions[0] is StudyDirection.MAXIMIZE
            seen = self._memory.look(trials, is_larger_better=maximizes)
            count = default_gamma_multiobjective(seen.finished)
            self._seen = _split(seen, _observed(seen, trials), study, count)
        return self._seen

    def _draw(self, study: optuna.Study, space: Space) -> dict[str, Any]:
        """As with one objective, but every good trial weighs the same."""
        seen, names = self._look(study), list(space)
        parameters = self._parzen_estimator_parameters
        values = seen.values(seen.good, names)
        good = dict(zip(names, values, strict=True))
        better = _ParzenEstimator(good, space, parameters, np.ones(values.shape[1]))
        candidates = better.sample(self._rng.rng, self._n_ei_candidates)
        worse = log_density(candidates, seen.values(seen.others, names), space, parameters)
        best = self._best(better.log_pdf(candidates) - worse, candidates, space)
        return {
            name: it.to_external_repr(candidates[name][best].item()) for name, it in space.items()
        }


def _observed(seen: Seen, trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
    """Return place → a trial with its values, of those that keep the constraints and have some."""
    found = {}
    for place, trial in enumerate(trials):
        if seen.counts_as[place] in (INFEASIBLE, RUNNING):
            continue
        values = trial.values if trial.state is TrialState.COMPLETE else reached(trial)
        if values is not None:
            shown = copy.copy(trial)
            shown.values = values
            found[place] = shown
    return found


def reached(trial: FrozenTrial) -> list[float] | None:
    """Return what a pruned trial had reached by each objective; None where that is not known."""
    values = trial.system_attrs.get(REACHED)
    return list(values) if values and all(map(isfinite, values)) else None


def _split(seen: Seen, observed: dict[int, FrozenTrial], study: optuna.Study, count: int) -> Seen:
    """Return the same with that many good trials: first of the observed, then as `Seen.split`."""
    most = min(count, len(observed))
    best, _ = _split_complete_trials_multi_objective(list(observed.values()), study, most)
    good = _places(observed, best)
    apart = seen.counts_as.copy()
    apart[list(observed)] = RUNNING
    rest = replace(seen, counts_as=apart).split(count - len(good)).good
    good = np.sort(np.concatenate([good, rest]))
    others = np.setdiff1d(np.arange(len(seen.rows)), good)
    return replace(seen, good=good, others=others)


def _places(observed: dict[int, FrozenTrial], chosen: Iterable[FrozenTrial]) -> Ints:
    known = {id(trial): place for place, trial in observed.items()}
    return np.array([known[id(trial)] for trial in chosen], np.int64)
