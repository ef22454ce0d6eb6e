"""What a study has found so far: the best configuration, its metrics, backbone × strategy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tunesvc import plugins
from tunesvc import study as studies
from tunesvc.analysis.pareto_set import ParetoSet, pareto_sets
from tunesvc.analysis.strategy_table import Cell, strategy_table
from tunesvc.results.trials import trials
from tunesvc.spec import Knobs
from tunesvc.study import Nearest, Probed, Status, Study


@dataclass(frozen=True)
class Results:
    """A study's outcome."""

    status: Status
    knobs: dict[str, Any]  # of the best trial: every one that acts in it, tuned or not
    validation: dict[str, float]  # every metric of the best trial after its last epoch
    test: dict[str, float] | None  # of the same model, once scored
    untuned: tuple[int, float] | None  # number and value of its backbone's default trial
    table: tuple[Cell, ...]
    league: tuple[Probed, ...]  # a linear probe of each backbone, best first
    nearest: Nearest | None = None  # to its constraints, where no trial that has ended keeps them
    pareto: tuple[ParetoSet, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as `tunesvc best --json` prints it."""
        best = self.status.best
        return {
            "study": self.status.study,
            "metric": self.status.metric,
            "direction": self.status.direction,
            "best": None if best is None else asdict(best),
            "knobs": self.knobs,
            "validation": self.validation,
            "test": self.test,
            "untuned": self.untuned and {"trial": self.untuned[0], "value": self.untuned[1]},
            "strategies": [asdict(row) for row in self.table],
            "league": [asdict(entry) for entry in self.league],
            "pareto": [each.as_json() for each in self.pareto],
            "nearest": None if self.nearest is None else asdict(self.nearest),
        }


def results(study: Study) -> Results:
    """Read a study's outcome; sensible at any time, also before the first trial has ended."""
    status = studies.status(study)
    ended = trials(study)
    table, unbeaten = strategy_table(ended), pareto_sets(ended)
    if status.best is None:
        nearest = studies.nearest(study) if status.none_fits else None
        return Results(status, {}, {}, None, None, table, _league(study), nearest)
    found = study.optuna().get_trials(deepcopy=False)
    best = found[status.best.trial]
    return Results(
        status,
        Knobs.model_validate(best.user_attrs["run"]["knobs"]).acting(),
        _metrics(best, set(plugins.load("task", study.spec.task).metrics)),
        studies.test_metrics(study, best.number),
        _untuned(best, found),
        table,
        _league(study),
        pareto=unbeaten,
    )


def pareto(study: Study) -> tuple[ParetoSet, ...]:
    """Return the trials that no other beats, in what the study weighs against each other."""
    return pareto_sets(trials(study))


def _league(study: Study) -> tuple[Probed, ...]:
    metric, direction = studies.objective(study.spec)
    sign = -1 if direction == "maximize" else 1

    def place(entry: Probed) -> float:
        return sign * entry.metrics[metric] if metric in entry.metrics else inf

    return tuple(sorted(studies.league(study).values(), key=place))


def _untuned(best: FrozenTrial, found: list[FrozenTrial]) -> tuple[int, float] | None:
    """Return number and value of the default trial of the best one's backbone."""
    label = best.user_attrs["run"]["backbone"]
    for trial in found:
        if trial.user_attrs.get("default") == label and trial.state is TrialState.COMPLETE:
            return trial.number, studies.first_value(trial) or 0.0
    return None


def _metrics(trial: FrozenTrial, known: set[str]) -> dict[str, float]:
    last = trial.user_attrs["history"][-1]
    return {name: value for name, value in last.items() if name in known}
