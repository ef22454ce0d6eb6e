"""A worker among several studies, and when its machine is at fault."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tunesvc import checkpoint, study, train
from tunesvc.errors import DataError, StorageError, TrainingError
from tunesvc.interrupt import Stopped, stoppable
from tunesvc.spec import StudySpec
from tunesvc.storage import Store, open_store
from tunesvc.train import Run
from tunesvc.worker import serve


def stored(store: Store, folder: Path, name: str, data: dict[str, object]) -> study.Study:
    """A study of two short trials."""
    spec = StudySpec.model_validate(
        {
            "name": name,
            "data": data,
            "backbones": [{"name": "two_conv_cnn", "weights": "none"}],
            "search_space": {"lr": {"low": 1e-4, "high": 1e-1, "log": True}},
            "budget": {"trials": 2, "epochs": 1},
        }
    )
    return study.create(store, spec, base=folder)


@pytest.fixture
def digits(store: Store, tmp_path: Path) -> study.Study:
    """A study that runs everywhere."""
    return stored(store, tmp_path, "digits", {"kind": "digits", "subset": 60})


def work(store: Store, *names: str) -> list[str]:
    """Serve until done; return the lines about trials."""
    lines: list[str] = []
    serve(store.url, names, device="cpu", until_done=True, on_trial=lines.append)
    return lines


def test_all_open_studies_are_served_oldest_first(
    store: Store, digits: study.Study, tmp_path: Path
) -> None:
    """Without names: one after the other, to the end of each budget."""
    later = stored(store, tmp_path, "later", {"kind": "digits", "subset": 50})
    lines = work(store)
    assert [line.split()[1] for line in lines] == ["0", "1", "0", "1"]
    assert study.status(digits).state == study.status(later).state == "done"


def test_a_study_without_its_data_holds_up_no_other(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is passed over with its reason; asked for by name it is an error."""
    stored(store, tmp_path, "moved", {"kind": "folder", "path": "away"})
    digits = stored(store, tmp_path, "digits", {"kind": "digits", "subset": 60})
    work(store)
    assert study.status(digits).state == "done"
    assert "moved is passed over" in caplog.text
    with pytest.raises(DataError):
        work(store, "moved")


def test_an_unwritable_artifact_folder_costs_no_trial(
    store: Store, digits: study.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker ends; mended, the same trial goes on and the budget is whole."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUNESVC_ARTIFACTS", str(tmp_path / "file" / "below"))
    with pytest.raises(StorageError, match="cannot be"):
        work(store, "digits")
    assert study.status(digits).trials["fail"] == 0
    monkeypatch.setenv("TUNESVC_ARTIFACTS", str(tmp_path / "kept"))
    work(store, "digits")
    assert study.status(digits).trials["complete"] == 2


def test_a_study_deleted_while_it_is_served(
    store: Store, digits: study.Study, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Its worker says so and leaves; that is nobody's error."""
    save = checkpoint.save

    def save_and_delete(*given: Any) -> None:
        save(*given)
        study.delete(digits, force=True)

    monkeypatch.setattr(checkpoint, "save", save_and_delete)
    assert work(store, "digits") == []
    assert "study digits was deleted" in caplog.text


def test_a_signal_while_a_trial_ends_stops_the_worker_after_it(
    store: Store, digits: study.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial that has come to its end is told; no other one is begun."""
    save = checkpoint.save

    def save_and_ask(*given: Any) -> None:
        save(*given)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(checkpoint, "save", save_and_ask)
    with pytest.raises(Stopped), stoppable():
        work(store, "digits")
    counts = study.status(digits).trials
    assert counts["complete"] == 1
    assert counts["waiting"] + counts["remaining"] == 1  # drawn ahead, or not


def test_three_failures_in_a_row_pause_the_study(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the budget is kept for when the cause is mended."""
    spec = stored(store, tmp_path, "digits", {"kind": "digits", "subset": 60}).spec
    more = spec.budget.model_copy(update={"trials": 9})
    longer = study.create(store, spec.model_copy(update={"budget": more}), base=tmp_path)

    def fit(_: Run, tick: object) -> Iterator[train.Epoch]:
        raise RuntimeError("the cable was pulled")
        yield

    monkeypatch.setattr(train, "fit", fit)
    with pytest.raises(TrainingError, match="is paused: 3 trials in a row") as raised:
        work(store, "digits")
    assert "the cable was pulled" in str(raised.value)
    assert study.status(longer).trials["fail"] == 3
    assert study.is_paused(longer)


def test_a_budget_can_be_raised(store: Store, digits: study.Study, tmp_path: Path) -> None:
    """More trials make no other study: it goes on where it was done."""
    work(store, "digits")
    more = digits.spec.budget.model_copy(update={"trials": 3})
    raised = study.create(store, digits.spec.model_copy(update={"budget": more}), base=tmp_path)
    assert study.status(raised).state == "open"
    assert len(work(store, "digits")) == 1
    assert study.status(raised).state == "done"


def test_trouble_inside_an_open_store_is_told_in_words(store: Store) -> None:
    """No command has to guard itself."""
    with (
        pytest.raises(StorageError),
        open_store(store.url) as opened,
        opened.engine.connect() as connection,
    ):
        connection.execute(text("SELECT * FROM nowhere"))


@pytest.fixture(autouse=True)
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Checkpoints of these tests alone."""
    monkeypatch.setenv("TUNESVC_ARTIFACTS", str(tmp_path / "artifacts"))
    yield
    shutil.rmtree(tmp_path / "artifacts", ignore_errors=True)
