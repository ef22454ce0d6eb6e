"""torchvision's classification data sets, by class name, in their official splits.

Why: torchvision decodes images one at a time, behind attributes that differ from set to set. Here
only the list of files (or the arrays) and the labels are taken, so that every source is decoded
and cached in the same way. `tests/unit/test_data_torchvision.py` builds a small copy of each set,
so that a renamed attribute in a new torchvision is noticed.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping
from contextlib import nullcontext
from http.client import HTTPException
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from tunesvc import places
from tunesvc.data.listing import Found, Items
from tunesvc.data.sources import idx, place
from tunesvc.errors import DataError, UnknownNameError, suggest
from tunesvc.spec import TorchvisionData
from tunesvc.tasks import TargetKind

_Arguments = Mapping[str, Mapping[str, Any]]  # our split → the constructor's arguments


def _by_split(**splits: str) -> _Arguments:
    return {ours: {"split": theirs} for ours, theirs in splits.items()}


_BY_FLAG: _Arguments = {"train": {"train": True}, "test": {"train": False}}
_BALANCED: _Arguments = {ours: {"split": "balanced", **flag} for ours, flag in _BY_FLAG.items()}
_TWO = _by_split(train="train", test="test")
_THREE = _by_split(train="train", val="val", test="test")

SETS: Mapping[str, _Arguments] = {
    "CIFAR10": _BY_FLAG,
    "CIFAR100": _BY_FLAG,
    "Country211": _by_split(train="train", val="valid", test="test"),
    "DTD": _THREE,
    "EMNIST": _BALANCED,
    "EuroSAT": {"train": {}},
    "FGVCAircraft": _THREE,
    "FashionMNIST": _BY_FLAG,
    "Flowers102": _THREE,
    "Food101": _TWO,
    "GTSRB": _TWO,
    "Imagenette": _by_split(train="train", val="val"),
    "KMNIST": _BY_FLAG,
    "MNIST": _BY_FLAG,
    "OxfordIIITPet": _by_split(train="trainval", test="test"),
    "RenderedSST2": _THREE,
    "STL10": _TWO,
    "SUN397": {"train": {}},
    "SVHN": _TWO,
    "StanfordCars": _TWO,
    "USPS": _BY_FLAG,
}
_IDX = ("MNIST", "FashionMNIST", "KMNIST", "EMNIST")


def find(spec: TorchvisionData, target: TargetKind, base: Path) -> Found:
    """List one of torchvision's data sets, fetching it first if `download: true`.

    Raises:
        UnknownNameError: torchvision has no such set, or none that has one class per image.
        DataError: its files are absent or damaged, or the download failed.
    """
    if spec.name not in SETS:
        raise UnknownNameError(f"unknown data set {spec.name!r}", suggest(spec.name, SETS))
    if target == "number":
        raise DataError(
            f"{spec.name} holds classes, and the task wants numbers",
            "",
            "use task: image-classification, or data.kind: csv or arrays",
        )
    root = place(base, spec.root) if spec.root else places.cache() / "torchvision"
    parts = idx.find(spec.name, root) if spec.name in _IDX else None
    if parts is not None:
        return Found(_idx_classes(spec.name), parts, root)
    return _found(_load(spec, root), root)


def _idx_classes(name: str) -> tuple[str, ...]:
    from torchvision import datasets

    if name == "EMNIST":
        return tuple(datasets.EMNIST.classes_split_dict["balanced"])
    return tuple(getattr(datasets, name).classes)


def _load(spec: TorchvisionData, root: Path) -> dict[str, Any]:
    """Return torchvision's own object for each of the set's splits."""
    from torchvision import datasets

    constructor = getattr(datasets, spec.name)
    try:
        if spec.download:
            root.mkdir(parents=True, exist_ok=True)
        # Two workers must not unpack into the same folder at once.
        with FileLock(root / ".tunesvc.lock") if spec.download else nullcontext():
            return {
                ours: constructor(root, download=spec.download, **arguments)
                for ours, arguments in SETS[spec.name].items()
            }
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        HTTPException,
        tarfile.TarError,
        BadZipFile,
    ) as error:
        raise _not_there(spec, root, error) from error


def _not_there(spec: TorchvisionData, root: Path, error: Exception) -> DataError:
    # torchvision's own advice ("You can use download=True …") is about its Python arguments.
    why = re.sub(r"\.? You can use download=True.*", "", str(error).strip()) or repr(error)
    why, expected = " ".join(why.split())[:300], _expected(spec.name, root)
    if spec.download:
        return DataError(
            f"{spec.name} could not be downloaded to {root}",
            why,
            f"check the network and the free disk, or put {expected}",
        )
    return DataError(
        f"{spec.name} is not in {root}",
        why,
        f"set data.download: true, or put {expected}",
    )


# What torchvision looks for of sets that it keeps unpacked.
_UNPACKED = {
    "OxfordIIITPet": "oxford-iiit-pet/images and oxford-iiit-pet/annotations "
    "(unpacked from images.tar.gz and annotations.tar.gz)",
    "Flowers102": "flowers-102/jpg (unpacked from 102flowers.tgz), flowers-102/imagelabels.mat "
    "and flowers-102/setid.mat",
    "Food101": "food-101/images and food-101/meta (unpacked from food-101.tar.gz)",
    "DTD": "dtd/dtd/images and dtd/dtd/labels (unpacked from dtd-r1.0.1.tar.gz)",
    "EuroSAT": "eurosat/2750 with one folder per class (unpacked from EuroSAT.zip)",
    "StanfordCars": "stanford_cars/devkit, stanford_cars/cars_train, stanford_cars/cars_test "
    "and stanford_cars/cars_test_annos_withlabels.mat",
    "FGVCAircraft": "fgvc-aircraft-2013b/data (unpacked from fgvc-aircraft-2013b.tar.gz)",
}


def _expected(name: str, root: Path) -> str:
    """Return where which files belong, as far as torchvision's class tells."""
    from torchvision import datasets

    constructor = getattr(datasets, name)
    if name in _IDX:
        return f"in {root / name / 'raw'}: {', '.join(idx.files(name))} (or unpacked)"
    if hasattr(constructor, "train_list"):
        files = [file for file, *_ in (*constructor.train_list, *constructor.test_list)]
        return f"in {root / constructor.base_folder}: {', '.join(dict.fromkeys(files))}"
    if hasattr(constructor, "split_list"):
        lists = constructor.split_list
        files = [lists[one.get("split", _flag(one))][1] for one in SETS[name].values()]
        return f"in {root}: {', '.join(files)}"
    if name in _UNPACKED:
        return f"in {root}: {_UNPACKED[name]}"
    return "its files there, laid out as torchvision does"


