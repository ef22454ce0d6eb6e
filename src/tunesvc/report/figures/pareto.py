"""The Pareto set of what a study weighs: a table of its trials, and the first set as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from tunesvc.analysis.feasible import Fit, quantities
from tunesvc.analysis.pareto_set import ParetoSet
from tunesvc.analysis.table import Trials
from tunesvc.report import style, wording
from tunesvc.report.document import Table

MOST = 1200  # points in the picture


def figure(found: Sequence[ParetoSet], trials: Trials) -> go.Figure:
    """Draw every finished trial by the objective and the first quantity, and those unbeaten."""
    name = next(iter(found[0].against))
    finished = trials.finished
    costs = quantities(finished, (name,))[name]
    step = -(-len(finished) // MOST)
    every = _points(costs[::step], finished["value"][::step], "finished trials", size=7)
    every.update(marker={"color": style.GREY, "opacity": 0.6})
    unbeaten = sorted(found[0].members, key=lambda fit: fit.told[name])
    own = _points(
        [f.told[name] for f in unbeaten], [f.value for f in unbeaten], "unbeaten", size=13
    )
    own.update(
        marker={"color": style.RED, "symbol": "circle-open", "line": {"width": 2}},
        text=[_who(fit) for fit in unbeaten],
        hovertemplate="%{text}: %{y:.4g} at %{x:.3g}<extra></extra>",
    )
    low, high = float(costs.min()), float(costs.max())
    x = {"title": name, "type": "log" if low > 0 and high > 5 * low else "linear"}
    return style.figure([every, own], height=420, xaxis=x, yaxis={"title": trials.metric})


def table(found: Sequence[ParetoSet]) -> Table:
    """Return every trial of each set: the best first."""
    names = tuple(dict.fromkeys(name for each in found for name in each.against))
    rows = tuple(
        (
            *(", ".join(each.against), fit.trial, fit.backbone, fit.strategy, fit.value),
            *(fit.told.get(name) for name in names),
        )
        for each in found
        for fit in each.members
    )
    return Table(("weighed against", "trial", "backbone", "strategy", "value", *names), rows)


def says(found: Sequence[ParetoSet], trials: Trials) -> str:
    """Tell the two ends of each set."""
    return " ".join(_ends(each, trials) for each in found)


def _ends(found: ParetoSet, trials: Trials) -> str:
    first, last = found.members[0], found.members[-1]
    names = wording.row(list(found.against))
    start = f"Of {wording.count(found.among, 'finished trial')}, {len(found.members)} "
    if len(found.members) == 1:
        one = f"one is best in {trials.metric} and in {names}"
        return f"Of {wording.count(found.among, 'finished trial')}, {one}: {_told(first, found)}."
    return (
        f"{start}are unbeaten in {trials.metric} and {names}: "
        f"from {_told(first, found)} to {_told(last, found)}."
    )


def _told(fit: Fit, found: ParetoSet) -> str:
    costs = ", ".join(f"{name} {fit.told[name]:.3g}" for name in found.against)
    return f"{wording.value(fit.value)} with {costs} ({_who(fit)})"


def _who(fit: Fit) -> str:
    return f"{fit.backbone}, {fit.strategy}, trial {fit.trial}"


def _points(x: object, y: object, name: str, *, size: int) -> go.Scatter:
    return go.Scatter(x=x, y=y, name=name, mode="markers", marker_size=size, hoverinfo="skip")
