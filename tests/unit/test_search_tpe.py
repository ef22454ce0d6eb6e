"""Our TPE beside Optuna's: the same draws."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
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
from optuna.samplers import BaseSampler, TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import FrozenTrial, TrialState, create_trial

from tunesvc.search import Memory, Tpe
from tunesvc.search.density import log_density

ALWAYS: dict[str, BaseDistribution] = {
    "strategy": CategoricalDistribution(("head", "stage", "all")),
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "smoothing": FloatDistribution(0.0, 0.2),
    "only": CategoricalDistribution(("one",)),  # nothing to draw
}
BRANCHES: dict[str, dict[str, BaseDistribution]] = {
    "head": {},
    "stage": {
        "stages": IntDistribution(1, 5),
        "decay": FloatDistribution(0.5, 1.0, step=0.1),
    },
    "all": {
        "decay": FloatDistribution(0.5, 1.0, step=0.1),
        "hidden": IntDistribution(4, 512, log=True),
    },
}


class Plain(TPESampler):
    """Optuna's, but that a running trial counts where it is, as it does in ours."""

    def _get_params(self, trial: FrozenTrial, study: optuna.Study) -> dict[str, Any]:
        return trial.params


def suggest(trial: optuna.Trial) -> float:
    """Draw a conditional configuration; return its score."""
    params = {name: trial._suggest(name, it) for name, it in ALWAYS.items()}
    branch = BRANCHES[params["strategy"]]
    params |= {name: trial._suggest(name, it) for name, it in branch.items()}
    extra = {"head": 0.0, "stage": 0.3, "all": 0.1}[params["strategy"]]
    return extra - abs(math.log10(params["lr"]) + 3) - params["smoothing"]


def tell(study: optuna.Study, trial: optuna.Trial, value: float, rare: int) -> None:
    """End a trial in one of the ways that there are; every `rare`th one at most completes."""
    match trial.number % 11 if trial.number % rare == 0 else trial.number % 6:
        case 0 | 5:
            trial.report(value, 1 + trial.number % 3)
            study.tell(trial, state=TrialState.PRUNED)
        case 1:
            study.tell(trial, state=TrialState.PRUNED)  # before its first report
        case 2:
            trial.report(math.nan, 2)
            study.tell(trial, state=TrialState.PRUNED)
        case 3:
            study.tell(trial, state=TrialState.FAIL)
        case 4:
            trial.set_constraint("memory", 1.0)
            study.tell(trial, state=TrialState.PRUNED)
        case _:
            study.tell(trial, round(value, 1))  # many are equal


def drawn(
    make: Callable[[int], BaseSampler],
    at_once: int,
    direction: str = "maximize",
    rare: int = 1,
) -> list[dict[str, Any]]:
    """Return what 90 trials draw of which so many always run side by side."""
    study = optuna.create_study(direction=direction)
    running: list[tuple[optuna.Trial, float]] = []
    for number in range(90):
        study.sampler = make(number)
        trial = study.ask()
        running.append((trial, suggest(trial)))
        if len(running) == at_once:  # now one of the earlier, now one of the later
            tell(study, *running.pop((number * 7) % at_once), rare)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize(
    ("at_once", "direction", "rare"),
    [(1, "minimize", 1), (4, "maximize", 1), (4, "minimize", 29)],
    ids=["alone", "side-by-side", "hardly-any-completes"],
)
@pytest.mark.parametrize(
    "options",
    [
        {"multivariate": True, "group": True},
        {"multivariate": True, "group": False},
        {"multivariate": False, "group": False},
        {"multivariate": True, "group": True, "constant_liar": False, "n_ei_candidates": 5},
    ],
    ids=["groups", "joint", "independent", "no-liar"],
)
@pytest.mark.filterwarnings("ignore:Argument ``group``")
def test_the_draws_are_optunas(
    options: dict[str, Any], at_once: int, direction: str, rare: int
) -> None:
    """Trial for trial the same parameters, over all kinds of parameters and endings."""
    memory, common = Memory(), {"n_startup_trials": 8} | options
    ours = drawn(lambda seed: Tpe(seed, memory=memory, **common), at_once, direction, rare)
    assert ours == drawn(lambda seed: Plain(seed=seed, **common), at_once, direction, rare)


