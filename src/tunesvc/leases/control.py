"""What people ask of a study's workers, and what they may see of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Engine, TextClause

from tunesvc.leases import sql, sql_back
from tunesvc.leases.limits import UNLIMITED, Limits, Spent


@dataclass(frozen=True)
class Standing:
    """How a study stands with its workers.

    Args:
        why: it is paused; empty if a person asked for it.
        takeovers: of trials whose workers were lost.
        over: the budget that allows no trial more, by its key in the study file; empty: none. Of
            the epochs those that trials under way have reserved may still come free.
        room: trials that there are epochs for now; None: any number.
    """

    paused: bool
    why: str
    takeovers: int
    over: str
    room: int | None

    @property
    def is_over(self) -> bool:
        """Whether a budget allows no trial more."""
        return bool(self.over)


@dataclass(frozen=True)
class Worker:
    """A worker that has entered and not left.

    Args:
        studies: whose trials it takes; empty: all.
        study, trial, epoch: what it runs; `epoch` is the last that was finished.
        is_lost: it has shown no life for longer than it may.
    """

    worker_id: str
    host: str
    pid: int
    device: str
    studies: tuple[str, ...]
    started_at: datetime
    seen_at: datetime
    seen_seconds_ago: float
    study: str | None
    trial: int | None
    epoch: int | None
    is_lost: bool

    @property
    def state(self) -> Literal["running", "idle", "lost"]:
        """What it does, in a word."""
        if self.is_lost:
            return "lost"
        return "idle" if self.trial is None else "running"

    def as_json(self) -> dict[str, Any]:
        """Return it for `--json`; times as ISO 8601."""
        times = {"started_at": self.started_at.isoformat(), "seen_at": self.seen_at.isoformat()}
        return asdict(self) | times | {"state": self.state}


class Overspent(Exception):  # noqa: N818 (a message to whoever puts trials back)
    """All trials under way would need more epochs than there are."""


def standing(engine: Engine, study_id: int, limits: Limits = UNLIMITED) -> Standing | None:
    """Return how a study stands with its workers; None where there is no such study."""
    with engine.connect() as connection:
        which = {"study_id": study_id} | limits.arguments()
        found = connection.execute(sql.STANDING, which).one_or_none()
    return None if found is None else Standing(**found._mapping)


def pause(engine: Engine, study_id: int, why: str = "") -> None:
    """Hand out no more trials; those under way are checkpointed and given back."""
    _order(engine, sql.PAUSE, study_id=study_id, why=why)


def resume(engine: Engine, study_id: int) -> None:
    """Hand out trials again."""
    _order(engine, sql.RESUME, study_id=study_id)


def stop(engine: Engine, study_id: int) -> None:
    """Have every worker that runs now leave the study; those started later serve it."""
    _order(engine, sql.STOP, study_id=study_id)


def spent(engine: Engine, study_id: int) -> Spent:
    """Return what the study's trials have taken up to now."""
    with engine.connect() as connection:
        return Spent(**connection.execute(sql.SPENT, {"study_id": study_id}).one()._mapping)


def put_back(engine: Engine, study_id: int, limits: Limits = UNLIMITED) -> list[int]:
    """Let failed trials go on from their last checkpoints; return their ids.

    Raises:
        Overspent: none was put back.
    """
    with engine.begin() as connection:
        which = {"study_id": study_id}
        connection.execute(sql.KNOW_STUDY, which)
        connection.execute(sql_back.ALONE, which)
        found = list(connection.scalars(sql_back.PUT_BACK, which))
        if found:
            connection.execute(sql_back.NEW_GENERATION, which)
            reserved = connection.scalar(sql_back.RESERVED, which | {"epochs_each": limits.epochs})
            if limits.epochs_total is not None and reserved > limits.epochs_total:
                raise Overspent
    return found


def expire(engine: Engine, worker_id: str) -> None:
    """Free what a worker held that is known to be dead."""
    with engine.begin() as connection:
        connection.execute(sql.EXPIRE, {"worker_id": worker_id})


def held(engine: Engine, study_id: int) -> frozenset[int]:
    """Return the ids of the trials that live workers are at work on, one for each worker."""
    with engine.connect() as connection:
        return frozenset(connection.scalars(sql.HELD, {"study_id": study_id}))


def workers(engine: Engine) -> list[Worker]:
    """Return the workers that have not left, oldest first."""
    with engine.connect() as connection:
        rows = connection.execute(sql.WORKERS).all()
    return [Worker(**dict(row._mapping) | {"studies": tuple(row.studies)}) for row in rows]


def _order(engine: Engine, statement: TextClause, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(sql.KNOW_STUDY, values)
        connection.execute(statement, values)
