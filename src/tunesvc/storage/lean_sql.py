"""Every statement of `Lean`: it reads Optuna's own tables (as of Optuna 5), each time in one trip.

Why: 2026-11: the children of a trial are gathered into arrays by the server. One row per trial is
what the driver and Python are quick with: Optuna's ORM reads 20,000 trials in ten seconds, this in
half of one.

Why: 2026-11: one statement has one snapshot, and a trial's children are committed before, or with,
its end. A trial that a statement shows as finished is therefore whole, and is never read again.
"""

from __future__ import annotations

from sqlalchemy import text

_IS_FINISHED = "t.state IN ('COMPLETE', 'PRUNED', 'FAIL')"

_STEP_VALUE = """CASE v.intermediate_value_type
        WHEN 'NAN' THEN 'NaN'::float8 WHEN 'INF_POS' THEN 'Infinity' WHEN 'INF_NEG' THEN '-Infinity'
        ELSE v.intermediate_value END"""

_VALUE = """CASE v.value_type
        WHEN 'INF_POS' THEN 'Infinity'::float8 WHEN 'INF_NEG' THEN '-Infinity' ELSE v.value END"""

# Numbers come as one text per trial: Python splits it faster than the driver reads an array.
# Of the parameters comes name, distribution, name, distribution, … as JSON, one after another: the
# same text from every trial that drew the same ones, parsed once.
# :whole asks for the user attributes, and for the steps of trials that still run; :own, for some of
# the user attributes, by name. That it is empty is seen by the planner, and costs nothing.
_READ = f"""
    SELECT t.trial_id, t.number, t.state::text,
           extract(epoch FROM t.datetime_start)::float8,
           extract(epoch FROM t.datetime_complete)::float8,
           told.*, params.*, steps.*, system.*, own.*,
           (SELECT {_STEP_VALUE} FROM trial_intermediate_values v
            WHERE v.trial_id = t.trial_id AND v.step = :step AND NOT {_IS_FINISHED}) AS at_step
    FROM (%s) t
    LEFT JOIN LATERAL (
        SELECT array_agg({_VALUE} ORDER BY v.objective)
        FROM trial_values v WHERE v.trial_id = t.trial_id) told ON true
    LEFT JOIN LATERAL (
        SELECT string_agg(to_json(p.param_name)::text || p.distribution_json, ''
                          ORDER BY p.param_id),
               string_agg(p.param_value::text, ' ' ORDER BY p.param_id)
        FROM trial_params p WHERE p.trial_id = t.trial_id) params ON true
    LEFT JOIN LATERAL (
        SELECT string_agg(v.step::text, ' '), string_agg(({_STEP_VALUE})::text, ' ')
        FROM trial_intermediate_values v
        WHERE v.trial_id = t.trial_id AND (:whole OR {_IS_FINISHED})) steps ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(a.key::text), array_agg(a.value_json)
        FROM trial_system_attributes a WHERE a.trial_id = t.trial_id) system ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(a.key::text), array_agg(a.value_json)
        FROM trial_user_attributes a
        WHERE a.trial_id = t.trial_id
          AND (:whole OR (CAST(:own AS text[]) <> '{{}}' AND a.key = ANY(CAST(:own AS text[])))))
        own ON true
"""

TRIAL = text(_READ % "SELECT * FROM trials WHERE trial_id = :trial_id")

# What may have changed: numbers not known yet, and trials that had not finished when last read.
# From :first on all are asked for but those in :known; of the :unfinished, below it, those that are
# still WAITING only when :whole: nothing is told to a trial in a queue.
# A row comes even when nothing changed; none at all says that there is no such study.
_CHANGED = """
    (SELECT * FROM trials
     WHERE study_id = :study_id AND number >= :first AND trial_id <> ALL(:known)
     ORDER BY number LIMIT :most)
    UNION ALL
    SELECT * FROM trials
    WHERE trial_id = ANY(:unfinished)
      AND (:whole OR state <> 'WAITING' OR trial_id <> ALL(:waiting))
"""

CHANGES = text(f"""
    SELECT coalesce(ours.generation, 0), changed.*
    FROM studies LEFT JOIN tunesvc.study ours USING (study_id)
    LEFT JOIN LATERAL ({_READ % _CHANGED}) changed ON true
    WHERE studies.study_id = :study_id
    ORDER BY changed.number
""")

BEST = text(
    _READ
    % f"""SELECT * FROM trials WHERE trial_id = (
             SELECT trial_id FROM trials JOIN trial_values v USING (trial_id)
             WHERE study_id = :study_id AND state = 'COMPLETE' AND objective = 0
             ORDER BY :sign * {_VALUE}, trial_id LIMIT 1)"""
)

COUNT = text("""
    SELECT count(trial_id) FILTER (WHERE state::text = ANY(:states))
    FROM studies LEFT JOIN trials USING (study_id)
    WHERE study_id = :study_id GROUP BY study_id
""")

NUMBER = text("SELECT number FROM trials WHERE trial_id = :trial_id")

TRIAL_ID = text("SELECT trial_id FROM trials WHERE study_id = :study_id AND number = :number")

# ---- studies -----------------------------------------------------------------------------------

_STUDY = """
    SELECT study_id, study_name, array_agg(direction::text ORDER BY objective)
    FROM studies JOIN study_directions USING (study_id) WHERE %s GROUP BY study_id
"""

STUDY = text(_STUDY % "study_id = :study_id")

STUDY_NAMED = text(_STUDY % "study_name = :name")

_STUDY_ATTRIBUTES = """
    SELECT key, value_json FROM studies LEFT JOIN %s USING (study_id) WHERE study_id = :study_id
"""

STUDY_USER_ATTRIBUTES = text(_STUDY_ATTRIBUTES % "study_user_attributes")

STUDY_SYSTEM_ATTRIBUTES = text(_STUDY_ATTRIBUTES % "study_system_attributes")
