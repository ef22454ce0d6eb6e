"""Our tables, in the schema `tunesvc` beside Optuna's, made and changed by Alembic.

A change is a new file in `versions/`, and its revision is the new `HEAD`. What has been released
is never changed again. Optuna's tables and its own `alembic_version` are left to Optuna.
"""

from __future__ import annotations

from sqlalchemy import Connection

from tunesvc.errors import StorageError

HEAD = "0006"  # known without importing Alembic: opening a current database stays quick


def upgrade(connection: Connection, found: str | None) -> None:
    """Bring our tables to `HEAD`, as part of the connection's transaction.

    Args:
        connection: the caller commits it: killed before that, nothing has happened.
        found: the revision that is there; None: no tables yet.

    Raises:
        StorageError: a later tunesvc made the tables.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "tunesvc.storage:migrations")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise StorageError(
            "the tables in this database are newer than the tunesvc installed here",
            f"they have revision {found}, and this tunesvc knows up to {HEAD}",
            "pip install -U tunesvc",
        )
    command.upgrade(config, HEAD)
