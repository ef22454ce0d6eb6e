"""Processes of each side at the same work, and their trials read back."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
from faults.ground import Ground
from optuna.trial import FrozenTrial, TrialState
from peers import job as jobs
from peers.job import Job
from sqlalchemy import NullPool, create_engine, text

from speed import limit
from speed.ours import spec
from tunesvc import study
from tunesvc.storage import VARIABLE, open_store

BENCHMARKS = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 900.0  # for any process
ROUNDING = 1e-6  # between one side's float32 and the other's float64


@dataclass(frozen=True)
class Trial:
    """A finished trial; times are seconds since 1970."""

    started: float
    ended: float
    value: float | None  # None unless it is complete
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What processes did, by study; trials in the order in which they ended.

    Args:
        launched: when the first process was started.
        ready: when the last of them had imported what it needs; `launched` where that is unknown.
    """

    trials: dict[str, list[Trial]]
    launched: float
    ready: float

    def reach(self, study: str, value: float) -> float | None:
        """Return the seconds from the start of the processes until a trial was so good."""
        least = value - ROUNDING
        good = (t for t in self.trials[study] if t.value is not None and t.value >= least)
        first = next(good, None)
        return None if first is None else first.ended - self.launched


def paces(trials: Sequence[Trial]) -> list[float]:
    """Return the seconds of each trial of one process: from the end of the one before to its own.

    So what happens between two trials is in it, and what was done ahead is not there twice.
    """
    first = [trials[0].ended - trials[0].started] if trials else []
    return first + [after.ended - before.ended for before, after in pairwise(trials)]


def span(trials: Sequence[Trial]) -> float:
    """Return the seconds from the first start to the last end."""
    return max(t.ended for t in trials) - min(t.started for t in trials)


