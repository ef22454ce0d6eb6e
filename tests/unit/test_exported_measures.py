"""An exported model on other data: found, matched by name, measured, drawn, and trained again."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from exported_models import CPU, DIGITS, KNOBS, TINY, made, study
from PIL import Image
from scipy.stats import binomtest

from tunesvc import data, exported, plugins, strategies, train
from tunesvc.errors import DataError, UsageError
from tunesvc.exported import Noise, measure, picture
from tunesvc.exported.measure import share
from tunesvc.spec import BackboneSpec, Knobs, TrialConfig
from tunesvc.train import Run, Shared
from tunesvc.trial.models import Models

CLASSES = plugins.load("task", "image-classification")
NUMBERS = plugins.load("task", "image-regression")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits."""
    folder = tmp_path_factory.mktemp("digits")
    made(folder / "model", cache=folder / "cache")
    return folder / "model"


def digit_files(root: Path, split: str, names: tuple[str, ...], count: int = 60) -> int:
    """Write real digits of a split as files in class folders; return how many."""
    spec = study("digits", DIGITS, TINY)
    items = data.scan(spec.data, target="class", base=root).splits[split]
    written = 0
    for number in range(min(count, len(items))):
        name = names[items.targets[number]]
        if name:
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(items.images[number]).save(root / name / f"{number:03d}.png")
            written += 1
    return written


ALL = tuple(str(digit) for digit in range(10))


# ---- intervals


@pytest.mark.parametrize(("hits", "among"), [(0, 10), (7, 10), (10, 10), (153, 397), (1, 1)])
def test_wilson(hits: int, among: int) -> None:
    """A share's interval is scipy's."""
    known = binomtest(hits, among).proportion_ci(method="wilson")
    found = share(hits, among)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-12)


def test_intervals_cover_the_truth() -> None:
    """95 % intervals of the mean absolute error hold the true one in about 95 of 100 samples."""
    chance = torch.Generator().manual_seed(0)
    covered = 0
    for seed in range(30):
        targets = torch.randn(60, generator=chance)
        outputs = (targets + torch.randn(60, generator=chance))[:, None]
        found = measure(NUMBERS, outputs, targets, (), seed=seed, draws=200).metrics["mae"]
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= (2 / torch.pi) ** 0.5 <= found.high
    assert covered >= 24  # 28.5 expected; fewer come less often than once in 1000 times


def test_no_mistake_is_no_certainty() -> None:
    """Where every draw gives one value, there is no interval; the accuracy has Wilson's."""
    targets = torch.tensor([0, 1] * 5)
    outputs = torch.nn.functional.one_hot(targets).float()
    found = measure(CLASSES, outputs, targets, ("a", "b"))
    assert found.metrics["accuracy"].how == "Wilson"
    assert found.metrics["accuracy"].low == pytest.approx(0.722, abs=1e-3)
    assert found.metrics["f1"].low is None
    assert found.confusion is not None
    assert found.confusion.tolist() == [[5, 0], [0, 5]]


def test_rows_are_true_and_columns_predicted() -> None:
    """And each class has its recall and precision; a class without images has no recall."""
    targets = torch.tensor([0, 0, 0, 1])
    outputs = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 1]), 3).float()
    found = measure(CLASSES, outputs, targets, ("a", "b", "c"))
    assert found.confusion is not None
    assert found.confusion.tolist() == [[1, 2, 0], [0, 1, 0], [0, 0, 0]]
    told = found.as_json()["classes"]
    assert [each["recall"] and each["recall"]["value"] for each in told] == [1 / 3, 1.0, None]
    assert [each["precision"] and each["precision"]["value"] for each in told] == [1, 1 / 3, None]


# ---- data


def test_evaluation_is_what_the_study_found(digits: Path, tmp_path: Path) -> None:
    """On the study's own data, all metrics are those of its validation and test split."""
    file = tmp_path / "again.yaml"
    file.write_text("data: {kind: digits, subset: 200}\nbackbones: [tiny_mobilenet]\n")
    model = exported.load(digits)
    assert model.record is not None
    for split, known in (("val", model.record.validation), (None, model.record.test)):
        found = exported.evaluate(model, file, split=split)
        values = {name: each.value for name, each in found.metrics.items()}
        assert values == pytest.approx(dict(known), abs=1e-5)


def test_classes_are_matched_by_name(digits: Path, tmp_path: Path) -> None:
    """Folders of some of the classes, in another order of indices, give the same predictions."""
    names = ("", "", *ALL[2:])
    count = digit_files(tmp_path / "some", "test", names)
    model = exported.load(digits)
    found = exported.evaluate(model, tmp_path / "some", batch_size=7)
    assert found.images == count
    assert found.confusion is not None
    assert found.confusion.sum(axis=1)[:2].tolist() == [0, 0]
    files = sorted((tmp_path / "some").rglob("*.png"))
    said = model.predict(files)
    hits = sum(each.label == path.parent.name for each, path in zip(said, files, strict=True))
    assert found.metrics["accuracy"].value == pytest.approx(hits / count)


