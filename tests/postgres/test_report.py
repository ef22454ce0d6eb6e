"""Reports of stored studies: made once, kept until a trial ends, written by the command."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from tunesvc import places, report, space, study
from tunesvc.cli import main
from tunesvc.report import PLOTLY, Report, kept, making
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.study import Study


def stored(store: Store, count: int, name: str = "digits") -> Study:
    """A study with so many finished trials."""
    spec = {
        "name": name,
        "data": "digits",
        "backbones": [
            {"name": each, "weights": "none"} for each in ("tiny_resnet", "two_conv_cnn")
        ],
        "search_space": {
            "lr": {"low": 1e-4, "high": 1e-1, "log": True},
            "optimizer": ["sgd", "adamw"],
        },
        "sampler": "random",
    }
    made = study.create(store, StudySpec.model_validate(spec), base=Path("/where"))
    for number in range(count):
        finish(made, number)
    return made


def finish(made: Study, seed: int) -> None:
    """Add a finished trial."""
    rng = np.random.default_rng(seed)
    drawn = {
        "backbone": ("tiny_resnet", "two_conv_cnn")[seed % 2],
        "lr": float(10 ** rng.uniform(-4, -1)),
        "optimizer": ("sgd", "adamw")[int(rng.integers(2))],
    }
    value = 0.9 - 0.1 * abs(np.log10(drawn["lr"]) + 2) - 0.05 * (seed % 2)
    distributions = {each.name: each.distribution for each in space.build(made.spec).parameters}
    made.optuna().add_trial(
        optuna.create_trial(
            state=TrialState.COMPLETE,
            value=float(value),
            params=drawn,
            distributions={name: distributions[name] for name in drawn},
            intermediate_values={1: float(value) / 2, 2: float(value)},
        )
    )


@pytest.fixture
def made_times(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The studies whose reports were made, in order."""
    names: list[str] = []
    make = making.make

    def counted(evidence: Any) -> Report:
        names.append(evidence.trials.study)
        return make(evidence)

    monkeypatch.setattr(making, "make", counted)
    return names


def test_made_once(store: Store, made_times: list[str]) -> None:
    """A second report without new trials is the first one; a new trial, and it is made anew."""
    known = stored(store, 6)
    first = report.told(known)
    assert first.trials["all"] == 6
    assert report.told(known) == Report.of(json.loads(json.dumps(asdict(first))))
    assert made_times == ["digits"]
    finish(known, 6)
    assert report.told(known).trials["all"] == 7
    assert made_times == ["digits"] * 2


def test_what_is_learned_of_a_study_counts(store: Store, made_times: list[str]) -> None:
    """A new entry of the league table makes a new report."""
    known = stored(store, 2)
    report.told(known)
    study.enter(known, study.Probed("tiny_resnet", {"accuracy": 0.7}))
    report.told(known)
    assert made_times == ["digits"] * 2


def test_a_damaged_copy_is_made_anew(store: Store, made_times: list[str]) -> None:
    """What is kept may be torn or lost: it is then made again."""
    known = stored(store, 2)
    report.told(known)
    (file,) = (places.cache() / "reports").glob(f"{known.uid}.json")
    file.write_text(file.read_text()[:100])
    report.told(known)
    file.unlink()
    report.told(known)
    assert made_times == ["digits"] * 3


def test_another_version_measures_anew(
    store: Store, made_times: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another version has made is not shown."""
    known = stored(store, 2)
    report.told(known)
    monkeypatch.setattr(kept, "__version__", "99")
    report.told(known)
    assert made_times == ["digits"] * 2


def test_many_ask_at_once(store: Store, made_times: list[str]) -> None:
    """Eight threads that ask for a page get the same one, made once."""
    known = stored(store, 6)
    start = threading.Barrier(8)

    def ask(_: int) -> bytes:
        start.wait()
        return report.page(known)

    with ThreadPoolExecutor(8) as threads:
        pages = set(threads.map(ask, range(8)))
    assert len(pages) == 1
    assert made_times == ["digits"]
    assert pages.pop().startswith(b"<!doctype html>")


def test_the_dashboards_page_may_be_a_little_old(store: Store, made_times: list[str]) -> None:
    """A page is shown for a while although trials end; a report that is asked for is not."""
    known = stored(store, 6)
    report.told(known)
    finish(known, 6)
    assert b"7 trials" not in report.page(known)
    assert report.told(known).trials["all"] == 7
    assert b"7 trials" in report.page(known)


def test_a_study_of_the_same_name_is_another(store: Store, made_times: list[str]) -> None:
    """A study that took over a name has a report of its own."""
    report.told(stored(store, 2))
    study.delete(study.open_study(store, "digits"))
    assert report.told(stored(store, 1)).trials["all"] == 1


@pytest.fixture
def command(storage_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `tunesvc report` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESVC_STORAGE", storage_url)

    def run(*words: str) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["report", *words])
        assert ended.value.code in {0, None}

    return run


def test_the_command_writes_a_page(
    store: Store, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It writes the page, says the three sentences, and where the page is."""
    stored(store, 6)
    command("digits")
    told = capsys.readouterr().out
    assert told.startswith("Best of 6 finished trials: accuracy 0.")
    assert told.endswith("written: reports/digits.html\n")
    assert Path("reports/digits.html").read_text().startswith("<!doctype html>")
    assert [path.name for path in Path("reports").iterdir()] == ["digits.html"]


def test_text_and_data_are_printed(
    store: Store, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Markdown and JSON go to standard output, for the next program."""
    stored(store, 6)
    command("digits", "--format", "md")
    assert capsys.readouterr().out.startswith("# digits\n")
    command("digits", "--format", "json")
    known = json.loads(capsys.readouterr().out)
    assert known["study"] == "digits"
    assert known["sections"]["strategies"]["rows"]
    command("digits", "--format", "json", "-o", "there")
    assert json.loads(Path("there/digits.json").read_text())["sentences"] == known["sentences"]


def test_several_side_by_side(
    store: Store, command: Any, capsys: pytest.CaptureFixture[str], made_times: list[str]
) -> None:
    """Several studies have a page each, one of all, and share the drawing library."""
    stored(store, 6, "a")
    stored(store, 6, "b")
    command("a", "b", "-o", "all")
    assert sorted(path.name for path in Path("all").iterdir()) == sorted(
        ["a.html", "b.html", "index.html", PLOTLY]
    )
    index = Path("all/index.html").read_text()
    assert '<a href="a.html">a</a>' in index
    assert len(index) < 200_000
    command("a", "b", "-o", "all")
    assert made_times == ["a", "b"]
    assert "written: all/index.html" in capsys.readouterr().out


def test_an_unknown_study(store: Store, storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt name is told, with the names there are."""
    monkeypatch.setenv("TUNESVC_STORAGE", storage_url)
    stored(store, 0)
    with pytest.raises(SystemExit) as ended:
        main(["report", "digit"])
    assert ended.value.code == 2


def test_evidence_of_a_stored_study(store: Store) -> None:
    """The number of validation images is read from what a trial stores of its run."""
    known = stored(store, 1)
    assert kept.evidence(known).images is None
    trial = known.optuna().get_trials()[0]
    store.optuna.create_new_trial(
        known.id,
        template_trial=replace_attributes(trial, {"run": {"images": {"train": 90, "val": 45}}}),
    )
    assert kept.evidence(replace(known)).images == 45


def replace_attributes(trial: Any, attributes: dict[str, Any]) -> Any:
    """The same trial with other attributes."""
    trial.user_attrs = attributes
    return trial