def _flag(arguments: Mapping[str, Any]) -> str:
    return "train" if arguments.get("train") else "test"


def _found(loaded: Mapping[str, Any], root: Path) -> Found:
    parts = {split: _sorted(_images(one), _labels(one)) for split, one in loaded.items()}
    names = getattr(loaded["train"], "classes", None)
    if names is None:
        count = 1 + max(int(items.targets.max(initial=0)) for items in parts.values())
        names = range(count)
    # Imagenette gives each class a tuple of synonyms.
    classes = tuple(name[0] if isinstance(name, tuple) else str(name) for name in names)
    return Found(classes, parts, root)


def _sorted(images: list[Path] | NDArray[np.uint8], labels: NDArray[np.int64]) -> Items:
    """Return files in the order of their names: a file system's own order would decide splits."""
    if isinstance(images, np.ndarray):
        return Items(images, labels)
    order = sorted(range(len(images)), key=images.__getitem__)
    return Items(images, labels).pick(np.array(order, np.int64))


def _images(loaded: Any) -> list[Path] | NDArray[np.uint8]:
    """Return paths, or (N, H, W) or (N, H, W, 3) uint8."""
    if hasattr(loaded, "data"):
        data = np.asarray(loaded.data)
        channels_first = data.ndim == 4 and data.shape[1] == 3 and data.shape[3] != 3
        return data.transpose(0, 2, 3, 1) if channels_first else data
    for attribute in ("_image_files", "_images"):
        if hasattr(loaded, attribute):
            return [Path(path) for path in getattr(loaded, attribute)]
    return [Path(path) for path, _ in _samples(loaded)]


def _labels(loaded: Any) -> NDArray[np.int64]:
    for attribute in ("targets", "labels", "_labels"):
        if hasattr(loaded, attribute):
            return np.asarray(getattr(loaded, attribute), np.int64)
    return np.array([label for _, label in _samples(loaded)], np.int64)


def _samples(loaded: Any) -> list[tuple[str, int]]:
    samples: list[tuple[str, int]] = getattr(loaded, "samples", None) or loaded._samples
    return samples
