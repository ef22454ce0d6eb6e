"""Every statement that puts failed trials back; the others are in `sql`."""

from __future__ import annotations

from sqlalchemy import text

# Whoever puts trials back reserves their epochs, as a claim does, and waits for claims as they do
# for each other.
ALONE = text("""
    SELECT FROM studies s JOIN tunesvc.study k USING (study_id)
    WHERE s.study_id = :study_id FOR NO KEY UPDATE OF s, k
""")

# What they had trained is counted with them again, as long as they are under way.
PUT_BACK = text("""
    WITH failed AS (
        UPDATE trials SET state = 'RUNNING', datetime_complete = NULL
        WHERE study_id = :study_id AND state = 'FAIL' RETURNING trial_id
    ), silenced AS (
        DELETE FROM trial_user_attributes
        WHERE trial_id IN (SELECT trial_id FROM failed)
          AND key IN ('reason', 'failure', 'epochs_finished')
    ), allowed AS (
        DELETE FROM trial_system_attributes
        WHERE trial_id IN (SELECT trial_id FROM failed) AND key LIKE 'constraints%'
    ), back AS (
        INSERT INTO tunesvc.lease (trial_id, study_id, seconds, epoch)
        SELECT trial_id, :study_id, 0, coalesce((SELECT value_json::integer
            FROM trial_user_attributes a
            WHERE a.trial_id = failed.trial_id AND a.key = 'epochs_finished'), (SELECT count(*)
            FROM trial_intermediate_values v WHERE v.trial_id = failed.trial_id)) FROM failed
        ON CONFLICT (trial_id) DO UPDATE SET expires_at = NULL, attempts = 0
        RETURNING trial_id, epoch, xmax = 0 AS is_new
    ), uncounted AS (
        INSERT INTO tunesvc.spent AS s (study_id, worker_id, epochs)
        SELECT :study_id, '', -sum(epoch) FROM back WHERE is_new HAVING count(*) > 0
        ON CONFLICT (study_id, worker_id) DO UPDATE SET epochs = s.epochs + excluded.epochs
    )
    SELECT trial_id FROM back
""")

RESERVED = text("""
    SELECT epochs - epochs_under_way + under_way * :epochs_each
    FROM tunesvc.spendings(CAST(:study_id AS integer))
""")

NEW_GENERATION = text(
    "UPDATE tunesvc.study SET generation = generation + 1 WHERE study_id = :study_id"
)
