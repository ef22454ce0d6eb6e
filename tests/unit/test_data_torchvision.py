"""Tests of torchvision's data sets, on small files of the same form as the published ones.

The real sets cannot be fetched in a test; what is tested is that their images, labels, classes and
official splits are found where the installed torchvision keeps them.
"""

from __future__ import annotations

import bz2
import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from tunesvc.data import describe, scan
from tunesvc.data.sources.torchvision_sets import SETS
from tunesvc.errors import DataError
from tunesvc.spec import SplitSpec, TorchvisionData


def paint(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (len(str(file)), 0, 0)).save(file)


def lines(file: Path, *content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(content) + "\n")


def idx_file(file: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    data = header + values.astype(np.uint8).tobytes()
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)


def mnist(root: Path, classes: int = 10, prefixes: tuple[str, str] = ("train", "t10k")) -> None:
    for prefix in prefixes:
        labels = np.tile(np.arange(classes), 4)
        idx_file(root / f"{prefix}-images-idx3-ubyte.gz", np.zeros((len(labels), 28, 28)))
        idx_file(root / f"{prefix}-labels-idx1-ubyte.gz", labels)


def cifar(root: Path, constructor: type[datasets.CIFAR10], key: str, classes: int) -> None:
    folder = root / constructor.base_folder
    folder.mkdir(parents=True)
    for name, _ in constructor.train_list + constructor.test_list:
        entry = {"data": np.zeros((4 * classes, 3072), np.uint8), key: [*range(classes)] * 4}
        (folder / name).write_bytes(pickle.dumps(entry))
    names = [f"class {i}" for i in range(classes)]
    (folder / constructor.meta["filename"]).write_bytes(
        pickle.dumps({constructor.meta["key"]: names})
    )


def country211(root: Path) -> None:
    for split in ("train", "valid", "test"):
        for name in ("AD", "AE"):
            for i in range(2):
                paint(root / f"country211/{split}/{name}/{i}.jpg")


def dtd(root: Path) -> None:
    for split in ("train", "val", "test"):
        names = [f"{label}/{label}_{split}{i}.jpg" for label in ("banded", "dotted") for i in "12"]
        lines(root / f"dtd/dtd/labels/{split}1.txt", *names)
        for name in names:
            paint(root / "dtd/dtd/images" / name)


def eurosat(root: Path) -> None:
    for name in ("Forest", "River"):
        for i in range(8):
            paint(root / f"eurosat/2750/{name}/{name}_{i}.jpg")


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b/data"
    lines(data / "variants.txt", "707-320", "A300B4")
    for number, split in enumerate(("train", "val", "test")):
        names = [f"{number}{i}" for i in range(4)]
        lines(
            data / f"images_variant_{split}.txt",
            *(f"{name} {'707-320' if i % 2 else 'A300B4'}" for i, name in enumerate(names)),
        )
        for name in names:
            paint(data / f"images/{name}.jpg")


def flowers(root: Path) -> None:
    folder = root / "flowers-102"
    for i in range(1, 307):
        paint(folder / f"jpg/image_{i:05d}.jpg")
    ids = np.arange(1, 307)
    savemat(folder / "setid.mat", {"trnid": ids[:102], "valid": ids[102:204], "tstid": ids[204:]})
    savemat(folder / "imagelabels.mat", {"labels": np.tile(np.arange(1, 103), 3)})


def food(root: Path) -> None:
    for split in ("train", "test"):
        chosen = {label: [f"{label}/{split}{i}" for i in range(4)] for label in ("pie", "soup")}
        lines(root / f"food-101/meta/{split}.json", str(chosen).replace("'", '"'))
        for name in (name for names in chosen.values() for name in names):
            paint(root / f"food-101/images/{name}.jpg")


def gtsrb(root: Path) -> None:
    rows = []
    for i in range(8):
        paint(root / f"gtsrb/GTSRB/Training/{i % 2:05d}/{i}.ppm")
        paint(root / f"gtsrb/GTSRB/Final_Test/Images/{i}.ppm")
        rows.append(f"{i}.ppm;{i % 2}")
    lines(root / "gtsrb/GT-final_test.csv", "Filename;ClassId", *rows)


def imagenette(root: Path) -> None:
    for split in ("train", "val"):
        for name in ("n01440764", "n02102040"):
            for i in range(4):
                paint(root / f"imagenette2/{split}/{name}/{i}.jpeg")


def pets(root: Path) -> None:
    for split in ("trainval", "test"):
        names = [f"{label}_{split}{i}" for label in ("Abyssinian", "boxer") for i in range(4)]
        rows = [f"{name} {1 + name.startswith('boxer')} 1 1" for name in names]
        lines(root / f"oxford-iiit-pet/annotations/{split}.txt", *rows)
        for name in names:
            paint(root / f"oxford-iiit-pet/images/{name}.jpg")


def rendered(root: Path) -> None:
    for split in ("train", "valid", "test"):
        for name in ("negative", "positive"):
            for i in range(2):
                paint(root / f"rendered-sst2/{split}/{name}/{i}.png")


def stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    lines(folder / "unlabeled_X.bin")
    lines(folder / "class_names.txt", *(f"class {i}" for i in range(10)))
    for split in ("train", "test"):
        (folder / f"{split}_X.bin").write_bytes(bytes(40 * 3 * 96 * 96))
        (folder / f"{split}_y.bin").write_bytes(bytes([*range(1, 11)] * 4))


