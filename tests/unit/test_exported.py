"""The folder of an exported model: written whole, read carefully, and the model in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_models import CPU, PHOTOS, SHARED, made, study
from PIL import Image
from torch import Tensor

from tunesvc import data, exported, plugins
from tunesvc.backbones import build
from tunesvc.errors import DataError, TuneError, UnknownNameError, UsageError, WeightsError
from tunesvc.spec import BackboneSpec
from tunesvc.train import Run

REAL_WEIGHTS = {
    "mobilenet_v2": "mobilenet_v2-tf2ptq-82f7e551.pth",
    "squeezenet1_1": "squeezenet1_1-caffe-features-49c38fe8.pth",
    "tiny_resnet": "",
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained on digits."""
    folder = tmp_path_factory.mktemp("digits")
    made(folder / "model", cache=folder / "cache")
    return folder / "model"


@pytest.fixture
def copied(digits: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    for file in digits.iterdir():
        (tmp_path / "copy").mkdir(exist_ok=True)
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "copy"


def photographs(folder: Path, each: int) -> Path:
    """A few real photographs of ants and bees in class folders."""
    for kind in ("ants", "bees"):
        (folder / kind).mkdir(parents=True)
        for path in sorted((PHOTOS / "train" / kind).iterdir())[:each]:
            (folder / kind / path.name).write_bytes(path.read_bytes())
    return folder


def in_memory(run: Run) -> Tensor:
    """Return what a trained run says of its validation split, as training evaluates it."""
    run.behave(training=False)
    with torch.inference_mode():
        outputs = [run.backbone.module(images) for images, _ in run.evaluation_batches(run.val)]
    return torch.cat(outputs)


@pytest.mark.skipif(not PHOTOS.exists(), reason="needs ants and bees in ../shared")
@pytest.mark.parametrize("name", REAL_WEIGHTS)
def test_it_says_what_the_trained_model_said(name: str, tmp_path: Path) -> None:
    """Files through the exported model give the logits of training's own validation, to 1e-5."""
    weights = str((SHARED / "weights" / REAL_WEIGHTS[name]).resolve())
    if REAL_WEIGHTS[name] and not Path(weights).exists():
        pytest.skip(f"needs {REAL_WEIGHTS[name]} in ../shared/weights")
    spec = study(
        name,
        {"kind": "folder", "path": str(photographs(tmp_path / "photos", 12)), "image_size": 64},
        {"name": name, "weights": weights if REAL_WEIGHTS[name] else "DEFAULT"},
    )
    kept: dict[str, Tensor] = {}
    knobs = {"lr": 1e-3, "batch_size": 8, "augmentation": "flip-crop"}
    made(
        tmp_path / "model", cache=tmp_path / "cache", spec=spec, knobs=knobs, epochs=1,
        tick=lambda run: kept.update(logits=in_memory(run)),
    )  # fmt: skip
    model = exported.load(tmp_path / "model")
    files = data.scan(spec.data, target="class", base=tmp_path).splits["val"].images
    outputs = model(torch.stack([model.transform(path) for path in files]))
    torch.testing.assert_close(outputs, kept["logits"], atol=1e-5, rtol=0)
    said = [prediction.label for prediction in model.predict(files, batch_size=3)]
    assert said == [("ants", "bees")[index] for index in kept["logits"].argmax(dim=1).tolist()]


def test_the_folder_tells_what_it_holds(digits: Path) -> None:
    """Configuration and story are plain JSON; nothing in the folder is a pickle."""
    config = json.loads((digits / "config.json").read_text())
    assert config["format"] == 1
    assert config["backbone"]["name"] == "tiny_mobilenet"
    assert config["preprocessing"]["crop"] == 32
    assert config["classes"] == [str(digit) for digit in range(10)]
    story = json.loads((digits / "study.json").read_text())
    assert [epoch["epoch"] for epoch in story["runs"][0]["history"]] == [1, 2]
    assert story["validation"]["accuracy"] == story["runs"][0]["history"][-1]["accuracy"]
    assert not Path(story["base"]).is_absolute()
    assert {path.suffix for path in digits.iterdir()} == {".json", ".safetensors"}


def test_reading_gives_back_what_was_written(digits: Path) -> None:
    """Numbers that are none survive, too."""
    folder = exported.read(digits)
    record = folder.record
    assert record is not None
    odd = record.model_copy(update={"validation": {"loss": float("nan"), "mse": float("inf")}})
    again = exported.Record.model_validate_json(odd.model_dump_json())
    assert str(dict(again.validation)) == "{'loss': nan, 'mse': inf}"
    assert again.runs == record.runs


def test_images_of_all_kinds(digits: Path, tmp_path: Path) -> None:
    """A file, an opened image and an array are the same; grey and transparent ones will do."""
    model = exported.load(str(digits))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    one, two, three = (
        model.transform(each)
        for each in (tmp_path / "a.png", Image.open(tmp_path / "a.png"), pixels)
    )
    assert torch.equal(one, two)
    assert torch.equal(one, three)
    assert one.shape == (3, 32, 32)
    for mode in ("L", "RGBA", "P", "CMYK", "I;16", "1"):
        image = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
        image = image.convert("I;16") if mode == "I;16" else image
        image.save(tmp_path / ("b.tif" if mode in ("CMYK", "I;16") else "b.png"))
        (found,) = model.predict(tmp_path / ("b.tif" if mode in ("CMYK", "I;16") else "b.png"))
        assert found.label in model.classes, mode
    assert len(model.predict(np.stack([pixels, pixels]))) == 2
    with pytest.raises(UsageError, match=r"shape \(3, 40, 52\)"):
        model.transform(pixels.transpose(2, 0, 1))


def test_turned_photographs_are_turned_back(digits: Path, tmp_path: Path) -> None:
    """EXIF's orientation is heeded."""
    model = exported.load(digits)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8))
    image.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.rotate(180).save(tmp_path / "turned.png", exif=exif)
    upright, turned = (model.transform(tmp_path / f"{n}.png") for n in ("upright", "turned"))
    assert torch.equal(upright, turned)


