"""The trials that no other beats, in the objective and in what it is weighed against.

Of a study of several objectives that is all of them, as the trials were told; else what its
constraints are on; else the latency and the number of parameters, each by itself. A trial of which
a quantity is not known is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tunesvc.analysis.feasible import Fit, devices, quantities
from tunesvc.analysis.front import front
from tunesvc.analysis.table import Direction, Trials

_FAR = 1.5  # times


@dataclass(frozen=True)
class ParetoSet:
    """One Pareto set.

    Args:
        metric, direction: of the objective.
        against: quantities, and which way each is better.
        members: best first; what each has of every quantity that the study weighs, if known.
        among: finished trials of which all quantities are known.
        left_out: finished trials that lack any.
        measured_on: devices of the latencies, where one is among the quantities.
        disturbed: trials that were told a latency far above that of another trial of the same net:
            other work had the cores while it was measured.
    """

    metric: str
    direction: Direction
    against: Mapping[str, Direction]
    members: tuple[Fit, ...]
    among: int
    left_out: int
    measured_on: tuple[str, ...]
    disturbed: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "over": {self.metric: self.direction, **self.against},
            "trials": [
                {
                    "trial": each.trial,
                    "backbone": each.backbone,
                    "strategy": each.strategy,
                    self.metric: each.value,
                    **each.told,
                }
                for each in self.members
            ],
            "among": self.among,
            "left_out": self.left_out,
            "disturbed": self.disturbed,
        }


def pareto_sets(trials: Trials) -> tuple[ParetoSet, ...]:
    """Return the Pareto sets of what a study weighs its objective against."""
    return tuple(pareto_set(trials, against) for against in trials.against)


def pareto_set(trials: Trials, against: Mapping[str, Direction]) -> ParetoSet:
    """Return the finished trials that no other beats in the objective and in these quantities."""
    finished = trials.finished
    names = tuple(dict.fromkeys(name for each in (against, *trials.against) for name in each))
    told = quantities(finished, names)
    own = told[list(against)].to_numpy(float)
    is_told = np.isfinite(own).all(axis=1)
    rows, told = finished[is_told], told[is_told]
    signs = [1.0 if towards == "maximize" else -1.0 for towards in against.values()]
    scores = trials.sign * rows["value"].to_numpy(float)
    unbeaten = front(np.column_stack([scores, own[is_told] * signs]))
    return ParetoSet(
        metric=trials.metric,
        direction=trials.direction,
        against=against,
        members=tuple(_member(rows, told, row) for row in unbeaten),
        among=len(rows),
        left_out=len(finished) - len(rows),
        measured_on=devices(rows, tuple(against)),
        disturbed=sum(_disturbed(rows, told, name) for name in against),
    )


def _member(rows: pd.DataFrame, told: pd.DataFrame, row: int) -> Fit:
    own, known = rows.iloc[row], told.iloc[row].dropna()
    return Fit(
        trial=int(rows.index[row]),
        backbone=str(own["backbone"]),
        strategy=str(own["strategy"]),
        value=float(own["value"]),
        told={str(name): float(value) for name, value in known.items()},
    )


def _disturbed(rows: pd.DataFrame, told: pd.DataFrame, name: str) -> int:
    if not name.startswith("latency_") or name not in rows:
        return 0
    return int((told[name].to_numpy(float) > _FAR * rows[name].to_numpy(float)).sum())
