"""`tunesvc export`: real studies on real images, through to folders that can be used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from trials import CPU, run_next

from tunesvc import checkpoint, confirm, exported, plugins, study
from tunesvc.checkpoint import Mark
from tunesvc.cli import main
from tunesvc.errors import StudyError, UsageError
from tunesvc.export import Wish, Written, export, forms, scored
from tunesvc.export.scored import pictures
from tunesvc.export.soup import stir
from tunesvc.export.trained import Bench, Made
from tunesvc.interrupt import Stopped
from tunesvc.shelf import Folder
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.trial import Desk, complete, kept_run, score

SHARED = Path(__file__).parents[2] / "../shared"
FLOWERS = SHARED / "data" / "flowers128" / "train"
MOBILENET = SHARED / "weights" / "mobilenet_v2_w035-keras-features-96ed9f53.pth"
SQUEEZENET = SHARED / "weights" / "squeezenet1_1-caffe-features-49c38fe8.pth"

DIGITS = {
    "data": {"kind": "digits", "subset": 120},
    "backbones": [{"name": "tiny_resnet"}],
    "search_space": {"strategy": "full", "lr": [1e-3, 3e-3, 1e-2], "batch_size": 32},
    "defaults": {"lr": 3e-3},
    "budget": {"trials": 3, "epochs": 1},
    "sampler": "random",
    "pruner": "none",
    "league": False,
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No latency is measured, and intervals are drawn roughly: seconds of each export."""
    monkeypatch.setenv("TUNESVC_LATENCY", "off")
    for name, number in (("_FEWEST", 40), ("_NUMBERS", 1)):
        monkeypatch.setattr(sys.modules["tunesvc.exported.measure"], name, number)


Ran = Callable[..., Desk]


@pytest.fixture
def ran(store: Store, tmp_path: Path, home: Path) -> Ran:
    """Store a study and run all its trials, with the command line's shelf; `more` replaces keys."""

    def run(name: str = "small", **more: Any) -> Desk:
        spec = StudySpec.model_validate({"name": name, **DIGITS, **more})
        made = study.create(store, spec, base=tmp_path)
        return finished(Desk(made, home / "cache", Folder(home / "artifacts")))

    return run


def finished(desk: Desk) -> Desk:
    """Run what is left of a study, as a worker does."""
    complete(desk, CPU, lambda: None)
    while run_next(desk):
        pass
    return desk


def exporting(desk: Desk, into: Path, **wish: Any) -> Written:
    """Export a study's model, without ONNX unless it is wished for."""
    asked = Wish(**{"onnx": False} | wish)
    return export(desk.study, asked, into, shelf=desk.shelf, cache=desk.cache, device="cpu")


def kept(desk: Desk, number: int) -> Made:
    """A trial's model as its checkpoint has it."""
    found = next(t for t in desk.records().get_trials() if t.number == number)
    run = kept_run(desk, number, *desk.space.resolve(found.params), CPU)
    assert run is not None
    return Made(run, "trial", ())


def weights(desk: Desk, number: int) -> dict[str, Tensor]:
    """A copy of all that a trial's model holds."""
    return {
        name: value.clone() for name, value in kept(desk, number).run.module.state_dict().items()
    }


def given(desk: Desk, made: Made, count: int) -> Tensor:
    """The first validation images as a model takes them."""
    return pictures(Bench(desk, CPU, print), made, made.run.val, count)


def value(desk: Desk, number: int) -> float:
    """What a trial told of its objective."""
    return float(desk.records().get_trials()[number].values[0])


def forget(desk: Desk, *numbers: int) -> None:
    """Delete trials' checkpoints, as `keep` would."""
    for number in numbers:
        for name in desk.shelf.names(desk.folder(number) + "/"):
            desk.shelf.remove(name)


