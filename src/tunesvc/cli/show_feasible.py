"""What fits under caps, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from tunesvc.cli.show import console, flat, params, table, wrapped

if TYPE_CHECKING:
    from tunesvc.analysis.feasible import Feasible, Fit, Loosening
    from tunesvc.analysis.table import Trials


def print_feasible(found: Feasible, trials: Trials) -> None:
    """Print the best trial that fits and the front; or the nearest cap, where none does."""
    caps = " and ".join(map(str, found.caps))
    seen = found.finished - found.left_out
    console.print(f"study {trials.study}: {found.fits} of {seen} finished trials", end=" ")
    console.print(f"have {caps}", markup=False)
    if found.best is not None:
        _print_fits(found, found.best, trials)
    else:
        _print_nearest(found)
    _print_left_out(found)
    if found.disturbed:
        wrapped(
            f"the latencies of {found.disturbed} trials are too high: other work had the cores "
            "while they were measured (tunesvc cost on a quiet machine tells what they are)"
        )
    if len(found.measured_on) > 1:
        devices = "; ".join(found.measured_on)
        wrapped(f"latencies are of different devices, and no cap means the same on them: {devices}")


def _print_fits(found: Feasible, best: Fit, trials: Trials) -> None:
    row = trials.frame.loc[best.trial]
    names = {each.name: row[f"param:{each.name}"] for each in trials.space}
    drawn = {name: value for name, value in names.items() if not pd.isna(value)}
    wrapped(
        f"trial {best.trial}: {trials.metric} {best.value:.4f}  {_costs(best.told)}", "  best  "
    )
    wrapped(params(drawn), "        ")
    console.print()
    console.print("front: the best for what they cost", markup=False)
    columns = ("trial", "backbone", "strategy", trials.metric, *best.told)
    table(columns, (_row(each) for each in found.front))


def _row(fit: Fit) -> tuple[str, ...]:
    told = (flat(value) for value in fit.told.values())
    return str(fit.trial), fit.backbone, fit.strategy, f"{fit.value:.4f}", *told


def _print_nearest(found: Feasible) -> None:
    for place, each in enumerate(found.nearest):
        wrapped(_loosening(each), "  nearest  " if place == 0 else "  else     ")


def _loosening(each: Loosening) -> str:
    caps = " and ".join(map(str, each.instead))
    needs = "with" if len(each.instead) == 1 else "no single cap would do; with"
    fit = each.fit
    return f"{needs} {caps}: trial {fit.trial} ({fit.backbone}, {fit.strategy}), {fit.value:.4f}"


def _print_left_out(found: Feasible) -> None:
    if not found.left_out:
        return
    each = ", ".join(f"{count} have no {name}" for name, count in found.unknown.items())
    wrapped(
        f"{found.left_out} of {found.finished} finished trials are left out: {each} "
        "(it was not measured, or an older version ran them)"
    )


def _costs(told: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {flat(value)}" for name, value in told.items())
