"""Learning curves: the objective after each epoch, and where the pruner ended trials."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go

from tunesvc.analysis.table import Trials, Unsupported
from tunesvc.report import picking, style, wording
from tunesvc.report.document import Table
from tunesvc.report.thinning import Shown, thin

MOST = 160  # curves in the picture

_KINDS = (  # state, legend, colour, opacity, dash
    ("COMPLETE", "ran to the end", style.BLUE, 0.45, "solid"),
    ("PRUNED", "pruned", style.ORANGE, 0.6, "dot"),
    ("FAIL", "failed", style.RED, 0.7, "dash"),
    ("RUNNING", "running", style.GREEN, 0.9, "solid"),
)


def measure(trials: Trials) -> Trials | Unsupported:
    """Return the trials if one of them has a curve."""
    has_any = any(len(curve) for curve in trials.curves.values())
    return trials if has_any else Unsupported("needs a trial that has finished an epoch, has none")


def figure(trials: Trials) -> go.Figure:
    """Draw each trial's curve, the best one thick, the ends of pruned ones marked."""
    shown = _shown(trials).frame
    traces = []
    for state, name, colour, opacity, dash in _KINDS:
        numbers = shown.index[shown["state"] == state]
        if len(numbers):
            line = {"color": style.see_through(colour, opacity), "width": 1.4, "dash": dash}
            traces.append(_lines(trials, numbers, name, line))
    pruned = shown.index[shown["state"] == "PRUNED"]
    if len(pruned):
        traces.append(_ends(trials, pruned))
    best = picking.best(trials)
    if best is not None:
        thick = {"color": style.PURPLE, "width": 3.5}
        traces.append(_lines(trials, [best], f"best: trial {best}", thick))
    edge = 0.03 * trials.epochs
    step = 1 if trials.epochs <= 12 else None
    x = {"title": "epoch", "range": [1 - edge, trials.epochs + edge], "dtick": step}
    return style.figure(traces, height=400, xaxis=x, yaxis={"title": trials.metric})


def table(trials: Trials) -> Table:
    """Return how far each drawn trial came, the best first."""
    shown = _shown(trials).frame.copy()
    shown["order"] = -trials.sign * shown["last"]
    rows = []
    for number, each in shown.sort_values("order").iterrows():
        curve = [value for _, value in trials.curves.get(int(str(number)), ())]
        first = curve[0] if curve else None
        name, last = (each["backbone"], each["strategy"]), float(each["last"])
        rows.append((int(str(number)), *name, each["state"], int(each["epochs"]), first, last))
    columns = ("trial", "backbone", "strategy", "state", "epochs")
    return Table((*columns, "after epoch 1", f"last {trials.metric}"), tuple(rows))


def says(trials: Trials) -> str:
    """Tell how many ran to the end, how many epochs pruning left out, and what is not drawn."""
    states = trials.frame["state"].value_counts()
    whole, pruned = int(states.get("COMPLETE", 0)), int(states.get("PRUNED", 0))
    words = f"{wording.count(whole, 'trial')} ran all {wording.count(trials.epochs, 'epoch')}"
    if pruned:
        ran = trials.frame.loc[trials.frame["state"] == "PRUNED", "epochs"]
        words += f"; {pruned:,} were pruned, half of them by epoch {ran.median():.0f}"
    return f"{words}. {_shown(trials).chosen}".strip()


def _shown(trials: Trials) -> Shown:
    numbers = [number for number, curve in trials.curves.items() if curve]
    with_curve = trials.frame.loc[trials.frame.index.intersection(numbers).sort_values()]
    return thin(trials, with_curve, MOST, best=30)


def _lines(
    trials: Trials, numbers: Iterable[int], name: str, line: dict[str, object]
) -> go.Scatter:
    """Return all curves as one trace, with gaps between them."""
    points: list[tuple[float, float, float]] = []
    for number in numbers:
        points += [(*point, number) for point in trials.curves.get(number, ())]
        points.append((np.nan, np.nan, number))
    epoch, value, trial = np.array(points or [(np.nan,) * 3], dtype=np.float32).T
    return go.Scatter(
        x=epoch,
        y=value,
        customdata=trial,
        mode="lines",
        name=name,
        line=line,
        connectgaps=False,
        hovertemplate="trial %{customdata:d}, epoch %{x}: %{y:.4g}<extra></extra>",
    )


def _ends(trials: Trials, numbers: Iterable[int]) -> go.Scatter:
    ends = [(*trials.curves[number][-1], number) for number in numbers]
    epoch, value, trial = np.array(ends, dtype=np.float32).T
    return go.Scatter(
        x=epoch,
        y=value,
        customdata=trial,
        mode="markers",
        name="pruned here",
        marker={"color": style.ORANGE, "symbol": "x", "size": 7},
        hovertemplate="trial %{customdata:d} pruned after epoch %{x}: %{y:.4g}<extra></extra>",
    )
