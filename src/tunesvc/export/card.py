"""The model card: what the model is, what it was measured to be worth, and what not to expect.

Source: Mitchell et al. 2019, "Model Cards for Model Reporting", for what belongs into one.

Why: 2026-11: names of classes, studies and backbones are text of strangers: in Markdown they are
escaped, and stay on one line. In code spans nothing is escaped, since Markdown shows a backslash
there as it is; a longer fence holds what has backticks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from shlex import quote
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from tunesvc.export.forms import Form
from tunesvc.exported import Description, Evaluation, Measured, Record
from tunesvc.exported.measure import LEVEL

_SPECIAL = re.compile(r"([\\`*_\[\]|#~])")
_MOST_CLASSES = 12  # whose confusion matrix is shown whole
_WORST = 10  # confusions that are told of more


@dataclass(frozen=True)
class Card:
    """What the card tells.

    Args:
        validation: None where the model was trained on these images.
        test: None where the data has no test split.
        data: counts of each split, as `data.describe` has them.
        date: of the export.
    """

    description: Description
    record: Record
    validation: Evaluation | None
    test: Evaluation | None
    forms: Sequence[Form]
    data: Mapping[str, Any]
    date: str

    def text(self) -> str:
        """Return it as Markdown."""
        about = self.test or self.validation
        return _environment().get_template("card.md.j2").render(
            card=self,
            told=self.record.selection,
            first=self.record.runs[0],
            level=f"{100 * LEVEL:.0f} %",
            metrics=self._metrics(),
            counts=self._counts(),
            confusion=_confusion(about),
            confused_on="test" if self.test else "validation",
        )  # fmt: skip

    def _metrics(self) -> list[tuple[str, str, str]]:
        """Return (metric, on validation, on test), the objective first."""
        parts = (self.validation, self.test)
        names = {name: None for part in parts if part for name in part.metrics}
        ordered = sorted(names, key=lambda name: (name != self.record.metric, name))
        on_val, on_test = parts
        return [(name, _measured(on_val, name), _measured(on_test, name)) for name in ordered]

    def _counts(self) -> list[list[str]]:
        """Return a row for each class, or one of all: how many images each split has."""
        splits = self.data["splits"]
        total = [["all", *(f"{split['images']:,}" for split in splits.values())]]
        if not all("per_class" in split for split in splits.values()):
            return total
        classes = self.description.classes
        rows = [[name, *(f"{each['per_class'][name]:,}" for each in splits.values())]
                for name in classes]  # fmt: skip
        return (rows if len(rows) <= _MOST_CLASSES else []) + total


def _measured(found: Evaluation | None, name: str) -> str:
    if found is None or name not in found.metrics:
        return "–"
    return with_interval(found.metrics[name])


def with_interval(each: Measured) -> str:
    """Return `0.9412 (0.8911 to 0.9689)`."""
    if each.low is None or each.high is None:
        return f"{each.value:.4f}"
    return f"{each.value:.4f} ({each.low:.4f} to {each.high:.4f})"


def _confusion(found: Evaluation | None) -> dict[str, Any] | None:
    """Return the matrix, or its worst cells where it is large."""
    if found is None or found.confusion is None:
        return None
    matrix, classes = found.confusion, found.classes
    if len(classes) > _MOST_CLASSES:
        return {"rows": None, "classes": classes, "worst": _worst(matrix, classes)}
    rows = [[name, *map(int, row)] for name, row in zip(classes, matrix, strict=True)]
    return {"rows": rows, "classes": classes, "worst": None}


def _worst(matrix: NDArray[Any], classes: Sequence[str]) -> list[tuple[int, str, str]]:
    """Return (images, true class, predicted class) of the most frequent mistakes."""
    cells = [
        (int(matrix[true, said]), classes[true], classes[said])
        for true in range(len(classes))
        for said in range(len(classes))
        if true != said and matrix[true, said]
    ]
    return sorted(cells, key=lambda cell: -cell[0])[:_WORST]


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("tunesvc.export"),
        autoescape=False,  # Markdown, which `text` escapes
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"text": _text, "code": _code, "word": quote, "number": _number}
    return made


def _text(words: object) -> str:
    """Return words that Markdown shows as they are, on one line."""
    plain = " ".join(str(words).split())
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        plain = plain.replace(sign, entity)
    return _SPECIAL.sub(r"\\\1", plain)


def _code(words: object) -> str:
    """Return a code span that shows words as they are, on one line; not for cells of tables.

    Source: CommonMark 0.31.2, 6.1: the fence is longer than every row of backticks within, and one
    space on either side is taken off.
    """
    plain = " ".join(str(words).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    space = " " if "`" in plain else ""
    return f"{fence}{space}{plain}{space}{fence}"


def _number(value: object) -> str:
    """Return `4`, `0.0031`, `2,236,682`, or words as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
