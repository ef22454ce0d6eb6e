"""Studies in the database: open, list, pause, delete.

A study is an Optuna study whose user attributes hold what we know of it:

    tunesvc:spec         the study file, whole        tunesvc:created      when (ISO 8601, UTC)
    tunesvc:digest       SHA-256 of its meaning       tunesvc:uid          tells same names apart
    tunesvc:base         folder of relative paths     tunesvc:paused       true | false
    tunesvc:fingerprint  of the data, once known
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import optuna
from pydantic import ValidationError
from sqlalchemy import Connection, Row, text

from tunesvc import leases, plugins
from tunesvc.errors import StudyError, UnknownNameError, suggest
from tunesvc.spec import StudySpec
from tunesvc.storage import Store

Direction = Literal["maximize", "minimize"]

PREFIX = "tunesvc:"


class _Sql:
    LOCK_NAME = text("SELECT pg_advisory_xact_lock(1851878501, hashtext(:name))")
    # json, not jsonb: the search space keeps its order.
    STUDIES = text("""
        SELECT s.study_id, s.study_name, json_object_agg(a.key, a.value_json::json) AS attributes
        FROM studies s JOIN study_user_attributes a USING (study_id)
        WHERE a.key LIKE 'tunesvc:%' AND a.key NOT LIKE 'tunesvc:test:%'
          AND s.study_name = coalesce(:name, s.study_name)
        GROUP BY s.study_id ORDER BY s.study_id
    """)


@dataclass(frozen=True)
class Study:
    """A stored study."""

    name: str
    id: int
    spec: StudySpec
    base: Path  # relative paths of the study file start here
    store: Store
    uid: str
    created: datetime

    def optuna(self, **kw: Any) -> optuna.Study:
        """Return it as Optuna sees it; `kw` goes to `optuna.load_study`."""
        return optuna.load_study(study_name=self.name, storage=self.store.optuna, **kw)


def objective(spec: StudySpec) -> tuple[str, Direction]:
    """Return the metric that is optimized, and its direction.

    A file that leaves the metric at its default means the task's own default.

    Raises:
        UnknownNameError: the task has no such metric.
    """
    task = plugins.load("task", spec.task)
    metric, wanted = spec.objective.metric, spec.objective.direction
    if metric not in task.metrics and metric == type(spec.objective)().metric:
        metric = task.default_metric
    if metric not in task.metrics:
        raise UnknownNameError(
            f"objective.metric: {spec.task} has no metric {metric!r}", suggest(metric, task.metrics)
        )
    return metric, wanted or task.metrics[metric]


def open_study(store: Store, name: str) -> Study:
    """Return a stored study.

    Raises:
        StudyError: there is none of this name.
    """
    return study_of(store, _row(store, name))


def names(store: Store) -> list[str]:
    """Return the names of all studies, oldest first."""
    return [row.study_name for row in rows(store)]


def is_paused(study: Study) -> bool:
    """Whether no worker may take a trial of it."""
    return bool(_row(study.store, study.name).attributes[PREFIX + "paused"])


def pause(study: Study) -> None:
    """Let no worker take another trial of it; those under way run to their end."""
    study.store.optuna.set_study_user_attr(study.id, PREFIX + "paused", True)


def resume(study: Study) -> None:
    """Let workers take its trials again."""
    study.store.optuna.set_study_user_attr(study.id, PREFIX + "paused", False)


def delete(study: Study, *, force: bool = False) -> None:
    """Delete a study and its trials from the database; its artifacts are the caller's to delete.

    Args:
        force: also while workers run trials of it; these then fail.

    Raises:
        StudyError: workers run trials of it.
    """
    at_work = len(leases.held(study.store.engine, study.id))
    if at_work and not force:
        raise StudyError(
            f"study {study.name!r} is being worked on",
            f"{at_work} of its trials are running",
            f"stop the workers (tunesvc stop {study.name}), or add --force",
        )
    study.store.optuna.delete_study(study.id)


def artifact_folder(study: Study, artifacts: Path) -> Path:
    """Return the folder of its checkpoints; `uid` tells apart studies that bore the same name."""
    return artifacts / f"{study.name}-{study.uid}"


def rows(store: Store) -> list[Row[Any]]:
    """Return (study_id, study_name, attributes) of every study that is complete, oldest first."""
    return _select(store, None)


def _row(store: Store, name: str) -> Row[Any]:
    for row in _select(store, name):
        return row
    known = [row.study_name for row in rows(store)]
    raise StudyError(
        f"no study is called {name!r}",
        suggest(name, known) if known else "there is no study yet",
        "tunesvc list shows them all; tunesvc new-study FILE creates one",
    )


def _select(store: Store, name: str | None) -> list[Row[Any]]:
    with store.engine.connect() as connection:
        found = connection.execute(_Sql.STUDIES, {"name": name}).all()
    return [row for row in found if PREFIX + "digest" in row.attributes]


def study_of(store: Store, row: Row[Any]) -> Study:
    """Return the study of a row of `rows`.

    Raises:
        StudyError: another version of tunesvc stored it.
    """
    known = row.attributes
    return Study(
        name=row.study_name,
        id=row.study_id,
        spec=stored_spec(row.study_name, known),
        base=Path(known[PREFIX + "base"]),
        store=store,
        uid=known[PREFIX + "uid"],
        created=datetime.fromisoformat(known[PREFIX + "created"]),
    )


def stored_spec(name: str, known: Mapping[str, Any]) -> StudySpec:
    """Return the study file as it was stored."""
    try:
        return StudySpec.model_validate(known[PREFIX + "spec"])
    except ValidationError as error:
        raise StudyError(
            f"study {name!r} cannot be read",
            f"another version of tunesvc stored it: {error.errors()[0]['msg']}",
            "use that version, or store the study file again under a new name (--name)",
        ) from error


@contextmanager
def alone(store: Store, name: str) -> Iterator[Connection]:
    """Be the only process that creates or binds the study of this name."""
    with leases.own_connection(store.engine) as connection:
        connection.execute(_Sql.LOCK_NAME, {"name": name})
        yield connection
