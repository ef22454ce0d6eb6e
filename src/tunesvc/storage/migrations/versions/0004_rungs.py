"""The reply to a report brings what other trials reported at a rung; epochs count without a value.

The `tunesvc.write` of 0003 stays: workers of the version before may be at work while the tables are
upgraded, and their trials are to go on. This one has more arguments, and hence another identity.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

# What the holder of a lease has to say of its trial: parameters, attributes, the values of steps,
# how many epochs are finished and kept, whether it was begun or waits for its turn, and with a
# state its end. `stored_at` is null if the lease is lost; it is set also if the trial was told
# before, in the same way.
#
# Of `rungs` it returns the values of trials that the caller has not read as finished, its own among
# them: those from `first_number` on but `known`, and the `unfinished` below. Null instead of arrays
# says that the caller has to read anew: finished trials were put back since (`at_generation`), or
# more than `at_most` trials would have to be looked at.
#
# Who reports at a rung does so one after the other, up to the commit: else two at the same moment
# would not see each other, and both go on where only the better one should.
WRITE = """
CREATE FUNCTION tunesvc.write(
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
BEGIN
  SELECT l.study_id INTO of_study FROM tunesvc.lease l
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
    """Add the function beside the one of 0003."""
    op.execute(WRITE)