# --- round trips --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(
    not (FLOWERS.exists() and MOBILENET.exists() and SQUEEZENET.exists()),
    reason="needs flowers, and MobileNetV2's and SqueezeNet's ImageNet weights, in ../shared",
)
def test_three_families_round_trip(ran: Ran, tmp_path: Path) -> None:
    """On photographs: the folder's model, torch.export's and ONNX's answer as the trial's does."""
    for label in ("daisy", "rose", "tulip"):
        (tmp_path / "flowers" / label).mkdir(parents=True)
        for photo in sorted((FLOWERS / label).iterdir())[:30]:
            (tmp_path / "flowers" / label / photo.name).symlink_to(photo.resolve())
    desk = ran(
        data={"kind": "folder", "path": "flowers", "image_size": 64},
        backbones=[
            {"name": "mobilenet_v2", "weights": str(MOBILENET), "kwargs": {"width_mult": 0.35}},
            {"name": "squeezenet1_1", "weights": str(SQUEEZENET)},
            {"name": "tiny_resnet"},
        ],
        search_space={"strategy": "last-stage", "lr": 1e-3, "batch_size": 16},
        defaults={},
    )
    for number, family in enumerate(("mobilenet_v2", "squeezenet1_1", "tiny_resnet")):
        done = exporting(desk, tmp_path / family, trial=number, onnx=True)
        made = kept(desk, number)
        images = given(desk, made, 7)
        with torch.inference_mode():
            wanted = made.run.module.eval()(images)
            model = exported.load(tmp_path / family)
            assert (model(images) - wanted).abs().max() <= 1e-5
            photo = desk.listing.splits["val"].images[0]
            assert isinstance(photo, Path)
            assert (model.transform(photo) - images[0]).abs().max() <= 1e-6
            program = torch.export.load(tmp_path / family / "model.pt2").module()
            for some in (images[:1], images[:2], images):
                assert (program(some) - model(some)).abs().max() <= 1e-5
                other = forms._read_onnx(tmp_path / family / "model.onnx")(some)
                assert (other - model(some)).abs().max() <= 1e-4
        assert [form.why for form in done.forms] == ["", ""]
        assert all(form.difference is not None and form.difference <= 1e-4 for form in done.forms)
        assert done.record.runs[0].backbone.name == family


# --- the folder ---------------------------------------------------------------------------------


def test_the_folder_is_whole_and_its_figures_are_the_studys(ran: Ran, tmp_path: Path) -> None:
    """Files, metrics of both splits, the test score that the study keeps, the card's words."""
    desk = ran()
    done = exporting(desk, tmp_path / "out", onnx=True)
    best = study.status(desk.study).best
    assert best is not None
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        *("README.md", "config.json", "model.onnx", "model.pt2", "model.safetensors"),
        *("requirements.txt", "study.json"),
    }
    assert done.record.validation["accuracy"] == pytest.approx(best.value, abs=1e-6)
    told = study.test_metrics(desk.study, best.trial)
    assert told == pytest.approx(dict(done.record.test), abs=1e-12)
    assert score(desk, best.trial, CPU) == told
    card = (tmp_path / "out" / "README.md").read_text()
    for words in (
        f"Trial {best.trial} is the best of the study's finished trials",
        "3 trials finished, 0 were pruned, 0 failed; backbones: tiny\\_resnet",
        "The validation figures promise too much.** They are the best of 3,",
        "Objective: accuracy, to maximize, on the validation split",
        f"fingerprint `{desk.listing.fingerprint}`",
        "### Confusion matrix (test)",
        "unknown: read what came with it",
        "opset 20",
    ):
        assert words in card
    assert f"| accuracy | {best.value:.4f} (" in card
    matrix = next(line.split(" | ") for line in card.splitlines() if line.startswith("| 7 |"))
    assert len(matrix) == 11
    needed = (tmp_path / "out" / "requirements.txt").read_text().splitlines()
    assert f"torch=={torch.__version__.partition('+')[0]}" in needed
    assert not list(tmp_path.glob(".out*"))


def test_what_is_there_is_not_replaced_unasked(ran: Ran, tmp_path: Path) -> None:
    """An export only with --force, and anything else never."""
    desk = ran(budget={"trials": 2, "epochs": 1})
    exporting(desk, tmp_path / "out", trial=0)
    with pytest.raises(UsageError, match="there is an exported model already"):
        exporting(desk, tmp_path / "out", trial=1)
    exporting(desk, tmp_path / "out", trial=1, force=True)
    assert exported.load(tmp_path / "out").record.runs[0].trial == 1  # type: ignore[union-attr]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="there is something else"):
        exporting(desk, tmp_path / "notes", force=True)


