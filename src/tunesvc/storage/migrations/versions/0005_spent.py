"""What the trials of a study have spent: epochs, and seconds of devices.

Why: 2026-11: seconds are charged by the server's clock, per worker and not per trial: a device
that trains sixteen trials at once spends its seconds once. They run from a claim, over every report
and renewal, to the trial's end; a worker that is killed is charged up to its last sign of life, at
most a third of a lease ago. Each worker has a row of its own, and waits for nobody's.

Leases are locked in the order of trials, a worker's own row of `spent` after the first of them.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

SPENT = """
CREATE TABLE tunesvc.spent (
  study_id integer NOT NULL REFERENCES studies ON DELETE CASCADE,
  worker_id text NOT NULL,                      -- empty: before this table, and put back
  epochs bigint NOT NULL DEFAULT 0,             -- finished, of trials that have ended
  seconds double precision NOT NULL DEFAULT 0,  -- of its device, up to `charged_at`
  charged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (study_id, worker_id)
)
"""

# As the trials themselves told it; where they did not, it is not known.
BEFORE = r"""
INSERT INTO tunesvc.spent (study_id, worker_id, epochs, seconds)
SELECT t.study_id, '',
  sum((SELECT count(*) FROM trial_intermediate_values v WHERE v.trial_id = t.trial_id)),
  sum(coalesce((SELECT sum(phase.value::float8) FROM trial_user_attributes a,
      jsonb_each_text(CASE WHEN a.value_json ~ '^\s*\{' AND a.value_json !~ 'NaN|Infinity'
        THEN a.value_json::jsonb ELSE '{}' END) phase
      WHERE phase.value ~ '^[0-9.eE+-]+$' AND a.trial_id = t.trial_id AND a.key = 'seconds'), 0))
FROM trials t JOIN tunesvc.study USING (study_id)
WHERE t.state IN ('COMPLETE', 'PRUNED', 'FAIL') GROUP BY t.study_id
"""

# A worker has looked for work, and found it: what was before is charged only if it had some.
BEGIN_CHARGING = """
CREATE FUNCTION tunesvc.begin_charging(of_study integer, by_worker text) RETURNS void
LANGUAGE sql AS $$
  INSERT INTO tunesvc.spent AS s (study_id, worker_id) VALUES (of_study, by_worker)
  ON CONFLICT (study_id, worker_id) DO UPDATE
  SET seconds = s.seconds + CASE WHEN (
        SELECT count(*) FROM tunesvc.lease l
        WHERE l.study_id = of_study AND l.worker_id = by_worker AND NOT l.waits
          AND NOT tunesvc.is_free(l)) > 1
      THEN greatest(extract(epoch FROM clock_timestamp() - s.charged_at), 0) ELSE 0 END,
      charged_at = greatest(s.charged_at, clock_timestamp())
$$
"""

CHARGE = """
CREATE FUNCTION tunesvc.charge(of_study integer, to_worker text, ended_epochs integer)
RETURNS void LANGUAGE sql AS $$
  INSERT INTO tunesvc.spent AS s (study_id, worker_id, epochs)
  VALUES (of_study, to_worker, ended_epochs)
  ON CONFLICT (study_id, worker_id) DO UPDATE
  SET epochs = s.epochs + excluded.epochs,
      seconds = s.seconds + greatest(extract(epoch FROM clock_timestamp() - s.charged_at), 0),
      charged_at = greatest(s.charged_at, clock_timestamp())
$$
"""

# Up to this moment. One statement: a trial that ends meanwhile counts once, under way or ended.
SPENDINGS = """
CREATE FUNCTION tunesvc.spendings(
  of_study integer, OUT device_seconds float8, OUT epochs bigint,
  OUT under_way bigint, OUT epochs_under_way bigint
) LANGUAGE sql AS $$
  SELECT (SELECT coalesce(sum(s.seconds + CASE WHEN EXISTS (
              SELECT FROM tunesvc.lease l
              WHERE l.study_id = of_study AND l.worker_id = s.worker_id
                AND NOT l.waits AND NOT tunesvc.is_free(l))
            THEN greatest(extract(epoch FROM clock_timestamp() - s.charged_at), 0)
            ELSE 0 END), 0) FROM tunesvc.spent s WHERE s.study_id = of_study),
         (SELECT coalesce(sum(s.epochs), 0) FROM tunesvc.spent s
          WHERE s.study_id = of_study)::bigint + coalesce(sum(l.epoch), 0),
         count(*), coalesce(sum(l.epoch), 0)
  FROM tunesvc.lease l JOIN trials t ON t.trial_id = l.trial_id
  WHERE l.study_id = of_study AND t.state = 'RUNNING'
