"""Both samplers on the table: what they draw is looked up, in the seconds that it really took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from costs.running import Ran
from tunesvc import search
from tunesvc.space import build
from tunesvc.spec import StudySpec, derive_seed

BETWEEN = 0.02  # seconds from one trial to the next
MOST = 200  # trials; whoever draws cheap ones only has seen most of the table by then


@dataclass(frozen=True)
class Lookup:
    """The configuration of the table that is nearest to one that was drawn: of those with the same
    choices, the one whose rate is nearest on a logarithmic scale.
    """

    rows: Mapping[tuple[Any, ...], Sequence[Ran]]

    @classmethod
    def of(cls, rows: Sequence[Ran]) -> Lookup:
        """Return it for these rows."""
        sorted_by: dict[tuple[Any, ...], list[Ran]] = {}
        for row in rows:
            for known in _keys(row.params):
                sorted_by.setdefault(known, []).append(row)
        return cls(sorted_by)

    def nearest(self, params: Mapping[str, Any]) -> Ran:
        """Return the nearest row: alike in all choices, or in as many as any row is."""
        known = next(self.rows[key] for key in _keys(params) if key in self.rows)
        rate = math.log(params["lr"])
        return min(known, key=lambda row: abs(math.log(row.params["lr"]) - rate))


def _keys(params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return what must be alike, from everything to backbone and strategy alone."""
    order = ["backbone", "strategy", "freeze_fraction", "body_lr_multiplier", "batch_size"]
    values = [params.get(name) for name in order]
    return [(count, *values[:count]) for count in range(len(order), 1, -1)]


def replay(
    lookup: Lookup, spec: StudySpec, seed: int, seconds: float, *, cost_aware: bool
) -> list[tuple[float, float]]:
    """Return (seconds, value) of every complete trial that one worker ends in so many seconds.

    As a worker does it: the untuned defaults first, the next trial drawn while one runs. Both
    samplers begin with the same random trials.
    """
    space, memory, pruner = build(spec), search.Memory(), search.pruner(spec)
    study = optuna.create_study(direction="maximize", pruner=pruner, study_name=spec.name)
    for params in space.defaults():
        study.enqueue_trial(params)
    now, told = 0.0, []

    def draw(number: int) -> optuna.Trial:
        own = derive_seed(str(seed), number)
        study.sampler = search.Tpe(own, cost_aware=cost_aware, memory=memory)
        trial = study.ask()
        space.suggest(trial)
        return trial

    drawn = draw(0)
    for number in range(1, MOST):
        running, drawn = drawn, draw(number)
        now, value = _run(study, running, lookup.nearest(running.params), now)
        if now > seconds:
            break
        if value is not None:
            told.append((now, value))
    return told


def _run(
    study: optuna.Study, trial: optuna.Trial, row: Ran, now: float
) -> tuple[float, float | None]:
    """Report what the row tells, until its end or the pruner's; return when, and its value."""
    spent = row.before
    for epoch, (value, seconds) in enumerate(row.epochs, start=1):
        spent += seconds
        trial.report(value, epoch)
        if epoch < len(row.epochs) and trial.should_prune():
            trial.set_user_attr(search.SECONDS, {"train": spent})
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return now + spent + BETWEEN, None
    trial.set_user_attr(search.SECONDS, {"train": spent})
    study.tell(trial, row.epochs[-1][0])
    return now + spent + BETWEEN, row.epochs[-1][0]
