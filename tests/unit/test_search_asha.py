"""Successive halving, Hyperband and the median rule, beside Optuna's own, side by side."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from tunesvc import search
from tunesvc.search.hyperband import Brackets, InBracket
from tunesvc.spec import StudySpec

EPOCHS = 27


class Counting(InMemoryStorage):
    """A storage that counts its readers' questions about other trials."""

    def __init__(self) -> None:
        super().__init__()
        self.questions = 0

    def get_all_trials(self, *args: Any, **kw: Any) -> Any:
        self.questions += 1
        return super().get_all_trials(*args, **kw)


class Lean(Counting):
    """One that answers the small question too."""

    def values_at(self, study_id: int, step: int) -> Mapping[int, float]:
        """All that reported at this step: the trial that asks as well, and what is not a number."""
        self.asked = step
        trials = super().get_all_trials(study_id, deepcopy=False)
        self.questions -= 1
        return {
            trial.number: trial.intermediate_values[step]
            for trial in trials
            if step in trial.intermediate_values
        }


def replay(
    pruner: BasePruner, direction: str, seed: int, storage: Any = None, complete: float = 0
) -> list[Any]:
    """Report random curves of 80 trials, six at a time in a random order; return each verdict.

    Args:
        complete: this share of those that reach the last epoch is told as complete.
    """
    study = optuna.create_study(
        study_name="replayed", direction=direction, pruner=pruner, storage=storage
    )
    rng, running, verdicts = random.Random(seed), [], []
    while len(study.get_trials(deepcopy=False)) < 80 or running:
        if len(running) < 6 and len(study.get_trials(deepcopy=False)) < 80:
            running.append(study.ask())
        trial = rng.choice(running)
        step = (study._storage.get_trial(trial._trial_id).last_step or 0) + 1
        value = round(rng.gauss(trial.number % 7, 1), 1)  # many are equal
        trial.report(math.nan if rng.random() < 0.03 else value, step)
        verdicts.append((trial.number, step, trial.should_prune()))
        if step == EPOCHS and not verdicts[-1][2] and rng.random() < complete:
            study.tell(trial, value)
            running.remove(trial)
        elif verdicts[-1][2] or step == EPOCHS:
            state = TrialState.PRUNED if rng.random() < 0.9 else TrialState.FAIL
            study.tell(trial, state=state)
            running.remove(trial)
    return verdicts


@pytest.mark.parametrize("storage", [InMemoryStorage, Lean])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(("first", "factor", "rate"), [(1, 3, 0), (2, 2, 1), (1, 4, 0), (5, 2, 0)])
def test_the_verdicts_are_optunas(
    first: int, factor: int, rate: int, direction: str, storage: type[InMemoryStorage]
) -> None:
    """Report for report, whether the storage answers the small question or not."""
    for seed in range(3):
        ours = replay(search.Asha(first, factor, rate), direction, seed, storage())
        theirs = replay(SuccessiveHalvingPruner(first, factor, rate), direction, seed)
        assert ours == theirs
        assert 5 < sum(is_out for *_, is_out in ours) < 80


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(("first", "factor"), [(1, 3), (2, 3), (1, 2), (27, 3)])
def test_hyperbands_verdicts_are_optunas(first: int, factor: int, direction: str) -> None:
    """In every bracket, report for report."""
    for storage in (InMemoryStorage(), Lean()):
        ours = replay(search.Hyperband(Brackets(first, EPOCHS, factor)), direction, 1, storage)
        assert ours == replay(HyperbandPruner(first, EPOCHS, factor), direction, 1)


@pytest.mark.filterwarnings("ignore:All-NaN")  # Optuna's
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(("startup", "warmup", "interval"), [(5, 1, 1), (0, 0, 1), (1, 3, 4)])
def test_the_median_s_verdicts_are_optunas(
    startup: int, warmup: int, interval: int, direction: str
) -> None:
    """Report for report, where the study is read each time."""
    for seed in range(3):
        theirs = replay(MedianPruner(startup, warmup, interval), direction, seed, complete=0.9)
        ours = search.Median(startup, warmup, interval, fresh_seconds=0)
        assert replay(ours, direction, seed, complete=0.9) == theirs
        assert 5 < sum(is_out for *_, is_out in theirs) < 80


