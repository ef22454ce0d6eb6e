"""A table (CSV) of image paths and labels or numbers; paths are relative to the table."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tunesvc.data.listing import Found, Items
from tunesvc.data.sources import place
from tunesvc.data.sources.folder import SPLIT_NAMES
from tunesvc.errors import DataError, suggest
from tunesvc.spec import CsvData
from tunesvc.tasks import TargetKind


class _Row(NamedTuple):
    path: Path
    value: str | float  # the class's name or the number
    split: str


def find(spec: CsvData, target: TargetKind, base: Path) -> Found:
    """List the images of a table.

    Raises:
        DataError: no such file or column; a row without an image, a label or a number.
    """
    file = place(base, spec.path)
    try:
        rows = list(_rows(file, spec, target))
    except FileNotFoundError as error:
        raise DataError(
            f"{file}: no such file", "", "data.path is relative to the study file"
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read", str(error), "save it as CSV in UTF-8") from error
    if not rows:
        raise DataError(f"{file}: no rows", "it has a line of columns only")
    names = sorted({str(row.value) for row in rows}) if target == "class" else []
    index = {name: i for i, name in enumerate(names)}
    splits = sorted({row.split for row in rows})
    parts = {split: _items([row for row in rows if row.split == split], index) for split in splits}
    return Found(tuple(names), parts, file.parent)


def _items(rows: Sequence[_Row], index: Mapping[str, int]) -> Items:
    """Return images with their class indices, or with their numbers where `index` is empty."""
    paths = [row.path for row in rows]
    if index:
        return Items(paths, np.array([index[str(row.value)] for row in rows], np.int64))
    return Items(paths, np.array([row.value for row in rows], np.float32))


def _rows(file: Path, spec: CsvData, target: TargetKind) -> Iterator[_Row]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        header = lines.readline()
        lines.seek(0)
        reader = csv.DictReader(lines, delimiter=max(",;\t", key=header.count))
        _check_columns(file, spec, reader.fieldnames or [])
        for row in reader:
            where = f"{file}:{reader.line_num}"
            image = file.parent / Path(_cell(row, spec.image_column, where)).expanduser()
            if not image.is_file():
                raise DataError(
                    f"{where}: no such image: {image}",
                    "paths in the table are relative to the table's own folder",
                    "correct the path or remove the row",
                )
            value = _cell(row, spec.target_column, where)
            split = _cell(row, spec.split_column, where) if spec.split_column else "train"
            yield _Row(
                image, _number(value, where) if target == "number" else value, _split(split, where)
            )


def _check_columns(file: Path, spec: CsvData, columns: Sequence[str]) -> None:
    for key in ("image_column", "target_column", "split_column"):
        name = getattr(spec, key)
        if name is not None and name not in columns:
            raise DataError(
                f"{file}: no column {name!r}",
                f"data.{key} names it; {suggest(name, columns)}",
                "the first line of the table must name its columns",
            )


def _cell(row: dict[str, str | None], column: str, where: str) -> str:
    text = (row[column] or "").strip()
    if not text:
        raise DataError(f"{where}: nothing in column {column!r}", "", "fill it or remove the row")
    return text


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise DataError(
            f"{where}: {text!r} is not a number", "the task learns numbers", "correct the row"
        ) from error
    if not math.isfinite(number):
        raise DataError(f"{where}: {text!r} cannot be learned", "", "remove the row")
    return number


def _split(text: str, where: str) -> str:
    if text.lower() not in SPLIT_NAMES:
        raise DataError(f"{where}: unknown split {text!r}", "", "write train, val or test")
    return SPLIT_NAMES[text.lower()]
