"""`tunesvc best --where` on a real database: of stored trials, and of trials just run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from stored_trials import LATENCY, add_trials, stored_study
from trials import run_next

from tunesvc import study
from tunesvc.cli import main
from tunesvc.results import trials
from tunesvc.shelf import Folder
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.study import Study
from tunesvc.study.quantities import VARIABLE
from tunesvc.trial import Desk


@pytest.fixture
def made(store: Store, tmp_path: Path) -> Study:
    """Twenty trials of an older version, then forty of this one, on one machine."""
    made = stored_study(store, tmp_path, trials=20)
    add_trials(made, 40, latency_on="Xeon")
    return made


Say = Callable[..., str]


@pytest.fixture
def say(
    storage_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Say:
    """Run `tunesvc best made --where …` and return what it prints."""
    monkeypatch.setenv("TUNESVC_STORAGE", storage_url)

    def say(where: str, *more: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as end:
            main(["best", "made", "--where", where, *more])
        told = capsys.readouterr()
        assert end.value.code == code, told.err
        return told.err if code else told.out

    return say


def expected(made: Study, backbone: str) -> tuple[int, float]:
    """Number and value of a backbone's best trial among those with costs."""
    found = made.store.fresh().get_all_trials(made.id)[20:]
    own = [trial for trial in found if trial.user_attrs["run"]["backbone"] == backbone]
    best = max(own, key=lambda trial: trial.value or 0.0)
    return best.number, best.value or 0.0


def test_the_best_under_a_cap_is_not_the_winner(made: Study, say: Say) -> None:
    """It is the best of the backbone that keeps within it; older trials are counted as left out."""
    for cap, backbone in ((10, "tiny_resnet"), (3, "two_conv_cnn")):
        told = json.loads(say(f"latency_ms <= {cap} and params_m <= 6", "--json"))
        number, value = expected(made, backbone)
        assert (told["study"], told["metric"], told["direction"]) == (
            *("made", "accuracy", "maximize"),
        )
        assert (told["best"]["trial"], told["best"]["value"]) == (number, value)
        assert told["best"]["told"]["latency_ms"] == LATENCY[backbone]
        assert (told["finished"], told["left_out"]) == (60, 20)
        assert told["unknown"] == {"latency_ms": 20}
        assert told["nearest"] == []
    for cap in ("images_per_second >= 1000", "energy_j <= 0.2", "batch_latency_p95_ms < 5"):
        told = json.loads(say(cap, "--json"))
        assert told["best"]["backbone"] == "two_conv_cnn"
        assert bool(told["measured_on"]) == (not cap.startswith("energy"))
    plain = say("latency_ms <= 10")
    best, cheap = expected(made, "tiny_resnet"), expected(made, "two_conv_cnn")
    assert "40 of 40 finished trials have latency_ms <= 10" in plain
    assert f"trial {best[0]}: accuracy {best[1]:.4f}" in plain
    front = plain[plain.index("front") :]
    assert [line.split()[0] for line in front.splitlines()[2:4]] == [str(best[0]), str(cheap[0])]
    assert "20 of 60 finished trials are left out: 20 have no latency_ms" in " ".join(plain.split())


def test_where_nothing_fits_the_nearest_cap_is_told(made: Study, say: Say) -> None:
    """Which one, raised to what, would admit which trial; so does the JSON."""
    number, value = expected(made, "two_conv_cnn")
    where = "latency_ms <= 0.4 and params_m <= 6"
    plain = " ".join(say(where).split())
    assert f"0 of 40 finished trials have {where}" in plain
    assert f"nearest with latency_ms <= 0.5: trial {number} (two_conv_cnn" in plain
    told = json.loads(say(where, "--json"))
    assert told["best"] is None
    assert told["nearest"][0]["instead"] == ["latency_ms <= 0.5"]
    assert told["nearest"][0]["fit"]["trial"] == number
    again = json.loads(say("latency_ms <= 0.5 and params_m <= 6", "--json"))
    assert (again["best"]["trial"], again["best"]["value"]) == (number, value)
    both = " ".join(say("latency_ms <= 0.1 and size_mb <= 0.1").split())
    assert "no single cap would do; with latency_ms <= 0.5 and size_mb <= 0.4: trial" in both


