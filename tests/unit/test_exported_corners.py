"""Exported models where things go wrong, moved, or are odd: places, paths, data, numbers."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from exported_models import CPU, DIGITS, KNOBS, TINY, made, study
from PIL import Image

from tunesvc import data, exported, plugins
from tunesvc.cli import main
from tunesvc.errors import DataError, UsageError
from tunesvc.exported import measure, paths, picture, place
from tunesvc.interrupt import Stopped

CLASSES = plugins.load("task", "image-classification")
NUMBERS = plugins.load("task", "image-regression")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits."""
    folder = tmp_path_factory.mktemp("digits")
    made(folder / "model", cache=folder / "cache", epochs=1)
    return folder / "model"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits as files, `photos`, and a `model` of them."""
    folder = tmp_path_factory.mktemp("files")
    digit_files(folder / "photos", 120)
    spec = study("files", {"kind": "folder", "path": "photos"}, TINY)
    made(folder / "model", cache=folder / "cache", base=folder, spec=spec, epochs=1)
    return folder


def digit_files(root: Path, count: int) -> None:
    """Write real digits as files in class folders."""
    spec = study("digits", DIGITS, TINY)
    items = data.scan(spec.data, target="class", base=root).splits["train"]
    for number in range(count):
        folder = root / str(items.targets[number])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(items.images[number]).save(folder / f"{number:03d}.png")


def copied(folder: Path, to: Path) -> Path:
    """Copy a flat folder."""
    to.mkdir(parents=True)
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


# ---- training again


def test_a_soup_of_frozen_ingredients(tmp_path: Path) -> None:
    """Is scored as a whole: not from what the last ingredient's frozen stages had said."""
    probe = {"strategy": "linear-probe", "lr": 1e-2, "batch_size": 50, "augmentation": "none"}
    made(
        tmp_path / "model", cache=tmp_path / "cache", epochs=3, seeds=(7, 8),
        each=(KNOBS | {"lr": 2e-2}, probe),
    )  # fmt: skip
    model = exported.load(tmp_path / "model")
    assert model.record is not None
    file = tmp_path / "again.yaml"
    file.write_text("data: {kind: digits, subset: 200}\nbackbones: [tiny_mobilenet]\n")
    found = exported.evaluate(model, file, split="val").metrics["loss"].value
    assert model.record.validation["loss"] == pytest.approx(found, abs=1e-5)
    again = exported.reproduce(tmp_path / "model", device="cpu", cache=tmp_path / "cache")
    assert again.verdict == "identical"
    assert all(each.difference == 0 for each in again.validation.values())


def test_a_moved_model_finds_its_data(files: Path, tmp_path: Path) -> None:
    """Where it was when the model was written; first where it lies beside the model, as then."""
    record = exported.read(files / "model").record
    assert record is not None
    assert record.base_then == str(files)
    moved = copied(files / "model", tmp_path / "deep" / "down" / "model")
    found = exported.reproduce(moved, device="cpu", cache=files / "cache")
    assert found.verdict == "identical"
    (tmp_path / "deep" / "down" / "photos" / "0").mkdir(parents=True)
    with pytest.raises(DataError, match="down/photos: no images"):
        exported.reproduce(moved, device="cpu", cache=files / "cache")


# ---- paths


