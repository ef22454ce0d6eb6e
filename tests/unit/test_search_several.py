"""TPE for several objectives: beside Optuna's, and what it makes of pruned trials."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from tunesvc.search import REACHED, Asha, Median, sampler
from tunesvc.search import drawn as drawn_by
from tunesvc.search.several import SeveralTpe
from tunesvc.spec import StudySpec

Ways = dict[str, dict[str, BaseDistribution]]

WAYS: Ways = {
    "small": {"lr": FloatDistribution(1e-5, 1e-1, log=True)},
    "large": {
        "lr": FloatDistribution(1e-5, 1e-1, log=True),
        "decay": FloatDistribution(0.0, 1.0),
    },
}
TOWARDS = ("maximize", "minimize", "minimize")


class Plain(TPESampler):
    """Optuna's, but that a running trial counts where it is, as it does in ours."""

    def _get_params(self, trial: FrozenTrial, study: optuna.Study) -> dict[str, Any]:
        return trial.params


def suggest(trial: optuna.Trial) -> tuple[float, ...]:
    """Draw a conditional configuration; return what it comes to: three objectives."""
    way = trial._suggest("way", CategoricalDistribution(tuple(WAYS)))
    params = {name: trial._suggest(name, it) for name, it in WAYS[way].items()}
    score = -abs(math.log10(params["lr"]) + 3) - params.get("decay", 0.6)
    cost = round(1.0 + 3 * (way == "large"), 1)
    return round(score, 1), cost, round(params["lr"], 3)


Tell = Callable[[optuna.Study, optuna.Trial, tuple[float, ...]], None]


def as_it_is(study: optuna.Study, trial: optuna.Trial, values: tuple[float, ...]) -> None:
    """Tell a pruned trial as our workers do: without values, with what it had reached."""
    storage, number = study._storage, trial._trial_id
    storage.set_trial_intermediate_value(number, 2, values[0])
    storage.set_trial_system_attr(number, REACHED, list(values))
    storage.set_trial_state_values(number, TrialState.PRUNED)


def as_finished(study: optuna.Study, trial: optuna.Trial, values: tuple[float, ...]) -> None:
    """Tell it as if it had come to its end."""
    study.tell(trial, values)


def as_unknown(study: optuna.Study, trial: optuna.Trial, values: tuple[float, ...]) -> None:
    """Tell a pruned trial of which nothing is known."""
    study.tell(trial, state=TrialState.PRUNED)


def drawn(
    make: Callable[[int], BaseSampler], count: int, at_once: int, prune: Tell
) -> list[dict[str, Any]]:
    """Return what 70 trials draw of which so many always run side by side."""
    study = optuna.create_study(directions=TOWARDS[:count])
    running: list[tuple[optuna.Trial, tuple[float, ...]]] = []
    for number in range(70):
        study.sampler = make(number)
        trial = study.ask()
        running.append((trial, suggest(trial)[:count]))
        if len(running) < at_once:
            continue
        ended, values = running.pop((number * 7) % at_once)
        if ended.number % 4 == 1:
            prune(study, ended, values)
        elif ended.number % 9 == 2:
            study.tell(ended, state=TrialState.FAIL)
        elif ended.number % 9 == 5:
            ended.set_constraint("latency_ms", 0.1 * ended.number)
            study.tell(ended, state=TrialState.PRUNED)
        else:
            study.tell(ended, values)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize(
    "options",
    [
        {"multivariate": True, "group": True},
        {"multivariate": True, "group": False},
        {"multivariate": False, "group": False, "constant_liar": False},
    ],
    ids=["groups", "joint", "independent"],
)
@pytest.mark.parametrize(("count", "at_once"), [(2, 1), (2, 4), (3, 4)])
@pytest.mark.filterwarnings("ignore:Argument ``group``")
def test_the_draws_are_optunas(options: dict[str, Any], count: int, at_once: int) -> None:
    """For two and for three objectives, with trials of every end that Optuna can bear."""
    ours = drawn(lambda n: SeveralTpe(n, **options), count, at_once, as_unknown)
    optunas = drawn(lambda n: Plain(seed=n, **options), count, at_once, as_unknown)
    assert ours == optunas


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_pruned_trial_counts_with_what_it_had_reached(at_once: int) -> None:
    """The draws are those of a study whose pruned trials had ended with these values."""
    told = drawn(SeveralTpe, 2, at_once, as_it_is)
    assert told == drawn(SeveralTpe, 2, at_once, as_finished)
    assert told != drawn(SeveralTpe, 2, at_once, as_unknown)


