"""What may be changed through optuna-dashboard, which knows nothing of workers.

Why: 2026-11: only what stands here passes. What a later optuna-dashboard may come to offer is
refused until somebody has thought about it.

Why: 2026-11: a study of ours keeps its name: workers, checkpoints and reports go by it, and
optuna-dashboard's renaming copies it without its leases. Its trials are told by workers alone: any
number was accepted, and a worker's own report came to nothing. It may be deleted while nobody is
at work on it: our rows go with Optuna's (ON DELETE CASCADE), the checkpoints with `tunesvc gc`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from tunesvc import confirm, leases, study
from tunesvc.errors import StudyError
from tunesvc.storage import Store

ID = "[0-9]+"
HARMLESS = re.compile(
    f"POST /api/studies(/{ID}/(preference(/[0-9A-Za-z-]+)?|{ID}/skip))?"
    f"|PUT /api/studies/{ID}/(({ID}/)?note|preference_feedback_component)"
    f"|DELETE /api/studies/{ID}/preference/[0-9A-Za-z-]+"
)
DELETION = re.compile(f"DELETE /api/studies/({ID})")
RENAMING = re.compile(f"POST /api/studies/({ID})/rename")
TELLING = re.compile(f"POST /api/trials/({ID})/(tell|user-attrs)")


class _Sql:
    STUDY = text("""
        SELECT study_name AS name FROM studies s WHERE study_id = :id AND EXISTS (
            SELECT FROM study_user_attributes a
            WHERE a.study_id = s.study_id AND a.key = 'tunesvc:digest')
    """)
    TRIAL = text("SELECT study_id, number FROM trials WHERE trial_id = :id")


@dataclass(frozen=True)
class Refused:
    """A change that is not made.

    Args:
        study: that it would have been made to; empty: it is offered to nobody.
    """

    why: str
    study: str = ""


def refused(store: Store, method: str, path: str) -> Refused | None:
    """Return why a change must not be made; None: it may.

    Raises:
        SQLAlchemyError: the database is away.
    """
    asked = f"{method} {path.rstrip('/')}"
    if HARMLESS.fullmatch(asked):
        return None
    if found := DELETION.fullmatch(asked):
        return _deletion(store, int(found[1]))
    if found := RENAMING.fullmatch(asked):
        return _renaming(store, int(found[1]))
    if found := TELLING.fullmatch(asked):
        return _telling(store, int(found[1]))
    return Refused("There is nothing here that could be changed.")


def _deletion(store: Store, study_id: int) -> Refused | None:
    name = _own(store, study_id)
    if name is None:
        return None
    at_work = len(leases.held(store.engine, study_id))
    if at_work:
        why = (
            f"Study {name} is being worked on: {at_work} of its trials are running. "
            f"Stop its workers first (tunesvc stop {name})."
        )
        return Refused(why, name)
    try:
        is_confirmed = confirm.companion(study.open_study(store, name)) is not None
    except StudyError as error:
        return Refused(f"Study {name} is not deleted: {error.why or error.what}.", name)
    if is_confirmed:
        why = f"A second study confirms {name}. tunesvc delete {name} deletes both."
        return Refused(why, name)
    return None


def _renaming(store: Store, study_id: int) -> Refused | None:
    name = _own(store, study_id)
    if name is None:
        return None
    why = (
        f"Study {name} keeps its name, by which workers, checkpoints and reports know it. "
        "Another name is another study: tunesvc new-study FILE --name NAME."
    )
    return Refused(why, name)


def _telling(store: Store, trial_id: int) -> Refused | None:
    trial = _one(store, _Sql.TRIAL, trial_id)
    name = None if trial is None else _own(store, trial.study_id)
    if trial is None or name is None:
        return None
    why = f"Trial {trial.number} of {name} is told by the worker that runs it, by nobody else."
    return Refused(why, name)


def _own(store: Store, study_id: int) -> str | None:
    """Return a study's name if it is one of ours."""
    found = _one(store, _Sql.STUDY, study_id)
    return None if found is None else str(found.name)


def _one(store: Store, question: Any, number: int) -> Any:
    if number >= 2**31:  # no id of Postgres's is: it would answer with an error
        return None
    with store.engine.connect() as connection:
        return connection.execute(question, {"id": number}).one_or_none()
