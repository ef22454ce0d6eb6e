"""Ray Tune: OptunaSearch and ASHA around the same fine-tuning.

    python -m peers.ray_tune JOBS.json OUT.jsonl

Every complete trial adds a line to OUT: `{"study": …, "ended": seconds since 1970, "accuracy": …}`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from peers import job as jobs
from peers.job import Job

os.environ |= {
    "RAY_TRAIN_V2_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Space:
    """The job's space, as OptunaSearch wants it: a function that draws."""

    job: Job

    def __call__(self, trial: optuna.Trial) -> dict[str, Any]:
        """Draw; OptunaSearch reads the trial's parameters."""
        self.job.suggest(trial)
        return {}


def objective(config: dict[str, Any], job: Job, out: str) -> None:
    """Fine-tune; report after every epoch."""
    from ray import tune

    from peers.finetune import finetune

    for done, (accuracy, _) in enumerate(finetune(job, config, job.seed), 1):
        if done == job.epochs:
            with Path(out).open("a") as file:
                line = {"study": job.study, "ended": time.time(), "accuracy": accuracy}
                file.write(json.dumps(line) + "\n")
        tune.report({"accuracy": accuracy})


def search(job: Job, out: str, folder: str) -> None:
    """Run the study; each trial gets one core, or the GPU.

    Raises:
        Exception: what ended a trial.
    """
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    sampler = optuna.samplers.TPESampler(seed=job.seed)
    search_alg = OptunaSearch(space=Space(job), metric="accuracy", mode="max", sampler=sampler)
    asha = ASHAScheduler(
        metric="accuracy", mode="max", max_t=job.epochs, grace_period=1, reduction_factor=3
    )
    resources = {"cpu": 1} if job.device == "cpu" else {"cpu": 1, "gpu": 1}
    trainable = tune.with_parameters(objective, job=job, out=out)
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=search_alg,
            scheduler=asha,
            num_samples=job.trials,
            reuse_actors=True,  # else every trial imports torch anew
        ),
        run_config=tune.RunConfig(storage_path=folder, name=job.study, verbose=0),
    )
    for error in tuner.fit().errors:
        raise error


def main() -> None:
    """Run the jobs in a cluster of this machine alone."""
    import ray

    path, out = sys.argv[1:]
    ray.init(
        num_cpus=len(os.sched_getaffinity(0)),
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={
            "env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "OMP_NUM_THREADS": "1"}
        },
    )
    for each in jobs.read(Path(path)):
        search(each, out, str(Path(out).parent))
    ray.shutdown()


if __name__ == "__main__":
    main()
