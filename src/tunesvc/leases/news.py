"""What runs, and what has ended lately: for who counts it (the dashboard's metrics)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, text

from tunesvc import trips
from tunesvc.leases import sql

RECENT = 500  # trials whose memory is told
OVERLAP_SECONDS = 60  # a statement of ours ends within 15

# Python's JSON has words for what is not a number, Postgres's has none.
_JSON = "regexp_replace({}.value_json, '-?(NaN|Infinity)', 'null', 'g')::jsonb"


class _Sql:
    # The last trials are found by their ids. `run` says where one ran, as `host:pid`.
    NEWS = text(f"""
        WITH present AS MATERIALIZED ({sql.WORKERS.text}),
        recent AS MATERIALIZED (SELECT trial_id FROM trials ORDER BY trial_id DESC LIMIT {RECENT}),
        peaks AS (
            SELECT split_part(run.told ->> 'worker', ':', 1) AS host,
                   run.told ->> 'device' AS device,
                   max(peak.value_json::float8) * 1048576 AS bytes
            FROM recent
            JOIN LATERAL (SELECT {_JSON.format("a")} AS told FROM trial_user_attributes a
                          WHERE a.trial_id = recent.trial_id AND a.key = 'run') run ON true
            JOIN trial_user_attributes peak
                ON peak.trial_id = recent.trial_id AND peak.key = 'peak_memory_mb'
            GROUP BY 1, 2
        ), trials_now AS (
            SELECT t.trial_id, s.study_name AS study, t.state::text,
                   extract(epoch FROM t.datetime_complete - t.datetime_start)::float8 AS seconds,
                   (SELECT jsonb_agg((SELECT sum(phase.value::float8)
                        FROM jsonb_each_text(epoch.told -> 'seconds') phase) ORDER BY epoch.place)
                    FROM jsonb_array_elements({_JSON.format("h")})
                        WITH ORDINALITY AS epoch(told, place)) AS epochs
            FROM trials t JOIN studies s USING (study_id)
            LEFT JOIN trial_user_attributes h ON h.trial_id = t.trial_id AND h.key = 'history'
            WHERE t.trial_id IN (SELECT trial_id FROM tunesvc.lease)
               OR t.datetime_complete >= (coalesce(CAST(:since AS timestamptz), clock_timestamp())
                    - interval '{OVERLAP_SECONDS} seconds') AT TIME ZONE 'UTC'
        )
        SELECT clock_timestamp() AS now, coalesce((SELECT max(trial_id) FROM trials), 0) AS newest,
               (SELECT json_object_agg(kind, number) FROM (
                    SELECT CASE WHEN is_lost THEN 'lost' WHEN trial IS NULL THEN 'idle'
                        ELSE 'running' END AS kind, count(*) AS number
                    FROM present GROUP BY 1) counted) AS workers,
               (SELECT json_agg(json_build_array(host, device, bytes)) FROM peaks
                WHERE device LIKE 'cuda%'
                  AND (host, device) IN (SELECT present.host, present.device FROM present)
               ) AS memory,
               (SELECT json_agg(json_build_array(trial_id, study, state, seconds,
                    coalesce(epochs, '[]'))) FROM trials_now) AS trials
    """)


@dataclass(frozen=True)
class Run:
    """A trial that runs, or has ended lately.

    Args:
        state: "RUNNING", "COMPLETE", "PRUNED" or "FAIL".
        seconds: from its beginning to its end, waits for a worker included; None: it runs.
        epochs: seconds of each that is finished; None where it was not told.
    """

    trial_id: int
    study: str
    state: str
    seconds: float | None
    epochs: Sequence[float | None]


@dataclass(frozen=True)
class News:
    """What one statement has seen.

    Args:
        now: by the server's clock.
        newest: the highest id of a trial.
        workers: how many are running, idle and lost.
        memory: host, device, and the most that one of the last trials there has taken, in bytes, of
            the CUDA devices that a worker has now.
        runs: trials that run, and those that have ended since.
    """

    now: datetime
    newest: int
    workers: dict[str, int]
    memory: list[tuple[str, str, float]]
    runs: list[Run]


def news(engine: Engine, since: datetime | None) -> News:
    """Return what runs now, and what has ended since, or a little before: what was being written
    then has been committed meanwhile. None: since now."""
    with trips.alone(engine) as connection:
        found: Any = connection.execute(_Sql.NEWS, {"since": since}).one()
    return News(
        now=found.now,
        newest=found.newest,
        workers={"running": 0, "idle": 0, "lost": 0} | (found.workers or {}),
        memory=[(host, device, float(size)) for host, device, size in found.memory or ()],
        runs=[Run(*each) for each in found.trials or ()],
    )
