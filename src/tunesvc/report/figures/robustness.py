"""How much of the space is nearly as good as the best; sensitivity to each knob; safe ranges."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tunesvc.analysis.robustness import Robustness, Share
from tunesvc.analysis.safe_range import SafeRange
from tunesvc.analysis.sensitivity import CurvePoint, Sensitivity
from tunesvc.analysis.table import Trials
from tunesvc.report import style, wording
from tunesvc.report.document import Table
from tunesvc.report.figures.bars import Rows

MOST = 12  # panels of sensitivity in the picture
ROW = 240  # height of a row of them, px


def figure(found: Robustness) -> go.Figure:
    """Draw the share of each backbone's space within so many points of its own best."""
    whole = [each for each in found.shares if each.strategy is None and each.backbone]
    rows = Rows([str(each.backbone) for each in whole], scale=100, apart=True)
    for place, points in enumerate(sorted({each.points for each in whole})):
        of = {str(each.backbone): each.of_own for each in whole if each.points == points}
        rows.dots(of, f"within {wording.count_of(points, 'point')}", place)
    return rows.figure("share of the backbone's space, %", range=[-3, 103])


def table(found: Robustness) -> Table:
    """Return every share, of its own best and of the study's."""
    rows = tuple(
        (
            *(_all(each.backbone), _all(each.strategy), each.points),
            *(each.of_own.value, each.of_own.low, each.of_own.high),
            *(each.of_all.value, each.of_all.low, each.of_all.high),
        )
        for each in found.shares
    )
    columns = ("backbone", "strategy", "points", "within of its own best", "low", "high")
    return Table((*columns, "within of the study's best", "all low", "all high"), rows)


