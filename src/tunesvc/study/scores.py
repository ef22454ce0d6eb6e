"""What finished trials' models scored on the test split.

Kept in the trial where it was scored before its end; else in the study, for a finished trial takes
no more attributes in Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, nan

from tunesvc.study.stored import Study, set_once

_PREFIX = "tunesvc:test:"


def test_metrics(study: Study, number: int) -> dict[str, float] | None:
    """Return every metric of a trial's model on the test split; None while it is not scored."""
    known = study.store.optuna.get_study_user_attrs(study.id)
    found = known.get(f"{_PREFIX}{number}")
    if found is None:
        trials = study.store.optuna.get_all_trials(study.id, deepcopy=False)
        scored = (trial.user_attrs.get("test") for trial in trials if trial.number == number)
        found = next(scored, None)
    return None if found is None else restored(found)


def restored(kept: Mapping[str, float | None]) -> dict[str, float]:
    """Return metrics as they were before they were kept."""
    return {name: nan if value is None else value for name, value in kept.items()}


def storable(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics as they can be kept: NaN, which is no JSON, as null."""
    return {name: value if isfinite(value) else None for name, value in metrics.items()}


def set_test_metrics(study: Study, number: int, metrics: dict[str, float]) -> None:
    """Keep what a trial's model scored on the test split; what was kept first stays."""
    with study.store.engine.begin() as connection:
        set_once(connection, study, f"{_PREFIX}{number}", storable(metrics))
