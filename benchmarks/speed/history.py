"""Studies with a history, written in a second: trials are not asked for, but inserted."""

from __future__ import annotations

from optuna.distributions import FloatDistribution, distribution_to_json
from sqlalchemy import Engine, text

PARAMETERS, STEPS = 8, 5
DISTRIBUTION = FloatDistribution(0.0, 1.0)

TRIALS = text("""
    INSERT INTO trials (study_id, number, state, datetime_start, datetime_complete)
    SELECT :study_id, i - 1,
           CASE WHEN i <= :finished THEN 'COMPLETE' ELSE 'RUNNING' END::trialstate,
           now() AT TIME ZONE 'UTC', CASE WHEN i <= :finished THEN now() AT TIME ZONE 'UTC' END
    FROM generate_series(1, :finished + :running) i
""")
PARAMS = text("""
    INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
    SELECT trial_id, 'x' || k, random(), :distribution
    FROM trials, generate_series(0, :last_parameter) k
    WHERE study_id = :study_id ORDER BY trial_id, k
""")
VALUES = text("""
    INSERT INTO trial_values (trial_id, objective, value, value_type)
    SELECT trial_id, 0, sum((param_value - 0.3) ^ 2), 'FINITE'
    FROM trials JOIN trial_params USING (trial_id)
    WHERE study_id = :study_id AND state = 'COMPLETE' GROUP BY trial_id ORDER BY trial_id
""")
REPORTS = text("""
    INSERT INTO trial_intermediate_values
        (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT trial_id, k, random(), 'FINITE'
    FROM trials,
         generate_series(1, CASE WHEN state = 'COMPLETE' THEN :steps ELSE :running_steps END) k
    WHERE study_id = :study_id ORDER BY trial_id, k
""")


def fill(
    engine: Engine, study_id: int, finished: int, running: int = 0, running_steps: int = 100
) -> None:
    """Give a new study finished trials of 8 parameters and 5 steps, and some that run."""
    which = {
        "study_id": study_id,
        "finished": finished,
        "running": running,
        "distribution": distribution_to_json(DISTRIBUTION),
        "last_parameter": PARAMETERS - 1,
        "steps": STEPS,
        "running_steps": running_steps,
    }
    with engine.begin() as connection:
        connection.execute(text("SELECT setseed(0.5)"))
        connection.execute(text("SET LOCAL statement_timeout = '120s'"))
        for statement in (TRIALS, PARAMS, VALUES, REPORTS):
            wanted = {name: which[name] for name in statement.compile().params}
            connection.execute(statement, wanted)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("ANALYZE"))