@pytest.mark.filterwarnings("ignore:Argument ``group``")
def test_one_sampler_for_all_trials_draws_as_optunas() -> None:
    """Used as Optuna uses its own, with one stream of random numbers, ours draws the same too."""
    ours, theirs = Tpe(3), Plain(seed=3, multivariate=True, group=True)
    assert drawn(lambda _: ours, 1) == drawn(lambda _: theirs, 1)


@pytest.mark.filterwarnings("ignore:Argument ``group``")
def test_one_after_another_the_draws_are_those_of_optuna_unchanged() -> None:
    """While no other trial runs there is nothing at all to set right in Optuna's."""
    ours = drawn(Tpe, 1)
    assert ours == drawn(lambda seed: TPESampler(seed=seed, multivariate=True, group=True), 1)


@pytest.mark.parametrize(
    "name",
    [
        "_rng",
        "_random_sampler",
        "_n_startup_trials",
        "_n_ei_candidates",
        "_constant_liar",
        "_parzen_estimator_parameters",
    ],
)
def test_what_is_taken_from_optuna_is_still_there(name: str) -> None:
    """A change of Optuna's TPESampler shows here, by name, before it shows in a study."""
    assert name in vars(TPESampler(seed=0)), f"optuna {optuna.__version__} has no TPESampler.{name}"


