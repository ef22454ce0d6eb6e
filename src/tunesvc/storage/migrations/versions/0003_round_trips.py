"""A claim and a write of a leased trial are one round trip each: functions in our schema.

Each runs as one transaction, and every statement in it sees what was committed before that
statement: what is read after waiting for a lock is as it is then.

Names of Optuna's tables follow the caller's search_path. Optuna never deletes a single trial and
numbers them from 0 under the lock of the study's row, so the highest number tells how many there
are: an index answers that, whereas counting 20,000 rows takes milliseconds under the lock.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

WAITS = """
ALTER TABLE tunesvc.lease
  ADD COLUMN waits boolean NOT NULL DEFAULT false  -- claimed ahead, not begun by who has it
"""

# After a restart of the server those who held a lease have its length again to come back: they
# could not renew it meanwhile.
IS_FREE = """
CREATE FUNCTION tunesvc.is_free(l tunesvc.lease) RETURNS boolean LANGUAGE sql AS $$
  SELECT l.expires_at IS NULL OR l.expires_at = '-infinity' OR clock_timestamp()
    > greatest(l.expires_at, pg_postmaster_start_time() + l.seconds * interval '1 second')
$$
"""

# How many live workers serve a study, the asking one aside. One that trains counts as well: it will
# be without work before the trial that somebody else claimed ahead is begun.
OTHERS = """
CREATE FUNCTION tunesvc.others(of_study integer, but_not text) RETURNS bigint LANGUAGE sql AS $$
  SELECT count(*) FROM tunesvc.worker w, studies s JOIN tunesvc.study k USING (study_id)
  WHERE s.study_id = of_study AND w.worker_id <> but_not AND w.left_at IS NULL
    AND w.seen_at > clock_timestamp() - interval '30 seconds'
    AND (w.studies = '{}' OR s.study_name::text = ANY (w.studies))
    AND w.started_at > coalesce(k.stopped_at, '-infinity')
