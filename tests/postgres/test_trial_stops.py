"""A trial that is stopped, paused, out of time or out of memory, and goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from optuna.trial import TrialState
from optuna_dashboard._serializer import serialize_frozen_trial
from sqlalchemy import text
from trials import Tick, run_next, trial

from tunesvc import checkpoint, study, train
from tunesvc.interrupt import Stopped, stoppable
from tunesvc.leases import Fenced, Leases, Watch
from tunesvc.shelf import Folder
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.train import OutOfMemory, Run
from tunesvc.trial import Attempt, Desk

Fit = Callable[[Run, Tick], Iterator[train.Epoch]]


def desk_of(store: Store, folder: Path, name: str = "digits", **changed: Any) -> Desk:
    """A small study of an untrained network on a hundred digits, everything random switched on."""
    made = {
        "name": name,
        "data": {"kind": "digits", "subset": 100},
        "backbones": [{"name": "tiny_resnet", "weights": "none"}],
        "search_space": {
            "lr": {"low": 1e-4, "high": 1e-1, "log": True},
            "dropout": 0.2,
            "mixup": 0.2,
            "augmentation": "flip-crop",
        },
        "budget": {"trials": 4, "epochs": 3},
        "defaults": {"batch_size": 32},
        "pruner": "none",
        "sampler": "random",
        "leases": {"seconds": 1},
    } | changed
    spec = StudySpec.model_validate(made)
    return Desk(study.create(store, spec, base=folder), folder / "cache", Folder(folder / name))


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> Desk:
    """The study on a fresh database."""
    return desk_of(store, tmp_path)


def before_batch(wanted: int, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Do something when so many batches, validation's included, are done; count epochs begun."""
    fit, batches, finished = train.fit, 0, []

    def fit_and_act(training: Run, tick: Tick) -> Iterator[train.Epoch]:
        def count() -> None:
            nonlocal batches
            batches += 1
            if batches == wanted:
                act()
            tick()

        for epoch in fit(training, count):
            finished.append(epoch.index)
            yield epoch

    monkeypatch.setattr(train, "fit", fit_and_act)
    return finished


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Watch]:
    """Note the watch of every lease that is claimed, the latest first."""
    claim, watches = Leases.claim, list[Watch]()

    def noted(self: Leases, *given: Any) -> Any:
        lease = claim(self, *given)
        if lease:
            watches.insert(0, self.watch(lease))
        return lease

    monkeypatch.setattr(Leases, "claim", noted)
    return watches


