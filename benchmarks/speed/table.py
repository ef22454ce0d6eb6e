"""What was measured, as rows: figures with their spread, ratios, Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True)
class Figure:
    """Some measurements of one thing: their median, extremes and number."""

    median: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """Return it for a table: `12.3 (11.9–14.0, n=3)`."""
        if self.n == 1:
            return f"{digits(self.median)} (n=1)"
        return f"{digits(self.median)} ({digits(self.low)}–{digits(self.high)}, n={self.n})"


def figure(values: Iterable[float]) -> Figure | None:
    """Return the figure of some measurements; None of none."""
    found = sorted(values)
    return Figure(median(found), found[0], found[-1], len(found)) if found else None


def digits(number: float) -> str:
    """Return a number with three significant digits, never as a power of ten."""
    if number == 0:
        return "0"
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}" if abs(number) >= 1e-3 else f"{number:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        row: its name, by which its target is known.
        subject: what was worked on.
        unit: of both figures.
        ours: tunesvc's.
        peer: whom it is compared with; "" where only our own figure counts.
        theirs: the peer's figure; None where there is no peer, or it got nowhere.
        less_is_better: as with seconds; else as with images per second.
        note: what has to be known of this measurement.
        skipped: why there is none.
    """

    row: str
    subject: str
    unit: str
    ours: Figure | None
    peer: str = ""
    theirs: Figure | None = None
    less_is_better: bool = True
    note: str = ""
    skipped: str = ""

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> Row:
        """Return the row of a mapping with `row`, `ours`, `plain` and `unit`.

        Args:
            measured: `ours` and `plain` are measurements, or one (with `n` and `spread`, their
                number and extremes, for ours); `plain` may be None. `what`, `note` and `skipped`
                are optional.
        """
        plain = measured.get("plain")
        return cls(
            row=measured["row"],
            subject=measured.get("what", ""),
            unit=measured["unit"],
            ours=_figure_of(measured["ours"], measured),
            peer="" if plain is None else "plain Optuna",
            theirs=_figure_of(plain, {}),
            less_is_better=measured.get("less_is_better", True),
            note=measured.get("note", ""),
            skipped=measured.get("skipped", ""),
        )

    @property
    def ratio(self) -> Figure | None:
        """How many times as good as the peer; the extremes are of the extremes."""
        if self.ours is None or self.theirs is None:
            return None
        return ratio(self.ours, self.theirs, less_is_better=self.less_is_better)


def _figure_of(measured: Any, about: Mapping[str, Any]) -> Figure | None:
    if measured is None:
        return None
    if isinstance(measured, Sequence):
        return figure(measured)
    low, high = about.get("spread") or (measured, measured)
    return Figure(measured, low, high, about.get("n", 1))


def ratio(ours: Figure, theirs: Figure, *, less_is_better: bool) -> Figure | None:
    """Return how many times as good ours is; None where a figure is zero."""
    under, over = (ours, theirs) if less_is_better else (theirs, ours)
    if not (under.low > 0 and over.low > 0):
        return None
    n = min(ours.n, theirs.n)
    return Figure(over.median / under.median, over.low / under.high, over.high / under.low, n)


@dataclass(frozen=True)
class Target:
    """What a row must reach: a ratio or a value of ours, at least or at most."""

    of: Literal["ratio", "value"]
    bound: float
    is_least: bool

    def words(self, unit: str) -> str:
        """Return `≥ 100×` or `≤ 60 ms`."""
        sign = "≥" if self.is_least else "≤"
        return f"{sign} {digits(self.bound)}{'×' if self.of == 'ratio' else f' {unit}'}"

    def verdict(self, row: Row) -> str:
        """Return `reached`, `SHORT`, or `not measured`.

        Who did not get where the peer did is short.
        """
        found = row.ratio if self.of == "ratio" else row.ours
        if found is None:
            is_behind = row.ours is None and row.theirs is not None and not row.skipped
            return "SHORT" if is_behind else "not measured"
        good = found.median >= self.bound if self.is_least else found.median <= self.bound
        return "reached" if good else "SHORT"


def cells(row: Row, target: Target | None) -> list[str]:
    """Return a row's cells: row, subject, ours, theirs, ratio, target, verdict."""
    if row.skipped:
        return [row.row, row.subject, f"skipped: {row.skipped}", "", "", "", "not measured"]
    theirs = f"{row.peer}: {row.theirs or 'not reached'}" if row.peer else ""
    times = row.ratio
    spread = "" if times is None or times.n == 1 else f" ({_times(times.low)}–{_times(times.high)})"
    return [
        row.row,
        row.subject,
        f"{row.ours or 'not reached'} {row.unit}",
        theirs,
        "" if times is None else _times(times.median) + spread,
        target.words(row.unit) if target else "",
        target.verdict(row) if target else "",
    ]


def _times(number: float) -> str:
    return f"{digits(number)}×"


HEAD = ("row", "what", "tunesvc", "peer", "ratio", "must reach", "verdict")


def markdown(rows: Sequence[Sequence[str]], head: Sequence[str] = HEAD) -> str:
    """Return a table in Markdown; a bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(c.replace('|', chr(92) + '|') for c in each)} |" for each in lines
    )


def smoke_line(ratios: dict[str, Figure | None]) -> str:
    """Return `head_only=143x last_stage=3.1x …`; what was not measured is `n/a`."""
    shown = {
        name: "n/a" if r is None else f"{digits(r.median).replace(',', '')}x"
        for name, r in ratios.items()
    }
    return " ".join(f"{name}={value}" for name, value in shown.items())
