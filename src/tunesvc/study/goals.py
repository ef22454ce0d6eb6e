"""What a study optimizes, by name and direction, and the first of a trial's values.

Why: 2026-11: wherever one number stands for a trial (the best so far, pruning, keeping, confirming,
the measures) it is the first objective, a metric. Optuna's own words for that (`trial.value`,
`study.direction`, `best_trial`) raise where a study has several objectives, so that nothing here
may use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from optuna.trial import FrozenTrial

from tunesvc import plugins
from tunesvc.errors import UnknownNameError, suggest
from tunesvc.spec import StudySpec
from tunesvc.spec.objectives import COST_NAMES, CostObjective, Objective

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Goal:
    """One objective: a metric of the task, or a cost, of which less is better."""

    name: str
    direction: Direction
    is_cost: bool = False


def objectives(spec: StudySpec) -> tuple[Goal, ...]:
    """Return what is optimized, in the order of the study file; the first is a metric.

    A file that leaves the metric at its default means the task's own default.

    Raises:
        UnknownNameError: the task has no such metric.
    """
    several = len(spec.objectives) > 1
    return tuple(
        Goal(each.cost, "minimize", is_cost=True)
        if isinstance(each, CostObjective)
        else _metric(spec, each, place, f"objective.{place}.metric" if several else "")
        for place, each in enumerate(spec.objectives)
    )


def objective(spec: StudySpec) -> tuple[str, Direction]:
    """Return the metric that is optimized, and its direction: of several objectives, the first.

    Raises:
        UnknownNameError: as `objectives`.
    """
    first = objectives(spec)[0]
    return first.name, first.direction


def first_value(trial: FrozenTrial) -> float | None:
    """Return what a trial came to by the first objective; None where it has no values."""
    return trial.values[0] if trial.values else None


def _metric(spec: StudySpec, written: Objective, place: int, key: str) -> Goal:
    task, metric = plugins.load("task", spec.task), written.metric
    if not place and metric not in task.metrics and metric == Objective().metric:
        metric = task.default_metric
    if metric not in task.metrics:
        is_cost = metric in COST_NAMES
        raise UnknownNameError(
            f"{key or 'objective.metric'}: {spec.task} has no metric {metric!r}",
            f"it is a cost: write {{cost: {metric}}}" if is_cost else suggest(metric, task.metrics),
        )
    return Goal(metric, written.direction or task.metrics[metric])
