"""How we connect: the settings of an engine, and Optuna's storage on it.

Why: 2026-11: a ping at every checkout (`pool_pre_ping`) is a round trip before each statement. The
server says on the socket that it has closed a connection, so only a connection that has something
to say is pinged. What is lost in silence is lost within a statement, and the callers try again.
"""

from __future__ import annotations

import select
from typing import Any

from optuna.storages import RDBStorage
from psycopg2.extensions import connection as Driver
from sqlalchemy import URL, Engine, event
from sqlalchemy.exc import InvalidatePoolError


def settings(url: URL) -> dict[str, Any]:
    """Return the arguments of `create_engine`; times are in seconds unless they say otherwise.

    A statement ends within about 15 seconds, whatever happens: the server ends a slow one after 15;
    packets that the network swallows are missed after 10 (`tcp_user_timeout`), and on a connection
    that only waits for an answer, by the second unanswered keepalive, after 10 too. Over a Unix
    socket these do nothing, and are not needed. To compile a query (`jit`) would take longer than
    our longest one takes.

    Source: notes/optuna-on-postgres.md §9; tcp(7) for how TCP_USER_TIMEOUT and keepalives combine.
    """
    ours = "-c timezone=UTC -c lock_timeout=5s -c statement_timeout=15s -c jit=off"
    options = " ".join(filter(None, (str(url.query.get("options", "")), ours)))
    return {
        "pool_recycle": 1800,
        "hide_parameters": True,
        "connect_args": {
            "connect_timeout": int(str(url.query.get("connect_timeout", 5))),
            "application_name": str(url.query.get("application_name", "tunesvc")),
            "keepalives": 1,
            "keepalives_idle": 5,
            "keepalives_interval": 5,
            "keepalives_count": 2,
            "tcp_user_timeout": 10_000,  # milliseconds
            "options": options,
        },
    }


def storage(url: URL, engine_settings: dict[str, Any], *, has_tables: bool) -> RDBStorage:
    """Return Optuna's storage, which makes its tables unless there are some."""
    # Optuna fills in {SCHEMA_VERSION}: braces of a password have to be doubled.
    address = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    made = RDBStorage(
        address,
        engine_kwargs=engine_settings,
        skip_table_creation=has_tables,
        skip_compatibility_check=True,  # `tables.prepare` sees to it
    )
    _replace_closed_connections(made.engine)
    return made


def _replace_closed_connections(engine: Engine) -> None:
    def check(connection: Driver, _record: Any, _proxy: Any) -> None:
        try:
            if _has_something_to_say(connection):
                engine.dialect.do_ping(connection)  # type: ignore[arg-type]
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

    event.listen(engine, "checkout", check)


def _has_something_to_say(connection: Driver) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)  # a socket that was closed counts too
    return bool(poll.poll(0))