$$
"""

# Of those that may be taken over: first one of the worker's own, whose claim was committed but
# whose reply was lost, or which could not be given back; then a released one; then an expired one.
TAKE = """
CREATE FUNCTION tunesvc.take(
  of_study integer, by_worker text, held bigint[], lease_seconds float8, is_spare boolean
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  was record;
  now_has tunesvc.lease;
BEGIN
  SELECT l.*, t.number,
         l.expires_at IS NOT NULL AND l.worker_id IS DISTINCT FROM by_worker AS is_lost
  INTO was FROM tunesvc.lease l JOIN trials t ON t.trial_id = l.trial_id
  WHERE l.study_id = of_study AND t.state = 'RUNNING' AND l.token <> ALL (held)
    AND (l.worker_id = by_worker OR tunesvc.is_free(l))
  ORDER BY l.expires_at IS NULL OR l.worker_id <> by_worker, l.expires_at IS NOT NULL, l.trial_id
  LIMIT 1 FOR NO KEY UPDATE OF l SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  UPDATE tunesvc.lease l
  SET token = nextval('tunesvc.token'), worker_id = by_worker, seconds = lease_seconds,
      expires_at = clock_timestamp() + lease_seconds * interval '1 second', waits = is_spare,
      attempts = l.attempts + (was.is_lost AND NOT was.waits)::integer,
      reasons = CASE WHEN was.is_lost AND NOT was.waits
        THEN l.reasons || jsonb_build_array(jsonb_build_object(
          'who', coalesce(was.worker_id, ''), 'epoch', was.epoch,
          'why', 'gave no sign of life for ' || was.seconds || ' seconds'))
        ELSE l.reasons END
  WHERE l.trial_id = was.trial_id RETURNING l.* INTO now_has;
  IF was.is_lost AND NOT was.waits THEN
    UPDATE tunesvc.study SET takeovers = takeovers + 1 WHERE study_id = of_study;
  END IF;
  RETURN jsonb_build_object('trial_id', now_has.trial_id, 'number', was.number,
    'token', now_has.token, 'resumed', true, 'epoch', now_has.epoch,
    'attempts', now_has.attempts);
END $$
"""

# One that somebody enqueued, else a new one. NULL: a stranger has just begun what was enqueued.
BEGIN = """
CREATE FUNCTION tunesvc.begin_trial(
  of_study integer, by_worker text, lease_seconds float8, is_spare boolean, enqueued integer,
  next_number integer, fixed text, marks text
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  begun trials;
  new_token bigint;
  right_now timestamp := clock_timestamp() AT TIME ZONE 'UTC';
BEGIN
  IF enqueued IS NULL THEN
    INSERT INTO trials (study_id, number, state, datetime_start)
    VALUES (of_study, next_number, 'RUNNING', right_now) RETURNING * INTO begun;
    INSERT INTO trial_system_attributes (trial_id, key, value_json)
    SELECT begun.trial_id, 'fixed_params', fixed WHERE fixed IS NOT NULL;
    INSERT INTO trial_user_attributes (trial_id, key, value_json)
    SELECT begun.trial_id, key, value::text FROM json_each(marks::json);
  ELSE
    fixed := NULL;
    UPDATE trials SET state = 'RUNNING', datetime_start = right_now
    WHERE trial_id = enqueued AND state = 'WAITING' RETURNING * INTO begun;
    IF NOT FOUND THEN
      RETURN NULL;
    END IF;
  END IF;
  UPDATE tunesvc.study
  SET started_at = coalesce(started_at, clock_timestamp()),
      given = given + (fixed IS NOT NULL)::integer
  WHERE study_id = of_study AND (started_at IS NULL OR fixed IS NOT NULL);
  INSERT INTO tunesvc.lease (trial_id, study_id, worker_id, seconds, expires_at, waits)
  VALUES (begun.trial_id, of_study, by_worker, lease_seconds,
          clock_timestamp() + lease_seconds * interval '1 second', is_spare)
  RETURNING token INTO new_token;
  RETURN jsonb_build_object('trial_id', begun.trial_id, 'number', begun.number,
    'token', new_token, 'resumed', false, 'epoch', 0, 'attempts', 0,
    'started_at', CASE WHEN enqueued IS NULL THEN right_now END);
END $$
"""

# Looks without a lock first; whoever may begin a trial locks the study (Optuna's row too, for that
# is the one that others lock who create trials), and looks again. `fixed` and `marks` are those of
# the given configurations from `first_given` on.
CLAIM = """
CREATE FUNCTION tunesvc.claim(
  of_study integer, by_worker text, held bigint[], allowed integer, seconds_allowed float8,
  lease_seconds float8, is_spare boolean, first_given integer, all_given integer,
  fixed text[], marks text[]
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  study record;
  trial record;
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
           coalesce(clock_timestamp() >= k.started_at + make_interval(secs => seconds_allowed),
               false) AS is_over,
           least(allowed, (SELECT (a.value_json::jsonb #>> '{budget,trials}')::integer
               FROM study_user_attributes a
               WHERE a.study_id = of_study AND a.key = 'tunesvc:spec')) AS trials
    INTO study FROM studies s JOIN tunesvc.study k USING (study_id)
    LEFT JOIN tunesvc.worker w ON w.worker_id = by_worker WHERE s.study_id = of_study;
    IF NOT FOUND THEN
      why := 'gone'; EXIT;
    ELSIF study.paused OR study.stopped THEN
      why := CASE WHEN study.paused THEN 'paused' ELSE 'stopped' END; EXIT;
    END IF;
    SELECT coalesce((SELECT max(t.number) + 1 FROM trials t WHERE t.study_id = of_study), 0)
             AS existing, count(*) AS enqueued, min(t.trial_id) AS first_enqueued
    INTO trial FROM trials t WHERE t.study_id = of_study AND t.state = 'WAITING';
    IF is_spare THEN
      SELECT count(*) + CASE WHEN study.is_over THEN 0
          ELSE greatest(study.trials - trial.existing + trial.enqueued, 0) END
      INTO spare FROM tunesvc.lease l JOIN trials t ON t.trial_id = l.trial_id
      WHERE l.study_id = of_study AND t.state = 'RUNNING' AND tunesvc.is_free(l)
        AND l.token <> ALL (held);
      IF spare > 0 AND spare <= tunesvc.others(of_study, by_worker) THEN
        why := 'spare'; EXIT;
      END IF;
    END IF;
    found_one := tunesvc.take(of_study, by_worker, held, lease_seconds, is_spare);
    EXIT WHEN found_one IS NOT NULL;
    IF study.is_over OR trial.existing - trial.enqueued >= study.trials THEN
      why := CASE WHEN study.is_over THEN 'over' ELSE 'spent' END; EXIT;
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
  RETURN found_one || jsonb_build_object('given', study.given, 'is_over', study.is_over);
END $$
"""

# What the holder of a lease has to say of its trial: parameters, attributes, the values of steps,
# and with a state its end. True also if it was told before, in the same way; false: it is lost.
WRITE = """
CREATE FUNCTION tunesvc.write(
  of_trial integer, fence bigint, names text[], drawn float8[], distributions text[],
  system_keys text[], system_values text[], user_keys text[], user_values text[],
  steps integer[], step_values float8[], step_kinds text[],
  told text, told_values float8[], told_kinds text[]
) RETURNS timestamp LANGUAGE plpgsql AS $$
DECLARE
  right_now timestamp := clock_timestamp() AT TIME ZONE 'UTC';
  last_step integer := (SELECT max(step) FROM unnest(steps) AS step);
  is_drawn_only boolean := last_step IS NULL AND cardinality(user_keys) = 0;  -- it may still wait
BEGIN
  PERFORM FROM tunesvc.lease l WHERE l.trial_id = of_trial AND l.token = fence
  FOR NO KEY UPDATE;  -- whoever takes the lease waits until this is committed
  IF NOT FOUND OR NOT EXISTS (
      SELECT FROM trials t WHERE t.trial_id = of_trial AND t.state = 'RUNNING') THEN
    RETURN (SELECT datetime_complete FROM trials t
            WHERE t.trial_id = of_trial AND t.state::text = told);
  END IF;
  IF cardinality(names) > 0 THEN
    INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
    SELECT of_trial, * FROM unnest(names, drawn, distributions)
    ON CONFLICT (trial_id, param_name) DO NOTHING;
  END IF;
  IF cardinality(system_keys) > 0 THEN
    INSERT INTO trial_system_attributes (trial_id, key, value_json)
    SELECT of_trial, * FROM unnest(system_keys, system_values)
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json;
  END IF;
  IF cardinality(user_keys) > 0 THEN
    INSERT INTO trial_user_attributes (trial_id, key, value_json)
    SELECT of_trial, * FROM unnest(user_keys, user_values)
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json;
  END IF;
  IF last_step IS NOT NULL THEN
    INSERT INTO trial_intermediate_values
      (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT of_trial, s.step, s.value, s.kind::trialintermediatevaluetype
    FROM unnest(steps, step_values, step_kinds) AS s(step, value, kind)
    ON CONFLICT (trial_id, step) DO UPDATE
    SET intermediate_value = excluded.intermediate_value,
        intermediate_value_type = excluded.intermediate_value_type;
  END IF;
  IF told IS NULL THEN
    UPDATE tunesvc.lease l
    SET waits = false, epoch = greatest(l.epoch, last_step),
      attempts = CASE WHEN l.epoch < last_step THEN 0 ELSE l.attempts END
    WHERE l.trial_id = of_trial AND (l.waits AND NOT is_drawn_only OR last_step > l.epoch);
    RETURN right_now;
  END IF;
  INSERT INTO trial_values (trial_id, objective, value, value_type)
  SELECT of_trial, v.place - 1, v.value, v.kind::trialvaluetype
  FROM unnest(told_values, told_kinds) WITH ORDINALITY AS v(value, kind, place)
  ON CONFLICT (trial_id, objective) DO UPDATE
  SET value = excluded.value, value_type = excluded.value_type;
  UPDATE trials SET state = told::trialstate, datetime_complete = right_now
  WHERE trial_id = of_trial;
  DELETE FROM tunesvc.lease l WHERE l.trial_id = of_trial;
  RETURN right_now;
END $$
"""


def upgrade() -> None:
    """Add the functions, and a lease's word on whether its holder has begun."""
    for statement in (WAITS, IS_FREE, OTHERS, TAKE, BEGIN, CLAIM, WRITE):
        op.execute(statement)
