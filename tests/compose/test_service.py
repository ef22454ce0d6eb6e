"""The service lives: studies run to their end whoever is killed, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal

import pytest
from composed import (
    TRIALS,
    Project,
    Story,
    ended,
    health,
    inspect,
    main_process,
    ordered,
    running,
    wait_until,
)

pytestmark = pytest.mark.slow

USERS = "/run/tunesvc/access/users.yaml"


def test_a_killed_worker_and_a_killed_database(service: Project, small: Story) -> None:
    """Both are started again by the engine; the killed worker's trial was taken over, and the study
    has exactly the trials that were ordered, each with its value."""
    told = json.loads(
        service.compose("exec", "-T", "worker", "tunesvc", "status", "small", "--json")
    )
    assert told["state"] == "done"
    assert told["trials"] == {
        "complete": TRIALS, "pruned": 0, "fail": 0, "running": 0, "waiting": 0, "remaining": 0,
    }  # fmt: skip
    assert told["takeovers"] >= 1
    assert sorted(small.restarts) == [0, 1, 1]
    numbers = service.sql(
        "SELECT number FROM trials JOIN studies USING (study_id) "
        "WHERE study_name = 'small' ORDER BY number"
    )
    assert numbers.split() == [str(number) for number in range(TRIALS)]
    assert small.trials_before < TRIALS  # it was killed before the end


def test_down_and_up_again(service: Project, small: Story) -> None:
    """Containers and network are made anew; trials, users and checkpoints are what they were."""
    before = kept(service)
    service.compose("down")
    assert service.ids("postgres") == []
    service.up("--scale=worker=2")
    assert kept(service) == before
    assert int(before["checkpoints"]) >= 1


def kept(project: Project) -> dict[str, str]:
    """Return what must outlive the containers."""
    look = ("exec", "-T", "worker", "sh", "-c")
    return {
        "trials": project.sql(
            "SELECT number, state, value FROM trials LEFT JOIN trial_values USING (trial_id) "
            "ORDER BY trial_id"
        ),
        "users": project.compose(
            "exec", "-T", "dashboard", "cat", "/run/tunesvc/access/users.yaml"
        ),
        "checkpoints": project.compose(*look, "find /artifacts -name '*.ckpt' | wc -l").strip(),
        "password": project.compose(*look, "cat /run/tunesvc/secrets/postgres_password"),
    }


def test_a_stopped_worker_gives_its_trial_back(service: Project, small: Story) -> None:
    """`docker compose stop` ends it with exit code 0; its trial waits, and goes on in another."""
    service.tunesvc(*ordered("stopped", trials=4, epochs=120))
    held = "SELECT count(*) FROM tunesvc.lease WHERE epoch > 0 AND expires_at > now()"
    wait_until(lambda: int(service.sql(held)) > 0)
    begun = running(service, "stopped")
    service.compose("stop", "worker")
    assert [each["State"]["ExitCode"] for each in service.inspected("worker")] == [0, 0]
    assert service.sql(held) == "0"
    assert running(service, "stopped") > 0
    # Until the signal came trials may have ended, and others begun.
    assert begun <= ended(service, "stopped") + running(service, "stopped") <= 4
    service.up("--scale=worker=2")
    wait_until(lambda: ended(service, "stopped") == 4 and running(service, "stopped") == 0)
    takeovers = service.sql(
        "SELECT takeovers FROM tunesvc.study JOIN studies USING (study_id) "
        "WHERE study_name = 'stopped'"
    )
    assert takeovers == "0"  # given back, not taken from a dead one


def test_a_worker_that_hangs_is_unhealthy(service: Project) -> None:
    """A suspended worker renews no lease: the engine sees it soon, and that it is back."""
    worker = service.ids("worker")[0]
    wait_until(lambda: health(worker) == "healthy")
    restarts = inspect(worker)[0]["RestartCount"]
    python = main_process(worker)
    os.kill(python, signal.SIGSTOP)
    try:
        wait_until(lambda: health(worker) == "unhealthy")
    finally:
        os.kill(python, signal.SIGCONT)
    wait_until(lambda: health(worker) == "healthy")
    assert inspect(worker)[0]["RestartCount"] == restarts
