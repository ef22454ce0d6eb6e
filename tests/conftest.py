"""A home of their own for all tests, and a real Postgres for those that ask for a `store`."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine, make_url, text

from tunesvc.storage import VARIABLE, Store, open_store, server

# Before torch is imported: its threads spin for milliseconds where they wait for each other, which
# takes the cores from Postgres and from other processes under test: up to three times as slow.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tunesvc.storage", "alembic.command"])  # imported once for all

MEMORY = Path("/dev/shm")  # where there is room, servers' files need no disk
TEMPLATE = "template_tunesvc"


def new_folder(megabytes: int) -> Path:
    """Return a new folder with a short path that every user may enter.

    Not below pytest's own folder: its mode 0700 keeps out the user that root's server runs as.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > megabytes * 2**20
    folder = Path(tempfile.mkdtemp(prefix="tsv-", dir=MEMORY if roomy else None))
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="session", autouse=True)
def home() -> Iterator[Path]:
    """A home for this run: nobody's own studies are touched."""
    folder = new_folder(megabytes=2048)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESVC_HOME", str(folder))
        patch.delenv(VARIABLE, raising=False)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for homes; servers left there are stopped."""
    folder = new_folder(megabytes=256)
    yield folder
    for data in folder.rglob("postgres"):
        server.stop(data.parent, force=True)
        if data.is_symlink():
            shutil.rmtree(data.resolve(), ignore_errors=True)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def admin(home: Path) -> Iterator[Engine]:
    """The embedded server, with a template database that holds Optuna's tables."""
    with server.using(home) as url:
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {TEMPLATE}"))
        with open_store(_url(engine, TEMPLATE)):
            pass
        yield engine


@pytest.fixture
def empty_url(admin: Engine) -> Iterator[str]:
    """The URL of a new database without tables."""
    yield from _database(admin, "template1")


@pytest.fixture
def storage_url(admin: Engine) -> Iterator[str]:
    """The URL of a new database with Optuna's tables, for subprocesses (TUNESVC_STORAGE)."""
    yield from _database(admin, TEMPLATE)


@pytest.fixture
def store(storage_url: str) -> Iterator[Store]:
    """A store on a new database with Optuna's tables."""
    with open_store(storage_url) as opened:
        yield opened


@pytest.fixture
def locked(admin: Engine, home: Path) -> Iterator[None]:
    """A user `locked` with the password `right`, and a user `crowded` who may not connect once."""
    rules = home / "postgres" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all locked scram-sha-256\n{before}")
    with admin.connect() as connection:
        connection.execute(text("CREATE ROLE locked LOGIN PASSWORD 'right'"))
        connection.execute(text("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0"))
        connection.execute(text("SELECT pg_reload_conf()"))
        yield
        connection.execute(text("DROP ROLE locked"))
        connection.execute(text("DROP ROLE crowded"))
    rules.write_text(before)


def _database(admin: Engine, template: str) -> Iterator[str]:
    name = f"test_{os.urandom(6).hex()}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield _url(admin, name)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def _url(admin: Engine, database: str) -> str:
    return make_url(admin.url).set(database=database).render_as_string(hide_password=False)


@pytest.fixture
def at_once() -> Callable[[Callable[[Any], Any], list[Any]], list[Any]]:
    """Call a function in as many processes as it has arguments, all at the same moment."""

    def call(function: Callable[[Any], Any], arguments: list[Any]) -> list[Any]:
        start = PROCESSES.Barrier(len(arguments))
        # Not a Pool: it ends its processes by SIGTERM, in which coverage's own handler may hang.
        with ProcessPoolExecutor(len(arguments), PROCESSES, _keep, (start,)) as processes:
            return list(processes.map(_together, [function] * len(arguments), arguments))

    return call


def _keep(start: Barrier) -> None:
    globals()["_START"] = start


def _together(function: Callable[[Any], Any], argument: Any) -> Any:
    globals()["_START"].wait(timeout=300)
    return function(argument)