def sun(root: Path) -> None:
    lines(root / "SUN397/ClassName.txt", "/a/abbey", "/b/beach")
    for name in ("a/abbey", "b/beach"):
        for i in range(8):
            paint(root / f"SUN397/{name}/sun_{i}.jpg")


def svhn(root: Path) -> None:
    for split in ("train", "test"):
        labels = np.tile(np.arange(1, 11), 4)  # the digit 0 is stored as 10
        pixels = np.zeros((32, 32, 3, len(labels)), np.uint8)
        savemat(root / f"{split}_32x32.mat", {"X": pixels, "y": labels[:, None]})


def cars(root: Path) -> None:
    folder = root / "stanford_cars"
    names = np.array(["AM General", "Acura"], object)
    kinds = [("fname", "O"), ("class", "O")]
    for split in ("train", "test"):
        for i in range(8):
            paint(folder / f"cars_{split}/{i}.jpg")
    annotations = np.array([(f"{i}.jpg", 1 + i % 2) for i in range(8)], kinds)
    (folder / "devkit").mkdir()
    savemat(folder / "devkit/cars_meta.mat", {"class_names": names})
    savemat(folder / "devkit/cars_train_annos.mat", {"annotations": annotations})
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": annotations})


def usps(root: Path) -> None:
    row = " ".join(f"{i}:0.0" for i in range(1, 257))
    text = "".join(f"{label} {row}\n" for label in [*range(1, 11)] * 4)
    for name in ("usps.bz2", "usps.t.bz2"):
        (root / name).write_bytes(bz2.compress(text.encode()))


BUILD: dict[str, tuple[Callable[[Path], None], int, dict[str, int]]] = {
    "CIFAR10": (lambda root: cifar(root, datasets.CIFAR10, "labels", 10), 10, {"test": 40}),
    "CIFAR100": (
        lambda root: cifar(root, datasets.CIFAR100, "fine_labels", 100),
        100,
        {"val": 100},
    ),
    "Country211": (country211, 2, {"train": 4, "val": 4, "test": 4}),
    "DTD": (dtd, 2, {"train": 4, "val": 4, "test": 4}),
    "EMNIST": (
        lambda root: mnist(root, 47, ("emnist-balanced-train", "emnist-balanced-test")),
        47,
        {"val": 47, "test": 188},
    ),
    "EuroSAT": (eurosat, 2, {"train": 8, "val": 4, "test": 4}),
    "FGVCAircraft": (aircraft, 2, {"train": 4, "val": 4, "test": 4}),
    "FashionMNIST": (lambda root: mnist(root / "FashionMNIST/raw"), 10, {"val": 10, "test": 40}),
    "Flowers102": (flowers, 102, {"train": 102, "val": 102, "test": 102}),
    "Food101": (food, 2, {"train": 6, "val": 2, "test": 8}),
    "GTSRB": (gtsrb, 2, {"train": 6, "val": 2, "test": 8}),
    "Imagenette": (imagenette, 2, {"train": 6, "val": 8, "test": 2}),
    "KMNIST": (lambda root: mnist(root / "raw"), 10, {"val": 10, "test": 40}),
    "MNIST": (mnist, 10, {"train": 30, "val": 10, "test": 40}),
    "OxfordIIITPet": (pets, 2, {"train": 6, "val": 2, "test": 8}),
    "RenderedSST2": (rendered, 2, {"train": 4, "val": 4, "test": 4}),
    "STL10": (stl10, 10, {"train": 30, "val": 10, "test": 40}),
    "SUN397": (sun, 2, {"train": 8, "val": 4, "test": 4}),
    "SVHN": (svhn, 10, {"train": 30, "val": 10, "test": 40}),
    "StanfordCars": (cars, 2, {"train": 6, "val": 2, "test": 8}),
    "USPS": (usps, 10, {"train": 30, "val": 10, "test": 40}),
}


@pytest.mark.parametrize("name", SETS)
def test_each_set_in_its_official_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Images, labels and classes of every set are found, and its own splits are used."""
    # Made-up files do not have the published files' MD5.
    module = __import__(getattr(datasets, name).__module__, fromlist=["check_integrity"])
    if hasattr(module, "check_integrity"):
        monkeypatch.setattr(module, "check_integrity", lambda path, *_: Path(path).exists())
    build, classes, expected = BUILD[name]
    build(tmp_path)
    split = SplitSpec(val=0.25, test=0.25)
    spec = TorchvisionData(kind="torchvision", name=name, root=str(tmp_path), split=split)
    listing = scan(spec, target="class", base=Path())
    assert len(listing.classes) == classes == len(set(listing.classes))
    found = {split: len(items) for split, items in listing.splits.items()}
    assert expected.items() <= found.items()
    for part in describe(listing)["splits"].values():
        counts = part["per_class"].values()
        assert max(counts) - min(counts) <= 1
    images = listing.splits["train"].images
    if isinstance(images, np.ndarray):
        assert images.dtype == np.uint8
        assert images.ndim == 3 or images.shape[3] == 3
    else:
        assert all(path.is_file() for path in images)


def test_absent_pets_say_which_folders_are_expected(tmp_path: Path) -> None:
    """Sets that torchvision keeps unpacked are described too."""
    spec = TorchvisionData(kind="torchvision", name="OxfordIIITPet", root=str(tmp_path))
    with pytest.raises(DataError, match="oxford-iiit-pet/annotations"):
        scan(spec, target="class", base=tmp_path)
