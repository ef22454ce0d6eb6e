"""Every statement about who runs which trial, by name.

Why: 2026-11: our statements write Optuna's own tables (`trials` and its children, as of Optuna 5)
so that a trial, its lease and the count of its study's budget change in one transaction, and so
that every later word about the trial is written only while its lease's token is still the present
one. Through Optuna's own storage each of these would be a transaction of its own.

Why: 2026-11: what every trial needs (`CLAIM`, `write`) are functions in our schema, made by
migrations 0005 and 0006: a transaction of several statements in one round trip, its plans kept by
the server. A session holds no state of ours: PgBouncer may pool transactions.

The server's clock alone decides; `clock_timestamp()` where a transaction may have waited for a
lock, during which `now()` stands still.
"""

from __future__ import annotations

from functools import lru_cache

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import Text

# ---- one study ---------------------------------------------------------------------------------

KNOW_STUDY = text("""
    INSERT INTO tunesvc.study (study_id) SELECT study_id FROM studies WHERE study_id = :study_id
    ON CONFLICT DO NOTHING
""")

STANDING = text("""
    SELECT paused_at IS NOT NULL AS paused, coalesce(paused_why, '') AS why,
           coalesce(takeovers, 0) AS takeovers,
           CASE WHEN o.why = '' AND o.room = 0 THEN 'epochs_total' ELSE o.why END AS over,
           o.room
    FROM studies LEFT JOIN tunesvc.study USING (study_id)
    CROSS JOIN LATERAL tunesvc.over(study_id, :seconds_allowed, :device_seconds_allowed,
        :epochs_allowed, :epochs_each) o
    WHERE study_id = :study_id
""")

SPENT = text("""
    SELECT device_seconds, epochs,
           extract(epoch FROM clock_timestamp() - k.started_at)::float8 AS age_seconds,
           (SELECT extract(epoch FROM max(t.datetime_complete) AT TIME ZONE 'UTC'
               - k.started_at)::float8 FROM trials t WHERE t.study_id = :study_id)
               AS ended_seconds
    FROM tunesvc.spendings(CAST(:study_id AS integer))
    LEFT JOIN tunesvc.study k ON k.study_id = :study_id
""")

PAUSE = text(
    "UPDATE tunesvc.study SET paused_at = now(), paused_why = :why WHERE study_id = :study_id"
)

RESUME = text("""
    UPDATE tunesvc.study SET paused_at = NULL, paused_why = '', resumed_at = clock_timestamp()
    WHERE study_id = :study_id
""")

STOP = text("UPDATE tunesvc.study SET stopped_at = clock_timestamp() WHERE study_id = :study_id")

IS_STOPPED = text("""
    SELECT coalesce(t.stopped_at >= w.started_at, false)
    FROM tunesvc.study t, tunesvc.worker w
    WHERE t.study_id = :study_id AND w.worker_id = :worker_id
""")

# ---- claims ------------------------------------------------------------------------------------

CLAIM = text("""
    SELECT tunesvc.claim(:study_id, :worker_id, CAST(:held AS bigint[]), :trials,
        :seconds_allowed, :seconds, :spare, :first_given, :all_given,
        CAST(:fixed AS text[]), CAST(:marks AS text[]),
        :device_seconds_allowed, :epochs_allowed, :epochs_each)
""")

# ---- a held lease ------------------------------------------------------------------------------

# FOR SHARE: whoever takes the lease waits until the writer has committed.
HOLDS = text("""
    SELECT true FROM tunesvc.lease JOIN trials USING (trial_id)
    WHERE trial_id = :trial_id AND token = :token AND state = 'RUNNING' FOR SHARE OF lease
""")