@pytest.mark.parametrize("trials", [0, 1, 2, 30, 3000])
def test_the_density_is_optunas(trials: int) -> None:
    """At every kind of parameter, with few trials and with many, up to rounding."""
    space = {name: it for b in (ALWAYS, *BRANCHES.values()) for name, it in b.items()}
    rng = np.random.default_rng(trials)
    observed = {name: values(it, trials, rng) for name, it in space.items()}
    points = {name: values(it, 24, rng) for name, it in space.items()}
    parameters = TPESampler()._parzen_estimator_parameters
    theirs = _ParzenEstimator(observed, space, parameters).log_pdf(points)
    ours = log_density(points, np.stack(list(observed.values())), space, parameters)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def values(distribution: BaseDistribution, count: int, rng: np.random.Generator) -> Any:
    """Return random values as Optuna represents them, the ends of the range among them."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return rng.integers(len(choices), size=count).astype(float)
        case (
            FloatDistribution(low=low, high=high, step=step)
            | IntDistribution(low=low, high=high, step=step)
        ):
            drawn = rng.choice([low, high, *rng.uniform(low, high, 8 + count // 2)], size=count)
            return drawn if step is None else low + np.round((drawn - low) / step) * step
    raise AssertionError(distribution)


def finished(count: int) -> list[FrozenTrial]:
    """Return trials that ended, with parameters of `ALWAYS`."""
    rng = np.random.default_rng(0)
    params = [
        {
            "strategy": "head",
            "lr": 10 ** rng.uniform(-5, -1),
            "smoothing": rng.uniform(0, 0.2),
            "only": "one",
        }
        for _ in range(count)
    ]
    return [
        create_trial(params=p, distributions=ALWAYS, value=-abs(math.log10(p["lr"]) + 3))
        for p in params
    ]


def study_of(trials: list[FrozenTrial]) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return study


def draw(study: optuna.Study, memory: Memory | None, seed: int = 0) -> Mapping[str, Any]:
    study.sampler = Tpe(seed, memory=memory)
    trial = study.ask()
    suggest(trial)
    study.tell(trial, state=TrialState.FAIL)
    return trial.params


def test_memory_changes_nothing_and_reads_a_trial_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without one, and whoever filled it: the same draws; old trials are not read again."""
    study, memory, read = study_of(finished(60)), Memory(), []
    first = draw(study, memory)
    real = Memory._read
    monkeypatch.setattr(Memory, "_read", lambda self, t: (read.append(t.number), real(self, t)))
    assert draw(study, memory) == first
    assert read == [61]  # the trial itself, which runs
    assert draw(study, None) == first


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_good_and_other_trials_are_told_apart_as_by_optuna(direction: str) -> None:
    """Of any mixture of complete, pruned, infeasible and running trials, any number of good."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        study = optuna.create_study(direction=direction)
        study.add_trials(ended(rng) for _ in range(rng.integers(0, 12)))
        study.ask()
        seen = Memory().look(study.trials, is_larger_better=direction == "maximize")
        for count in range(len(study.trials) + 2):
            split = seen.split(count)
            theirs = _split_trials(study, study.trials, count)
            ours = (seen.rows[split.good], seen.rows[split.others])
            for mine, other in zip(ours, theirs, strict=True):
                assert list(mine) == [trial.number for trial in other]


def ended(rng: np.random.Generator) -> FrozenTrial:
    """Return a trial that ended in some way, with few different values."""
    value = float(rng.choice([0.1, 0.2, math.inf, -math.inf, math.nan]))
    steps = dict.fromkeys(range(1, rng.integers(1, 4)), value)
    attributes = {"constraints:memory": float(rng.integers(1, 3))} if rng.random() < 0.3 else {}
    if rng.random() < 0.4 and not math.isnan(value):
        return create_trial(value=value, system_attrs=attributes)
    return create_trial(state=TrialState.PRUNED, intermediate_values=steps, system_attrs=attributes)


def test_trials_put_back_are_read_anew() -> None:
    """Where the storage hands out another object for a number, that one counts."""
    before, memory = finished(60), Memory()
    draw(study_of(before), memory)
    after = [
        create_trial(
            params=t.params | {"smoothing": t.params["lr"]},
            distributions=ALWAYS,
            value=-t.value,
        )
        for t in before
    ]
    assert draw(study_of(after), memory) == draw(study_of(after), None)
    assert draw(study_of(after), memory) != draw(study_of(before), memory)


def test_the_order_in_which_trials_became_known_is_of_no_account() -> None:
    """A worker that met a branch early draws what one draws that met it late."""
    head, memory = finished(60), Memory()
    space = ALWAYS | BRANCHES["stage"]
    stages = [
        create_trial(
            params=t.params | {"strategy": "stage", "stages": 1 + i % 5, "decay": 0.5},
            distributions=space,
            value=t.value,
        )
        for i, t in enumerate(head)
    ]
    study = study_of([*stages, *head])
    memory.look(study.trials[60:], is_larger_better=True)
    assert draw(study, memory) == draw(study, None)
    assert [set(it) for it in memory.look(study.trials[:120], is_larger_better=True).spaces()] == [
        set(space),
        set(ALWAYS),
    ]


def test_one_thread_at_a_time_fills_a_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one reads trials, the others wait."""
    inside, most = [], []
    real = Memory._read

    def read(self: Memory, trial: FrozenTrial) -> None:
        inside.append(trial)
        most.append(len(inside))
        time.sleep(0.001)
        real(self, trial)
        inside.remove(trial)

    monkeypatch.setattr(Memory, "_read", read)
    memory, trials = Memory(), study_of(finished(20)).trials
    look = partial(memory.look, trials, is_larger_better=True)
    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


def test_threads_share_a_memory() -> None:
    """Trials drawn in several threads at a time are those drawn one after another."""
    memory, trials, got = Memory(), finished(300), {}

    def work(seed: int) -> None:
        got[seed] = [draw(study_of(trials[:size]), memory, seed) for size in (50, 150, 300)]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = {
        seed: [draw(study_of(trials[:size]), None, seed) for size in (50, 150, 300)]
        for seed in range(4)
    }
    assert got == alone


def test_a_draw_writes_nothing_but_parameters() -> None:
    """No attribute of the trial tells others what will be stored at once anyway."""
    study = study_of(finished(30))
    draw(study, None)
    assert study.trials[-1].system_attrs == {}