@pytest.mark.parametrize("batch", [1, 2, 4, 5, 6, 7, 12, 17, 18])
def test_a_stop_signal_costs_no_batch(
    store: Store, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """In training or in validation, in any epoch: nothing is repeated, and nothing differs."""
    finished = before_batch(batch, lambda: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)
    with pytest.raises(Stopped), stoppable():
        run_next(desk)
    before = list(finished)
    assert run_next(desk).state is TrialState.COMPLETE
    assert finished == [0, 1, 2]
    assert before == finished[: len(before)]
    monkeypatch.undo()
    undisturbed = desk_of(store, tmp_path, "undisturbed")
    run_next(undisturbed)
    assert trial(desk).intermediate_values == trial(undisturbed).intermediate_values
    assert [each["train_loss"] for each in trial(desk).user_attrs["history"]] == [
        each["train_loss"] for each in trial(undisturbed).user_attrs["history"]
    ]


def test_a_signal_between_trials_stops_at_once() -> None:
    """Nothing has to be kept."""
    with pytest.raises(Stopped, match="SIGINT"), stoppable():
        os.kill(os.getpid(), signal.SIGINT)


def test_a_paused_study_gets_its_trial_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that was done; after `resume` it goes on there."""

    def pause() -> None:
        study.pause(desk.study)
        wait_for(lambda: watches[0].leave)

    watches = watched(monkeypatch)
    finished = before_batch(6, pause, monkeypatch)
    assert run_next(desk) is None
    assert trial(desk).state is TrialState.RUNNING
    assert study.status(desk.study).trials["waiting"] == 1
    assert run_next(desk) is None
    study.resume(desk.study)
    assert run_next(desk).state is TrialState.COMPLETE
    assert finished == [0, 1, 2]


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_when_the_hours_are_over_the_epoch_under_way_is_the_last(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial is told with what it has, and why; another that waits is told too."""
    desk = desk_of(store, tmp_path, budget={"trials": 4, "epochs": 3, "hours": 1})

    def late() -> None:
        with store.engine.begin() as connection:
            connection.execute(
                text("UPDATE tunesvc.study SET started_at = now() - interval '61 minutes'")
            )
        wait_for(lambda: watches[0].is_over)

    watches = watched(monkeypatch)
    before_batch(2, late, monkeypatch)
    outcome = run_next(desk)
    assert outcome.state is TrialState.PRUNED
    assert "the budget's 1 hours were over" in trial(desk).user_attrs["reason"]
    assert list(trial(desk).intermediate_values) == [1]
    assert trial(desk).value == trial(desk).intermediate_values[1]
    assert run_next(desk) is None
    assert study.status(desk.study).state == "done"


def fitting(images: int) -> Fit:
    """A training whose device has room for so many images at once."""
    fit = train.fit

    def limited(training: Run, tick: Tick) -> Iterator[train.Epoch]:
        if training.micro_batch > images:
            raise OutOfMemory(training.micro_batch, training.next_epoch, 32, "cpu")
        yield from fit(training, tick)

    return limited


def test_out_of_memory_halves_the_micro_batch(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial ends as it would have, with the same batch size; the next one knows the size."""
    limited = fitting(8)
    tried: list[int] = []

    def counted(training: Run, tick: Tick) -> Iterator[train.Epoch]:
        tried.append(training.micro_batch)
        yield from limited(training, tick)

    monkeypatch.setattr(train, "fit", counted)
    assert run_next(desk).state is TrialState.COMPLETE
    assert tried == [32, 16, 8]
    assert trial(desk).user_attrs["run"]["micro_batch"] == 8
    assert trial(desk).user_attrs["run"]["knobs"]["batch_size"] == 32
    assert run_next(desk).state is TrialState.COMPLETE
    assert tried[3:] == [8]


def test_a_verdict_is_not_lost_with_its_worker(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes the trial over asks the pruner again."""
    desk = desk_of(
        store,
        tmp_path,
        search_space={"lr": [1e-2, 1e-8]},
        sampler="grid",
        defaults={"lr": 1e-2},
        pruner={"kind": "asha", "reduction_factor": 2},
        budget={"trials": 3, "epochs": 4},
    )
    assert [run_next(desk).number for _ in range(2)] == [0, 1]
    prune, verdicts = desk.pruner.prune, []

    def prune_and_die(*given: Any) -> bool:
        verdicts.append(prune(*given))
        raise KeyboardInterrupt

    monkeypatch.setattr(desk.pruner, "prune", prune_and_die)
    with pytest.raises(KeyboardInterrupt):
        run_next(desk)
    assert verdicts == [True]
    monkeypatch.undo()
    assert run_next(desk).state is TrialState.PRUNED
    assert list(trial(desk, 2).intermediate_values) == [1]


def test_a_verdict_is_not_lost_at_a_stop(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that is stopped before the clerk has judged its last epoch is judged at once."""
    desk = desk_of(store, tmp_path, defaults={"batch_size": 32, "lr": 1e-2}, pruner="asha")
    run_next(desk)
    monkeypatch.setattr(desk.pruner, "prune", lambda *_: True)
    monkeypatch.setattr(Attempt, "_look", lambda _: None)  # training looks away
    before_batch(7, lambda: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)
    with suppress(Stopped), stoppable():
        run_next(desk)
    assert trial(desk, 1).state is TrialState.PRUNED


def test_a_failed_trial_keeps_its_checkpoints(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be put back: also one that fits into no memory here."""
    before = before_batch(14, lambda: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)
    with pytest.raises(Stopped), stoppable():
        run_next(desk)
    monkeypatch.undo()
    assert before
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", fitting(0))
        assert run_next(desk).state is TrialState.FAIL
    assert len(desk.shelf.names(desk.folder(0))) == 2
    study.put_back(desk.study)
    finished = before_batch(0, lambda: None, monkeypatch)
    assert run_next(desk).state is TrialState.COMPLETE
    assert before + finished == [0, 1, 2]


def test_what_fits_into_no_memory_fails_and_the_sampler_learns_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second attempt is made."""
    monkeypatch.setattr(train, "fit", fitting(0))
    outcome = run_next(desk)
    assert outcome.state is TrialState.FAIL
    assert "a single image at a time" in outcome.reason
    assert trial(desk).constraints["memory"] == 1.0
    shown = serialize_frozen_trial(desk.study.id, trial(desk), {})
    assert shown["constraints"] == [1.0]  # in the dashboard
    with closing(Leases(desk.study.store.engine)) as leases:
        lease = leases.claim(desk.study.id, desk.terms)
        assert lease
        seen = desk.storage(lease).get_all_trials(desk.study.id, states=(TrialState.PRUNED,))
    assert [each.number for each in seen] == [0]
    study.put_back(desk.study)
    assert trial(desk).constraints == {}  # elsewhere it may fit


def test_reports_wait_for_postgres(
    store: Store, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs go on; what could not be stored is, in order, and nothing differs."""
    report, refused = Fenced.report, []

    def away(self: Fenced, trial_id: int, steps: Any, attributes: Any, **more: Any) -> None:
        if steps and len(refused) < 2:
            refused.append(dict(steps))
            raise psycopg2.OperationalError("server closed the connection unexpectedly")
        report(self, trial_id, steps, attributes, **more)

    monkeypatch.setattr(Fenced, "report", away)
    assert run_next(desk).state is TrialState.COMPLETE
    assert [list(steps) for steps in refused] == [[1], [1, 2]]
    undisturbed = desk_of(store, tmp_path, "undisturbed")
    run_next(undisturbed)
    assert trial(desk).intermediate_values == trial(undisturbed).intermediate_values
    assert len(trial(desk).user_attrs["history"]) == 3


def test_a_torn_checkpoint_costs_one_epoch(
    store: Store, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before it is whole; the values are the same."""
    save = checkpoint.save

    def save_and_die(state: Any, *where: Any) -> None:
        save(state, *where)
        if len(state["history"]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run_next(desk)
    monkeypatch.undo()
    newest = Path(desk.shelf.location, desk.shelf.names(f"{desk.folder(0)}/")[-1])
    newest.write_bytes(newest.read_bytes()[:-1])
    finished = before_batch(0, lambda: None, monkeypatch)
    assert run_next(desk).state is TrialState.COMPLETE
    assert finished == [1, 2]
    undisturbed = desk_of(store, tmp_path, "undisturbed")
    run_next(undisturbed)
    assert trial(desk).intermediate_values == trial(undisturbed).intermediate_values
