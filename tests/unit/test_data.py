"""Tests of the data room: what each kind of source lists, and the listing's fingerprint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tunesvc.data import describe, scan
from tunesvc.data.listing import Listing
from tunesvc.errors import DataError
from tunesvc.spec import CsvData, DigitsData, FolderData, SplitSpec
from tunesvc.tasks import TargetKind

SHARED = Path(__file__).parents[2] / "../shared/data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")


def paint(file: Path, colour: int = 0) -> None:
    """Write a small image whose pixels are all of one colour."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (colour % 256, colour // 256, 0)).save(file)


def paint_classes(root: Path, **counts: int) -> None:
    """Make one class folder per name with so many images, all different."""
    for number, (name, count) in enumerate(counts.items()):
        for i in range(count):
            paint(root / name / f"{i}.png", 1000 * number + i)


def folder(path: Path, target: TargetKind = "class", **keys: Any) -> Listing:
    spec = FolderData(kind="folder", path=path.name, **keys)
    return scan(spec, target=target, base=path.parent)


def table(path: Path, text: str, target: TargetKind = "class", **keys: Any) -> Listing:
    (path / "t.csv").write_text(text)
    return scan(CsvData(kind="csv", path="t.csv", **keys), target=target, base=path)


def sizes(listing: Listing) -> dict[str, int]:
    return {name: len(items) for name, items in listing.splits.items()}


@needs_shared
def test_folder_with_its_own_validation_split() -> None:
    """Ants and bees come in train/ and val/, so nothing is cut and there is no test split."""
    listing = folder(SHARED / "hymenoptera")
    assert describe(listing)["splits"] == {
        "train": {"images": 244, "per_class": {"ants": 123, "bees": 121}},
        "val": {"images": 153, "per_class": {"ants": 70, "bees": 83}},
    }
    asked = folder(SHARED / "hymenoptera", split=SplitSpec(test=0.25))
    assert sizes(asked) == {"train": 183, "val": 153, "test": 61}


def test_folder_of_class_folders_is_split(tmp_path: Path) -> None:
    """One level of class folders becomes train, val and test, each class in its proportion."""
    paint_classes(tmp_path / "d", cat=50, dog=25)
    (tmp_path / "d/cat/notes.txt").write_text("not an image")
    paint(tmp_path / "d/cat/.hidden.png")
    paint(tmp_path / "d/.cache/x.png")
    paint(tmp_path / "d/dog/deeper/x.PNG")
    counts = describe(folder(tmp_path / "d"))["splits"]
    assert {name: split["images"] for name, split in counts.items()} == {
        "train": 46,
        "val": 15,
        "test": 15,
    }
    assert counts["val"]["per_class"] in ({"cat": 10, "dog": 5}, {"cat": 9, "dog": 6})
    assert json.loads(json.dumps(counts)) == counts


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_folder_has_three_names(tmp_path: Path, name: str) -> None:
    """valid/ and validation/ are val/."""
    paint_classes(tmp_path / "d/train", cat=3, dog=3)
    paint_classes(tmp_path / "d" / name, cat=1, dog=1)
    paint_classes(tmp_path / "d/test", cat=2, dog=1)
    assert sizes(folder(tmp_path / "d")) == {"train": 6, "val": 2, "test": 3}


def _broken_folder(kind: str, root: Path) -> None:
    if kind == "file":
        root.write_text("")
    elif kind != "missing":
        root.mkdir()
    if kind == "loose":
        paint(root / "1.png")
    elif kind == "one class":
        paint_classes(root, cat=9)
    elif kind == "no train":
        paint_classes(root / "val", cat=1, dog=1)
    elif kind in ("not in train", "twice"):
        paint_classes(root / "train", cat=3, dog=3)
        paint_classes(root / "val", cat=1, wolf=1)
    if kind == "twice":
        (root / "valid").mkdir()
    if kind == "empty val":
        paint_classes(root / "train", cat=3, dog=3)
        (root / "val").mkdir()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such folder"),
        ("file", "not a folder"),
        ("empty", "no images in class folders"),
        ("loose", "lie in the folder itself"),
        ("one class", "only one class: 'cat'"),
        ("no train", "has val but no train"),
        ("not in train", "no training image of 'wolf'"),
        ("twice", "both val and valid"),
        ("empty val", "val split has 0 images"),
    ],
)
def test_unusable_folders_are_explained(tmp_path: Path, kind: str, message: str) -> None:
    """Every way in which a folder cannot be used has its own message."""
    _broken_folder(kind, tmp_path / "d")
    with pytest.raises(DataError, match=message):
        folder(tmp_path / "d")


def test_folder_holds_no_numbers(tmp_path: Path) -> None:
    """Class folders cannot be learned as numbers."""
    with pytest.raises(DataError, match="wants numbers"):
        folder(tmp_path, target="number")


def test_table_of_labels_and_splits(tmp_path: Path) -> None:
    """Labels become sorted classes; the split column decides; ; and a byte-order mark are fine."""
    for i in range(5):
        paint(tmp_path / f"img/{i}.png", i)
    text = "\ufeffpath;label;part\n" + "".join(
        f"img/{i}.png;{label};{part}\n"
        for i, (label, part) in enumerate(
            [("dog", "train"), ("cat", "train"), ("dog", "Valid"), ("cat", "val"), ("cat", "test")]
        )
    )
    listing = table(tmp_path, text, split_column="part")
    assert listing.classes == ("cat", "dog")
    assert listing.splits["val"].targets.tolist() == [1, 0]
    assert sizes(listing) == {"train": 2, "val": 2, "test": 1}


