"""An exported model on other data: found, matched by the classes' names, streamed, measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tunesvc import data, spec
from tunesvc.data import Items, Listing
from tunesvc.data.sources.folder import SPLIT_NAMES
from tunesvc.errors import DataError, UsageError, suggest
from tunesvc.exported import sources
from tunesvc.exported.measure import Evaluation, measure
from tunesvc.exported.model import Model
from tunesvc.exported.stream import stream
from tunesvc.spec import ArraysData, CsvData, FolderData

_TABLES, _STUDIES, _ARRAYS = (".csv", ".tsv", ".txt"), (".yaml", ".yml"), (".npz",)


@dataclass(frozen=True)
class Known:
    """Images with what is true of them; `targets` are the model's class indices, or numbers.

    Args:
        remark: what the study did with them; "": nothing that is known of.
    """

    items: Items
    split: str
    remark: str = ""


@dataclass(frozen=True)
class _Divided:
    """A data set in its splits; `study` is how the model's study had it, if it is that one."""

    classes: tuple[str, ...]
    parts: dict[str, Items]
    study: Listing | None = None


def _nothing(_count: int) -> None:
    pass


def evaluate(
    model: Model,
    place: Path,
    *,
    split: str | None = None,
    batch_size: int = 32,
    on_images: Callable[[int], None] = _nothing,
) -> Evaluation:
    """Return the metrics of a model on a data set.

    Images that cannot be read are left out, and told.

    Args:
        place: class folders, a table (CSV), arrays (.npz), or a study file.
        split: train, val or test; None: test, or everything where the data is not divided. The
            study's own data is divided as the study did it; without a test split, None is val.
        on_images: called after every batch with how many images are done.

    Raises:
        DataError: no such data, no such split, a class that the model does not know, no readable
            image.
        SpecError: the study file is wrong.
    """
    known = find(model, place, split)
    found = of_items(model, known.items, batch_size=batch_size, on_images=on_images)
    return replace(found, remark=known.remark)


def of_items(
    model: Model,
    items: Items,
    *,
    batch_size: int = 32,
    on_images: Callable[[int], None] = _nothing,
) -> Evaluation:
    """Return the metrics of a model on images; see `evaluate`."""
    kept: list[int] = []
    outputs, skipped = [], []
    positions = range(len(items))
    with torch.inference_mode():
        for batch in stream(
            lambda position: model.pixels(items.images[position]),
            model.outputs, positions, batch_size=batch_size,
        ):  # fmt: skip
            found = zip(batch.items, batch.errors, strict=True)
            for position, error in found:
                if error:
                    skipped.append((str(items.images[position]), error))
                else:
                    kept.append(position)
            outputs += [batch.outputs] if len(batch.outputs) else []
            on_images(batch.items[-1] + 1)
    if not kept:
        raise DataError(f"none of the {len(items)} images can be read", skipped[0][1])
    targets = torch.from_numpy(items.targets[np.array(kept)])
    return measure(model.task, torch.cat(outputs), targets, model.classes, skipped=skipped)


def find(model: Model, place: Path, split: str | None) -> Known:
    """Find a split of a data set, with the model's own class indices.

    Raises:
        DataError, SpecError: as `evaluate`.
    """
    divided = _own(model, place) or _divided(model, place, split)
    name = split or _whole(divided)
    if name not in divided.parts:
        raise _no_split(place, name, divided.parts)
    items = divided.parts[name]
    if not len(items):
        raise DataError(f"{place}: the {name} split has no images")
    if model.task.target == "class":
        items = Items(items.images, _matched(model, place, divided.classes, items.targets))
    return Known(items, name, _remark(model, divided, name))


def _no_split(place: Path, name: str, parts: dict[str, Items]) -> DataError:
    if not parts:
        return DataError(
            f"{place}: has no {name} split", "it is not divided", "leave --split out: all is meant"
        )
    return DataError(
        f"{place}: has no {name} split",
        f"it has {', '.join(parts)}",
        "choose one of them with --split, or name the folder of the images itself",
    )


def _own(model: Model, place: Path) -> _Divided | None:
    """Return the data of the model's own study, as that divided it, if it lies there."""
    if model.record is None or not place.exists():
        return None
    try:
        told = sources.data_of(model.record)
    except UsageError:  # of another version; it is like any other data then
        return None
    for base in sources.bases(model.folder.path, model.record):
        where = sources.lies_at(told, base)
        if where is not None and where.exists() and where.samefile(place):
            listing = data.scan(told, target=model.task.target, base=base)
            return _Divided(listing.classes, dict(listing.splits), listing)
    return None


