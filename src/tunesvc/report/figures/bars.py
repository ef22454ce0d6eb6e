"""Estimates with their intervals, one thing a row: the form that most pictures have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from tunesvc.analysis.table import Estimate, Unsupported
from tunesvc.report import style

_SIDE = {0: 0.0, 1: -0.18, 2: 0.18, 3: 0.32}  # of a row's middle, so that intervals stay apart


class Rows:
    """A picture of named rows, the first on top; marks are added to it by the rows' names.

    Args:
        scale: all numbers are multiplied with it.
        apart: several marks with intervals share a row.
    """

    def __init__(self, names: Sequence[str], *, scale: float = 1, apart: bool = False) -> None:
        self._place = {name: float(row) for row, name in enumerate(dict.fromkeys(names))}
        self._scale, self._apart = scale, apart
        self._traces: list[object] = []

    def bars(self, found: Mapping[str, Estimate], colours: Sequence[str], name: str = "") -> None:
        """Add a bar from zero for each estimate, its interval on it."""
        bar = go.Bar(
            **self._at(found),
            orientation="h",
            marker={"color": list(colours)},
            name=name,
            showlegend=bool(name),
        )
        self._traces.append(bar)

    def dots(self, found: Mapping[str, Estimate], name: str, place: int) -> None:
        """Add a mark for each estimate, its interval through it; `place` chooses its looks."""
        if found:
            mark = {"color": style.colour(place), "symbol": style.symbol(place), "size": 10}
            dots = go.Scatter(**self._at(found, place), mode="markers", name=name, marker=mark)
            self._traces.append(dots)

    def points(self, found: Mapping[str, float], name: str, place: int) -> None:
        """Add a mark for each number that is known exactly."""
        if found:
            mark = {"color": style.colour(place), "symbol": style.symbol(place), "size": 10}
            self._plain(found, name, mark, place)

    def strokes(self, found: Mapping[str, float], name: str, colour: str = style.RED) -> None:
        """Add a short upright stroke for each number, for instance what noise would reach."""
        line = {"width": 2.5}
        mark = {"symbol": "line-ns-open", "size": 22, "color": colour, "line": line}
        self._plain(found, name, mark, 0)

    def path(self, found: Mapping[str, float], name: str) -> None:
        """Add marks that a line connects."""
        self._plain(found, name, {"size": 9, "color": style.BLUE}, 0, mode="lines+markers")

    def figure(self, x: str, **axis: object) -> go.Figure:
        """Return the picture; `x` names what is measured, `axis` more of that axis."""
        names = list(self._place)
        ticks = {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": False}
        return style.figure(
            self._traces,
            height=110 + (40 if self._apart else 30) * max(2, len(names)),
            xaxis={"title": x} | axis,
            yaxis=ticks | {"range": [len(names) - 0.4, -0.6]},
            bargap=0.35,
        )

    def _plain(
        self,
        found: Mapping[str, float],
        name: str,
        marker: Mapping[str, object],
        place: int,
        mode: str = "markers",
    ) -> None:
        x = [self._scale * value for value in found.values()]
        self._traces.append(
            go.Scatter(x=x, mode=mode, name=name, marker=marker, **self._row(list(found), place))
        )

    def _at(self, found: Mapping[str, Estimate], place: int = 0) -> dict[str, object]:
        estimates = list(found.values())
        x = [self._scale * each.value for each in estimates]
        row = self._row(list(found), place)
        return {"x": x, "error_x": whiskers(estimates, self._scale)} | row

    def _row(self, names: list[str], place: int) -> dict[str, object]:
        side = _SIDE.get(place, 0.0) if self._apart else 0.0
        rows = [self._place[name] + side for name in names]
        hover = "%{customdata}: %{x:.3g}"
        return {"y": rows, "customdata": names, "hovertemplate": hover}


def interval(
    found: Estimate | Unsupported | None,
) -> tuple[float | None, float | None, float | None]:
    """Return value and both ends for a table's row; three times None where there are none."""
    if isinstance(found, Estimate):
        return found.value, found.low, found.high
    return None, None, None


def whiskers(estimates: Sequence[Estimate], scale: float = 1) -> dict[str, object]:
    """Return the ends of the intervals as plotly's `error_x` or `error_y`."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [scale * (each.high - each.value) for each in estimates],
        "arrayminus": [scale * (each.value - each.low) for each in estimates],
        "color": style.GREY,
        "thickness": 1.6,
        "width": 4,
    }
