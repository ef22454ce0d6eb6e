"""Why feasible trials were pruned: the pruner, divergence, or something else; told by `reason`."""

from __future__ import annotations

import pandas as pd

from tunesvc.analysis.table import Trials

_BY_PRUNER = "(pruner: "  # in the reason of a trial that the pruner stopped
_DIVERGED = r"\bdiverged\b|\bis (?:nan|[-+]?inf)\b"


def by_pruner(trials: Trials) -> pd.DataFrame:
    """Return the trials that the pruner stopped; those for which nobody gave a reason, too."""
    reason = trials.feasible["reason"].astype(str)
    says = (reason == "") | reason.str.contains(_BY_PRUNER, regex=False)
    return trials.feasible[(trials.feasible["state"] == "PRUNED") & says]


def diverged(trials: Trials) -> pd.DataFrame:
    """Return the pruned trials whose loss or objective was no number any more.

    Their configuration was tried, and is no good: unlike one that the pruner or the end of the
    budget's hours stopped, nothing is left open. A trial that failed (for lack of memory, say) is
    none of them: it says nothing of the objective.
    """
    reason = trials.feasible["reason"].astype(str)
    says = reason.str.contains(_DIVERGED, case=False) & ~reason.str.contains(
        _BY_PRUNER, regex=False
    )
    return trials.feasible[(trials.feasible["state"] == "PRUNED") & says]
