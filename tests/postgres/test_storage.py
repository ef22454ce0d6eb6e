"""Opening databases: tables once, one connection per process, errors in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from sqlalchemy import make_url, text

from tunesvc.errors import StorageError
from tunesvc.storage import VARIABLE, Store, guard, installation_id, open_store

AtOnce = Callable[[Callable[..., Any], list[Any]], list[Any]]


def _open(url: str) -> int:
    with open_store(url) as store:
        return len(store.optuna.get_all_studies())


def test_eight_processes_open_an_empty_database_at_once(empty_url: str, at_once: AtOnce) -> None:
    """Each finds Optuna's tables made, by whoever was first."""
    assert at_once(_open, [empty_url] * 8) == [0] * 8


def test_store_shows_no_password(storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither repr nor safe_url holds it; the URL for child processes does."""
    secret = make_url(storage_url).set(password="ge{h}eim")
    monkeypatch.setenv(VARIABLE, secret.render_as_string(hide_password=False))
    with open_store() as store:
        assert "eim" not in f"{store!r} {store.safe_url} {store.engine!r}"
        assert make_url(store.url).password == "ge{h}eim"
        assert not store.embedded


def test_older_tables_are_upgraded(store: Store) -> None:
    """Tables that an earlier Optuna made are upgraded; those of a later one are an error."""
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE version_info SET library_version = '3.1.0'"))
    with open_store(store.url), store.engine.connect() as connection:
        found = connection.execute(text("SELECT library_version FROM version_info")).scalar_one()
        assert found == optuna.__version__
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE version_info SET library_version = '9.0.0'"))
        connection.execute(text("UPDATE alembic_version SET version_num = 'v9.0.0.a'"))
    with pytest.raises(StorageError, match="newer than the Optuna"), open_store(store.url):
        pass


def test_one_pooled_connection_is_enough(store: Store) -> None:
    """TPE, pruner and our own questions never wait for a second pooled connection."""
    study = optuna.create_study(
        storage=store.optuna,
        sampler=optuna.samplers.TPESampler(n_startup_trials=2),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=1),
    )
    for _ in range(4):
        trial = study.ask()
        trial.report(trial.suggest_float("x", 0, 1), 0)
        trial.should_prune()
        assert installation_id(store.engine)
        study.tell(trial, 1.0)
    assert store.engine.pool.size() == 1  # type: ignore[attr-defined]
    with store.engine.connect() as connection:
        assert connection.execute(text("SHOW timezone")).scalar_one() == "UTC"
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        assert connection.execute(text(count)).scalar_one() == 1


def test_survives_a_lost_connection(store: Store) -> None:
    """A pooled connection that the server has closed is replaced before it is used."""
    with store.engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with open_store(store.url) as other, other.engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    assert store.optuna.get_all_studies() == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"username": "locked", "password": "geheim"}, "does not let this user in"),
        ({"username": "locked", "password": None}, "does not let this user in"),
        ({"username": "stranger", "password": "geheim"}, "no such database or user"),
        ({"database": "nowhere", "password": "geheim"}, "no such database or user"),
        ({"username": "crowded", "password": "geheim"}, "no connection left"),
        ({"username": "locked", "password": "right"}, "may not do this"),
    ],
)
def test_refused_connections(
    empty_url: str,
    locked: None,
    changes: dict[str, str],
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each refusal of the server says what, why and how to fix it, and no password."""
    url = make_url(empty_url).set(**changes)  # type: ignore[arg-type]
    monkeypatch.setenv(VARIABLE, url.render_as_string(hide_password=False))
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    with pytest.raises(StorageError, match=what) as caught, open_store():
        pass
    assert caught.value.why
    assert caught.value.fix
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DO $$ BEGIN RAISE 'no room' USING ERRCODE = '53100'; END $$", "disk of Postgres is full"),
        ("SET TRANSACTION READ ONLY; CREATE TABLE t ()", "takes no writes"),
        ("SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)", "does not answer in time"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "cannot be reached"),
        ("SELECT * FROM nowhere", "reports an error"),
    ],
)
def test_guard_explains_what_the_server_reports(store: Store, statement: str, what: str) -> None:
    """Whatever fails inside `guard` is a StorageError, told apart by its SQLSTATE."""
    with pytest.raises(StorageError, match=what), guard(), store.engine.connect() as connection:
        connection.execute(text(statement))


def test_guard_looks_below_optuna(store: Store) -> None:
    """Optuna's StorageInternalError names no cause: the one below it does."""
    with store.engine.begin() as connection:
        connection.execute(text("DROP TABLE study_user_attributes CASCADE"))
    study = store.optuna.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    with pytest.raises(StorageError, match="study_user_attributes"), guard():
        store.optuna.set_study_user_attr(study, "k", 1)
