"""Parallel coordinates: one line a trial, across all knobs, coloured by what it reached.

Why: 2026-11: drawn as plain lines, not as plotly's `parcoords`: that one needs WebGL and compiles
code at run time, which the page's content security policy forbids, and it does not print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from tunesvc.analysis.table import Dimension, Trials, Unsupported
from tunesvc.report import picking, style, wording
from tunesvc.report.document import Table
from tunesvc.report.thinning import Shown, thin

MOST, LEAST = 250, 2  # trials
ABSENT = -0.12  # height of the mark for a knob that does not act in a trial
_BANDS = (  # of trials by what they reached, worst first: up to this share, colour, opacity, width
    (0.5, "lower half", style.GREY, 0.25, 1.0),
    (0.75, "upper half", style.BLUE, 0.4, 1.2),
    (0.9, "best quarter", style.GREEN, 0.6, 1.5),
    (1.0, "best tenth", style.ORANGE, 0.9, 2.2),
)


@dataclass(frozen=True)
class _Axis:
    """One knob: heights (0 to 1; `ABSENT`) by trial, and what its two ends mean."""

    title: str
    heights: np.ndarray
    ticks: tuple[tuple[float, str], ...]


def measure(trials: Trials) -> Trials | Unsupported:
    """Return the trials if there are lines to draw and knobs to draw them across."""
    if len(trials.finished) < LEAST:
        return Unsupported(f"needs {LEAST} finished trials, has {len(trials.finished)}")
    return trials if trials.space else Unsupported("needs a searched knob, has none")


def figure(trials: Trials) -> go.Figure:
    """Draw the lines, the best on top."""
    shown = _shown(trials).frame
    axes = _axes(trials, shown)
    heights = np.column_stack([axis.heights for axis in axes])
    rank = (trials.sign * shown["value"]).rank(pct=True, method="average").to_numpy()
    traces, low = [], 0.0
    for high, name, colour, opacity, width in _BANDS:
        within = (rank > low) & (rank <= high)
        low = high
        if within.any():
            line = {"color": style.see_through(colour, opacity), "width": width}
            traces.append(_lines(heights[within], shown.index[within], name, line))
    titles = [axis.title for axis in axes]
    x = {"tickvals": list(range(len(axes))), "ticktext": titles, "range": [-0.3, len(axes) - 0.7]}
    y = {"showticklabels": False, "showgrid": False, "range": [ABSENT - 0.08, 1.06]}
    drawn = style.figure(traces, height=460, xaxis=x | {"side": "bottom"}, yaxis=y)
    drawn.update_layout(annotations=_labels(axes))
    return drawn


def table(trials: Trials) -> Table:
    """Return the best twenty trials with every knob."""
    top = trials.finished.assign(score=trials.sign * trials.finished["value"])
    top = top.nlargest(20, "score")
    knobs = _knobs(trials)
    rows = tuple(
        (number, picking.number(trials, number), *(told.get(knob) for knob in knobs))
        for number in map(int, top.index.to_numpy())
        for told in [picking.knobs(trials, number)]
    )
    return Table(("trial", trials.metric, *knobs), rows)


def says(trials: Trials) -> str:
    """Tell what the best tenth have in common, and what is not drawn."""
    finished = trials.finished.assign(score=trials.sign * trials.finished["value"])
    best = finished.nlargest(max(1, len(finished) // 10), "score")
    shared = [
        f"{knob} {wording.setting(best[column].iloc[0])}"
        for knob in _knobs(trials)
        if (column := f"knob:{knob}") in best
        and best[column].notna().all()
        and best[column].nunique() == 1
        and finished[column].nunique(dropna=False) > 1
    ]
    words = ""
    if shared and len(best) > 1:
        words = f"All of the best {len(best)} trials have {wording.row(shared)}."
    return f"{words} {_shown(trials).chosen}".strip()


def _shown(trials: Trials) -> Shown:
    return thin(trials, trials.finished, MOST)


def _knobs(trials: Trials) -> list[str]:
    known = (dimension.knob for dimension in trials.space)
    return [knob for knob in dict.fromkeys(known) if f"knob:{knob}" in trials.frame]


def _axes(trials: Trials, shown: pd.DataFrame) -> list[_Axis]:
    axes = []
    for knob in _knobs(trials):
        of_knob = [each for each in trials.space if each.knob == knob]
        axes.append(_axis(knob, shown[f"knob:{knob}"], of_knob))
    low, high = float(shown["value"].min()), float(shown["value"].max())
    scaled = _scaled(shown["value"], low, high)
    ends = ((0.0, wording.value(low)), (1.0, wording.value(high)))
    return [*axes, _Axis(trials.metric, scaled, ends)]


def _axis(knob: str, column: pd.Series, of_knob: Sequence[Dimension]) -> _Axis:
    numeric = all(each.kind != "categorical" for each in of_knob)
    values = pd.to_numeric(column, errors="coerce") if numeric else column
    if numeric and values.notna().any():
        low, high = float(values.min()), float(values.max())
        is_log = any(each.log for each in of_knob) and low > 0
        shown = values.map(log10, na_action="ignore") if is_log else values
        ends = (log10(low), log10(high)) if is_log else (low, high)
        ticks = ((0.0, wording.setting(low)), (1.0, wording.setting(high)))
        return _Axis(knob, _scaled(shown, *ends), ticks)
    choices = sorted(column.dropna().unique(), key=_in_order)
    most = max(1, len(choices) - 1)
    places = {choice: place / most for place, choice in enumerate(choices)}
    heights = column.map(places).astype(float).fillna(ABSENT).to_numpy()
    names = [wording.setting(choice) for choice in choices]
    if len(set(names)) < len(names):
        names = [str(choice) for choice in choices]
    return _Axis(knob, heights, tuple(zip(places.values(), names, strict=True)))


def _in_order(choice: Any) -> tuple[bool, float, str]:
    """Return what choices are sorted by: numbers by size, then words."""
    is_word = isinstance(choice, str)
    return is_word, 0.0 if is_word else float(choice), str(choice)


def _scaled(values: pd.Series, low: float, high: float) -> np.ndarray:
    span = high - low
    scaled = (values.astype(float) - low) / span if span > 0 else values.astype(float) * 0 + 0.5
    return np.asarray(scaled.fillna(ABSENT).to_numpy())


def _lines(
    heights: np.ndarray, numbers: pd.Index, name: str, line: dict[str, object]
) -> go.Scatter:
    trials, axes = heights.shape
    gapped = np.column_stack([heights, np.full(trials, np.nan)]).astype(np.float32).ravel()
    return go.Scatter(
        x=np.tile(np.array([*range(axes), np.nan], dtype=np.float32), trials),
        y=gapped,
        customdata=np.repeat(numbers.to_numpy(np.int32), axes + 1),
        mode="lines",
        name=name,
        line=line,
        hovertemplate="trial %{customdata}<extra></extra>",
    )


def _labels(axes: Sequence[_Axis]) -> list[dict[str, object]]:
    """Return what the heights of each axis mean, and the line where a knob does not act."""
    told = [
        _label(place, height, name)
        for place, axis in enumerate(axes)
        for height, name in _few(axis.ticks)
    ]
    absent = [_label(p, ABSENT, "not used") for p, a in enumerate(axes) if (a.heights < 0).any()]
    return told + absent


def _few(ticks: tuple[tuple[float, str], ...]) -> tuple[tuple[float, str], ...]:
    return ticks if len(ticks) <= 12 else ticks[:: len(ticks) // 12 + 1]


def _label(place: int, height: float, words: str) -> dict[str, object]:
    plain = {"showarrow": False, "xanchor": "left", "xshift": 3, "font": {"size": 11}}
    return plain | {"x": place, "y": height, "text": words}
