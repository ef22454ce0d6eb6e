"""A folder of images becomes a commented study file that reads back as the same study."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tunesvc import scaffold, spec
from tunesvc.errors import DataError, SpecError, UnknownNameError, UsageError
from tunesvc.scaffold.flow import flow, ranges
from tunesvc.space import auto, build
from tunesvc.spec import Choices, Fixed, FloatRange, IntRange, yaml_file


def photos(folder: Path, images: int = 40, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Make empty files named like images of two classes, `images` of each class in each split."""
    for split in splits or (".",):
        for name in ("ants", "bees: wild"):
            inner = folder / split / name
            inner.mkdir(parents=True)
            for index in range(images):
                (inner / f"{index}.JPG").touch()
            (inner / "notes.txt").touch()
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a space in its name."""
    folder = tmp_path / "my project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("preset", scaffold.PRESETS)
def test_round_trip(project: Path, preset: str) -> None:
    """The file reads back as the study that was meant, and its space is the ready one, in full."""
    photos(project / "my photos", images=300)
    path = scaffold.write_for_folder(Path("my photos"), preset=preset, trials=7)
    facts = scaffold.look(Path("my photos"))
    plain = scaffold.draft(
        facts, backbones=None, preset=preset, trials=7, name=None, path="../my photos"
    )
    expected = plain.model_copy(update={"search_space": dict(auto.space_for(plain))})
    loaded = spec.load(path)
    assert loaded == expected
    assert loaded.name == "my-photos"
    assert [p.name for p in build(loaded).parameters] == [p.name for p in build(plain).parameters]


def test_the_path_leads_from_the_file_to_the_images(project: Path, tmp_path: Path) -> None:
    """A folder inside the project is named relatively, one outside absolutely."""
    inside, outside = photos(project / "in"), photos(tmp_path / "out")
    for folder in (inside, outside):
        path = scaffold.write_for_folder(folder, preset="quick")
        data = spec.load(path).data
        assert isinstance(data, spec.FolderData)
        assert (path.parent / data.path).resolve() == folder.resolve()
        assert Path(data.path).is_absolute() == (folder == outside)


def test_never_overwritten(project: Path) -> None:
    """A study file that is there already is left as it is; another name is accepted."""
    photos(project / "p")
    path = scaffold.write_for_folder(Path("p"), preset="quick")
    path.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        scaffold.write_for_folder(Path("p"), preset="quick")
    assert path.read_text() == "mine"
    assert scaffold.write_for_folder(Path("p"), preset="quick", name="q").name == "q.yaml"


def test_editors_find_the_schema(project: Path) -> None:
    """The file's first line names a schema that stands beside it."""
    path = scaffold.write_for_folder(photos(project / "p"), preset="quick")
    first = path.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=study.schema.json"
    assert (path.parent / "study.schema.json").read_text() == scaffold.schema_text()


def test_wishes(project: Path) -> None:
    """Backbones, trials and name are those that were asked for."""
    photos(project / "p")
    path = scaffold.write_for_folder(
        Path("p"), backbones=["vit_b_16", "tiny_resnet"], preset="quick", trials=3, name="mine"
    )
    loaded = spec.load(path)
    assert loaded.backbone_labels == ("vit_b_16", "tiny_resnet")
    assert (loaded.name, loaded.budget.trials) == ("mine", 3)


@pytest.mark.parametrize(
    ("images", "epochs", "batches"),
    [
        (10, 20, [8, 16]),  # 40 images: 500 steps of 32 would be 400 epochs, 20 is the most
        (250, 16, [16, 32, 64]),  # 1000 images: 500 × 32 / 1000
        (2000, 5, [32, 64, 128]),  # 8000 images: 2 epochs would do, 5 is the least
    ],
)
def test_few_images_get_more_epochs_and_smaller_batches(
    tmp_path: Path, images: int, epochs: int, batches: list[int]
) -> None:
    """`balanced` trains for about 500 steps, and a batch is at most an eighth of the images."""
    folder = photos(tmp_path / "p", images)
    path = scaffold.write_for_folder(folder, destination=tmp_path / "studies")
    loaded = spec.load(path)
    assert isinstance(loaded.search_space, dict)
    assert loaded.budget.epochs == epochs
    assert loaded.search_space["batch_size"] == (Choices(choices=list(batches)),)


