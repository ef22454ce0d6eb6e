"""What a study may spend in all, what it has spent, and how long the rest takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunesvc.leases import Limits, Spent

BUDGETS = ("trials", "hours", "gpu_hours", "epochs_total")  # as the study file has them


def allowed(trials: int | None, limits: Limits) -> dict[str, float | None]:
    """Return what is limited, by its key in the study file; `trials` always, None: by the rest."""
    others = {key: getattr(limits, key) for key in BUDGETS[1:]}
    return {"trials": trials} | {key: most for key, most in others.items() if most is not None}


def amounts(begun: int, spent: Spent, *, is_done: bool) -> dict[str, float]:
    """Return what was spent, by the same keys.

    Args:
        begun: trials.
        is_done: its hours ended with its last trial.
    """
    seconds = spent.ended_seconds if is_done else spent.age_seconds
    return {
        "trials": begun,
        "hours": round((seconds or 0.0) / 3600, 4),
        "gpu_hours": round(spent.device_seconds / 3600, 4),
        "epochs_total": spent.epochs,
    }


def remaining(begun: int, most: int | None, room: int | None) -> int:
    """Return how many trials may still be begun; 1 where nobody can tell.

    Args:
        most: trials in all; None: any number.
        room: that there are epochs for now; None: for any number.
    """
    bounds = [] if most is None else [max(0, most - begun)]
    bounds += [] if room is None else [room]
    return min(bounds, default=1)


def eta_seconds(
    budget: Mapping[str, Any], spent: Mapping[str, float], left: int, rate: float, running: int
) -> float:
    """Return how long a study takes yet at its pace, until the first of its budgets ends.

    Args:
        left: trials that are not finished, where their number is limited.
        rate: trials per minute.
        running: workers.
    """

    def times() -> Iterator[float]:
        if budget["trials"] is not None:
            yield 60 * left / rate
        if "hours" in budget:
            yield 3600 * (budget["hours"] - spent["hours"])
        if "gpu_hours" in budget:
            yield 3600 * (budget["gpu_hours"] - spent["gpu_hours"]) / running
        if "epochs_total" in budget and spent["epochs_total"]:
            per_epoch = 3600 * spent["gpu_hours"] / running / spent["epochs_total"]
            yield per_epoch * (budget["epochs_total"] - spent["epochs_total"])

    return max(0.0, min(times(), default=0.0))
