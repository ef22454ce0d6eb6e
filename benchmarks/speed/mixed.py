"""A whole study: every strategy, three backbones, TPE and successive halving, all cores.

Seconds are counted from the start of the command, imports included, on every side. Which images a
study names rightly in the end hangs on its seed: tunesvc's is run with several, and each of them
has to reach what the peer's one run reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from peers.job import Job

from speed.sides import Bench, Outcome, has_ray
from speed.subjects import ALL_STRATEGIES, Subject
from speed.table import Figure, Row, figure

STUDY = "mixed"


@dataclass
class Mixed:
    """The study on three sides, each run when first asked for; tunesvc's with several seeds."""

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

    @cached_property
    def ours(self) -> list[Outcome]:
        """Run by tunesvc, with one seed after the other."""
        jobs = [replace(self.job, seed=seed) for seed in range(self.seeds)]
        return [self.bench.ours([job], workers=self.workers) for job in jobs]

    @cached_property
    def plain(self) -> Outcome:
        """Run by plain Optuna."""
        return self.bench.plain([self.job], workers=self.workers)

    @cached_property
    def ray(self) -> Outcome:
        """Run by Ray Tune."""
        return self.bench.ray([self.job])

    @property
    def goal(self) -> float:
        """Plain Optuna's final accuracy."""
        return max(t.value for t in self.plain.trials[STUDY] if t.value is not None)

    def to_goal(self, outcomes: Sequence[Outcome]) -> Figure | None:
        """Return the seconds until a side was as good as plain Optuna became.

        The median of its runs, of which those that did not get there count as the slowest; None
        where those are the half.
        """
        seconds = sorted(s for o in outcomes if (s := o.reach(STUDY, self.goal)) is not None)
        if 2 * len(seconds) <= len(outcomes):
            return None
        median = seconds[(len(outcomes) - 1) // 2]
        return Figure(median, seconds[0], seconds[-1], len(seconds))

    def total(self, outcomes: Sequence[Outcome]) -> Figure | None:
        """Return the seconds until a side's last trial had ended."""
        return figure(max(t.ended for t in o.trials[STUDY]) - o.launched for o in outcomes)

    def share(self, run: Outcome, seconds: Callable[[dict[str, Any]], float]) -> float:
        """Return the percentage of the workers' time that something in the gaps takes."""
        levers = [trial.attributes.get("levers", {}) for trial in run.trials[STUDY]]
        spent = (max(t.ended for t in run.trials[STUDY]) - run.ready) * self.workers
        return 100 * sum(seconds(e) for e in levers if e.get("gap_seconds") is not None) / spent

    @property
    def reached(self) -> str:
        """In words, how many of tunesvc's runs became as good as plain Optuna."""
        best = [_best(run) for run in self.ours]
        shown = ", ".join(f"{each:.4f}" for each in best)
        count = sum(run.reach(STUDY, self.goal) is not None for run in self.ours)
        return f"to an accuracy of {self.goal:.4f}: {count} of {len(best)} seeds; best: {shown}"


def against_plain(on: Mixed) -> Iterator[Row]:
    """Seconds to plain Optuna's final accuracy, and of the whole study."""
    peer, theirs = "plain Optuna", [on.plain]
    yield Row(
        *("mixed_study", on.words, "s", on.to_goal(on.ours), peer, on.to_goal(theirs)),
        note=on.reached,
    )
    yield Row("mixed_study_whole", on.words, "s", on.total(on.ours), peer, on.total(theirs))


def against_ray(on: Mixed) -> Iterator[Row]:
    """The same beside Ray Tune; what never gets so far counts with all its seconds."""
    if not (on.bench.with_ray and has_ray()):
        why = (
            "ray is not installed (pip install -e '.[bench]')" if on.bench.with_ray else "--no-ray"
        )
        yield Row("mixed_study_ray", on.words, "s", None, skipped=why)
        return
    theirs, note = on.to_goal([on.ray]), f"Ray Tune's best: {_best(on.ray):.4f}"
    if theirs is None:
        theirs = on.total([on.ray])
        note += "; it never got so far, and counts with all its seconds: the ratio is a lower bound"
    yield Row("mixed_study_ray", on.words, "s", on.to_goal(on.ours), "Ray Tune", theirs, note=note)
    yield Row(
        *("mixed_study_ray_whole", on.words, "s"),
        *(on.total(on.ours), "Ray Tune", on.total([on.ray])),
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
