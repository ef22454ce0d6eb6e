"""How long a study will take, before it begins."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tunesvc.check import Report, check, duration, estimate, tell
from tunesvc.check.dry import Dry, Phase, Stay
from tunesvc.check.played import play
from tunesvc.cli import main
from tunesvc.spec import Knobs, StudySpec
from tunesvc.up import placements

SPACE = {"strategy": ["linear-probe", "last-stage", "full"], "lr": [1e-3], "augmentation": "none"}
FULL = SPACE | {"strategy": "full"}
KNOWN = Phase(train=0.01, evaluation=0.001, prefix=0.1, frozen=1)


def spec(**changed: Any) -> StudySpec:
    """Return a study of 100 images to train on, and 40 to evaluate."""
    return StudySpec.model_validate(
        {
            "name": "tiny",
            "data": {"kind": "digits", "subset": 100},
            "backbones": ["tiny_resnet"],
            "search_space": FULL,
            "budget": {"trials": 9, "epochs": 4},
            "pruner": "none",
            "league": False,
        }
        | changed
    )


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every phase takes what is known; building, and starting, take nothing."""

    def measure(_dry: Dry, _knobs: Knobs, stay: Stay) -> Phase:
        return KNOWN if stay.key[1] else Phase(KNOWN.train, KNOWN.evaluation)

    def begin(dry: Dry) -> None:
        begun(dry)
        dry.built_seconds = 0.0

    begun = Dry.__post_init__
    monkeypatch.setattr(Dry, "_measure", measure)
    monkeypatch.setattr(Dry, "__post_init__", begin)
    monkeypatch.setattr(duration, "START_SECONDS", 0.0)
    monkeypatch.setattr(duration, "TRIAL_SECONDS", 0.0)
    monkeypatch.setattr(duration, "crowding", lambda _workers: 1.0)


def seconds(made: StudySpec, workers: int = 1) -> float:
    """Return what the study is told to take."""
    return estimate(made, Path(), ["cpu"] * workers).seconds


@pytest.mark.usefixtures("known")
def test_epochs_times_images_shared_by_the_workers() -> None:
    """9 × 4 epochs × (100 × 10 ms + validation × 1 ms); of three workers two wait at the end."""
    one = seconds(spec())
    images = len(_listing("val"))
    assert one == pytest.approx(9 * 4 * (100 * 0.01 + images * 0.001))
    assert seconds(spec(), workers=3) == pytest.approx(one / 3 + one / 9 / 3)


def _listing(split: str) -> Any:
    from tunesvc import data

    return data.scan(spec().data, target="class", base=Path()).splits[split]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("budget", "trials"),
    [
        ({"epochs_total": 23, "epochs": 4}, 5),
        ({"epochs_total": 23, "epochs": 4, "trials": 3}, 3),
        ({"hours": 0.002, "epochs": 4, "trials": 99}, 2),
        ({"gpu_hours": 0.002, "epochs": 4}, 2),
    ],
)
def test_the_first_budget_that_ends_ends_the_study(budget: dict[str, Any], trials: int) -> None:
    """A trial takes between four and five seconds here."""
    assert estimate(spec(budget=budget), Path(), ["cpu"]).trials == trials


@pytest.mark.usefixtures("known")
def test_what_frozen_stages_give_is_computed_once() -> None:
    """By whichever trial wants it first; without a cache never, each epoch runs all stages."""
    probe = spec(search_space=SPACE | {"strategy": "last-stage"})
    few = estimate(probe, Path(), ["cpu"])
    many = estimate(probe.model_copy(update={"budget": spec(
        budget={"trials": 40, "epochs": 4}).budget}), Path(), ["cpu"])  # fmt: skip
    images = 100 + len(_listing("val"))
    assert few.frozen_seconds == many.frozen_seconds == pytest.approx(images * KNOWN.prefix)
    live = probe.model_copy(update={"augment": "live"})
    assert estimate(live, Path(), ["cpu"]).frozen_seconds == 0


def test_a_study_is_played_with_its_own_pruner() -> None:
    """Defaults and head-only trials run to their end, of the others some; the same seed again."""
    made = spec(search_space=SPACE, pruner={"kind": "asha", "control": 0})
    trials = list(islice(play(made, 0), 60))
    assert trials == list(islice(play(made, 0), 60))
    assert trials[0].epochs == 4
    assert {t.epochs for t in trials if t.is_stacked} == {4}
    free = [t.epochs for t in trials[1:] if not t.is_stacked]
    assert set(free) <= {1, 3, 4}
    assert 4 < sum(free) < 2.5 * len(free)
    assert {t.epochs for t in islice(play(spec(search_space=SPACE), 0), 20)} == {4}


def test_a_dry_epoch_of_each_strategy() -> None:
    """Real batches; what trains less of the network takes less, and each has its line."""
    told = estimate(spec(search_space=SPACE), Path(), ["cpu", "cpu"]).as_json()
    assert set(told["epoch_seconds"]["tiny_resnet"]) == {"full", "last-stage", "linear-probe"}
    assert told["seconds"] > 0
    assert told["frozen_seconds"] > 0
    assert (told["trials"], told["epochs"], told["workers"]) == (9, 36, 2)
    assert "on this device (2 worker(s) on cpu): 9 trials, 36 epochs" in told["about"]


def test_nothing_is_tried_that_is_not_there() -> None:
    """Where weights are missing there is no estimate, and it says so."""
    made = spec(backbones=[{"name": "tiny_resnet", "weights": "away.safetensors"}])
    report = check(made, Path())
    assert report.problems
    tell(report, made, Path(), ["cpu"])
    assert report.facts["estimate"]["about"] is None
    other = Report()
    tell(other, made, Path(), ["cpu"])
    assert "away.safetensors" in other.facts["estimate"]["why"]


@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_it_is_tried_in_the_precision_that_workers_get(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check --precision` tries what `up --precision` would train in."""
    tried = []

    def measure(dry: Dry, _knobs: Knobs, _stay: Stay) -> Phase:
        tried.append(dry.placement.describe()["precision"])
        return KNOWN

    monkeypatch.setattr(Dry, "_measure", measure)
    file = tmp_path / "tiny.yaml"
    file.write_text(json.dumps(spec().model_dump(mode="json")))
    with suppress(SystemExit):
        main(["check", str(file), "--json", "--precision", asked])
    assert json.loads(capsys.readouterr().out)["facts"]["estimate"]["about"]
    assert set(tried) == {asked}


@pytest.mark.parametrize("options", [[], ["--no-estimate"]])
def test_check_tells_it_unless_it_is_not_wanted(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For as many workers as `up` starts."""
    file = tmp_path / "tiny.yaml"
    file.write_text(json.dumps(spec().model_dump(mode="json")))
    with suppress(SystemExit):
        main(["check", str(file), "--json", *options])
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert ("estimate" in facts) == (not options)
    if not options:
        assert facts["estimate"]["workers"] == len(placements(None, None))