@pytest.mark.parametrize(
    ("attribute", "changed", "words"),
    [
        ("_NEEDED", ("onnx_that_nobody_has",), "onnx_that_nobody_has not installed"),
        ("TOLERANCE", -1.0, "its outputs differ from torch's by"),
    ],
)
def test_a_form_that_cannot_be_trusted_is_not_written(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, attribute: str, changed: Any,
    words: str,
) -> None:  # fmt: skip
    """Everything else is, and one line says why."""
    monkeypatch.setattr(forms, attribute, changed)
    done = exporting(ran(budget={"trials": 1, "epochs": 1}), tmp_path / "out", onnx=True)
    assert words in done.forms[1].why
    assert not (tmp_path / "out" / "model.onnx").exists()
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert words in (tmp_path / "out" / "README.md").read_text().replace("\\", "")
    assert exported.load(tmp_path / "out").classes == tuple("0123456789")


# --- which model --------------------------------------------------------------------------------


def test_the_trial_that_is_meant(ran: Ran, tmp_path: Path) -> None:
    """The best, one by its number, the best that fits; what cannot be is explained."""
    backbones = [{"name": "tiny_resnet"}, {"name": "tiny_mobilenet"}]
    desk = ran(backbones=backbones, budget={"trials": 2, "epochs": 1})
    small = exporting(desk, tmp_path / "small", where="params_m <= 0.2").record
    assert small.runs[0].label == "tiny_mobilenet"
    assert small.selection["how"] == "the best that has params_m <= 0.2"
    assert (small.selection["chosen"], small.selection["among"]) == ("where", 1)
    card = (tmp_path / "small" / "README.md").read_text()
    assert "They are the best of those that fit (1 of 2)" in card
    first = exporting(desk, tmp_path / "first", trial=0).record
    assert (first.runs[0].trial, first.selection["chosen"]) == (0, "asked")
    with pytest.raises(UsageError, match=r"no trial of 'small' has params_m <= 0\.01") as told:
        exporting(desk, tmp_path / "none", where="params_m <= 0.01")
    assert "trial 1 would fit (tiny_mobilenet" in told.value.fix
    with pytest.raises(StudyError, match="has no trial 7"):
        exporting(desk, tmp_path / "none", trial=7)
    assert not (tmp_path / "none").exists()


def test_a_study_without_a_finished_trial(store: Store, tmp_path: Path, home: Path) -> None:
    """It is said, and the data is not even looked at."""
    spec = StudySpec.model_validate({"name": "fresh", **DIGITS})
    made = study.create(store, spec, base=tmp_path)
    with pytest.raises(StudyError, match="no trial of 'fresh' has come to its end"):
        export(made, Wish(), tmp_path / "out", shelf=Folder(home / "x"), cache=home / "none")
    assert not (home / "none").exists()


def test_a_model_that_is_not_kept(ran: Ran, tmp_path: Path) -> None:
    """Those that are kept are named; trained anew, it is the same trial again."""
    desk = ran(keep="best-1")
    best = study.status(desk.study).best
    assert best is not None
    lost = next(number for number in range(3) if number != best.trial)
    with pytest.raises(StudyError, match=f"the model of trial {lost} of 'small', the one") as e:
        exporting(desk, tmp_path / "out", trial=lost)
    assert f"trials {best.trial} (the study says keep: best-1)" in e.value.why
    assert "--refit train" in e.value.fix
    assert not (tmp_path / "out").exists()
    again = exporting(desk, tmp_path / "out", trial=lost, refit="train").record
    assert again.validation["accuracy"] == pytest.approx(value(desk, lost), abs=1e-6)
    assert (again.made, again.trained_on) == ("trial", ("train",))
    assert study.test_metrics(desk.study, lost) is None  # another model's
    assert "trained anew on train: 120 images" in (tmp_path / "out" / "README.md").read_text()


