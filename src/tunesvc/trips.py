"""One statement, one round trip: it is a transaction by itself, without BEGIN and COMMIT.

Why: 2026-11: not SQLAlchemy's isolation level AUTOCOMMIT: when a connection goes back to the pool,
that has psycopg2 send `SET default_transaction_isolation`, a trip that no event shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from psycopg2.extensions import connection as Driver
from sqlalchemy import Connection, Engine, TextClause


def ask(engine: Engine, statement: TextClause, values: Mapping[str, Any]) -> Any:
    """Execute one statement; return the one value that it returns, if any."""
    with alone(engine) as connection:
        result = connection.execute(statement, values)
        return result.scalar() if result.returns_rows else None


@contextmanager
def alone(engine: Engine) -> Iterator[Connection]:
    """Lend a connection on which each statement is a transaction by itself."""
    with engine.connect() as connection:
        try:
            each_alone(connection)
            yield connection
        finally:
            together(connection)


def each_alone(connection: Connection) -> None:
    """From now on, each statement is a transaction by itself."""
    _driver(connection).autocommit = True


def together(connection: Connection) -> None:
    """From now on, statements up to a commit are one transaction again."""
    connection.rollback()
    if not connection.invalidated and not _driver(connection).closed:
        _driver(connection).autocommit = False


def _driver(connection: Connection) -> Driver:
    driver: Driver = connection.connection.dbapi_connection  # type: ignore[assignment]
    return driver
