"""What the objective costs: the Pareto set for each cost, and what the hours bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from tunesvc.analysis.pareto import Frontier, Point, Spending
from tunesvc.analysis.table import Trials, Unsupported
from tunesvc.report import style, wording
from tunesvc.report.document import Item, Table

MOST = 1200  # points in the picture
_NAMES = {
    "seconds": "training time",
    "parameters": "parameters",
    "gflops": "operations",
    "memory_mb": "memory",
    "size_mb": "file size",
    "latency_ms": "latency",
}


def figure(frontier: Frontier, trials: Trials) -> go.Figure:
    """Draw every finished trial, a mark for each backbone, and a line through the Pareto set."""
    shown = _shown(frontier.points)
    backbones = list(dict.fromkeys(point.backbone for point in shown))
    front = [point for point in frontier.points if point.standing == "front"]
    traces: list[object] = [
        _points([point for point in shown if point.backbone == name], name, place)
        for place, name in enumerate(backbones)
    ]
    traces.append(
        go.Scatter(
            x=[point.cost for point in front],
            y=[point.value for point in front],
            mode="lines+markers",
            name="nothing better is cheaper",
            line={"color": style.RED, "width": 2, "shape": "hv"},
            marker={"symbol": "circle-open", "size": 13, "line": {"width": 2}},
            hoverinfo="skip",
        )
    )
    is_wide = front[0].cost > 0 and frontier.points[-1].cost > 5 * frontier.points[0].cost
    x = {
        "title": _axis(frontier),
        "type": "log" if is_wide else "linear",
    }
    return style.figure(traces, height=420, xaxis=x, yaxis={"title": trials.metric})


def table(frontier: Frontier) -> Table:
    """Return the Pareto set and what cannot be told from it, cheapest first."""
    rows = tuple(
        (point.trial, point.backbone, point.strategy, point.value, point.cost, point.standing)
        for point in frontier.points
        if point.standing != "dominated"
    )
    columns = (
        "trial",
        "backbone",
        "strategy",
        "value",
        _axis(frontier),
    )
    return Table((*columns, "standing"), rows)


def says(frontier: Frontier, trials: Trials) -> str:
    """Tell the two ends of the Pareto set."""
    front = [point for point in frontier.points if point.standing == "front"]
    first, last = front[0], front[-1]
    name = _NAMES[frontier.cost]
    dearest = f"{wording.value(last.value)} at {_cost(last, frontier)}"
    if len(front) == 1:
        words = f"One trial is best and cheapest in {name}: {_who(last)}, {dearest}."
    else:
        gap = wording.difference(abs(last.value - first.value), trials)
        words = (
            f"{len(front)} trials cannot be beaten in {name} and {trials.metric} at once: from "
            f"{_who(first)} ({wording.value(first.value)} at {_cost(first, frontier)}) to "
            f"{_who(last)} ({dearest}), {gap} apart."
        )
    return words + (f" {frontier.unknown:,} trials' cost is not known." if frontier.unknown else "")


def spending_figure(spending: Spending, trials: Trials) -> go.Figure:
    """Draw the best so far against the hours spent."""
    hours, values, numbers = zip(*spending.curve, strict=True)
    line = go.Scatter(
        x=hours,
        y=values,
        customdata=numbers,
        mode="lines+markers",
        line={"color": style.BLUE, "width": 2.5, "shape": "hv"},
        showlegend=False,
        hovertemplate="trial %{customdata}, after %{x:.2g} h: %{y:.4g}<extra></extra>",
    )
    axes = {"xaxis": {"title": "hours of training, all trials together", "rangemode": "tozero"}}
    return style.figure([line], height=320, yaxis={"title": f"best {trials.metric}"}, **axes)


def spending_table(spending: Spending) -> Table:
    """Return each improvement."""
    return Table(("hours", "best so far", "trial"), tuple(spending.curve))


def spending_says(spending: Spending, trials: Trials) -> str:
    """Tell what the hours bought over the reference."""
    gain = wording.difference(spending.gain, trials)
    span = ""
    if spending.low is not None and spending.high is not None:
        span = f" ({wording.between(spending.low, spending.high, trials)})"
    return (
        f"{wording.seconds(3600 * spending.hours)} of training, all trials together, bought {gain}"
        f"{span} over the best untuned configuration (trial {spending.reference_trial}: "
        f"{wording.value(spending.reference)}): {wording.an_hour(spending.per_hour, trials)}."
    )


def backbones_says(found: Mapping[str, Spending | Unsupported], trials: Trials) -> str:
    """Tell where an hour bought most."""
    known = {name: each for name, each in found.items() if isinstance(each, Spending)}
    ranked = sorted(known, key=lambda name: -known[name].per_hour)
    told = [f"{name} {wording.an_hour(known[name].per_hour, trials)}" for name in ranked[:4]]
    return f"As seen, its own untuned configuration to its own best: {', '.join(told)}."


def backbones_table(found: Mapping[str, Spending | Unsupported], trials: Trials) -> Table:
    """Return what the hours of each backbone bought; why not, where that is not known."""
    rows = tuple(_backbone(name, each, trials) for name, each in found.items())
    unit = wording.unit(trials)
    columns = ("backbone", "trials", "hours", "untuned", "best", f"gain, {unit}")
    return Table((*columns, "low", "high", f"{unit} an hour", "not known"), rows)


def _backbone(name: str, spending: Spending | Unsupported, trials: Trials) -> tuple[Item, ...]:
    if isinstance(spending, Unsupported):
        return (name, *(None,) * 8, spending.why)
    gains = spending.gain, spending.low, spending.high, spending.per_hour
    scaled = (None if each is None else wording.scale(trials) * each for each in gains)
    return (
        *(name, spending.trials, spending.hours, spending.reference, spending.best),
        *(*scaled, None),
    )


def _axis(frontier: Frontier) -> str:
    name = _NAMES[frontier.cost]
    return name if name == frontier.unit else f"{name}, {frontier.unit}"


def _shown(points: Sequence[Point]) -> list[Point]:
    """Return every point of the front and evenly many of the others."""
    step = -(-len(points) // MOST)
    return [p for place, p in enumerate(points) if place % step == 0 or p.standing == "front"]


def _points(points: Sequence[Point], name: str, place: int) -> go.Scatter:
    return go.Scatter(
        x=[point.cost for point in points],
        y=[point.value for point in points],
        customdata=[point.trial for point in points],
        mode="markers",
        name=name,
        marker={
            "color": style.colour(place),
            "symbol": style.symbol(place),
            "size": 7,
            "opacity": 0.7,
        },
        hovertemplate="trial %{customdata}: %{y:.4g} at %{x:.3g}<extra></extra>",
    )


def _who(point: Point) -> str:
    return f"{point.backbone}, {point.strategy}, trial {point.trial}"


def _cost(point: Point, frontier: Frontier) -> str:
    if frontier.cost == "seconds":
        return wording.seconds(point.cost)
    if frontier.cost == "parameters":
        return f"{point.cost / 1e6:.3g} million"
    return f"{point.cost:.3g} {frontier.unit}"
