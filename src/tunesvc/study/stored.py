"""Studies in the database: open, list, pause, delete.

A study is an Optuna study whose user attributes hold what we know of it:

    tunesvc:spec         the study file, whole        tunesvc:created      when (ISO 8601, UTC)
    tunesvc:digest       SHA-256 of its meaning       tunesvc:uid          tells same names apart
    tunesvc:base         folder of relative paths     tunesvc:fingerprint  of the data, once known
    tunesvc:dropped      backbones left out, and why

What changes while workers run (paused, stopped, begun) is in tables of our own: see `leases`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import optuna
from optuna.storages import BaseStorage
from pydantic import ValidationError
from sqlalchemy import Connection, Row, text

from tunesvc import leases
from tunesvc.errors import StudyError, suggest
from tunesvc.leases import Limits, Overspent, Standing
from tunesvc.spec import StudySpec
from tunesvc.storage import Store

PREFIX = "tunesvc:"


class _Sql:
    SET_ONCE = text("""
        INSERT INTO study_user_attributes (study_id, key, value_json)
        VALUES (:study_id, :key, :value) ON CONFLICT (study_id, key) DO NOTHING
    """)
    LOCK_NAME = text("SELECT pg_advisory_xact_lock(1851878501, hashtext(:name))")
    # json, not jsonb: the search space keeps its order.
    STUDIES = text("""
        SELECT s.study_id, s.study_name, json_object_agg(a.key, a.value_json::json) AS attributes
        FROM studies s JOIN study_user_attributes a USING (study_id)
        WHERE a.key LIKE 'tunesvc:%'
          AND a.key NOT LIKE ALL (ARRAY['tunesvc:test:%', 'tunesvc:league:%'])
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

    def optuna(self, storage: BaseStorage | None = None, **kw: Any) -> optuna.Study:
        """Return it as Optuna sees it; `kw` goes to `optuna.load_study`."""
        chosen = storage or self.store.optuna
        return optuna.load_study(study_name=self.name, storage=chosen, **kw)


def open_study(store: Store, name: str) -> Study:
    """Return a stored study.

    Raises:
        StudyError: there is none of this name.
    """
    return study_of(store, _row(store, name))


def names(store: Store) -> list[str]:
    """Return the names of all studies, oldest first."""
    return [row.study_name for row in rows(store)]


def standing(study: Study) -> Standing:
    """Return how it stands with its workers.

    Raises:
        StudyError: it was deleted.
    """
    found = leases.standing(study.store.engine, study.id, limits(study.spec))
    return found or _unknown(study.store, study.name)


def limits(spec: StudySpec) -> Limits:
    """Return what a study's trials may take together, besides their number."""
    budget = spec.budget
    return Limits(budget.hours, budget.gpu_hours, budget.epochs_total, budget.epochs)


def is_paused(study: Study) -> bool:
    """Whether no worker may take a trial of it."""
    return standing(study).paused


def pause(study: Study, why: str = "") -> None:
    """Let no worker take a trial of it; those under way are kept and given back within an epoch."""
    leases.pause(study.store.engine, study.id, why)


def resume(study: Study) -> None:
    """Let workers take its trials again."""
    leases.resume(study.store.engine, study.id)


def stop(study: Study) -> None:
    """Have every worker that runs now, on any host, leave it within an epoch."""
    leases.stop(study.store.engine, study.id)


def put_back(study: Study) -> list[int]:
    """Let its failed trials go on from their last checkpoints; return their ids.

    Raises:
        StudyError: a budget is over: they would be told so at once, and not be failed any more; or
            there are too few epochs left for them.
    """
    allowed, over = limits(study.spec), standing(study).over
    if over and over != "epochs_total":
        why = "a trial that is put back would end without another epoch"
        raise _over(study, f"the {allowed.in_words(over)}", "are over", why, over)
    try:
        return leases.put_back(study.store.engine, study.id, allowed)
    except Overspent:
        why = "those that failed need more of them to go on to their end than are left"
        what = f"the {allowed.in_words('epochs_total')}"
        raise _over(study, what, "do not suffice", why, "epochs_total") from None


def _over(study: Study, what: str, how: str, why: str, key: str) -> StudyError:
    return StudyError(
        f"{what} of study {study.name!r} {how}",
        why,
        f"give it more first: raise budget.{key} in the file, then tunesvc new-study FILE",
    )


def delete(study: Study, *, force: bool = False) -> None:
    """Delete a study and its trials from the database; its artifacts are the caller's to delete.

    Args:
        force: also while workers run trials of it; these then fail.

    Raises:
        StudyError: workers run trials of it.
    """
    if not force:
        check_idle(study)
    study.store.optuna.delete_study(study.id)


def check_idle(study: Study) -> None:
    """Make sure that nobody is at work on a study.

    Raises:
        StudyError: workers run trials of it.
    """
    at_work = len(leases.held(study.store.engine, study.id))
    if at_work:
        raise StudyError(
            f"study {study.name!r} is being worked on",
            f"{at_work} of its trials are running",
            f"stop the workers (tunesvc stop {study.name}), or add --force",
        )


def set_once(connection: Connection, study: Study, key: str, value: Any) -> None:
    """Store a user attribute of a study, unless it has one of this name."""
    which = {"study_id": study.id, "key": key, "value": json.dumps(value)}
    connection.execute(_Sql.SET_ONCE, which)


def artifact_folder(study: Study) -> str:
    """Return its folder of checkpoints; `uid` tells apart studies that bore the same name."""
    return f"{study.name}-{study.uid}"


def rows(store: Store) -> list[Row[Any]]:
    """Return (study_id, study_name, attributes) of every study that is complete, oldest first."""
    return _select(store, None)


def _row(store: Store, name: str) -> Row[Any]:
    for row in _select(store, name):
        return row
    return _unknown(store, name)


def _unknown(store: Store, name: str) -> NoReturn:
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
    connection = store.engine.connect()
    connection.detach()  # outside the pool, which may be as small as one
    with connection:
        connection.execute(_Sql.LOCK_NAME, {"name": name})
        yield connection
