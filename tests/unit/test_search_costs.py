"""Cost-aware TPE: what a trial will cost, and what that changes of the draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from tunesvc.search import SECONDS, Memory, Tpe
from tunesvc.search.costs import MOST, log_seconds

SPACE: dict[str, BaseDistribution] = {
    "backbone": CategoricalDistribution(("small", "large")),
    "strategy": CategoricalDistribution(("probe", "full")),
    "batch_size": IntDistribution(8, 128, log=True),
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
}
EVERYWHERE = {
    "backbone": np.array([0.0, 1.0, 0.0, 1.0, 1.0]),
    "strategy": np.array([0.0, 0.0, 1.0, 1.0, 1.0]),
    "batch_size": np.array([32.0, 32.0, 32.0, 32.0, 128.0]),
    "lr": np.full(5, 1e-3),
}


def cost(backbone: float, strategy: float, batch_size: float) -> float:
    """A probe takes a second on every backbone; training ten times its operations, by batches."""
    return 1.0 if strategy == 0 else 10.0 * (1 + 3 * backbone) * (32 / batch_size) ** 0.5


def observed(count: int) -> Any:
    """Random configurations as Optuna represents them: float64 (4, count)."""
    rng = np.random.default_rng(0)
    choices = rng.integers(2, size=(2, count)).astype(float)
    return np.stack(
        [*choices, np.round(8 * 16 ** rng.random(count)), 10 ** -rng.uniform(1, 5, count)]
    )


@pytest.mark.parametrize("count", [60, 3 * MOST])
def test_seconds_are_foretold(count: int) -> None:
    """A product of effects, and one that is there in one strategy only: within a tenth."""
    seen = observed(count)
    seconds = np.array([cost(*each[:3]) for each in seen.T])
    seconds *= np.exp(np.random.default_rng(1).normal(0, 0.05, count))
    found = log_seconds(EVERYWHERE, seen, seconds, SPACE, 0.0)
    truth = np.log([1.0, 1.0, 10.0, 40.0, 20.0])
    np.testing.assert_allclose(found - found[0], truth - truth[0], atol=math.log(1.1))


@pytest.mark.parametrize("count", [0, 1, 13])
def test_of_equal_costs_there_is_nothing_to_tell(count: int) -> None:
    """Not even rounding: nothing is dearer than anything else."""
    assert not log_seconds(EVERYWHERE, observed(count), np.full(count, 0.1), SPACE, 0.0).any()


def test_what_parameters_do_not_explain_is_noise() -> None:
    """Seconds that differ by chance say nothing, however much they differ."""
    seconds = np.exp(np.random.default_rng(3).normal(0, 1, 40))
    assert not log_seconds(EVERYWHERE, observed(40), seconds, SPACE, 0.0).any()


def test_below_the_floor_nothing_is_cheap() -> None:
    """Against a floor of 100 seconds, one second and forty hardly differ."""
    seen = observed(60)
    seconds = np.array([cost(*each[:3]) for each in seen.T])
    found = log_seconds(EVERYWHERE, seen, seconds, SPACE, 100.0)
    assert found[3] - found[0] == pytest.approx(math.log(140 / 101), abs=0.05)


# ---- what is drawn

ALWAYS: dict[str, BaseDistribution] = {
    "size": CategoricalDistribution(("a", "b", "c")),
    "strategy": CategoricalDistribution(("head", "all")),
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
}
BRANCH = {"decay": FloatDistribution(0.5, 1.0, step=0.1)}
Spend = Callable[[Mapping[str, Any]], dict[str, float] | None]


def suggest(trial: optuna.Trial) -> float:
    """Draw a conditional configuration; its score does not depend on `size`."""
    params = {name: trial._suggest(name, it) for name, it in ALWAYS.items()}
    if params["strategy"] == "all":
        params |= {name: trial._suggest(name, it) for name, it in BRANCH.items()}
    return -abs(math.log10(params["lr"]) + 3) - params.get("decay", 0.7)


def drawn(spend: Spend, at_once: int = 2, trials: int = 45, seed: int = 0, **options: Any) -> Any:
    """Return what trials draw of which so many always run side by side, and every 5th is pruned.

    Args:
        spend: the trial's `seconds`, from its parameters; None: nobody measured them.
    """
    study, memory = optuna.create_study(direction="maximize"), Memory()
    running: list[tuple[optuna.Trial, float]] = []
    for number in range(trials):
        study.sampler = Tpe(1000 * seed + number, memory=memory, **options)
        trial = study.ask()
        running.append((trial, suggest(trial)))
        if len(running) == at_once:
            end(study, *running.pop(0), spend)
    return [trial.params for trial in study.trials]


def end(study: optuna.Study, trial: optuna.Trial, value: float, spend: Spend) -> None:
    seconds = spend(trial.params)
    if seconds is not None:
        trial.set_user_attr(SECONDS, seconds)
    if trial.number % 7 == 3:
        trial.set_constraint("memory", 1.0)
        study.tell(trial, state=TrialState.PRUNED)
    elif trial.number % 5 == 2:
        trial.report(value, 1)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, value)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"group": False},
    {"multivariate": False, "group": False},
    {"constant_liar": False, "n_startup_trials": 0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["groups", "joint", "independent", "no-liar"])
@pytest.mark.parametrize(
    "spend",
    [lambda _: None, lambda _: {"train": 3.0}, lambda _: {"train": math.nan}, lambda _: {}],
    ids=["unknown", "equal", "not-a-number", "nothing"],
)
def test_where_costs_decide_nothing_plain_tpe_is_drawn(
    options: dict[str, Any], spend: Spend
) -> None:
    """While they are unknown, or all the same, every draw is plain TPE's."""
    assert drawn(spend, cost_aware=True, **options) == drawn(spend, **options)


