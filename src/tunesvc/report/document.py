"""What a report says, as plain data: made once from the trials, then shown as a page, text or JSON.

It is also what is kept between two calls, so it holds words, numbers and drawings, and no objects
of the measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

Item = str | float | int | bool | None
Verdict = Literal["tune", "leave", "unknown"]


@dataclass(frozen=True)
class Table:
    """What stands behind a picture: rows of words and numbers in full precision."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Item, ...], ...]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Table:
        """Return the table that `asdict` took apart."""
        return cls(tuple(data["columns"]), tuple(tuple(row) for row in data["rows"]))

    def records(self) -> list[dict[str, Item]]:
        """Return each row by column names; NaN and infinities become None."""
        return [dict(zip(self.columns, map(finite, row), strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Advice:
    """What to do with one knob, and why, in words."""

    knob: str  # as people read it: "lr (full)"
    verdict: Verdict
    words: str


@dataclass(frozen=True)
class Told:
    """One section of a report.

    Args:
        key: its address within the page.
        tells: what the picture shows and how to read it.
        says: what came out, in a sentence; "" where there is nothing to say.
        why: the data cannot support it; says so in place of picture and table.
        figure: a plotly figure as JSON; "" without a picture.
        table: what stands behind the picture; None without one.
        wide: the picture needs width, and scrolls on a narrow screen.
        code: to copy from.
    """

    key: str
    title: str
    tells: str
    says: str = ""
    why: str = ""
    figure: str = ""
    table: Table | None = None
    wide: bool = False
    code: str = ""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Told:
        """Return the section that `asdict` took apart."""
        table = data["table"]
        return cls(**(dict(data) | {"table": table and Table.of(table)}))


@dataclass(frozen=True)
class Report:
    """One study's report, or that of several side by side.

    Args:
        study: its name; several, joined.
        trials: number of trials by state, and "all".
        made: when, UTC, ISO 8601.
        best: number, value and knobs of the best finished trial; {} while there is none.
        sentences: the answer, in three sentences of plain words.
        remark: what to know of all its figures.
    """

    study: str
    metric: str
    direction: str
    trials: Mapping[str, int]
    made: str
    best: Mapping[str, Any]
    sentences: tuple[str, ...]
    advice: tuple[Advice, ...]
    sections: tuple[Told, ...]
    remark: str

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Report:
        """Return the report that `asdict` took apart."""
        parts = {
            "sentences": tuple(data["sentences"]),
            "advice": tuple(Advice(**each) for each in data["advice"]),
            "sections": tuple(Told.of(each) for each in data["sections"]),
        }
        return cls(**(dict(data) | parts))

    def as_json(self) -> dict[str, Any]:
        """Return the same facts as the page: words, and each table as a list of records."""
        known = asdict(self) | {"best": {k: finite(v) for k, v in self.best.items()}}
        known["sections"] = {told.key: _section(told) for told in self.sections}
        return known


def finite(value: Any) -> Any:
    """Return a value as JSON can hold it: None for NaN and infinities."""
    return None if isinstance(value, float) and not isfinite(value) else value


def _section(told: Told) -> dict[str, Any]:
    if told.why:
        return {"title": told.title, "unsupported": told.why}
    rows = told.table.records() if told.table else []
    known = {"title": told.title, "tells": told.tells, "says": told.says, "rows": rows}
    return known | ({"code": told.code} if told.code else {})
