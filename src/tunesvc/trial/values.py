"""What a trial comes to by each objective of its study.

Why: 2026-11: a trial that has trained is not to lose what it has reached because a cost beside it
is not known. So what can be known before its first epoch is looked at before it (`check_known`):
a model that cannot be counted fails there, and costs nothing. A machine that measures no latency
(`TUNESVC_LATENCY=off`) does not take trials of a study that wants it. What is
left to fail at the end is a trial whose time or memory nobody measured.

Why: 2026-11: a pruned trial has no values in Optuna where a study has several objectives, and
Optuna's TPESampler raises there once one is pruned. What it had reached, with its known costs, is
stored beside, for our sampler (`search.several`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from tunesvc.errors import TrainingError
from tunesvc.search import REACHED
from tunesvc.study import Goal, quantity
from tunesvc.trial import accounts, costs, facts

if TYPE_CHECKING:
    from tunesvc.trial.attempt import Attempt

_LATE = {"train_memory_mb", "epoch_seconds", "seconds"}  # not known before the first epoch


def check_known(goals: Iterable[Goal], label: str, run: Mapping[str, Any]) -> None:
    """Make sure, before the first epoch, that a model's costs among the objectives are known.

    Args:
        label: of the backbone.
        run: as the trial stores it.

    Raises:
        TrainingError: one is not.
    """
    early = (goal.name for goal in goals if goal.is_cost and goal.name not in _LATE)
    missing = [name for name in early if quantity(name, {"run": run}) is None]
    if missing:
        raise TrainingError(
            f"objective {missing[0]} cannot be measured of {label}",
            "the model does not run on torch's meta device, or not on one image alone",
            f"leave {label} out of the backbones, or {missing[0]} out of the objectives",
        )


def settled(
    attempt: Attempt, state: TrialState, reason: str
) -> tuple[TrialState, list[float], str]:
    """Return how a trial ends whose training is over, what it came to, and why it ends so.

    The values are those of the objectives, in their order; none unless it is complete.
    """
    if state is not TrialState.COMPLETE:
        return state, [], reason
    goals = attempt.desk.goals
    if any(goal.name.startswith("latency_") for goal in goals):
        _measure_again(attempt)
    found = dict(zip((goal.name for goal in goals), _values(attempt, attempt.history), strict=True))
    known = {name: value for name, value in found.items() if value is not None}
    if missing := found.keys() - known.keys():
        why = f"{', '.join(sorted(missing))} could not be measured"
        attempt.reports.say({"failure": why})
        return TrialState.FAIL, [], why
    for name, value in known.items():
        if not isfinite(value):
            return TrialState.PRUNED, [], f"{name} is {value} after the last epoch"
    return state, list(known.values()), reason


def _measure_again(attempt: Attempt) -> None:
    """Have a latency that other work disturbed measured once more, now that the trial has trained.

    Why: 2026-11: what a trial is told stays, and equal nets are to have equal costs. With workers
    on every core the first measurement was seen to be 500 times too long.
    """
    run, training = attempt.reports.known().get("run") or {}, attempt.training
    if training is None or (run.get("latency") or {"quiet": True})["quiet"]:
        return
    with attempt.watched(is_training=False):
        own, cache = facts.key(training.config.backbone, training.backbone), attempt.desk.cache
        again = costs.latency_again(run["latency"], own, training, cache)
    attempt.reports.say({"run": run | {"latency": again}})


def note_reached(attempt: Attempt) -> None:
    """Have the trial's end store what a pruned trial had reached, where it has no values itself.

    Not of one that has diverged: it would look as good as it once was.
    """
    desk = attempt.desk
    seen = [each for each in attempt.history if desk.metric in each]
    if len(desk.goals) == 1 or not seen or attempt.diverged is not None:
        return
    values = _values(attempt, seen)
    for place, goal in enumerate(desk.goals):
        if goal.name == "seconds" and (value := values[place]) is not None:
            values[place] = value * desk.study.spec.budget.epochs / len(attempt.history)
    if all(value is not None and isfinite(value) for value in values):
        number = attempt.lease.trial_id
        attempt.reports.storage.set_trial_system_attr(number, REACHED, values)


def _values(attempt: Attempt, history: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Return every objective after the last of these epochs; None where it is not known."""
    goals = attempt.desk.goals
    known = accounts.known(attempt) if any(goal.is_cost for goal in goals) else {}
    last = history[-1]
    return [quantity(goal.name, known) if goal.is_cost else last.get(goal.name) for goal in goals]
