"""What an exported folder says of its model: the card, the licence, the requirements."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from installed import install

from tunesvc import exported, plugins
from tunesvc.backbones import build
from tunesvc.export.card import Card
from tunesvc.export.forms import Form
from tunesvc.export.origin import origin
from tunesvc.export.requirements import requirements
from tunesvc.export.story import costs
from tunesvc.exported import Record, TrainingRun
from tunesvc.spec import BackboneSpec, Knobs

TINY = BackboneSpec(name="tiny_resnet")
HOSTILE = "a|b `x` <script>\n# big"


def card(classes: tuple[str, ...], wrong: int, **more: Any) -> str:
    """The card of a model that takes the first class for the second so many times in 40 images."""
    name = "image-classification" if classes else "image-regression"
    task = plugins.load("task", name)
    count = len(classes)
    if classes:
        targets = torch.arange(40) % count
        said = targets.clone()
        said[(targets == 0).nonzero()[:wrong, 0]] = 1
        outputs = torch.nn.functional.one_hot(said, count).float()
    else:
        targets = torch.linspace(0, 1, 40)
        outputs = targets[:, None] + 0.1
    found = exported.measure(task, outputs, targets, classes)
    backbone = build(TINY, task.num_outputs(classes), base=Path())
    counts = {"images": 40}
    if classes:
        counts["per_class"] = dict.fromkeys(classes, 1)  # type: ignore[assignment]
    knobs = Knobs(strategy="full")
    record = Record(
        study="s", digest="d", spec={"data": {"kind": "folder", "path": HOSTILE}},
        metric=task.default_metric, direction="maximize", fingerprint="f",
        runs=(TrainingRun(trial=3, label="tiny_resnet", backbone=TINY, knobs=knobs, epochs=1,
                          seed=0),),
        selection={
            "study": "s", "trial": 3, "of_study": "s", "how": "the best", "remark": "",
            "trials": {"complete": 4, "pruned": 5, "fail": 6}, "backbones": ["tiny_resnet"],
            "sampler": "tpe", "pruner": "asha", "metric": "accuracy", "direction": "maximize",
            "told": 0.5, "confirmed": None, "weights": {"name": "w", "licence": "l"}, "costs": [],
        },
        **more,
    )  # fmt: skip
    description = exported.describe(backbone, TINY, task, classes)
    data = {"splits": {"train": counts, "val": counts}}
    forms = [Form("model.onnx", why="onnx not installed")]
    return Card(description, record, found, None, forms, data, "2026-11-22").text()


def test_few_classes_have_a_whole_matrix_and_no_name_breaks_the_page() -> None:
    """Names of strangers stay in their cell; without a test split nothing is promised."""
    text = card((HOSTILE, "b", "c"), wrong=2)
    name = "a\\|b \\`x\\` &lt;script> \\# big"
    assert f"| {name} | 12 | 2 | 0 |" in text
    assert f"folder {name};" in text
    assert "| all | 40 | 40 |" in text
    assert "### Confusion matrix (validation)" in text
    assert "The data has no test split" in text
    assert "Nothing here is free of this fault" in text
    assert "4 trials finished, 5 were pruned, 6 failed" in text
    assert "| `model.onnx` | not written: onnx not installed |" in text


def test_of_many_classes_the_worst_mistakes_are_told() -> None:
    """A matrix of thousands of cells tells a reader nothing."""
    names = tuple(f"class {number}" for number in range(15))
    text = card(names, wrong=2)
    assert "Of 15 classes, the most frequent mistakes" in text
    assert "| 2 | class 0 | class 1 |" in text
    assert "No image of 15 classes was taken for another" in card(names, wrong=0)


def test_a_model_of_numbers_has_no_classes() -> None:
    """Neither a matrix nor probabilities."""
    text = card((), wrong=0)
    assert "Tells a number of an image." in text
    assert "Confusion" not in text
    assert "probabilities" not in text


def test_licences_are_stated_or_unknown(tmp_path: Path) -> None:
    """torchvision's own word, a file's `meta.json`, nothing for a random start; never a guess."""
    swag = BackboneSpec(name="vit_b_16", weights="IMAGENET1K_SWAG_E2E_V1")
    assert "SWAG/blob/main/LICENSE" in origin(swag, tmp_path, pretrained=True).licence
    plain = origin(BackboneSpec(name="resnet18"), tmp_path, pretrained=True)
    assert plain.name == "torchvision's ResNet18_Weights.IMAGENET1K_V1"
    assert plain.licence.startswith("unknown: read https://github.com/pytorch/vision")
    assert origin(TINY, tmp_path, pretrained=False).licence.startswith("not needed")
    assert origin(TINY, tmp_path, pretrained=True).name == "tiny_resnet/weights.safetensors"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "meta.json").write_text(json.dumps({"license": "CC0-1.0"}))
    mine = BackboneSpec(name="tiny_resnet", weights="mine/weights.safetensors")
    assert origin(mine, tmp_path, pretrained=True).licence == "CC0-1.0"


def test_requirements_are_exact_and_name_plugins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What decides the numbers; onnxruntime as a remark, where there is an ONNX file."""
    install(Path(__file__).parents[1] / "plugin_package", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = requirements(backbone="plain_net", task="ordinal", onnx=False)
    assert known.count("ordered-photos==1.0\n") == 1
    lines = requirements(backbone="tiny_resnet", task="image-classification", onnx=False)
    assert f"torch=={version('torch').partition('+')[0]}" in lines.splitlines()
    assert "onnxruntime" not in lines
    assert "# onnxruntime==" in requirements(backbone="x", task="y", onnx=True)


def test_costs_are_told_as_far_as_they_are_known() -> None:
    """Older trials lack some; a latency has its device beside it."""
    assert costs({}) == []
    run = {"parameters": 5, "latency": {"ms": 2.5, "device_name": "Xeon", "precision": "float32",
                                        "threads": 1}}  # fmt: skip
    rows = {row["what"]: row for row in costs({"run": run, "seconds": {"train": 2.0}})}
    assert rows["parameters"]["value"] == 5
    assert rows["latency of one image, ms (median)"]["on"] == "Xeon, float32, threads: 1"
    assert rows["the whole trial, s"]["value"] == 2.0
    assert len(rows) == 3
