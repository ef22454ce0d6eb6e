"""A whole study: every strategy, three backbones, TPE and successive halving, all cores.

Seconds are counted from the start of the command, imports included, on every side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from peers.job import Job

from speed.sides import Bench, Outcome, has_ray
from speed.subjects import ALL_STRATEGIES, Subject
from speed.table import Figure, Row, figure

STUDY = "mixed"


@dataclass
class Mixed:
    """The study on three sides; each is run once, when first asked for."""

    bench: Bench
    subject: Subject
    trials: int = 60
    epochs: int = 3

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
    def ours(self) -> Outcome:
        """Run by tunesvc."""
        return self.bench.ours([self.job], workers=self.workers)

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

    def to_goal(self, outcome: Outcome) -> Figure | None:
        """Return the seconds until a side was as good as plain Optuna became."""
        seconds = outcome.reach(STUDY, self.goal)
        return figure([] if seconds is None else [seconds])

    def total(self, outcome: Outcome) -> Figure | None:
        """Return the seconds until a side's last trial had ended."""
        ended = [trial.ended - outcome.launched for trial in outcome.trials[STUDY]]
        return figure([max(ended)])


def against_plain(on: Mixed) -> Iterator[Row]:
    """Seconds to plain Optuna's final accuracy, and of the whole study."""
    note = f"to an accuracy of {on.goal:.4f}; tunesvc's best: {_best(on.ours):.4f}"
    peer = "plain Optuna"
    yield Row(
        "mixed_study", on.words, "s", on.to_goal(on.ours), peer, on.to_goal(on.plain), note=note
    )
    yield Row("mixed_study_whole", on.words, "s", on.total(on.ours), peer, on.total(on.plain))


def against_ray(on: Mixed) -> Iterator[Row]:
    """The same beside Ray Tune; what never gets so far counts with all its seconds."""
    if not (on.bench.with_ray and has_ray()):
        why = (
            "ray is not installed (pip install -e '.[bench]')" if on.bench.with_ray else "--no-ray"
        )
        yield Row("mixed_study_ray", on.words, "s", None, skipped=why)
        return
    theirs, note = on.to_goal(on.ray), f"Ray Tune's best: {_best(on.ray):.4f}"
    if theirs is None:
        theirs = on.total(on.ray)
        note += "; it never got so far, and counts with all its seconds: the ratio is a lower bound"
    yield Row("mixed_study_ray", on.words, "s", on.to_goal(on.ours), "Ray Tune", theirs, note=note)
    yield Row(
        *("mixed_study_ray_whole", on.words, "s"),
        *(on.total(on.ours), "Ray Tune", on.total(on.ray)),
        note="Ray Tune's seconds to the end of its last trial that was not pruned",
    )


def gaps(on: Mixed) -> Iterator[Row]:
    """Between two trials in a worker: from one's tell to the first step of the next."""
    levers = [t.attributes.get("levers", {}) for t in on.ours.trials[STUDY]]
    found = [gap for each in levers if (gap := each.get("gap_seconds")) is not None]
    if not found:
        yield Row("gap", on.words, "ms", None, skipped="no trial carries `levers.gap_seconds`")
        return
    ended = max(trial.ended for trial in on.ours.trials[STUDY])
    spent = (ended - on.ours.ready) * on.workers
    yield Row("gap", on.words, "ms", figure(1000 * gap for gap in found))
    yield Row("gap_share", on.words, "% of the workers' time", figure([100 * sum(found) / spent]))


def _best(outcome: Outcome) -> float:
    return max((t.value for t in outcome.trials[STUDY] if t.value is not None), default=0.0)