def test_odd_paths_end_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that may not be listed, and a name that is too long, are given as they are."""
    for name in ("a/x.png", "b/x.png", "c/x.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    listed = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        if self.name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    long = "x" * 300
    found = list(paths.images([long, str(tmp_path)]))
    assert found == [Path(long), tmp_path / "a/x.png", tmp_path / "b", tmp_path / "c/x.png"]


# ---- the place


def ours(directory: Path) -> bool:
    return (directory / "config.json").exists()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """Without force, whatever it is."""
    target = tmp_path / "model"

    def write(*, force: bool) -> None:
        with place.replaced(target, force=force) as draft:
            (draft / "config.json").write_text("new")
            target.mkdir(exist_ok=True)
            (target / "config.json").write_text("theirs")

    with pytest.raises(UsageError, match="meanwhile"):
        write(force=False)
    assert (target / "config.json").read_text() == "theirs"
    assert names(tmp_path) == {"model"}
    write(force=True)
    assert (target / "config.json").read_text() == "new"
    assert names(tmp_path) == {"model"}


@pytest.mark.parametrize("step", [1, 2])
def test_stopped_between_two_renames(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where names cannot be exchanged: the old one is back, or the new one is there."""
    target, count = tmp_path / "model", 0
    target.mkdir()
    (target / "config.json").write_text("old")
    renamed = Path.rename

    def rename(self: Path, to: Path) -> Path:
        nonlocal count
        done, count = renamed(self, to), count + 1
        if count == step:
            raise Stopped("SIGTERM")
        return done

    monkeypatch.setattr(place, "_exchange", lambda _one, _other: False)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(Stopped), place.replaced(target, force=True) as draft:
        (draft / "config.json").write_text("new")
    assert (target / "config.json").read_text() == {1: "old", 2: "new"}[step]
    assert names(tmp_path) == {"model"}


def test_what_was_put_aside_is_never_deleted(tmp_path: Path) -> None:
    """A killed process left it: it goes back where its place is free, and stays where it is not."""
    target, aside = tmp_path / "model", tmp_path / ".model.part-00-old"
    aside.mkdir()
    (aside / "config.json").write_text("old")
    os.utime(aside, (0, 0))
    with pytest.raises(UsageError, match="--force"):
        place.check(target, is_ours=ours, force=False)
    assert names(tmp_path) == {"model"}
    aside.mkdir()
    os.utime(aside, (0, 0))
    place.check(target, is_ours=ours, force=True)
    with place.replaced(target, force=True) as draft:
        (draft / "config.json").write_text("new")
    assert names(tmp_path) == {"model", aside.name}


# ---- data


def test_hidden_folders_are_no_splits(digits: Path, tmp_path: Path) -> None:
    """Beside a test folder they change nothing."""
    digit_files(tmp_path / "all" / "test", 20)
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (tmp_path / "all" / name).mkdir()
    assert exported.evaluate(exported.load(digits), tmp_path / "all").images == 20


def test_data_that_is_not_divided_has_no_split(digits: Path, tmp_path: Path) -> None:
    """And that is said."""
    digit_files(tmp_path / "all", 20)
    with pytest.raises(DataError, match="has no test split") as told:
        exported.evaluate(exported.load(digits), tmp_path / "all", split="test")
    assert told.value.why == "it is not divided"


def test_the_studys_own_data(files: Path, tmp_path: Path) -> None:
    """Is divided as the study divided it, and what its images were used for is told."""
    model = exported.load(files / "model")
    record = model.record
    assert record is not None
    moved = exported.load(copied(files / "model", tmp_path / "deep" / "down" / "model"))
    for each in (model, moved):
        found = exported.evaluate(each, files / "photos")
        assert (found.images, found.remark) == (record.images["test"], "")
        values = {name: value.value for name, value in found.metrics.items()}
        assert values == pytest.approx(dict(record.test), abs=1e-5)
    for split, word in (("train", "was trained on"), ("val", "was chosen by")):
        found = exported.evaluate(model, files / "photos", split=split)
        assert found.images == record.images[split]
        assert word in found.remark
        assert found.as_json()["remark"] == found.remark


def test_own_data_without_a_test_split(tmp_path: Path) -> None:
    """The validation split is measured, with a word about it; changed data is told, too."""
    digit_files(tmp_path / "photos", 120)
    spec = study("f", {"kind": "folder", "path": "photos", "split": {"test": 0}}, TINY)
    made(tmp_path / "model", cache=tmp_path / "cache", base=tmp_path, spec=spec, epochs=1)
    model = exported.load(tmp_path / "model")
    assert model.record is not None
    found = exported.evaluate(model, tmp_path / "photos")
    assert found.images == model.record.images["val"]
    assert "was chosen by" in found.remark
    digit_files(tmp_path / "photos", 121)
    assert "has changed" in exported.evaluate(model, tmp_path / "photos").remark


