"""Several studies side by side: which knobs matter everywhere, and the defaults that follow."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from tunesvc.analysis.across import Across
from tunesvc.analysis.table import Trials, Unsupported
from tunesvc.report import picking, style, wording
from tunesvc.report.document import Item, Table


def figure(found: Across) -> go.Figure:
    """Draw the share of each knob in each study; darker matters more."""
    knobs = found.knobs
    shares = [[None if s is None else 100 * s for s in knob.shares] for knob in knobs]
    text = [["" if s is None else f"{100 * s:.0f}" for s in knob.shares] for knob in knobs]
    heat = go.Heatmap(
        z=shares,
        x=list(found.studies),
        y=[wording.knob(knob.knob) for knob in knobs],
        text=text,
        texttemplate="%{text}",
        colorscale=style.SCALE,
        zmin=0,
        xgap=3,
        ygap=3,
        hoverongaps=False,
        colorbar={"title": {"text": "%"}, "thickness": 12},
        hovertemplate="%{y} in %{x}: %{z:.0f} %<extra></extra>",
    )
    plain = {"showgrid": False, "type": "category"}
    rows = plain | {"autorange": "reversed"}
    return style.figure([heat], height=130 + 36 * len(knobs), xaxis=plain, yaxis=rows)


def table(found: Across) -> Table:
    """Return each knob's share in each study."""
    rows: list[tuple[Item, ...]] = [
        (wording.knob(knob.knob), *knob.shares, knob.mean, knob.clear, knob.verdict)
        for knob in found.knobs
    ]
    return Table(("knob", *found.studies, "mean", "clear in", "matters"), tuple(rows))


def says(found: Across) -> str:
    """Tell the knobs that matter everywhere, and how far the studies agree."""
    everywhere = [wording.knob(each.knob) for each in found.knobs if each.verdict == "everywhere"]
    never = [wording.knob(each.knob) for each in found.knobs if each.verdict == "never"]
    words = (
        f"Everywhere: {wording.row(everywhere)}." if everywhere else "No knob matters everywhere."
    )
    words += f" Nowhere: {wording.row(never)}." if never else ""
    words += "".join(f" {name} is left out: {why}." for name, why in found.left_out)
    if isinstance(found.concordance, Unsupported):
        return words
    w = found.concordance
    return f"{words} The orders agree to Kendall's W {w.w:.2f} (p = {w.p:.2g})."


def priors_table(found: Across) -> Table:
    """Return the ranges and defaults that follow for the next study."""
    priors = () if isinstance(found.priors, Unsupported) else found.priors
    rows: list[tuple[Item, ...]] = [
        (
            wording.knob(each.name),
            *(wording.setting(end) for end in (each.low, each.high, each.default)),
            ", ".join(f"{wording.setting(v)} {wording.share(s)}" for v, s in each.frequencies),
            *(each.studies, each.trials),
        )
        for each in priors
    ]
    columns = ("knob", "low", "high", "default", "choices", "studies", "trials")
    return Table(columns, tuple(rows))


def beside_figure(studies: Sequence[Trials]) -> go.Figure:
    """Draw the finished values of each study as a box."""
    boxes = [
        go.Box(
            y=trials.finished["value"].to_numpy(),
            name=trials.study,
            marker={"color": style.colour(place)},
            boxpoints="outliers",
        )
        for place, trials in enumerate(studies)
    ]
    metrics = dict.fromkeys(trials.metric for trials in studies)
    return style.figure(boxes, showlegend=False, yaxis={"title": " / ".join(metrics)})


def beside_table(studies: Sequence[Trials]) -> Table:
    """Return the best and the size of each study."""
    rows: list[tuple[Item, ...]] = []
    for trials in studies:
        finished = trials.finished
        best = picking.best(trials)
        rows.append(
            (
                trials.study,
                trials.metric,
                best,
                None if best is None else picking.number(trials, best),
                None if best is None else picking.word(trials, best, "backbone"),
                float(finished["value"].median()) if len(finished) else None,
                len(trials.frame),
                len(finished),
            )
        )
    columns = ("study", "metric", "best trial", "best", "backbone", "median", "trials", "finished")
    return Table(columns, tuple(rows))
