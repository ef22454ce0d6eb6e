"""Tests of the data room: arrays in an `.npz` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesvc.data import Listing, describe, scan
from tunesvc.errors import DataError
from tunesvc.spec import ArraysData
from tunesvc.tasks import TargetKind

SHARED = Path(__file__).parents[2] / "../shared/data"


def arrays(path: Path, target: TargetKind = "class", **saved: Any) -> Listing:
    np.savez(path / "a.npz", **saved)
    return scan(ArraysData(kind="arrays", path="a.npz"), target=target, base=path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")
def test_arrays_with_an_official_test_split() -> None:
    """The test arrays stay the test split; val is cut from train; subset keeps the balance."""
    spec = ArraysData(kind="arrays", path="cifar10-jpeg-subset/cifar10_10k_2k.npz", subset=500)
    listing = scan(spec, target="class", base=SHARED)
    assert listing.classes[:2] == ("airplane", "automobile")
    counts = describe(listing)["splits"]
    assert set(counts["test"]["per_class"].values()) == {200}
    assert set(counts["val"]["per_class"].values()) == {200}
    assert set(counts["train"]["per_class"].values()) == {50}


def test_arrays_labels(tmp_path: Path) -> None:
    """Labels may be names, numbers from anywhere, or (for regression) floats."""
    x = np.zeros((6, 5, 4), np.uint8)
    named = arrays(tmp_path, x_train=x, y_train=np.array(list("babbab")), x_val=x[:1], y_val=["a"])
    assert named.classes == ("a", "b")
    assert named.splits["train"].targets.tolist() == [1, 0, 1, 1, 0, 1]
    plain = arrays(tmp_path, x_train=x, y_train=[7, 3, 7, 7, 3, 3], x_val=x[:2], y_val=[3, 7])
    assert plain.classes == ("3", "7")
    assert plain.splits["val"].targets.tolist() == [0, 1]
    numbers = arrays(tmp_path, "number", x_train=np.tile(x, (2, 1, 1)), y_train=np.arange(12) / 4)
    assert {name: len(items) for name, items in numbers.splits.items()} == {
        "train": 8,
        "val": 2,
        "test": 2,
    }


X, Y = np.zeros((6, 5, 4), np.uint8), np.array([0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"images": X}, "no x_train"),
        ({"x_train": X}, "it is absent"),
        ({"x_train": X, "y_train": Y[:3]}, "does not fit"),
        ({"x_train": X / 255, "y_train": Y}, "float64 of shape"),
        ({"x_train": X[..., None], "y_train": Y}, r"shape \(6, 5, 4, 1\)"),
        ({"x_train": X, "y_train": Y / 2}, "y_train is float64"),
        ({"x_train": X, "y_train": Y, "classes": ["a"]}, "lies outside 0…0"),
        ({"x_train": X, "y_train": np.array([None] * 6)}, "object arrays are never read"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "train split has 0 images"),
    ],
)
def test_unusable_arrays_are_explained(tmp_path: Path, saved: dict[str, Any], message: str) -> None:
    """Arrays of the wrong kind, shape or length are told from each other."""
    with pytest.raises(DataError, match=message):
        arrays(tmp_path, **saved)


def test_arrays_files_that_are_none(tmp_path: Path) -> None:
    """A missing file, a text file and a lone .npy are refused; so are NaN targets."""
    spec = ArraysData(kind="arrays", path="a.npz")
    with pytest.raises(DataError, match="no such file"):
        scan(spec, target="class", base=tmp_path)
    for content in (b"", b"text", b"PK\3\4 torn"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"not an \.npz file"):
            scan(spec, target="class", base=tmp_path)
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match=r"not an \.npz file"):
        scan(spec, target="class", base=tmp_path)
    with pytest.raises(DataError, match="not all finite"):
        arrays(tmp_path, "number", x_train=X, y_train=np.full(6, np.nan))
