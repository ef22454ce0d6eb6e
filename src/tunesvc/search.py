"""Sampler and pruner of a study, from its file.

Why: 2026-11: every trial gets a sampler of its own, seeded by the study's digest and the trial's
number. Were it one sampler per worker, two workers with the same seed would draw the same random
configurations, and with different seeds a result would depend on which worker drew it.
"""

from __future__ import annotations

import logging
import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from tunesvc.spec import StudySpec, derive_seed, search_spec


def sampler(spec: StudySpec, number: int) -> BaseSampler:
    """Return the sampler that draws the trial of this number, whichever worker asks it to.

    Under `grid`, the points of the grid are enqueued beforehand; trials beyond them are random.
    """
    seed = derive_seed(spec.digest, "sampler", number)
    with warnings.catch_warnings():
        # `group` and QMC are "experimental" (their arguments may change in a minor release) and
        # `sigma0` is deprecated: this is ours to follow, not the user's to read.
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", ".*`sigma0`", FutureWarning)
        return _sampler(spec, seed)


def _sampler(spec: StudySpec, seed: int) -> BaseSampler:
    match spec.sampler:
        case search_spec.TpeSampler() as tpe:
            return TPESampler(
                seed=seed,
                n_startup_trials=tpe.n_startup_trials,
                n_ei_candidates=tpe.n_ei_candidates,
                multivariate=tpe.multivariate,
                group=tpe.group and tpe.multivariate,  # Optuna models groups jointly or not at all
                constant_liar=tpe.constant_liar,
            )
        case search_spec.GpSampler(n_startup_trials=n):
            return GPSampler(seed=seed, n_startup_trials=n, warn_independent_sampling=False)
        case search_spec.CmaEsSampler(n_startup_trials=n, sigma0=sigma0):
            return CmaEsSampler(
                seed=seed, n_startup_trials=n, sigma0=sigma0, warn_independent_sampling=False
            )
        case search_spec.QmcSampler(qmc_type=kind):
            logging.getLogger("optuna.samplers._qmc").addFilter(_is_news)
            return QMCSampler(
                qmc_type=kind,
                scramble=True,  # else the first point is the lower end of every range
                seed=derive_seed(spec.digest, "sequence"),  # one sequence, which all trials share
                independent_sampler=RandomSampler(seed=seed),
                warn_independent_sampling=False,
            )
    return RandomSampler(seed=seed)


def _is_news(record: logging.LogRecord) -> bool:
    """Drop the one warning without a switch: conditional parameters are drawn at random here."""
    return "does not include any conditions" not in record.getMessage()


def pruner(spec: StudySpec) -> BasePruner:
    """Return the study's pruner; its steps are epochs finished, from 1 on."""
    match spec.pruner:
        case search_spec.AshaPruner() as asha:
            # min_resource is explicit: "auto" would prune nothing until a first trial completes.
            return SuccessiveHalvingPruner(
                min_resource=asha.min_resource,
                reduction_factor=asha.reduction_factor,
                min_early_stopping_rate=asha.min_early_stopping_rate,
            )
        case search_spec.HyperbandPruner() as hyperband:
            return HyperbandPruner(
                min_resource=hyperband.min_resource,
                max_resource=spec.budget.epochs,
                reduction_factor=hyperband.reduction_factor,
            )
        case search_spec.MedianPruner() as median:
            return MedianPruner(
                n_startup_trials=median.n_startup_trials,
                n_warmup_steps=median.n_warmup_steps,
                interval_steps=median.interval_steps,
            )
    return NopPruner()
