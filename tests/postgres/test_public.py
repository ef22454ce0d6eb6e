"""`tunesvc.open_study` on a real database."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import time
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import text
from stored_trials import LATENCY, add_trials, stored_study
from trials import run_next

import tunesvc
from tunesvc import study as studies
from tunesvc.cli import main
from tunesvc.errors import StorageError, StudyError, UnknownNameError, UsageError
from tunesvc.results import trials
from tunesvc.shelf import Folder
from tunesvc.spec import KNOBS, StudySpec
from tunesvc.storage import Store
from tunesvc.study import Study
from tunesvc.trial import Desk

COSTS = [
    *("params_m", "trainable_m", "flops_g", "size_mb", "size_bf16_mb", "size_int8_mb"),
    *("latency_ms", "latency_p95_ms", "batch_latency_ms", "batch_latency_p95_ms"),
    *("images_per_second", "energy_j"),
    *("infer_memory_mb", "train_memory_mb", "epoch_seconds", "seconds"),
]


@pytest.fixture
def made(store: Store, storage_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Twenty trials without costs, then forty with them; TUNESVC_STORAGE leads to them."""
    monkeypatch.setenv("TUNESVC_STORAGE", storage_url)
    found = stored_study(store, tmp_path, trials=20)
    add_trials(found, 40, latency_on="Xeon")
    return found


def connections(store: Store) -> int:
    """Return how many connections to this database are open."""
    with store.engine.connect() as connection:
        asked = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND backend_type = 'client backend'"  # the server's own look in now and then
        )
        return int(connection.execute(text(asked)).scalar_one())


def comes_to(store: Store, count: int) -> bool:
    """Whether so many are open, now or soon: the server ends one after its client has left."""
    deadline = time.monotonic() + 60
    while connections(store) != count and time.monotonic() < deadline:
        time.sleep(0.02)
    return connections(store) == count


def test_every_trial_is_a_row(made: Study) -> None:
    """Columns under plain names, in their units; the same values as the table of the measures."""
    with tunesvc.open_study("made") as study:
        frame = study.trials_frame()
    table = trials(made).frame
    assert list(frame.columns) == [
        *("state", "value", "epochs", "backbone", "strategy", "default", "feasible"),
        *(knob for knob in KNOBS if knob != "strategy"),
        *("validation_accuracy", "validation_balanced_accuracy", "validation_precision"),
        *("validation_recall", "validation_f1", "validation_loss"),
        *COSTS,
        *("started", "ended", "worker", "reason"),
    ]
    assert (frame.index.name, list(frame.index)) == ("trial", list(range(60)))
    assert set(frame["state"]) == {"complete"}
    assert frame["value"].equals(table["value"])
    assert frame["lr"].equals(table["knob:lr"])
    assert frame["validation_accuracy"].equals(table["metric:accuracy"])
    assert list(frame["params_m"][40:]) == list(table["parameters"][40:] / 1e6)
    assert set(frame["latency_ms"][20:]) == set(LATENCY.values())
    assert str(frame["ended"].dtype).endswith("UTC]")
    assert frame["reason"].isna().all()


