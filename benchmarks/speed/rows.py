"""One trial after the other: the head alone, the last stage, everything.

Each side has one process at a time, with all cores. tunesvc's trials are timed from the end of the
one before to their own end, in a worker that goes on; Python's imports are in neither side's
figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from peers.job import Job

from speed.limit import Limit, Work
from speed.sides import Bench, Outcome, paces, span
from speed.subjects import Subject
from speed.table import Row, figure

HEAD, LAST, FULL = "linear-probe", "last-stage", "full"
STRATEGY = {"head_only_warm": HEAD, "head_only_30_cold": HEAD, "last_stage_warm": LAST}


@dataclass(frozen=True)
class Sizes:
    """How much of each."""

    runs: int = 3  # of tunesvc's worker, from an empty cache each
    head_trials: int = 30  # of each of its studies
    trials: int = 3  # of plain Optuna's studies of a part, and of tunesvc's of the last stage


@dataclass(frozen=True)
class Turn:
    """Full fine-tuning, in a new process on each side, one soon after the other.

    Why: 2026-11: the same steps take a third longer in some minutes than in others.

    Args:
        ours: a study of one trial, from an empty cache.
        limit: as many epochs on tensors in memory.
        plain: the same trial as plain Optuna has it.
    """

    ours: Outcome
    limit: Limit
    plain: Outcome


@dataclass
class Singles:
    """What the rows of one subject are made of; measured once, when first asked for."""

    bench: Bench
    subject: Subject
    wanted: Sequence[str]  # rows
    sizes: Sizes

    def _job(self, study: str, strategy: str, trials: int) -> Job:
        bench = self.bench
        return self.subject.job(
            *(study, [strategy], trials, self.subject.epochs),
            device=bench.device,
            loader_workers=bench.loader_workers,
        )

    @cached_property
    def plain(self) -> Outcome:
        """Plain Optuna: one process, a study of each strategy that trains a part."""
        strategies = dict.fromkeys(STRATEGY[row] for row in self.wanted if row in STRATEGY)
        return self.bench.plain([self._job(s, s, self.sizes.trials) for s in strategies])

    @cached_property
    def cached(self) -> list[Outcome]:
        """Workers with an empty cache each: a study that fills it, others that find it filled."""
        heads = [self._job(name, HEAD, self.sizes.head_trials) for name in ("cold", "warm")]
        last = [self._job("last", LAST, self.sizes.trials + 1)]
        first = heads + (last if "last_stage_warm" in self.wanted else [])
        return [self.bench.ours(work) for work in [first, *[heads] * (self.sizes.runs - 1)]]

    @cached_property
    def full(self) -> list[Turn]:
        """A trial of each side, by turns; no league, which is no part of it."""
        job = self._job("full", FULL, 1)
        work = self._on_tensors(job)
        bench = self.bench
        return [
            Turn(bench.ours([job], league=False), bench.limit(work), bench.plain([job]))
            for _ in range(self.sizes.runs)
        ]

    def _on_tensors(self, job: Job) -> Work:
        return Work(
            backbone=job.backbones[0],
            image_size=job.image_size,
            train=len(list(Path(job.data, "train").glob("*/*"))),
            batch_size=job.batch_size,
            epochs=job.epochs - 1,  # after one that warms up
            classes=len(list(Path(job.data, "train").iterdir())),
            device=self.bench.device,
        )


def head_only_warm(on: Singles) -> Row:
    """The seconds of a head-only trial, of whole studies whose features are there."""
    studies = (run.trials["warm"] for run in on.cached)
    ours = (1000 * span(trials) / len(trials) for trials in studies)
    return Row(
        "head_only_warm",
        f"{on.subject.words}, {on.subject.epochs} epochs",
        "ms a trial",
        figure(ours),
        "plain Optuna",
        figure(1000 * pace for pace in paces(on.plain.trials[HEAD])),
        note=f"tunesvc: means of studies of {on.sizes.head_trials} trials",
    )


def head_only_cold(on: Singles) -> Row:
    """Head-only trials with what comes before them: decoding, features, the league."""
    count = on.sizes.head_trials
    ours = (max(t.ended for t in run.trials["cold"]) - run.ready for run in on.cached)
    return Row(
        "head_only_30_cold",
        f"{on.subject.words}, {count} trials of {on.subject.epochs} epochs",
        "s",
        figure(ours),
        "plain Optuna",
        figure(count * pace for pace in paces(on.plain.trials[HEAD])),
        note=f"plain Optuna: {count} × the seconds of each of the trials that it ran",
    )


def last_stage_warm(on: Singles) -> Row:
    """Trials after a first one, which filled the cache."""
    return Row(
        "last_stage_warm",
        f"{on.subject.words}, {on.subject.epochs} epochs",
        "s a trial",
        figure(paces(on.cached[0].trials["last"])[1:]),
        "plain Optuna",
        figure(paces(on.plain.trials[LAST])),
    )


def full_epoch(on: Singles) -> Row:
    """Seconds by epochs, from the worker's imports on: decoding, building, reports, checkpoints."""
    epochs = on.subject.epochs
    ours = [turn.ours.trials["full"][0].ended - turn.ours.ready for turn in on.full]
    theirs = [pace for turn in on.full for pace in paces(turn.plain.trials["full"])]
    return Row(
        "full_epoch",
        on.subject.words,
        "s an epoch",
        figure(seconds / epochs for seconds in ours),
        "plain Optuna",
        figure(pace / epochs for pace in theirs),
        note=f"a trial of {epochs} epochs in a process of its own, by turns; tunesvc's with an "
        "empty cache each, decoding included",
    )


def full_step_vs_limit(on: Singles) -> Row:
    """Images per second of training alone; the first epoch of a worker warms up."""
    images = len(list(Path(on.subject.data, "train").glob("*/*")))
    histories = [turn.ours.trials["full"][0].attributes["history"][1:] for turn in on.full]
    seconds = [epoch["seconds"]["train"] for history in histories for epoch in history]
    return Row(
        "full_step_vs_limit",
        on.subject.words,
        "images/s",
        figure(images / each for each in seconds),
        "in-memory limit",
        figure(images / each for turn in on.full for each in turn.limit.train),
        less_is_better=False,
    )


def peak_memory(on: Singles) -> Row:
    """A worker's peak over that of a process with nothing but torch, the model and a batch."""
    pairs = [
        (turn.ours.trials["full"][0].attributes["peak_memory_mb"], turn.limit.peak_memory_mb)
        for turn in on.full
    ]
    peak, need = max(pairs)
    return Row(
        "peak_memory",
        f"{on.subject.words}, full fine-tuning",
        "× the need",
        figure(peak / need for peak, need in pairs),
        note=f"the worker {peak:,.0f} MB; torch, the model and a batch {need:,.0f} MB",
    )


ROWS: dict[str, Callable[[Singles], Row]] = {
    "head_only_warm": head_only_warm,
    "head_only_30_cold": head_only_cold,
    "last_stage_warm": last_stage_warm,
    "full_epoch": full_epoch,
    "full_step_vs_limit": full_step_vs_limit,
    "peak_memory": peak_memory,
}
