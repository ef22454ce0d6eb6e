"""Postgres, always: the URL or the embedded server → one engine that Optuna and we share.

Why: 2026-11: one pooled connection per process. A worker needs that one and the one that renews
its lease: Postgres's default of 100 connections serves 45 workers and ten other users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, get_storage
from sqlalchemy import URL, Engine, text

from tunesvc import places
from tunesvc.storage import engines, server
from tunesvc.storage.address import VARIABLE, given, redact
from tunesvc.storage.failures import explain, guard
from tunesvc.storage.lean import Lean
from tunesvc.storage.migrations import HEAD
from tunesvc.storage.patience import OUTAGE_SECONDS, is_passing, nothing, patiently
from tunesvc.storage.tables import is_ready, prepare

__all__ = [
    "OUTAGE_SECONDS",
    "VARIABLE",
    "Lean",
    "Store",
    "explain",
    "guard",
    "installation_id",
    "is_passing",
    "is_ready",
    "migrate",
    "open_store",
    "patiently",
    "redact",
    "server",
]


class _Sql:
    INSTALLATION = text("SELECT id::text FROM tunesvc.installation")


@dataclass(frozen=True)
class Store:
    """An open database.

    Args:
        optuna: everything, equal to Optuna's own view.
        history: what samplers and pruners look at: no user attributes, which are kilobytes a trial,
            and running trials without their steps.
        plain: makes a storage of Optuna's own, for its dashboard.
    """

    engine: Engine
    optuna: Lean
    history: Lean
    plain: Callable[[], BaseStorage]
    url: str = field(repr=False)  # may hold a password: never to be printed
    safe_url: str
    embedded: bool
    revive: Callable[[], None]  # starts the embedded server again if it was killed; else nothing

    def fresh(self) -> Lean:
        """Return `optuna` with nothing read yet."""
        return self.optuna.fresh()


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
        with _opened(url, connections) as store:
            yield store
        return
    home = places.home()
    with server.using(home) as own, _opened(own, connections, home) as store:
        yield store


@contextmanager
def _opened(url: URL, connections: int, home: Path | None = None) -> Iterator[Store]:
    """Open the database; `home` is that of the embedded server."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # "A new study created": we say so
    settings = engines.settings(url) | {"pool_size": connections, "max_overflow": 0}
    with guard():
        prepare(url)
        storage = engines.storage(url, settings, has_tables=True)
    shown = url.render_as_string(hide_password=True)
    secret = url.render_as_string(hide_password=False)
    revive = nothing if home is None else partial(server.revive, home)
    try:
        with guard():  # whatever the block meets in the database is told in words
            yield Store(
                engine=storage.engine,
                optuna=Lean(storage, whole=True),
                history=Lean(storage, whole=False),
                plain=partial(get_storage, storage),
                url=secret,
                safe_url=shown,
                embedded=home is not None,
                revive=revive,
            )
    finally:
        storage.remove_session()
        storage.engine.dispose()


def migrate(option: str | None = None) -> dict[str, tuple[str | None, str]]:
    """Create or upgrade the tables of a database.

    Args:
        option: as `open_store` takes it.

    Returns:
        {whose tables: (their version before, their version now)}; None: there were none.

    Raises:
        StorageError: the database cannot be reached, or a later Optuna or tunesvc made its tables.
    """
    url = given(option)
    with ExitStack() as stack:
        if url is None:
            url = stack.enter_context(server.using(places.home()))
        stack.enter_context(guard())
        before = prepare(url)
    return {
        "Optuna": (before.optuna, optuna.__version__),
        "tunesvc": (before.ours, HEAD),
    }


def installation_id(engine: Engine) -> str:
    """Return the UUID that the database was given with our tables: it tells databases apart."""
    with engine.connect() as connection:
        return str(connection.execute(_Sql.INSTALLATION).scalar_one())
