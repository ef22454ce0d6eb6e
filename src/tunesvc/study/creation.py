"""New studies: idempotent, and safe against rivals and against dying in the middle."""

from __future__ import annotations

import json
import secrets
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import Connection, func, select, text

from tunesvc.errors import DataError, StudyError
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.study.goals import objectives
from tunesvc.study.stored import (
    PREFIX,
    Study,
    alone,
    open_study,
    set_once,
    stored_spec,
)

_NONE: Mapping[str, str] = {}


class _Sql:
    ATTRIBUTE = text(
        "SELECT value_json FROM study_user_attributes WHERE study_id = :study_id AND key = :key"
    )


def create(
    store: Store,
    spec: StudySpec,
    *,
    base: Path,
    fingerprint: str | None = None,
    dropped: Mapping[str, str] = _NONE,
) -> Study:
    """Store a study, or return the one that is stored, if it has the same digest.

    Once it is stored, the same backbones are left out of it, whoever asks again, and wherever: on
    machines without its data nobody can tell which.

    Where its data lies may have changed; the newest place is kept. Whatever a process that died
    here left out, the next one adds.

    Args:
        dropped: backbone → why it is left out.

    Raises:
        StudyError: a different study has this name.
        DataError: its data has changed since it began.
    """
    with alone(store, spec.name) as connection:
        found = _found(store, spec)
        known = {key: value for key, value in found.user_attrs.items() if key.startswith(PREFIX)}
        is_stored = PREFIX + "digest" in known
        dropped = known.get(PREFIX + "dropped", {}) if is_stored else dropped
        spec = spec.without(dropped)
        if is_stored:
            _refuse_drift(stored_spec(spec.name, known), spec)
        for key, value in _attributes(connection, spec, base, known, dropped).items():
            if known.get(key) != value:
                found.set_user_attr(key, value)
    study = open_study(store, spec.name)
    if fingerprint is not None:
        set_fingerprint(study, fingerprint)
    return study


def _attributes(
    connection: Connection,
    spec: StudySpec,
    base: Path,
    known: Mapping[str, Any],
    dropped: Mapping[str, str],
) -> dict[str, Any]:
    """Return all that is to be stored; the digest last: with it the study is complete."""
    first: dict[str, Any] = {
        PREFIX + "created": connection.execute(select(func.now())).scalar_one().isoformat(),
        PREFIX + "uid": secrets.token_hex(4),
    }
    left_out = {PREFIX + "dropped": dict(dropped)} if dropped else {}
    return {key: known.get(key, value) for key, value in (first | left_out).items()} | {
        PREFIX + "base": str(base),
        PREFIX + "spec": spec.model_dump(mode="json"),
        PREFIX + "digest": spec.digest,
    }


def set_fingerprint(study: Study, fingerprint: str) -> None:
    """Note what data the study learns from; whoever is first decides.

    Raises:
        DataError: it learns from other data.
    """
    which = {"study_id": study.id, "key": PREFIX + "fingerprint"}
    with study.store.engine.begin() as connection:
        set_once(connection, study, PREFIX + "fingerprint", fingerprint)
        known = json.loads(connection.execute(_Sql.ATTRIBUTE, which).scalar_one())
    if known != fingerprint:
        raise DataError(
            f"the data of study {study.name!r} has changed since it began",
            f"its fingerprint was {known[:12]}…, and here it is {fingerprint[:12]}…",
            "bring the first data back, or begin a new study (--name) with this",
        )


def _found(store: Store, spec: StudySpec) -> optuna.Study:
    """Return Optuna's study of this name, made if need be."""
    goals = objectives(spec)
    directions = [goal.direction for goal in goals]
    found = optuna.create_study(
        storage=store.optuna, study_name=spec.name, directions=directions, load_if_exists=True
    )
    if PREFIX + "digest" not in found.user_attrs:  # new, half made, or of another program
        if [each.name.lower() for each in found.directions] != directions or found.trials:
            raise StudyError(
                f"the name {spec.name!r} is taken by a study that tunesvc did not make",
                "this database holds Optuna studies of other programs too",
                "give the study another name (--name)",
            )
        with warnings.catch_warnings():  # experimental since 3.2; the dashboard shows the name
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            found.set_metric_names([goal.name for goal in goals])
    return found


def _refuse_drift(stored: StudySpec, spec: StudySpec) -> None:
    if stored.digest == spec.digest:
        return
    before, after = stored.model_dump(mode="json"), spec.model_dump(mode="json")
    raise StudyError(
        f"a different study is called {spec.name!r}",
        f"it differs in {'; '.join(_differences(before, after))}",
        "give this one another name (--name), or the stored values (--set KEY=VALUE), or delete "
        f"the other: tunesvc delete {spec.name}",
    )


def _differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            inner = f"{path}.{key}" if path else str(key)
            yield from _differences(before.get(key), after.get(key), inner)
    elif before != after and path not in ("name", "description"):
        yield f"{path} ({before} there, {after} here)"
