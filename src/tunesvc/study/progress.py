"""How a study stands: its budget, its trials, its best, its pace."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, cast

from sqlalchemy import Row, text

from tunesvc import leases
from tunesvc.errors import StudyError, TrainingError
from tunesvc.leases import Standing
from tunesvc.spec import GivenSampler, StudySpec
from tunesvc.storage import Store
from tunesvc.study import feasibility, spending
from tunesvc.study.goals import Direction, first_value, objectives
from tunesvc.study.stored import Study, limits, rows, standing, study_of

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
    """The best finished trial that is feasible, by the first objective."""

    trial: int
    value: float
    params: dict[str, Any]


@dataclass(frozen=True)
class Status:
    """How a study stands.

    A `waiting` trial has been begun, and nobody is at work on it: the next worker takes it over, or
    the one that has drawn it ahead gets to it. A `remaining` one has not been begun; where time
    alone limits their number, there is always one more.

    `budget` and `spent` have the keys of the study file: `budget` those that are limited, `spent`
    all four. `over` is the one of them that ended the study, unless that was `trials`.
    """

    study: str
    state: State
    digest: str
    budget: dict[str, float | None]
    spent: dict[str, float]
    trials: dict[str, int]  # complete, pruned, fail, running, waiting, remaining
    best: Best | None
    metric: str
    direction: Direction
    rate_per_minute: float | None  # of the trials that run now, by the last twenty's duration
    eta_seconds: float | None  # None also while no trial runs
    created: datetime
    why: str = ""  # it is paused, unless a person asked for it; or done before its last trial
    over: str = ""
    takeovers: int = 0  # of trials whose workers were lost
    infeasible: int = 0  # trials that break a constraint, of those complete and pruned
    objectives: dict[str, Direction] = field(default_factory=dict)  # all; `metric` is the first
    confirms: str = ""  # the study whose best it runs again, if that is what it is for

    @property
    def budget_trials(self) -> int | None:
        """How many may be begun; None: as many as the other budgets allow."""
        most = self.budget["trials"]
        return None if most is None else int(most)

    @property
    def finished(self) -> int:
        """Trials that have come to an end of any kind."""
        return self.trials["complete"] + self.trials["pruned"] + self.trials["fail"]

    @property
    def none_fits(self) -> bool:
        """Whether all that was measured by the constraints breaks one."""
        measured = self.trials["complete"] + self.trials["pruned"]
        return 0 < self.infeasible == measured and not self.trials["running"]

    def as_json(self) -> dict[str, Any]:
        """Return it as `status --json` prints it."""
        return asdict(self) | {"created": self.created.isoformat(timespec="seconds")}


def confirms(spec: StudySpec) -> str:
    """Return the name of the study whose best this one runs again; "" where it does not."""
    of = spec.sampler.of if isinstance(spec.sampler, GivenSampler) else ""
    return of.rpartition("-")[0]  # without its uid


def limit(spec: StudySpec) -> int | None:
    """Return how many trials the budget allows, None: any number; a grid may have fewer."""
    allowed = spec.budget.trials
    if spec.sampler.kind != "grid":
        return allowed
    size = _grid_size(spec.model_dump_json())
    return size if allowed is None else min(allowed, size)


@lru_cache(maxsize=64)  # workers ask twice a second
def _grid_size(spec_json: str) -> int:
    from tunesvc import space

    built = space.build(StudySpec.model_validate_json(spec_json))
    return len(built.defaults()) + len(built.grid())


def all_open(store: Store) -> list[Study]:
    """Return the studies that are neither paused nor done, oldest first.

    Those that another version of tunesvc stored, and this one cannot read, are passed over.
    """
    found = ((study, now) for study, now in _readable(store) if not now.paused)
    return [study for study, now in found if not _is_done(study, _counts(study), now)]


def to_confirm(store: Store) -> list[Study]:
    """Return the studies that are done and whose files ask for a confirmation, oldest first.

    Also those that were confirmed already; those that this version cannot read are passed over.
    """
    asking = ((study, now) for study, now in _readable(store) if study.spec.confirmation)
    return [study for study, now in asking if _is_done(study, _counts(study), now)]


def _readable(store: Store) -> Iterator[tuple[Study, Standing]]:
    for row in rows(store):
        try:
            study = study_of(store, row)
            yield study, standing(study)  # it may just have been deleted
        except StudyError as error:
            _warn_once(str(error))


@lru_cache
def _warn_once(message: str) -> None:
    log.warning(message)


def status(study: Study) -> Status:
    """Return how the study stands now."""
    engine, allowed = study.store.engine, limit(study.spec)
    counts, current = _counts(study, leases.held(engine, study.id)), standing(study)
    trials = {
        "complete": counts.complete,
        "pruned": counts.pruned,
        "fail": counts.fail,
        "running": counts.held,
        "waiting": counts.running - counts.held,
        "remaining": spending.remaining(counts.begun, allowed, current.room),
    }
    state: State = "paused" if current.paused else "open"
    state = "done" if _is_done(study, counts, current) else state
    budget = spending.allowed(allowed, limits(study.spec))
    spent = spending.amounts(counts.begun, leases.spent(engine, study.id), is_done=state == "done")
    seconds, running = _seconds(study), trials["running"]
    rate = 60 * max(1, running) / seconds if seconds else None
    left = running + trials["waiting"] + trials["remaining"]
    is_known = rate and running and state == "open"
    over = current.over if state == "done" and _has_more(counts.begun, allowed) else ""
    goals = objectives(study.spec)
    return Status(
        study=study.name,
        state=state,
        digest=study.spec.digest,
        budget=budget,
        spent=spent,
        trials=trials,
        best=_best(study),
        metric=goals[0].name,
        direction=goals[0].direction,
        objectives={goal.name: goal.direction for goal in goals},
        rate_per_minute=rate,
        eta_seconds=(
            spending.eta_seconds(budget, spent, left, rate, running) if rate and is_known else None
        ),
        created=study.created,
        why=_early(study, over, counts.begun) or current.why,
        over=over,
        takeovers=current.takeovers,
        infeasible=feasibility.infeasible(study) if study.spec.constraints else 0,
        confirms=confirms(study.spec),
    )


def _has_more(begun: int, allowed: int | None) -> bool:
    return allowed is None or begun < allowed


def paused_error(status: Status) -> TrainingError:
    """Return what to say of a study that was paused because its trials fail alike."""
    return TrainingError(
        f"study {status.study!r} is paused: {status.why}",
        "the cause is not the configuration; the workers' logs tell each attempt in full",
        f"mend it, then:  tunesvc retry {status.study} --failed;  tunesvc resume {status.study}",
    )


def _early(study: Study, over: str, begun: int) -> str:
    """Return why a study is done that has not begun all its trials."""
    if not over:
        return ""
    ended = "are spent" if over == "epochs_total" else "are over"
    told = f"the budget's {limits(study.spec).in_words(over)} {ended}"
    allowed = limit(study.spec)
    return told if allowed is None else f"{told}, and {allowed - begun} trials were not begun"


def _best(study: Study) -> Best | None:
    trial = feasibility.best(study)
    if trial is None:
        return None
    return Best(trial.number, cast(float, first_value(trial)), trial.params)


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
    return not _has_more(counts.begun, limit(study.spec)) or current.is_over