def test_the_winner_of_the_confirming_runs_goes_first(ran: Ran, tmp_path: Path) -> None:
    """Its own trial's model; where that is not kept, a confirming run's."""
    desk = ran(search_space={"strategy": "full", "lr": [1e-3, 3e-3], "batch_size": [16, 32]})
    wish = confirm.Wish(2, 2)
    while not (standing := confirm.advance(desk.study, wish)).is_done:
        held = finished(Desk(standing.companion, desk.cache, desk.shelf))
    found = confirm.found(desk.study)
    assert isinstance(found, confirm.outcome.Confirmation)
    done = exporting(desk, tmp_path / "own").record
    own = done.runs[0].trial
    assert done.selection["how"].startswith("the winner of the confirming runs")
    winner = next(x for x in found.configurations if x.candidate.name == found.winner)
    assert own == winner.candidate.trial
    assert done.noise is not None
    assert done.noise.deviation == found.noise.spread.value  # type: ignore[union-attr]
    card = (tmp_path / "own" / "README.md").read_text()
    assert "Run again with 2 new seeds" in card
    forget(desk, own)
    other = exporting(desk, tmp_path / "run").record
    assert other.study == held.study.name
    assert other.selection["how"].endswith("of small.confirm")


# --- trained anew, averaged ---------------------------------------------------------------------


def test_a_refit_on_all_images(ran: Ran, tmp_path: Path) -> None:
    """Training takes train and val; no validation figure is told of it, and the test score is."""
    desk = ran(budget={"trials": 1, "epochs": 1})
    done = exporting(desk, tmp_path / "out", refit="train+val")
    record = done.record
    assert (record.made, record.trained_on) == ("refit", ("train", "val"))
    assert (done.validation, dict(record.validation)) == (None, {})
    images = record.images
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"trained anew on train and val: {images['train'] + images['val']} images" in card
    assert "there is no validation figure of it" in card
    assert list(record.runs[0].history[0]) == ["epoch", "train_loss"]
    assert done.test is not None
    before = kept(desk, 0).run.module.state_dict()
    after = exported.load(tmp_path / "out").module.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert study.test_metrics(desk.study, 0) is None  # the trial's own model was not scored


@pytest.mark.parametrize(
    ("space", "refit", "files"),
    [
        ({"strategy": "full", "lp_ft": True}, None, {"start.safetensors"}),
        ({"strategy": "linear-probe"}, "train+val", set()),
    ],
)
def test_what_is_exported_can_be_trained_again(
    ran: Ran, tmp_path: Path, space: dict[str, Any], refit: Any, files: set[str]
) -> None:
    """From the folder alone, bit for bit: a head that began from the league's, and a refit's.

    Whatever the threads of the process: as many as trained it are taken meanwhile.
    """
    epochs = {"trials": 1, "epochs": 2}
    desk = ran(search_space={**space, "batch_size": 32}, defaults={}, budget=epochs, league=True)
    done = exporting(desk, tmp_path / "out", refit=refit)
    assert set(done.files).issuperset(files)
    before = torch.get_num_threads()
    others = 1 if done.record.hardware["threads"] > 1 else 2
    torch.set_num_threads(others)
    try:
        again = exported.reproduce(tmp_path / "out", device="cpu", cache=desk.cache)
        assert torch.get_num_threads() == others
    finally:
        torch.set_num_threads(before)
    assert again.same_hardware
    assert again.verdict == "identical"


def test_a_refit_that_is_stopped_leaves_nothing(ran: Ran, tmp_path: Path) -> None:
    """Neither a folder nor a draft of it."""
    desk = ran(budget={"trials": 1, "epochs": 1})

    def stop(line: str) -> None:
        if line.startswith("epoch 1"):
            raise Stopped("SIGTERM")

    where = {"shelf": desk.shelf, "cache": desk.cache, "device": "cpu"}
    before = set(tmp_path.iterdir())
    with pytest.raises(Stopped):
        export(desk.study, Wish(refit="train+val"), tmp_path / "out", say=stop, **where)  # type: ignore[arg-type]
    assert set(tmp_path.iterdir()) == before