def test_the_median_is_asked_for_once_a_trial() -> None:
    """And knows at a trial's first epoch what ended before it."""
    storage = Counting()
    study = optuna.create_study(
        direction="maximize", storage=storage, pruner=search.Median(1, 1, 1, fresh_seconds=3600)
    )
    verdicts, asked = [], []
    for value in (0.5, 0.4, 0.6, 0.55):
        trial, before = study.ask(), storage.questions
        for step in range(1, 6):
            trial.report(value, step)
            verdicts.append(trial.should_prune())
        asked.append(storage.questions - before)
        study.tell(trial, value)
    assert verdicts == [False] * 5 + [True] * 5 + [False] * 10
    assert asked == [1, 1, 1, 1]


def reported(storage: Any, pruner: BasePruner, values: list[float], step: int) -> optuna.Study:
    """Return a study whose trials all reported at one step."""
    study = optuna.create_study(direction="maximize", storage=storage, pruner=pruner)
    for value in values:
        study.ask().report(value, step)
    return study


@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
def test_nothing_is_written_and_between_rungs_nothing_is_asked(pruner: str) -> None:
    """Rungs are the epochs 1, 3, 9 and 27; elsewhere the storage rests."""
    spec = StudySpec(
        name="t", data="digits", backbones=["resnet18"], pruner=pruner, budget={"epochs": EPOCHS}
    )
    storage = Counting()
    study = optuna.create_study(storage=storage, pruner=search.pruner(spec), study_name="t")
    trial = study.ask()
    asked = []
    for step in range(1, EPOCHS + 1):
        trial.report(1.0, step)
        before = storage.questions
        assert not trial.should_prune()
        if storage.questions > before:
            asked.append(step)
    bracket = Brackets(1, EPOCHS, 3).bracket("t", 0)
    assert asked == ([1, 3, 9, 27] if pruner == "asha" else [1, 3, 9, 27][bracket:])
    assert study.trials[0].system_attrs == {}


def test_the_small_question_is_asked_where_it_is_answered() -> None:
    """A storage with `values_at` is asked for the rung's step, and for no trials."""
    storage = Lean()
    study = reported(storage, search.Asha(2, 3), [0.3, 0.2, 0.1], 2)
    before = storage.questions
    verdicts = [study.pruner.prune(study, trial) for trial in study._storage._studies[0].trials]
    assert verdicts == [False, True, True]
    assert storage.asked == 2
    assert storage.questions == before


def test_what_is_not_a_number_ends_at_a_rung() -> None:
    """Without a question, and only there."""
    storage = Counting()
    study = reported(storage, search.Asha(2, 3), [math.nan], 1)
    before = storage.questions
    trial = storage.get_trial(0)
    assert not study.pruner.prune(study, trial)
    trial.intermediate_values[2] = math.nan
    assert study.pruner.prune(study, trial)
    assert storage.questions == before


def test_a_trial_is_judged_again_as_it_was() -> None:
    """A worker that died after the verdict is followed by one that hears it again."""
    study = reported(None, search.Asha(1, 3), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1)
    again = [[study.pruner.prune(study, t) for t in study.trials] for _ in range(2)]
    assert again[0] == again[1] == [True, True, True, True, False, False]


def test_a_trial_counts_once_and_with_the_value_that_is_judged() -> None:
    """Whether its own report is stored already or not: six trials, of which two go on."""
    study = reported(None, search.Asha(1, 3), [0.6, 0.5, 0.4, 0.3, 0.2], 1)
    trial = study.ask()
    unsaid = study.trials[-1]
    unsaid.intermediate_values[1] = 0.55
    assert not study.pruner.prune(study, unsaid)  # second of six
    trial.report(0.55, 1)
    assert not study.pruner.prune(study, study.trials[-1])  # second of six, not third of seven
    unsaid.intermediate_values[1] = 0.45
    assert study.pruner.prune(study, unsaid)  # third of six


