"""Cheap predictors of a backbone against what fine-tuning gave; pretraining against fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from tunesvc.analysis.predictors import Predictor, Pretraining
from tunesvc.analysis.rank_correlation import RankCorrelation
from tunesvc.analysis.table import Trials, Unsupported
from tunesvc.report import style, wording
from tunesvc.report.document import Table
from tunesvc.report.figures.bars import Rows, interval

Found = Sequence[Predictor]


def figure(found: Found) -> go.Figure:
    """Draw the rank correlation of each predictor with the backbones' best values."""
    ranked = {
        each.name: each.correlation.kendall
        for each in found
        if isinstance(each.correlation, RankCorrelation)
    }
    rows = Rows([each.name for each in found])
    rows.dots(ranked, "Kendall's rank correlation", 0)
    return rows.figure("rank correlation with the best found", range=[-1.05, 1.05])


def table(found: Found) -> Table:
    """Return each predictor's score of each backbone beside what fine-tuning gave."""
    rows = tuple(
        (each.name, one.backbone, one.score, one.best, *_kendall(each), each.regret)
        for each in found
        for one in each.backbones
    )
    columns = ("predictor", "backbone", "score", "best found", "Kendall", "low", "high")
    return Table((*columns, "lost by its first choice"), rows)


def says(found: Found, trials: Trials) -> str:
    """Tell which predictor would have chosen best."""
    best = found[0]
    if not isinstance(best.correlation, RankCorrelation):
        return f"No predictor can be ranked: {best.name}: {best.correlation.why}."
    told = best.correlation.kendall
    first = max(best.backbones, key=lambda one: one.score).backbone
    behind = f"{wording.difference(best.regret, trials)} behind the best"
    return (
        f"{best.name} ranks {wording.count(len(best.backbones), 'backbone')} most as fine-tuning "
        f"does (Kendall {told.value:.2f}, {told.low:.2f} to {told.high:.2f}); its first choice, "
        f"{first}, ends {behind if best.regret else 'best'}."
    )


def pretraining_figure(found: Sequence[Pretraining], trials: Trials) -> go.Figure:
    """Draw each snapshot: what pretraining measured, and the best of fine-tuning from it."""
    traces = [
        go.Scatter(
            x=[shot.pretraining for shot in each.snapshots],
            y=[shot.best for shot in each.snapshots],
            text=[f"{shot.backbone}, epoch {shot.epoch}" for shot in each.snapshots],
            mode="lines+markers",
            name=each.name,
            line={"color": style.see_through(style.colour(place), 0.5), "width": 1.5},
            marker={"color": style.colour(place), "symbol": style.symbol(place), "size": 9},
            hovertemplate="%{text}: %{x:.4g} → %{y:.4g}<extra></extra>",
        )
        for place, each in enumerate(found)
    ]
    x = {"title": f"pretraining {found[0].metric}"}
    return style.figure(traces, xaxis=x, yaxis={"title": f"best fine-tuned {trials.metric}"})


def pretraining_table(found: Sequence[Pretraining]) -> Table:
    """Return each snapshot."""
    rows = tuple(
        (
            each.name,
            *(shot.backbone, shot.epoch, shot.pretraining, shot.best, shot.median),
            shot.trials,
        )
        for each in found
        for shot in each.snapshots
    )
    columns = ("pretraining", "backbone", "epoch", "pretraining value", "best", "median", "trials")
    return Table(columns, rows)


def pretraining_says(found: Sequence[Pretraining]) -> str:
    """Tell how well pretraining foretells fine-tuning."""
    return " ".join(f"{each.name}: {_correlated(each.best)}." for each in found)


def _correlated(found: RankCorrelation | Unsupported) -> str:
    if isinstance(found, Unsupported):
        return found.why
    told = found.kendall
    return (
        f"rank correlation of pretraining with the best fine-tuned value {told.value:.2f} "
        f"({told.low:.2f} to {told.high:.2f}; {wording.count(found.count, 'snapshot')})"
    )


def _kendall(each: Predictor) -> tuple[float | None, float | None, float | None]:
    found = each.correlation
    return interval(found.kendall if isinstance(found, RankCorrelation) else None)
