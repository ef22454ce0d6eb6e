"""Samplers and pruners, on real studies in memory."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest

from tunesvc import search
from tunesvc.search.hyperband import Brackets
from tunesvc.space import Space, build
from tunesvc.spec import Knobs, StudySpec

KINDS = ("tpe", "random", "gp", "cmaes", "grid", "qmc")
MIXED = ["resnet18", "mobilenet_v2", "vit_b_16", {"name": "tiny_resnet", "weights": "none"}]
PLAIN = {"strategy": "full", "lr": {"low": 1e-5, "high": 1e-1, "log": True}, "warmup": [0.0, 0.1]}


def spec(**changes: Any) -> StudySpec:
    value = {"name": "t", "data": "digits", "backbones": MIXED} | changes
    return StudySpec.model_validate(value)


@pytest.fixture
def noise() -> Iterator[list[str]]:
    """What Optuna logs as a warning or worse."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logging.getLogger("optuna").addHandler(listener)
    yield said
    logging.getLogger("optuna").removeHandler(listener)


def value(label: str, knobs: Knobs) -> float:
    return -abs(knobs.lr - 1e-3) - knobs.weight_decay - (label == "vit_b_16")


def run(study_spec: StudySpec, trials: int, at_once: int = 2) -> tuple[Space, optuna.Study]:
    """Run a toy study in which some trials always run side by side and every fifth is pruned."""
    space = build(study_spec)
    study = optuna.create_study(study_name=study_spec.name, direction="maximize")
    for params in space.defaults():
        study.enqueue_trial(params)
    for first in range(0, trials, at_once):
        asked = []
        for number in range(first, first + at_once):
            study.sampler = search.sampler(study_spec, number)
            trial = study.ask()
            asked.append((trial, space.suggest(trial)))
        for trial, (label, knobs) in asked:
            trial.report(value(label, knobs), 1)
            if trial.number % 5 == 4:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                study.tell(trial, value(label, knobs))
    return space, study


@pytest.mark.parametrize("kind", KINDS)
def test_every_sampler_works_silently_in_a_conditional_space(kind: str, noise: list[str]) -> None:
    """Sixty trials in the ready space: all valid, nothing missing, no warning, no log line."""
    space, study = run(spec(sampler=kind), 24 if kind == "gp" else 60)
    distributions = {p.name: p.distribution for p in space.parameters}
    for trial in study.trials:
        space.resolve(trial.params)
        assert trial.distributions == {name: distributions[name] for name in trial.params}
    assert noise == []


def test_the_first_trials_side_by_side_are_silent_too(noise: list[str]) -> None:
    """QMC has nothing to say about conditions while no trial has ended."""
    study_spec = spec(sampler="qmc")
    space, study = build(study_spec), optuna.create_study()
    for number in range(8):
        study.sampler = search.sampler(study_spec, number)
        space.suggest(study.ask())
    assert noise == []


@pytest.mark.parametrize("kind", ["tpe", "gp", "cmaes"])
def test_samplers_that_learn_beat_random_draws(kind: str) -> None:
    """In a plain space the later half of the trials comes nearer to the optimum."""

    def late(sampler: str) -> float:
        """Return the median distance of the last trials from the best rate, in log10 units."""
        study_spec = spec(backbones=["resnet18"], sampler=sampler, search_space=PLAIN)
        space, study = run(study_spec, 40, at_once=1)
        rates = [space.resolve(t.params)[1].lr for t in study.trials[20:]]
        return sorted(abs(rate - 1e-3) for rate in rates)[10]

    assert late(kind) < late("random")


def test_a_trial_number_draws_the_same_whoever_asks() -> None:
    """Two storages, the second asked in reverse by other objects: same number, same parameters."""
    study_spec = spec(sampler="random")
    space = build(study_spec)

    def draw(number: int) -> dict[str, Any]:
        study = optuna.create_study(sampler=search.sampler(study_spec, number))
        trial = study.ask()
        space.suggest(trial)
        return trial.params

    forwards = [draw(number) for number in range(10)]
    assert forwards == [draw(number) for number in reversed(range(10))][::-1]
    assert len({str(params) for params in forwards}) == 10