@pytest.mark.parametrize(
    ("splits", "images", "held"),
    [
        ((), 20, ()),
        (("train", "test"), 20, ("test", "train")),
        (("train", "valid"), 40, ("train", "valid")),
    ],
)
def test_look(tmp_path: Path, splits: tuple[str, ...], images: int, held: tuple[str, ...]) -> None:
    """Classes and images are counted over training and validation; text and test images are not."""
    facts = scaffold.look(photos(tmp_path / "p", 10, splits))
    assert facts.classes == ("ants", "bees: wild")
    assert (facts.images, facts.smallest, facts.splits) == (images, images // 2, held)


def test_folders_without_classes(tmp_path: Path) -> None:
    """No folder, an empty one and a single class are refused before anything is written."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "ants").mkdir(parents=True)
    (tmp_path / "one" / "ants" / "1.png").touch()
    for name, shown in {
        "absent": "no such folder",
        "empty": "no images in class folders",
        "one": "one class only",
    }.items():
        with pytest.raises(DataError, match=shown):
            scaffold.write_for_folder(tmp_path / name, destination=tmp_path / "studies")
    assert not (tmp_path / "studies").exists()


def test_wrong_wishes(tmp_path: Path) -> None:
    """An unknown preset, no trials and an impossible name are refused."""
    folder, into = photos(tmp_path / "p"), tmp_path / "studies"
    with pytest.raises(UnknownNameError, match="did you mean 'quick'"):
        scaffold.write_for_folder(folder, preset="quik", destination=into)
    with pytest.raises(UsageError, match="--trials 0"):
        scaffold.write_for_folder(folder, trials=0, destination=into)
    with pytest.raises(SpecError, match="name: may hold letters"):
        scaffold.write_for_folder(folder, name="../x", destination=into)
    assert not into.exists()


def test_no_torch() -> None:
    """Writing a study file imports no torch: it is done before anybody has to wait."""
    code = "import sys, tunesvc.scaffold; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-4, "1e-4"),
        (3e-05, "3e-5"),
        (2.5e-7, "2.5e-7"),
        (0.1, "0.1"),
        (1.0, "1.0"),
        (0.0, "0.0"),
        (123456.0, "1.23456e+5"),
        (3, "3"),
        (True, "true"),
        (None, "null"),
        ("none", "none"),
        ("on", "on"),
        ("null", '"null"'),
        ("1e5", '"1e5"'),
        ("a: b", '"a: b"'),
        ("a, b", '"a, b"'),
        ("", '""'),
        ("Zürich #1", '"Zürich #1"'),
        (["a", 1], "[a, 1]"),
        ({"low": 1e-4, "when": {"optimizer": ["sgd"]}}, "{low: 1e-4, when: {optimizer: [sgd]}}"),
    ],
)
def test_flow(value: object, text: str) -> None:
    """A value is written as a person would write it, and reads back as itself."""
    assert flow(value) == text
    read = yaml_file.parse(f"x: {text}", "").value["x"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("knob", "variants", "lines"),
    [
        ("lr", (Fixed(value=0.1),), ["  lr: 0.1"]),
        ("optimizer", (Choices(choices=["sgd"]),), ["  optimizer: [sgd]"]),
        (
            "lr",
            (FloatRange(low=0.1, high=1, log=True),),
            ["  lr: {low: 0.1, high: 1.0, log: true}"],
        ),
        ("batch_size", (IntRange(low=1, high=8),), ["  batch_size: {low: 1, high: 8}"]),
        ("lr", (IntRange(low=1, high=8),), ["  lr: {type: int, low: 1, high: 8}"]),
        (
            "momentum",
            (Fixed(value=0.9, when={"optimizer": "sgd"}), Choices(choices=[0.0], label="x")),
            [
                "  momentum:",
                "    - {value: 0.9, when: {optimizer: sgd}}",
                "    - {choices: [0.0], label: x}",
            ],
        ),
    ],
)
def test_ranges(knob: str, variants: tuple[spec.Range, ...], lines: list[str]) -> None:
    """Each kind of range has its shortest form."""
    assert ranges(knob, variants) == lines