def _remark(model: Model, divided: _Divided, name: str) -> str:
    if divided.study is None or model.record is None:
        return ""
    if divided.study.fingerprint != model.record.fingerprint:
        return (
            "the study's data has changed since: the model may have been trained on some of these "
            "images"
        )
    if name in model.record.trained_on:
        return f"the model was trained on these images ({name}): it knows others less well"
    if name == "val":
        return f"the model was chosen by these images ({name}): it may know others less well"
    return ""


def _divided(model: Model, place: Path, split: str | None) -> _Divided:
    """Return the classes of a data set, and its splits."""
    target, suffix, base = model.task.target, place.suffix.lower(), place.parent
    if place.is_file() and suffix in _STUDIES:
        listing = data.scan(spec.load(place).data, target=target, base=base)
        is_own = model.record is not None and model.record.fingerprint == listing.fingerprint
        return _Divided(listing.classes, dict(listing.splits), listing if is_own else None)
    if place.is_dir():
        return _folder(place, split, target)
    source: Any = None
    if suffix in _TABLES:
        source = _table(model, place)
    elif suffix in _ARRAYS:
        source = ArraysData(kind="arrays", path=place.name)
    if source is None:
        raise UsageError(
            f"{place}: {'no data set' if place.exists() else 'no such data'}",
            "class folders, a table (.csv), arrays (.npz) or a study file (.yaml) can be evaluated",
            "name one of these",
        )
    found = data.find(source, target=target, base=base)
    return _Divided(found.classes, dict(found.parts))


def _folder(root: Path, split: str | None, target: Any) -> _Divided:
    """Return class folders: of one split where they are divided, else all of them."""
    there = sorted(path.name for path in root.iterdir() if path.is_dir() and _is_shown(path))
    divided = {SPLIT_NAMES[name]: root / name for name in there if name in SPLIT_NAMES}
    is_divided = bool(divided) and ("train" in divided or len(divided) == len(there))
    if not is_divided:
        found = data.find(FolderData(kind="folder", path="."), target=target, base=root)
        return _Divided(found.classes, {"all": found.parts["train"]} if split is None else {})
    name = split or "test"
    if name not in divided:
        return _Divided((), dict.fromkeys(divided, Items([], np.zeros(0, np.int64))))
    found = data.find(FolderData(kind="folder", path="."), target=target, base=divided[name])
    return _Divided(found.classes, {name: found.parts["train"]})


def _is_shown(folder: Path) -> bool:
    return not folder.name.startswith((".", "__"))


def _table(model: Model, place: Path) -> CsvData:
    """Return how a table is read: with the columns of the study's own, where that was one."""
    told = model.record.spec.get("data", {}) if model.record is not None else {}
    keys = ("image_column", "target_column", "split_column")
    named = {key: told[key] for key in keys if key in told} if told.get("kind") == "csv" else {}
    try:
        with place.open(encoding="utf-8-sig") as lines:
            header = lines.readline()
    except (OSError, UnicodeDecodeError):
        header = ""  # told by whoever reads it
    columns = [name.strip().strip('"') for name in header.replace(";", ",").split(",")]
    if named.get("split_column") not in columns:
        named["split_column"] = "split" if "split" in columns else None
    return CsvData(kind="csv", path=place.name, **named)


def _whole(divided: _Divided) -> str:
    """Return the split that is meant where none is named."""
    parts = divided.parts
    if divided.study is not None and "test" not in parts:
        return "val"
    if "test" in parts or len(parts) > 1:
        return "test"
    return next(iter(parts), "test")


def _matched(
    model: Model, place: Path, classes: tuple[str, ...], targets: NDArray[Any]
) -> NDArray[np.int64]:
    """Return targets as the model's indices; classes are the same where their names are."""
    index = {name: number for number, name in enumerate(model.classes)}
    present = [classes[number] for number in np.unique(targets)]
    unknown = [name for name in present if name not in index]
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise DataError(
            f"{place}: the model has no class {', '.join(map(repr, unknown[:5]))}{more}",
            suggest(unknown[0], model.classes),
            "rename it as the model has it, or leave its images out",
        )
    mapped = np.array([index.get(name, -1) for name in classes], np.int64)
    matched: NDArray[np.int64] = mapped[targets]
    return matched
