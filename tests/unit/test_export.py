"""What an exported folder says of its model: the card, the licence, the requirements."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Any

import pytest
import torch
from installed import install

from tunesvc import exported, plugins
from tunesvc.backbones import build
from tunesvc.export import forms
from tunesvc.export.card import Card
from tunesvc.export.forms import Form
from tunesvc.export.making import _plain
from tunesvc.export.origin import origin
from tunesvc.export.requirements import requirements
from tunesvc.export.story import costs
from tunesvc.exported import Noise, Record, TrainingRun
from tunesvc.spec import BackboneSpec, Knobs

TINY = BackboneSpec(name="tiny_resnet")
HOSTILE = "a|b `x` <script>\n# big"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are drawn roughly: seconds of each card."""
    for name, number in (("_FEWEST", 40), ("_NUMBERS", 1)):
        monkeypatch.setattr(sys.modules["tunesvc.exported.measure"], name, number)


def card(
    classes: tuple[str, ...],
    wrong: int,
    told: Mapping[str, Any] | None = None,
    *,
    tested: bool = False,
    **more: Any,
) -> str:
    """The card of a model that takes the first class for the second so many times in 40 images.

    Args:
        told: in place of what its story has under these names.
        tested: the data has a test split.
        more: of its record.
    """
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
    run = TrainingRun(
        trial=3, label="tiny_resnet", backbone=TINY, knobs=knobs, epochs=1, seed=0
    )  # fmt: skip
    known = {
        "study": "s", "digest": "d", "spec": {"data": {"kind": "folder", "path": HOSTILE}},
        "metric": task.default_metric, "direction": "maximize", "fingerprint": "f", "runs": (run,),
        "selection": {
            "study": "s", "trial": 3, "of_study": "s", "how": "the best", "remark": "",
            "trials": {"complete": 4, "pruned": 5, "fail": 6}, "backbones": ["tiny_resnet"],
            "sampler": "tpe", "pruner": "asha", "metric": "accuracy", "direction": "maximize",
            "told": 0.5, "confirmed": None, "weights": {"name": "w", "licence": "l"}, "costs": [],
            "chosen": "best", "among": 4, "caps": [],
            "objectives": [{"name": "accuracy", "direction": "maximize", "is_cost": False}],
            **(told or {}),
        },
    }  # fmt: skip
    if more.get("made") == "soup":
        more = more | {"runs": (run, run.model_copy(update={"trial": 5}))}
    record = Record(**(known | more))  # type: ignore[arg-type]
    description = exported.describe(backbone, TINY, task, classes)
    data = {"splits": {"train": counts, "val": counts}}
    other = [Form("model.onnx", why="onnx not installed")]
    test = found if tested else None
    return Card(description, record, found, test, other, data, "2026-11-22").text()


def tokens(text: str) -> list[Any]:
    """What a reader of CommonMark with tables makes of a page, paragraphs' own parts as well."""
    markdown_it = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed")
    parsed = markdown_it.MarkdownIt("commonmark").enable("table").parse(text)
    return [part for token in parsed for part in (token, *(token.children or ()))]


def shown(cell: Any) -> str:
    """The letters of a table's cell."""
    return "".join(part.content for part in cell.children or ())


def test_few_classes_have_a_whole_matrix_and_no_name_breaks_the_page() -> None:
    """Names of strangers stay in their cell; without a test split nothing is promised."""
    text = card((HOSTILE, "b", "c"), wrong=2)
    name = "a\\|b \\`x\\` &lt;script&gt; \\# big"
    assert f"| {name} | 12 | 2 | 0 |" in text
    assert f"folder {name};" in text
    assert "| all | 40 | 40 |" in text
    assert "### Confusion matrix (validation)" in text
    assert "The data has no test split" in text
    assert "Nothing here is free of this fault" in text
    assert "4 trials finished, 5 were pruned, 6 failed" in text
    assert "| `model.onnx` | not written: onnx not installed |" in text


@pytest.mark.parametrize(
    "name",
    [
        "a|b",
        "`",
        "a``b|",
        "<img src=x onerror=alert(1)>",
        "x\n\n<script>",
        "&lt;b&gt;",
        "\\|",
        "~~a~~",
    ],
)
def test_a_reader_sees_the_names_as_they_are(name: str) -> None:
    """No cell is split, no HTML appears, in the tables and in the code spans."""
    found = tokens(card((name, "b", "c"), wrong=2, told={"study": name, "of_study": name}))
    assert not [token for token in found if token.type.startswith("html")]
    plain = " ".join(name.split())
    rows = {shown(cell): place for place, cell in enumerate(found) if cell.type == "inline"}
    assert plain in rows
    cells = [shown(token) for token in found if token.type == "inline"]
    place = [n for n, cell in enumerate(cells) if cell == plain][-2]  # its row of the confusions
    assert cells[place : place + 4] == [plain, "12", "2", "0"]
    spans = [token.content for token in found if token.type == "code_inline"]
    assert f"tunesvc confirm {' '.join(quote(name).split())}" in spans


def test_a_command_in_the_card_can_be_copied() -> None:
    """A study's underscores stay as they are in it."""
    text = card(("a", "b", "c"), wrong=2, told={"study": "my_study_2"})
    assert "`tunesvc confirm my_study_2`" in text