@pytest.mark.parametrize("kind", ["random", "tpe", "qmc", "cmaes"])
def test_a_study_is_the_same_twice(kind: str) -> None:
    """The same file gives the same trials, and another seed gives others."""
    first, again, other = (
        [t.params for t in run(spec(sampler=kind, seed=seed), 30)[1].trials] for seed in (0, 0, 1)
    )
    assert first == again
    assert first[4:] != other[4:]


def test_tpe_without_multivariate_has_no_groups() -> None:
    """`multivariate: false` alone is a valid file: groups need the joint model."""
    study_spec = spec(sampler={"kind": "tpe", "multivariate": False})
    run(study_spec, 20)
    assert study_spec.sampler.group


def test_cmaes_takes_its_step_size(noise: list[str]) -> None:
    """sigma0 reaches the sampler without Optuna's deprecation notice."""
    sampler = search.sampler(spec(sampler={"kind": "cmaes", "sigma0": 0.3}), 0)
    assert sampler._sigma0 == 0.3


@pytest.mark.parametrize(
    ("pruner", "steps"),
    [
        ("asha", 1),  # the worst of nine stops at the first rung, epoch 1
        ({"kind": "asha", "min_resource": 2}, 2),
        ({"kind": "asha", "min_early_stopping_rate": 1}, 3),  # 1 × 3¹
        ({"kind": "asha", "reduction_factor": 2, "min_early_stopping_rate": 2}, 4),  # 1 × 2²
        ({"kind": "hyperband", "min_resource": 9}, 9),  # one bracket when it equals the budget
        ({"kind": "median", "n_warmup_steps": 4}, 4),
        ({"kind": "median", "n_startup_trials": 99}, None),
        ("none", None),
    ],
)
def test_pruners_stop_a_bad_trial_when_they_say(pruner: Any, steps: int | None) -> None:
    """After nine good trials a bad one stops at the pruner's first decision."""
    study_spec = spec(pruner=pruner, budget={"epochs": 9})
    study = optuna.create_study(direction="maximize", pruner=search.pruner(study_spec))

    def stopped(accuracy: float) -> int | None:
        trial = study.ask()
        for epoch in range(1, 10):
            trial.report(accuracy, epoch)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                return epoch
        study.tell(trial, accuracy)
        return None

    assert [stopped(0.5 + i / 100) for i in range(9)] == [None] * 9
    assert stopped(0.1) == steps