# ---- numbers that are none


def test_a_value_that_is_none_has_no_interval() -> None:
    """Whatever the draws give."""
    outputs = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    outputs[3] = float("nan")
    found = measure(NUMBERS, outputs, torch.arange(40.0), ())
    assert np.isnan(found.metrics["mae"].value)
    assert found.metrics["mae"].low is None
    drawn = picture.draw(found, "numbers")
    assert picture.svg(drawn).count("<circle") == 39
    points = np.full((2, 2), np.nan, np.float32)
    for odd in (replace(found, points=points), replace(found, points=points[:0])):
        tree = ElementTree.fromstring(picture.svg(picture.draw(odd, "none")))
        assert len(list(tree)) > 10
        assert '"nan"' not in ElementTree.tostring(tree, "unicode")
        picture.png(picture.draw(odd, "none"))


# ---- what is printed


def predicted(
    capsys: pytest.CaptureFixture[str], directory: Path, image: Path, *options: str
) -> str:
    with pytest.raises(SystemExit) as end:
        main(["predict", str(directory), str(image), "--device", "cpu", *options])
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A picture with an odd name."""
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "é😀.png")
    return tmp_path / "é😀.png"


def test_json_is_valid(
    digits: Path, image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ASCII, so that any terminal can show it, and null for numbers that are none."""
    outputs = torch.full((1, 10), float("nan"))
    monkeypatch.setattr(exported.Model, "outputs", lambda _self, _squares: outputs)
    out = predicted(capsys, digits, image, "--json")
    assert out.isascii()
    told = json.loads(out, parse_constant=pytest.fail)
    assert told["path"] == str(image)
    assert told["probability"] is None


def test_evaluations_are_valid_json(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names of files may be any bytes."""
    digit_files(tmp_path / "all", 20)
    (tmp_path / "all" / "0" / os.fsdecode(b"od\xffd.png")).write_bytes(b"no image")
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(digits), str(tmp_path / "all"), "--device", "cpu", "--json"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["skipped"][0]["path"].endswith("od\udcffd.png")


class Median(type(CLASSES)):  # type: ignore[misc]
    """Predicts the middle class, which need not be the most probable one."""

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        return torch.full((len(outputs),), 4)


def test_the_prediction_comes_first(
    digits: Path, image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a table and in lines, also where another class is more probable."""
    outputs = torch.tensor([[0.1, 0.5, 0.2, 0.3, 0.01, *[0.002] * 5]]).log()
    monkeypatch.setattr(exported.Model, "outputs", lambda _self, _squares: outputs)
    monkeypatch.setattr(sys.modules["tunesvc.exported.model"], "task_of", lambda _: Median())
    out = predicted(capsys, digits, image, "--csv", "--top", "3")
    (row,) = csv.DictReader(out.splitlines())
    assert [row["label"], row["label_2"], row["label_3"]] == ["4", "1", "3"]
    assert float(row["probability"]) < float(row["probability_3"]) < float(row["probability_2"])
    out = predicted(capsys, digits, image, "--top", "3")
    shares = out.strip().split("  ")[1].split(", ")
    assert [share.split()[0] for share in shares] == ["4", "1", "3"]


def test_commands_compute_in_float32(
    digits: Path, image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on devices that training uses bfloat16 on."""
    (known,) = exported.load(digits).predict([image])
    monkeypatch.setattr("tunesvc.train.place", lambda _device: CPU.settled(autocast=True))
    told = json.loads(predicted(capsys, digits, image, "--json"))
    assert told["probability"] == pytest.approx(known.probability, abs=1e-6)
    seen: list[bool] = []
    opened = exported.opened

    def watched(folder: exported.Folder, placement: object) -> exported.Model:
        seen.append(bool(getattr(placement, "autocast", None)))
        return opened(folder, CPU)

    monkeypatch.setattr(exported, "opened", watched)
    digit_files(image.parent / "all", 20)
    with pytest.raises(SystemExit):
        main(["evaluate", str(digits), str(image.parent / "all"), "--device", "cpu"])
    assert seen == [False]
