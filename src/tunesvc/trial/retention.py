"""Which trials' checkpoints are kept: those that run, and the best few of a study."""

from __future__ import annotations

import shutil
from pathlib import Path

import optuna
from optuna.trial import TrialState

from tunesvc.study import Study, artifact_folder

KEPT = 3  # the best trials whose models stay, per study


def folder(artifacts: Path, study: Study, number: int) -> Path:
    """Return the folder of one trial."""
    return artifact_folder(study, artifacts) / f"trial-{number:05d}"


def best(study: optuna.Study, count: int) -> list[int]:
    """Return the numbers of the best finished trials, best first; of equal ones the earlier."""
    sign = 1 if study.direction is optuna.study.StudyDirection.MINIMIZE else -1
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ranked = sorted((sign * trial.value, trial.number) for trial in done if trial.value is not None)
    return [number for _, number in ranked[:count]]


def forget(artifacts: Path, study: Study, trials: optuna.Study) -> None:
    """Delete the checkpoints of finished trials that are not among the best."""
    kept = set(best(trials, KEPT))
    finished = {t.number for t in trials.get_trials(deepcopy=False) if t.state.is_finished()}
    for path in artifact_folder(study, artifacts).glob("trial-*"):
        number = int(path.name.removeprefix("trial-"))
        if number in finished - kept:
            shutil.rmtree(path, ignore_errors=True)  # another worker may be deleting it too
