"""`tunesvc pretrain`: a file in, weights and their story out."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tunesvc import plugins
from tunesvc.backbones import build
from tunesvc.errors import SpecError
from tunesvc.pretrain import pretrain, read
from tunesvc.spec import BackboneSpec
from tunesvc.train import Epoch

FILE = """\
backbone: tiny_mobilenet
data: {kind: digits, subset: 200}
epochs: 2
knobs: {lr: 1e-2, batch_size: 50}
"""
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str = FILE) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_it_writes_weights_and_their_story(tmp_path: Path) -> None:
    """The folder holds a state dict that fits, and who made it how, from what, how well."""
    seen: list[Epoch] = []
    written(tmp_path)
    folder = pretrain(Path("mine.yaml"), device="cpu", on_epoch=seen.append)
    assert folder == Path("weights/mine")
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["command"] == "tunesvc pretrain mine.yaml --device cpu"
    assert [epoch["accuracy"] for epoch in meta["epochs"]] == [
        round(epoch.metrics["accuracy"], 4) for epoch in seen
    ]
    assert meta["epochs"][-1]["accuracy"] == meta["final"]["val"]["accuracy"]
    assert meta["final"].keys() == {"val", "test"}
    assert meta["data"]["images"]["train"] == 200
    assert meta["data"]["kind"] == "digits"
    assert meta["data"]["fingerprint"]
    assert meta["transform"]["mean"] == pytest.approx([0.286] * 3)
    assert meta["versions"]["torch"] == version("torch")
    assert meta["knobs"]["strategy"] == "from-scratch"
    assert str(tmp_path) not in json.dumps(meta)
    module = plugins.load("backbone", "tiny_mobilenet")(10, dropout=0.0)
    module.load_state_dict(load_file(folder / "weights.safetensors"))


def test_a_study_can_name_the_folder(tmp_path: Path) -> None:
    """What pretraining writes is a backbone's `weights`: body and transform come from it."""
    folder = pretrain(written(tmp_path), out=tmp_path / "made", device="cpu")
    body = build(BackboneSpec(name="tiny_mobilenet", weights="./made"), 3, base=tmp_path)
    stored = load_file(folder / "weights.safetensors")
    name = "stage1.0.0.weight"
    assert torch.equal(body.module.state_dict()[name], stored[name])
    assert body.weights_sha256


def test_the_same_file_gives_the_same_weights(tmp_path: Path) -> None:
    """Pretraining is determined by its file."""
    path = written(tmp_path)
    folders = [pretrain(path, out=tmp_path / name, device="cpu") for name in ("one", "two")]
    one, two = ((folder / "weights.safetensors").read_bytes() for folder in folders)
    assert one == two


def test_snapshots_along_the_way(tmp_path: Path) -> None:
    """`keep_epochs` leaves each epoch's weights, and the story up to it."""
    folder = pretrain(written(tmp_path), out=tmp_path / "made", keep_epochs=True, device="cpu")
    assert {path.name for path in folder.iterdir()} == {
        "epoch-001",
        "epoch-002",
        "weights.safetensors",
        "meta.json",
    }
    first = json.loads((folder / "epoch-001" / "meta.json").read_text())
    assert len(first["epochs"]) == 1
    assert first["final"] is None
    last, final = (
        (place / "weights.safetensors").read_bytes() for place in (folder / "epoch-002", folder)
    )
    assert last == final
    assert (folder / "epoch-001" / "weights.safetensors").read_bytes() != final


@pytest.mark.parametrize(
    ("line", "replacement", "told"),
    [
        ("epochs: 2", "epoch: 2", "mine.yaml:3:1: epoch: unknown key"),
        ("epochs: 2", "epochs: 0", "mine.yaml:3"),
        ("tiny_mobilenet", "{name: tiny_mobilenet, weights: DEFAULT}", "random weights"),
        ("lr: 1e-2", "strategy: full", "trains everything"),
        ("lr: 1e-2", "lr: fast", "must be a number"),
        ("kind: digits", "kind: digit", "unknown kind of data 'digit'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, line: str, replacement: str, told: str) -> None:
    """Each mistake of the file is an error that says where and what, before anything is read."""
    with pytest.raises(SpecError) as caught:
        read(written(tmp_path, FILE.replace(line, replacement)))
    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["- epochs", "", "epochs: [1"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    """A list, an empty file or broken YAML is an error with its place."""
    with pytest.raises(SpecError, match=r"mine\.yaml"):
        read(written(tmp_path, text))


@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_mobilenet"])
def test_the_shipped_weights_come_from_their_files(name: str) -> None:
    """The file in studies/pretrain and the meta.json in the package tell the same story."""
    spec = read(REPOSITORY / "studies" / "pretrain" / f"{name}.yaml")
    (folder,) = plugins.load("backbone", name).weights.values()
    meta: dict[str, Any] = json.loads((Path(folder) / "meta.json").read_text())
    assert spec.name == meta["name"] == name
    assert spec.knobs.model_dump(mode="json") == meta["knobs"]
    assert len(meta["epochs"]) == spec.epochs
    assert meta["final"]["test"]["accuracy"] > {"tiny_resnet": 0.65, "tiny_mobilenet": 0.9}[name]
