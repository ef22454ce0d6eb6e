"""Pruning audit: how well early values foretell final ones, who was spared, what was saved."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from tunesvc.analysis.pruning_audit import Agreement, PruningAudit
from tunesvc.analysis.table import Estimate, Trials, Unsupported
from tunesvc.report import style, wording
from tunesvc.report.document import Table
from tunesvc.report.figures.bars import interval, whiskers


def figure(audit: PruningAudit) -> go.Figure:
    """Draw the rank correlation with the final value after each epoch."""
    traces = [_line(audit.finished, "finished trials", 0)]
    if not isinstance(audit.controls, Unsupported):
        traces.append(_line(audit.controls, "control trials (never pruned)", 1))
    return style.figure(
        traces,
        xaxis={"title": "after epoch", "dtick": 1 if audit.epochs <= 12 else None},
        yaxis={"title": "rank correlation with the end", "range": [-1.05, 1.05]},
    )


def table(audit: PruningAudit) -> Table:
    """Return the agreement after each epoch, among finished trials, then among controls."""
    controls = () if isinstance(audit.controls, Unsupported) else audit.controls
    rows = [
        (name, each.epoch, *interval(each.spearman), *interval(each.kendall)[:1], each.left_out)
        for name, agreements in (("finished", audit.finished), ("control", controls))
        for each in agreements
    ]
    columns = ("trials", "epoch", "Spearman", "low", "high", "Kendall", "never got to the end")
    return Table(columns, tuple(rows))


def says(audit: PruningAudit, trials: Trials) -> str:
    """Tell what pruning saved, and whether winners were lost by it."""
    bias = f"The line of finished trials is {audit.bias}" if audit.bias else ""
    told = [_saved(audit), _lost(audit, trials), wording.sentence(bias)]
    return " ".join(words for words in told if words)


def _saved(audit: PruningAudit) -> str:
    if isinstance(audit.savings, Unsupported):
        return f"What {audit.pruner} saved is not known: {audit.savings.why}."
    saved = audit.savings
    words = f"{audit.pruner} stopped {wording.count(saved.pruned, 'trial')} and so saved "
    words += f"{wording.share(saved.share.value)} of all epochs"
    if isinstance(saved.seconds, Estimate):
        words += f", about {wording.seconds(saved.seconds.value)}"
    return f"{words}."


def _lost(audit: PruningAudit, trials: Trials) -> str:
    if isinstance(audit.winners, Unsupported):
        return f"Whether winners were lost is not known: {audit.winners.why}."
    words = (
        f"Of {audit.winners.trials} finished control trials that would have been pruned, "
        f"{wording.share_of(audit.winners)} ended among the best tenth"
    )
    if isinstance(audit.regret, float) and audit.regret > 0:
        words += f"; but for them the best were {wording.difference(audit.regret, trials)} worse"
    return f"{words}."


def _line(agreements: Sequence[Agreement], name: str, place: int) -> go.Scatter:
    known = [
        (each.epoch, each.spearman) for each in agreements if isinstance(each.spearman, Estimate)
    ]
    estimates = [estimate for _, estimate in known]
    return go.Scatter(
        x=[epoch for epoch, _ in known],
        y=[estimate.value for estimate in estimates],
        error_y=whiskers(estimates),
        mode="lines+markers",
        name=name,
        line={"color": style.colour(place), "width": 2},
        marker={"symbol": style.symbol(place), "size": 8},
    )