$$
"""

# As in 0004; whoever has something to say of a trial is charged for its device.
WRITE = """
CREATE OR REPLACE FUNCTION tunesvc.write(
  of_trial integer, fence bigint, names text[], drawn float8[], distributions text[],
  system_keys text[], system_values text[], user_keys text[], user_values text[],
  steps integer[], step_values float8[], step_kinds text[], epochs integer, is_begun boolean,
  told text, told_values float8[], told_kinds text[],
  rungs integer[], at_generation integer, first_number integer, known integer[],
  unfinished integer[], at_most integer,
  OUT stored_at timestamp, OUT rung_steps integer[], OUT rung_numbers integer[],
  OUT rung_values float8[]
) LANGUAGE plpgsql AS $$
DECLARE
  right_now timestamp := clock_timestamp() AT TIME ZONE 'UTC';
  last_step integer := greatest(epochs, (SELECT max(step) FROM unnest(steps) AS step));
  of_study integer;
  by_worker text;
  last_epoch integer;
BEGIN
  SELECT l.study_id, l.worker_id, greatest(l.epoch, last_step)
  INTO of_study, by_worker, last_epoch FROM tunesvc.lease l
  WHERE l.trial_id = of_trial AND l.token = fence
  FOR NO KEY UPDATE;  -- whoever takes the lease waits until this is committed
  IF NOT FOUND OR NOT EXISTS (
      SELECT FROM trials t WHERE t.trial_id = of_trial AND t.state = 'RUNNING') THEN
    stored_at := (SELECT t.datetime_complete FROM trials t
                  WHERE t.trial_id = of_trial AND t.state::text = told);
    RETURN;
  END IF;
  IF cardinality(rungs) > 0 THEN
    PERFORM pg_advisory_xact_lock(hashtextextended('tunesvc rungs', of_study));
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
  IF cardinality(steps) > 0 THEN
    INSERT INTO trial_intermediate_values
      (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT of_trial, s.step, s.value, s.kind::trialintermediatevaluetype
    FROM unnest(steps, step_values, step_kinds) AS s(step, value, kind)
    ON CONFLICT (trial_id, step) DO UPDATE
    SET intermediate_value = excluded.intermediate_value,
        intermediate_value_type = excluded.intermediate_value_type;
  END IF;
  stored_at := right_now;
  IF told IS NULL THEN
    UPDATE tunesvc.lease l
    SET waits = l.waits AND NOT is_begun, epoch = greatest(l.epoch, last_step),
      attempts = CASE WHEN l.epoch < last_step THEN 0 ELSE l.attempts END
    WHERE l.trial_id = of_trial AND (l.waits AND is_begun OR last_step > l.epoch);
  ELSE
    INSERT INTO trial_values (trial_id, objective, value, value_type)
    SELECT of_trial, v.place - 1, v.value, v.kind::trialvaluetype
    FROM unnest(told_values, told_kinds) WITH ORDINALITY AS v(value, kind, place)
    ON CONFLICT (trial_id, objective) DO UPDATE
    SET value = excluded.value, value_type = excluded.value_type;
    UPDATE trials SET state = told::trialstate, datetime_complete = right_now
    WHERE trial_id = of_trial;
    DELETE FROM tunesvc.lease l WHERE l.trial_id = of_trial;
  END IF;
  PERFORM tunesvc.charge(of_study, by_worker, CASE WHEN told IS NULL THEN 0 ELSE last_epoch END);
  IF cardinality(rungs) > 0
      AND at_generation = (SELECT k.generation FROM tunesvc.study k WHERE k.study_id = of_study)
      AND (SELECT max(t.number) FROM trials t WHERE t.study_id = of_study)
        < first_number + at_most THEN
    SELECT coalesce(array_agg(at.step), '{}'), coalesce(array_agg(unread.number), '{}'),
           coalesce(array_agg(at.value), '{}')
    INTO rung_steps, rung_numbers, rung_values
    FROM (
      SELECT t.trial_id, t.number FROM trials t
      WHERE t.study_id = of_study AND t.number >= first_number AND t.trial_id <> ALL (known)
      UNION ALL
      SELECT t.trial_id, t.number FROM trials t WHERE t.trial_id = ANY (unfinished)
    ) unread
    CROSS JOIN LATERAL (
      SELECT v.step, CASE v.intermediate_value_type WHEN 'INF_POS' THEN 'Infinity'::float8
          WHEN 'INF_NEG' THEN '-Infinity' ELSE v.intermediate_value END AS value
      FROM trial_intermediate_values v
      WHERE v.trial_id = unread.trial_id AND v.step = ANY (rungs)
        AND v.intermediate_value_type <> 'NAN'
      OFFSET 0) at;
  END IF;
END $$
"""


def upgrade() -> None:
    """Add the table and what keeps it; take over what trials have told of themselves."""
    for statement in (SPENT, BEFORE, BEGIN_CHARGING, CHARGE, SPENDINGS, WRITE):
        op.execute(statement)