def test_an_unknown_class_is_told(digits: Path, tmp_path: Path) -> None:
    """With the nearest of the model's own."""
    digit_files(tmp_path / "odd", "test", ("zero", *ALL[1:]))
    with pytest.raises(DataError, match="the model has no class 'zero'"):
        exported.evaluate(exported.load(digits), tmp_path / "odd")


def table(root: Path, **columns: str) -> Path:
    count = digit_files(root / "images", "test", ALL, 20)
    assert count == 20
    lines = [",".join(columns)]
    for path in sorted((root / "images").rglob("*.png")):
        cells = {"path": f"images/{path.parent.name}/{path.name}", "label": path.parent.name}
        lines.append(",".join(cells.get(name, value) for name, value in columns.items()))
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return root / "table.csv"


@pytest.mark.parametrize(
    ("columns", "split"),
    [
        ({"path": "", "label": ""}, None),
        ({"path": "", "label": "", "split": "test"}, None),
        ({"path": "", "label": "", "split": "test"}, "test"),
        ({"path": "", "label": "", "split": "val"}, "val"),
    ],
)
def test_tables(digits: Path, tmp_path: Path, columns: dict[str, str], split: str | None) -> None:
    """A table is measured as a whole, or the split that its column `split` marks."""
    found = exported.evaluate(exported.load(digits), table(tmp_path, **columns), split=split)
    assert found.images == 20


def test_divided_folders(digits: Path, tmp_path: Path) -> None:
    """Of train, val and test folders the named one is measured; an absent one is told."""
    for split in ("train", "val"):
        digit_files(tmp_path / "all" / split, split, ALL, 12)
    model = exported.load(digits)
    found = exported.evaluate(model, tmp_path / "all", split="val")
    assert found.images == 12
    with pytest.raises(DataError, match="has no test split"):
        exported.evaluate(model, tmp_path / "all")
    with pytest.raises(DataError, match="has no test split"):
        exported.evaluate(model, tmp_path / "all" / "val", split="test")


def test_unreadable_images_are_left_out(digits: Path, tmp_path: Path) -> None:
    """And told; where none is left, that is an error."""
    count = digit_files(tmp_path / "some", "test", ALL, 10)
    (tmp_path / "some" / "3" / "bad.png").write_bytes(b"no image")
    model = exported.load(digits)
    found = exported.evaluate(model, tmp_path / "some")
    assert found.images == count
    assert [Path(name).name for name, _ in found.skipped] == ["bad.png"]
    for path in (tmp_path / "some").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 11 images"):
        exported.evaluate(model, tmp_path / "some")


def test_numbers(tmp_path: Path) -> None:
    """A model of numbers is written, predicts, and is measured like one of classes."""
    rows = ["path,label"]
    for number in range(40):
        Image.new("L", (32, 32), 6 * number).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number / 40}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    spec = study("n", {"kind": "csv", "path": "t.csv"}, {"name": "tiny_resnet", "weights": "none"})
    spec = spec.model_copy(update={"task": "image-regression"})
    made(
        tmp_path / "model", cache=tmp_path / "cache", base=tmp_path, spec=spec,
        task="image-regression", epochs=2, knobs=KNOBS | {"batch_size": 8},
    )  # fmt: skip
    model = exported.load(tmp_path / "model")
    (said,) = model.predict(tmp_path / "7.png")
    assert said.label is None
    assert said.value == pytest.approx(float(model(model.transform(tmp_path / "7.png")[None])))
    own = exported.evaluate(model, tmp_path / "t.csv")
    assert len(own.points) == 8  # the test split of the study whose data this is
    shutil.copy(tmp_path / "t.csv", tmp_path / "all.csv")
    found = exported.evaluate(model, tmp_path / "all.csv")
    assert found.metrics.keys() == {"mse", "mae", "r2", "loss"}
    assert found.points is not None
    assert found.points.shape == (40, 2)
    drawn = picture.svg(picture.draw(found, "numbers"))
    assert drawn.count("<circle") == 40


# ---- pictures


def evaluation(classes: tuple[str, ...]) -> exported.Evaluation:
    chance = torch.Generator().manual_seed(0)
    targets = torch.randint(len(classes), (50,), generator=chance)
    outputs = torch.randn(50, len(classes), generator=chance)
    return measure(CLASSES, outputs, targets, classes)


