"""A real engine and one project for all tests here; without an engine they skip, and say so."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from browsing import chromium, view
from composed import (
    TRIALS,
    Project,
    Story,
    ended,
    main_process,
    ordered,
    running,
    wait_until,
)

__all__ = ["chromium", "view"]

WANTED = "TUNESVC_TEST_COMPOSE"
SOCKET = "unix:///var/run/docker.sock"


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """The engine that docker speaks to."""
    if not os.environ.get(WANTED):
        pytest.skip("takes minutes and a Docker engine: make test-compose")
    os.environ.setdefault("DOCKER_HOST", SOCKET)
    for command in (["docker", "version"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except OSError as error:
            pytest.skip(f"no Docker here: {error}")
        if done.returncode:
            pytest.skip(f"no Docker engine answers here: {done.stderr.strip()[-200:]}")


@pytest.fixture(scope="session")
def image(engine: None) -> None:
    """Our image, built of the present sources; layers that are there already are taken."""
    Project().compose("build", "secrets", seconds=1200)


@pytest.fixture(scope="session")
def service(image: None) -> Iterator[Project]:
    """A server as `docker compose up` makes it, with two workers and ports of its own."""
    project = Project(DASHBOARD_BIND="127.0.0.1:0", POSTGRES_BIND="127.0.0.1:0", WORKER_THREADS="1")
    try:
        project.up("--scale=worker=2")
        yield project
    finally:
        project.remove()


@pytest.fixture(scope="session")
def small(service: Project) -> Story:
    """The study `small`, run to its end: a worker was killed in the middle of a trial, and Postgres
    while both were at work."""
    service.tunesvc(*ordered("small", trials=TRIALS, epochs=24, seconds=8))
    wait_until(lambda: _killed_at_work(service))
    before = ended(service, "small")
    service.kill(service.ids("postgres")[0])
    wait_until(lambda: service.try_compose("exec", "-T", "postgres", "pg_isready").returncode == 0)
    wait_until(lambda: running(service, "small") == 0 and ended(service, "small") >= TRIALS)
    containers = service.inspected("worker", "postgres")
    return Story(before, [each["RestartCount"] for each in containers])


@pytest.fixture(scope="session")
def admin(service: Project) -> tuple[str, str]:
    """The name and the password of the user that the first start has made."""
    path = "/run/tunesvc/access/first_password"
    return "admin", service.compose("exec", "-T", "dashboard", "cat", path).strip()


def _killed_at_work(service: Project) -> bool:
    """Kill a worker in the middle of a trial, and say whether there was one. It is stopped first:
    between a look at the leases and the signal, a short trial could end."""
    held = "SELECT w.host FROM tunesvc.lease l JOIN tunesvc.worker w USING (worker_id) "
    held += "WHERE l.expires_at > now() AND NOT l.waits"
    for worker in service.sql(held).split():
        program = main_process(worker)
        os.kill(program, signal.SIGSTOP)
        if worker in service.sql(held).split():
            service.kill(worker)
            return True
        os.kill(program, signal.SIGCONT)
    return False
