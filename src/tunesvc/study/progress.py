"""How a study stands: its budget, its trials, its best, its pace."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, cast

from sqlalchemy import Row, text

from tunesvc import leases
from tunesvc.errors import StudyError, TrainingError
from tunesvc.leases import Standing
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.study.stored import Direction, Study, objective, rows, standing, study_of

log = logging.getLogger(__name__)

State = Literal["open", "paused", "done"]


class _Sql:
    # A trial that runs without a lease is not ours: nobody waits for it.
    COUNTS = text("""
        SELECT count(*) FILTER (WHERE state <> 'WAITING') AS begun,
               count(*) FILTER (WHERE state = 'COMPLETE') AS complete,
               count(*) FILTER (WHERE state = 'PRUNED') AS pruned,
               count(*) FILTER (WHERE state = 'FAIL') AS fail,
               count(lease.trial_id) FILTER (WHERE state = 'RUNNING') AS running,
               count(*) FILTER (WHERE state = 'RUNNING' AND trial_id = ANY(:held)) AS held
        FROM trials LEFT JOIN tunesvc.lease USING (trial_id) WHERE trials.study_id = :study_id
    """)
    SECONDS = text("""
        SELECT extract(epoch FROM avg(datetime_complete - datetime_start))::float
        FROM (SELECT datetime_start, datetime_complete FROM trials
              WHERE study_id = :study_id AND state IN ('COMPLETE', 'PRUNED', 'FAIL')
              ORDER BY datetime_complete DESC LIMIT 20) AS recent
    """)


@dataclass(frozen=True)
class Best:
    """The best finished trial."""

    trial: int
    value: float
    params: dict[str, Any]


@dataclass(frozen=True)
class Status:
    """How a study stands.

    A `waiting` trial has been begun, and nobody is at work on it: the next worker takes it over, or
    the one that has drawn it ahead gets to it. A `remaining` one has not been begun.
    """

    study: str
    state: State
    digest: str
    budget_trials: int  # that may be begun
    trials: dict[str, int]  # complete, pruned, fail, running, waiting, remaining
    best: Best | None
    metric: str
    direction: Direction
    rate_per_minute: float | None  # of the trials that run now, by the last twenty's duration
    eta_seconds: float | None  # None also while no trial runs
    created: datetime
    why: str = ""  # it is paused, unless a person asked for it; or done before its last trial
    takeovers: int = 0  # of trials whose workers were lost

    @property
    def finished(self) -> int:
        """Trials that have come to an end of any kind."""
        return self.trials["complete"] + self.trials["pruned"] + self.trials["fail"]

    def as_json(self) -> dict[str, Any]:
        """Return it as `status --json` prints it."""
        made = asdict(self) | {"created": self.created.isoformat(timespec="seconds")}
        return made | {"budget": {"trials": made.pop("budget_trials")}}


def limit(spec: StudySpec) -> int:
    """Return how many trials the budget allows; a grid may have fewer."""
    if spec.sampler.kind != "grid":
        return spec.budget.trials
    return min(spec.budget.trials, _grid_size(spec.model_dump_json()))


@lru_cache(maxsize=64)  # workers ask twice a second
def _grid_size(spec_json: str) -> int:
    from tunesvc import space

    built = space.build(StudySpec.model_validate_json(spec_json))
    return len(built.defaults()) + len(built.grid())


def all_open(store: Store) -> list[Study]:
    """Return the studies that are neither paused nor done, oldest first.

    Those that another version of tunesvc stored, and this one cannot read, are passed over.
    """
    studies = []
    for row in rows(store):
        try:
            study = study_of(store, row)
            now = standing(study)  # it may just have been deleted
        except StudyError as error:
            _warn_once(str(error))
            continue
        if not now.paused and not _is_done(study, _counts(study), now):
            studies.append(study)
    return studies


@lru_cache
def _warn_once(message: str) -> None:
    log.warning(message)


def status(study: Study) -> Status:
    """Return how the study stands now."""
    counts = _counts(study, leases.held(study.store.engine, study.id))
    allowed = limit(study.spec)
    trials = {
        "complete": counts.complete,
        "pruned": counts.pruned,
        "fail": counts.fail,
        "running": counts.held,
        "waiting": counts.running - counts.held,
        "remaining": max(0, allowed - counts.begun),
    }
    current = standing(study)
    state: State = "paused" if current.paused else "open"
    state = "done" if _is_done(study, counts, current) else state
    seconds = _seconds(study)
    rate = 60 * max(1, trials["running"]) / seconds if seconds else None
    left = trials["running"] + trials["waiting"] + trials["remaining"]
    metric, direction = objective(study.spec)
    return Status(
        study=study.name,
        state=state,
        digest=study.spec.digest,
        budget_trials=allowed,
        trials=trials,
        best=_best(study),
        metric=metric,
        direction=direction,
        rate_per_minute=rate,
        eta_seconds=60 * left / rate if rate and trials["running"] and state == "open" else None,
        created=study.created,
        why=_early(study, state, trials["remaining"]) or current.why,
        takeovers=current.takeovers,
    )


def paused_error(status: Status) -> TrainingError:
    """Return what to say of a study that was paused because its trials fail alike."""
    return TrainingError(
        f"study {status.study!r} is paused: {status.why}",
        "the cause is not the configuration; the workers' logs tell each attempt in full",
        f"mend it, then:  tunesvc retry {status.study} --failed;  tunesvc resume {status.study}",
    )


def _early(study: Study, state: State, remaining: int) -> str:
    """Return why a study is done that has not begun all its trials."""
    if state != "done" or not remaining:
        return ""
    hours = study.spec.budget.hours
    return f"the budget's {hours:g} hours are over, and {remaining} trials were not begun"


def _best(study: Study) -> Best | None:
    try:
        trial = study.store.optuna.get_best_trial(study.id)
    except ValueError:  # none is complete
        return None
    return Best(trial.number, cast(float, trial.value), trial.params)


def _seconds(study: Study) -> float | None:
    """Return how long one of the last finished trials took, on average."""
    with study.store.engine.connect() as connection:
        found = connection.execute(_Sql.SECONDS, {"study_id": study.id}).scalar_one()
    return None if found is None else float(found)


def _counts(study: Study, held: Iterable[int] = ()) -> Row[Any]:
    which = {"study_id": study.id, "held": list(held)}
    with study.store.engine.connect() as connection:
        return connection.execute(_Sql.COUNTS, which).one()


def _is_done(study: Study, counts: Row[Any], current: Standing) -> bool:
    if counts.running:
        return False
    return bool(counts.begun >= limit(study.spec) or current.is_over)