@pytest.mark.parametrize(
    "classes", [("ants", "<bees> & so"), tuple(f"kind {n}" for n in range(60))]
)
def test_pictures(classes: tuple[str, ...], tmp_path: Path) -> None:
    """SVG, PNG and HTML show a cell for each pair; names are words, never markup."""
    drawing = picture.draw(evaluation(classes), "a & b")
    tree = ElementTree.fromstring(picture.svg(drawing))
    boxes = [each for each in tree.iter() if each.tag.endswith("rect")]
    assert len(boxes) == len(classes) ** 2 + 1
    words = [each.text for each in tree.iter() if each.tag.endswith("}text")]
    assert {"a & b", "true", "predicted", *classes} <= set(words)
    for kind in ("png", "svg", "html"):
        picture.write(drawing, tmp_path / f"it.{kind}", "accuracy 0.5 <b>")
    image = Image.open(tmp_path / "it.png")
    assert image.size == (round(2 * drawing.width), round(2 * drawing.height))
    dark = np.asarray(image.convert("L")) < 100
    assert dark.sum() > 500
    assert "accuracy 0.5 &lt;b&gt;" in (tmp_path / "it.html").read_text()
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.html"):
        picture.write(drawing, tmp_path / "it.pdf")


# ---- training again


def as_a_trial(config: TrialConfig, cache: Path) -> Run:
    """Return a run as a worker builds it for a trial."""
    spec = study("digits", DIGITS, TINY)
    listing = data.scan(spec.data, target="class", base=cache)
    model = Models(10, cache, None).take(config)
    splits = [
        data.decode(listing, name, 32, on_corrupt="fail", cache=cache) for name in ("train", "val")
    ]
    body = model.backbone
    plan = strategies.plan(
        [(stage.name, stage.parameters) for stage in body.stages], body.head.parameters,
        body.norm_parameters, config.knobs, config.epochs,
    )  # fmt: skip
    shared = Shared(listing.fingerprint, cache / "features")
    return Run(body, CLASSES, *splits, config, CPU, plan, shared.freezer(model.cut))


@pytest.mark.parametrize(
    "knobs",
    [
        {"strategy": "full", "augmentation": "trial-augment", "dropout": 0.2, "mixup": 0.2},
        {"strategy": "last-stage", "augmentation": "flip-crop"},
        {"strategy": "from-scratch", "augmentation": "none"},
    ],
)
def test_a_run_begins_as_a_trial_does(knobs: dict[str, Any], tmp_path: Path, digits: Path) -> None:
    """What is trained from a record is, epoch by epoch, what a worker's trial trains."""
    augmentation = knobs["augmentation"].replace("trial-augment", "trivial-augment")
    asked = Knobs(**knobs | {"augmentation": augmentation, "lr": 1e-3, "batch_size": 64})
    config = TrialConfig(BackboneSpec(name="tiny_mobilenet"), asked, 2, 11, is_cached=True)
    trial = [asdict(epoch) for epoch in train.fit(as_a_trial(config, tmp_path))]
    spec = study("digits", DIGITS, TINY)
    run = exported.training.prepare(
        exported.TrainingRun.of(3, "t", config, weights_sha256="", history=()),
        spec.data, tmp_path, CPU, task=CLASSES, cache=tmp_path,
        listing=data.scan(spec.data, target="class", base=tmp_path),
    )  # fmt: skip
    again = list(exported.training.epochs(run, stacked=False))
    for one, other in zip(trial, again, strict=True):
        assert (
            other == {"epoch": one["index"] + 1, "train_loss": one["train_loss"]} | one["metrics"]
        )


HEAD = {"strategy": "linear-probe", "lr": 1e-2, "batch_size": 50, "dropout": 0.3}
LP_FT = KNOBS | {"lp_ft": True}


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"seeds": (1, 2)},
        {"stacked": True, "knobs": HEAD},
        {"knobs": LP_FT, "start": (torch.full((10, 192), 0.01), torch.zeros(10))},
    ],
    ids=["trial", "soup", "stack", "lp-ft"],
)
def test_training_again_gives_the_same_model(how: dict[str, Any], tmp_path: Path) -> None:
    """On one machine, to the last bit: every epoch, all metrics, all parameters."""
    made(tmp_path / "model", cache=tmp_path / "cache", **how)
    seen: list[exported.EpochCompared] = []
    found = exported.reproduce(
        tmp_path / "model", device="cpu", cache=tmp_path / "other", on_epoch=seen.append
    )
    assert found.verdict == "identical"
    assert found.same_data
    assert found.same_weights
    assert tuple(seen) == found.epochs
    assert len(seen) == 2 * len(how.get("seeds", (1,)))
    every = [value for epoch in seen for value in epoch.values.values()]
    assert len(every) == 7 * len(seen)
    assert all(value.difference == 0 for value in every)
    assert found.test["accuracy"].difference == 0