def test_a_bad_image_has_an_error(digits: Path, tmp_path: Path) -> None:
    """The others have their predictions, in order; alone it raises."""
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("L", (8, 8)).save(good)
    bad.write_bytes(good.read_bytes()[:40])
    model = exported.load(digits)
    found = model.predict([good, bad, tmp_path / "gone.png", good], batch_size=2, top=3)
    assert [bool(each.error) for each in found] == [False, True, True, False]
    assert found[2].error == "No such file or directory"
    assert [len(each.top) for each in found] == [3, 0, 0, 3]
    assert found[0].top[0] == (found[0].label, found[0].probability)
    with pytest.raises(DataError, match=r"bad\.png"):
        model.transform(bad)


def rewrite(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def without(folder: Path, name: str) -> None:
    (folder / name).unlink()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (lambda d: without(d, "config.json"), UsageError, "not an exported model"),
        (lambda d: without(d, "model.safetensors"), WeightsError, "cannot be read"),
        (lambda d: flip(d / "model.safetensors"), WeightsError, "not the weights"),
        (lambda d: rewrite(d / "config.json", format=2), UsageError, "of a later format"),
        (lambda d: rewrite(d / "study.json", format=2), UsageError, "of a later format"),
        (lambda d: rewrite(d / "config.json", task=None), UsageError, "task: Input should be"),
        (lambda d: (d / "config.json").write_text('{"form'), UsageError, "not as `tunesvc export`"),
        (lambda d: (d / "config.json").write_text("[]"), UsageError, "not as `tunesvc export`"),
        (
            lambda d: rewrite(d / "config.json", backbone={"name": "their_net"}),
            UnknownNameError,
            "the model's backbone 'their_net' is not installed",
        ),
        (
            lambda d: rewrite(d / "config.json", task="their-task"),
            UnknownNameError,
            "the model's task 'their-task' is not installed",
        ),
        (lambda d: rewrite(d / "config.json", num_outputs=3), WeightsError, "do not fit"),
    ],
)
def test_a_spoilt_folder_is_refused(
    copied: Path, spoil: Callable[[Path], None], kind: type[TuneError], message: str
) -> None:
    """With what is wrong with it, and what to do."""
    spoil(copied)
    with pytest.raises(kind, match=message) as told:
        exported.load(copied)
    assert told.value.fix


