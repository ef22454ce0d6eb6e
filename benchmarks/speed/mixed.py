"""A whole study: every strategy, three backbones, TPE and successive halving, all cores.

Seconds are counted from the start of the command, imports included, on every side. Which images a
study names rightly in the end hangs on its seed: every side is run with the same few, and the goal
is the median of what plain Optuna's runs came to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import Any

from peers.job import Job

from speed.sides import Bench, Outcome, has_ray
from speed.subjects import ALL_STRATEGIES, Subject
from speed.table import Figure, Row, figure

STUDY = "mixed"


@dataclass
class Mixed:
    """The study on three sides with several seeds, each run when first asked for."""

    bench: Bench
    subject: Subject
    trials: int = 60
    epochs: int = 3
    seeds: int = 3

    @property
    def words(self) -> str:
        """What is searched."""
        return (
            f"{self.subject.words}; {self.trials} trials of up to {self.epochs} epochs, "
            f"{len(ALL_STRATEGIES)} strategies, {self.workers} processes"
        )

    @property
    def workers(self) -> int:
        """How many trials run at once."""
        return self.bench.cores if self.bench.device == "cpu" else 1

    @cached_property
    def job(self) -> Job:
        """The search."""
        return self.subject.job(
            STUDY,
            ALL_STRATEGIES,
            self.trials,
            self.epochs,
            prune=True,
            augmentations=["none", "flip-crop"],
            device=self.bench.device,
            loader_workers=self.bench.loader_workers,
        )

    @property
    def jobs(self) -> list[Job]:
        """The search with one seed after the other, far apart: processes and trials count on."""
        return [replace(self.job, seed=1000 * number) for number in range(self.seeds)]

    @cached_property
    def ours(self) -> list[Outcome]:
        """Run by tunesvc."""
        return [self.bench.ours([job], workers=self.workers) for job in self.jobs]

    @cached_property
    def plain(self) -> list[Outcome]:
        """Run by plain Optuna."""
        return [self.bench.plain([job], workers=self.workers) for job in self.jobs]

    @cached_property
    def ray(self) -> list[Outcome]:
        """Run by Ray Tune."""
        return [self.bench.ray([job]) for job in self.jobs]

    @property
    def goal(self) -> float:
        """Plain Optuna's final accuracy: the middle one of its runs."""
        return median(map(_best, self.plain))

    def to_goal(self, outcomes: Sequence[Outcome]) -> Figure | None:
        """Return the seconds until a side was as good as plain Optuna became.

        The median of its runs, of which those that did not get there count as the slowest; None
        where those are the half.
        """
        seconds = sorted(s for o in outcomes if (s := o.reach(STUDY, self.goal)) is not None)
        if 2 * len(seconds) <= len(outcomes):
            return None
        middle = seconds[(len(outcomes) - 1) // 2]
        return Figure(middle, seconds[0], seconds[-1], len(seconds))

    def total(self, outcomes: Sequence[Outcome]) -> Figure | None:
        """Return the seconds until a side's last trial had ended."""
        return figure(max(t.ended for t in o.trials[STUDY]) - o.launched for o in outcomes)

    def share(self, run: Outcome, seconds: Callable[[dict[str, Any]], float]) -> float:
        """Return the percentage of the workers' time that something in the gaps takes."""
        levers = [trial.attributes.get("levers", {}) for trial in run.trials[STUDY]]
        spent = (max(t.ended for t in run.trials[STUDY]) - run.ready) * self.workers
        return 100 * sum(seconds(e) for e in levers if e.get("gap_seconds") is not None) / spent

    def reached(self, outcomes: Sequence[Outcome]) -> str:
        """In words, what a side's runs came to."""
        shown = ", ".join(f"{_best(each):.4f}" for each in outcomes)
        count = sum(each.reach(STUDY, self.goal) is not None for each in outcomes)
        return f"{count} of {len(outcomes)} runs got there; best: {shown}"


def against_plain(on: Mixed) -> Iterator[Row]:
    """Seconds to plain Optuna's final accuracy, and of the whole study."""
    peer, theirs = "plain Optuna", on.plain
    yield Row(
        *("mixed_study", on.words, "s", on.to_goal(on.ours), peer, on.to_goal(theirs)),
        note=f"to an accuracy of {on.goal:.4f}: tunesvc: {on.reached(on.ours)}; "
        f"{peer}: {on.reached(theirs)}",
    )
    yield Row("mixed_study_whole", on.words, "s", on.total(on.ours), peer, on.total(theirs))


def against_ray(on: Mixed) -> Iterator[Row]:
    """The same beside Ray Tune; if half of its runs never get so far, their whole time counts."""
    if not (on.bench.with_ray and has_ray()):
        why = (
            "ray is not installed (pip install -e '.[bench]')" if on.bench.with_ray else "--no-ray"
        )
        yield Row("mixed_study_ray", on.words, "s", None, skipped=why)
        return
    theirs, note = on.to_goal(on.ray), f"Ray Tune: {on.reached(on.ray)}"
    if theirs is None:
        theirs = on.total(on.ray)
        note += "; it counts with all its seconds: the ratio is a lower bound"
    yield Row("mixed_study_ray", on.words, "s", on.to_goal(on.ours), "Ray Tune", theirs, note=note)
    yield Row(
        *("mixed_study_ray_whole", on.words, "s"),
        *(on.total(on.ours), "Ray Tune", on.total(on.ray)),
        note="Ray Tune's seconds to the end of its last trial that was not pruned",
    )


def gaps(on: Mixed) -> Iterator[Row]:
    """Between two trials in a worker: from one's tell to the first step of the next.

    Where the next is the first to freeze some stages, it computes their outputs for all that
    follow before its first step: work, and no part of the share, which the note tells with it.
    """
    trials = [(run, trial) for run in on.ours for trial in run.trials[STUDY]]
    levers = [trial.attributes.get("levers", {}) for _, trial in trials]
    found = [each for each in levers if each.get("gap_seconds") is not None]
    if not found:
        yield Row("gap", on.words, "ms", None, skipped="no trial carries `levers.gap_seconds`")
        return
    every = [each["gap_seconds"] for each in found]
    yield Row("gap", on.words, "ms", figure(1000 * gap for gap in every))
    idle = [on.share(run, lambda each: each["gap_seconds"] - _computing(each)) for run in on.ours]
    whole = [on.share(run, lambda each: each["gap_seconds"]) for run in on.ours]
    note = (
        f"the outputs of frozen stages that these gaps computed for all later trials left out; "
        f"with them {figure(whole)} %"
    )
    yield Row("gap_share", on.words, "% of the workers' time", figure(idle), note=note)


def _computing(levers: dict[str, Any]) -> float:
    """Return the seconds before a trial's first step in which it computed what others share."""
    return sum(each["computing"] for each in levers["frozen"] if each["from_epoch"] == 1)


def _best(outcome: Outcome) -> float:
    return max((t.value for t in outcome.trials[STUDY] if t.value is not None), default=0.0)
