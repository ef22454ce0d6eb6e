"""A study's trials as a table: of real training on digits, and of trials of every other kind."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from trials import run_next, trial

from tunesvc import checkpoint, study
from tunesvc.analysis.pruning_audit import PruningAudit, pruning_audit
from tunesvc.analysis.table import Trials
from tunesvc.results import trials
from tunesvc.shelf import Folder
from tunesvc.spec import KNOBS, StudySpec
from tunesvc.storage import Store
from tunesvc.trial import Desk

COLUMNS = {
    *("state", "value", "last", "epochs", "backbone", "strategy", "default", "drawn", "control"),
    *("stop_epoch", "seconds", "epoch_seconds", "started", "ended", "worker", "reason"),
    *("parameters", "trainable", "gflops", "memory_mb", "memory_kind", "architecture"),
    *(
        "size_mb",
        "infer_memory_mb",
        "latency_ms",
        "latency_p95_ms",
        "latency_on",
        "latency_quiet",
        *("size_bf16_mb", "size_int8_mb", "batch_latency_ms", "batch_latency_p95_ms"),
        *("batch_quiet", "images_per_second", "energy_j"),
        "pretrained",
        "feasible",
    ),
    *(
        f"metric:{name}"
        for name in ("accuracy", "balanced_accuracy", "recall", "precision", "f1", "loss")
    ),
}


def spec(**changed: Any) -> StudySpec:
    """A small study of two untrained networks on a hundred digits."""
    return StudySpec.model_validate(
        {
            "name": "digits",
            "data": {"kind": "digits", "subset": 100},
            "backbones": [
                {"name": "tiny_resnet", "weights": "none"},
                {"name": "two_conv_cnn", "weights": "none"},
            ],
            "search_space": {
                "lr": {"low": 1e-4, "high": 1e-1, "log": True},
                "optimizer": ["sgd", "adamw"],
                "momentum": {"low": 0.5, "high": 0.9, "when": {"optimizer": "sgd"}},
                "batch_size": 32,
            },
            "budget": {"trials": 9, "epochs": 3},
            "pruner": "none",
            "sampler": {"kind": "tpe", "n_startup_trials": 4},
        }
        | changed
    )


def hopeless(control: float) -> StudySpec:
    """One trial that learns nothing, after two that do; a pruner that stops it."""
    return spec(
        backbones=[{"name": "tiny_resnet", "weights": "none"}],
        search_space={"lr": [1e-3, 1e-7]},
        sampler="grid",
        budget={"trials": 9, "epochs": 3},
        defaults={"lr": 1e-3},
        pruner={"kind": "median", "n_startup_trials": 2, "n_warmup_steps": 0, "control": control},
    )


def desk_of(store: Store, folder: Path, made: StudySpec) -> Desk:
    """A stored study with its own cache and artifacts."""
    return Desk(study.create(store, made, base=folder), folder / "cache", Folder(folder / "kept"))


def audit(table: Trials) -> PruningAudit:
    found = pruning_audit(table)
    assert isinstance(found, PruningAudit)
    return found


def test_every_column_of_real_trials(store: Store, tmp_path: Path) -> None:
    """Eight trials, really trained: each column holds what the trial is stored with."""
    desk = desk_of(store, tmp_path, spec())
    before = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)
    for _ in range(8):
        run_next(desk)
    table = trials(desk.study)
    frame = table.frame
    dimensions = [each.name for each in table.space]
    assert dimensions == ["backbone", "optimizer", "lr", "momentum"]
    wanted = {f"param:{name}" for name in dimensions}
    wanted |= {f"knob:{knob}" for knob in ("backbone", *KNOBS)}
    assert set(frame.columns) == COLUMNS | wanted
    assert (frame.index.name, list(frame.index)) == ("number", list(range(8)))
    assert set(frame["state"]) == {"COMPLETE"}
    for number, row in frame.iterrows():
        told = trial(desk, int(str(number)))
        described = told.user_attrs["run"]
        assert row["value"] == row["last"] == told.value == told.intermediate_values[3]
        assert table.curves[told.number] == tuple(sorted(told.intermediate_values.items()))
        assert row["epochs"] == 3
        assert row["backbone"] == row["knob:backbone"] == told.params["backbone"]
        assert row["strategy"] == described["knobs"]["strategy"]
        assert row["seconds"] == pytest.approx(sum(told.user_attrs["seconds"].values()))
        assert 0 < row["epoch_seconds"] * 3 <= row["seconds"]
        assert before <= row["started"] <= row["ended"] <= before + timedelta(minutes=10)
        assert row["worker"] == described["worker"]
        assert (row["parameters"], row["trainable"]) == (
            described["parameters"],
            described["parameters_trainable"],
        )
        assert not row["pretrained"]
        latency, last = described["latency"], told.user_attrs["history"][-1]
        assert row["size_mb"] == described["size_mb"] > row["parameters"] * 4 / 2**20
        assert row["infer_memory_mb"] == described["infer_memory_mb"] > row["size_mb"] * 0.9
        assert 0 < row["latency_ms"] == latency["ms"] <= row["latency_p95_ms"] == latency["p95_ms"]
        batch = described["batch_latency"]
        assert 0 < row["batch_latency_ms"] == batch["ms"] <= row["batch_latency_p95_ms"]
        assert row["images_per_second"] == pytest.approx(8000 / batch["ms"])
        assert (batch["batch"], latency["batch"]) == (8, 1)
        assert row["size_bf16_mb"] == described["size_bf16_mb"]
        assert row["size_int8_mb"] == described["size_int8_mb"]
        assert max(row["size_bf16_mb"], row["size_int8_mb"]) < row["size_mb"]
        assert math.isnan(row["energy_j"])  # nobody counts it on a CPU
        assert row["latency_on"].endswith(f", float32, threads: {latency['threads']}")
        assert [row[f"metric:{name}"] for name in ("accuracy", "f1")] == [
            last["accuracy"],
            last["f1"],
        ]
        assert row["param:lr"] == told.params["lr"] == row["knob:lr"]
        assert row["knob:batch_size"] == 32  # fixed, and acts all the same
        is_sgd = told.params["optimizer"] == "sgd"
        assert math.isnan(row["param:momentum"]) is not is_sgd
        assert math.isnan(row["knob:momentum"]) is not is_sgd  # AdamW has none
        assert (row["reason"], row["control"]) == ("", False)
    assert list(frame["default"]) == [True, True] + [False] * 6
    assert list(frame["drawn"]) == ["given"] * 2 + ["random"] * 2 + ["sampler"] * 4
    assert [table.defaults[label]["backbone"] for label in table.backbones] == [*table.backbones]
    assert (table.metric, table.direction, table.sampler) == ("accuracy", "maximize", "tpe")


def test_trials_of_every_kind(store: Store, tmp_path: Path) -> None:
    """Queued, under way, failed, diverged, of another version, of another program."""
    desk = desk_of(store, tmp_path, spec(sampler="random"))
    run_next(desk)
    plain = desk.study.optuna()
    space = {each.name: each.distribution for each in desk.space.parameters}
    drawn = {"backbone": "two_conv_cnn", "optimizer": "sgd", "lr": 0.01, "momentum": 0.6}

    def add(state: TrialState, **what: Any) -> None:
        own = {name: space[name] for name in what.setdefault("params", drawn)}
        plain.add_trial(optuna.create_trial(state=state, distributions=own, **what))

    add(TrialState.COMPLETE, value=0.5, intermediate_values={1: 0.25, 2: 0.5})
    add(TrialState.PRUNED, intermediate_values={1: 0.4, 2: math.nan})
    add(TrialState.PRUNED, value=0.3, intermediate_values={1: 0.3})  # as Optuna stores it
    add(TrialState.FAIL, params={}, user_attrs={"reason": "out of memory"})
    add(TrialState.RUNNING, params={})
    add(TrialState.COMPLETE, value=0.1, user_attrs={"run": {"backbone": "x", "knobs": {"lr": -1}}})
    plain.enqueue_trial({"lr": 0.05})
    frame = trials(desk.study).frame.iloc[1:]
    states = ["COMPLETE", "PRUNED", "PRUNED", "FAIL", "RUNNING", "COMPLETE", "WAITING"]
    assert list(frame["state"]) == states
    nothing = [math.nan] * 7
    np.testing.assert_equal(list(frame["value"]), [0.5, *nothing[:4], 0.1, math.nan])
    np.testing.assert_equal(list(frame["last"]), [0.5, 0.4, 0.3, *nothing[:4]])
    assert list(frame["epochs"]) == [2, 2, 1, 0, 0, 0, 0]
    assert list(frame["backbone"]) == ["two_conv_cnn"] * 3 + [""] * 4
    assert list(frame["strategy"]) == ["from-scratch"] * 3 + [""] * 4
    assert list(frame["drawn"]) == ["random"] * 6 + ["given"]
    assert list(frame["reason"]) == ["", "", "", "out of memory", "", "", ""]
    np.testing.assert_equal(list(frame["knob:momentum"]), [0.6] * 3 + nothing[:4])
    np.testing.assert_equal(list(frame["gflops"]), nothing)
    assert frame["ended"].isna().tolist() == [False, False, False, False, True, False, True]
    assert frame["seconds"].isna().tolist() == [False, False, False, False, True, False, True]


def test_a_study_without_trials(store: Store, tmp_path: Path) -> None:
    """The columns are there all the same, each with its type."""
    table = trials(study.create(store, spec(), base=tmp_path))
    assert len(table.frame) == 0
    assert set(table.frame.columns) >= COLUMNS
    assert table.frame["value"].dtype == float
    assert table.frame["control"].dtype == bool
    assert pd.api.types.is_datetime64_dtype(table.frame["started"])
    assert table.finished.empty


def test_a_control_trial_goes_on(store: Store, tmp_path: Path) -> None:
    """The pruner's word is noted, and the audit finds that it was right."""
    desk = desk_of(store, tmp_path, hopeless(control=1.0))
    while run_next(desk):
        pass
    table = trials(desk.study)
    assert list(table.frame["state"]) == ["COMPLETE"] * 3
    assert list(table.frame["control"]) == [False, True, True]  # the default is asked by nobody
    assert list(table.frame["drawn"]) == ["given"] * 3
    np.testing.assert_equal(list(table.frame["stop_epoch"]), [math.nan, math.nan, 1])
    found = audit(table)
    assert [(each.trial, each.rank) for each in found.spared] == [(2, 3)]
    assert found.regret == 0.0
    assert not found.savings