@dataclass
class Bench:
    """Where it all happens, and on what.

    Args:
        cores: shared by the processes of a side.
        loader_workers: processes that decode for each of the peers' trainings.
        every: so-manieth photograph is taken in the mixed study.
    """

    ground: Ground
    device: str = "cpu"
    with_ray: bool = True
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    loader_workers: int = 0
    every: int = 1

    def ours(self, work: Sequence[Job], *, workers: int = 1, league: bool = True) -> Outcome:
        """Let `tunesvc worker` processes run the studies, oldest first, from empty caches.

        Args:
            league: whether each study opens with a linear probe of its backbones.
        """
        home, url = self.ground.new_folder("ours"), self.ground.database()
        with open_store(url) as store:
            for job in work:
                study.create(store, spec(job, league=league), base=home)
        names = [f"--study={job.study}" for job in work]
        command = ["-m", "tunesvc", "worker", *names, f"--device={self.device}", "--until-done"]
        variables = {VARIABLE: url, "TUNESVC_HOME": str(home)}
        launched = time.time()
        with self._running([command] * workers, home / "workers.log", variables) as running:
            ready = _ready(home / "run", running)
            _told(running, url, sum(job.trials for job in work))
            for process in running:
                process.terminate()  # else it posts a summary, which is in no figure
            _wait(running, home / "workers.log")
        return Outcome(_trials(url, work), launched, ready)

    def plain(self, work: Sequence[Job], *, workers: int = 1) -> Outcome:
        """Let plain Optuna run the same searches, one after the other."""
        folder, url = self.ground.new_folder("plain"), self.ground.database()
        optuna.storages.RDBStorage(url)  # the tables, before rivals would make them
        jobs.write(work, folder / "jobs.json")
        module = ["-m", "peers.plain_optuna", str(folder / "jobs.json"), url]
        launched = time.time()
        commands = [[*module, str(index)] for index in range(workers)]
        with self._running(commands, folder / "workers.log", {}) as running:
            _wait(running, folder / "workers.log")
        return Outcome(_trials(url, work), launched, launched)

    def ray(self, work: Sequence[Job]) -> Outcome:
        """Let Ray Tune run them: as many trials at once as there are cores, or one on a GPU."""
        folder = self.ground.new_folder("ray")
        jobs.write(work, folder / "jobs.json")
        out = folder / "ended.jsonl"
        command = ["-m", "peers.ray_tune", str(folder / "jobs.json"), str(out)]
        launched = time.time()
        with self._running([command], folder / "workers.log", {}) as running:
            _wait(running, folder / "workers.log")
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        found: dict[str, list[Trial]] = {job.study: [] for job in work}
        for line in sorted(lines, key=lambda line: line["ended"]):
            found[line["study"]].append(Trial(launched, line["ended"], line["accuracy"], {}))
        return Outcome(found, launched, launched)

    def limit(self, work: limit.Work) -> limit.Limit:
        """Measure the limit in a process of its own."""
        path = self.ground.new_folder("limit") / "model.json"
        path.write_text(json.dumps(asdict(work)))
        out = path.with_suffix(".out")
        with self._running([["-m", "speed.limit", str(path)]], out, {}) as running:
            _wait(running, out)
        return limit.Limit(**json.loads(out.read_text().splitlines()[-1]))

    def postgres(self) -> str:
        """Return the server's version."""
        engine = create_engine(self.ground.url, poolclass=NullPool)
        with engine.connect() as connection:
            return str(connection.execute(text("SHOW server_version")).scalar_one())

    @contextmanager
    def _running(
        self, commands: Sequence[Sequence[str]], log: Path, variables: dict[str, str]
    ) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Have the processes; each gets its share of the cores, and none is left behind."""
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, self.cores // len(commands))))
        environment = os.environ | {"OMP_NUM_THREADS": threads, "TZ": "UTC"} | variables
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(BENCHMARKS), os.environ.get("PYTHONPATH", "")]
        )
        with log.open("ab") as out:
            running = [
                subprocess.Popen(
                    [sys.executable, *command],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )
                for command in commands
            ]
        try:
            yield running
        finally:
            for process in running:
                process.kill()
                process.wait()


def has_ray() -> bool:
    """Whether the extra `bench` is installed."""
    return importlib.util.find_spec("ray") is not None


def _ready(folder: Path, running: Sequence[subprocess.Popen[bytes]]) -> float:
    """Wait until the workers have registered, or one has ended; return when that was."""
    while len(list(folder.glob("*.json"))) < len(running):
        if any(process.poll() is not None for process in running):
            break
        time.sleep(0.005)
    return time.time()


def _told(running: Sequence[subprocess.Popen[bytes]], url: str, count: int) -> None:
    """Wait until so many trials have ended, or all processes have.

    Raises:
        RuntimeError: it takes for ever.
    """
    ended = text("SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')")
    deadline = time.monotonic() + LIMIT_SECONDS
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        while any(process.poll() is None for process in running):
            if connection.execute(ended).scalar_one() >= count:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"{count} trials are not told in {LIMIT_SECONDS:.0f} s")
            time.sleep(0.2)
    engine.dispose()


def _wait(running: Sequence[subprocess.Popen[bytes]], log: Path) -> None:
    """Wait for them.

    Raises:
        RuntimeError: one has failed, or takes for ever.
    """
    deadline = time.monotonic() + LIMIT_SECONDS
    for process in running:
        try:
            code = process.wait(deadline - time.monotonic())
        except subprocess.TimeoutExpired:
            code = -1
        if code:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"a process ended with {code}:\n{tail}")


def _trials(url: str, work: Sequence[Job]) -> dict[str, list[Trial]]:
    storage = optuna.storages.RDBStorage(url)
    try:
        return {job.study: _of(storage, job.study) for job in work}
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _of(storage: optuna.storages.RDBStorage, name: str) -> list[Trial]:
    found = optuna.load_study(study_name=name, storage=storage).trials
    return sorted((_read(t) for t in found if t.state.is_finished()), key=lambda t: t.ended)


def _read(trial: FrozenTrial) -> Trial:
    """Return a trial; its times were written without a zone, by processes whose zone is UTC."""
    complete = trial.state is TrialState.COMPLETE
    times = [_seconds(trial.datetime_start), _seconds(trial.datetime_complete)]
    return Trial(times[0], times[1], trial.value if complete else None, trial.user_attrs)


def _seconds(moment: datetime | None) -> float:
    assert moment is not None
    return moment.replace(tzinfo=UTC).timestamp()