@pytest.mark.parametrize(
    ("noise", "verdict"), [(None, "differs"), (10.0, "within noise"), (1e-9, "outside noise")]
)
def test_another_model_is_judged_by_the_noise(
    noise: float | None, verdict: str, tmp_path: Path
) -> None:
    """Beyond 1.96·√2 standard deviations the difference is not chance."""
    known = noise and Noise(metric="accuracy", deviation=noise, runs=5)
    made(tmp_path / "model", cache=tmp_path / "cache", noise=known or None, epochs=1)
    edit(tmp_path / "model", '"lr": 0.003', '"lr": 0.0001')
    found = exported.reproduce(tmp_path / "model", device="cpu", cache=tmp_path / "cache")
    assert found.verdict == verdict
    assert found.band == (None if noise is None else pytest.approx(2.7718 * noise, rel=1e-4))


def test_a_head_begins_and_a_stack_draws_as_it_is_told(tmp_path: Path) -> None:
    """The start is the head's; dropout in a stack is another than outside of it."""
    start = torch.full((10, 192), 0.01), torch.arange(10.0)
    spec = study("digits", DIGITS, TINY)
    listing = data.scan(spec.data, target="class", base=tmp_path)
    histories = []
    for stacked in (False, True):
        config = TrialConfig(spec.backbones[0], Knobs(**HEAD), 1, 3, is_cached=True)
        asked = exported.TrainingRun.of(0, "t", config, weights_sha256="", history=())
        run = exported.training.prepare(
            asked, spec.data, tmp_path, CPU, listing=listing, task=CLASSES, start=start,
            cache=tmp_path,
        )  # fmt: skip
        weight, bias = (run.module.get_parameter(name) for name in run.backbone.head.parameters)
        assert torch.equal(weight, start[0])
        assert torch.equal(bias, start[1])
        histories += list(exported.training.epochs(run, stacked=stacked))
    assert histories[0]["train_loss"] != histories[1]["train_loss"]
    assert histories[0]["train_loss"] == pytest.approx(histories[1]["train_loss"], rel=0.1)


class Ordinal(type(CLASSES)):  # type: ignore[misc]
    """A head with an output for each step from one class to the next."""

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        return (outputs > 0).sum(dim=1)


class Scored(Ordinal):
    """The same, with probabilities."""

    def probabilities(self, outputs: torch.Tensor) -> torch.Tensor:
        above = torch.nn.functional.pad(outputs.sigmoid(), (1, 0), value=1.0)
        return above - torch.nn.functional.pad(above[:, 1:], (0, 1))


def test_heads_that_are_no_logits_of_the_classes() -> None:
    """The predicted class is named; how probable it is only where the task tells it."""
    outputs = torch.tensor([[2.0, -1.0], [-3.0, -4.0]])
    plain, scored = (
        exported.answers(task(), outputs, ("low", "mid", "high"), 5) for task in (Ordinal, Scored)
    )
    assert [each.label for each in plain] == [each.label for each in scored] == ["mid", "low"]
    assert [(each.probability, each.top) for each in plain] == [(None, ())] * 2
    assert scored[0].probability == pytest.approx(0.880797 - 0.268941, abs=1e-5)
    assert sum(share for _, share in scored[0].top) == pytest.approx(1)


def edit(directory: Path, before: str, after: str) -> None:
    text = (directory / "study.json").read_text()
    assert before in text
    (directory / "study.json").write_text(text.replace(before, after))


def test_other_data_is_told(tmp_path: Path) -> None:
    """By its fingerprint; data that moved is named, and other classes are an error."""
    digit_files(tmp_path / "then", "train", ALL, 120)
    spec = study("files", {"kind": "folder", "path": "then"}, TINY)
    made(tmp_path / "model", cache=tmp_path / "cache", base=tmp_path, spec=spec, epochs=1)
    (tmp_path / "then").rename(tmp_path / "now")

    def again(path: Path | None) -> exported.Reproduction:
        return exported.reproduce(
            tmp_path / "model", data_path=path, device="cpu", cache=tmp_path / "cache"
        )

    with pytest.raises(DataError, match="no such folder"):
        again(None)
    assert again(tmp_path / "now").verdict == "identical"
    next((tmp_path / "now" / "3").iterdir()).unlink()
    assert not again(tmp_path / "now").same_data
    (tmp_path / "now" / "3").rename(tmp_path / "now" / "three")
    with pytest.raises(DataError, match="other classes"):
        again(tmp_path / "now")


def test_a_folder_that_tells_nothing_of_its_training(digits: Path, tmp_path: Path) -> None:
    """It can be used, and not be reproduced."""
    model = exported.load(digits)
    exported.write(tmp_path / "model", model.module, model.description, None)
    with pytest.raises(UsageError, match="does not tell how it was trained"):
        exported.reproduce(tmp_path / "model")