def test_what_is_there_is_not_replaced_unasked(digits: Path, copied: Path, tmp_path: Path) -> None:
    """An exported model only when asked to, anything else never; an empty folder is taken."""
    model = exported.load(digits)
    arguments = (model.module, model.description, model.record)
    with pytest.raises(UsageError, match="--force"):
        exported.write(copied, *arguments)
    without(copied, "study.json")
    exported.write(copied, *arguments, force=True)
    assert exported.read(copied).record is not None
    (tmp_path / "mine").mkdir()
    exported.write(tmp_path / "mine", *arguments)
    without(tmp_path / "mine", "config.json")
    with pytest.raises(UsageError, match="something else"):
        exported.write(tmp_path / "mine", *arguments, force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "mine"}


def test_a_failure_leaves_nothing(digits: Path, copied: Path, tmp_path: Path) -> None:
    """What the writer of further files raises passes; nothing has changed."""
    model = exported.load(digits)

    def fail(draft: Path) -> None:
        assert {path.name for path in draft.iterdir()} == {"model.safetensors", "study.json"}
        raise RuntimeError("no")

    before = (copied / "config.json").stat().st_ino
    for place, force in ((copied, True), (tmp_path / "new", False)):
        with pytest.raises(RuntimeError, match="no"):
            exported.write(
                place, model.module, model.description, model.record, force=force, also=fail
            )
    assert (copied / "config.json").stat().st_ino == before
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.slow
def test_killed_at_any_step_it_is_whole_or_not_there(tmp_path: Path) -> None:
    """kill -9 at every step of writing leaves the old model, the new one, or, at first, none.

    Where the system cannot exchange two names, the place is empty between two renames.
    """
    program = Path(__file__).parents[1] / "support" / "killed_exports.py"
    command = [sys.executable, "-W", "ignore", str(program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    seen: dict[tuple[str, str], list[str]] = {}
    for line in done.stdout.splitlines():
        before, exchange, is_done, there = line.split("\t")
        seen.setdefault((before, exchange), []).append(there)
        assert is_done == "False" or there == "new"
    assert all(len(states) > 20 for states in seen.values())
    assert set(seen["False", "True"]) == {"none", "new"}
    assert set(seen["True", "True"]) == {"old", "new"}
    assert set(seen["True", "False"]) == {"old", "none", "new"}


def test_drafts_of_killed_processes_go(digits: Path, tmp_path: Path) -> None:
    """Once they are a day old; another process may be writing a younger one."""
    import os

    old, young = (tmp_path / f".model.part-{name}" for name in ("00", "11"))
    for draft in (old, young):
        draft.mkdir()
    os.utime(old, (0, 0))
    model = exported.load(digits)
    exported.write(tmp_path / "model", model.module, model.description, None)
    assert {path.name for path in tmp_path.iterdir()} == {"model", young.name}
    assert exported.load(tmp_path / "model").record is None


@pytest.mark.parametrize("name", ["googlenet", "vit_b_32", "swin_t", "regnet_y_400mf"])
def test_any_backbone_is_rebuilt(name: str, tmp_path: Path) -> None:
    """Without its weights' file, and with what they asked for: sizes, GoogLeNet's own pixels."""
    spec = BackboneSpec(name=name, weights="none")
    backbone = build(spec, 3, base=tmp_path, image_size=64)
    if name == "googlenet":
        backbone.module.transform_input = True
    task = plugins.load("task", "image-classification")
    described = exported.describe(backbone, spec, task, ["a", "b", "c"])
    exported.write(tmp_path / "model", backbone.module, described, None)
    model = exported.load(tmp_path / "model")
    assert getattr(model.module, "transform_input", False) == (name == "googlenet")
    images = torch.randn(2, 3, 64, 64).to(memory_format=CPU.memory_format)
    module = backbone.module.eval().to(memory_format=CPU.memory_format)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), module(images), atol=1e-6, rtol=0)
