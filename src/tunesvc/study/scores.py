"""What finished trials' models scored on the test split: kept in the study, for a finished trial
takes no more attributes in Optuna."""

from __future__ import annotations

from math import isfinite, nan

from tunesvc.study.stored import Study

_PREFIX = "tunesvc:test:"


def test_metrics(study: Study, number: int) -> dict[str, float] | None:
    """Return every metric of a trial's model on the test split; None while it is not scored."""
    known = study.store.optuna.get_study_user_attrs(study.id)
    found: dict[str, float | None] | None = known.get(f"{_PREFIX}{number}")
    if found is None:
        return None
    return {name: nan if value is None else value for name, value in found.items()}


def set_test_metrics(study: Study, number: int, metrics: dict[str, float]) -> None:
    """Keep what a trial's model scored on the test split; NaN, which is no JSON, as null."""
    kept = {name: value if isfinite(value) else None for name, value in metrics.items()}
    study.store.optuna.set_study_user_attr(study.id, f"{_PREFIX}{number}", kept)