def test_what_pruning_saved(store: Store, tmp_path: Path) -> None:
    """The same study without controls: the audit knows the pruner's words, and counts epochs."""
    desk = desk_of(store, tmp_path, hopeless(control=0.0))
    while run_next(desk):
        pass
    table = trials(desk.study)
    assert list(table.frame["state"]) == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert math.isnan(table.frame["value"][2])
    assert table.frame["last"][2] == table.curves[2][-1][1]
    savings = audit(table).savings
    assert savings
    assert (savings.pruned, savings.epochs.value) == (1, 3 - len(table.curves[2]))


def test_controls_are_no_other_study(store: Store, tmp_path: Path) -> None:
    """A stored study goes on with another share, and draws what it would have drawn."""
    first = study.create(store, hopeless(control=0.0), base=tmp_path)
    again = study.create(store, hopeless(control=0.5), base=tmp_path)
    assert again.id == first.id
    assert again.spec.pruner.control == 0.5  # type: ignore[union-attr]


def test_a_control_taken_over_is_stopped_by_nobody(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker dies after the pruner's word: that stays as it was, and the trial goes on."""
    desk = desk_of(store, tmp_path, hopeless(control=1.0))
    for _ in range(2):
        run_next(desk)
    save = checkpoint.save

    def save_and_die(state: Any, *where: Any) -> None:
        save(state, *where)
        if len(state["history"]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run_next(desk)
    assert trial(desk, 2).user_attrs["stop_epoch"] == 1
    monkeypatch.setattr(checkpoint, "save", save)
    assert run_next(desk).state is TrialState.COMPLETE
    told = trial(desk, 2).user_attrs
    assert (told["stop_epoch"], told["control"], told["drawn"]) == (1, True, "given")