def test_measured_costs_change_nothing_unless_asked_for() -> None:
    """The default is plain TPE, whatever trials took."""
    by_size = {"a": 1.0, "b": 2.0, "c": 100.0}
    assert drawn(lambda p: {"train": by_size[p["size"]]}) == drawn(lambda _: None)


def share(size: str, seeds: int, **options: Any) -> float:
    """Return how often a size is drawn that costs twice as much as the others, and is as good."""
    found = [
        params["size"] == size
        for seed in range(seeds)
        for params in drawn(
            lambda p: {"data": 0.5, "train": 3.5 if p["size"] == size else 1.5},
            seed=seed, n_startup_trials=10, **options,
        )[12:]
    ]  # fmt: skip
    return sum(found) / len(found)


@pytest.mark.parametrize("size", ["a", "b"])
def test_of_what_is_equally_good_the_dearer_is_drawn_less(size: str) -> None:
    """Twice as dear and no better: less than three quarters as often as by plain TPE."""
    assert share(size, seeds=6, cost_aware=True) < 0.75 * share(size, seeds=6)


def test_what_is_better_is_drawn_though_it_is_dear() -> None:
    """Half as dear does not make up for what is hardly ever among the good."""
    found = [
        params
        for seed in range(4)
        for params in drawn(
            lambda p: {"train": 1.0 if p["lr"] > 1e-2 else 2.0}, seed=seed, cost_aware=True
        )[40:]
    ]
    good = [1e-4 < params["lr"] < 1e-2 for params in found]
    assert sum(good) > 0.7 * len(good)


def test_who_filled_the_memory_is_of_no_account() -> None:
    """A draw is a function of the seed and the trials seen, with costs too."""
    memory = Memory()
    for count in (15, 40):
        study = optuna.create_study(direction="maximize")
        study.add_trials(told(count))
        study.sampler = Tpe(5, cost_aware=True, memory=memory)
        first = study.ask()
        suggest(first)
        study.tell(first, state=TrialState.FAIL)
        study.sampler = Tpe(5, cost_aware=True)
        again = study.ask()
        suggest(again)
        assert again.params == first.params


def told(count: int, size: str | None = None) -> list[FrozenTrial]:
    """Return finished trials of the branch `head`, those of size `b` twice as dear."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        params = {
            "size": size or ["a", "b", "c"][rng.integers(3)],
            "strategy": "head",
            "lr": 10 ** rng.uniform(-5, -1),
        }
        attributes = {SECONDS: {"data": 0.5, "train": 3.5 if params["size"] == "b" else 1.5}}
        made.append(
            create_trial(
                params=params, distributions=ALWAYS, user_attrs=attributes,
                value=-abs(math.log10(params["lr"]) + 3),
            )
        )  # fmt: skip
    return made


def ended(state: TrialState, seconds: Any, **constraints: float) -> FrozenTrial:
    (trial,) = told(1)
    trial.state, trial.values = state, None
    trial.system_attrs = {f"constraints:{name}": by for name, by in constraints.items()}
    trial.user_attrs = {} if seconds is None else {SECONDS: seconds}
    return trial


def test_what_a_trial_teaches_of_costs() -> None:
    """All phases count, of pruned trials too; not what broke a constraint, runs, or is unknown."""
    trials = [
        *told(1),
        ended(TrialState.PRUNED, {"data": 0.25, "train": 0.5}),
        ended(TrialState.PRUNED, {"model": 0.01}, params_m=0.5),
        ended(TrialState.PRUNED, {"train": 4.0}, params_m=-0.5),
        ended(TrialState.PRUNED, None),
        ended(TrialState.PRUNED, {"train": 0.0}),
        ended(TrialState.RUNNING, {"train": 1.0}),
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    seen = Memory().look(trials, is_larger_better=True)
    assert list(seen.measured) == [0, 1, 3]
    assert list(seen.seconds[seen.measured]) == [2.0, 0.75, 4.0]
