"""The bridge on real digits: one trial from its lease to its end, and over its worker's death."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState
from sqlalchemy import text
from trials import CPU, Tick, run_next, trial

from tunesvc import checkpoint, study, train
from tunesvc.errors import DataError, StudyError, TrainingError
from tunesvc.results import results
from tunesvc.shelf import Folder, clear
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.train import Diverged, Run
from tunesvc.trial import Desk, retention, score

Fit = Callable[[Run, Tick], Iterator[train.Epoch]]


def spec(**changed: Any) -> StudySpec:
    """A small study: an untrained tiny network on a hundred digits."""
    return StudySpec.model_validate(
        {
            "name": "digits",
            "data": {"kind": "digits", "subset": 100},
            "backbones": [{"name": "tiny_resnet", "weights": "none"}],
            "search_space": {"lr": {"low": 1e-4, "high": 1e-1, "log": True}, "batch_size": 32},
            "budget": {"trials": 4, "epochs": 3},
            "pruner": "none",
            "sampler": "random",
        }
        | changed
    )


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> Desk:
    """The study on a fresh database."""
    return desk_of(store, tmp_path, spec())


def desk_of(store: Store, folder: Path, made: StudySpec) -> Desk:
    """A stored study with its own cache and artifacts."""
    return Desk(study.create(store, made, base=folder), folder / "cache", Folder(folder / "kept"))


def dying_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the worker die right after it saved the checkpoint of an epoch, before the report."""
    save = checkpoint.save

    def save_and_die(state: Any, *where: Any) -> None:
        save(state, *where)
        if len(state["history"]) == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    return lambda: monkeypatch.setattr(checkpoint, "save", save)


def test_a_trial_stores_everything(desk: Desk) -> None:
    """Metrics per epoch, seconds per phase, parameters, device, memory, versions."""
    outcome = run_next(desk)
    told = trial(desk, 0)
    assert told.state is outcome.state is TrialState.COMPLETE
    history = told.user_attrs["history"]
    assert told.intermediate_values == {entry["epoch"]: entry["accuracy"] for entry in history}
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert told.value == outcome.value == history[-1]["accuracy"]
    assert set(history[0]) >= {"accuracy", "balanced_accuracy", "precision", "recall", "f1", "loss"}
    phases = {"data", "model", "features", "train", "eval", "report"}
    assert set(told.user_attrs["seconds"]) == phases
    levers = told.user_attrs["levers"]
    assert not levers.pop("compiled")["used"]
    assert levers == {"model": "built", "frozen": [], "gap_seconds": None}  # nothing to be spared
    described = told.user_attrs["run"]
    assert described["parameters"] >= described["parameters_trainable"] > 0
    assert described["device"] == "cpu"
    assert described["versions"]["optuna"] == optuna.__version__
    assert told.user_attrs["peak_memory_mb"] > 0


def test_a_trial_stores_what_it_costs(desk: Desk) -> None:
    """Operations of one image, and memory; on the CPU the latter is an estimate and says so."""
    run_next(desk)
    told = trial(desk, 0).user_attrs
    assert told["run"]["architecture"] == "tiny_resnet"
    assert 0.001 < told["run"]["gflops"] < 0.1
    assert told["memory"]["kind"] == "estimated"
    states = 4 * 4 * told["run"]["parameters"] / 2**20
    assert states < told["memory"]["mb"] < states + 100


def test_the_budget_is_exact(desk: Desk) -> None:
    """Four trials, then no more."""
    assert [run_next(desk).number for _ in range(4)] == [0, 1, 2, 3]
    assert run_next(desk) is None
    assert study.status(desk.study).state == "done"


def test_same_seed_same_values(desk: Desk, store: Store, tmp_path: Path) -> None:
    """A study of the same digest under another name repeats every value exactly."""
    twin = desk_of(store, tmp_path / "twin", spec(name="twin"))
    for _ in range(2):
        run_next(desk)
        run_next(twin)
    for number in range(2):
        assert trial(desk, number).params == trial(twin, number).params
        assert trial(desk, number).intermediate_values == trial(twin, number).intermediate_values


