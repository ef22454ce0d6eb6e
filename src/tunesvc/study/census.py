"""How all studies stand at once, in one statement: for who looks every few seconds.

Why: 2026-11: `progress.status` tells more of one study, in several statements. Here a study's file
is read once, for as long as it stays as it is: its digest of 16 bytes travels in its place.

Why: 2026-11: at 23,212 trials `tallies` takes 14 ms and `outcomes` 61 ms (medians of 15, on two
very busy cores), so that only who shows the best values asks for them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, text

from tunesvc import trips
from tunesvc.errors import TuneError
from tunesvc.leases import UNLIMITED, Limits
from tunesvc.storage import Store
from tunesvc.study import spending
from tunesvc.study.feasibility import FITS
from tunesvc.study.goals import Direction, objective
from tunesvc.study.progress import limit
from tunesvc.study.stored import PREFIX, limits, stored_spec

log = logging.getLogger(__name__)

LONGEST_REASON = 4000  # characters; the last line of a traceback tells most
Condition = Literal["open", "paused", "done", "unreadable"]


class _Sql:
    # As `leases.HELD`: one trial for each live worker; what it has claimed ahead waits.
    TALLIES = text("""
        WITH live AS MATERIALIZED (
            SELECT study_id, worker_id, trial_id, waits FROM tunesvc.lease l
            WHERE NOT tunesvc.is_free(l)
        ), held AS (
            SELECT DISTINCT ON (study_id, worker_id) study_id, trial_id FROM live
            ORDER BY study_id, worker_id, waits, trial_id
        ), counted AS (
            SELECT t.study_id,
                   count(*) FILTER (WHERE t.state = 'COMPLETE') AS complete,
                   count(*) FILTER (WHERE t.state = 'PRUNED') AS pruned,
                   count(*) FILTER (WHERE t.state = 'FAIL') AS fail,
                   count(*) FILTER (WHERE t.state = 'RUNNING') AS running
            FROM trials t GROUP BY t.study_id
        ), leased AS (
            SELECT l.study_id, count(*) AS begun, count(live.trial_id) AS live,
                   count(held.trial_id) AS held
            FROM tunesvc.lease l JOIN trials t ON t.trial_id = l.trial_id AND t.state = 'RUNNING'
            LEFT JOIN live ON live.trial_id = l.trial_id
            LEFT JOIN held ON held.trial_id = l.trial_id GROUP BY l.study_id
        )
        SELECT s.study_id, s.study_name, md5(a.value_json) AS file,
               ours.paused_at IS NOT NULL AS paused, coalesce(ours.paused_why, '') AS why,
               coalesce(ours.takeovers, 0) AS takeovers,
               extract(epoch FROM clock_timestamp() - ours.started_at)::float8 AS age_seconds,
               coalesce(c.complete, 0) AS complete, coalesce(c.pruned, 0) AS pruned,
               coalesce(c.fail, 0) AS fail, coalesce(c.running, 0) AS running,
               coalesce(leased.begun, 0) AS begun, coalesce(leased.live, 0) AS live,
               coalesce(leased.held, 0) AS held, spent.device_seconds, spent.epochs,
               spent.epochs - spent.epochs_under_way AS epochs_ended, spent.under_way
        FROM studies s
        CROSS JOIN LATERAL tunesvc.spendings(s.study_id) spent
        JOIN study_user_attributes a ON a.study_id = s.study_id AND a.key = 'tunesvc:spec'
        LEFT JOIN tunesvc.study ours ON ours.study_id = s.study_id
        LEFT JOIN counted c ON c.study_id = s.study_id
        LEFT JOIN leased ON leased.study_id = s.study_id
        ORDER BY s.study_id
    """)
    FILES = text("""
        SELECT study_id, value_json FROM study_user_attributes
        WHERE key = 'tunesvc:spec' AND study_id = ANY (CAST(:studies AS integer[]))
    """)
    # The best, as `feasibility.best`; how long one of the last finished took, as `status`.
    OUTCOMES = text(f"""
        SELECT DISTINCT ON (t.study_id) t.study_id, t.number, v.value
        FROM trials t
        JOIN study_directions d ON d.study_id = t.study_id AND d.objective = 0
        JOIN LATERAL (
            SELECT CASE v.value_type WHEN 'INF_POS' THEN 'Infinity'::float8
                WHEN 'INF_NEG' THEN '-Infinity' ELSE v.value END AS value
            FROM trial_values v WHERE v.trial_id = t.trial_id AND v.objective = 0) v ON true
        WHERE t.state = 'COMPLETE' AND {FITS}
        ORDER BY t.study_id, CASE d.direction WHEN 'MAXIMIZE' THEN -v.value ELSE v.value END,
            t.trial_id
    """)
    PACES = text("""
        SELECT asked.study_id, (
            SELECT extract(epoch FROM avg(datetime_complete - datetime_start))::float8 FROM (
                SELECT datetime_start, datetime_complete FROM trials t
                WHERE t.study_id = asked.study_id AND state IN ('COMPLETE', 'PRUNED', 'FAIL')
                ORDER BY datetime_complete DESC LIMIT 20) AS recent) AS seconds
        FROM unnest(CAST(:studies AS integer[])) AS asked(study_id)
    """)
    FAILURES = text("""
        SELECT s.study_name AS study, t.number AS trial,
               t.datetime_complete AT TIME ZONE 'UTC' AS at, a.value_json AS reason
        FROM (SELECT * FROM trials WHERE state = 'FAIL' AND datetime_complete IS NOT NULL
              ORDER BY datetime_complete DESC LIMIT :count) t
        JOIN studies s USING (study_id)
        LEFT JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'reason'
        ORDER BY t.datetime_complete DESC
    """)


@dataclass(frozen=True)
class Tally:
    """How a study stands, in numbers.

    Args:
        why: it is paused, or cannot be read.
        limit: trials that may be begun, as far as that is known; 0 where the study cannot be read.
        running: one for each live worker.
        waiting: begun, and nobody is at work on them.
        remaining: not begun, and still may be.
        leases: that are live: those running, and those that wait for the worker that has them.
        takeovers: of trials whose workers were lost.
        metric: empty where the study cannot be read.
    """

    study_id: int
    study: str
    condition: Condition
    why: str
    limit: int
    complete: int
    pruned: int
    fail: int
    running: int
    waiting: int
    remaining: int
    leases: int
    takeovers: int
    metric: str
    direction: Direction

    @property
    def queue(self) -> int:
        """Trials that wait for a worker: none of a study that is paused or done."""
        return self.waiting + self.remaining if self.condition == "open" else 0

    @property
    def ended(self) -> int:
        """Trials that have come to an end of any kind."""
        return self.complete + self.pruned + self.fail


@dataclass(frozen=True)
class Outcome:
    """The best finished trial of a study, by number."""

    trial: int
    value: float


@dataclass(frozen=True)
class Failure:
    """A trial that failed, and of what."""

    study: str
    trial: int
    at: datetime
    reason: str


@dataclass(frozen=True)
class _File:
    """What a study file says that is of interest here."""

    limit: int | None = 0
    limits: Limits = UNLIMITED
    metric: str = ""
    direction: Direction = "maximize"
    trouble: str = ""


class Census:
    """All studies of a database. Threads may share it."""

    def __init__(self, store: Store) -> None:
        self._engine = store.engine
        self._files: Mapping[str, _File] = {}  # by digest

    def tallies(self) -> list[Tally]:
        """Return how every study stands, oldest first."""
        with trips.alone(self._engine) as connection:
            rows = connection.execute(_Sql.TALLIES).all()
        files = self._known(rows)
        return [_tally(row, files[row.file]) for row in rows]

    def outcomes(self) -> dict[int, Outcome]:
        """Return the best trial of each study that has one."""
        with trips.alone(self._engine) as connection:
            rows = connection.execute(_Sql.OUTCOMES).all()
        return {row.study_id: Outcome(row.number, row.value) for row in rows}

    def eta_seconds(self, tallies: Iterable[Tally]) -> dict[int, float]:
        """Return how long each study takes yet, of those that are open and run, as `status` does.

        All that is left is taken to run as fast as the last twenty trials did, in as many workers
        as there are now.
        """
        busy = {each.study_id: each for each in tallies if each.running and each.queue}
        if not busy:
            return {}
        with trips.alone(self._engine) as connection:
            rows = connection.execute(_Sql.PACES, {"studies": list(busy)}).all()
        known = ((busy[row.study_id], row.seconds) for row in rows if row.seconds)
        return {
            each.study_id: seconds * (each.running + each.queue) / each.running
            for each, seconds in known
        }

    def failures(self, count: int) -> list[Failure]:
        """Return the trials that failed last, the latest first."""
        with trips.alone(self._engine) as connection:
            rows = connection.execute(_Sql.FAILURES, {"count": count}).all()
        return [Failure(row.study, row.trial, row.at, _words(row.reason)) for row in rows]

    def _known(self, rows: Iterable[Row[Any]]) -> Mapping[str, _File]:
        """Return what the files of these studies say; files that changed are read."""
        wanted = {row.file: row for row in rows}
        known = {digest: self._files[digest] for digest in wanted if digest in self._files}
        unread = {row.study_id: row for digest, row in wanted.items() if digest not in known}
        if unread:
            with trips.alone(self._engine) as connection:
                found = connection.execute(_Sql.FILES, {"studies": list(unread)}).all()
            read = {each.study_id: each.value_json for each in found}
            for study_id, row in unread.items():  # one may just have been deleted
                known[row.file] = _file(row.study_name, read.get(study_id, "{}"))
        self._files = known
        return known


def _file(name: str, value_json: str) -> _File:
    try:
        spec = stored_spec(name, {PREFIX + "spec": json.loads(value_json)})
        metric, direction = objective(spec)
        return _File(limit(spec), limits(spec), metric, direction)
    except TuneError as error:
        return _File(trouble=error.why or error.what)


def _tally(row: Row[Any], file: _File) -> Tally:
    begun = row.complete + row.pruned + row.fail + row.running
    remaining = spending.remaining(begun, file.limit, _room(row, file.limits))
    is_over = _is_over(row, file.limits)
    condition: Condition = "paused" if row.paused else "open"
    condition = "done" if not row.begun and (not remaining or is_over) else condition
    condition = "unreadable" if file.trouble else condition
    return Tally(
        study_id=row.study_id,
        study=row.study_name,
        condition=condition,
        why=file.trouble or row.why,
        limit=begun + remaining if file.limit is None else file.limit,
        complete=row.complete,
        pruned=row.pruned,
        fail=row.fail,
        running=row.held,
        waiting=row.begun - row.held,
        remaining=0 if is_over else remaining,
        leases=row.live,
        takeovers=row.takeovers,
        metric=file.metric,
        direction=file.direction,
    )


def _room(row: Row[Any], most: Limits) -> int | None:
    """As `tunesvc.over` has it."""
    if most.epochs_total is None:
        return None
    left = most.epochs_total - int(row.epochs_ended)
    return max(0, left // most.epochs - int(row.under_way))


def _is_over(row: Row[Any], most: Limits) -> bool:
    hours = (most.hours, row.age_seconds or 0.0), (most.gpu_hours, row.device_seconds)
    return any(allowed is not None and seconds >= allowed * 3600 for allowed, seconds in hours)


def _words(reason: str | None) -> str:
    """Return a reason as it was stored, the end of a long one."""
    return "no reason was told" if reason is None else str(json.loads(reason))[-LONGEST_REASON:]
