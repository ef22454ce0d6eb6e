"""One process that asks, reports and tells: as a worker of tunesvc does, or of plain Optuna."""

from __future__ import annotations

import resource
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from speed.history import PARAMETERS, STEPS
from tunesvc import search
from tunesvc.leases import Fenced, Leases, Terms
from tunesvc.spec import StudySpec
from tunesvc.storage import open_store

Sampling = Literal["tpe", "random"]
NAME = "s"
TERMS = Terms(trials=1_000_000)


@dataclass(frozen=True)
class Work:
    """What a process has to do.

    Args:
        samplings: one after the other, with the same connection.
        trials: so many with each, or
        seconds: as many as begin in that time.
        sleep_seconds: of training, after each step.
        with_reports: else trials are only begun, and their parameters drawn.
    """

    url: str
    is_ours: bool
    samplings: tuple[Sampling, ...] = ("tpe",)
    pruner: str = "none"
    trials: int = 0
    seconds: float = 0.0
    sleep_seconds: float = 0.0
    with_reports: bool = True
    seed: int = 0


@dataclass
class Done:
    """What it took: of each trial in milliseconds; of the first, with opening the database.

    Args:
        ended: when each trial after the first ended, in seconds since all began.
    """

    trial_ms: dict[Sampling, list[float]] = field(default_factory=dict)
    ended: list[float] = field(default_factory=list)
    first_seconds: float = 0.0
    memory_mb: float = 0.0  # at most, beyond what it had after its imports


def spec(sampling: Sampling, pruner: str) -> StudySpec:
    """Return a study file with this sampler and pruner; the rest is not looked at."""
    kinds = {"sampler": {"kind": sampling}, "pruner": {"kind": pruner}}
    return StudySpec.model_validate({
        "name": NAME,
        "data": {"kind": "digits"},
        "backbones": [{"name": "tiny_resnet"}],
        "budget": {"trials": 1000, "epochs": STEPS},
        **kinds,
    })  # fmt: skip


Trial = Callable[[Sampling], None]


@contextmanager
def opened(work: Work) -> Iterator[Trial]:
    """Have the database open while the block runs, and do a trial whenever it is called."""
    with open_ours(work) if work.is_ours else open_plain(work) as trial:
        yield trial


@contextmanager
def open_ours(work: Work) -> Iterator[Trial]:
    """Work as `worker` does: lease, draw, report, tell with the last report."""
    reads = {sampling: spec(sampling, work.pruner) for sampling in work.samplings}
    memory, pruner = search.Memory(), search.pruner(reads[work.samplings[0]])
    with open_store(work.url) as store:
        study_id = store.history.get_study_id_from_name(NAME)
        leases = Leases(store.engine)

        def one(sampling: Sampling) -> None:
            lease = leases.claim(study_id, TERMS)
            assert lease
            is_rung = search.rungs(pruner, NAME, lease.number)
            storage = Fenced(store.history, store.engine, lease, is_rung)
            sampler = search.sampler(reads[sampling], lease.number, memory)
            study = optuna.load_study(
                study_name=NAME, storage=storage, sampler=sampler, pruner=pruner
            )
            trial = optuna.Trial(study, lease.trial_id)
            value = draw(trial)
            for step in range(1, STEPS) if work.with_reports else ():
                _train(work)
                storage.report(lease.trial_id, {step: value / step}, {})
                pruner.prune(study, storage.get_trial(lease.trial_id))
            _train(work)
            if work.with_reports:
                storage.tell(lease.trial_id, TrialState.COMPLETE, [value], {STEPS: value}, {})
                leases.forget(lease)
            else:
                leases.release(lease)

        try:
            yield one
        finally:
            leases.close()


@contextmanager
def open_plain(work: Work) -> Iterator[Trial]:
    """Work as Optuna's documentation has it."""
    storage = RDBStorage(work.url)
    kinds: dict[str, Any] = {
        "tpe": optuna.samplers.TPESampler,
        "random": optuna.samplers.RandomSampler,
        "none": optuna.pruners.NopPruner,
        "asha": optuna.pruners.SuccessiveHalvingPruner,
    }
    samplers = {sampling: kinds[sampling](seed=work.seed) for sampling in work.samplings}
    study = optuna.load_study(study_name=NAME, storage=storage, pruner=kinds[work.pruner]())

    def one(sampling: Sampling) -> None:
        study.sampler = samplers[sampling]
        trial = study.ask()
        value = draw(trial)
        for step in range(1, STEPS + 1) if work.with_reports else ():
            _train(work)
            trial.report(value / step, step)
            if work.pruner != "none":
                trial.should_prune()
        if work.with_reports:
            study.tell(trial, value)

    try:
        yield one
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _train(work: Work) -> None:
    """Take as long as a step takes; giving up the processor for no time at all takes some."""
    if work.sleep_seconds:
        time.sleep(work.sleep_seconds)


def draw(trial: optuna.Trial) -> float:
    """Draw the parameters, one by one; return what the trial comes to."""
    drawn = [trial.suggest_float(f"x{index}", 0.0, 1.0) for index in range(PARAMETERS)]
    return sum((x - 0.3) ** 2 for x in drawn)


_start: Barrier | None = None


def keep(start: Barrier) -> None:
    """Remember what the processes of a crowd wait for; called in each as it starts."""
    global _start  # noqa: PLW0603
    _start = start


def do(work: Work) -> Done:
    """Do the work, from the moment on at which all processes of the crowd are ready."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    done, before = Done(), memory_mb()
    if _start is not None:
        _start.wait(timeout=120)
    began = time.perf_counter()
    with opened(work) as trial:
        trial(work.samplings[0])
        done.first_seconds = time.perf_counter() - began
        if _start is not None and work.seconds:
            _start.wait(timeout=120)  # the first trial of all is over
        began = time.perf_counter()
        for sampling in work.samplings:
            taken = done.trial_ms[sampling] = []
            while len(taken) < work.trials or time.perf_counter() < began + work.seconds:
                start = time.perf_counter()
                trial(sampling)
                now = time.perf_counter()
                taken.append(1000 * (now - start))
                done.ended.append(now - began)
    done.memory_mb = peak_mb() - before
    return done


def memory_mb() -> float:
    """Return what this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_mb() -> float:
    """Return the most that this process ever had in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
