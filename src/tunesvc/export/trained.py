"""The model that is exported: as a trial left it, or trained anew.

Why: 2026-11: a model that is not kept is not trained again unasked: that can take hours, and
another trial's may be kept. `--refit train` does it: the same configuration and seed, so the same
trial as far as machines compute alike.

Why: 2026-11: with train+val nothing is left to choose by, so the epochs are the trial's, and the
last model counts. The learning rate's schedule was chosen for that many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from tunesvc import interrupt
from tunesvc import study as studies
from tunesvc.errors import StorageError, StudyError
from tunesvc.export.choose import Choice
from tunesvc.export.wish import Refit
from tunesvc.exported import TrainingRun, training
from tunesvc.spec import Knobs, TrialConfig
from tunesvc.train import Placement, Run
from tunesvc.trial import Desk, kept_run, league, retention

Say = Callable[[str], None]
Start = tuple[Tensor, Tensor]  # a head's weight (C, D) and bias (C,) float32


@dataclass(frozen=True)
class Made:
    """A model, and where it comes from.

    Args:
        run: it stands after its last epoch.
        made: one trial's model; trained anew; or a mean.
        runs: one; the ingredients of a soup.
        trained_on: splits.
        starts: heads that runs began with, by the run's place, where they did not draw one.
        remark: on how it was made, for the model card and the terminal; "": as the trial left it.
    """

    run: Run
    made: Literal["trial", "refit", "soup"]
    runs: tuple[TrainingRun, ...]
    trained_on: tuple[str, ...] = ("train",)
    starts: Mapping[int, Start] = field(default_factory=dict)
    remark: str = ""

    @property
    def is_own(self) -> bool:
        """Whether it is the very model that a trial left."""
        return self.made == "trial" and not self.remark


@dataclass(frozen=True)
class Bench:
    """Where models are rebuilt and trained.

    Args:
        desk: of the study that the trial belongs to.
        say: is given a line now and then.
    """

    desk: Desk
    placement: Placement
    say: Say

    def kept(self, number: int, params: Mapping[str, Any]) -> Run | None:
        """Return a trial's run as it was kept; None where it was not."""
        label, knobs = self.desk.space.resolve(dict(params))
        self.desk.models.clear()  # its module is to be this run's alone
        return kept_run(self.desk, number, label, knobs, self.placement)

    def config(self, choice: Choice) -> tuple[str, TrialConfig]:
        """Return a trial's backbone, by its label, and its configuration."""
        label, knobs = self.desk.space.resolve(choice.trial.params)
        return label, self.desk.config(label, knobs, choice.trial.number)

    def start(self, label: str, knobs: Knobs) -> Start | None:
        """Return the head that a run began with; None where it drew one, or it is not here."""
        try:
            return league.start(self.desk, label, knobs)
        except StorageError as error:
            self.say(f"without start.safetensors, so reproduce draws the first head: {error.what}")
            return None


def as_kept(bench: Bench, choice: Choice) -> Made:
    """Return the model that a trial left.

    Raises:
        StudyError: it is not kept.
    """
    run = bench.kept(choice.trial.number, choice.trial.params)
    if run is None:
        raise not_kept(bench.desk, choice)
    entry, start = record(bench, choice, run)
    return Made(run, "trial", (entry,), starts={0: start} if start else {})


def anew(bench: Bench, choice: Choice, refit: Refit) -> Made:
    """Train a trial's configuration from its beginning.

    Raises:
        TrainingError: it diverges.
        Stopped: a signal came.
    """
    names = tuple(refit.split("+"))
    has_validation = "val" not in names
    label, config = bench.config(choice)
    if not has_validation:
        config = replace(config, evaluated=frozenset())
    start = bench.start(label, config.knobs)
    entry = _entry(choice, label, config).model_copy(update={"has_start": start is not None})
    desk = bench.desk
    run = training.prepare(
        entry, desk.study.spec.data, desk.study.base, desk.placed(config, bench.placement),
        listing=desk.listing, task=desk.task, trained_on=names, start=start, cache=desk.cache,
    )  # fmt: skip
    history = _trained(bench, run, entry, has_validation)
    entry = entry.model_copy(
        update={"history": history, "weights_sha256": run.backbone.weights_sha256}
    )
    made: Literal["trial", "refit"] = "refit" if len(names) > 1 else "trial"
    told = f"trained anew on {' and '.join(names)}: {len(run.train.targets):,} images"
    return Made(run, made, (entry,), names, {0: start} if start else {}, told)


def record(bench: Bench, choice: Choice, run: Run) -> tuple[TrainingRun, Start | None]:
    """Return what is told of a trial's run, and the head that it began with."""
    label, config = bench.config(choice)
    start = bench.start(label, config.knobs)
    entry = _entry(choice, label, config)
    known = {"has_start": start is not None, "weights_sha256": run.backbone.weights_sha256}
    return entry.model_copy(update=known), start


def not_kept(desk: Desk, choice: Choice) -> StudyError:
    """Return the error that tells which models are kept."""
    number, name = choice.trial.number, desk.study.name
    kept = retention.kept(desk.shelf, desk.study)
    there = f"trials {', '.join(map(str, kept))}" if kept else "none"
    return StudyError(
        f"the model of trial {number} of {name!r}, {choice.how}, is not here",
        f"kept in {desk.shelf.location}: {there} (the study says keep: {desk.study.spec.keep})",
        "--refit train trains it anew from its configuration; or --trial N of those that are kept",
    )


def _entry(choice: Choice, label: str, config: TrialConfig) -> TrainingRun:
    told = choice.trial.user_attrs
    return TrainingRun.of(
        choice.trial.number,
        label,
        config,
        weights_sha256="",
        history=told.get("history") or [],
        stacked=bool((told.get("levers") or {}).get("stack")),
        micro_batch=(told.get("run") or {}).get("micro_batch"),
    )


def _trained(
    bench: Bench, run: Run, entry: TrainingRun, has_validation: bool
) -> tuple[Mapping[str, Any], ...]:
    history = []
    for epoch in training.epochs(run, stacked=entry.stacked):
        interrupt.check()
        kept = epoch if has_validation else {key: epoch[key] for key in ("epoch", "train_loss")}
        history.append(kept)
        metric, _ = studies.objective(bench.desk.study.spec)
        value = f", {metric} {kept[metric]:.4f}" if metric in kept else ""
        bench.say(
            f"epoch {kept['epoch']} of {entry.epochs}: train_loss {kept['train_loss']:.4f}{value}"
        )
    return tuple(history)
