"""Hyperband: successive halving in several brackets, and a sampler that keeps to its bracket.

Why: 2026-11: under Optuna's HyperbandPruner, TPE models the trials of all brackets, although only
those of one bracket were halved alike: the view of a study that Optuna hands to the sampler narrows
`get_trials`, and TPE calls `_get_trials` (optuna 5.0.0: it saw 301 trials where its bracket held
78). Our view narrows both.

Source: Li et al. 2018, "Hyperband", JMLR 18(185); the brackets are Optuna's.
"""

from __future__ import annotations

import math
from binascii import crc32
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tunesvc.search.asha import Asha, nobody, values_at


@dataclass(frozen=True)
class Brackets:
    """Which trial is in which bracket; bracket b leaves out the first b rungs.

    Args:
        min_resource: epochs of bracket 0's first rung.
        max_resource: epochs of a whole trial.
        reduction_factor: each rung has so many times the epochs of the one before.
    """

    min_resource: int
    max_resource: int
    reduction_factor: int

    def __len__(self) -> int:
        """How many there are, at least one."""
        rungs = math.log(self.max_resource / self.min_resource, self.reduction_factor)
        return max(math.floor(rungs) + 1, 1)

    @cached_property
    def shares(self) -> tuple[int, ...]:
        """Each bracket's share of the trials: the fewer rungs, the fewer trials."""
        rungs = range(len(self), 0, -1)
        return tuple(math.ceil(len(self) * self.reduction_factor ** (r - 1) / r) for r in rungs)

    def bracket(self, study_name: str, number: int) -> int:
        """Return the bracket of a trial."""
        return _bracket(self.shares, study_name, number)


@lru_cache(2**17)
def _bracket(shares: tuple[int, ...], study_name: str, number: int) -> int:
    left = crc32(f"{study_name}_{number}".encode()) % sum(shares)
    for bracket, share in enumerate(shares):
        left -= share
        if left < 0:
            return bracket
    raise AssertionError(left)


class Hyperband(BasePruner):
    """Successive halving among the trials of each bracket."""

    def __init__(self, brackets: Brackets, is_apart: Callable[[int], bool] = nobody) -> None:
        self.brackets = brackets
        self._pruners = [_OneBracket(brackets, b, is_apart) for b in range(len(brackets))]

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether a trial ends after the last epoch it reported."""
        return self.halving(study.study_name, trial.number).prune(study, trial)

    def halving(self, study_name: str, number: int) -> Asha:
        """Return the pruner of a trial's bracket."""
        return self._pruners[self.brackets.bracket(study_name, number)]


class _OneBracket(Asha):
    """Successive halving that compares the trials of one bracket."""

    def __init__(self, brackets: Brackets, bracket: int, is_apart: Callable[[int], bool]) -> None:
        super().__init__(brackets.min_resource, brackets.reduction_factor, bracket, is_apart)
        self._brackets, self._bracket = brackets, bracket

    def rivals(self, study: optuna.Study, trial: FrozenTrial) -> Iterable[float]:
        """Return the values of the bracket's other trials."""
        name, bracket_of = study.study_name, self._brackets.bracket
        return [
            value
            for number, value in values_at(study, trial.last_step or 0).items()
            if number != trial.number
            and bracket_of(name, number) == self._bracket
            and not self.is_apart(number)
        ]


class _Narrowed(optuna.Study):
    """A study as if it had the trials of one bracket only."""

    def __init__(self, study: optuna.Study, brackets: Brackets, bracket: int) -> None:
        vars(self).update(vars(study))  # nothing is asked of the storage
        self._brackets, self._bracket = brackets, bracket

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        """Every reader of trials, `get_trials` among them, comes here."""
        trials = super()._get_trials(deepcopy, states, use_cache)
        name, bracket_of = self.study_name, self._brackets.bracket
        return [trial for trial in trials if bracket_of(name, trial.number) == self._bracket]


class InBracket(BaseSampler):
    """A sampler that sees the trials of the bracket in which the trial that it draws will be."""

    def __init__(self, inner: BaseSampler, brackets: Brackets) -> None:
        self.inner, self.brackets = inner, brackets

    def _narrowed(self, study: optuna.Study, trial: FrozenTrial) -> optuna.Study:
        bracket = self.brackets.bracket(study.study_name, trial.number)
        return _Narrowed(study, self.brackets, bracket)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that are drawn jointly."""
        return self.inner.infer_relative_search_space(self._narrowed(study, trial), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the parameters of `search_space`."""
        return self.inner.sample_relative(self._narrowed(study, trial), trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw one parameter."""
        seen = self._narrowed(study, trial)
        return self.inner.sample_independent(seen, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Tell the sampler that a trial begins."""
        self.inner.before_trial(self._narrowed(study, trial), trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tell the sampler that a trial has ended."""
        self.inner.after_trial(self._narrowed(study, trial), trial, state, values)

    def reseed_rng(self) -> None:
        """Draw differently from now on."""
        self.inner.reseed_rng()
