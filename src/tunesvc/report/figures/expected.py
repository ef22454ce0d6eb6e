"""Expected best after n trials: how many trials are worth it."""

from __future__ import annotations

import plotly.graph_objects as go

from tunesvc.analysis.expected_best import ExpectedBest
from tunesvc.analysis.table import Trials
from tunesvc.report import style, wording
from tunesvc.report.document import Table


def figure(found: ExpectedBest, trials: Trials) -> go.Figure:
    """Draw the expected best with its interval, and where more trials stop paying."""
    count = [point.trials for point in found.curve]
    low, high = ([getattr(p.best, end) for p in found.curve] for end in ("low", "high"))
    none = {"width": 0}
    traces = [
        go.Scatter(x=count, y=low, mode="lines", line=none, showlegend=False, hoverinfo="skip"),
        go.Scatter(
            x=count,
            y=high,
            mode="lines",
            line=none,
            fill="tonexty",
            fillcolor=style.see_through(style.BLUE, 0.2),
            name="90 % interval",
            hoverinfo="skip",
        ),
        go.Scatter(
            x=count,
            y=[point.best.value for point in found.curve],
            mode="lines+markers" if len(count) < 30 else "lines",
            name="expected best",
            line={"color": style.BLUE, "width": 2.5},
            hovertemplate="after %{x} trials: %{y:.4g}<extra></extra>",
        ),
    ]
    drawn = style.figure(
        traces,
        xaxis={"title": "random trials"},
        yaxis={"title": f"expected best {trials.metric}"},
    )
    if found.enough is not None:
        enough = {"line_color": style.RED, "line_dash": "dash"}
        drawn.add_vline(x=found.enough, annotation_text=f"enough: {found.enough}", **enough)
    return drawn


def table(found: ExpectedBest) -> Table:
    """Return the curve."""
    rows = tuple(
        (
            *(point.trials, point.seconds, point.best.value, point.best.low, point.best.high),
            point.doubling.value if point.doubling else None,
        )
        for point in found.curve
    )
    return Table(("trials", "seconds", "expected best", "low", "high", "doubling them buys"), rows)


def says(found: ExpectedBest) -> str:
    """Tell how many random trials are worth it."""
    random = f"{wording.count(found.finished, 'random trial')} that ran to the end"
    if found.enough is None:
        return (
            f"Not known yet how many trials are enough: up to {found.upto}, doubling them still "
            f"buys {_worth(found)} or more (from {random}).{_took(found)}"
        )
    ends = ["?" if end is None else str(end) for end in found.enough_between]
    return (
        f"After {found.enough} random trials ({ends[0]} to {ends[1]}), doubling their number buys "
        f"less than {_worth(found)} (from {random}).{_took(found)}"
    )


def _took(found: ExpectedBest) -> str:
    each = found.seconds_per_trial
    if each is None:
        return ""
    words = f" A random trial takes {wording.seconds(each)} on average"
    if found.enough is None:
        return f"{words}."
    return f"{words}, {found.enough} of them {wording.seconds(found.enough * each)}."


def _worth(found: ExpectedBest) -> str:
    words, _, meaning = found.worth_words.partition("; ")
    return f"{words} ({meaning})" if meaning else words
