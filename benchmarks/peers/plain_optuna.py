"""Plain Optuna: `study.optimize` with TPE and successive halving, on Postgres.

    python -m peers.plain_optuna JOBS.json URL [INDEX]

Several of these processes may work at the same studies, as Optuna's documentation has it; INDEX
tells their samplers apart.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import optuna
from optuna.study import MaxTrialsCallback

from peers import job as jobs
from peers.finetune import finetune
from peers.job import Job


def search(job: Job, url: str, index: int) -> None:
    """Run the study until it has its trials."""
    found = optuna.create_study(
        study_name=job.study,
        storage=url,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=job.seed + index),
        pruner=_pruner(job),
        load_if_exists=True,
    )
    if len(found.trials) < job.trials:
        enough = MaxTrialsCallback(job.trials, states=None)
        found.optimize(lambda trial: objective(job, trial), callbacks=[enough])


def _pruner(job: Job) -> optuna.pruners.BasePruner:
    if not job.prune:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)


def objective(job: Job, trial: optuna.Trial) -> float:
    """Fine-tune; report after every epoch; note the seconds that each took."""
    drawn = job.suggest(trial)
    accuracy, spent = 0.0, []
    for epoch, (accuracy, seconds) in enumerate(finetune(job, drawn, job.seed + trial.number), 1):
        spent.append(seconds)
        trial.report(accuracy, epoch)
        if epoch < job.epochs and trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("epoch_seconds", spent)
    trial.set_user_attr(
        "peak_memory_mb", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    )
    return accuracy


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path, url, *index = sys.argv[1:]
    for each in jobs.read(Path(path)):
        search(each, url, int(index[0]) if index else 0)