def test_hyperband_knows_the_budget() -> None:
    """Its brackets follow from the epochs per trial, not from a first trial that completes."""
    study_spec = spec(pruner="hyperband", budget={"epochs": 27})
    for part in (search.pruner(study_spec), search.sampler(study_spec, 0)):
        assert part.brackets == Brackets(1, 27, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_hyperband_works_with_every_sampler(kind: str, noise: list[str]) -> None:
    """Each draws in its brackets, without a word."""
    space, study = run(spec(sampler=kind, pruner="hyperband"), 24)
    for trial in study.trials:
        space.resolve(trial.params)
    assert noise == []


@pytest.mark.parametrize(
    ("sampler", "number", "together"),
    [
        ("random", 0, 16),
        ("random", 999, 16),
        ("qmc", 7, 16),
        ("grid", 7, 16),
        ("tpe", 0, 10),  # ten at random
        ("tpe", 8, 2),
        ("tpe", 10, 1),
        ({"kind": "tpe", "batch_size": 4}, 10, 4),
        ({"kind": "tpe", "batch_size": 64}, 10, 16),  # what the stack holds
        ({"kind": "tpe", "batch_size": 4, "n_startup_trials": 40}, 3, 16),
        ({"kind": "gp", "batch_size": 4}, 9, 1),  # the last at random
        ({"kind": "gp", "batch_size": 4}, 10, 4),
        ("cmaes", 2, 3),
        ("cmaes", 5, 1),
    ],
)
def test_how_many_are_drawn_together(sampler: Any, number: int, together: int) -> None:
    """As many as need no results of each other, or as the study file allows."""
    assert search.together(spec(sampler=sampler), number, 16) == together


def test_at_least_one_is_drawn() -> None:
    """Whatever the limit."""
    assert search.together(spec(sampler="random"), 0, 0) == 1
    assert search.together(spec(), 99, 0) == 1


@pytest.mark.parametrize("kind", ["tpe", "gp", "cmaes"])
def test_what_is_drawn_together_at_the_start_needs_no_results(kind: str) -> None:
    """As many as `together` says are the same, whether the ones before were told or not."""
    study_spec = spec(backbones=["resnet18"], sampler=kind, search_space=PLAIN)
    count = search.together(study_spec, 0, 99)
    asked, told = (run(study_spec, count, at_once) for at_once in (count, 1))
    assert [t.params for t in asked[1].trials] == [t.params for t in told[1].trials]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
def test_it_is_known_which_trials_are_random(kind: str, pruner: str) -> None:
    """Those before a model begins, and those of samplers without one; what is enqueued is given."""
    options = {"n_startup_trials": 4} if kind in ("tpe", "gp", "cmaes") else {}
    study_spec = spec(
        sampler={"kind": kind} | options,
        pruner=pruner,
        backbones=["resnet18"],
        search_space=PLAIN | {"dropout": {"low": 0, "high": 0.5}},
    )
    space = build(study_spec)
    study = optuna.create_study(study_name=study_spec.name, direction="maximize")
    study.enqueue_trial(space.defaults()[0])
    found = []
    for number in range(24):
        study.sampler = search.sampler(study_spec, number)
        trial = study.ask()
        label, knobs = space.suggest(trial)
        found.append(search.drawn(trial))
        study.tell(trial, value(label, knobs))
    learns = kind in ("tpe", "gp", "cmaes")
    assert found[0] == "given"
    if kind != "qmc" or pruner == "asha":  # hyperband's brackets begin one by one
        assert set(found[1:4]) == {"sampler" if kind == "qmc" else "random"}
    assert found[-1] == ("random" if kind in ("random", "grid") else "sampler")
    if learns and pruner == "asha":
        assert found[4:] == ["sampler"] * 20


def test_tpe_without_groups_tells_its_draws_too() -> None:
    """Where it models every parameter for itself, nothing is drawn jointly."""
    sampler = {"kind": "tpe", "n_startup_trials": 3, "multivariate": False}
    study_spec = spec(sampler=sampler, backbones=["resnet18"], search_space=PLAIN)
    space, study = build(study_spec), optuna.create_study()
    found = []
    for number in range(6):
        study.sampler = search.sampler(study_spec, number)
        trial = study.ask()
        space.suggest(trial)
        found.append(search.drawn(trial))
        study.tell(trial, 0.0)
    assert found == ["random"] * 3 + ["sampler"] * 3


@pytest.mark.parametrize("kind", ["asha", "hyperband", "median"])
def test_controls_are_as_many_as_asked_for(kind: str) -> None:
    """Of 4,000 numbers the share that the file says, always the same ones, nested by share."""

    def controls(share: float) -> set[int]:
        is_control = search.controls(spec(pruner={"kind": kind, "control": share}))
        return {number for number in range(4000) if is_control(number)}

    assert controls(0.0) == set()
    assert controls(1.0) == set(range(4000))
    assert 0.04 < len(controls(0.05)) / 4000 < 0.06
    assert controls(0.05) < controls(0.2)


def test_without_a_pruner_there_are_no_controls() -> None:
    """There is nothing to audit."""
    is_control = search.controls(spec(pruner="none"))
    assert not any(is_control(number) for number in range(200))


def rungs_reached(
    study_spec: StudySpec, values: list[float], is_control: Callable[[int], bool]
) -> list[int]:
    """Return how many epochs each trial ran; it has the same value after all nine."""
    study = optuna.create_study(direction="maximize", pruner=search.pruner(study_spec))
    reached = []
    for value in values:
        trial = study.ask()
        for epoch in range(1, 10):
            trial.report(value, epoch)
            if trial.should_prune() and not is_control(trial.number):
                break
        reached.append(epoch)
        study.tell(trial, value)
    return reached


def test_controls_change_no_verdict() -> None:
    """Those that the pruner would have stopped make no rung easier for others."""
    audited = spec(pruner={"kind": "asha", "control": 0.3}, budget={"epochs": 9})
    plain = spec(pruner={"kind": "asha", "control": 0}, budget={"epochs": 9})
    is_control = search.controls(audited)
    rng = random.Random(0)
    values = [rng.random() for _ in range(150)]
    others = [number for number in range(150) if not is_control(number)]
    with_controls = rungs_reached(audited, values, is_control)
    alone = rungs_reached(plain, [values[number] for number in others], lambda _: False)
    assert [with_controls[number] for number in others] == alone
    assert {with_controls[number] for number in range(150) if is_control(number)} == {9}
    assert set(alone) == {1, 3, 9}
