"""A compose project of its own name: asked, killed and removed by tests."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "tests/compose/override.yml", "tests/compose/quick.yml")
TAG = "test"
TRIALS = 12  # of the study `small`
PROFILES = ("cli", "gpu", "backup", "pgbouncer", "tls")

Done = subprocess.CompletedProcess[str]


class Project:
    """One project.

    Args:
        files: its compose files, from the root of the repository.
        settings: what a person would write into .env.
    """

    def __init__(self, files: tuple[str, ...] = FILES, **settings: str) -> None:
        self.name = f"tsvtest{secrets.token_hex(4)}"
        self.files, self.settings = files, {"TUNESVC_TAG": TAG} | settings

    def try_compose(self, *words: str, sent: str | None = None, seconds: float = 700) -> Done:
        """Run `docker compose`; return how it ended. All profiles count, save when starting."""
        given = [f"--file={ROOT / file}" for file in self.files]
        given += [f"--profile={each}" for each in PROFILES if words[0] not in ("up", "build")]
        command = ["docker", "compose", "--progress=quiet", *given, "-p", self.name, *words]
        environment = os.environ | self.settings
        return subprocess.run(
            command, env=environment, input=sent, capture_output=True, text=True, timeout=seconds
        )

    def compose(self, *words: str, **how: Any) -> str:
        """Run `docker compose`, which has to succeed; return what it printed."""
        done = self.try_compose(*words, **how)
        assert done.returncode == 0, f"docker compose {' '.join(words)}: {done.stderr[-3000:]}"
        return done.stdout

    def up(self, *words: str) -> None:
        """Start services, or the profile-free ones, and wait until they are healthy."""
        self.compose("up", "--detach", "--wait", "--wait-timeout=600", *words)

    def tunesvc(self, *words: str, sent: str | None = None) -> str:
        """Run a command of ours as a person without Python does, in a container of its own."""
        return self.compose("run", "--rm", "--no-deps", "-T", "tunesvc", *words, sent=sent)

    def sql(self, statement: str) -> str:
        """Return what Postgres answers, in lines of values with | between them."""
        asking = ("psql", "-U", "tunesvc", "-qtA", "-v", "ON_ERROR_STOP=1", "-c", statement)
        return self.compose("exec", "-T", "postgres", *asking).strip()

    def ids(self, service: str) -> list[str]:
        """Return the ids of a service's containers, also of those that have ended."""
        return self.compose("ps", "--all", "--quiet", service).split()

    def inspected(self, *services: str) -> list[dict[str, Any]]:
        """Return what the engine knows of services' containers, of all of them by default."""
        ids = [id for name in services for id in self.ids(name)] if services else self._all()
        return inspect(*ids)

    def _all(self) -> list[str]:
        return self.compose("ps", "--all", "--quiet").split()

    def kill(self, id: str, number: int = signal.SIGKILL) -> None:
        """Send a container's first process a signal, as the host's kernel would."""
        os.kill(inspect(id)[0]["State"]["Pid"], number)

    def address(self, service: str, port: int) -> str:
        """Return where a published port answers on this host, as HOST:PORT."""
        return self.compose("port", service, str(port)).strip()

    def remove(self) -> None:
        """Remove it and all that it kept."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout=5")


def inspect(*ids: str) -> list[dict[str, Any]]:
    """Return what the engine knows of containers or images."""
    done = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def health(id: str) -> str:
    """Return a container's health, as the engine sees it."""
    return str(inspect(id)[0]["State"]["Health"]["Status"])


def main_process(container: str) -> int:
    """Return the process that a container's init has started, by its id on this host."""
    first = inspect(container)[0]["State"]["Pid"]
    found = subprocess.run(["pgrep", "-P", str(first)], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


def wait_until(condition: Callable[[], Any], seconds: float = 600, every: float = 0.5) -> Any:
    """Return what a condition gives as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(every)
    return found


@dataclass(frozen=True)
class Story:
    """What became of a study in which a worker and Postgres were killed."""

    trials_before: int  # ended, when Postgres was killed
    restarts: list[int]  # of the workers, then of Postgres


def ended(project: Project, study: str) -> int:
    """Return how many trials of a study have come to an end."""
    return _count(project, study, "('COMPLETE', 'PRUNED', 'FAIL')")


def running(project: Project, study: str) -> int:
    """Return how many trials of a study have begun and not ended."""
    return _count(project, study, "('RUNNING', 'WAITING')")


def _count(project: Project, study: str, states: str) -> int:
    return int(
        project.sql(
            "SELECT count(*) FROM trials JOIN studies USING (study_id) "
            f"WHERE study_name = '{study}' AND state IN {states}"
        )
    )


def ordered(name: str, *, trials: int, epochs: int, seconds: int = 30) -> list[str]:
    """Return the command that stores a study of many short trials: one small network, fine-tuned
    whole on few digits. There is always a worker in the middle of one to be killed."""
    settings = {
        "league": "false",
        "pruner": "none",
        "budget.trials": trials,
        "budget.epochs": epochs,
        "leases.seconds": seconds,
        "backbones": "[{name: tiny_mobilenet, weights: DEFAULT}]",
        "data.subset": 100,
        "data.split": "{val: 0.1, test: 0.1, seed: 0}",
        "search_space.strategy": "full",
        "search_space.lr": "{low: 1e-3, high: 1e-2, log: true}",
        "search_space.body_lr_multiplier": "[0.1, 1.0]",
    }
    given = [f"--set={key}={value}" for key, value in settings.items()]
    return ["new-study", "studies/quickstart.yaml", "--name", name, *given]