def test_brackets_are_optunas() -> None:
    """Name and number decide, as in Optuna's HyperbandPruner."""
    for first, epochs, factor in [(1, 27, 3), (1, 100, 4), (3, 81, 3), (2, 9, 2), (9, 9, 3)]:
        theirs = HyperbandPruner(first, epochs, factor)
        study = optuna.create_study(study_name="some name", pruner=theirs)
        theirs._try_initialization(study)
        ours = Brackets(first, epochs, factor)
        for number in range(300):
            trial = optuna.create_trial(value=0.0)
            trial.number = number
            assert ours.bracket("some name", number) == theirs._get_bracket_id(study, trial)


def test_fewer_epochs_than_the_first_rung_are_one_bracket() -> None:
    """A study whose trials are shorter than min_resource prunes nothing."""
    brackets = Brackets(9, 3, 3)
    assert {brackets.bracket("t", number) for number in range(20)} == {0}
    study = reported(None, search.Hyperband(brackets), [0.5, 0.4, 0.3], 3)
    assert not any(study.pruner.prune(study, trial) for trial in study.trials)


def banded(brackets: Brackets, *, alone: bool) -> optuna.Study:
    """Return a study of 120 trials; `alone`: only those of the next trial's bracket succeeded."""
    study = optuna.create_study(study_name="banded")
    mine = brackets.bracket("banded", 120)
    x = optuna.distributions.FloatDistribution(0.0, 1.0)
    for number in range(120):
        is_mine = brackets.bracket("banded", number) == mine
        # Every bracket has its best at another place.
        value = abs(number / 120 - (0.25 if is_mine else 0.75))
        lost = {"state": TrialState.FAIL} if alone and not is_mine else {"value": value}
        study.add_trial(
            optuna.create_trial(params={"x": number / 120}, distributions={"x": x}, **lost)
        )
    return study


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_sees_the_trials_of_its_bracket(sampler: str) -> None:
    """What it draws is what it would draw had the trials of the other brackets not been."""
    spec = StudySpec(
        name="t",
        data="digits",
        backbones=["resnet18"],
        sampler=sampler,
        pruner="hyperband",
        budget={"epochs": EPOCHS},
    )

    def drawn(study: optuna.Study, *, narrowed: bool) -> float:
        banding = search.sampler(spec, 120)
        study.sampler = banding if narrowed else banding.inner
        return study.ask().suggest_float("x", 0.0, 1.0)

    brackets = Brackets(1, EPOCHS, 3)
    together = drawn(banded(brackets, alone=False), narrowed=True)
    assert together == drawn(banded(brackets, alone=True), narrowed=False)
    assert together != drawn(banded(brackets, alone=False), narrowed=False)


def test_tpe_models_as_many_trials_as_its_bracket_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted where TPE looks: of 120 trials those of the bracket, and never all."""
    looked: list[list[int]] = []
    real = search.Memory.look

    def look(self: search.Memory, trials: Any, **kw: Any) -> Any:
        looked.append([trial.number for trial in trials if trial.state.is_finished()])
        return real(self, trials, **kw)

    monkeypatch.setattr(search.Memory, "look", look)
    brackets = Brackets(1, EPOCHS, 3)
    study = banded(brackets, alone=False)
    study.sampler = InBracket(search.Tpe(0), brackets)
    study.ask().suggest_float("x", 0.0, 1.0)
    numbers = {
        n for n in range(120) if brackets.bracket("banded", n) == brackets.bracket("banded", 120)
    }
    assert [set(each) for each in looked] == [numbers]
    assert 10 < len(numbers) < 110
