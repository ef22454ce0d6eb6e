"""The sampler of a study, from its file.

Why: 2026-11: every trial gets a sampler of its own, seeded by the study's digest and the trial's
number. Were it one sampler per worker, two workers with the same seed would draw the same random
configurations, and with different seeds a result would depend on which worker drew it.
"""

from __future__ import annotations

import logging
import warnings
from typing import Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler

from tunesvc.search.hyperband import InBracket
from tunesvc.search.memory import Memory
from tunesvc.search.pruners import brackets
from tunesvc.search.several import SeveralTpe
from tunesvc.search.tpe import Tpe
from tunesvc.spec import StudySpec, derive_seed, search_spec


def sampler(spec: StudySpec, number: int, memory: Memory | None = None) -> BaseSampler:
    """Return the sampler that draws the trial of this number, whichever worker asks it to.

    Under `grid`, the points of the grid are enqueued beforehand; trials beyond them are random.

    Args:
        number: of the trial.
        memory: what earlier samplers of this study worked out; it saves time, and changes nothing.
    """
    chosen = _sampler(spec, derive_seed(spec.digest, "sampler", number), memory)
    if isinstance(spec.pruner, search_spec.HyperbandPruner):
        return InBracket(chosen, brackets(spec, spec.pruner))
    return chosen


def together(spec: StudySpec, number: int, limit: int) -> int:
    """Return how many trials from `number` on may be drawn before the first of them is told.

    At least one, at most `limit`. What does not learn, and what is drawn before a sampler starts
    to learn, needs no results; beyond that the study file's `batch_size` says how many.
    """
    match spec.sampler:
        case search_spec.TpeSampler() | search_spec.GpSampler() as learner:
            batch = learner.batch_size
        case search_spec.CmaEsSampler() as learner:
            batch = 1
        case _:
            return max(limit, 1)
    at_random = learner.n_startup_trials - number
    return max(min(limit, at_random if at_random > 0 else batch), 1)


def drawn(trial: optuna.Trial) -> Literal["random", "sampler", "given"]:
    """Return where a trial's parameters came from, once they were asked for.

    Only what is drawn independently from the whole space is random: no QMC point is, and no trial
    of which a model, or whoever enqueued it, chose a part.
    """
    if trial.storage.get_trial(trial._trial_id).system_attrs.get("fixed_params"):
        return "given"
    sampler = trial.study.sampler
    chosen = sampler.inner if isinstance(sampler, InBracket) else sampler
    has_model = isinstance(chosen, Tpe) and not chosen.is_starting(trial.study)
    return "sampler" if has_model or trial.relative_params else "random"


def _sampler(spec: StudySpec, seed: int, memory: Memory | None) -> BaseSampler:
    match spec.sampler:
        case search_spec.TpeSampler() as tpe:
            chosen = Tpe if len(spec.objectives) == 1 else SeveralTpe
            return chosen(
                seed,
                n_startup_trials=tpe.n_startup_trials,
                n_ei_candidates=tpe.n_ei_candidates,
                multivariate=tpe.multivariate,
                group=tpe.group,
                constant_liar=tpe.constant_liar,
                cost_aware=tpe.cost_aware,
                memory=memory,
            )
        case search_spec.GpSampler(n_startup_trials=n):
            return GPSampler(seed=seed, n_startup_trials=n, warn_independent_sampling=False)
        case search_spec.CmaEsSampler() as cmaes:
            return _cmaes(cmaes, seed)
        case search_spec.QmcSampler(qmc_type=kind):
            return _qmc(kind, seed, sequence=derive_seed(spec.digest, "sequence"))
    return RandomSampler(seed=seed)


def _cmaes(cmaes: search_spec.CmaEsSampler, seed: int) -> BaseSampler:
    with warnings.catch_warnings():  # `sigma0` is deprecated: ours to follow, not the user's
        warnings.filterwarnings("ignore", ".*`sigma0`", FutureWarning)
        return CmaEsSampler(
            seed=seed,
            n_startup_trials=cmaes.n_startup_trials,
            sigma0=cmaes.sigma0,
            warn_independent_sampling=False,
        )


def _qmc(kind: str, seed: int, sequence: int) -> BaseSampler:
    logging.getLogger("optuna.samplers._qmc").addFilter(_is_news)
    with warnings.catch_warnings():  # its arguments may change in a minor release: ours to follow
        warnings.simplefilter("ignore", ExperimentalWarning)
        return QMCSampler(
            qmc_type=kind,
            scramble=True,  # else the first point is the lower end of every range
            seed=sequence,  # which all trials share
            independent_sampler=RandomSampler(seed=seed),
            warn_independent_sampling=False,
        )


def _is_news(record: logging.LogRecord) -> bool:
    """Drop the one warning without a switch: conditional parameters are drawn at random here."""
    return "does not include any conditions" not in record.getMessage()
