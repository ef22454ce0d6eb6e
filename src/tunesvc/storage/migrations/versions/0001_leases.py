"""Leases, workers, the state of studies, and what else the service keeps.

Names of Optuna's tables follow the search_path, as Optuna's own do. Timestamps of Optuna are
without a time zone, and UTC.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE SEQUENCE tunesvc.token;

CREATE TABLE tunesvc.installation (
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX installation_is_one ON tunesvc.installation ((true));
INSERT INTO tunesvc.installation DEFAULT VALUES;

CREATE TABLE tunesvc.study (
  study_id integer PRIMARY KEY REFERENCES studies ON DELETE CASCADE,
  started_at timestamptz,                  -- the first trial was begun
  paused_at timestamptz,
  paused_why text NOT NULL DEFAULT '',
  resumed_at timestamptz,
  stopped_at timestamptz,                  -- workers that started before it leave the study
  given integer NOT NULL DEFAULT 0,        -- configurations that must run first: so many have begun
  takeovers integer NOT NULL DEFAULT 0,
  generation integer NOT NULL DEFAULT 0    -- finished trials were put back so many times
);

CREATE TABLE tunesvc.worker (
  worker_id text PRIMARY KEY,
  host text NOT NULL,
  pid integer NOT NULL,
  device text NOT NULL,
  studies text[] NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  seen_at timestamptz NOT NULL DEFAULT now(),
  left_at timestamptz
);

CREATE TABLE tunesvc.lease (
  trial_id integer PRIMARY KEY REFERENCES trials ON DELETE CASCADE,
  study_id integer NOT NULL REFERENCES studies ON DELETE CASCADE,
  token bigint NOT NULL DEFAULT nextval('tunesvc.token'),
  worker_id text,                          -- who has it, or had it last
  seconds double precision NOT NULL,       -- how long a renewal lasts
  expires_at timestamptz,                  -- null: released
  epoch integer NOT NULL DEFAULT 0,        -- finished and checkpointed
  attempts integer NOT NULL DEFAULT 0,     -- ended badly, in a row, without a new epoch
  reasons jsonb NOT NULL DEFAULT '[]',
  began_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON tunesvc.lease (study_id);

CREATE TABLE tunesvc.micro_batch (
  device text, backbone text, image_size integer, strategy text,
  size integer NOT NULL,
  PRIMARY KEY (device, backbone, image_size, strategy)
);
"""

STUDIES = """
INSERT INTO tunesvc.study (study_id, paused_at, started_at, given)
SELECT study_id,
  (SELECT now() FROM study_user_attributes a
    WHERE a.study_id = ours.study_id AND key = 'tunesvc:paused' AND value_json = 'true'),
  (SELECT min(datetime_start) AT TIME ZONE 'UTC' FROM trials t WHERE t.study_id = ours.study_id),
  (SELECT count(DISTINCT trial_id) FROM trials t JOIN trial_user_attributes a USING (trial_id)
    WHERE t.study_id = ours.study_id AND key IN ('default', 'grid'))
FROM study_user_attributes ours WHERE key = 'tunesvc:digest'
"""

# Whoever ran them held a lock that this version does not look at: any worker may take them.
LEASES = """
INSERT INTO tunesvc.lease (trial_id, study_id, seconds, epoch)
SELECT trial_id, study_id, 30,
  (SELECT count(*) FROM trial_intermediate_values v WHERE v.trial_id = trials.trial_id)
FROM trials JOIN tunesvc.study USING (study_id) WHERE state = 'RUNNING'
"""


def upgrade() -> None:
    """Make the tables, and take over what earlier versions kept in Optuna's."""
    for statements in (TABLES, STUDIES, LEASES):
        op.execute(statements)