# What was released stays so: a renewal may be on its way when its trial is given back. Rows are
# locked by trial, as by a write of several trials: neither waits for the other in a circle. The
# device is charged for after that, as in a write; also for a trial that was lost: it was worked on.
RENEW = text("""
    WITH me AS (
        UPDATE tunesvc.worker SET seen_at = clock_timestamp() WHERE worker_id = :worker_id
        RETURNING started_at
    ), mine AS (
        SELECT mine.* FROM unnest(CAST(:trials AS integer[]), CAST(:tokens AS bigint[]),
            CAST(:waits AS boolean[]), CAST(:seconds_allowed AS float8[]),
            CAST(:device_seconds_allowed AS float8[]), CAST(:epochs_allowed AS bigint[]),
            CAST(:epochs_each AS integer[]))
            AS mine(trial_id, token, waits, seconds_allowed, device_seconds_allowed,
                epochs_allowed, epochs_each)
        JOIN tunesvc.lease l ON l.trial_id = mine.trial_id AND l.token = mine.token
        ORDER BY l.trial_id FOR NO KEY UPDATE OF l
    ), kept AS (
        UPDATE tunesvc.lease l
        SET expires_at = clock_timestamp() + l.seconds * interval '1 second',
            waits = l.waits AND mine.waits
        FROM mine
        WHERE l.trial_id = mine.trial_id AND l.token = mine.token AND l.expires_at IS NOT NULL
          AND (SELECT state FROM trials t WHERE t.trial_id = l.trial_id) = 'RUNNING'
        RETURNING l.study_id, l.token, mine.seconds_allowed, mine.device_seconds_allowed,
            mine.epochs_allowed, mine.epochs_each
    ), charged AS (
        UPDATE tunesvc.spent s
        SET seconds = s.seconds
                + greatest(extract(epoch FROM clock_timestamp() - s.charged_at), 0),
            charged_at = greatest(s.charged_at, clock_timestamp())
        WHERE (SELECT count(*) FROM kept) >= 0 AND s.worker_id = :worker_id
          AND s.study_id IN (
              SELECT study_id FROM trials WHERE trial_id = ANY (CAST(:trials AS integer[])))
    )
    SELECT kept.token, t.paused_at IS NOT NULL AS paused,
           coalesce(t.stopped_at >= me.started_at, false) AS stopped, o.why AS over
    FROM kept JOIN tunesvc.study t USING (study_id) LEFT JOIN me ON true
    CROSS JOIN LATERAL tunesvc.over(kept.study_id, kept.seconds_allowed,
        kept.device_seconds_allowed, kept.epochs_allowed, kept.epochs_each) o
""")

RELEASE = text("""
    WITH freed AS (
        UPDATE tunesvc.lease SET expires_at = NULL WHERE trial_id = :trial_id AND token = :token
        RETURNING study_id, worker_id, waits
    )
    SELECT tunesvc.charge(study_id, worker_id, 0) FROM freed WHERE NOT waits
""")

# Several leases are locked by the trials' ids, here as everywhere: else two statements could wait
# for each other.
RELEASE_ALL = text("""
    WITH freed AS (
        UPDATE tunesvc.lease SET expires_at = NULL WHERE trial_id IN (
            SELECT trial_id FROM tunesvc.lease WHERE worker_id = :worker_id
            ORDER BY trial_id FOR NO KEY UPDATE) AND worker_id = :worker_id
            AND expires_at IS NOT NULL
        RETURNING study_id, waits
    )
    SELECT tunesvc.charge(study_id, :worker_id, 0)
    FROM (SELECT DISTINCT study_id FROM freed WHERE NOT waits) at_work
""")

EXPIRE = text("""
    UPDATE tunesvc.lease SET expires_at = '-infinity' WHERE trial_id IN (
        SELECT trial_id FROM tunesvc.lease
        WHERE worker_id = :worker_id AND expires_at IS NOT NULL
        ORDER BY trial_id FOR NO KEY UPDATE) AND worker_id = :worker_id
""")

ATTEMPTS = text(
    "SELECT attempts, reasons, epoch, expires_at IS NULL AS released FROM tunesvc.lease "
    "WHERE trial_id = :trial_id FOR UPDATE"
)

NOTE_ATTEMPT = text("""
    WITH freed AS (
        UPDATE tunesvc.lease SET attempts = :attempts, reasons = :reasons, expires_at = NULL
        WHERE trial_id = :trial_id RETURNING study_id, worker_id
    )
    SELECT tunesvc.charge(study_id, worker_id, 0) FROM freed
""").bindparams(bindparam("reasons", type_=JSONB))

END_LEASE = text("""
    WITH ended AS (
        DELETE FROM tunesvc.lease WHERE trial_id = :trial_id RETURNING study_id, worker_id, epoch
    )
    SELECT epoch FROM ended
    CROSS JOIN LATERAL tunesvc.charge(ended.study_id, ended.worker_id, ended.epoch)
""")

# ---- a trial's own rows, in Optuna's tables -----------------------------------------------------