@pytest.mark.parametrize(
    ("told", "words", "never"),
    [
        ({}, "They are the best of 4,", "A person named"),
        ({"among": 3}, "the best of those that keep the constraints (3 of 4)", "best of 4"),
        ({"chosen": "where", "among": 2}, "the best of those that fit (2 of 4)", "best of 4"),
        ({"chosen": "asked", "among": None}, "A person named this trial;", "the best of"),
        (
            {"chosen": "asked", "among": None, "how": "it"},
            "whoever compares several exports by their test scores chooses by the test split",
            "Nothing was chosen by the test split",
        ),
    ],
)
def test_luck_is_told_of_as_the_trial_was_chosen(
    told: dict[str, Any], words: str, never: str
) -> None:
    """The best of all was luckiest among all; of those that fit, among those; or a person chose."""
    text = card(("a", "b", "c"), 2, {"how": "it"} | told, tested=True)
    assert words in text
    assert never not in text


def test_of_a_mean_nothing_is_told_that_holds_of_one_run() -> None:
    """Neither what new seeds confirmed nor how far one run varies with them."""
    estimate = {"value": 0.9, "low": 0.8, "high": 0.95}
    confirmed = {"seeds": 5, "validation": estimate, "test": None, "gap": None}
    noise = Noise(metric="accuracy", deviation=0.1, runs=9)
    classes = ("a", "b", "c")
    assert "Run again with 5 new seeds" in card(classes, 2, {"confirmed": confirmed})
    text = card(classes, 2, {"confirmed": confirmed}, made="soup", noise=noise)
    assert text.count("The mean of 2 runs, picked by the validation images") == 2
    for never in ("Run again with", "One run of one", "Between seeds", "Trial 3 is", "confirm"):
        assert never not in text


def test_all_objectives_and_constraints_are_listed() -> None:
    """A cost is on no split."""
    goals = [
        {"name": "accuracy", "direction": "maximize", "is_cost": False},
        {"name": "latency_ms", "direction": "minimize", "is_cost": True},
    ]
    text = card(("a", "b", "c"), 2, {"objectives": goals, "caps": ["params_m <= 3"]})
    assert (
        "Objectives: accuracy, to maximize, on the validation split (trial 3 told 0.5); "
        "latency\\_ms, to minimize; constraints: params\\_m &lt;= 3; digest `d`."
    ) in text


class Scaled(torch.nn.Module):
    """The same output for each image."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((1, 2, 3))[:, None] * 0 + self.size


@pytest.mark.parametrize(
    ("size", "off", "is_written"),
    [
        (0.5, 0.5e-4, True),
        (0.5, 2e-4, False),  # never more than 1e-4 where outputs are small
        (250_000.0, 0.03, True),  # two units in float32's last place
        (250_000.0, 50.0, False),
        (float("inf"), 1.0, False),
    ],
)
def test_large_outputs_may_differ_by_more(
    tmp_path: Path, *, size: float, off: float, is_written: bool
) -> None:
    """By as large a share; what is told is the plain difference."""
    other = forms._Maker(
        "model.other",
        lambda module, example, path: path.write_text("x"),  # type: ignore[arg-type,return-value]
        lambda path: lambda images: torch.full((len(images), 1), min(size, 1e6) + off),
    )
    form = forms._checked(tmp_path, other, Scaled(size), torch.zeros(5, 3, 4, 4))
    assert (form.why == "", (tmp_path / "model.other").exists()) == (is_written, is_written)
    if size < 1e6:
        assert form.difference == pytest.approx(off, rel=0.1)


def test_of_large_outputs_every_real_form_is_written(tmp_path: Path) -> None:
    """Prices of houses, say."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 16, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(16, 64, 3, 2)),
        *(torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()),
        torch.nn.Linear(64, 1),
    ).eval()
    with torch.no_grad():
        module[-1].weight.mul_(50_000)  # type: ignore[operator]
        module[-1].bias.fill_(250_000.0)  # type: ignore[operator]
    written = forms.write(tmp_path, module, torch.randn(16, 3, 32, 32), onnx=True)
    assert [form.why for form in written] == ["", ""]


def rowed(num_outputs: int, dropout: float) -> torch.nn.Module:
    """A plugin's function: with dropout its head has a module more."""
    last = torch.nn.Linear(3, num_outputs)
    head = torch.nn.Sequential(torch.nn.Dropout(dropout), last) if dropout else last
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_function_that_builds_others_with_dropout_is_rebuilt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dropout: float
) -> None:
    """The folder tells the dropout, and what is loaded answers as what was trained."""
    monkeypatch.setitem(plugins.paths("backbone"), "rowed", f"{__name__}:rowed")
    task, spec = (
        plugins.load("task", "image-classification"),
        BackboneSpec(name="rowed", weights="none"),
    )
    names = ["a", "b", "c"]
    backbone = build(spec, 3, base=tmp_path, dropout=dropout, pretrained=False)
    told = exported.describe(backbone, spec, task, names, dropout=dropout)
    assert told.backbone.dropout == dropout
    plain = _plain(backbone.module, told)
    exported.write(tmp_path / "model", plain, told, None)
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        wanted = backbone.module.eval()(images)
        assert plain(images).equal(wanted)
        torch.testing.assert_close(exported.load(tmp_path / "model").module(images), wanted)


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
