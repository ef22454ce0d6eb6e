"""How long a study takes on this machine, before it has begun.

    T    trials, until the first of the budgets ends        W    workers
    t    seconds of a trial: of its epochs, each of its phase, and around them
    F    seconds of the outputs of frozen stages, which the first trial that wants them computes

    c    how much longer all takes where W workers share a CPU

    study = start + c × ((ΣF + Σt) / W + (W - 1) / 2W × mean t of a trial that runs to its end)

The last term is what workers without a trial wait for those that have the last ones.

Why: 2026-11: it is to tell minutes from hours, before anybody waits for it. What the sampler will
prefer nobody knows: configurations are drawn evenly. To start takes longer on a machine that has
other work, by as much as the dry epochs had to wait for the processor. On CUDA the epochs are run
in a process of their own: a context on the device would stay in this one, and hold memory that
trials want.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, cycle, islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from tunesvc import data, plugins, study
from tunesvc.check.crowding import crowding
from tunesvc.check.dry import SECONDS, Dry, Stay
from tunesvc.check.estimated import Estimate
from tunesvc.check.looking import Report
from tunesvc.check.played import Played, play
from tunesvc.search import evaluated
from tunesvc.spec import StudySpec
from tunesvc.train import Precision, place

START_SECONDS = 10.0  # imports, opening, solving the league table; scoring the best at the end
TRIAL_SECONDS = 0.15  # around a trial's epochs: its claim, its last checkpoint, its end
STACKED = 0.2  # of its own steps' time a head takes in a stack (see `trial.together`)
MOST = 300  # trials that are played; more are taken to be like the later half of them
PLAYS = 8  # of the study: what the pruner lets through hangs on chance, most of all in small ones


def tell(
    report: Report,
    spec: StudySpec,
    base: Path,
    devices: Sequence[str],
    precision: Precision = "auto",
) -> None:
    """Add to what a check found how long the study takes, or why nobody can tell."""
    if report.problems:
        report.facts["estimate"] = {"about": None, "why": "first, what is told below"}
        return
    try:
        report.facts["estimate"] = estimate(spec, base, devices, precision).as_json()
    except (
        Exception
    ) as error:  # a full disk, a plugin's mistake: the study can be stored for all that
        first = next(iter(str(error).splitlines()), type(error).__name__)
        report.facts["estimate"] = {"about": None, "why": f"it cannot be tried here: {first}"}


def estimate(
    spec: StudySpec, base: Path, devices: Sequence[str], precision: Precision = "auto"
) -> Estimate:
    """Return how long a study takes that `check` has found nothing wrong with.

    Args:
        base: folder that the study file's relative paths start from.
        devices: of its workers, one each.
        precision: that they are started with.

    Raises:
        TuneError: it cannot be tried here.
        RuntimeError, MemoryError: nor trained.
    """
    if not any(device.startswith("cuda") for device in devices):
        return _estimate(spec, base, devices, precision)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_estimate, spec, base, devices, precision).result()


def _estimate(
    spec: StudySpec, base: Path, devices: Sequence[str], precision: Precision
) -> Estimate:
    threads = torch.get_num_threads()
    if devices[0] == "cpu":
        torch.set_num_threads(max(1, _cores() // len(devices)))
    begun, processor = time.perf_counter(), time.process_time()
    try:
        reckoning = _Reckoning(spec, base, devices, precision)
        waited = (time.perf_counter() - begun) / (time.process_time() - processor)
        return reckoning.estimate(start=START_SECONDS * max(1.0, waited))
    finally:
        torch.set_num_threads(threads)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Reckoning:
    def __init__(
        self, spec: StudySpec, base: Path, devices: Sequence[str], precision: Precision
    ) -> None:
        self.spec, self.devices = spec, devices
        task = plugins.load("task", spec.task)
        placement = place(devices[0], precision=precision)
        self.listing = data.scan(spec.data, target=task.target, base=base)
        self.images = {name: len(items) for name, items in self.listing.splits.items()}
        self.looks = evaluated(spec)
        count = min(study.limit(spec) or MOST, MOST)
        plays = max(1, min(PLAYS, MOST // count))
        self.crowding = crowding(len(devices)) if devices[0] == "cpu" else 1.0
        self.plays = [list(islice(play(spec, seed), count)) for seed in range(plays)]
        self.dry: dict[str, Dry] = {}
        for label in spec.backbone_labels:
            dry = self.dry[label] = Dry(spec, label, base, self.listing, placement)
            dry.measure(self._wanted(dry), SECONDS / len(spec.backbones))
            dry.body.module.cpu()

    def _wanted(self, dry: Dry) -> Iterator[tuple[Any, Stay]]:
        """Yield a backbone's phases, each once: what most epochs are trained in first."""
        epochs: Counter[Any] = Counter()
        example: dict[Any, tuple[Any, Stay]] = {}
        for trial in chain(*self.plays):
            for stay in dry.stays(trial.knobs) if trial.label == dry.label else ():
                epochs[stay.key] += len([e for e in stay.epochs if e < trial.epochs])
                example.setdefault(stay.key, (trial.knobs, stay))
        for key, _ in epochs.most_common():
            yield example[key]

    def estimate(self, start: float) -> Estimate:
        """Return the mean of all plays."""
        told = [self._play(trials) for trials in self.plays]
        seconds, frozen, epochs, trials = (fmean(each) for each in zip(*told, strict=True))
        seconds, frozen = seconds * self.crowding, frozen * self.crowding
        building = sum(dry.built_seconds for dry in self.dry.values())
        workers = len(self.devices)
        whole = start + building + (seconds + frozen) / workers
        whole += self.crowding * self._whole_trial() * (workers - 1) / (2 * workers)
        unpruned = trials * self.spec.budget.epochs
        return Estimate(
            whole, workers, self.devices[0], round(trials), round(epochs),
            round(unpruned), frozen, self._table(),
        )  # fmt: skip

    def _whole_trial(self) -> float:
        """Return the mean seconds of a trial that runs to its end, if there is one."""
        ends = [
            self._trial(trial)
            for trial in chain(*self.plays)
            if trial.epochs == self.spec.budget.epochs and not trial.is_stacked
        ]
        return fmean(ends) if ends else 0.0

    def _play(self, played: Sequence[Played]) -> tuple[float, float, int, int]:
        """Return seconds of trials and of frozen stages, epochs and trials, until a budget ends."""
        seconds, frozen, epochs, trials = 0.0, self._league(), 0, 0
        known: set[Any] = set()
        later = played[len(played) // 2 :]  # what comes after all that was played is like this
        for number, trial in enumerate(chain(played, cycle(later))):
            if number == len(played):
                each = sum(map(self._trial, later)), sum(t.epochs for t in later), len(later)
                rounds = self._rounds(seconds + frozen, epochs, trials, each)
                seconds += rounds * each[0]
                epochs, trials = epochs + rounds * each[1], trials + rounds * each[2]
            prefix = self._prefix(trial, known)
            if self._is_over(trials, epochs, seconds + frozen):
                break
            seconds += self._trial(trial)
            frozen, epochs, trials = frozen + prefix, epochs + trial.epochs, trials + 1
        return seconds, frozen, epochs, trials

    def _rounds(
        self, seconds: float, epochs: int, trials: int, each: tuple[float, int, int]
    ) -> int:
        """Return how many rounds of so many seconds, epochs and trials fit, less one or two."""
        budget, limit = self.spec.budget, study.limit(self.spec)
        hours = seconds / 3600
        left = [
            (most - have) / more
            for most, have, more in (
                (limit, trials, each[2]),
                (budget.epochs_total, epochs, each[1]),
                (budget.gpu_hours, hours, each[0] / 3600),
                (budget.hours, hours / len(self.devices), each[0] / 3600 / len(self.devices)),
            )
            if most is not None and more
        ]
        return max(0, int(min(left, default=0)) - 1)

    def _is_over(self, trials: int, epochs: int, seconds: float) -> bool:
        budget, limit = self.spec.budget, study.limit(self.spec)
        hours = seconds / 3600
        return (
            (limit is not None and trials >= limit)
            or (budget.hours is not None and hours / len(self.devices) >= budget.hours)
            or (budget.gpu_hours is not None and hours >= budget.gpu_hours)
            or (budget.epochs_total is not None and epochs + budget.epochs > budget.epochs_total)
        )

    def _trial(self, trial: Played) -> float:
        factor = STACKED if trial.is_stacked else 1.0
        return TRIAL_SECONDS * factor + factor * sum(self._epochs(trial))

    def _epochs(self, trial: Played) -> Iterator[float]:
        dry = self.dry[trial.label]
        for stay in dry.stays(trial.knobs):
            phase = dry.phase(stay.key)
            for epoch in stay.epochs:
                if epoch < trial.epochs:
                    seen = self.images["val"] if epoch + 1 in self.looks else 0
                    yield phase.train * self.images["train"] + phase.evaluation * seen

    def _prefix(self, trial: Played, known: set[Any]) -> float:
        """Return what a trial has to compute of frozen stages; what is `known` costs nothing."""
        dry, seconds = self.dry[trial.label], 0.0
        for stay in dry.stays(trial.knobs):
            phase = dry.phase(stay.key)
            wanted = [(trial.label, phase.frozen, view) for view in stay.views]
            if not phase.frozen or stay.epochs.start >= trial.epochs:
                continue
            new = [each for each in wanted if each not in known]
            known.update(new)
            seconds += phase.prefix * self.images["train"] * len(new)
            seconds += phase.prefix * self.images["val"] * any(new)
        return seconds

    def _league(self) -> float:
        """Return what one pass of all images through each backbone takes."""
        if not self.spec.league:
            return 0.0
        images = self.images["train"] + self.images["val"]
        return sum(dry.forward_seconds * images for dry in self.dry.values())

    def _table(self) -> dict[str, dict[str, float]]:
        sums: dict[tuple[str, str], list[float]] = {}
        for trial in chain(*self.plays):
            sums.setdefault((trial.label, trial.knobs.strategy), []).extend(self._epochs(trial))
        table: dict[str, dict[str, float]] = {}
        for (label, strategy), seconds in sorted(sums.items()):
            table.setdefault(label, {})[strategy] = sum(seconds) / len(seconds)
        return table
