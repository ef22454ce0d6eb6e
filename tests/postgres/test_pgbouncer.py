"""More workers than connections: PgBouncer in transaction mode before Postgres."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from sqlalchemy import make_url, text

from tunesvc.errors import StorageError
from tunesvc.leases import Fenced, Leases, Terms
from tunesvc.storage import open_store

AtOnce = Callable[[Callable[..., Any], list[Any]], list[Any]]

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
POOL, WORKERS, TRIALS = 3, 8, 40

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer on this machine")

# What a session is told at its start goes by `options`, which PgBouncer does not pass on: it is to
# ignore that, and to say the same itself. Its sessions outlive what is changed of a user, so the
# search_path is said too: a user `tunesvc` would look for Optuna's tables in our schema first.
SETTINGS = (
    "SET timezone = UTC; SET lock_timeout = 5000; SET statement_timeout = 15000; SET jit = 0; "
    "SET search_path = public"
)


@pytest.fixture
def bouncer(empty_url: str, place: Path) -> Iterator[str]:
    """The URL of an empty database by way of PgBouncer."""
    with _running(empty_url, place, "ignore_startup_parameters = options") as url:
        yield url


class _running:  # noqa: N801 (a context manager)
    def __init__(self, url: str, place: Path, more: str) -> None:
        self._url, self._place, self._more = make_url(url), place, more

    def __enter__(self) -> str:
        folder = str(self._url.query["host"])
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        ini = self._place / "pgbouncer.ini"
        ini.write_text(f"""
[databases]
* = host={folder} port=5432 user={self._url.username} connect_query='{SETTINGS}'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {POOL}
max_client_conn = 200
{self._more}
""")
        owner = pwd.getpwuid((Path(folder) / ".s.PGSQL.5432").stat().st_uid).pw_name
        assert PROGRAM is not None
        command = [PROGRAM, "-q", *(["-u", owner] if os.getuid() == 0 else []), str(ini)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        there = self._url.set(host="127.0.0.1", port=port, query={"sslmode": "disable"})
        return there.render_as_string(hide_password=False)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)


def _work(url: str) -> int:
    """Run trials until the budget is spent, as a worker does; return how many."""
    with open_store(url) as store, closing(Leases(store.engine)) as leases:
        study_id = store.history.get_study_id_from_name("s")
        ran = 0
        while lease := leases.claim(study_id, Terms(trials=TRIALS)):
            storage = Fenced(store.history, store.engine, lease)
            sampler = optuna.samplers.TPESampler(seed=lease.number, n_startup_trials=4)
            study = optuna.load_study(study_name="s", storage=storage, sampler=sampler)
            x = optuna.Trial(study, lease.trial_id).suggest_float("x", 0, 1)
            for step in (1, 2):
                storage.report(lease.trial_id, {step: x}, {"k": step})
                assert store.history.values_at(study_id, step)[lease.number] == x
            storage.tell(lease.trial_id, TrialState.COMPLETE, [x], {3: x}, {})
            leases.forget(lease)
            ran += 1
        return ran


def test_many_workers_on_few_connections(bouncer: str, at_once: AtOnce) -> None:
    """Tables, claims, writes and reads: nothing of ours needs a session from one statement to the
    next. Sixteen connections of eight workers are three of Postgres."""
    with open_store(bouncer) as store:
        study = optuna.create_study(storage=store.optuna, study_name="s")
        assert sum(at_once(_work, [bouncer] * WORKERS)) == TRIALS
        trials = store.history.get_all_trials(study._study_id)
        assert [trial.number for trial in trials] == list(range(TRIALS))
        assert all(
            trial.values == [trial.params["x"]]
            and trial.intermediate_values == dict.fromkeys((1, 2, 3), trial.params["x"])
            and trial.distributions == {"x": FloatDistribution(0, 1)}
            for trial in trials
        )
        assert store.optuna.get_all_trials(study._study_id)[0].user_attrs == {"k": 2}
        with store.engine.connect() as connection:
            count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            assert connection.execute(text(count)).scalar_one() <= POOL
            assert connection.execute(text("SHOW timezone")).scalar_one() == "UTC"
            assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "15s"


def test_bouncer_that_refuses_the_settings(empty_url: str, place: Path) -> None:
    """The error says what its configuration needs."""
    with (
        _running(empty_url, place, "") as url,
        pytest.raises(StorageError, match="pooler") as caught,
        open_store(url),
    ):
        pass
    assert "ignore_startup_parameters = options" in caught.value.fix