def test_the_best_is_that_of_the_command_line(
    made: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    """With caps and without; its knobs, metrics and costs are those of its row."""
    with pytest.raises(SystemExit):
        main(["best", "made", "--json"])
    told = json.loads(capsys.readouterr().out)
    with tunesvc.open_study("made") as study:
        best, cheap = study.best(), study.best(where="latency_ms <= 1 and params_m <= 6")
        frame = study.trials_frame()
    assert (best.trial, best.value) == (told["best"]["trial"], told["best"]["value"])
    assert (best.params, best.knobs) == (told["best"]["params"], told["knobs"])
    assert (best.study, best.metric, best.direction) == ("made", "accuracy", "maximize")
    assert (best.backbone, cheap.backbone) == ("tiny_resnet", "two_conv_cnn")
    fitting = frame[frame["latency_ms"] <= 1]["value"]
    assert (cheap.trial, cheap.value) == (fitting.idxmax(), fitting.max())
    assert cheap.costs["latency_ms"] == LATENCY["two_conv_cnn"]
    assert set(cheap.costs) < set(COSTS)  # what was not measured is not there
    assert all(math.isfinite(value) for value in cheap.costs.values())
    assert best.validation["accuracy"] == frame["validation_accuracy"][best.trial]
    assert best.strategy == best.knobs["strategy"] == frame["strategy"][best.trial]
    assert best.test is None
    studies.set_test_metrics(made, best.trial, {"accuracy": 0.5})
    with tunesvc.open_study("made") as study:
        assert study.best().test == {"accuracy": 0.5}
    with pytest.raises(dataclasses.FrozenInstanceError):
        best.value = 1.0  # type: ignore[misc]


def test_there_is_always_a_best_or_an_error(made: Study, store: Store, tmp_path: Path) -> None:
    """Never None: where nothing fits the nearest cap is told; before the first end, so it is."""
    with tunesvc.open_study("made") as study:
        with pytest.raises(UsageError, match=r"latency_ms <= 0.1") as caught:
            study.best(where="latency_ms <= 0.1")
        assert "with latency_ms <= 0.5 trial" in str(caught.value)
        with pytest.raises(UnknownNameError, match="did you mean 'latency_ms'"):
            study.best(where="latnecy_ms <= 3")
    stored_study(store, tmp_path, name="young", trials=0)
    with tunesvc.open_study("young") as study:
        with pytest.raises(StudyError, match="'young' has no finished trial") as caught:
            study.best()
        assert "0 trials were begun" in str(caught.value)
        assert study.trials_frame().empty
        assert study.pareto().empty


def test_the_front_is_what_no_trial_beats(made: Study) -> None:
    """By brute force over the rows, for two costs and for one."""
    with tunesvc.open_study("made") as study:
        for costs in (("latency_ms", "params_m"), ("seconds",)):
            frame = study.trials_frame().dropna(subset=[*costs, "value"])
            points = pd.concat([-frame["value"], frame[[*costs]]], axis=1).to_numpy()
            free = {
                number
                for number, own in zip(frame.index, points, strict=True)
                if not ((points <= own).all(axis=1) & (points < own).any(axis=1)).any()
            }
            front = study.pareto(*costs)
            assert set(front.index) == free
            assert front["value"].is_monotonic_decreasing
            assert list(front.columns) == list(study.trials_frame().columns)
        assert study.pareto().equals(study.pareto("latency_ms", "params_m"))
        assert study.pareto("images_per_second").equals(study.pareto("batch_latency_ms"))
        with pytest.raises(UnknownNameError, match="did you mean 'params_m'"):
            study.pareto("param_m")


def test_it_shows_what_happened_meanwhile(store: Store, storage_url: str, tmp_path: Path) -> None:
    """One open study, asked again after each of two trials that a worker really ran."""
    file = {
        "name": "live",
        "data": {"kind": "digits", "subset": 60},
        "backbones": [{"name": "tiny_resnet", "weights": "none"}],
        "search_space": {"lr": {"low": 1e-3, "high": 1e-2, "log": True}},
        "budget": {"trials": 2, "epochs": 1},
        "league": False,
    }
    made = studies.create(store, StudySpec.model_validate(file), base=tmp_path)
    desk = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept"))
    study = open_without_option(storage_url)
    assert study.spec == made.spec
    assert (study.name, study.metric, study.direction) == ("live", "accuracy", "maximize")
    for ended in (1, 2):
        run_next(desk)
        assert study.status().trials["complete"] == len(study.trials_frame()) == ended
    assert study.status().state == "done"
    best = study.best()
    assert best.value == study.trials_frame()["value"].max()
    assert {"params_m", "latency_ms", "train_memory_mb", "seconds"} <= best.costs.keys()
    study.close()


def open_without_option(url: str) -> tunesvc.Study:
    """Open the study `live` by the environment, as a notebook does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESVC_STORAGE", url)
        return tunesvc.open_study("live")


def test_it_is_let_go(made: Study, store: Store) -> None:
    """At the end of its block, by `close` twice, and when it is forgotten; then it says so."""
    before = connections(store)
    with tunesvc.open_study("made") as study:
        study.status()
        assert connections(store) == before + 1
    assert comes_to(store, before)
    with pytest.raises(UsageError, match="'made' was closed"):
        study.trials_frame()
    kept = tunesvc.open_study("made")
    kept.status()
    kept.close()
    kept.close()
    assert comes_to(store, before)
    kept = tunesvc.open_study("made")
    kept.status()
    del kept
    gc.collect()
    assert comes_to(store, before)


def test_errors_are_the_houses(made: Study, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such study, no such server, a password in the argument; nothing is left open."""
    before = connections(store)
    with pytest.raises(StudyError, match="did you mean 'made'"):
        tunesvc.open_study("mad")
    assert comes_to(store, before)
    with pytest.raises(UsageError, match="holds a password"):
        tunesvc.open_study("made", "postgresql://me:secret@localhost/x")
    monkeypatch.setenv("TUNESVC_STORAGE", "postgresql://me@127.0.0.1:9/x")
    with pytest.raises(StorageError, match="Postgres cannot be reached") as caught:
        tunesvc.open_study("made")
    assert isinstance(caught.value, tunesvc.TuneError)