def says(found: Robustness) -> str:
    """Tell the most and the least forgiving backbone."""
    told = [each for each in found.shares if each.strategy is None and each.backbone]
    if not told:
        return ""
    points = sorted({each.points for each in told})
    middle = points[len(points) // 2]
    ranked = sorted(
        (each for each in told if each.points == middle), key=lambda each: -each.of_own.value
    )
    first, last = ranked[0], ranked[-1]
    within = f"within {wording.count_of(middle, 'point')} of its own best ({found.epsilon_words})"
    if first is last:
        return f"{_share(first)} of its space lies {within}."
    if first.of_own.low > last.of_own.high:
        words = f"Most forgiving is {_share(first)}, least {_share(last)}"
        return f"{words}, by the share of the space {within}."
    shares = wording.row(map(_share, ranked[:4]))
    return f"No backbone is clearly more forgiving, by the share of the space {within}: {shares}."


def curves_figure(found: Sequence[Sensitivity], trials: Trials) -> go.Figure:
    """Draw a panel for each knob: what is expected at each of its values, all else averaged."""
    panels = found[:MOST]
    columns = 3 if len(panels) > 4 else min(2, len(panels))
    rows = ceil(len(panels) / columns)
    grid = make_subplots(
        rows=rows,
        cols=columns,
        shared_yaxes="all",
        subplot_titles=[wording.in_branch(p.name, p.knob, p.branch) for p in panels],
        vertical_spacing=100 / (90 + ROW * rows) if rows > 1 else 0.0,
        horizontal_spacing=0.05,
    )
    for place, panel in enumerate(panels):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        for trace in _panel(panel):
            grid.add_trace(trace, **where)
        grid.update_xaxes(_scale(panel), **where)
    shape = style.figure([], height=90 + ROW * rows).layout.to_plotly_json()
    grid.update_layout({key: shape[key] for key in shape if key not in {"xaxis", "yaxis"}})
    grid.update_xaxes(zeroline=False, gridcolor="#8886").update_yaxes(zeroline=False)
    grid.update_yaxes(gridcolor="#8886", automargin=True)
    return grid.update_yaxes(title=trials.metric, col=1).update_layout(
        showlegend=False, margin_t=36
    )


def curves_table(found: Sequence[Sensitivity]) -> Table:
    """Return some points of every curve."""
    rows = tuple(
        (wording.in_branch(each.name, each.knob, each.branch), wording.setting(point.at),
         point.value.value, point.value.low, point.value.high)
        for each in found
        for point in _few(each)
    )  # fmt: skip
    return Table(("knob", "at", "expected", "low", "high"), rows)


def curves_says(found: Sequence[Sensitivity], trials: Trials) -> str:
    """Tell the knob along which the expectation moves most."""
    spans = {wording.in_branch(p.name, p.knob, p.branch): _span(p) for p in found}
    first = max(spans, key=lambda name: spans[name])
    words = f"The expectation moves most along {first}: {wording.difference(spans[first], trials)}."
    return words + (f" The first {MOST} of {len(found)} are drawn." if len(found) > MOST else "")


def ranges_table(found: Sequence[SafeRange]) -> Table:
    """Return the safe range of each knob for each backbone."""
    rows = tuple(
        (
            *(each.backbone, wording.knob(each.name), wording.setting(each.at)),
            *(surely(each) or "only its best", likely(each), each.points),
        )
        for each in found
    )
    columns = ("backbone", "knob", "best at", "surely safe", "likely safe", "points lost at most")
    return Table(columns, rows)


def ranges_says(found: Sequence[SafeRange]) -> str:
    """Tell how many knobs may surely have any value."""
    ranges = [each for each in found if each.low is not None]
    if not ranges:
        return ""
    free = sum(map(is_surely_whole, ranges))
    of_all = wording.count(len(ranges), "range")
    return f"{free} of {of_all} surely {'is' if free == 1 else 'are'} all that was searched."


def is_surely_whole(each: SafeRange) -> bool:
    """Whether the sure ends of a range reach those of what was searched."""
    if each.low is None or each.high is None:
        return False
    at_ends = each.low.high <= each.low.value and each.high.low >= each.high.value
    return each.whole and at_ends


def surely(each: SafeRange) -> str:
    """Return the range between the inner ends; "" where only the best value is known to be safe.

    Of choices there is no such thing, for their losses have no ends: "–".
    """
    if each.low is None or each.high is None:
        return wording.NONE
    ends = wording.setting(each.low.high), wording.setting(each.high.low)
    if ends[0] == ends[1]:
        return ""
    return _with_all(" to ".join(ends), is_whole=is_surely_whole(each))


def likely(each: SafeRange) -> str:
    """Return what is safe on the mean surface."""
    if each.low is not None and each.high is not None:
        told = f"{wording.setting(each.low.value)} to {wording.setting(each.high.value)}"
    else:
        told = ", ".join(map(wording.setting, each.safe)) or "only its best"
    return _with_all(told, is_whole=each.whole)


def _with_all(told: str, *, is_whole: bool) -> str:
    return f"{told} (all that was searched)" if is_whole else told


def _scale(panel: Sensitivity) -> dict[str, object]:
    """Return what a panel's horizontal axis is like."""
    if not panel.categorical:
        return {"type": "log" if panel.log else "linear", "nticks": 4, "exponentformat": "power"}
    letters = sum(len(wording.setting(point.at)) for point in panel.points)
    tilted = {"tickangle": 25, "tickfont": {"size": 11}} if letters > 20 else {}
    return {"type": "category"} | tilted


def _panel(panel: Sensitivity) -> list[go.Scatter]:
    at = [wording.setting(p.at) if panel.categorical else p.at for p in panel.points]
    value, low, high = (
        np.array([getattr(p.value, end) for p in panel.points]) for end in ("value", "low", "high")
    )
    if panel.categorical:
        ends = {"array": high - value, "arrayminus": value - low, "symmetric": False}
        mark = {"color": style.BLUE, "size": 8}
        error = ends | {"color": style.GREY, "width": 4}
        return [go.Scatter(x=at, y=value, mode="markers", marker=mark, error_y=error)]
    none = {"width": 0}
    fill = style.see_through(style.BLUE, 0.2)
    return [
        go.Scatter(x=at, y=low, mode="lines", line=none, hoverinfo="skip"),
        go.Scatter(
            x=at, y=high, mode="lines", line=none, fill="tonexty", fillcolor=fill, hoverinfo="skip"
        ),
        go.Scatter(x=at, y=value, mode="lines", line={"color": style.BLUE, "width": 2.5}),
    ]


def _few(each: Sensitivity) -> list[CurvePoint]:
    if each.categorical or len(each.points) <= 7:
        return list(each.points)
    return [
        each.points[place] for place in np.linspace(0, len(each.points) - 1, 7).round().astype(int)
    ]


def _span(panel: Sensitivity) -> float:
    values = [point.value.value for point in panel.points]
    return max(values) - min(values)


def _share(each: Share) -> str:
    return f"{each.backbone} {wording.share_of(each.of_own)}"


def _all(name: str | None) -> str:
    return "all" if name is None else name