def test_metrics_can_be_asked_for(made: Study, say: Say) -> None:
    """Older trials have those."""
    told = json.loads(say("accuracy >= 0.8", "--json"))
    assert (told["left_out"], told["finished"]) == (0, 60)
    assert all(each["backbone"] == "tiny_resnet" for each in told["front"])


def test_latencies_of_two_devices_are_told_apart(made: Study, say: Say) -> None:
    """A cap means something else on each."""
    add_trials(made, 5, latency_on="H100")
    told = json.loads(say("latency_ms <= 10", "--json"))
    assert told["measured_on"] == ["H100, float32, threads: 1", "Xeon, float32, threads: 1"]
    assert "latencies are of different devices" in say("latency_ms <= 10")


def test_a_disturbed_latency_counts_for_as_long_as_there_is_no_better(
    store: Store, tmp_path: Path, say: Say
) -> None:
    """It is told; once a trial of the same net was told a lower one, that counts for all."""
    made = stored_study(store, tmp_path, trials=0)
    add_trials(made, 20, latency_on="Xeon", slower=100.0)
    told = json.loads(say("latency_ms <= 10", "--json"))
    assert (told["best"], told["disturbed"]) == (None, 20)
    assert "the latencies of 20 trials are too high" in " ".join(say("latency_ms <= 10").split())
    add_trials(made, 20, latency_on="Xeon")
    told = json.loads(say("latency_ms <= 10", "--json"))
    assert (told["fits"], told["disturbed"]) == (40, 0)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("latnecy_ms <= 3", "did you mean 'latency_ms'?"),
        ("pixels <= 3", "known: accuracy, balanced_accuracy, batch_latency_ms"),
        ("latency_ms <= fast", "is not understood"),
    ],
)
def test_bad_words_are_explained(made: Study, say: Say, where: str, words: str) -> None:
    """Exit code 2, and what one could have meant."""
    assert words in say(where, code=2)


def test_trials_that_run_store_what_their_model_costs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured once for each backbone, and kept on the host; switched off, it is not known."""
    spec = {
        "name": "costs",
        # No other test has images of this size: this process has measured none.
        "data": {"kind": "digits", "subset": 60, "image_size": 24},
        "backbones": [{"name": "tiny_resnet", "weights": "none"}],
        "search_space": {"lr": {"low": 1e-3, "high": 1e-2, "log": True}},
        "budget": {"trials": 3, "epochs": 1},
        "sampler": "random",
        "league": False,
    }
    made = study.create(store, StudySpec.model_validate(spec), base=tmp_path)
    desk = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept"))
    run_next(desk)
    files = sorted((tmp_path / "cache" / "latency").glob("*.json"))
    written = [file.stat().st_mtime_ns for file in files]
    kept = [json.loads(file.read_text()) for file in files]
    first = {told["kind"].get("batch", 1): told["timing"]["median_ms"] for told in kept}
    assert first.keys() == {1, 8}
    run_next(desk)
    assert [file.stat().st_mtime_ns for file in files] == written
    monkeypatch.setenv(VARIABLE, "off")
    run_next(desk)
    frame = trials(made).frame
    assert list(frame["latency_ms"])[:2] == [pytest.approx(first[1], abs=1e-4)] * 2
    assert list(frame["batch_latency_ms"])[:2] == [pytest.approx(first[8], abs=1e-4)] * 2
    assert list(frame["latency_ms"].isna()) == [False, False, True]
    assert frame["size_mb"].nunique() == frame["infer_memory_mb"].nunique() == 1
