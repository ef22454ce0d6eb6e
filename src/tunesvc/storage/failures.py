"""What goes wrong between us and Postgres, in words.

psycopg2 leaves the SQLSTATE out of errors that happen while connecting; those are told apart by
the words of libpq and of the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg2
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tunesvc.errors import StorageError
from tunesvc.storage.address import VARIABLE, redact


class _Case(NamedTuple):
    sqlstates: tuple[str, ...]  # a prefix of two characters stands for the whole class
    words: tuple[str, ...]
    what: str
    fix: str
    passes: bool = False  # the same thing tried again later may succeed


_CASES = (
    _Case(
        ("28",),
        ("authentication failed", "no password supplied", "no pg_hba.conf entry"),
        "Postgres does not let this user in",
        f"check user and password in {VARIABLE}, or the password in ~/.pgpass (mode 0600)",
    ),
    _Case(
        ("3D000",),
        ('" does not exist',),
        "Postgres answers, but has no such database or user",
        "create it (createdb NAME), or correct the URL",
    ),
    _Case(
        (),
        ("could not translate host name", "Name or service not known"),
        "the host of Postgres is unknown",
        "check the host in the URL for a misspelling, and this machine's network",
        passes=True,  # the name of a container vanishes while it is started again
    ),
    _Case(
        ("53300",),
        ("too many clients", "remaining connection slots", "too many connections"),
        "Postgres has no connection left",
        "run fewer workers (each takes two connections), or set max_connections in "
        "postgresql.conf to 2 × workers + 10 at least (64 workers: 138)",
        passes=True,
    ),
    _Case(
        ("53100",),
        ("No space left on device",),
        "the disk of Postgres is full",
        "free some space; finished epochs are kept, and the same command continues the study",
    ),
    _Case(
        ("25006",),
        (),
        "Postgres takes no writes",
        "the URL leads to a standby, or default_transaction_read_only is on: use the primary",
    ),
    _Case(
        ("42501",),
        ("permission denied for",),
        "the database user may not do this",
        "make the user the owner of the database; or, as its owner: GRANT CREATE ON DATABASE "
        "name TO the user; GRANT ALL ON SCHEMA public TO the user; and if another user made the "
        "tables: GRANT that user TO the user",
    ),
    _Case(
        (),
        ("unsupported startup parameter",),
        "a connection pooler stands before Postgres",
        "PgBouncer: set ignore_startup_parameters = options, and have the connect_query of each "
        "database SET timezone, lock_timeout and statement_timeout; or give the URL of Postgres",
    ),
    _Case(
        ("57P03",),
        ("is starting up", "is shutting down", "recovery mode", "not yet accepting connections"),
        "Postgres is not ready",
        "try again in a moment",
        passes=True,
    ),
    _Case(
        ("55P03", "57014", "40"),  # lock timeout, statement timeout, deadlock and serialization
        (),
        "Postgres does not answer in time",
        "another process holds a lock, or the server is overloaded: try again in a moment",
        passes=True,
    ),
    _Case(
        ("08", "53200", "57P01", "57P02", "57P05", "25P03", "25P04"),
        (
            "connection refused",
            "No such file or directory",
            "timeout expired",
            "timed out",
            "No route to host",
            "Network is unreachable",
            "server closed the connection",
            "connection already closed",
            "terminating connection",
            "could not connect",
            "could not receive data",
            "could not send data",
            "connection reset",
            "broken pipe",
            "SSL connection has been closed",
            "EOF detected",
            "no connection to the server",
            "SSL error",
            "SSL SYSCALL error",
            "no message from the libpq",
            "could not fork new process",
        ),
        "Postgres cannot be reached",
        "check that the server runs and that host and port are right (tunesvc doctor)",
        passes=True,
    ),
)
_OTHER = _Case((), (), "Postgres reports an error", "see the server's log (tunesvc doctor)")


@contextmanager
def guard() -> Iterator[None]:
    """Turn whatever the database and the layers above it raise into StorageError."""
    try:
        yield
    except (SQLAlchemyError, psycopg2.Error, StorageInternalError) as error:
        raise explain(error) from error


def explain(error: BaseException) -> StorageError:
    """Return what, why and fix of a database error; never a password."""
    origin = _origin(error)
    case = _case(origin)
    return StorageError(case.what, " ".join(redact(str(origin)).split()), case.fix)


def is_passing(error: BaseException) -> bool:
    """Whether the same thing tried again later may succeed: Postgres is away, full or locked.

    Not a refusal that stays one: a wrong password, no such database, no rights, a full disk.
    """
    if isinstance(error, PoolTimeout) or getattr(error, "connection_invalidated", False):
        return True  # the pool's connections are all being opened; the driver gave one up
    origin = _origin(error)
    if origin is not error and is_passing(origin):
        return True
    return isinstance(origin, psycopg2.Error) and _case(origin).passes


def _origin(error: BaseException) -> BaseException:
    """Return psycopg2's own error from below SQLAlchemy's and Optuna's."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig
    cause = error.__cause__
    if isinstance(error, psycopg2.Error) or not isinstance(
        cause, (SQLAlchemyError, psycopg2.Error, StorageInternalError)
    ):
        return error
    return _origin(cause)


def _case(origin: BaseException) -> _Case:
    sqlstate, lower = getattr(origin, "pgcode", None) or "", str(origin).lower()
    for case in _CASES:
        if sqlstate and sqlstate.startswith(case.sqlstates):
            return case
        if not sqlstate and any(words.lower() in lower for words in case.words):
            return case
    return _OTHER
