"""How far the pruner may be trusted: what early values foretell, whom it stops, what it saves.

Legend: x the objective after epoch e, y after the last; r their rank correlation (Spearman's ρ,
Kendall's τ-b) over n trials; z = artanh r.

Why: 2026-11: of finished trials only, r is of survivors: whoever was poor early is missing, and so
the range is short and r mostly too small. Control trials run on whatever the pruner says; they were
chosen by number alone, so r among them is of all trials. Both are told.

Source:
    Intervals of r: artanh r ± z·SE with SE² = (1 + r²/2) / (n − 3) for Spearman (Bonett & Wright
    2000, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations",
    eq. 5), and SE² = 0.437 / (n − 4) for Kendall (Fieller, Hartley & Pearson 1957, "Tests for rank
    correlation coefficients. I").
    Interval of a share: Clopper & Pearson 1934.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import atanh, ceil, sqrt, tanh
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from tunesvc.analysis.endings import by_pruner
from tunesvc.analysis.table import LEVEL, Estimate, Trials, Unsupported

MINIMUM = 10  # trials with both values, for a rank correlation
MINIMUM_SPARED = 5  # for a share of them
WINNERS = 0.1  # of the finished trials

Floats = npt.NDArray[np.float64]
Curves = Mapping[int, Mapping[int, float]]


@dataclass(frozen=True)
class Agreement:
    """How well the objective after one epoch foretells the one after the last.

    Args:
        spearman, kendall: rank correlations, −1 … 1.
        left_out: trials with a value after this epoch that never came to the last.
    """

    epoch: int
    spearman: Estimate | Unsupported
    kendall: Estimate | Unsupported
    left_out: int


@dataclass(frozen=True)
class Spared:
    """A control trial that the pruner would have stopped.

    Args:
        stop_epoch: after which it would have.
        value: the objective it ended with; None: it did not come to its end.
        rank: of that among all finished trials; 1 is the best.
        behind: the best finished trial's score less its own; ≥ 0, in the objective's unit.
    """

    trial: int
    stop_epoch: int
    value: float | None
    rank: int | None
    behind: float | None


@dataclass(frozen=True)
class Savings:
    """What pruning has saved.

    Args:
        pruned: trials that the pruner stopped.
        epochs: that they did not run; exact.
        share: of those among all epochs that would have been run; exact.
        seconds: that these epochs would have taken, at what each trial's own epochs took; the
            interval is over samples of as many such trials.
        audit_epochs: that controls ran after the pruner would have stopped them.
    """

    pruned: int
    epochs: Estimate
    share: Estimate
    seconds: Estimate | Unsupported
    audit_epochs: int


@dataclass(frozen=True)
class PruningAudit:
    """What is known of a study's pruner.

    Args:
        pruner: its kind; "none" where nothing was pruned on purpose.
        epochs: of a whole trial.
        finished: for every epoch before the last, among all trials that came to their end.
        controls: the same among control trials, which no pruner has selected.
        bias: what is to be said beside `finished`; "" where no trial was stopped.
        control_trials: begun, and judged by the pruner at least once.
        spared: controls that the pruner would have stopped, the best first, unfinished ones last.
        winners: share of the finished ones of `spared` that ended among the best tenth of all
            finished trials.
        regret: by how much the study's best would be worse without the controls that the pruner
            would have stopped; in the objective's unit, ≥ 0.
    """

    pruner: str
    epochs: int
    finished: tuple[Agreement, ...]
    controls: tuple[Agreement, ...] | Unsupported
    bias: str
    control_trials: int
    spared: tuple[Spared, ...]
    winners: Estimate | Unsupported
    regret: float | Unsupported
    savings: Savings | Unsupported


def pruning_audit(trials: Trials) -> PruningAudit | Unsupported:
    """Return what early values foretell, whom the pruner stops wrongly, and what it saves."""
    if not any(trials.curves.values()):
        return Unsupported("no trial has reported an epoch yet")
    curves = {number: dict(curve) for number, curve in trials.curves.items()}
    controls = trials.feasible[trials.feasible["control"].astype(bool)]
    spared = _spared(trials, controls)
    return PruningAudit(
        pruner=trials.pruner,
        epochs=trials.epochs,
        finished=_agreements(trials, curves, trials.feasible),
        controls=_among_controls(trials, curves, controls),
        bias=_bias(trials),
        control_trials=len(controls),
        spared=spared,
        winners=_winners(trials, spared),
        regret=_regret(trials, spared),
        savings=_savings(trials, spared),
    )


# ---- what early values foretell -----------------------------------------------------------------


def _agreements(trials: Trials, curves: Curves, rows: pd.DataFrame) -> tuple[Agreement, ...]:
    final = trials.finished["value"]
    final = final[final.index.isin(rows.index)]
    own = {number: curves[number] for number in rows.index if number in curves}
    return tuple(
        _agreement(epoch, {n: curve[epoch] for n, curve in own.items() if epoch in curve}, final)
        for epoch in range(1, trials.epochs)
    )


def _agreement(epoch: int, early: Mapping[int, float], final: pd.Series[float]) -> Agreement:
    both = final.index[final.index.isin(list(early))]
    x: Floats = np.array([early[number] for number in both], np.float64)
    y: Floats = np.array(final[both], np.float64)
    return Agreement(
        epoch,
        spearman=_correlation("spearman", epoch, x, y),
        kendall=_correlation("kendall", epoch, x, y),
        left_out=len(early) - len(both),
    )


def _correlation(
    kind: Literal["spearman", "kendall"],
    epoch: int,
    x: Floats,
    y: Floats,
) -> Estimate | Unsupported:
    n = len(x)
    if n < MINIMUM:
        return Unsupported(
            f"needs {MINIMUM} finished trials with a value after epoch {epoch}, has {n}"
        )
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Unsupported(f"all values are equal, after epoch {epoch} or after the last")
    r = float((stats.spearmanr if kind == "spearman" else stats.kendalltau)(x, y).statistic)
    error = sqrt((1 + r * r / 2) / (n - 3) if kind == "spearman" else 0.437 / (n - 4))
    middle = atanh(max(min(r, 1 - 1 / n), 1 / n - 1))  # n equal orders are not proof of r = 1
    reach = float(stats.norm.ppf((1 + LEVEL) / 2)) * error
    low, high = tanh(middle - reach), tanh(middle + reach)
    return Estimate(r, min(low, r), max(high, r), n, "rank correlation")


def _among_controls(
    trials: Trials, curves: Curves, controls: pd.DataFrame
) -> tuple[Agreement, ...] | Unsupported:
    ended = int(controls.index.isin(trials.finished.index).sum())
    if ended < MINIMUM:
        return Unsupported(f"needs {MINIMUM} control trials that have finished, has {ended}")
    return _agreements(trials, curves, controls)


def _bias(trials: Trials) -> str:
    stopped, begun = len(by_pruner(trials)), int((trials.feasible["epochs"] > 0).sum())
    if not stopped:
        return ""
    return (
        f"of survivors only: {stopped} of {begun} trials were stopped for being poor early; among "
        "all of them early and final values mostly agree better than among those that are left"
    )


# ---- whom it stops wrongly ----------------------------------------------------------------------


def _spared(trials: Trials, controls: pd.DataFrame) -> tuple[Spared, ...]:
    scores = trials.sign * trials.finished["value"]
    ranks = dict(scores.rank(ascending=False, method="min"))
    found = []
    for trial, stop in _integers(controls["stop_epoch"].dropna()).items():
        if trial not in ranks:
            found.append(Spared(trial, stop, None, None, None))
            continue
        score = float(scores[trial])
        behind = float(scores.max()) - score
        found.append(Spared(trial, stop, trials.sign * score, int(ranks[trial]), behind))
    return tuple(sorted(found, key=lambda each: (each.rank is None, each.rank, each.trial)))


def _integers(column: pd.Series) -> dict[int, int]:
    """Return trial → whole number."""
    return dict(zip(map(int, column.index), map(int, column), strict=True))


def _winners(trials: Trials, spared: tuple[Spared, ...]) -> Estimate | Unsupported:
    """Return the share of stopped controls that ended among the best tenth of all."""
    ranks = [each.rank for each in spared if each.rank is not None]
    n = len(ranks)
    if n < MINIMUM_SPARED:
        wanted = f"{MINIMUM_SPARED} finished control trials that the pruner would have stopped"
        return Unsupported(f"needs {wanted}, has {n}")
    good = sum(rank <= ceil(WINNERS * len(trials.finished)) for rank in ranks)
    low, high = stats.binomtest(good, n).proportion_ci(LEVEL)  # Clopper and Pearson's
    return Estimate(good / n, float(low), float(high), n, "share")


def _regret(trials: Trials, spared: tuple[Spared, ...]) -> float | Unsupported:
    stopped = [each.trial for each in spared if each.rank is not None]
    if not stopped:
        return Unsupported("no control trial that the pruner would have stopped has finished")
    scores = trials.sign * trials.finished["value"]
    others = scores.drop(stopped)
    if others.empty:
        return Unsupported("no other trial has finished")
    return float(max(scores.max() - others.max(), 0.0))


# ---- what it saves ------------------------------------------------------------------------------


def _savings(trials: Trials, spared: tuple[Spared, ...]) -> Savings | Unsupported:
    stopped = by_pruner(trials)
    if trials.pruner == "none" or stopped.empty:
        none = "the study has no pruner"
        return Unsupported(none if trials.pruner == "none" else "the pruner has stopped no trial")
    unrun = (trials.epochs - stopped["epochs"]).clip(lower=0)
    total, run = float(unrun.sum()), float(trials.feasible["epochs"].sum())
    n, share = len(stopped), total / (total + run) if total else 0.0
    ran = _integers(trials.feasible["epochs"])
    return Savings(
        pruned=n,
        epochs=Estimate(total, total, total, n, "epochs"),
        share=Estimate(share, share, share, n, "share"),
        seconds=_seconds(stopped, unrun),
        audit_epochs=sum(ran[each.trial] - each.stop_epoch for each in spared),
    )


def _seconds(stopped: pd.DataFrame, unrun: pd.Series[int]) -> Estimate | Unsupported:
    """Return what the epochs would have taken that stopped trials did not run."""
    if "epoch_seconds" not in stopped:
        return Unsupported("nobody measured the seconds of an epoch")
    spent = (stopped["epoch_seconds"] * unrun).dropna().to_numpy(float)
    n, all_of_them = len(spent), len(stopped)
    if n < max(2, all_of_them / 2):
        needed = max(2, ceil(all_of_them / 2))
        return Unsupported(f"needs the seconds of an epoch of {needed} stopped trials, has {n}")
    each, reach = float(spent.mean()), float(stats.t.ppf((1 + LEVEL) / 2, n - 1))
    error = reach * float(spent.std(ddof=1)) / sqrt(n)
    value, low, high = (all_of_them * one for one in (each, max(each - error, 0.0), each + error))
    return Estimate(value, low, high, n, "s")
