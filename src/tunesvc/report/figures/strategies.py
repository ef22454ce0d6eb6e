"""Backbone × strategy as a heat map; fine-tuning against training from scratch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from tunesvc.analysis.strategy_table import Cell, Gain, strategy_table
from tunesvc.analysis.table import Estimate, Trials, Unsupported
from tunesvc.report import style, wording
from tunesvc.report.document import Table
from tunesvc.report.figures.bars import Rows, interval


def measure(trials: Trials) -> tuple[Cell, ...] | Unsupported:
    """Return the table if a combination has a finished trial."""
    cells = strategy_table(trials)
    if any(cell.best is not None for cell in cells):
        return cells
    return Unsupported("needs a finished trial, has none")


def figure(cells: Sequence[Cell], trials: Trials) -> go.Figure:
    """Draw the best value of each combination; darker is better."""
    backbones = list(dict.fromkeys(cell.backbone for cell in cells))
    strategies = list(dict.fromkeys(cell.strategy for cell in cells))
    known = {(cell.backbone, cell.strategy): cell for cell in cells}
    grid = [[known.get((row, column)) for column in strategies] for row in backbones]
    best = np.array([[_best(cell) for cell in row] for row in grid], dtype=float)
    heat = go.Heatmap(
        z=best,
        x=strategies,
        y=backbones,
        text=[[_told(cell) for cell in row] for row in grid],
        texttemplate="%{text}",
        colorscale=style.SCALE,
        reversescale=trials.direction == "minimize",
        xgap=3,
        ygap=3,
        hoverongaps=False,
        colorbar={"title": {"text": trials.metric}, "thickness": 12},
        hovertemplate="%{y}, %{x}: %{z:.4g}<extra></extra>",
    )
    plain = {"showgrid": False, "type": "category"}
    rows = plain | {"autorange": "reversed"}
    return style.figure([heat], height=130 + 62 * len(backbones), xaxis=plain, yaxis=rows)


def table(cells: Sequence[Cell]) -> Table:
    """Return every combination that was tried."""
    rows = tuple(
        (
            *(cell.backbone, cell.strategy, cell.best, cell.best_trial, cell.median, cell.spread),
            *(cell.seconds, cell.finished, cell.pruned, cell.failed),
        )
        for cell in cells
    )
    columns = ("backbone", "strategy", "best", "trial", "median", "spread", "median s/trial")
    return Table((*columns, "finished", "pruned", "failed"), rows)


def says(cells: Sequence[Cell], trials: Trials) -> str:
    """Tell the best combination and the one of the best median."""
    first = cells[0]
    words = f"Best: {first.backbone} with {first.strategy}, {wording.value(_best(first))}"
    steady = [cell for cell in cells if cell.median is not None and cell.finished >= 3]
    if steady:
        calm = max(steady, key=lambda cell: trials.sign * (cell.median or 0.0))
        median = wording.value(calm.median or 0.0)
        words += f"; best median: {calm.backbone} with {calm.strategy}, {median}"
        words += f" over {wording.count(calm.finished, 'trial')}"
    return f"{words}."


def gain_figure(gains: Sequence[Gain], trials: Trials) -> go.Figure:
    """Draw what pretrained weights bought each architecture, at best and in the median."""
    kinds = {"best": "best", "best_alike": "best of equally many", "median": "median"}
    names = [gain.architecture for gain in gains]
    rows = Rows(names, scale=wording.scale(trials), apart=True)
    for place, (field, label) in enumerate(kinds.items()):
        known = {gain.architecture: getattr(gain, field) for gain in gains}
        told = {name: each for name, each in known.items() if isinstance(each, Estimate)}
        rows.dots(told, label, place)
    return rows.figure(f"gain, {wording.unit(trials)}")


def gain_table(gains: Sequence[Gain]) -> Table:
    """Return what pretrained weights bought each architecture, at best and in the median."""
    rows = tuple(
        (
            *(gain.architecture, *interval(gain.best), *interval(gain.best_alike)),
            *(*interval(gain.median), gain.pretrained_best, gain.scratch_best),
            *(gain.pretrained_trials, gain.scratch_trials),
        )
        for gain in gains
    )
    kinds = ("gain of the best", "at equal numbers", "gain of the median")
    columns = [f"{kind}{end}" for kind in kinds for end in ("", ", low", ", high")]
    more = ("best fine-tuned", "best from scratch", "trials fine-tuned", "trials from scratch")
    return Table(("architecture", *columns, *more), rows)


def gain_says(gains: Sequence[Gain], trials: Trials) -> str:
    """Tell what pretrained weights bought."""
    told = []
    for gain in gains:
        bought = trials.sign * (gain.pretrained_best - gain.scratch_best)
        more = ""
        if isinstance(gain.best_alike, Estimate):
            more = (
                f", {wording.difference(gain.best_alike.value, trials)} at equal numbers of trials"
            )
        told.append(f"{wording.difference(bought, trials)} for {gain.architecture}{more}")
    return f"Starting from pretrained weights bought, best against best: {'; '.join(told)}."


def _best(cell: Cell | None) -> float:
    return np.nan if cell is None or cell.best is None else cell.best


def _told(cell: Cell | None) -> str:
    if cell is None:
        return ""
    tried = cell.finished + cell.pruned + cell.failed
    if cell.best is None:
        return f"none of {tried}"
    return f"{wording.value(cell.best)}<br>{wording.count(tried, 'trial')}"