def test_a_dead_worker_s_trial_goes_on(
    desk: Desk, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same trial, next epoch, no value lost or doubled, and equal to an undisturbed run."""
    survive = dying_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_next(desk)
    assert list(trial(desk, 0).intermediate_values) == [1]
    survive()
    fitted = count_epochs(monkeypatch)
    assert run_next(desk).number == 0
    assert fitted == [2]
    undisturbed = desk_of(store, tmp_path / "undisturbed", spec(name="undisturbed"))
    run_next(undisturbed)
    assert trial(desk, 0).intermediate_values == trial(undisturbed, 0).intermediate_values
    assert len(desk.study.optuna().get_trials()) == 1


def count_epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the index of every epoch that is trained."""
    fitted: list[int] = []
    fit = train.fit

    def counted(training: Run, tick: Tick) -> Iterator[train.Epoch]:
        for epoch in fit(training, tick):
            fitted.append(epoch.index)
            yield epoch

    monkeypatch.setattr(train, "fit", counted)
    return fitted


def test_a_trial_without_a_checkpoint_starts_over(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that died before the first epoch's end has cost nothing but that epoch."""
    monkeypatch.setattr(train, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_next(desk)
    monkeypatch.undo()
    assert run_next(desk).number == 0
    assert list(trial(desk, 0).intermediate_values) == [1, 2, 3]


def interrupted(_: Run, tick: Tick) -> Iterator[train.Epoch]:
    """A training that is stopped at once."""
    raise KeyboardInterrupt
    yield


def failing(error: Exception) -> Fit:
    """A training that fails at once."""

    def fit(_: Run, tick: Tick) -> Iterator[train.Epoch]:
        raise error
        yield

    return fit


def test_divergence_prunes_and_says_why(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is no number ends the trial, not the study."""
    monkeypatch.setattr(train, "fit", failing(Diverged(1, float("nan"))))
    assert run_next(desk).state is TrialState.PRUNED
    assert trial(desk, 0).user_attrs["reason"]


def test_an_exception_is_tried_again_and_fails_the_trial_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt's traceback is kept on the trial, and the worker goes on to the next."""
    monkeypatch.setattr(train, "fit", failing(RuntimeError("the cable was pulled")))
    assert [run_next(desk) for _ in range(2)] == [None, None]
    assert trial(desk, 0).state is TrialState.RUNNING
    assert run_next(desk).state is TrialState.FAIL
    reason = trial(desk, 0).user_attrs["reason"]
    assert reason.count("RuntimeError: the cable was pulled") == 3
    assert "attempt 3" in reason
    monkeypatch.undo()
    assert run_next(desk).state is TrialState.COMPLETE


def failing_after_an_epoch(fit: Fit) -> Fit:
    """A training that fails each time after one more epoch."""

    def fit_once(training: Run, tick: Tick) -> Iterator[train.Epoch]:
        yield next(fit(training, tick))
        raise RuntimeError("the cable was pulled")

    return fit_once


def test_an_exception_costs_no_finished_epoch(
    desk: Desk, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt goes on from the checkpoint, and ends as if nothing had been."""
    monkeypatch.setattr(train, "fit", failing_after_an_epoch(fit := train.fit))
    assert run_next(desk) is None
    monkeypatch.setattr(train, "fit", fit)
    fitted = count_epochs(monkeypatch)
    assert run_next(desk).state is TrialState.COMPLETE
    assert fitted == [1, 2]
    undisturbed = desk_of(store, tmp_path / "undisturbed", spec(name="undisturbed"))
    run_next(undisturbed)
    assert trial(desk, 0).intermediate_values == trial(undisturbed, 0).intermediate_values


def test_attempts_that_bring_an_epoch_do_not_count(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a trial is disturbed, as long as it advances it does not fail."""
    monkeypatch.setattr(train, "fit", failing_after_an_epoch(train.fit))
    tight = dataclasses.replace(desk.terms, max_attempts=2)
    monkeypatch.setattr(desk, "terms", tight)
    assert [run_next(desk) for _ in range(2)] == [None, None]
    assert run_next(desk).state is TrialState.COMPLETE


def test_a_user_error_fails_the_trial_with_its_words(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback for what a person can mend."""
    monkeypatch.setattr(train, "fit", failing(TrainingError("the disk is full", "", "free some")))
    assert run_next(desk).state is TrialState.FAIL
    assert trial(desk, 0).user_attrs["reason"] == "the disk is full\n  fix: free some"


def test_what_is_wrong_with_the_machine_costs_no_trial(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker stops, and the trial waits for one that can run it."""
    monkeypatch.setattr(train, "fit", failing(DataError("the cache is full")))
    with pytest.raises(DataError):
        run_next(desk)
    assert trial(desk, 0).state is TrialState.RUNNING
    monkeypatch.undo()
    assert run_next(desk).number == 0


def test_a_broken_accelerator_ends_the_worker(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process tries the trial again; no other one may run in the same process."""
    monkeypatch.setattr(train, "fit", failing(torch.AcceleratorError("device-side assert")))
    with pytest.raises(TrainingError, match="out of order"):
        run_next(desk)
    assert trial(desk, 0).state is TrialState.RUNNING
    monkeypatch.undo()
    assert run_next(desk).number == 0


def test_a_lost_lease_silences_the_worker(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever took the trial over finds nothing written by the one that lost it."""
    fit, engine = train.fit, desk.study.store.engine
    batches = []

    def fit_and_lose(training: Run, tick: Tick) -> Iterator[train.Epoch]:
        with engine.begin() as connection:
            connection.execute(text("UPDATE tunesvc.lease SET token = nextval('tunesvc.token')"))

        def count() -> None:
            batches.append(1)
            tick()

        yield from fit(training, count)

    monkeypatch.setattr(train, "fit", fit_and_lose)
    assert run_next(desk) is None
    assert trial(desk, 0).state is TrialState.RUNNING
    assert trial(desk, 0).intermediate_values == {}
    assert "history" not in trial(desk, 0).user_attrs
    assert trial(desk, 0).user_attrs.keys() == {"default", "drawn"}


def test_a_study_deleted_under_a_worker(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker goes on with others, without a traceback."""
    fit = train.fit

    def fit_and_delete(training: Run, tick: Tick) -> Iterator[train.Epoch]:
        desk.study.store.optuna.delete_study(desk.study.id)
        yield from fit(training, tick)

    monkeypatch.setattr(train, "fit", fit_and_delete)
    assert run_next(desk) is None


def test_an_enqueued_trial_displaces_no_default(desk: Desk) -> None:
    """A person's own trial runs first; the default keeps its place after it."""
    desk.study.optuna().enqueue_trial({"lr": 0.05})
    for _ in range(2):
        run_next(desk)
    assert [trial(desk, number).params["lr"] == 0.05 for number in range(2)] == [True, False]
    assert trial(desk, 1).user_attrs["default"] == "tiny_resnet"


def test_defaults_come_first_and_are_never_pruned(store: Store, tmp_path: Path) -> None:
    """One for each backbone, whatever the pruner thinks of them."""
    made = spec(
        backbones=[
            {"name": "tiny_resnet", "weights": "none"},
            {"name": "two_conv_cnn", "weights": "none"},
        ],
        pruner={"kind": "median", "n_startup_trials": 0, "n_warmup_steps": 0},
        defaults={"lr": 0.003},
    )
    desk = desk_of(store, tmp_path, made)
    assert [run_next(desk).state for _ in range(2)] == [TrialState.COMPLETE] * 2
    found = [trial(desk, number).params for number in range(2)]
    assert [params["backbone"] for params in found] == ["tiny_resnet", "two_conv_cnn"]
    assert [params["lr"] for params in found] == [0.003, 0.003]


def test_hopeless_trials_are_pruned(store: Store, tmp_path: Path) -> None:
    """The pruner's word ends a trial early, and its last value stays readable."""
    made = spec(
        search_space={"lr": [1e-3, 1e-7]},
        sampler="grid",
        budget={"trials": 9, "epochs": 3},
        defaults={"lr": 1e-3},
        pruner={"kind": "median", "n_startup_trials": 1, "n_warmup_steps": 0},
    )
    desk = desk_of(store, tmp_path, made)
    states = []
    while outcome := run_next(desk):
        states.append(outcome.state)
    assert len(states) == 3  # the default, and the grid's two points
    assert states[2] is TrialState.PRUNED
    assert len(trial(desk, 2).intermediate_values) < 3


def test_only_the_best_models_are_kept(desk: Desk) -> None:
    """The winner's checkpoint stays, the fourth best goes."""
    for _ in range(4):
        run_next(desk)
    kept = {Path(name).parent.name for name in desk.shelf.names("") if name.endswith(".ckpt")}
    best = retention.best(desk.records(), 3)
    assert kept == {f"trial-{number:05d}" for number in best}
    assert len(kept) == 3


def test_the_winner_is_scored_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every metric on images that the search has not seen, kept in the study."""
    run_next(desk)
    found = score(desk, 0, CPU)
    assert found is not None
    assert 0 <= found["accuracy"] <= 1
    monkeypatch.setattr(train, "evaluate", None)
    assert score(desk, 0, CPU) == found
    assert results(desk.study).test == found


def test_a_lost_model_cannot_be_scored(desk: Desk) -> None:
    """The error says where it was looked for."""
    run_next(desk)
    clear(desk.shelf, desk.folder(0))
    with pytest.raises(StudyError, match="trial-00000"):
        score(desk, 0, CPU)


def test_changed_data_is_refused(desk: Desk, store: Store, tmp_path: Path) -> None:
    """A study goes on only with the data that it began with."""
    study.set_fingerprint(desk.study, desk.listing.fingerprint)
    with pytest.raises(DataError):
        study.set_fingerprint(desk.study, "another")


def test_regression_runs_through_the_same_path(store: Store, tmp_path: Path) -> None:
    """Another task, other metrics, the other direction: nothing else changes."""
    made = spec(task="image-regression", budget={"trials": 2, "epochs": 2})
    desk = desk_of(store, tmp_path, made)
    assert [run_next(desk).state for _ in range(2)] == [TrialState.COMPLETE] * 2
    found = results(desk.study)
    assert (found.status.metric, found.status.direction) == ("mse", "minimize")
    assert found.status.best is not None
    assert found.status.best.value == min(trial(desk, number).value or 0 for number in range(2))
    assert set(found.validation) == {"mse", "mae", "r2", "loss"}


def test_results_of_an_empty_study(desk: Desk) -> None:
    """Nothing is invented before the first trial has ended."""
    assert results(desk.study).as_json()["best"] is None
