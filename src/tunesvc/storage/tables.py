"""Optuna's tables and ours: made, or brought up to date, by one process at a time.

Why: 2026-11: Optuna checks and creates its tables whenever it opens a database, and of eight
processes that open an empty one at once, one crashes. So the tables are made once, under an
advisory lock, and every storage is opened with the checks skipped.

Why: 2026-11: Postgres looks for tables first in the schema that has the user's name. To a user
`tunesvc` (the embedded server's, and many another) our `alembic_version` would hide Optuna's, and
Optuna would make its next tables among ours. So that user's search_path leaves our schema out.
"""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

import optuna
import psycopg2
from optuna.storages import RDBStorage
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from tunesvc.errors import StorageError
from tunesvc.storage import engines, migrations

LOCK_SECONDS, LOOK_SECONDS = 60.0, 0.05


class _Sql:
    LOCK_TABLES = text("SELECT pg_try_advisory_xact_lock(1952539244, 0)")
    PATIENCE = text("SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '120s'")
    HAS_TABLES = text("""
        SELECT to_regclass('alembic_version') IS NOT NULL,
               to_regclass('tunesvc.alembic_version') IS NOT NULL,
               'tunesvc' = ANY (current_schemas(false))
    """)
    # Optuna stamps alembic_version last: with a row there, the tables are complete.
    OPTUNA_VERSION = text("SELECT library_version FROM version_info, alembic_version LIMIT 1")
    OUR_REVISION = text("SELECT version_num FROM tunesvc.alembic_version")
    LEAVE_SCHEMA_OUT = text("""
        DO $$ BEGIN
          IF 'tunesvc' = ANY (current_schemas(false)) THEN
            EXECUTE format(
              'ALTER ROLE CURRENT_USER IN DATABASE %I SET search_path = %s', current_database(),
              (SELECT coalesce(string_agg(quote_ident(name), ', '), 'public')
               FROM unnest(current_schemas(false)) AS name WHERE name <> 'tunesvc'));
          END IF;
        END $$
    """)


class Found(NamedTuple):
    """What tables a database has.

    Args:
        optuna: the version of Optuna that made its tables; None: there are none.
        ours: the revision of our tables; None: there are none.
        hidden: our schema stands before Optuna's.
    """

    optuna: str | None
    ours: str | None
    hidden: bool


_CURRENT = Found(optuna.__version__, migrations.HEAD, hidden=False)


def prepare(url: URL) -> Found:
    """Create or upgrade the tables; return what was there before.

    Raises:
        StorageError: a later Optuna or tunesvc made them.
    """
    settings = engines.settings(url) | {"poolclass": NullPool}
    del settings["pool_recycle"]
    engine = create_engine(url, **settings)
    with engine.connect() as lock:
        if _found(lock) == _CURRENT:
            return _CURRENT
        lock.rollback()
        _alone(lock)
        # Each step has a connection of its own, which sees the search_path of the step before.
        with engine.begin() as connection:
            connection.execute(_Sql.LEAVE_SCHEMA_OUT)
        with engine.connect() as connection:
            found = _found(connection)
        if found.optuna != optuna.__version__:
            _upgrade(engines.storage(url, settings, has_tables=False))
        if found.ours != migrations.HEAD:
            with engine.begin() as connection:
                connection.execute(_Sql.PATIENCE)
                migrations.upgrade(connection, found.ours)
                connection.execute(_Sql.LEAVE_SCHEMA_OUT)
        return found


def is_ready(engine: Engine) -> bool:
    """Whether the database answers, and has the tables of this version."""
    try:
        with engine.connect() as connection:
            return _found(connection) == _CURRENT
    except (SQLAlchemyError, psycopg2.Error):
        return False


def _alone(connection: Connection) -> None:
    """Hold the lock until the transaction ends.

    Whoever has the lock needs another connection. Who waits holds none: before a pooler, those that
    wait would keep all there are.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while not connection.scalar(_Sql.LOCK_TABLES):
        connection.rollback()
        if time.monotonic() > deadline:
            raise StorageError(
                "the tables are being made by another process",
                f"it has not come to an end in {LOCK_SECONDS:.0f} seconds",
                "try again in a moment; else look for a tunesvc process that hangs",
            )
        time.sleep(LOOK_SECONDS)


def _found(connection: Connection) -> Found:
    has_optuna, has_ours, hidden = connection.execute(_Sql.HAS_TABLES).one()
    return Found(
        connection.scalar(_Sql.OPTUNA_VERSION) if has_optuna and not hidden else None,
        connection.scalar(_Sql.OUR_REVISION) if has_ours else None,
        hidden,
    )


def _upgrade(storage: RDBStorage) -> None:
    current, known = storage.get_current_version(), storage.get_all_versions()
    if current not in known:
        raise StorageError(
            "the tables in this database are newer than the Optuna installed here",
            f"they have version {current}, and Optuna {optuna.__version__} knows up to {known[0]}",
            "pip install -U optuna",
        )
    placeholder = logging.NullHandler()  # without any handler alembic would set up all of logging
    logging.getLogger().addHandler(placeholder)
    try:
        storage.upgrade()
    finally:
        logging.getLogger().removeHandler(placeholder)