# Parameters, attributes, steps and, with a state, the end; of rungs, what other trials reported.
_WRITE = """
    SELECT * FROM tunesvc.write(:trial_id{0}, :token{0},
        CAST(:names{0} AS text[]), CAST(:drawn{0} AS float8[]), CAST(:distributions{0} AS text[]),
        CAST(:system_keys{0} AS text[]), CAST(:system_values{0} AS text[]),
        CAST(:user_keys{0} AS text[]), CAST(:user_values{0} AS text[]),
        CAST(:steps{0} AS integer[]), CAST(:step_values{0} AS float8[]),
        CAST(:step_kinds{0} AS text[]), :epochs{0}, :begun{0},
        :state{0}, CAST(:values{0} AS float8[]), CAST(:kinds{0} AS text[]),
        CAST(:rungs{0} AS integer[]), :generation{0}, :first{0}, CAST(:known{0} AS integer[]),
        CAST(:unfinished{0} AS integer[]), :most{0})
"""


@lru_cache
def write(trials: int) -> TextClause:
    """Return the statement that writes of so many trials, whose arguments end in `_0`, `_1`, …"""
    return text(" UNION ALL ".join(_WRITE.format(f"_{place}") for place in range(trials)))


SET_USER_ATTRIBUTE = text("""
    INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (:trial_id, :key, :value)
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
""")

TELL = text("""
    UPDATE trials
    SET state = CAST(:state AS trialstate), datetime_complete = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE trial_id = :trial_id AND state = 'RUNNING'
""")

STATE = text("SELECT state::text FROM trials WHERE trial_id = :trial_id")

# ---- failed trials ------------------------------------------------------------------------------

# The last trials told, newest first, with what they failed of.
LAST_TOLD = text("""
    SELECT t.state::text AS state, a.value_json AS failure
    FROM trials t
    LEFT JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'failure'
    WHERE t.study_id = :study_id AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
      AND t.datetime_complete > (
          SELECT coalesce(resumed_at AT TIME ZONE 'UTC', '-infinity')
          FROM tunesvc.study WHERE study_id = :study_id)
    ORDER BY t.datetime_complete DESC LIMIT :count
""")

# ---- workers ------------------------------------------------------------------------------------

ENTER = text("""
    INSERT INTO tunesvc.worker (worker_id, host, pid, device, studies)
    VALUES (:worker_id, :host, :pid, :device, :studies) ON CONFLICT (worker_id) DO NOTHING
""").bindparams(bindparam("studies", type_=ARRAY(Text)))

LEAVE = text("UPDATE tunesvc.worker SET left_at = now() WHERE worker_id = :worker_id")

FORGET_WORKERS = text("""
    DELETE FROM tunesvc.worker w
    WHERE (left_at IS NOT NULL OR seen_at < now() - interval '1 day')
      AND NOT EXISTS (SELECT FROM tunesvc.lease l WHERE l.worker_id = w.worker_id)
""")

# Of several trials the one that is worked on.
WORKERS = text("""
    SELECT w.worker_id, w.host, w.pid, w.device, w.studies, w.started_at, w.seen_at,
           extract(epoch FROM now() - w.seen_at)::float AS seen_seconds_ago,
           s.study_name AS study, t.number AS trial, l.epoch AS epoch,
           coalesce(l.expires_at < now(), w.seen_at < now() - interval '60 seconds') AS is_lost
    FROM tunesvc.worker w
    LEFT JOIN LATERAL (
        SELECT * FROM tunesvc.lease WHERE worker_id = w.worker_id AND expires_at IS NOT NULL
        ORDER BY waits, trial_id LIMIT 1) l ON true
    LEFT JOIN trials t USING (trial_id)
    LEFT JOIN studies s ON s.study_id = l.study_id
    WHERE w.left_at IS NULL AND (l.trial_id IS NOT NULL OR w.seen_at > now() - interval '5 minutes')
    ORDER BY w.started_at, w.worker_id
""")

# One for each worker: what it has claimed ahead waits for its turn.
HELD = text("""
    SELECT DISTINCT ON (worker_id) trial_id FROM tunesvc.lease
    WHERE study_id = :study_id AND greatest(
        expires_at, CASE WHEN expires_at IS NOT NULL AND expires_at > '-infinity'
        THEN pg_postmaster_start_time() + seconds * interval '1 second' END) > now()
    ORDER BY worker_id, waits, trial_id
""")

# ---- what fitted into a device's memory --------------------------------------------------------

FITTED = text("""
    SELECT backbone, image_size, strategy, size FROM tunesvc.micro_batch WHERE device = :device
""")

NOTE_FITTED = text("""
    INSERT INTO tunesvc.micro_batch AS known (device, backbone, image_size, strategy, size)
    VALUES (:device, :backbone, :image_size, :strategy, :size)
    ON CONFLICT ON CONSTRAINT micro_batch_pkey DO UPDATE SET size = least(known.size, excluded.size)
    RETURNING size
""")