def test_table_of_numbers(tmp_path: Path) -> None:
    """Numbers are float32 targets, and a split has low and high ones alike."""
    for i in range(20):
        paint(tmp_path / f"{i}.png", i)
    text = "path,age\n" + "".join(f"{i}.png,{i}.5\n" for i in range(20))
    listing = table(tmp_path, text, "number", target_column="age")
    assert listing.classes == ()
    assert sizes(listing) == {"train": 12, "val": 4, "test": 4}
    assert listing.splits["train"].targets.dtype == np.float32
    assert all(
        7 < describe(listing)["splits"][name]["target"]["mean"] < 13 for name in sizes(listing)
    )


def test_one_number_is_no_validation(tmp_path: Path) -> None:
    """R² needs two numbers in every split."""
    for i in range(4):
        paint(tmp_path / f"{i}.png", i)
    text = "path,age\n" + "".join(f"{i}.png,{i}.5\n" for i in range(4))
    with pytest.raises(DataError, match="the val split has 1 image"):
        table(tmp_path, text, "number", target_column="age")


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        ("path,label\n0.png,a\ngone.png,b\n", {}, r"t\.csv:3: no such image: .*gone\.png"),
        ("path,class\n0.png,a\n", {}, "no column 'label'"),
        ("path,label\n0.png,\n", {}, r"t\.csv:2: nothing in column 'label'"),
        ("path,label\n0.png\n", {}, r"t\.csv:2: nothing in column 'label'"),
        ("path,label\n", {}, "no rows"),
        ("", {}, "no column 'path'"),
        ("path,label,s\n0.png,a,dev\n", {"split_column": "s"}, r"t\.csv:2: unknown split 'dev'"),
        ("path,label\n0.png,1\n0.png,x\n", {"target": "number"}, r":3: 'x' is not a number"),
        ("path,label\n0.png,nan\n", {"target": "number"}, r":2: 'nan' cannot be learned"),
        ("path,label\n" + "0.png,a\n" * 9, {}, "only one class"),
    ],
)
def test_table_mistakes_name_their_line(
    tmp_path: Path, text: str, keys: dict[str, Any], message: str
) -> None:
    """A wrong row is named with its line, a wrong header with its column."""
    paint(tmp_path / "0.png")
    with pytest.raises(DataError, match=message):
        table(tmp_path, text, **keys)


def test_table_that_is_no_text(tmp_path: Path) -> None:
    """A missing table and one in another encoding are told apart."""
    spec = CsvData(kind="csv", path="t.csv")
    with pytest.raises(DataError, match="no such file"):
        scan(spec, target="class", base=tmp_path)
    (tmp_path / "t.csv").write_bytes(b"path,label\n\xff.png,a\n")
    with pytest.raises(DataError, match="cannot be read"):
        scan(spec, target="class", base=tmp_path)


def test_digits_serve_both_tasks() -> None:
    """The digits are ten classes, or numbers from 0 to 9, divided 60:20:20."""
    spec = DigitsData(kind="digits")
    listing = scan(spec, target="class", base=Path())
    assert sizes(listing) == {"train": 1079, "val": 359, "test": 359}
    assert isinstance(listing.splits["train"].images, np.ndarray)
    assert listing.splits["train"].images.max() == 255
    numbers = describe(scan(spec, target="number", base=Path()))["splits"]["test"]["target"]
    assert (numbers["min"], numbers["max"]) == (0, 9)
    assert numbers["mean"] == pytest.approx(4.5, abs=0.1)


def test_fingerprint_follows_content_and_division_but_not_place(tmp_path: Path) -> None:
    """Moved data is the same; a changed pixel, label or split is another."""
    paint_classes(tmp_path / "d", cat=6, dog=6)
    large = tmp_path / "d/cat/large.bmp"
    Image.new("RGB", (200, 200)).save(large)  # 120 kB: read at both ends only
    first = folder(tmp_path / "d").fingerprint
    assert folder(tmp_path / "d").fingerprint == first
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(tmp_path / "d", tmp_path / "elsewhere/d")
    assert folder(tmp_path / "elsewhere/d").fingerprint == first
    others = {folder(tmp_path / "d", split=SplitSpec(seed=1)).fingerprint}
    others.add(folder(tmp_path / "d", subset=4).fingerprint)
    with large.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    others.add(folder(tmp_path / "d").fingerprint)
    (tmp_path / "d/cat/0.png").rename(tmp_path / "d/dog/00.png")
    others.add(folder(tmp_path / "d").fingerprint)
    assert len(others | {first}) == 5


def test_an_image_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A dangling link among the images is an error, not a traceback."""
    paint_classes(tmp_path / "d", cat=6, dog=6)
    (tmp_path / "d/cat/x.png").symlink_to("gone.png")
    with pytest.raises(DataError, match=r"x\.png: cannot be opened"):
        folder(tmp_path / "d")