def test_optunas_own_does_not_bear_a_pruned_trial() -> None:
    """Why there is one of ours; once this passes no more, there need not be."""
    study = optuna.create_study(directions=TOWARDS[:2], sampler=TPESampler(n_startup_trials=0))
    for prune in (as_finished, as_it_is):
        trial = study.ask()
        prune(study, trial, suggest(trial)[:2])
    with pytest.raises(RuntimeError, match="single direction"):
        suggest(study.ask())


def test_what_is_not_a_number_was_not_reached() -> None:
    """Such a trial counts as one of which nothing is known."""

    def diverged(study: optuna.Study, trial: optuna.Trial, values: tuple[float, ...]) -> None:
        as_it_is(study, trial, (math.inf, *values[1:]))

    assert drawn(SeveralTpe, 2, 1, diverged) == drawn(SeveralTpe, 2, 1, as_unknown)


@pytest.mark.filterwarnings("ignore:Argument ``group``")
def test_every_good_trial_weighs_the_same() -> None:
    """Also where there are more of them than Optuna weighs alike with one objective."""
    study = optuna.create_study(directions=TOWARDS[:2])
    chance = optuna.samplers.RandomSampler(seed=0)
    study.sampler = chance
    for _ in range(400):
        trial = study.ask()
        study.tell(trial, suggest(trial)[:2])
    told = []
    for made in (SeveralTpe(3), Plain(seed=3, multivariate=True, group=True)):
        study.sampler = made
        trial = study.ask()
        suggest(trial)
        told.append(trial.params)
        study.tell(trial, state=TrialState.FAIL)
    assert told[0] == told[1]


@pytest.mark.parametrize("kind", ["tpe", "gp", "random", "qmc", "grid"])
def test_every_sampler_that_the_spec_lets_through_draws(kind: str) -> None:
    """Beside finished, pruned and running trials, under every pruner's way of looking."""
    spec = StudySpec.model_validate(
        {
            "name": "both",
            "data": {"kind": "digits"},
            "backbones": ["tiny_resnet"],
            "search_space": {"lr": [1e-3, 1e-2], "weight_decay": [0.0, 0.1]},
            "objective": ["accuracy", {"cost": "params_m"}],
            "sampler": {"kind": kind} | ({"n_startup_trials": 3} if kind in ("tpe", "gp") else {}),
            "pruner": "hyperband",
        }
    )
    study = optuna.create_study(study_name=spec.name, directions=TOWARDS[:2])  # brackets hang on it
    for number in range(24):
        study.sampler = sampler(spec, number)
        trial = study.ask()
        values = suggest(trial)[:2]
        (as_it_is if number % 4 == 1 else as_finished)(study, trial, values)
    assert drawn_by(trial) == ("random" if kind in ("random", "grid") else "sampler")


def test_pruners_go_by_the_first_direction() -> None:
    """Whichever the others are."""
    for towards, is_poor in (("maximize", True), ("minimize", False)):
        study = optuna.create_study(directions=[towards, "minimize"])
        trials = []
        for value in (0.9, 0.8, 0.7, 0.1):
            trials.append(study.ask())
            study._storage.set_trial_intermediate_value(trials[-1]._trial_id, 1, value)
        last = study._storage.get_trial(trials[-1]._trial_id)
        assert Asha(1, 2).prune(study, last) is is_poor
        for trial in trials[:3]:
            study.tell(trial, [0.5, 1.0])
        assert Median(1, 0, 1).prune(study, last) is is_poor
