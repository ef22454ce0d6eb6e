"""Postgres, always: the URL or the embedded server → one engine that Optuna and we share.

Why: 2026-11: Optuna checks and creates its tables whenever it opens a database, and of eight
processes that open an empty one at once, one crashes. So the tables are made once, under an
advisory lock, and every storage is opened with the checks skipped.

Why: 2026-11: one pooled connection per process. A worker needs that one and the one that holds
its leases: a server with 100 connections serves 48 workers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, text

from tunesvc import places
from tunesvc.errors import StorageError
from tunesvc.storage import server
from tunesvc.storage.address import VARIABLE, given, redact
from tunesvc.storage.failures import explain, guard

__all__ = ["VARIABLE", "Store", "explain", "guard", "open_store", "redact", "server"]


class _Sql:
    LOCK_TABLES = text("SELECT pg_advisory_xact_lock(1952539244, 0)")
    PATIENCE = text("SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '120s'")
    HAS_TABLES = text("SELECT to_regclass('alembic_version') IS NOT NULL")
    # Optuna stamps alembic_version last: with a row there, the tables are complete.
    MADE_BY = text("SELECT library_version FROM version_info, alembic_version LIMIT 1")


@dataclass(frozen=True)
class Store:
    """An open database."""

    engine: Engine
    optuna: BaseStorage
    url: str = field(repr=False)  # may hold a password: never to be printed
    safe_url: str
    embedded: bool


@contextmanager
def open_store(option: str | None = None, *, connections: int = 1) -> Iterator[Store]:
    """Open the database while the block runs.

    Args:
        option: the URL given on the command line; None: TUNESVC_STORAGE, else the embedded server,
            which is started if need be, and stopped when its last user leaves.
        connections: how many threads may use the database at once.

    Raises:
        UsageError: the option holds a password.
        StorageError: the database cannot be reached, started, or used.
    """
    url = given(option)
    if url is not None:
        with _opened(url, connections, embedded=False) as store:
            yield store
    else:
        with server.using(places.home()) as own, _opened(own, connections, embedded=True) as store:
            yield store


@contextmanager
def _opened(url: URL, connections: int, *, embedded: bool) -> Iterator[Store]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # "A new study created": we say so
    settings = _engine_settings(url) | {"pool_size": connections, "max_overflow": 0}
    with guard():
        _prepare(url)
        storage = _storage(url, settings, has_tables=True)
    shown = url.render_as_string(hide_password=True)
    secret = url.render_as_string(hide_password=False)
    try:
        with guard():  # whatever the block meets in the database is told in words
            yield Store(storage.engine, get_storage(storage), secret, shown, embedded)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _engine_settings(url: URL) -> dict[str, Any]:
    """Source: notes/optuna-on-postgres.md §9; times are in seconds unless they say otherwise."""
    ours = "-c timezone=UTC -c lock_timeout=5s -c statement_timeout=15s"
    options = " ".join(filter(None, (str(url.query.get("options", "")), ours)))
    return {
        "pool_pre_ping": True,
        "pool_recycle": 1800,
        "hide_parameters": True,
        "connect_args": {
            "connect_timeout": int(str(url.query.get("connect_timeout", 5))),
            "application_name": str(url.query.get("application_name", "tunesvc")),
            "keepalives": 1,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "options": options,
        },
    }


def _storage(url: URL, settings: dict[str, Any], *, has_tables: bool) -> RDBStorage:
    # Optuna fills in {SCHEMA_VERSION}: braces of a password have to be doubled.
    address = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    return RDBStorage(
        address,
        engine_kwargs=settings,
        skip_table_creation=has_tables,
        skip_compatibility_check=True,  # `_prepare` sees to it
    )


def _prepare(url: URL) -> None:
    """Create or upgrade Optuna's tables, in one process at a time."""
    settings = _engine_settings(url) | {"poolclass": NullPool}
    del settings["pool_recycle"]
    engine = create_engine(url, **settings)
    with engine.connect() as connection:
        if _is_current(connection):
            return
        connection.rollback()
        connection.execute(_Sql.PATIENCE)
        connection.execute(_Sql.LOCK_TABLES)
        if not _is_current(connection):
            storage = _storage(url, settings, has_tables=False)
            if not _is_current(connection):
                _upgrade(storage)
        connection.commit()


def _is_current(connection: Connection) -> bool:
    if not connection.scalar(_Sql.HAS_TABLES):
        return False
    made_by: str | None = connection.scalar(_Sql.MADE_BY)
    return made_by == optuna.__version__


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
