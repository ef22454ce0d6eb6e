"""Tests of torchvision's data sets that are damaged, absent, unknown, or really there."""

from __future__ import annotations

import gzip
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from tunesvc.data import Listing, describe, scan
from tunesvc.errors import DataError, UnknownNameError
from tunesvc.spec import SplitSpec, TorchvisionData

SHARED = Path(__file__).parents[2] / "../shared/data"


def load(name: str, root: Path, download: bool = False, subset: int | None = None) -> Listing:
    spec = TorchvisionData(
        kind="torchvision",
        name=name,
        root=str(root),
        download=download,
        subset=subset,
        split=SplitSpec(val=0.25),
    )
    return scan(spec, target="class", base=root)


def idx_bytes(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    return header + values.astype(np.uint8).tobytes()


def test_fashion_mnist_as_published() -> None:
    """The four .gz files are read where they lie, 60,000 and 10,000 images in ten classes."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not here")
    listing = load("FashionMNIST", SHARED / "fashion-mnist", subset=100)
    assert listing.classes[0] == "T-shirt/top"
    counts = describe(listing)["splits"]
    assert set(counts["test"]["per_class"].values()) == {1000}
    assert counts["val"]["images"] == 15000
    assert set(counts["train"]["per_class"].values()) == {10}


@pytest.mark.parametrize(
    "change", ["cut short", "not gzip", "torn gzip", "other type", "fewer labels"]
)
def test_damaged_idx_files_are_named(tmp_path: Path, change: str) -> None:
    """A torn download is told from a set that is not there."""
    images, labels = idx_bytes(np.zeros((40, 28, 28))), idx_bytes(np.arange(40) % 10)
    for prefix in ("train", "t10k"):
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(images)
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    assert len(load("MNIST", tmp_path).splits["test"]) == 40
    broken = {
        "not gzip": b"<html>404</html>",
        "cut short": gzip.compress(labels[:-1]),
        "torn gzip": gzip.compress(labels)[:-9],
        "other type": gzip.compress(b"\1" + labels[1:]),
        "fewer labels": gzip.compress(idx_bytes(np.arange(3))),
    }
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(broken[change])
    with pytest.raises(
        DataError, match=r"train-labels-idx1-ubyte\.gz.*(damaged|not an idx|belong)"
    ):
        load("MNIST", tmp_path)


def test_absent_files_say_where_to_put_them(tmp_path: Path) -> None:
    """Without `download: true` an absent set is an error that names the folder and the key."""
    for name in ("CIFAR10", "MNIST", "USPS"):
        with pytest.raises(DataError) as caught:
            load(name, tmp_path / "data")
        assert f"{name} is not in {tmp_path / 'data'}" in str(caught.value)
        assert "data.download: true" in str(caught.value)
        assert "download=True" not in str(caught.value)
        place, file = {
            "CIFAR10": ("cifar-10-batches-py", "data_batch_1"),
            "MNIST": ("MNIST/raw", "train-images-idx3-ubyte.gz"),
            "USPS": ("", "usps.t.bz2"),
        }[name]
        assert f"in {tmp_path / 'data' / place}: " in caught.value.fix
        assert file in caught.value.fix


def test_failed_downloads_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, `download: true` ends in an error that says so."""

    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", offline)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    for name in ("CIFAR10", "KMNIST", "DTD"):
        with pytest.raises(DataError, match=r"could not be downloaded(?s:.*)no route to host"):
            load(name, tmp_path / "data", download=True)
    with pytest.raises(DataError, match="cannot be downloaded anymore"):
        load("StanfordCars", tmp_path / "data", download=True)


def test_unknown_sets_and_numbers(tmp_path: Path) -> None:
    """A misspelt name lists the close one; classes cannot be learned as numbers."""
    with pytest.raises(UnknownNameError, match="did you mean 'CIFAR10'"):
        load("CIFAR-10", tmp_path)
    spec = TorchvisionData(kind="torchvision", name="MNIST")
    with pytest.raises(DataError, match="wants numbers"):
        scan(spec, target="number", base=tmp_path)
