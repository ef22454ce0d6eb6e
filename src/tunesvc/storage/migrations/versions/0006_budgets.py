"""Budgets of all that a study's trials take together: no trial is begun beyond them.

Why: 2026-11: a trial that is begun reserves all its epochs, and what it has not trained is free
again when it ends. So the sum is decided in the claim alone, under the lock that lets one worker
after the other begin a trial: it holds with any number of workers, while Postgres is away and when
a worker is killed, and costs no round trip. A count in each epoch's report would come too late: the
next epoch has begun by then. A trial is begun only where all its epochs fit in, for one that is cut
short tells nothing; so up to the epochs of one trial may stay unspent. What counts is an epoch
that was finished and reported: one that is repeated because a worker died counts once, and the few
batches that a trial does before the pruner's word reaches it count as seconds alone.

The `tunesvc.claim` of 0003 stays: workers of the version before go on with studies that they know.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

# `why`: the budget that has ended, by its key in the study file; empty: none. `room`: so many
# trials more the epochs suffice for, beside those under way; null: for any number.
OVER = """
CREATE OR REPLACE FUNCTION tunesvc.over(
  of_study integer, seconds_allowed float8, device_seconds_allowed float8, epochs_allowed bigint,
  epochs_each integer, OUT why text, OUT room bigint
) LANGUAGE plpgsql AS $$
DECLARE
  spent record;
BEGIN
  why := CASE WHEN EXISTS (SELECT FROM tunesvc.study k WHERE k.study_id = of_study
      AND clock_timestamp() >= k.started_at + make_interval(secs => seconds_allowed))
    THEN 'hours' ELSE '' END;
  IF device_seconds_allowed IS NULL AND epochs_allowed IS NULL THEN
    RETURN;
  END IF;
  SELECT * INTO spent FROM tunesvc.spendings(of_study);
  IF spent.device_seconds >= device_seconds_allowed THEN
    why := 'gpu_hours';
  ELSIF spent.epochs >= epochs_allowed THEN
    why := 'epochs_total';
  END IF;
  room := greatest((epochs_allowed - spent.epochs + spent.epochs_under_way) / epochs_each
    - spent.under_way, 0);
  IF epochs_allowed IS NULL THEN
    room := NULL;
  END IF;
END $$
"""

# As in 0003, with these budgets. What is stored counts where it allows less than the caller knows.
CLAIM = """
CREATE OR REPLACE FUNCTION tunesvc.claim(
  of_study integer, by_worker text, held bigint[], allowed integer, seconds_allowed float8,
  lease_seconds float8, is_spare boolean, first_given integer, all_given integer,
  fixed text[], marks text[], device_seconds_allowed float8, epochs_allowed bigint,
  epochs_each integer
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  study record;
  trial record;
  budget record;
  spare integer;  -- that may be begun or taken
  is_locked boolean := is_spare;
  found_one jsonb;
  why text;
BEGIN
  IF NOT EXISTS (SELECT FROM tunesvc.study k WHERE k.study_id = of_study) THEN
    INSERT INTO tunesvc.study (study_id) SELECT s.study_id FROM studies s
    WHERE s.study_id = of_study ON CONFLICT DO NOTHING;
  END IF;
  LOOP
    IF is_locked THEN
      PERFORM FROM studies s JOIN tunesvc.study k USING (study_id)
      WHERE s.study_id = of_study FOR NO KEY UPDATE OF s, k;
    END IF;
    SELECT k.given, k.paused_at IS NOT NULL AS paused,
           coalesce(k.stopped_at >= w.started_at, false) AS stopped,
           (SELECT a.value_json::jsonb -> 'budget' FROM study_user_attributes a
            WHERE a.study_id = of_study AND a.key = 'tunesvc:spec') AS budget
    INTO study FROM studies s JOIN tunesvc.study k USING (study_id)
    LEFT JOIN tunesvc.worker w ON w.worker_id = by_worker WHERE s.study_id = of_study;
    IF NOT FOUND THEN
      why := 'gone'; EXIT;
    ELSIF study.paused OR study.stopped THEN
      why := CASE WHEN study.paused THEN 'paused' ELSE 'stopped' END; EXIT;
    END IF;
    SELECT o.why, coalesce(o.room, 2147483647) AS room,
           coalesce(least(allowed, (study.budget ->> 'trials')::integer), 2147483647) AS trials
    INTO budget FROM tunesvc.over(of_study, seconds_allowed,
      least(device_seconds_allowed, (study.budget ->> 'gpu_hours')::float8 * 3600),
      least(epochs_allowed, (study.budget ->> 'epochs_total')::bigint), epochs_each) o;
    SELECT coalesce((SELECT max(t.number) + 1 FROM trials t WHERE t.study_id = of_study), 0)
             AS existing, count(*) AS enqueued, min(t.trial_id) AS first_enqueued
    INTO trial FROM trials t WHERE t.study_id = of_study AND t.state = 'WAITING';
    IF is_spare THEN
      SELECT count(*) + CASE WHEN budget.why <> '' THEN 0
          ELSE greatest(least(budget.trials - trial.existing + trial.enqueued, budget.room), 0) END
      INTO spare FROM tunesvc.lease l JOIN trials t ON t.trial_id = l.trial_id
      WHERE l.study_id = of_study AND t.state = 'RUNNING' AND tunesvc.is_free(l)
        AND l.token <> ALL (held);
      IF spare > 0 AND spare <= tunesvc.others(of_study, by_worker) THEN
        why := 'spare'; EXIT;
      END IF;
    END IF;
    found_one := tunesvc.take(of_study, by_worker, held, lease_seconds, is_spare);
    EXIT WHEN found_one IS NOT NULL;
    IF budget.why <> '' OR budget.room = 0 OR trial.existing - trial.enqueued >= budget.trials THEN
      why := CASE WHEN budget.why <> '' THEN 'over' ELSE 'spent' END; EXIT;
    END IF;
    IF is_locked AND trial.first_enqueued IS NULL AND study.given < all_given
        AND study.given NOT BETWEEN first_given AND first_given + cardinality(fixed) - 1 THEN
      RETURN jsonb_build_object('given', study.given);  -- the caller looks there
    ELSIF is_locked THEN
      found_one := tunesvc.begin_trial(of_study, by_worker, lease_seconds, is_spare,
        trial.first_enqueued, trial.existing, fixed[study.given - first_given + 1],
        marks[study.given - first_given + 1]);
      EXIT WHEN found_one IS NOT NULL;
    END IF;
    is_locked := true;
  END LOOP;
  IF found_one IS NULL THEN
    RETURN jsonb_build_object('why', why, 'under_way', (SELECT count(*) FROM tunesvc.lease l
      JOIN trials t ON t.trial_id = l.trial_id
      WHERE l.study_id = of_study AND t.state = 'RUNNING'));
  END IF;
  IF NOT is_spare THEN
    PERFORM tunesvc.begin_charging(of_study, by_worker);
  END IF;
  RETURN found_one || jsonb_build_object('given', study.given, 'over', budget.why);
END $$
"""


def upgrade() -> None:
    """Add the functions, the claim beside the one of 0003."""
    for statement in (OVER, CLAIM):
        op.execute(statement)
