"""How we connect: the settings of an engine, and Optuna's storage on it."""

from __future__ import annotations

from typing import Any

from optuna.storages import RDBStorage
from sqlalchemy import URL


def settings(url: URL) -> dict[str, Any]:
    """Return the arguments of `create_engine`; times are in seconds unless they say otherwise.

    A statement ends within about 15 seconds, whatever happens: the server ends a slow one after 15;
    packets that the network swallows are missed after 10 (`tcp_user_timeout`), and on a connection
    that only waits for an answer, by the second unanswered keepalive, after 10 too. Over a Unix
    socket these do nothing, and are not needed.

    Source: notes/optuna-on-postgres.md §9; tcp(7) for how TCP_USER_TIMEOUT and keepalives combine.
    """
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
    return RDBStorage(
        address,
        engine_kwargs=engine_settings,
        skip_table_creation=has_tables,
        skip_compatibility_check=True,  # `tables.prepare` sees to it
    )
