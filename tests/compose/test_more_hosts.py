"""More workers than one host, or Postgres's connections, are good for."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from composed import TAG, Project, ended, ordered, running, wait_until

pytestmark = pytest.mark.slow

CONNECTIONS, POOL, CLIENTS = 12, 3, 60
TRIALS = 4

ASK_ALL_AT_ONCE = f"""
import psycopg2
password = open("/run/tunesvc/secrets/postgres_password").read().strip()
where = dict(host="pgbouncer", user="tunesvc", dbname="tunesvc")
for wrong in ("", password + "x"):
    try:
        psycopg2.connect(password=wrong, **where)
        raise SystemExit("let in with a wrong password")
    except psycopg2.OperationalError:
        pass
every = [psycopg2.connect(password=password, **where) for _ in range({CLIENTS})]
for each in every:
    each.autocommit = True
    cursor = each.cursor()
    cursor.execute("SHOW statement_timeout")
    assert cursor.fetchone() == ("15s",)
print(len(every))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of the host, `secrets` and `artifacts`, that belong to the containers' user."""
    place = tmp_path_factory.mktemp("shared")
    for parent in [place, *list(place.parents)[:2]]:
        parent.chmod(0o755)
    for name in ("secrets", "artifacts"):
        (place / name).mkdir()
        os.chown(place / name, 10001, 10001)
    return place


@pytest.fixture(scope="module")
def server(image: None, folders: Path) -> Iterator[Project]:
    """A server without workers, whose Postgres other networks of this machine can reach."""
    seen = subprocess.run(
        ["docker", "network", "inspect", "bridge"], capture_output=True, text=True, check=True
    )
    gateway = json.loads(seen.stdout)[0]["IPAM"]["Config"][0]["Gateway"]
    project = Project(
        POSTGRES_BIND=f"{gateway}:0",
        POSTGRES_CONNECTIONS=str(CONNECTIONS),
        PGBOUNCER_POOL=str(POOL),
        TUNESVC_SECRETS_VOLUME=str(folders / "secrets"),
        TUNESVC_ARTIFACTS_VOLUME=str(folders / "artifacts"),
        TUNESVC_DB_HOST="pgbouncer",
        WORKER_THREADS="1",
    )
    try:
        project.up("postgres")
        project.compose("run", "--rm", "-T", "migrate")
        yield project
    finally:
        project.remove()


def test_a_worker_of_another_host(server: Project, folders: Path) -> None:
    """A second project, which shares with the first an address, a password and a folder, runs its
    trials; their checkpoints lie in the folder."""
    server.tunesvc(*ordered("shared", trials=TRIALS, epochs=2))
    elsewhere = Project(
        ("workers/compose.worker.yml", "tests/compose/quick-worker.yml"),
        TUNESVC_WORKER_STORAGE=f"postgresql://tunesvc@{server.address('postgres', 5432)}/tunesvc",
        TUNESVC_SECRETS_VOLUME=str(folders / "secrets"),
        TUNESVC_ARTIFACTS_VOLUME=str(folders / "artifacts"),
        WORKER_THREADS="1",
    )
    try:
        elsewhere.up("--scale=worker=1", "worker")
        wait_until(lambda: ended(server, "shared") == TRIALS and running(server, "shared") == 0)
        (worker,) = elsewhere.ids("worker")
        assert worker.startswith(server.sql("SELECT DISTINCT host FROM tunesvc.worker"))
        assert list((folders / "artifacts").rglob("*.ckpt"))
        assert elsewhere.inspected("worker")[0]["Config"]["Image"] == f"tunesvc:{TAG}"
    finally:
        elsewhere.remove()


def test_workers_through_pgbouncer(server: Project) -> None:
    """Two workers, and five times as many connections as Postgres allows, are served by three of
    its connections; a wrong password is refused by PgBouncer itself."""
    server.compose("build", "pgbouncer")
    server.up("pgbouncer")
    server.tunesvc(*ordered("pooled", trials=TRIALS, epochs=2))
    server.compose("up", "--detach", "--no-deps", "--scale=worker=2", "worker")
    wait_until(lambda: ended(server, "pooled") == TRIALS and running(server, "pooled") == 0)
    ask = ("--entrypoint=python", "tunesvc", "-c", ASK_ALL_AT_ONCE)
    assert server.compose("run", "--rm", "--no-deps", "-T", *ask).strip() == str(CLIENTS)
    (pooler,) = server.inspected("pgbouncer")
    (network,) = pooler["NetworkSettings"]["Networks"].values()
    held = server.sql(
        "SELECT host(client_addr), count(*) FROM pg_stat_activity "
        "WHERE client_addr IS NOT NULL GROUP BY 1"
    )
    address, _, count = held.partition("|")
    assert address == network["IPAddress"]
    assert 1 <= int(count) <= POOL
    lines = server.compose("top", "pgbouncer").splitlines()
    assert not [line for line in lines if line.split()[1:2] == ["root"]]
