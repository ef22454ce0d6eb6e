"""What one point is in the objective's own unit: "within 1 point of the best" needs to know.

    point   0.01 where the objective is a share by its definition (accuracy, precision, F1 …);
            else a twentieth of the finished trials' interquartile range

Why: 2026-11: the name decides, not the values: an r2 or a loss may lie between 0 and 1 in every
trial of one study, and not in the next.

Why: 2026-11: a loss of 3.1 has no hundredths. The middle half of an ordinary search's accuracies is
spread over some 20 points; so a twentieth means about the same. The interquartile range is moved
neither by the few trials that diverged nor, as the spread from default to best, by a lucky one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunesvc.analysis.table import Trials, Unsupported

_SHARES = frozenset({"accuracy", "balanced_accuracy", "precision", "recall", "f1"})


@dataclass(frozen=True)
class Scale:
    """How differences of the objective are told.

    Args:
        point: in the objective's unit, > 0.
        words: what a point is, for people.
    """

    point: float
    words: str


def in_points(metric: str) -> bool:
    """Tell whether differences of a metric are hundredths: it is a share by its definition."""
    return metric in _SHARES


def scale(trials: Trials) -> Scale | Unsupported:
    """Return what a point is; unsupported where finished trials are too few or too equal to say."""
    values = trials.finished["value"].to_numpy(dtype=float)
    if in_points(trials.metric) and values.size:
        return Scale(0.01, "a point is 0.01")
    if values.size < 4:
        return Unsupported(f"needs 4 finished trials, has {values.size}")
    first, third = np.quantile(values, [0.25, 0.75])
    if third <= first:
        return Unsupported("the middle half of the finished trials has one value")
    return Scale(
        float(third - first) / 20,
        "a point is a twentieth of the interquartile range of the finished trials",
    )