def test_a_refit_tells_the_precision_that_it_was_trained_in(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bfloat16, where the machine trains in that; it is measured in float32 all the same."""
    desk = ran(budget={"trials": 1, "epochs": 1})
    seen, module = [], sys.modules["tunesvc.export.making"]
    quick = CPU.settled(autocast=True)
    monkeypatch.setattr(module, "place", lambda _: quick)
    score = scored.score
    monkeypatch.setattr(
        scored, "score", lambda bench, *of: [seen.append(bench), score(bench, *of)][1]
    )
    record = exporting(desk, tmp_path / "out", refit="train").record
    assert record.hardware == quick.describe()
    assert record.hardware["precision"] == "bfloat16"
    assert {bench.placement.autocast for bench in seen} == {False}
    again = exporting(desk, tmp_path / "kept").record
    assert again.hardware["precision"] == "float32"  # the trial's own


def disturbed(desk: Desk, number: int, by: Callable[[Tensor], Tensor], like: int) -> None:
    """Give a trial another's model with its head changed."""
    state = checkpoint.load(desk.shelf, desk.folder(like))
    assert state is not None
    name = next(name for name in state["run"]["model"] if name.startswith("head.1.weight"))
    state["run"]["model"][name] = by(state["run"]["model"][name])
    checkpoint.save(state, desk.shelf, desk.folder(number), Mark(10**9, 1, 0))


def test_a_soup_is_exported_where_it_is_better(ran: Ran, tmp_path: Path) -> None:
    """Two heads whose errors cancel are averaged, a third that spoils it is left out."""
    desk = ran(keep="all", budget={"trials": 4, "epochs": 2})
    order = sorted(range(4), key=lambda number: (-value(desk, number), number))
    noise = 0.6 * torch.randn(10, 128, generator=torch.Generator().manual_seed(0))
    for number, by in ((1, lambda w: w + noise), (2, lambda w: w - noise), (3, lambda w: -9 * w)):
        disturbed(desk, order[number], by, like=order[0])
    disturbed(desk, order[0], lambda w: w + noise, like=order[0])
    forget(desk, order[1])
    done = exporting(desk, tmp_path / "out", soup=4)
    stirred = done.soup
    assert stirred is not None
    assert stirred.tried == (order[0], order[2], order[3])
    assert stirred.taken == (order[0], order[2])
    assert "(of 4 asked for: no more fit)" in str(stirred)
    assert stirred.gain > 0.02
    assert done.record.made == "soup"
    assert [run.trial for run in done.record.runs] == [order[0], order[2]]
    assert done.record.validation["accuracy"] == pytest.approx(stirred.after, abs=1e-6)
    told = " ".join((tmp_path / "out" / "README.md").read_text().split())
    assert f"The mean of trials {order[0]}, {order[2]} of the study small" in told
    assert "The mean of 2 runs, picked by the validation images" in told
    assert f"({stirred.gain:+.4f})" in told
    assert study.test_metrics(desk.study, order[0]) is None


def test_a_mean_of_models_has_statistics_of_its_own(ran: Ran) -> None:
    """Measured on the training images, where the models' own differ: no mean of theirs."""
    desk = ran(budget={"trials": 2, "epochs": 1})
    first, second = weights(desk, 0), weights(desk, 1)
    run = kept(desk, 0).run
    stir(run, [first, first])
    assert all(value.equal(first[name]) for name, value in run.module.state_dict().items())
    mean = exported.average([first, second])
    stir(run, [first, second])
    found = run.module.state_dict()
    changed = {name.rpartition(".")[2] for name in mean if not found[name].equal(mean[name])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}


def rowed(num_outputs: int, dropout: float) -> nn.Module:
    """A plugin's function: with dropout its head has a module more."""
    last = nn.Linear(3, num_outputs)
    head = nn.Sequential(nn.Dropout(dropout), last) if dropout else last
    made = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    size = {"resize": 8, "crop": 8, "interpolation": "bilinear"}
    made.default_transform = size | {"mean": [0.5] * 3, "std": [0.5] * 3}  # type: ignore[assignment]
    return made


def test_models_of_other_parts_are_in_no_soup(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backbone may be built otherwise with dropout; each of the two can be exported alone."""
    monkeypatch.setitem(plugins.paths("backbone"), "rowed", f"{__name__}:rowed")
    file = tmp_path / "start.safetensors"
    save_file(rowed(10, 0.0).state_dict(), file)
    desk = ran(
        backbones=[{"name": "rowed", "weights": str(file)}],
        search_space={"strategy": "full", "lr": 1e-3, "dropout": [0.0, 0.2], "batch_size": 32},
        defaults={}, sampler="grid", keep="all", budget={"trials": 4, "epochs": 1},
    )  # fmt: skip
    trials = desk.records().get_trials()
    dropped = [trial.number for trial in trials if trial.params.get("dropout")]
    assert 0 < len(dropped) < len(trials)
    for number in (dropped[0], next(n for n in range(len(trials)) if n not in dropped)):
        done = exporting(desk, tmp_path / str(number), trial=number)
        assert exported.load(tmp_path / str(number)).description.backbone.dropout in (0.0, 0.2)
        assert done.record.validation["accuracy"] == pytest.approx(value(desk, number), abs=1e-6)
    stirred = exporting(desk, tmp_path / "soup", trial=dropped[0], soup=4).soup
    assert stirred is not None
    assert sorted(stirred.tried) == sorted(dropped)


def test_no_soup_where_none_is_better(ran: Ran, tmp_path: Path) -> None:
    """A mean that is just as good is none; the best is exported as it is, and it is said."""
    desk = ran(budget={"trials": 2, "epochs": 1})
    best = study.status(desk.study).best
    assert best is not None
    other = 1 - best.trial
    disturbed(desk, other, lambda w: w, like=best.trial)
    done = exporting(desk, tmp_path / "out", soup=2)
    assert done.soup is not None
    assert str(done.soup).startswith(
        f"no soup: of 2 models tried no mean is better than trial {best.trial}"
    )
    assert done.soup.taken == (best.trial, other)
    assert [run.trial for run in done.record.runs] == [best.trial]
    assert done.record.made == "trial"
    assert done.record.validation["accuracy"] == pytest.approx(best.value, abs=1e-6)


def test_wishes_that_exclude_each_other() -> None:
    """Usage errors, before anything is looked at."""
    with pytest.raises(UsageError, match="--trial and --where exclude each other"):
        Wish(trial=1, where="params_m <= 1")
    with pytest.raises(UsageError, match="--refit and --soup exclude each other"):
        Wish(refit="train", soup=3)


# --- the command --------------------------------------------------------------------------------


def test_the_command_prints_what_it_wrote(
    ran: Ran,
    storage_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As JSON and for people; a folder that is there ends in exit code 2."""
    monkeypatch.setenv("TUNESVC_STORAGE", storage_url)
    ran(budget={"trials": 1, "epochs": 1})
    words = ["export", "small", "--no-onnx", "--device", "cpu", "-o", str(tmp_path / "out")]
    for more, code in (["--json"], 0), ([], 2), (["--best", "--trial", "0"], 2), (["--force"], 0):
        with pytest.raises(SystemExit) as end:
            main([*words, *more])
        told = capsys.readouterr()
        assert end.value.code == code, told.err
        if more == ["--json"]:
            said = json.loads(told.out)
            assert (said["path"], said["trial"]) == (str(tmp_path / "out"), 0)
            assert said["test"]["accuracy"]["low"] < said["test"]["accuracy"]["value"]
            assert said["files"]["model.safetensors"] > 1_000_000
            assert said["forms"][0]["difference"] <= 1e-5
            assert "model.pt2: differs from torch" in told.err
    assert "tunesvc predict" in told.out
    assert "model.safetensors" in told.out


@pytest.mark.slow
def test_killed_in_the_middle_it_leaves_no_folder(
    ran: Ran, storage_url: str, tmp_path: Path
) -> None:
    """SIGKILL, and SIGTERM with exit code 130; given again, the command writes the folder."""
    ran(budget={"trials": 1, "epochs": 1})
    out = tmp_path / "exports" / "out"
    out.parent.mkdir()
    command = [sys.executable, "-m", "tunesvc", "export", "small", "--no-onnx", "-o", str(out)]
    environment = os.environ | {"TUNESVC_STORAGE": storage_url, "PYTHONUNBUFFERED": "1"}
    for number, code in (signal.SIGKILL, -9), (signal.SIGTERM, 130):
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("model.pt2"):
                    process.send_signal(number)
                    break
            assert process.wait(timeout=600) == code, process.stdout.read()
        assert not out.exists()
    assert (
        subprocess.run(command, env=environment, capture_output=True, timeout=600).returncode == 0
    )
    assert exported.load(out).record is not None
